//! A response's body, as it arrives from a backend of HTTP/1.1.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Framing;
use crate::{connection::Connection, error::Reason};

/// A body that is arriving, and the connection on which it does.
#[derive(Debug)]
pub(crate) struct Incoming {
    connection: Box<Connection>,
    framing: Framing,
}

impl Incoming {
    pub(crate) fn new(connection: Box<Connection>, framing: Framing) -> Self {
        Self { connection, framing }
    }

    /// Whether all of it was read.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.framing.is_done()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.framing.left().map_or_else(SizeHint::new, SizeHint::with_exact)
    }

    /// Has no more than this read at once.
    pub(crate) fn read_at_most(&mut self, bytes: usize) {
        self.connection.read_at_most(bytes);
    }

    /// Gives the connection back. What is on it now was not asked for.
    pub(crate) fn into_connection(self) -> Box<Connection> {
        self.connection
    }

    /// The next part of it.
    ///
    /// # Errors
    /// [`Reason::ProtocolError`] if it is not as it was announced, [`Reason::ResetMidBody`] if it
    /// ended too soon.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        loop {
            let next = self.framing.next(&mut self.connection.buffer);
            match next.map_err(|_| Reason::ProtocolError).transpose() {
                Some(frame) => return Poll::Ready(Some(frame)),
                None if self.framing.is_done() => return Poll::Ready(None),
                None => {}
            }
            match ready!(self.connection.poll_fill(context)) {
                Ok(0) if self.framing == Framing::Close => return Poll::Ready(None),
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Reason::ResetMidBody))),
                Ok(_) => {}
            }
        }
    }
}
