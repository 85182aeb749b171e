//! Heads of HTTP/2 that their sender has cut into frames, as the library gets them: each in one frame,
//! and all else as it is.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frame, each_frame};
use crate::http2::{
    FRAME_BYTES,
    frame_reader::{CONTINUATION, END_HEADERS, HEADERS},
    whole_heads::{HeadLimits, PREFACE, WholeHeads},
};

const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The least, so that a few frames are more.
const LIMITS: HeadLimits = HeadLimits { announced: 0, held: 64 * 1024 };

/// Frames of a client, after one byte that says in which pieces they come. Each is four bytes, its kind,
/// flags, stream and length, and a payload; with the higher bits of the stream it is as large as a frame
/// may be, or larger.
///
/// # Panics
/// What the library gets depends on the pieces, or is not the same heads, each in one frame, and all else
/// as it came.
pub fn cut_heads(data: &[u8]) {
    let Some((size, rest)) = data.split_first() else { return };
    let mut bytes = PREFACE.to_vec();
    let mut frames = Vec::new();
    for Frame { kind, flags, stream, payload } in each_frame(rest) {
        let mut payload = payload.to_vec();
        match stream >> 6 {
            1 => payload.resize(FRAME_BYTES, 0),
            2 => payload.resize(FRAME_BYTES + 1, 0),
            _ => {}
        }
        frames.push(Whole { kind, flags, stream: stream & 63, payload });
    }
    frames.iter().for_each(|frame| bytes.extend(frame.bytes()));
    let Some((expected, is_endless)) = joined(frames) else { return };
    let expected = [PREFACE, &expected].concat();
    // As many as there are reads are enough for any.
    for size in [usize::from(*size).max(1) * 7, bytes.len()] {
        let (given, error) = given(&bytes, size);
        assert_eq!(error, is_endless.then_some(io::ErrorKind::FileTooLarge), "in pieces of {size}");
        // What was ready when a head turned out to have no end may not have been asked for yet.
        let is_as_expected =
            if is_endless { expected.starts_with(&given) } else { expected == given };
        assert!(is_as_expected, "in pieces of {size}: {:?}", differ(&expected, &given));
    }
}

/// Where they do.
fn differ(one: &[u8], other: &[u8]) -> (usize, usize, usize) {
    let at = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    (at, one.len(), other.len())
}

#[derive(Debug)]
struct Whole {
    kind: u8,
    flags: u8,
    stream: u8,
    payload: Vec<u8>,
}

impl Whole {
    fn bytes(&self) -> Vec<u8> {
        let Self { kind, flags, stream, payload } = self;
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[*kind, *flags, 0, 0, 0, *stream], payload].concat()
    }

    /// With a length that nobody takes.
    fn refused(&self) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes[..3].fill(0xff);
        bytes
    }

    fn is_large(&self) -> bool {
        self.payload.len() > FRAME_BYTES
    }

    /// The head's own part of the first frame of one that is cut, without padding.
    fn without_padding(&self) -> Option<Self> {
        let (mut rest, mut padding) = (&self.payload[..], 0);
        if self.flags & PADDED != 0 {
            let (length, after) = rest.split_first()?;
            (rest, padding) = (after, usize::from(*length));
        }
        let own = rest.len().checked_sub(padding)?;
        let priority = if self.flags & PRIORITY == 0 { 0 } else { 5 };
        let payload = rest[..own].to_vec();
        let flags = self.flags & !PADDED;
        (own >= priority).then_some(Self { kind: self.kind, flags, stream: self.stream, payload })
    }
}

/// What of all frames goes to the library, and whether a head has no end. `None` if one ends with the very
/// frame with which it is too long: that depends on the pieces.
fn joined(frames: Vec<Whole>) -> Option<(Vec<u8>, bool)> {
    let (mut given, mut held) = (Vec::new(), None::<(Whole, usize)>);
    for frame in frames {
        let is_next = |(head, _): &(Whole, usize)| {
            (frame.kind, frame.stream) == (CONTINUATION, head.stream) && !frame.is_large()
        };
        if let Some((head, bytes)) = held.as_mut().filter(|held| is_next(held)) {
            *bytes += 9 + frame.payload.len();
            if *bytes > LIMITS.held as usize {
                return (frame.flags & END_HEADERS == 0).then_some((given, true));
            }
            head.payload.extend(&frame.payload);
            head.flags |= frame.flags & END_HEADERS;
            if head.flags & END_HEADERS != 0 {
                given.extend(head.bytes());
                held = None;
            }
            continue;
        }
        if let Some((head, _)) = held.take() {
            // It is followed by what may not be there, of which nothing may be lost.
            given.extend(head.bytes());
        } else if (frame.kind, frame.flags & (END_STREAM | PADDED)) == (DATA, 0)
            && frame.payload.is_empty()
            && frame.stream > 0
        {
            continue;
        }
        if frame.is_large() {
            given.extend(frame.refused());
        } else if frame.kind == HEADERS && frame.flags & END_HEADERS == 0 {
            match frame.without_padding() {
                Some(head) => held = Some((head, 9 + frame.payload.len())),
                None => given.extend(frame.bytes()),
            }
        } else {
            given.extend(frame.bytes());
        }
    }
    Some((given, false))
}

/// What is given on of bytes that come in pieces of a size, and how that ends before they do.
fn given(bytes: &[u8], size: usize) -> (Vec<u8>, Option<io::ErrorKind>) {
    let gauges = Arc::default();
    let mut heads = WholeHeads::of_client(Pieces { rest: bytes, size }, LIMITS, &gauges);
    let mut given = Vec::new();
    let mut room = vec![0; size.max(3)];
    loop {
        let mut buffer = ReadBuf::new(&mut room);
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut heads).poll_read(&mut context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return (given, None),
            Poll::Ready(Ok(())) => given.extend_from_slice(buffer.filled()),
            Poll::Ready(Err(error)) => return (given, Some(error.kind())),
            Poll::Pending => panic!("waits for nothing"),
        }
    }
}

/// A socket on which bytes come.
#[derive(Debug)]
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let count = this.rest.len().min(this.size).min(buffer.remaining());
        let (piece, rest) = this.rest.split_at(count);
        buffer.put_slice(piece);
        this.rest = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
