//! Finds frames in what comes and goes in pieces (RFC 9113 §4.1).

/// The length of a frame's header.
pub(crate) const HEADER_BYTES: usize = 9;

/// What a head comes in, and the flag of its last frame (RFC 9113 §6.2, §6.10).
pub(crate) const HEADERS: u8 = 1;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_HEADERS: u8 = 4;

/// What is known of the frame that was read last.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// Its header, as far as it has come.
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// What is to come of its payload.
    payload_left: usize,
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Read<'a> {
    /// All there was, which ends within a header or after a frame.
    Nothing,
    /// The last of a header.
    Header,
    /// A part of a payload.
    Payload(&'a [u8]),
}

impl FrameReader {
    /// One of what begins with so many bytes that are of no frame.
    pub(crate) fn after(bytes: usize) -> Self {
        Self { payload_left: bytes, ..Self::default() }
    }

    /// Reads on in these bytes, which begin where the last ones ended.
    pub(crate) fn read<'a>(&mut self, bytes: &mut &'a [u8]) -> Read<'a> {
        let wanted = match self.payload_left {
            0 => HEADER_BYTES - self.header_bytes,
            left => left,
        };
        let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
        *bytes = rest;
        if part.is_empty() {
            return Read::Nothing;
        }
        if self.payload_left > 0 {
            self.payload_left -= part.len();
            return Read::Payload(part);
        }
        if let Ok(whole) = part.try_into() {
            // Nearly always, and a copy of a known length costs nothing.
            self.header = whole;
        } else {
            let filled = self.header_bytes + part.len();
            self.header[self.header_bytes..filled].copy_from_slice(part);
            self.header_bytes = filled % HEADER_BYTES;
            if self.header_bytes > 0 {
                return Read::Nothing;
            }
        }
        let [a, b, c, ..] = self.header;
        self.payload_left = u32::from_be_bytes([0, a, b, c]) as usize;
        Read::Header
    }

    /// Whether a header has begun and not ended.
    pub(crate) fn is_in_header(&self) -> bool {
        self.header_bytes > 0
    }

    /// The header that was read last.
    pub(crate) fn header(&self) -> &[u8; HEADER_BYTES] {
        &self.header
    }

    /// Whether all of the frame has been read, once its header has.
    pub(crate) fn is_at_end(&self) -> bool {
        self.payload_left == 0
    }

    /// What is to come of the payload; all of it once its header has been read.
    pub(crate) fn left(&self) -> usize {
        self.payload_left
    }

    pub(crate) fn kind(&self) -> u8 {
        self.header[3]
    }

    pub(crate) fn flags(&self) -> u8 {
        self.header[4]
    }

    pub(crate) fn stream(&self) -> u32 {
        let [.., a, b, c, d] = self.header;
        // Without the bit that means nothing (RFC 9113 §4.1).
        u32::from_be_bytes([a & 0x7f, b, c, d])
    }
}
