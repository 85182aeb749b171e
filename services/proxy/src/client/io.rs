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

/// What a client of HTTP/2 sends first (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// GOAWAY with the error ENHANCE_YOUR_CALM, about any stream (RFC 9113 §6.8, §7).
const CALM_DOWN: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// Where the settings begin in their frame, how long one is, and how that begins which says what a
/// head may have (RFC 9113 §6.5).
const SETTINGS_AT: usize = 9;
const SETTING_BYTES: usize = 6;
const MAX_HEADER_LIST_SIZE: [u8; 2] = [0, 6];

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
    /// What is yet to be announced as the most that a head may have.
    header_bytes: Option<u32>,
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
        (activity, header_bytes): (&Rc<Activity>, u32),
    ) -> io::Result<Self> {
        let first = held.get(PREFACE.len()..).unwrap_or_default();
        see(&mut frames, first, &socket.borrow().stream, activity)?;
        untaken.came(frames.take_data());
        let (socket, activity) = (Rc::clone(socket), Rc::clone(activity));
        let (header_bytes, untaken) = (Some(header_bytes), Rc::clone(untaken));
        Ok(Self { socket, activity, held, frames, refusals, header_bytes, untaken })
    }

    /// Writes the first that goes out, the library's settings: with the limit for a head at which we
    /// refuse it, where the library says how far it reads, for us to be able to.
    fn poll_announce(
        &mut self,
        context: &mut Context<'_>,
        settings: &[u8],
        header_bytes: u32,
    ) -> Poll<io::Result<usize>> {
        let mut settings = settings.to_vec();
        let begin = SETTINGS_AT.min(settings.len());
        let (header, values) = settings.split_at_mut(begin);
        let length = header.get(2).map_or(0, |length| usize::from(*length)).min(values.len());
        for setting in values[..length].chunks_exact_mut(SETTING_BYTES) {
            if setting.starts_with(&MAX_HEADER_LIST_SIZE) {
                setting[2..].copy_from_slice(&header_bytes.to_be_bytes());
            }
        }
        let mut socket = self.socket.borrow_mut();
        let result = Pin::new(&mut socket.stream).poll_write(context, &settings);
        drop(socket);
        if matches!(result, Poll::Ready(Ok(count)) if count > 0) {
            self.header_bytes = None;
        }
        self.wrote(&[io::IoSlice::new(&settings)], &result);
        result
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
        if !activity.is_blocked() {
            // All frames before it have gone out whole. If it does not, closing says enough.
            let _ = stream.try_write(CALM_DOWN);
        }
        io::ErrorKind::QuotaExceeded
    })?;
    activity.note_stream_head(frames.is_in_head());
    Ok(())
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
        if let Some(header_bytes) = this.header_bytes {
            return this.poll_announce(context, bytes, header_bytes);
        }
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
        if let Some(header_bytes) = this.header_bytes {
            let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
            return this.poll_announce(context, first, header_bytes);
        }
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
