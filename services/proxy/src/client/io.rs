//! A client's socket as HTTP/2 uses it: notes what moves on it and what frames come in.

use std::{
    cell::RefCell,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::{Socket, activity::Activity, frames::FrameWatch, refusals::Refusals, untaken::Untaken};
use crate::http2::whole_heads::PREFACE;

/// GOAWAY with the error ENHANCE_YOUR_CALM, about any stream (RFC 9113 §6.8, §7).
const CALM_DOWN: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// A client's socket.
#[derive(Debug)]
pub(super) struct ClientIo {
    /// Who serves it has it back when nobody uses this any more: what this is given to keeps it.
    socket: Rc<RefCell<Socket>>,
    activity: Rc<Activity>,
    /// What was read to find out the protocol and still is to be given to a reader.
    held: BytesMut,
    frames: FrameWatch,
    refusals: Refusals,
    untaken: Rc<Untaken>,
}

impl ClientIo {
    /// `held` was read to find out the protocol: the preface and what came with it.
    ///
    /// # Errors
    /// It is more than a client may send.
    pub(super) fn new(
        socket: &Rc<RefCell<Socket>>,
        held: BytesMut,
        (mut frames, refusals, untaken): (FrameWatch, Refusals, &Rc<Untaken>),
        activity: &Rc<Activity>,
    ) -> io::Result<Self> {
        let first = held.get(PREFACE.len()..).unwrap_or_default();
        see(&mut frames, first, &socket.borrow().stream, activity)?;
        untaken.came(frames.take_data());
        let (socket, activity) = (Rc::clone(socket), Rc::clone(activity));
        Ok(Self { socket, activity, held, frames, refusals, untaken: Rc::clone(untaken) })
    }

    /// Notes how a write of these parts went.
    fn wrote(&mut self, parts: &[io::IoSlice<'_>], result: &Poll<io::Result<usize>>) {
        self.activity.wrote(result.is_pending());
        if let Poll::Ready(Ok(bytes)) = result {
            self.frames.wrote(*bytes);
            let mut left = *bytes;
            for part in parts {
                let (gone, _) = part.split_at(left.min(part.len()));
                self.refusals.see(gone);
                left -= gone.len();
            }
        }
    }
}

/// Takes note of what has come in.
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
        calm_down(stream, activity);
        io::ErrorKind::QuotaExceeded
    })?;
    activity.note_stream_head(frames.is_in_head());
    Ok(())
}

/// Tells a client, if possible, that its connection ends because it does too much of something.
pub(super) fn calm_down(stream: &TcpStream, activity: &Activity) {
    if !activity.is_blocked() {
        // All frames before it have gone out whole. If it does not, closing says enough.
        let _ = stream.try_write(CALM_DOWN);
    }
}

/// Whether the client has left, with things on their way that nobody reads. Nobody is woken for that:
/// it is asked about now and then.
fn has_ended(stream: &TcpStream) -> bool {
    let ended = pin!(stream.ready(Interest::PRIORITY | Interest::ERROR));
    ended.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, activity, held, frames, untaken, .. } = self.get_mut();
        if !held.is_empty() {
            let count = held.len().min(buffer.remaining());
            buffer.put_slice(&held[..count]);
            held.advance(count);
            if held.is_empty() {
                *held = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let mut socket = socket.borrow_mut();
        // A head that has begun has to end in time, and one that has left must be seen.
        if !frames.is_head_open()
            && untaken.poll_room(context).is_pending()
            && !has_ended(&socket.stream)
        {
            activity.note_stream_head(false);
            return Poll::Pending;
        }
        ready!(Pin::new(&mut socket.stream).poll_read(context, buffer))?;
        see(frames, &buffer.filled()[before..], &socket.stream, activity)?;
        untaken.came(frames.take_data());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket.borrow_mut().stream).poll_write(context, bytes);
        this.wrote(&[io::IoSlice::new(bytes)], &result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result =
            Pin::new(&mut this.socket.borrow_mut().stream).poll_write_vectored(context, parts);
        this.wrote(parts, &result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.borrow().stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket.borrow_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket.borrow_mut().stream).poll_shutdown(context)
    }
}
