//! What is to be written to a client: what is short in one piece, what is long as it is, and what is
//! longer still from a pipe.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{io::AsyncWrite, net::TcpStream};

use crate::{
    pipe::{self, Pipe},
    stats::Gauges,
};

/// What is copied rather than written from where it is: a copy of it costs less than another piece.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// Pieces of one write. What is gathered for it has hardly ever more.
const PIECES: usize = 16;

/// Room for a head and a short body.
const TAIL_BYTES: usize = 1024;

/// What is to be written, in its order.
#[derive(Debug, Default)]
pub(crate) struct Out {
    /// What comes first.
    parts: VecDeque<Bytes>,
    /// What comes after that, and may get longer.
    tail: BytesMut,
    /// What comes last: the rest of a long body.
    pipe: Option<Pipe>,
    /// Whether this body has to be read.
    is_pipe_refused: bool,
    /// Bytes that were written, of all that ever was to be.
    written: u64,
}

impl Out {
    pub(crate) fn is_empty(&self) -> bool {
        self.is_read_empty() && self.takes_more()
    }

    /// Whether at most what is in the pipe is left.
    fn is_read_empty(&self) -> bool {
        self.tail.is_empty() && self.parts.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        let piped = self.pipe.as_ref().map_or(0, Pipe::len);
        self.parts.iter().map(Bytes::len).sum::<usize>() + self.tail.len() + piped
    }

    /// What the next part of a body may be taken into of which so much may go through a pipe, if it is
    /// worth that and nothing else is to be written before. It is to be put back.
    pub(super) fn take_pipe(&mut self, pipeable: u64, gauges: &Arc<Gauges>) -> Option<Pipe> {
        if pipeable == 0 || self.is_pipe_refused || !self.is_empty() {
            return None;
        }
        if self.pipe.is_none() && pipeable >= pipe::WORTH_BYTES {
            let pipe = Pipe::new(gauges).ok();
            self.is_pipe_refused = pipe.is_none();
            return pipe;
        }
        self.pipe.take()
    }

    /// Whether something may come behind what there is. What is in the pipe has to go first.
    pub(super) fn takes_more(&self) -> bool {
        self.pipe.as_ref().is_none_or(Pipe::is_empty)
    }

    pub(super) fn put_pipe(&mut self, pipe: Pipe) {
        self.pipe = Some(pipe);
    }

    /// Has what is left of a body be read: somebody else may have the pipe, which is empty.
    pub(super) fn refuse_pipe(&mut self) {
        debug_assert!(self.takes_more());
        (self.pipe, self.is_pipe_refused) = (None, true);
    }

    /// Lets go of the pipe: its body has ended.
    pub(super) fn end_pipe(&mut self) {
        (self.pipe, self.is_pipe_refused) = (None, false);
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Where what comes next can be written.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        if self.tail.is_empty() {
            self.tail.reserve(TAIL_BYTES);
        }
        &mut self.tail
    }

    pub(super) fn push(&mut self, data: Bytes) {
        debug_assert!(self.takes_more(), "it would overtake what is in the pipe");
        if data.len() <= COPIED_BYTES_MAX {
            return self.tail().extend_from_slice(&data);
        }
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
        self.parts.push_back(data);
    }

    /// Moves what is left to where there is nothing else: of a part of which a little is left, all
    /// stays in memory, and so does the buffer into which it was read.
    pub(crate) fn compact(&mut self) {
        let parts = self.parts.iter().map(Bytes::len).sum::<usize>();
        let mut whole = BytesMut::with_capacity(parts + self.tail.len());
        self.parts.iter().for_each(|part| whole.extend_from_slice(part));
        whole.extend_from_slice(&self.tail);
        self.parts.clear();
        self.tail = whole;
    }

    /// Writes once.
    pub(crate) fn poll_write(
        &mut self,
        socket: Pin<&mut impl AsyncWrite>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let count = if self.parts.is_empty() {
            ready!(socket.poll_write(context, &self.tail))?
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let pieces = self.parts.iter().map(Bytes::as_ref).chain([&self.tail[..]]);
            let mut used = 0;
            for (slice, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
                *slice = IoSlice::new(piece);
                used += 1;
            }
            ready!(socket.poll_write_vectored(context, &slices[..used]))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written += count as u64;
        self.advance(count);
        Poll::Ready(Ok(()))
    }

    /// Writes once to a client's socket.
    pub(super) fn poll_send(
        &mut self,
        socket: &mut TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_read_empty() {
            return self.poll_write(Pin::new(socket), context);
        }
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        loop {
            match pipe.drain(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(socket.poll_write_ready(context))?;
                }
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                drained => {
                    return Poll::Ready(drained.map(|count| self.written += count as u64));
                }
            }
        }
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.parts.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.parts.pop_front();
        }
        if count == self.tail.len() {
            self.tail.clear();
        } else {
            self.tail.advance(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn what_is_compacted_is_the_same_and_holds_nothing_else() {
        let part = Bytes::from(vec![b'1'; 3 * COPIED_BYTES_MAX]);
        let mut out = Out::default();
        out.tail().extend_from_slice(b"head");
        out.push(part.clone());
        out.push(Bytes::from_static(b"end"));
        out.advance(4 + part.len() - 2);
        out.compact();
        assert!(part.is_unique());
        out.push(Bytes::from_static(b", and more"));
        assert_eq!((&out.tail[..], out.parts.len()), (&b"11end, and more"[..], 0));
    }

    #[tokio::test]
    async fn what_is_long_and_what_is_short_goes_out_in_order_however_little_is_taken() {
        let (long, longer) = (vec![b'1'; COPIED_BYTES_MAX + 1], vec![b'2'; 3 * COPIED_BYTES_MAX]);
        let (mut ours, mut theirs) = tokio::io::duplex(1000);
        let mut out = Out::default();
        out.tail().extend_from_slice(b"head");
        out.push(Bytes::from_static(b"short"));
        out.push(Bytes::from(long.clone()));
        out.push(Bytes::from(longer.clone()));
        out.push(Bytes::from_static(b"end"));
        let expected = [b"headshort", &long[..], &longer, b"end"].concat();
        assert_eq!(out.len(), expected.len());
        let mut heard = vec![0; expected.len()];
        let write = async {
            while !out.is_empty() {
                poll_fn(|context| out.poll_write(Pin::new(&mut ours), context)).await.unwrap();
            }
        };
        let (_, read) = tokio::join!(write, theirs.read_exact(&mut heard));
        assert_eq!(read.unwrap(), expected.len());
        assert!(heard == expected && out.is_empty());
    }
}
