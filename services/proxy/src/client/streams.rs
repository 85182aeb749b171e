//! The streams of an HTTP/2 connection, and which of them their client has left standing.
//!
//! A client that gives a stream no room (RFC 9113 §5.2) stops only that stream, so that how long the
//! socket takes nothing, which limits clients of HTTP/1, does not show it. hyper then waits for room
//! without asking the response's body for more, for as long as the client likes. Ended from outside,
//! the stream's task drops its stream, which resets it.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::{task::AbortHandle, time::Instant};

use crate::body::{Cut, ResponseBody};

/// Streams that have ended are forgotten when so many have gathered.
const ENDED_MAX: usize = 64;

/// What hyper gets of a body at once. It takes a part whole as soon as the client has room for one
/// byte; a longer one would wait in memory.
const PART_BYTES: usize = 16 * 1024;

/// How a response's body moves towards the client.
#[derive(Debug)]
pub(super) struct Progress {
    /// When a part was last taken.
    taken: Cell<Instant>,
    /// Whether the client has to make room for that part; otherwise we wait for the backend.
    waits_for_client: Cell<bool>,
}

impl Progress {
    fn new() -> Rc<Self> {
        Rc::new(Self { taken: Cell::new(Instant::now()), waits_for_client: Cell::new(false) })
    }

    fn is_stalled(&self, limit: Duration) -> bool {
        self.waits_for_client.get() && self.taken.get().elapsed() >= limit
    }
}

/// The streams of one connection. Also what runs their tasks on this thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// That of the request that hyper has just given us. It starts the stream's task right after.
    next: RefCell<Option<Rc<Progress>>>,
    running: RefCell<Vec<(Rc<Progress>, AbortHandle)>>,
}

impl Streams {
    /// A request has come whose task starts next.
    pub(super) fn begin(&self) -> Rc<Progress> {
        let progress = Progress::new();
        self.0.next.replace(Some(Rc::clone(&progress)));
        progress
    }

    /// Resets the streams whose client has made no room for `limit`, and tells how many.
    pub(super) fn reset_stalled(&self, limit: Duration) -> u64 {
        let mut count = 0;
        self.0.running.borrow_mut().retain(|(progress, task)| {
            let is_stalled = !task.is_finished() && progress.is_stalled(limit);
            if is_stalled {
                task.abort();
                count += 1;
            }
            !is_stalled && !task.is_finished()
        });
        count
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let task = tokio::task::spawn_local(stream).abort_handle();
        let Some(progress) = self.0.next.take() else { return };
        let mut running = self.0.running.borrow_mut();
        if running.len() >= ENDED_MAX {
            running.retain(|(_, task)| !task.is_finished());
        }
        running.push((progress, task));
    }
}

/// A response's body on an HTTP/2 stream.
#[derive(Debug)]
pub(super) struct StreamBody {
    pub(super) body: ResponseBody,
    pub(super) progress: Rc<Progress>,
    /// What remains of a long part.
    rest: Bytes,
}

impl StreamBody {
    pub(super) fn new(body: ResponseBody, progress: Rc<Progress>) -> Self {
        Self { body, progress, rest: Bytes::new() }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.rest.is_empty() {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                None => return Poll::Ready(None),
            }
        }
        let part = self.rest.split_to(self.rest.len().min(PART_BYTES));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let frame = this.next(context);
        this.progress.waits_for_client.set(frame.is_ready());
        if frame.is_ready() {
            this.progress.taken.set(Instant::now());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// What is left of it: bytes of a long part are no longer the body's own.
    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn body(text: &'static [u8], streams: &Streams) -> StreamBody {
        StreamBody::new(ResponseBody::Own(Some(Bytes::from_static(text))), streams.begin())
    }

    #[tokio::test]
    async fn a_long_part_goes_on_in_pieces_and_ends_with_the_last() {
        let mut body = body(&[7; 2 * PART_BYTES + 1], &Streams::default());
        assert_eq!(body.size_hint().exact(), Some(2 * PART_BYTES as u64 + 1));
        let mut lengths = Vec::new();
        while !body.is_end_stream() {
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            lengths.push(frame.unwrap().unwrap().into_data().unwrap().len());
        }
        assert_eq!(lengths, [PART_BYTES, PART_BYTES, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_stream_whose_client_makes_no_room_for_its_part_is_reset() {
        let streams = Streams::default();
        tokio::task::LocalSet::new()
            .run_until(async {
                let mut stalled = body(b"x", &streams);
                poll_fn(|context| Pin::new(&mut stalled).poll_frame(context)).await;
                // Holds its part and waits, as hyper does.
                streams.execute(async move {
                    std::future::pending::<()>().await;
                    drop(stalled);
                });
                // Has taken nothing yet: the backend is slow, not the client.
                let waiting = body(b"x", &streams);
                streams.execute(async move {
                    std::future::pending::<()>().await;
                    drop(waiting);
                });
                assert_eq!(streams.reset_stalled(LIMIT), 0);
                tokio::time::advance(LIMIT).await;
                assert_eq!((streams.reset_stalled(LIMIT), streams.reset_stalled(LIMIT)), (1, 0));
                assert_eq!(streams.0.running.borrow().len(), 1);
            })
            .await;
    }
}
