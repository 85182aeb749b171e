//! A WebSocket on a stream of HTTP/2: what its client says and is told (RFC 8441 §5).
//!
//! For the tunnel (tunnel.rs) it is what a socket is to it otherwise: the end of a direction is the end of
//! its stream, and what breaks off resets it. The limits for clients that take a response too slowly are
//! not for it, as a tunnel's client may pause for as long as that may be silent. So what waits for one
//! in the library is a single part, and the rest is not read from its backend.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::SendStream;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{PART_BYTES, Part, Progress, cost};
use crate::{
    body::ClientBody,
    http2,
    limits::{FieldLimits, Sender},
    tunnel::{Ended, GOOD_BYE, Tunnel},
};

/// Carries what both sides say until that is over.
pub(in crate::client) async fn carry(
    mut tunnel: Tunnel,
    stream: SendStream<Part>,
    progress: Rc<Progress>,
) {
    progress.is_tunnel.set(true);
    let said = tunnel.take_said();
    let stream = Rc::new(RefCell::new(stream));
    let side = Side { said, rest: Bytes::new(), stream: Rc::clone(&stream), progress };
    let progress = Rc::clone(&side.progress);
    let gone = poll_fn(|context| stream.borrow_mut().poll_reset(context).map(drop));
    if tunnel.run_on_stream(side, gone).await == Ended::Whole {
        return;
    }
    // A reset throws away what has not gone out, which may be why it broke off.
    let gone_out = poll_fn(|context| progress.poll_gone_out(context));
    let _ = tokio::time::timeout(GOOD_BYE, gone_out).await;
    stream.borrow_mut().send_reset(h2::Reason::CANCEL);
}

/// Nothing but data may come on it (RFC 9113 §8.5).
const NO_FIELDS: FieldLimits = FieldLimits { sender: Sender::Client, bytes: 0, count: 0 };

/// A client's side.
struct Side {
    said: ClientBody,
    /// What remains of the part that came last.
    rest: Bytes,
    stream: Rc<RefCell<SendStream<Part>>>,
    progress: Rc<Progress>,
}

impl AsyncRead for Side {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { said, rest, .. } = self.get_mut();
        while rest.is_empty() {
            let Some(frame) = ready!(said.poll_frame(context, NO_FIELDS)) else {
                return Poll::Ready(Ok(()));
            };
            let data = frame.ok().map(Frame::into_data).and_then(Result::ok);
            *rest = data.ok_or(io::ErrorKind::ConnectionAborted)?;
        }
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Side {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, progress, .. } = self.get_mut();
        ready!(progress.poll_gone_out(context));
        let mut stream = stream.borrow_mut();
        if ready!(http2::poll_room(&mut stream, context)).is_err() {
            return gone();
        }
        let count = bytes.len().min(PART_BYTES);
        progress.held.add(cost(count));
        let part = Part::new(Bytes::copy_from_slice(&bytes[..count]), progress);
        stream.send_data(part, false).map_or_else(|_| gone(), |()| Poll::Ready(Ok(count)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends its direction, once all before has gone out: with the end in the library nobody could
    /// reset the stream any more.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, progress, .. } = self.get_mut();
        ready!(progress.poll_gone_out(context));
        let ended = stream.borrow_mut().send_data(Part::default(), true);
        ended.map_or_else(|_| gone(), |()| Poll::Ready(Ok(())))
    }
}

/// There is no stream any more.
fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
}
