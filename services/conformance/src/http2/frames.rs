//! HTTP/2 by hand (RFC 9113 §4, RFC 7541 §6.2.2): frames and fields as bytes, for what no well-behaved
//! client would send.

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame's header.
pub const HEADER_BYTES: usize = 9;

/// A part of a body.
pub const DATA: u8 = 0;
/// The fields of a head, or those after a body.
pub const HEADERS: u8 = 1;
/// Whose turn it is.
pub const PRIORITY_FRAME: u8 = 2;
/// The end of a stream by force.
pub const RST_STREAM: u8 = 3;
/// What one side allows.
pub const SETTINGS: u8 = 4;
/// A request from a server.
pub const PUSH_PROMISE: u8 = 5;
/// A question whether somebody is there.
pub const PING: u8 = 6;
/// The end of a connection.
pub const GOAWAY: u8 = 7;
/// More room.
pub const WINDOW_UPDATE: u8 = 8;
/// More fields of the head before it.
pub const CONTINUATION: u8 = 9;

/// The last frame of one side of a stream.
pub const END_STREAM: u8 = 1;
/// An answer to settings or to a ping.
pub const ACK: u8 = 1;
/// The last frame of a head.
pub const END_HEADERS: u8 = 4;
/// With bytes at its end that say nothing.
pub const PADDED: u8 = 8;
/// With five bytes in front of the fields that say whose turn it is.
pub const PRIORITY: u8 = 0x20;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// What else is to be known of it.
    pub flags: u8,
    /// Whose it is, 0 for the connection's.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Takes the first one out of some bytes, if it has come to its end.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEADER_BYTES>()?;
        let end = HEADER_BYTES + u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = bytes.get(HEADER_BYTES..end)?.to_vec();
        bytes.drain(..end);
        Some(Self { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }
}

/// A frame's bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literal fields, in which anything can be written.
#[must_use]
pub fn block(fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            bytes.extend(length(text.len()));
            bytes.extend(text);
        }
    }
    bytes
}

/// The length of a text that is written as it is (RFC 7541 §5.1, §5.2).
fn length(number: usize) -> Vec<u8> {
    const FIRST_MOST: usize = 127;
    if number < FIRST_MOST {
        return vec![number as u8];
    }
    let (mut bytes, mut left) = (vec![FIRST_MOST as u8], number - FIRST_MOST);
    while left >= 128 {
        bytes.push((left % 128) as u8 | 128);
        left /= 128;
    }
    bytes.push(left as u8);
    bytes
}

/// A head, or trailers, in one frame.
#[must_use]
pub fn head(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block)
}

/// The same in frames of no more than so many bytes.
///
/// # Panics
/// There is nothing in it.
#[must_use]
pub fn cut(flags: u8, stream: u32, block: &[u8], size: usize) -> Vec<u8> {
    let mut pieces: Vec<&[u8]> = block.chunks(size).collect();
    let last = pieces.pop().expect("a block that is to be cut has something in it");
    let mut bytes = frame(HEADERS, flags, stream, &[]);
    pieces.iter().for_each(|piece| bytes.extend(frame(CONTINUATION, 0, stream, piece)));
    bytes.extend(frame(CONTINUATION, END_HEADERS, stream, last));
    bytes
}

/// The same in two frames, cut everywhere: some as they are, some padded, some with a priority too
/// (RFC 9113 §6.2).
#[must_use]
pub fn each_cut(flags: u8, stream: u32, block: &[u8]) -> Vec<Vec<u8>> {
    let cut = |end| {
        let (first, rest) = block.split_at(end);
        let (more, first) = match end % 3 {
            0 => (0, first.to_vec()),
            1 => (PADDED, [b"\x02", first, b"\0\0"].concat()),
            _ => (PADDED | PRIORITY, [b"\x01\0\0\0\0\x0f", first, b"\0"].concat()),
        };
        let head = frame(HEADERS, flags | more, stream, &first);
        [head, frame(CONTINUATION, END_HEADERS, stream, rest)].concat()
    };
    (0..=block.len()).map(cut).collect()
}

/// The pseudo-header fields of a good request, and others.
#[must_use]
pub fn get(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut all =
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)];
    all.extend(fields);
    block(&all)
}
