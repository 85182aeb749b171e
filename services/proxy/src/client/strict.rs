//! What hyper lets through that must not pass a proxy, found in the bytes before hyper reads them.
//!
//! hyper and httparse repair some messages instead of refusing them: a bare LF ends a line, a
//! `Content-Length` beside a `Transfer-Encoding` is dropped, a repeated one is merged, a fragment is
//! cut off a target, and whatever stands in a chunk's extension is skipped. None of it can be seen
//! once they are done. A repaired message is one that somebody before us may have read otherwise
//! (RFC 9112 §11.2), so that we refuse it.
//!
//! This follows a connection's requests line by line and knows just enough of their framing to
//! find the next one: everything else is left to hyper, which sees the same bytes. Where the two
//! could differ, hyper has refused the message already. It costs a search for the end of each
//! line and copies nothing of a head that arrives in one piece.

use memchr::memchr;

use crate::numbers::{self, ChunkSize};

/// How much of a line, with its CR, is kept when it arrives in pieces. Longer than any line that we
/// must read; all others only have to end well.
const LINE_KEPT: usize = 256;

/// Where a message is no longer valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// How many of the bytes may still be read.
    pub(crate) valid: usize,
    /// Whether a head was being read, which can be answered, or a body.
    pub(crate) is_head: bool,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The request line, or an empty line before it (RFC 9112 §2.2).
    RequestLine,
    /// A line of the head.
    Field,
    /// So many bytes of a body.
    Body(u64),
    /// A chunk's size.
    Size(ChunkSize),
    /// What may follow a chunk's size.
    AfterSize(u64),
    /// A chunk's extension.
    Extension(u64),
    /// The LF after a chunk's size.
    SizeLf(u64),
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The CR after a chunk.
    ChunkCr,
    /// The LF after a chunk.
    ChunkLf,
    /// A line after the last chunk.
    Trailer,
    /// Nothing ever.
    Refused,
    /// Nothing, before the request that asks for another protocol is answered: what it is a client
    /// cannot know, and must not send (RFC 9110 §7.8).
    Answer,
    /// Anything: another protocol.
    Switched,
}

/// The body that a head announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub(crate) struct Strict {
    state: State,
    framing: Framing,
    /// The head has an `Upgrade`.
    may_switch: bool,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The last byte of that line: its beginning may be all that is kept.
    last: u8,
}

impl Strict {
    pub(crate) fn new() -> Self {
        let (state, framing) = (State::RequestLine, Framing::None);
        Self { state, framing, may_switch: false, line: Vec::new(), last: 0 }
    }

    /// Notes that the connection speaks another protocol from now on.
    pub(crate) fn switch(&mut self) {
        self.state = State::Switched;
    }

    /// Notes that no request is being served: one that asked for another protocol was answered
    /// without.
    pub(crate) fn is_idle(&mut self) {
        if self.state == State::Answer {
            self.state = State::RequestLine;
        }
    }

    /// Whether something was read that is not valid.
    pub(crate) fn has_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// Reads what has come.
    ///
    /// # Errors
    /// Where it is no longer a valid message. Nothing that comes after it may be read.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let is_head = matches!(self.state, State::RequestLine | State::Field);
            let read = match self.state {
                State::RequestLine | State::Field | State::Trailer => self.read_line(rest),
                State::Body(left) => {
                    let count = fitting(rest, left);
                    self.state = match left - count as u64 {
                        0 => State::RequestLine,
                        left => State::Body(left),
                    };
                    Ok(count)
                }
                State::Chunk(left) => {
                    let count = fitting(rest, left);
                    self.state = match left - count as u64 {
                        0 => State::ChunkCr,
                        left => State::Chunk(left),
                    };
                    Ok(count)
                }
                State::Switched => return Ok(()),
                State::Answer | State::Refused => Err(0),
                _ => self.read_size(rest[0]).map(|()| 1).map_err(|()| 0),
            };
            match read {
                Ok(count) => at += count,
                Err(valid) => {
                    self.state = State::Refused;
                    return Err(Violation { valid: at + valid, is_head });
                }
            }
        }
        Ok(())
    }

    /// Reads up to the end of a line; how many bytes that is, or how many of them are valid.
    fn read_line(&mut self, bytes: &[u8]) -> Result<usize, usize> {
        let end = memchr(b'\n', bytes);
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        if self.state == State::RequestLine && !is_plain(piece) {
            return Err(0);
        }
        match end {
            Some(end) if self.line.is_empty() => {
                let line = piece.strip_suffix(b"\r").ok_or(end)?;
                self.end_line(line).map_err(|()| 0_usize)?;
            }
            Some(end) => {
                if piece.last().unwrap_or(&self.last) != &b'\r' {
                    return Err(end);
                }
                self.keep(piece);
                let mut line = std::mem::take(&mut self.line);
                // Of a line that is cut, what is kept may end in a CR that is not its end.
                let end = line.len() - usize::from(line.len() < LINE_KEPT);
                let result = self.end_line(&line[..end]);
                // Kept for the next line in pieces: a client that sends one sends more.
                line.clear();
                self.line = line;
                result.map_err(|()| 0_usize)?;
            }
            None => {
                self.keep(piece);
                self.last = bytes[bytes.len() - 1];
            }
        }
        Ok(end.map_or(bytes.len(), |end| end + 1))
    }

    fn keep(&mut self, piece: &[u8]) {
        let count = piece.len().min(LINE_KEPT - self.line.len());
        self.line.extend_from_slice(&piece[..count]);
    }

    /// Goes by a line without its end, of which the beginning may be all there is.
    fn end_line(&mut self, line: &[u8]) -> Result<(), ()> {
        match self.state {
            State::RequestLine if line.is_empty() => {}
            State::RequestLine => self.state = State::Field,
            State::Field if line.is_empty() => self.end_head(),
            State::Field => return self.field(line),
            _ if line.is_empty() => self.end_message(),
            _ => {}
        }
        Ok(())
    }

    /// Notes what a field says of the framing.
    fn field(&mut self, line: &[u8]) -> Result<(), ()> {
        // The same for a line in one piece, so that the pieces do not matter.
        let is_cut = line.len() + 1 >= LINE_KEPT;
        // The first letter tells almost all fields apart from those that count.
        match line[0] | 0x20 {
            b'c' => match value(line, b"content-length:") {
                Some(_) if is_cut => Err(()),
                Some(length) => {
                    self.set_framing(Framing::Length(numbers::length(length).ok_or(())?))
                }
                None => Ok(()),
            },
            b't' => match value(line, b"transfer-encoding:") {
                // The only coding that we can pass on (RFC 9112 §6.1).
                Some(coding) if !is_cut && coding.eq_ignore_ascii_case(b"chunked") => {
                    self.set_framing(Framing::Chunked)
                }
                Some(_) => Err(()),
                None => Ok(()),
            },
            b'u' => {
                self.may_switch |= value(line, b"upgrade:").is_some();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A second framing is one too many, even if it says the same (RFC 9112 §6.3).
    fn set_framing(&mut self, framing: Framing) -> Result<(), ()> {
        if self.framing != Framing::None {
            return Err(());
        }
        self.framing = framing;
        Ok(())
    }

    fn end_head(&mut self) {
        match std::mem::replace(&mut self.framing, Framing::None) {
            Framing::None | Framing::Length(0) => self.end_message(),
            Framing::Length(length) => self.state = State::Body(length),
            Framing::Chunked => self.state = State::Size(ChunkSize::default()),
        }
    }

    fn end_message(&mut self) {
        let may_switch = std::mem::take(&mut self.may_switch);
        self.state = if may_switch { State::Answer } else { State::RequestLine };
    }

    /// Reads a byte of what is around the chunks (RFC 9112 §7.1).
    fn read_size(&mut self, byte: u8) -> Result<(), ()> {
        self.state = match (self.state, byte) {
            (State::Size(size), _) if byte.is_ascii_hexdigit() => {
                State::Size(size.push(byte).ok_or(())?)
            }
            (State::Size(size), b'\r') => State::SizeLf(size.end().ok_or(())?),
            (State::Size(size), b';') => State::Extension(size.end().ok_or(())?),
            (State::Size(size), b' ' | b'\t') => State::AfterSize(size.end().ok_or(())?),
            (State::AfterSize(value), b';') => State::Extension(value),
            (State::AfterSize(value), b' ' | b'\t') => State::AfterSize(value),
            (State::Extension(value), b'\r') => State::SizeLf(value),
            (State::Extension(value), b'\t' | b' '..=b'~' | 0x80..) => State::Extension(value),
            (State::SizeLf(0), b'\n') => State::Trailer,
            (State::SizeLf(size), b'\n') => State::Chunk(size),
            (State::ChunkCr, b'\r') => State::ChunkLf,
            (State::ChunkLf, b'\n') => State::Size(ChunkSize::default()),
            _ => return Err(()),
        };
        Ok(())
    }
}

/// How many of the bytes belong to something of which so many are left.
fn fitting(bytes: &[u8], left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
}

/// Whether a piece of a request line has neither a fragment nor anything beyond ASCII. hyper
/// would take both: the one it drops, the other nobody reads alike. A `#` in a method, where it
/// is allowed and never used, goes with it. Without a branch per byte, so that it is vectorised.
fn is_plain(piece: &[u8]) -> bool {
    !piece.iter().fold(false, |is_odd, byte| is_odd | (*byte >= 0x7F) | (*byte == b'#'))
}

/// The value of a field, if it has this name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";

    /// Reads bytes in pieces of a size; where they stop to be valid, and whether in a head.
    fn read_in_pieces(bytes: &[u8], size: usize) -> Result<(), (usize, bool)> {
        let mut strict = Strict::new();
        for (index, piece) in bytes.chunks(size).enumerate() {
            let at = |violation: Violation| (index * size + violation.valid, violation.is_head);
            strict.read(piece).map_err(at)?;
        }
        Ok(())
    }

    /// What is found does not depend on how the bytes arrive, but for how much of a line in
    /// which something is wrong was let through before.
    fn read(bytes: &[u8]) -> Result<(), bool> {
        let whole = read_in_pieces(bytes, bytes.len()).map_err(|(_, is_head)| is_head);
        for size in 1..bytes.len() {
            let pieces = read_in_pieces(bytes, size).map_err(|(_, is_head)| is_head);
            assert_eq!(pieces, whole, "{size} at a time: {bytes:?}");
        }
        whole
    }

    #[test]
    fn requests_one_after_the_other_are_valid_however_they_arrive() {
        let all = [
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            HEAD,
            b"\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n",
            b"4\r\n\n\n\n\n\r\n00A ; a=\"b\"\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ];
        assert_eq!(read(&all.concat()), Ok(()));
    }

    #[test]
    fn a_head_that_hyper_would_repair_is_not_valid() {
        let heads: [&[u8]; 16] = [
            b"\nGET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nHost: a\n",
            b"GET / HTTP/1.1\r\n\n",
            b"GET /#a HTTP/1.1\r\n",
            b"GET /\xC3\xA9 HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 1\r\nContent-Length: 1\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 1\r\nTransfer-Encoding: chunked\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\nContent-Length: 1\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n",
            b"GET / HTTP/1.1\r\ntransfer-encoding:\r\n",
            b"GET / HTTP/1.1\r\ncontent-length:\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: +1\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 0x1\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 1, 1\r\n",
            b"GET / HTTP/1.1\r\ncontent-length: 1234567890123456789\r\n",
        ];
        for head in heads {
            assert_eq!(read(head), Err(true), "{head:?}");
        }
    }

    #[test]
    fn a_length_behind_more_space_than_is_kept_is_not_valid() {
        let space = " ".repeat(LINE_KEPT);
        for field in ["Content-Length:", "Transfer-Encoding:"] {
            let head = format!("GET / HTTP/1.1\r\n{field}{space}chunked5\r\n");
            assert_eq!(read(head.as_bytes()), Err(true), "{field}");
        }
        // The last byte that is kept is a CR, but not the one at the line's end.
        let space = " ".repeat(LINE_KEPT - "Content-Length: 1\r".len());
        let head = format!("GET / HTTP/1.1\r\nContent-Length: 1{space}\r \r\n");
        assert_eq!(read(head.as_bytes()), Err(true));
        let long = format!("GET / HTTP/1.1\r\nCookie: {space} {space}\r\n\r\nGET / HTTP/1.1\r\n");
        assert_eq!(read(long.as_bytes()), Ok(()));
    }

    #[test]
    fn a_chunk_that_can_be_read_in_two_ways_is_not_valid() {
        let bodies: [&[u8]; 12] = [
            b"\r\n",
            b"+1\r\n",
            b"1 \r\n",
            b"1\n",
            b"1\rx",
            b"1;a\n",
            b"1;\0\r\n",
            b"1234567890123456\r\n",
            b"1\r\nab",
            b"1\r\na\n",
            b"0\r\nx: y\n",
            b"0\r\n\n",
        ];
        for body in bodies {
            let head: &[u8] = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            assert_eq!(read(&[head, body].concat()), Err(false), "{body:?}");
        }
    }

    #[test]
    fn all_that_is_valid_may_be_read() {
        let bytes = [HEAD, b"abcGET / HTTP/1.1\r\nHost: a\n"].concat();
        let valid = bytes.len() - 1;
        assert_eq!(read_in_pieces(&bytes, bytes.len()), Err((valid, true)));
    }

    #[test]
    fn another_protocol_is_not_read_once_it_is_agreed_and_nothing_is_before() {
        let ask: &[u8] = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        let mut strict = Strict::new();
        assert_eq!(strict.read(ask), Ok(()));
        strict.switch();
        assert_eq!(strict.read(b"\0\n\n"), Ok(()));

        let mut strict = Strict::new();
        assert_eq!(strict.read(ask), Ok(()));
        strict.is_idle();
        assert_eq!(strict.read(ask), Ok(()));
        assert!(strict.read(b"G").is_err() && strict.has_refused());
    }
}
