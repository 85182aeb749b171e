//! Requests whose clients leave before they are answered.
//!
//! Their streams are reset. A backend that finds a request and its reset together, as it was busy with
//! others, has not even begun with it; and many end the whole connection over more than a few of those at
//! once, with all who are on it: so they fend off clients that reset what they have just sent
//! (CVE-2023-44487). Here that is one client of many, and the others should not pay for it.
//!
//! So only so many are reset that the backend may not have seen yet. Beyond that, streams stay open until it
//! has: until it answers one that was sent later, or the PING that it gets then (RFC 9113 §6.7). That time
//! has passed says nothing, as one that stalls for seconds finds all of it together. Each takes up its place
//! on the connection meanwhile, so that whoever leaves all the time gets more connections.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use h2::{Ping, PingPong, client::ResponseFuture};
use http::Response;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{Connection, Failure, Stream};

/// Streams that are reset though the backend may not have seen them yet. Backends that use hyper, or h2 as
/// it comes, take 20.
const UNSEEN_MAX: usize = 15;

/// How long a backend that has answered a PING may need to begin with what it had read before, which
/// includes what we sent together with that.
const TAKEN_AFTER: Duration = Duration::from_millis(100);

/// PINGs that a backend gets before it answers another request. Those of gRPC take three, and end the
/// connection over more.
const PINGS_MAX: u32 = 2;

/// What a connection knows of those that left.
#[derive(Debug)]
pub(super) struct Left {
    /// Requests that were sent.
    sent: Cell<u64>,
    /// Which of them is the last that the backend has seen, as far as we know.
    seen: Cell<u64>,
    /// Those that were reset and may not have been seen.
    unseen: RefCell<Vec<u64>>,
    /// Wakes those that wait to be reset.
    news: Notify,
    /// What sends PINGs, unless one is under way.
    pings: RefCell<Option<PingPong>>,
    /// PINGs since a request was answered.
    pinged: Cell<u32>,
    /// The longest that one waits to be reset.
    patience: Duration,
}

impl Left {
    pub(super) fn new(pings: Option<PingPong>, patience: Duration) -> Self {
        Self {
            sent: Cell::new(0),
            seen: Cell::new(0),
            unseen: RefCell::default(),
            news: Notify::new(),
            pings: RefCell::new(pings),
            pinged: Cell::new(0),
            patience,
        }
    }

    /// Takes note that the backend has answered a request. It takes them as they come.
    fn answered(&self, number: u64) {
        self.pinged.set(0);
        self.saw(number);
    }

    /// Takes note that the backend has seen a request, and so those that were sent before.
    fn saw(&self, number: u64) {
        if number > self.seen.get() {
            self.seen.set(number);
            self.unseen.borrow_mut().retain(|other| *other > number);
        }
        self.news.notify_waiters();
    }

    /// Whether a request may be reset now. Then it counts as one that was.
    fn may_reset(&self, number: u64) -> bool {
        if number <= self.seen.get() {
            return true;
        }
        let mut unseen = self.unseen.borrow_mut();
        let may_reset = unseen.len() < UNSEEN_MAX;
        if may_reset {
            unseen.push(number);
        }
        may_reset
    }
}

/// Asks the backend whether it has seen what was sent, unless it is being asked, or was too often.
fn ask(connection: &Rc<Connection>) {
    let left = &connection.left;
    if left.pinged.get() >= PINGS_MAX {
        return;
    }
    let Some(mut pings) = left.pings.take() else { return };
    left.pinged.update(|count| count + 1);
    let number = left.sent.get();
    // The answer may never come.
    let connection = Rc::downgrade(connection);
    tokio::task::spawn_local(async move {
        if pings.ping(Ping::opaque()).await.is_err() {
            return;
        }
        sleep(TAKEN_AFTER).await;
        if let Some(connection) = connection.upgrade() {
            connection.left.pings.replace(Some(pings));
            connection.left.saw(number);
        }
    });
}

/// Waits until a request may be reset.
async fn until_may_reset(connection: &Rc<Connection>, number: u64) {
    let left = &connection.left;
    loop {
        let news = left.news.notified();
        ask(connection);
        news.await;
        if left.may_reset(number) {
            return;
        }
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
                self.connection.left.answered(self.number);
            }
        }
        polled
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        let (connection, number) = (Rc::clone(&self.connection), self.number);
        if connection.left.may_reset(number) {
            return;
        }
        let place = Stream::new(&connection, true);
        tokio::task::spawn_local(async move {
            let left = &connection.left;
            tokio::select! {
                answer = answer => {
                    // Of one that comes nobody wants the body.
                    if answer.is_ok() {
                        left.answered(number);
                    }
                }
                _ = timeout(left.patience, until_may_reset(&connection, number)) => {}
            }
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
    const PING: u8 = 6;

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

        /// What is in the frames of a kind that have been sent so far.
        async fn frames(&mut self, kind: u8) -> Vec<Vec<u8>> {
            turns().await;
            let _ = self.stream.read_to_end(&mut self.read);
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            let (mut rest, mut frames) = (&self.read[preface.len()..], Vec::new());
            while let [a, b, c, its_kind, ..] = rest {
                let end = 9 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if *its_kind == kind {
                    frames.push(rest[9..end].to_vec());
                }
                rest = &rest[end..];
            }
            frames
        }

        async fn resets(&mut self) -> usize {
            self.frames(RST_STREAM).await.len()
        }

        /// Answers the last PING, and takes what it has read then. So many PINGs have come.
        async fn look(&mut self) -> usize {
            let pings = self.frames(PING).await;
            let ack = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], &pings.last().unwrap()[..]].concat();
            self.stream.write_all(&ack).unwrap();
            turns().await;
            pass(TAKEN_AFTER).await;
            pings.len()
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

    async fn pass(time: Duration) {
        // Timers go by the millisecond.
        tokio::time::advance(time + Duration::from_millis(2)).await;
        turns().await;
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
            let patience = first.connection.left.patience;
            let mut peer = Peer::new(peer);
            tokio::time::pause();
            let _first = sent(first).await;
            leave(&bench, 60).await;
            assert_eq!(peer.resets().await, UNSEEN_MAX);
            pass(patience / 2).await;
            assert_eq!(peer.resets().await, UNSEEN_MAX, "it has still not looked");
            assert_eq!(peer.look().await, 1);
            assert_eq!(peer.resets().await, 60);
            leave(&bench, 60).await;
            assert_eq!(peer.resets().await, 60 + UNSEEN_MAX);
            pass(patience).await;
            assert_eq!(peer.resets().await, 120, "nobody waits for longer");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_backend_is_not_asked_more_often_than_it_likes() {
        let test = async {
            let bench = Bench::new();
            let (first, peer) = bench.take_new().await;
            let mut peer = Peer::new(peer);
            tokio::time::pause();
            let mut first = sent(first).await;
            for times in 1..=PINGS_MAX as usize {
                leave(&bench, UNSEEN_MAX + 1).await;
                assert_eq!(peer.look().await, times);
            }
            leave(&bench, UNSEEN_MAX + 1).await;
            assert_eq!(peer.frames(PING).await.len(), PINGS_MAX as usize);
            peer.answer(1);
            assert!(first.as_mut().await);
            assert_eq!(peer.look().await, PINGS_MAX as usize + 1);
            assert_eq!(peer.resets().await, 3 * (UNSEEN_MAX + 1));
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
