//! A request's body on its way to a backend of HTTP/2, which shares its connection with those of others.
//!
//! Clients may send it a byte at a time. A backend keeps each frame in a place of its own until it reads
//! it, so it allows only so many small ones on a connection, and ends that beyond. So what is there is sent
//! as one frame. Nothing waits for more: whether a backend has read a small one shows nowhere, and messages
//! that wait for each other are late for one that has. But while a connection has many that the backend has
//! not answered anything to, new requests go elsewhere.
//!
//! The fields after it do not go on. A backend may have answered by then, which nobody here can know for
//! sure, and those made with Go end the connection over fields on a stream that they have ended. Whoever
//! reads messages need not pass them on (RFC 9110 §6.5); a request that announces some does not share.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};

use super::Connection;
use crate::{
    body::{Broken, RequestBody, Upload},
    http2::FRAME_BYTES,
};

/// A part that has so much is sent as it is.
const WHOLE_BYTES: usize = 4 * 1024;

/// What is smaller counts as small: for h2 it costs more than it brings.
const SMALL_BYTES: usize = 256;

/// As many small frames a request has for itself: most with a short body need no more.
const SMALL_FREE: u32 = 4;

/// A connection that has as many beyond those gets no new requests. Backends made with hyper take 2,000 on
/// one, and with h2 as it comes 100 in all.
pub(super) const SMALL_MAX: u32 = 100;

/// The small frames of one request's body that its backend may not have read.
#[derive(Debug)]
pub(super) struct SmallFrames {
    connection: Rc<Connection>,
    count: Cell<u32>,
}

impl SmallFrames {
    pub(super) fn new(connection: &Rc<Connection>) -> Rc<Self> {
        Rc::new(Self { connection: Rc::clone(connection), count: Cell::new(0) })
    }

    /// Those beyond the ones that it has for itself.
    fn excess(&self) -> u32 {
        self.count.get().saturating_sub(SMALL_FREE)
    }

    fn set(&self, count: u32) {
        let all = self.connection.small_frames.get() - self.excess();
        self.count.set(count);
        self.connection.small_frames.set(all + self.excess());
    }

    /// The backend has said something, and so has probably read them.
    pub(super) fn forget(&self) {
        self.set(0);
    }
}

impl Drop for SmallFrames {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The body, without what would end the connection.
pub(super) struct Outgoing {
    body: RequestBody,
    /// `None` if there is no body.
    upload: Option<Rc<Upload>>,
    small: Rc<SmallFrames>,
    /// How often the backend had answered something when that was looked at last.
    answers: u32,
    /// What goes out next.
    gathered: BytesMut,
    /// Fields that come after that, where they may.
    trailers: Option<Frame<Bytes>>,
}

impl Outgoing {
    pub(super) fn new(body: RequestBody, small: Rc<SmallFrames>) -> Self {
        let (upload, gathered) = (body.upload(), BytesMut::new());
        Self { body, upload, small, answers: 0, gathered, trailers: None }
    }

    /// The next part as it comes.
    fn poll_part(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(context));
        let may_pass = |part: &Result<Frame<Bytes>, Broken>| {
            self.small.connection.is_alone || !part.as_ref().is_ok_and(Frame::is_trailers)
        };
        Poll::Ready(next.filter(may_pass))
    }

    /// Counts one that is small.
    fn note_small(&mut self) {
        let answers = self.upload.as_ref().map_or(0, |upload| upload.answers());
        if answers != std::mem::replace(&mut self.answers, answers) {
            self.small.forget();
        }
        self.small.set(self.small.count.get() + 1);
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let mut may_grow = false;
        while this.trailers.is_none() && this.gathered.len() < FRAME_BYTES {
            let Poll::Ready(part) = this.poll_part(context) else {
                may_grow = true;
                break;
            };
            let Some(frame) = part.transpose()? else { break };
            match frame.into_data() {
                Ok(data) if this.gathered.is_empty() && data.len() >= WHOLE_BYTES => {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(data) => this.gathered.extend_from_slice(&data),
                Err(frame) => this.trailers = Some(frame),
            }
        }
        if this.gathered.is_empty() {
            let is_pending = may_grow && this.trailers.is_none();
            return if is_pending {
                Poll::Pending
            } else {
                Poll::Ready(this.trailers.take().map(Ok))
            };
        }
        if may_grow {
            // It is the backend's turn: nobody asks again until that has made room for this.
            this.body.look_away();
        }
        if may_grow && this.gathered.len() < SMALL_BYTES {
            this.note_small();
        }
        Poll::Ready(Some(Ok(Frame::data(this.gathered.split().freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.gathered.is_empty() && self.trailers.is_none() && self.body.is_end_stream()
    }
}
