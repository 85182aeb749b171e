//! A client's socket: notes what moves on it, finds out which protocol it speaks, and keeps from
//! hyper what it would repair.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    activity::{Activity, Phase},
    frames::FrameWatch,
    strict::Strict,
};
use crate::guests::Guest;

/// What a client of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// GOAWAY with the error ENHANCE_YOUR_CALM, about any stream (RFC 9113 §6.8, §7).
const CALM_DOWN: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// What hyper gets instead of the rest of a head that is not valid: a NUL, which is allowed nowhere
/// in a head, and the end without which hyper would go on reading. It answers 400 and closes.
const NOT_VALID: &[u8] = b"\0\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// All that has come so far, which is nothing or little, may be the beginning of the preface.
    Unknown,
    Http1,
    Http2,
}

/// A client's socket.
#[derive(Debug)]
pub(super) struct ClientIo {
    pub(super) stream: TcpStream,
    activity: Arc<Activity>,
    protocol: Protocol,
    /// What was read to find out the protocol and still is to be given to a reader. Empty for
    /// HTTP/1, but for one that begins like the preface.
    held: Vec<u8>,
    /// What a reader before has read and not used: it was checked then, and must not be again.
    unused: Vec<u8>,
    /// Of HTTP/1.
    strict: Strict,
    /// Of HTTP/2.
    frames: Option<Box<FrameWatch>>,
    /// Held for as long as the socket is, also after an upgrade.
    _guest: Option<Guest>,
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, guest: Option<Guest>) -> Self {
        Self {
            stream,
            activity,
            protocol: Protocol::Unknown,
            held: Vec::new(),
            unused: Vec::new(),
            strict: Strict::new(),
            frames: None,
            _guest: guest,
        }
    }

    /// Whether the preface of HTTP/2 has come. Reading has then failed once, to end what had begun
    /// as HTTP/1, and gives it all from its beginning from now on.
    pub(super) fn is_http2(&self) -> bool {
        self.protocol == Protocol::Http2
    }

    /// Watches the frames of HTTP/2 from the first.
    pub(super) fn watch(&mut self, frames: FrameWatch) -> io::Result<()> {
        let frames = self.frames.insert(Box::new(frames));
        see(
            frames,
            self.held.get(PREFACE.len()..).unwrap_or_default(),
            &self.stream,
            &self.activity,
        )
    }

    /// Keeps what somebody has read and not used, for the next reader.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.unused.extend_from_slice(bytes);
    }

    /// Whether a reader would get something without the socket.
    pub(super) fn holds_something(&self) -> bool {
        !self.unused.is_empty()
    }

    /// Reads what comes first on a connection.
    fn poll_opening(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            self.activity.begin_head();
            let read = &buffer.filled()[before..];
            let rest = &PREFACE[self.held.len()..];
            let both = rest.len().min(read.len());
            let agrees = both > 0 && rest[..both] == read[..both];
            if !agrees && self.held.is_empty() {
                self.protocol = Protocol::Http1;
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(read);
            buffer.set_filled(before);
            if !agrees {
                self.protocol = Protocol::Http1;
                return give(&mut self.held, buffer);
            }
            if both == rest.len() {
                self.protocol = Protocol::Http2;
                return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
            }
        }
    }

    /// Notes how a write went.
    fn wrote(&mut self, result: &Poll<io::Result<usize>>) {
        self.activity.wrote(result.is_pending());
        if let (Some(frames), Poll::Ready(Ok(bytes))) = (&mut self.frames, result) {
            frames.wrote(*bytes);
        }
    }

    fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.protocol == Protocol::Unknown {
            return self.poll_opening(context, buffer);
        }
        if !self.held.is_empty() {
            return give(&mut self.held, buffer);
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if result.is_ready() {
            match &mut self.frames {
                None => self.activity.begin_head(),
                Some(frames) => {
                    see(frames, &buffer.filled()[before..], &self.stream, &self.activity)?;
                }
            }
        }
        result
    }

    /// Checks what was read after the first `before` bytes, and takes back what is not valid.
    fn check(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        if self.activity.has_switched() {
            self.strict.switch();
        } else if !self.activity.is(Phase::Busy) {
            self.strict.is_idle();
        }
        let Err(violation) = self.strict.read(&buffer.filled()[before..]) else { return Ok(()) };
        buffer.set_filled(before + violation.valid);
        if violation.is_head && buffer.remaining() >= NOT_VALID.len() {
            buffer.put_slice(NOT_VALID);
        } else if violation.valid == 0 {
            return Err(not_valid());
        }
        Ok(())
    }
}

/// Gives as much of `held` as there is room for.
fn give(held: &mut Vec<u8>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let count = held.len().min(buffer.remaining());
    buffer.put_slice(&held[..count]);
    held.drain(..count);
    Poll::Ready(Ok(()))
}

/// How a body fails that is not valid; hyper's own errors of this sort are of the same kind.
fn not_valid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the message is not valid")
}

/// Takes note of what has come in of HTTP/2.
///
/// # Errors
/// It is more than a client may send; if possible, the client has been told.
fn see(
    frames: &mut FrameWatch,
    bytes: &[u8],
    stream: &TcpStream,
    activity: &Activity,
) -> io::Result<()> {
    frames.see(bytes, activity.now()).map_err(|_| {
        if !activity.is_blocked() {
            // All frames before it have gone out whole. If it does not, closing says enough.
            let _ = stream.try_write(CALM_DOWN);
        }
        io::ErrorKind::QuotaExceeded
    })?;
    activity.note_stream_head(frames.is_in_head());
    Ok(())
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.strict.has_refused() {
            return Poll::Ready(Err(not_valid()));
        }
        if !this.unused.is_empty() {
            return give(&mut this.unused, buffer);
        }
        let before = buffer.filled().len();
        ready!(this.poll_bytes(context, buffer))?;
        let is_http1 = this.protocol == Protocol::Http1;
        Poll::Ready(if is_http1 { this.check(buffer, before) } else { Ok(()) })
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_http2() && !this.held.is_empty() {
            // What ends here is only the HTTP/1 that it was taken for.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}
