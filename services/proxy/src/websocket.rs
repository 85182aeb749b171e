//! Where the frames of a WebSocket end, and the frame that says good-bye (RFC 6455).
//!
//! A tunnel's bytes are not ours, and a close frame in the middle of another frame would be taken
//! for its content. So the headers of frames are followed, which takes a look at a few bytes of
//! each; payloads are skipped and never looked at.

/// Status 1001, "going away" (§7.4.1), in network order.
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();

/// A close frame, final and with two bytes of payload: FIN and opcode 8 (§5.2).
const CLOSE: u8 = 0x88;

/// In the second byte of a header: the payload is masked.
const MASKED: u8 = 0x80;

/// Follows the frames of one direction.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// What is known of the header that is being read: two bytes, up to eight of length, four of
    /// mask.
    header: [u8; 14],
    known: usize,
    /// Bytes of payload to come.
    payload: u64,
    has_closed: bool,
}

impl Frames {
    /// Follows bytes that were passed on.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.payload > 0 {
                let here = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= here as u64;
                bytes = &bytes[here..];
                continue;
            }
            self.header[self.known] = *first;
            self.known += 1;
            bytes = &bytes[1..];
            if self.known >= 2 && self.known == self.header_length() {
                self.payload = self.payload_length();
                self.has_closed |= self.header[0] & 0x0F == CLOSE & 0x0F;
                self.known = 0;
            }
        }
    }

    /// Whether the last frame is complete, so that another one may follow.
    pub(crate) fn is_between(&self) -> bool {
        self.known == 0 && self.payload == 0
    }

    /// Whether a close frame has passed, after which no other frame may follow (§5.5.1).
    pub(crate) fn has_closed(&self) -> bool {
        self.has_closed
    }

    fn header_length(&self) -> usize {
        let length = match self.header[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & MASKED == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |sum, b| (sum << 8) | u64::from(*b));
        match self.header[1] & !MASKED {
            126 => big_endian(&self.header[2..4]),
            127 => big_endian(&self.header[2..10]),
            short => short.into(),
        }
    }
}

/// The close frame for a client, or, with a mask, for a server (§5.3).
pub(crate) fn going_away(mask: Option<[u8; 4]>) -> Vec<u8> {
    let length = GOING_AWAY.len() as u8;
    match mask {
        None => [&[CLOSE, length], &GOING_AWAY[..]].concat(),
        Some(mask) => {
            let payload = [GOING_AWAY[0] ^ mask[0], GOING_AWAY[1] ^ mask[1]];
            [&[CLOSE, MASKED | length], &mask[..], &payload[..]].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame's header and so much payload.
    fn frame(head: &[u8], payload: usize) -> Vec<u8> {
        [head, &vec![0x88; payload][..]].concat()
    }

    #[test]
    fn the_end_of_each_kind_of_frame_is_found_however_its_bytes_arrive() {
        let cases = [
            frame(&[0x81, 0], 0),
            frame(&[0x81, 5], 5),
            frame(&[0x82, MASKED | 5, 1, 2, 3, 4], 5),
            frame(&[0x82, 126, 1, 0], 256),
            frame(&[0x82, MASKED | 126, 1, 0, 9, 9, 9, 9], 256),
            frame(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
            frame(&[0x82, MASKED | 127, 0, 0, 0, 0, 0, 1, 0, 0, 9, 9, 9, 9], 65_536),
        ];
        for frame in cases {
            for chunk in [1, 2, 3, 7, 1_000, frame.len()] {
                let mut frames = Frames::default();
                let mut passed = 0;
                for part in frame.chunks(chunk) {
                    assert_eq!(frames.is_between(), passed == 0, "{passed} of {}", frame.len());
                    frames.follow(part);
                    passed += part.len();
                }
                assert!(frames.is_between() && !frames.has_closed(), "{:?}", &frame[..2]);
            }
        }
    }

    #[test]
    fn a_close_frame_is_noticed_and_its_like_in_a_payload_is_not() {
        let mut frames = Frames::default();
        frames.follow(&frame(&[0x82, 4], 4));
        assert!(!frames.has_closed());
        frames.follow(&going_away(None));
        assert!(frames.has_closed() && frames.is_between());
    }

    #[test]
    fn the_good_bye_says_1001_masked_or_not() {
        assert_eq!(going_away(None), [0x88, 2, 0x03, 0xE9]);
        let masked = going_away(Some([1, 2, 3, 4]));
        assert_eq!(masked, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xE9 ^ 2]);
    }
}
