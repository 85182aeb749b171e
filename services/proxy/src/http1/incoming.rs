//! A response's body, as it arrives from a backend of HTTP/1.1.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Framing;
use crate::{
    connection::Connection,
    error::Reason,
    pipe::{self, Pipe},
};

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

    /// How much of it may go through a pipe: all the rest, if nothing of that has been read.
    pub(crate) fn pipeable(&self) -> u64 {
        match self.framing {
            Framing::Length(left) if self.connection.buffer.is_empty() => left,
            _ => 0,
        }
    }

    /// Takes its next part into an empty pipe, and tells how much that is: nothing if it has to be read
    /// after all.
    ///
    /// # Errors
    /// [`Reason::ResetMidBody`] if it ended too soon.
    pub(crate) fn poll_pipe(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Option<Result<usize, Reason>>> {
        let left = self.pipeable();
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        Poll::Ready(Some(match ready!(self.connection.poll_pipe(context, pipe, most)) {
            Ok(count @ 1..) => {
                self.framing = Framing::Length(left - count as u64);
                Ok(count)
            }
            Err(error) if pipe::is_refused(&error) => Ok(0),
            Ok(0) | Err(_) => Err(Reason::ResetMidBody),
        }))
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
            match next.map_err(|unfit| self.connection.refuse(unfit)).transpose() {
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
