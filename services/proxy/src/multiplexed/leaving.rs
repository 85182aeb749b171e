//! Requests whose clients leave before they are answered.
//!
//! Their streams are reset. A backend that finds a request and its reset together, as it was busy with
//! others, has not even begun with it; and many end the whole connection over more than a few of those at
//! once, with all who are on it: so they fend off clients that reset what they have just sent
//! (CVE-2023-44487). Here that is one client of many, and the others should not pay for it.
//!
//! So only so many are reset that the backend may not have seen yet. Beyond that, streams stay open until it
//! must have. Each takes up its place on the connection meanwhile, so that whoever leaves all the time gets
//! more connections.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use h2::client::ResponseFuture;
use http::Response;
use tokio::time::{Instant, timeout};

use super::{Connection, Failure, Stream};

/// Streams that are reset though the backend may not have seen them yet. Backends that use hyper, or h2 as
/// it comes, take 20.
const UNSEEN_MAX: usize = 15;

/// After how long a backend has seen a request, if it works at all.
const SEEN_AFTER: Duration = Duration::from_secs(1);

/// What a connection knows of those that left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Requests that were sent.
    sent: Cell<u64>,
    /// Those that were reset and may not have been seen: which of those sent, and when.
    unseen: RefCell<Vec<(u64, Instant)>>,
}

impl Left {
    /// Takes note that the backend has answered a request. It takes them as they come, and has seen those
    /// that were sent before.
    fn saw(&self, number: u64) {
        self.unseen.borrow_mut().retain(|(other, _)| *other > number);
    }

    /// Whether a request may be reset now. Then it counts as one that was.
    fn may_reset(&self, number: u64) -> bool {
        let now = Instant::now();
        let mut unseen = self.unseen.borrow_mut();
        unseen.retain(|(_, at)| now.duration_since(*at) < SEEN_AFTER);
        let may_reset = unseen.len() < UNSEEN_MAX;
        if may_reset {
            unseen.push((number, now));
        }
        may_reset
    }
}

/// A request that has no answer yet. Dropped, it is reset, now or later.
pub(super) struct Unanswered {
    connection: Rc<Connection>,
    /// Until it is answered, or can be no more.
    answer: Option<ResponseFuture>,
    /// Which one it is of those sent on the connection.
    number: u64,
}

impl Unanswered {
    pub(super) fn new(connection: &Rc<Connection>, answer: ResponseFuture) -> Self {
        let number = connection.left.sent.get() + 1;
        connection.left.sent.set(number);
        Self { connection: Rc::clone(connection), answer: Some(answer), number }
    }

    /// Asks for the answer.
    pub(super) fn poll<B>(
        &mut self,
        poll: impl FnOnce(&mut ResponseFuture) -> Poll<Result<Response<B>, Failure>>,
    ) -> Poll<Result<Response<B>, Failure>> {
        let Some(answer) = &mut self.answer else { return Poll::Pending };
        let polled = poll(answer);
        if let Poll::Ready(result) = &polled {
            self.answer = None;
            if result.is_ok() {
                self.connection.left.saw(self.number);
            }
        }
        polled
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        if self.connection.left.may_reset(self.number) {
            return;
        }
        let place = Stream::new(&self.connection, true);
        tokio::task::spawn_local(async move {
            // Of an answer that comes meanwhile nobody wants the body.
            let _ = timeout(SEEN_AFTER, answer).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::{Read as _, Write as _},
        net::TcpStream,
        pin::{Pin, pin},
    };

    use http::Request;
    use tokio::task::{LocalSet, yield_now};

    use super::*;
    use crate::{
        body::{ClientBody, RequestBody, Upload},
        client::uploading,
        multiplexed::tests::Bench,
    };

    const RST_STREAM: u8 = 3;

    /// The backend's end of a connection on which nobody waits for frames.
    struct Peer {
        stream: TcpStream,
        read: Vec<u8>,
    }

    impl Peer {
        fn new(stream: TcpStream) -> Self {
            stream.set_nonblocking(true).unwrap();
            Self { stream, read: Vec::new() }
        }

        /// The resets that have been sent so far.
        async fn resets(&mut self) -> usize {
            turns().await;
            let _ = self.stream.read_to_end(&mut self.read);
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            let (mut rest, mut resets) = (&self.read[preface.len()..], 0);
            while let [a, b, c, kind, ..] = rest {
                resets += usize::from(*kind == RST_STREAM);
                rest = &rest[9 + u32::from_be_bytes([0, *a, *b, *c]) as usize..];
            }
            resets
        }

        /// Answers the request that was sent as this one of all.
        fn answer(&mut self, number: u8) {
            // The 204 of the static table (RFC 7541, Appendix A), with END_HEADERS and END_STREAM.
            self.stream.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 2 * number - 1, 0x89]).unwrap();
        }
    }

    /// Lets the connection write and read. Time stands still.
    async fn turns() {
        for _ in 0..50 {
            yield_now().await;
        }
    }

    /// A request that waits for its answer.
    async fn sent(stream: Stream) -> Pin<Box<impl Future<Output = bool>>> {
        sent_with(stream, RequestBody::Empty).await
    }

    async fn sent_with(
        mut stream: Stream,
        body: RequestBody,
    ) -> Pin<Box<impl Future<Output = bool>>> {
        let mut waiting = Box::pin(async move {
            let request = Request::get("http://a/").body(()).unwrap();
            stream.exchange(request, body, None).await.is_ok()
        });
        let is_waiting =
            poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending()));
        assert!(is_waiting.await);
        waiting
    }

    /// That many requests are sent, and then their clients leave.
    async fn leave(bench: &Bench, count: usize) {
        let mut waiting = Vec::new();
        for _ in 0..count {
            waiting.push(sent(bench.take().await).await);
        }
        turns().await;
    }

    #[tokio::test]
    async fn no_more_are_reset_than_a_backend_takes_that_has_not_looked() {
        let test = async {
            let bench = Bench::new();
            let (first, peer) = bench.take_new().await;
            let mut peer = Peer::new(peer);
            tokio::time::pause();
            let _first = sent(first).await;
            leave(&bench, 60).await;
            assert_eq!(peer.resets().await, UNSEEN_MAX);
            // Timers go by the millisecond.
            tokio::time::advance(SEEN_AFTER + Duration::from_millis(2)).await;
            assert_eq!(peer.resets().await, 60, "it must have looked by now");
            leave(&bench, 60).await;
            assert_eq!(peer.resets().await, 60 + UNSEEN_MAX);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn those_whose_uploads_break_off_are_not_reset_more_often_than_others() {
        let test = async {
            let bench = Bench::new();
            let (first, peer) = bench.take_new().await;
            let mut peer = Peer::new(peer);
            let _first = sent(first).await;
            let (mut clients, mut waiting) = (Vec::new(), Vec::new());
            for _ in 0..60 {
                let (client, body) = uploading().await;
                let body = ClientBody::Http1(body);
                let body = RequestBody::Client(body, Rc::new(Upload::begun()));
                waiting.push(sent_with(bench.take().await, body).await);
                clients.push(client);
            }
            tokio::time::pause();
            assert_eq!(peer.resets().await, 0);
            drop(clients);
            turns().await;
            for mut upload in waiting {
                let ended = poll_fn(|context| Poll::Ready(upload.as_mut().poll(context)));
                assert_eq!(ended.await, Poll::Ready(false));
            }
            assert_eq!(peer.resets().await, UNSEEN_MAX);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn those_before_one_that_is_answered_were_seen() {
        let test = async {
            let bench = Bench::new();
            let (first, peer) = bench.take_new().await;
            let mut peer = Peer::new(peer);
            tokio::time::pause();
            let mut first = sent(first).await;
            leave(&bench, UNSEEN_MAX).await;
            let mut last = pin!(sent(bench.take().await).await);
            peer.answer(1);
            assert!(first.as_mut().await);
            leave(&bench, 1).await;
            assert_eq!(peer.resets().await, UNSEEN_MAX, "it was sent before them");
            peer.answer(UNSEEN_MAX as u8 + 2);
            assert!(last.as_mut().await);
            leave(&bench, UNSEEN_MAX).await;
            assert_eq!(peer.resets().await, 2 * UNSEEN_MAX);
        };
        LocalSet::new().run_until(test).await;
    }
}
