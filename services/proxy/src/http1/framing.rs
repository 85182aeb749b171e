//! Where a body ends (RFC 9112 §6.3), and what of what was read belongs to it.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::{Invalid, Named, Unfit, extension::Extension, may_trail};
use crate::{
    limits::{FieldLimits, Sender},
    numbers::ChunkSize,
};

/// What may come after the sizes of a body's chunks in total. Nobody uses extensions; they must
/// only be read to their end (RFC 9112 §7.1.1).
const EXTENSION_BYTES_MAX: u16 = 16 * 1024;

/// How a body ends, and how far it has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After its last chunk. In a box: a framing is moved about with each head, and few are of chunks.
    Chunked(Box<Chunks>),
    /// With the connection.
    Close,
}

/// How far a body of chunks has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    state: State,
    /// Whether space after a size is refused, which some backends send and no client needs.
    is_strict: bool,
    /// What has come after sizes.
    extensions: u16,
    /// What has come after the last chunk. It waits in memory for its end.
    trailers: Vec<u8>,
    /// What that may be.
    limits: FieldLimits,
    /// Fields that go no further if they come there.
    named: Named,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A chunk's size.
    Size(ChunkSize),
    /// The space after a size.
    AfterSize(u64),
    /// What may follow a size after a semicolon, up to the CR.
    Extension(u64, Extension),
    /// The LF after a size.
    SizeLf(u64),
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The CR after a chunk.
    ChunkCr,
    /// The LF after a chunk.
    ChunkLf,
    /// The fields after the last chunk, and the empty line that ends them.
    Trailers,
    /// Nothing.
    Done,
}

impl Framing {
    /// Chunks of which none has come yet, after which the fields are within these limits.
    pub(crate) fn chunked(limits: FieldLimits) -> Self {
        Self::Chunked(Box::new(Chunks {
            state: State::Size(ChunkSize::default()),
            is_strict: limits.sender == Sender::Client,
            extensions: 0,
            trailers: Vec::new(),
            limits,
            named: Named::default(),
        }))
    }

    /// The same, after which fields that `Connection` names are left out.
    #[must_use]
    pub(crate) fn without(mut self, named: Named) -> Self {
        if let Self::Chunked(chunks) = &mut self {
            chunks.named = named;
        }
        self
    }

    /// Whether all of the body has come.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.state == State::Done,
            Self::Close => false,
        }
    }

    /// What has been kept of it and not been given on.
    pub(crate) fn kept(&self) -> usize {
        match self {
            Self::Chunked(chunks) => chunks.trailers.capacity(),
            Self::Length(_) | Self::Close => 0,
        }
    }

    /// The bytes still to come, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Takes the next part of the body out of what was read. `None` if there is none: more has to
    /// be read, or it is done.
    ///
    /// # Errors
    /// What was read is no such body, or there are more fields after it than may be.
    pub(crate) fn next(&mut self, read: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Unfit> {
        match self {
            Self::Length(left) => Ok(take(read, left).map(Frame::data)),
            Self::Close if read.is_empty() => Ok(None),
            Self::Close => Ok(Some(Frame::data(read.split().freeze()))),
            Self::Chunked(chunks) => chunks.next(read),
        }
    }
}

/// Takes as much as is there of what is `left`.
fn take(read: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
    *left -= count as u64;
    (count > 0).then(|| read.split_to(count).freeze())
}

impl Chunks {
    fn next(&mut self, read: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Unfit> {
        loop {
            match &mut self.state {
                State::Done => return Ok(None),
                State::Chunk(left) => {
                    let data = take(read, left);
                    if *left == 0 {
                        self.state = State::ChunkCr;
                    }
                    if data.is_some() || self.state != State::ChunkCr {
                        return Ok(data.map(Frame::data));
                    }
                }
                State::Trailers => {
                    if !self.read_trailers(read)? {
                        return Ok(None);
                    }
                    self.state = State::Done;
                    let trailers = std::mem::take(&mut self.trailers);
                    let trailers = fields(&trailers, self.limits, &self.named)?;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
                _ => {
                    let Some(byte) = read.first().copied() else { return Ok(None) };
                    read.advance(1);
                    self.state = self.after(byte)?;
                }
            }
        }
    }

    /// The state after a byte between two chunks.
    fn after(&mut self, byte: u8) -> Result<State, Invalid> {
        let extended = |value| State::Extension(value, Extension::BeforeName);
        match (self.state, byte) {
            (State::Size(size), _) if byte.is_ascii_hexdigit() => {
                size.push(byte).map(State::Size).ok_or(Invalid)
            }
            (State::Size(size), b'\r') => size.end().map(State::SizeLf).ok_or(Invalid),
            (State::Size(size), b';') => size.end().map(extended).ok_or(Invalid),
            (State::Size(size), b' ' | b'\t') => size.end().map(State::AfterSize).ok_or(Invalid),
            (State::AfterSize(value), b'\r') if !self.is_strict => Ok(State::SizeLf(value)),
            (State::AfterSize(value), b';') => Ok(extended(value)),
            (State::AfterSize(value), b' ' | b'\t') => self.skip(State::AfterSize(value)),
            (State::Extension(value, extension), b'\r') if extension.may_end(self.is_strict) => {
                Ok(State::SizeLf(value))
            }
            (State::Extension(value, extension), _) => {
                let extension = extension.after(byte).ok_or(Invalid)?;
                self.skip(State::Extension(value, extension))
            }
            (State::SizeLf(0), b'\n') => Ok(State::Trailers),
            (State::SizeLf(size), b'\n') => Ok(State::Chunk(size)),
            (State::ChunkCr, b'\r') => Ok(State::ChunkLf),
            (State::ChunkLf, b'\n') => Ok(State::Size(ChunkSize::default())),
            _ => Err(Invalid),
        }
    }

    /// Counts a byte that says nothing.
    fn skip(&mut self, state: State) -> Result<State, Invalid> {
        self.extensions += 1;
        (self.extensions < EXTENSION_BYTES_MAX).then_some(state).ok_or(Invalid)
    }

    /// Takes the trailers' bytes out of what was read, line by line. Whether that is all of them.
    fn read_trailers(&mut self, read: &mut BytesMut) -> Result<bool, Unfit> {
        while !read.is_empty() {
            let line = memchr::memchr(b'\n', read).map_or(read.len(), |lf| lf + 1);
            if self.trailers.len() + line > self.limits.bytes as usize {
                return Err(Unfit::Beyond(self.limits.too_large()));
            }
            self.trailers.extend_from_slice(&read[..line]);
            read.advance(line);
            let is_line = self.trailers.ends_with(b"\n");
            if is_line && !self.trailers.ends_with(b"\r\n") {
                // Others might take it for the end.
                return Err(Unfit::Invalid);
            }
            if self.trailers == b"\r\n" || self.trailers.ends_with(b"\n\r\n") {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Reads fields and the empty line after them. Those that may not stand there are left out
/// (RFC 9110 §6.5.1), or concern one connection only.
fn fields(text: &[u8], limits: FieldLimits, named: &Named) -> Result<HeaderMap, Unfit> {
    let count = memchr::memchr_iter(b'\n', text).count() - 1;
    if count == 0 {
        return Ok(HeaderMap::new());
    }
    if count > limits.count as usize {
        return Err(Unfit::Beyond(limits.too_many()));
    }
    let mut found = vec![httparse::EMPTY_HEADER; count];
    let Ok(httparse::Status::Complete((_, found))) = httparse::parse_headers(text, &mut found)
    else {
        return Err(Unfit::Invalid);
    };
    let mut fields = HeaderMap::with_capacity(found.len());
    for field in found {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Unfit::Invalid)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Unfit::Invalid)?;
        if may_trail(&name) && !named.has(&name) {
            fields.append(name, value);
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limit;

    /// Everything that is read of a body that comes in pieces of a size: its bytes, its trailers,
    /// and what is left over. `None` if it has not ended.
    type Whole = Option<(Vec<u8>, HeaderMap, Vec<u8>)>;

    const LIMITS: FieldLimits = FieldLimits { bytes: 1_000, count: 10, ..FieldLimits::USUAL };

    fn of_backend() -> Framing {
        Framing::chunked(LIMITS)
    }

    fn of_client() -> Framing {
        Framing::chunked(FieldLimits { sender: Sender::Client, ..LIMITS })
    }

    fn read(mut framing: Framing, bytes: &[u8], size: usize) -> Result<Whole, Unfit> {
        let (mut data, mut trailers, mut read) = (Vec::new(), HeaderMap::new(), BytesMut::new());
        for piece in bytes.chunks(size) {
            read.extend_from_slice(piece);
            while let Some(frame) = framing.next(&mut read)? {
                match frame.into_data() {
                    Ok(part) => data.extend_from_slice(&part),
                    Err(frame) => trailers = frame.into_trailers().unwrap(),
                }
            }
        }
        Ok(framing.is_done().then_some((data, trailers, read.to_vec())))
    }

    /// In one piece and in pieces of each size, which must not differ.
    fn in_any_pieces(framing: fn() -> Framing, bytes: &[u8]) -> Result<Whole, Unfit> {
        let whole = read(framing(), bytes, bytes.len());
        for size in 1..bytes.len() {
            assert_eq!(read(framing(), bytes, size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn a_length_takes_its_bytes_and_leaves_the_rest() {
        let (data, _, rest) =
            in_any_pieces(|| Framing::Length(5), b"hello and more").unwrap().unwrap();
        assert_eq!((&data[..], &rest[..]), (&b"hello"[..], &b" and more"[..]));
        assert_eq!(in_any_pieces(|| Framing::Length(5), b"hell"), Ok(None));
    }

    #[test]
    fn what_ends_with_the_connection_is_never_done() {
        assert_eq!(in_any_pieces(|| Framing::Close, b"hello"), Ok(None));
    }

    /// RFC 9112 §7.1.
    #[test]
    fn chunks_are_read_with_their_trailers_in_any_pieces() {
        let body = b"5\r\nhello\r\n6 ;a=\"b\"\r\n world\r\n0\r\nX-Sum: 7\r\nHost: b\r\nX-Real-IP: ::1\r\n\r\nmore";
        let (data, trailers, rest) = in_any_pieces(of_backend, body).unwrap().unwrap();
        assert_eq!((&data[..], &rest[..]), (&b"hello world"[..], &b"more"[..]));
        assert_eq!(trailers["x-sum"], "7");
        assert_eq!(
            trailers.len(),
            1,
            "what routes a message or tells of its client comes before it"
        );
        let (data, trailers, _) =
            in_any_pieces(of_backend, b"A\r\n0123456789\r\n000\r\n\r\n").unwrap().unwrap();
        assert_eq!((&data[..], trailers.len()), (&b"0123456789"[..], 0));
    }

    #[test]
    fn chunks_that_have_not_ended_are_not_done() {
        for body in ["5\r\nhel", "5\r\nhello\r\n", "0\r\n", "0\r\nA: b\r\n"] {
            assert_eq!(in_any_pieces(of_backend, body.as_bytes()), Ok(None), "{body:?}");
        }
    }

    /// RFC 9112 §7.1.
    #[test]
    fn what_is_no_chunk_is_refused() {
        let bodies = [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            " 5\r\nhello\r\n",
            "5\nhello\r\n",
            "5\rhello",
            "5;a\nhello\r\n",
            "5;a\0\r\nhello\r\n",
            "5 a\r\nhello\r\n",
            "5;\r\nhello\r\n",
            "5;a;\r\nhello\r\n",
            "4\r\nhello\r\n",
            "5\r\nhello\n",
            "5\r\nhello0\r\n\r\n",
            "1234567890123456\r\n",
            "0\r\nno field\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\nA: b\n\nmore\n\r\n",
            "0\r\n\n",
        ];
        for body in bodies {
            let read = in_any_pieces(of_backend, body.as_bytes());
            assert_eq!(read, Err(Unfit::Invalid), "{body:?}");
        }
    }

    /// RFC 9112 §7.1: some backends fill a size up with spaces.
    #[test]
    fn a_space_after_a_size_is_taken_from_backends_only() {
        let body = b"5  \r\nhello\r\n0\r\n\r\n";
        let (data, ..) = in_any_pieces(of_backend, body).unwrap().unwrap();
        assert_eq!(data, b"hello");
        assert_eq!(in_any_pieces(of_client, body), Err(Unfit::Invalid));
        let body = b"5 ;a\r\nhello\r\n0\r\n\r\n";
        assert!(in_any_pieces(of_client, body).is_ok());
    }

    #[test]
    fn what_is_skipped_has_a_bound() {
        let spaces = format!("1{}", " ".repeat(usize::from(EXTENSION_BYTES_MAX) + 1));
        assert_eq!(read(of_backend(), spaces.as_bytes(), 1000), Err(Unfit::Invalid));
        let extension = format!("1;{}\r\na\r\n", "x".repeat(usize::from(EXTENSION_BYTES_MAX)));
        assert_eq!(read(of_backend(), extension.as_bytes(), 1000), Err(Unfit::Invalid));
    }

    #[test]
    fn the_fields_after_a_body_have_bounds_by_whose_they_are() {
        let many = |count| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
        // With the lines' ends, as a head is.
        let large = |bytes: usize| format!("0\r\na: {}\r\n\r\n", "b".repeat(bytes - 7));
        let endless = format!("0\r\na: {}", "b".repeat(1_000));
        for (framing, [too_large, too_many]) in [
            (of_client as fn() -> Framing, [Limit::HeaderBytes, Limit::Headers]),
            (of_backend, [Limit::ResponseHeaderBytes, Limit::ResponseHeaders]),
        ] {
            for (body, expected) in [
                (many(10), None),
                (many(11), Some(too_many)),
                (large(1_000), None),
                (large(1_001), Some(too_large)),
                (endless.clone(), Some(too_large)),
            ] {
                let read = in_any_pieces(framing, body.as_bytes());
                let limit = read.err().map(|unfit| match unfit {
                    Unfit::Beyond(limit) => limit,
                    Unfit::Invalid => panic!("{body:?} is valid"),
                });
                assert_eq!(limit, expected, "{body:?}");
            }
        }
    }
}
