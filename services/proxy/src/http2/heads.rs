//! What comes of HTTP/2 on its way to the library: frames as they are, and each head that has been cut in
//! one frame (RFC 9113 §4.3).
//!
//! What has nothing of a body and does not end it is left out. Some libraries send that for each part that
//! is empty, and ours takes 100 in the life of a connection, which it then ends. A client that sends too
//! many is refused below this (client/frames.rs).

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::{
    FRAME_BYTES,
    frame_reader::{CONTINUATION, END_HEADERS, FrameReader, HEADER_BYTES, HEADERS, Read},
};

/// A length that the library never takes (whole_heads.rs).
const TOO_LARGE: [u8; 3] = [0xff; 3];

/// What a connection ends with on which a head has no end.
pub(super) const ENDLESS: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// What a body comes in, and the flag of its end (RFC 9113 §6.1).
const DATA: u8 = 0;
const END_STREAM: u8 = 1;

/// Flags of HEADERS (RFC 9113 §6.2), and the length of what the second says. DATA has the first, too.
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;

/// What has come on a connection and is not given on yet.
#[derive(Debug)]
pub(super) struct Heads {
    reader: FrameReader,
    /// A head that has been cut, in one frame as far as it has come; empty if there is none.
    head: BytesMut,
    /// Its stream.
    stream: u32,
    /// What has come of it, with the headers of all its frames.
    head_bytes: usize,
    head_bytes_max: usize,
    /// What may be given on.
    ready: BytesMut,
}

impl Heads {
    /// The most that is held of a head is `bytes_max`, with the headers of its frames.
    pub(super) fn new(reader: FrameReader, bytes_max: usize) -> Self {
        Self {
            reader,
            head: BytesMut::new(),
            stream: 0,
            head_bytes: 0,
            head_bytes_max: bytes_max,
            ready: BytesMut::new(),
        }
    }

    /// What is held, with the room for it.
    pub(super) fn held(&self) -> usize {
        self.head.capacity() + self.ready.capacity()
    }

    /// Gives on what may be. Whether there is anything.
    pub(super) fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let count = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..count]);
        self.ready.advance(count);
        if self.ready.is_empty() {
            self.ready = BytesMut::new();
        }
        true
    }

    /// Takes note of what has come, when all before it that may be given on has been. How much of it may
    /// be given on where it is: what comes after that is kept.
    ///
    /// # Errors
    /// A head has no end.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        let mut passed = 0;
        // The beginning of a frame's header is not given on before the header is whole.
        let mut passes = self.head.is_empty() && !self.reader.is_in_header();
        loop {
            match self.reader.read(&mut rest) {
                Read::Nothing => return Ok(passed),
                Read::Header if passes && self.is_plain() && !self.says_nothing() => {}
                Read::Header => {
                    passes = false;
                    self.begin_frame();
                }
                Read::Payload(_) if passes => {}
                Read::Payload(part) if self.head.is_empty() => self.ready.extend_from_slice(part),
                Read::Payload(part) => {
                    self.head_bytes += part.len();
                    self.head.extend_from_slice(part);
                }
            }
            if passes {
                passed = bytes.len() - rest.len();
            } else if !self.head.is_empty() && self.reader.is_at_end() {
                self.end_frame();
            }
            if self.head_bytes > self.head_bytes_max {
                return Err(ENDLESS.into());
            }
        }
    }

    /// Whether the frame that has begun passes as it is, if no head is held.
    fn is_plain(&self) -> bool {
        !self.is_too_large()
            && (self.reader.kind() != HEADERS || self.reader.flags() & END_HEADERS != 0)
    }

    /// Whether the frame that has begun is of no use. With padding it is: that takes room, which only the
    /// library can give back (RFC 9113 §6.9.1). Nobody pads nothing a hundred times who means well.
    fn says_nothing(&self) -> bool {
        let reader = &self.reader;
        let says_nothing = reader.left() == 0
            && reader.kind() == DATA
            && reader.flags() & (END_STREAM | PADDED) == 0;
        // On no stream at all is for the library to refuse.
        says_nothing && reader.stream() > 0
    }

    fn is_too_large(&self) -> bool {
        self.reader.left() > FRAME_BYTES
    }

    fn begin_frame(&mut self) {
        let reader = &self.reader;
        if !self.head.is_empty() {
            let is_next = reader.kind() == CONTINUATION && reader.stream() == self.stream;
            if is_next && !self.is_too_large() {
                self.head_bytes += HEADER_BYTES;
                return;
            }
            // Nothing else may come here, which is for the library to say.
            self.end_head(0);
        } else if self.says_nothing() {
            return;
        }
        let header = self.reader.header();
        if self.is_too_large() {
            self.ready.extend_from_slice(&TOO_LARGE);
            self.ready.extend_from_slice(&header[TOO_LARGE.len()..]);
        } else if self.is_plain() {
            self.ready.extend_from_slice(header);
        } else {
            self.head.extend_from_slice(header);
            self.head_bytes = HEADER_BYTES;
            self.stream = self.reader.stream();
        }
    }

    /// Takes note that a frame of the head has come whole.
    fn end_frame(&mut self) {
        if self.reader.kind() == HEADERS && !self.take_padding_out() {
            self.ready.unsplit(std::mem::take(&mut self.head));
            self.head_bytes = 0;
        } else if self.reader.flags() & END_HEADERS != 0 {
            self.end_head(END_HEADERS);
        }
    }

    /// Takes out what is at the end of the first frame of a head, and not of the last. Whether the
    /// frame is as long as it says.
    fn take_padding_out(&mut self) -> bool {
        let flags = self.head[4];
        let priority = if flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES };
        if flags & PADDED == 0 {
            return self.head.len() >= HEADER_BYTES + priority;
        }
        let Some(padding) = self.head.get(HEADER_BYTES).map(|length| usize::from(*length)) else {
            return false;
        };
        let Some(end) = self.head.len().checked_sub(padding) else { return false };
        if end < HEADER_BYTES + 1 + priority {
            return false;
        }
        self.head.truncate(end);
        // Where the length was.
        self.head.copy_within(..HEADER_BYTES, 1);
        self.head.advance(1);
        self.head[4] = flags & !PADDED;
        true
    }

    /// Lets the head be given on, with this flag.
    fn end_head(&mut self, flag: u8) {
        let mut head = std::mem::take(&mut self.head);
        let length = (head.len() - HEADER_BYTES) as u32;
        head[..3].copy_from_slice(&length.to_be_bytes()[1..]);
        head[4] |= flag;
        self.ready.unsplit(head);
        self.head_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::whole_heads::PREFACE;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    const HELD: usize = 50_000;

    fn heads() -> Heads {
        Heads::new(FrameReader::after(PREFACE.len()), HELD)
    }

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// What is given on of these frames, when they come after a preface in pieces of a size.
    fn given(frames: &[Vec<u8>], size: usize) -> Vec<u8> {
        let mut heads = heads();
        let mut all = Vec::new();
        for piece in [PREFACE, &frames.concat()].concat().chunks(size) {
            let passed = heads.take(piece).unwrap();
            all.extend_from_slice(&piece[..passed]);
            // No more than there is room for.
            loop {
                let mut room = [0; 5];
                let mut buffer = ReadBuf::new(&mut room);
                if !heads.give(&mut buffer) {
                    break;
                }
                all.extend_from_slice(buffer.filled());
            }
        }
        all.split_off(PREFACE.len())
    }

    /// Checks what is given on of frames, in whatever pieces they come.
    fn check(frames: &[Vec<u8>], expected: &[Vec<u8>]) {
        for size in [1, 2, 5, 8, 9, 10, 11, 23, 64, 100_000] {
            assert_eq!(given(frames, size), expected.concat(), "{frames:?} in pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_cut_passes_where_it_is() {
        let padded = frame(HEADERS, END_HEADERS | PADDED, 3, b"\x02xyz\0\0");
        let data = frame(DATA, 1, 1, &[HEADERS; 16 * 1024]);
        let frames = [frame(HEADERS, END_HEADERS, 1, b"abc"), data, padded];
        let bytes = [PREFACE, &frames.concat()].concat();
        let mut heads = heads();
        // Within the data.
        let (one, other) = bytes.split_at(50);
        assert_eq!(heads.take(one).unwrap(), one.len());
        assert_eq!(heads.take(other).unwrap(), other.len());
        assert_eq!(heads.head.capacity() + heads.ready.capacity(), 0, "nothing is kept");
        check(&frames, &frames);
    }

    #[test]
    fn empty_parts_are_left_out_that_say_nothing() {
        let empty = frame(DATA, 0, 1, b"");
        let head = frame(HEADERS, END_HEADERS, 1, b"abc");
        let data = frame(DATA, 0, 1, b"data");
        let end = frame(DATA, END_STREAM, 1, b"");
        check(
            &[
                empty.clone(),
                head.clone(),
                empty.clone(),
                empty.clone(),
                data.clone(),
                empty.clone(),
                data.clone(),
                end.clone(),
                empty,
            ],
            &[head, data.clone(), data, end],
        );
        // These say something, or may not be, which is for the library to say.
        for other in [
            frame(DATA, PADDED, 1, b"\0"),
            frame(DATA, PADDED, 1, b""),
            frame(DATA, END_STREAM | PADDED, 1, b"\0"),
            frame(DATA, 0, 0, b""),
            frame(SETTINGS, 0, 0, b""),
        ] {
            check(std::slice::from_ref(&other), std::slice::from_ref(&other));
        }
    }

    #[test]
    fn a_head_that_is_cut_comes_in_one_frame() {
        let block = b"a block of fields";
        let priority = [0x80, 0, 0, 0, 9];
        let before = frame(PING, 0, 0, &[0; 8]);
        let after = frame(DATA, END_STREAM, 1, b"data");
        for end in 0..=block.len() {
            let (first, rest) = block.split_at(end);
            let (second, third) = rest.split_at(rest.len() / 2);
            let continued = [
                frame(CONTINUATION, 0, 1, second),
                frame(CONTINUATION, 0, 1, b""),
                frame(CONTINUATION, END_HEADERS, 1, third),
            ];
            for (flags, payload, expected) in [
                (0, first.to_vec(), &b""[..]),
                (PADDED, [b"\x03", first, b"\0\0\0"].concat(), b""),
                (PADDED, [b"\0", first].concat(), b""),
                (PRIORITY, [&priority, first].concat(), &priority),
                (PRIORITY | PADDED, [b"\x01", &priority[..], first, b"\0"].concat(), &priority),
            ] {
                let head = frame(HEADERS, flags | END_STREAM, 1, &payload);
                let [one, two, three] = continued.clone();
                let flags = flags & PRIORITY | END_STREAM | END_HEADERS;
                let whole = frame(HEADERS, flags, 1, &[expected, block].concat());
                check(
                    &[before.clone(), head, one, two, three, after.clone()],
                    &[before.clone(), whole, after.clone()],
                );
            }
        }
    }

    /// The library refuses it.
    #[test]
    fn what_may_not_be_stays_as_it_is() {
        let head = frame(HEADERS, 0, 1, b"abc");
        let last = frame(CONTINUATION, END_HEADERS, 1, b"def");
        for other in [
            frame(PING, 0, 0, &[0; 8]),
            frame(DATA, 0, 1, b"x"),
            frame(DATA, 0, 1, b""),
            frame(HEADERS, END_HEADERS, 1, b"x"),
            frame(HEADERS, 0, 3, b"x"),
            frame(CONTINUATION, END_HEADERS, 3, b"x"),
            frame(0xee, 0, 1, b""),
        ] {
            let frames = [head.clone(), other, frame(PING, 0, 0, &[0; 8])];
            check(&frames, &frames);
        }
        check(&[last.clone(), last.clone()], &[last.clone(), last.clone()]);
        for (flags, payload) in [
            (PADDED, &b""[..]),
            (PADDED, b"\x04abc"),
            (PRIORITY, b"abcd"),
            (PRIORITY | PADDED, b"\x01abcde"),
        ] {
            let frames = [frame(HEADERS, flags, 1, payload), last.clone()];
            check(&frames, &frames);
        }
    }

    #[test]
    fn a_frame_that_is_larger_than_announced_is_larger_than_the_library_takes() {
        let head = frame(HEADERS, 0, 1, b"abc");
        for (kind, flags) in [(DATA, 0), (HEADERS, END_HEADERS), (HEADERS, 0), (CONTINUATION, 0)] {
            let large = frame(kind, flags, 1, &[0; 16 * 1024 + 1]);
            let mut refused = large.clone();
            refused[..3].fill(0xff);
            check(std::slice::from_ref(&large), std::slice::from_ref(&refused));
            check(&[head.clone(), large], &[head.clone(), refused]);
        }
    }

    #[test]
    fn a_head_without_an_end_is_not_held() {
        for payload in [0, 1, 100, 16 * 1024] {
            let mut heads = heads();
            heads.take(PREFACE).unwrap();
            heads.take(&frame(HEADERS, 0, 1, b"")).unwrap();
            let next = frame(CONTINUATION, 0, 1, &vec![0; payload]);
            let ended = (1..).find(|_| heads.take(&next).is_err()).unwrap();
            assert_eq!(ended, (HELD - HEADER_BYTES) / next.len() + 1, "{payload}");
        }
        // What many have together does not count.
        let head = [frame(HEADERS, 0, 1, b"abc"), frame(CONTINUATION, END_HEADERS, 1, &[0; 100])];
        let mut heads = heads();
        heads.take(PREFACE).unwrap();
        for _ in 0..10_000 {
            heads.take(&head.concat()).unwrap();
        }
    }
}
