//! What the HTTP/2 library has of a request's body on its way to a backend.
//!
//! It takes a part as soon as the backend has made room for it, and keeps it until the socket has too: in a
//! place of its own, whatever is in it. So parts count among what waits in memory (buffered.rs), with their
//! places. And where a backend has made room and reads nothing, a client that sends a byte at a time would
//! fill any number of these. So beyond a bound nothing more of the body is asked for; what comes
//! meanwhile goes out as one part (outgoing.rs).

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};

use super::opening::SEND_BUFFER_BYTES;
use crate::{http2::PLACE_BYTES, stats::Gauges};

/// A body whose parts count until they have gone out.
pub(super) struct Queued<B> {
    body: B,
    queue: Rc<Queue>,
}

impl<B> Queued<B> {
    pub(super) fn new(body: B, gauges: &Arc<Gauges>) -> Self {
        let gauges = Arc::clone(gauges);
        let queue = Queue { gauges, bytes: Cell::default(), waker: RefCell::default() };
        Self { body, queue: Rc::new(queue) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Queued<B> {
    type Data = Part;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, B::Error>>> {
        let Self { body, queue } = self.get_mut();
        ready!(queue.poll_room(context));
        let frame = ready!(Pin::new(body).poll_frame(context));
        Poll::Ready(frame.map(|frame| Ok(frame?.map_data(|data| Part::new(data, queue)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// What the library has of one body.
#[derive(Debug)]
struct Queue {
    gauges: Arc<Gauges>,
    /// With the places.
    bytes: Cell<usize>,
    /// Who waits for room.
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        if self.bytes.get() < SEND_BUFFER_BYTES {
            return Poll::Ready(());
        }
        self.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.gauges.buffered.add(bytes, &self.gauges.limits);
    }

    fn subtract(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        self.gauges.buffered.subtract(bytes);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What the library has of a body until it has gone out, or its stream has ended.
#[derive(Debug, Default)]
pub(super) struct Part {
    data: Bytes,
    /// What it costs.
    bytes: usize,
    /// None of the end, if there is nothing in it.
    queue: Option<Rc<Queue>>,
}

impl Part {
    fn new(data: Bytes, queue: &Rc<Queue>) -> Self {
        let bytes = data.len() + PLACE_BYTES;
        queue.add(bytes);
        Self { data, bytes, queue: Some(Rc::clone(queue)) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.subtract(self.bytes);
        }
    }
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.data.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.data
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, future::poll_fn};

    use tokio::task::LocalSet;

    use super::*;

    /// Parts that have come. More may.
    struct Parts(VecDeque<Bytes>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0
                .pop_front()
                .map_or(Poll::Pending, |part| Poll::Ready(Some(Ok(Frame::data(part)))))
        }
    }

    /// A body of which so many parts have come.
    fn queued(count: usize, bytes: usize, gauges: &Arc<Gauges>) -> Queued<Parts> {
        let part = Bytes::from(vec![0; bytes]);
        Queued::new(Parts(std::iter::repeat_n(part, count).collect()), gauges)
    }

    /// The parts that the library gets.
    async fn taken(body: &mut Queued<Parts>) -> Vec<Part> {
        let mut parts = Vec::new();
        let take = |context: &mut Context<'_>| {
            while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(context) {
                parts.extend(frame.into_data());
            }
            Poll::Ready(())
        };
        poll_fn(take).await;
        parts
    }

    #[tokio::test]
    async fn parts_count_with_their_places_until_they_have_gone_out() {
        let gauges = Arc::new(Gauges::default());
        let mut body = queued(3, 100, &gauges);
        let mut parts = taken(&mut body).await;
        for left in (0..=3).rev() {
            assert_eq!(gauges.buffered.bytes(), left * (100 + PLACE_BYTES));
            parts.pop();
        }
        let parts = taken(&mut queued(3, 100, &gauges)).await;
        drop(body);
        assert!(gauges.buffered.bytes() > 0, "the library has them");
        drop(parts);
        assert_eq!(gauges.buffered.bytes(), 0);
    }

    #[tokio::test]
    async fn however_small_parts_are_no_more_is_asked_for_than_may_wait() {
        for bytes in [1, 100, 16 * 1024] {
            let gauges = Arc::new(Gauges::default());
            let mut body = queued(1_000, bytes, &gauges);
            let mut parts = taken(&mut body).await;
            let most = SEND_BUFFER_BYTES + bytes + PLACE_BYTES;
            let waits = gauges.buffered.bytes();
            assert!((SEND_BUFFER_BYTES..most).contains(&waits), "{waits} of {bytes}");
            parts.pop();
            assert_eq!(taken(&mut body).await.len(), 1, "there is room for one");
        }
    }

    #[tokio::test]
    async fn who_waits_for_room_is_woken_when_there_is_some() {
        let run = async {
            let gauges = Arc::new(Gauges::default());
            let mut body = queued(1_000, 1_000, &gauges);
            let mut parts = taken(&mut body).await;
            assert!(parts.len() < 1_000);
            let next = tokio::task::spawn_local(async move {
                poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.is_some()
            });
            tokio::task::yield_now().await;
            assert!(!next.is_finished());
            parts.pop();
            assert!(next.await.unwrap());
        };
        LocalSet::new().run_until(run).await;
    }
}
