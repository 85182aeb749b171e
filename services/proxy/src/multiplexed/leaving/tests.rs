use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    net::TcpStream,
    pin::Pin,
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
const SETTINGS: u8 = 4;
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

    /// Acknowledges the last SETTINGS. So many have come.
    async fn settle(&mut self) -> usize {
        let settings = self.frames(SETTINGS).await;
        self.stream.write_all(&[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0]).unwrap();
        turns().await;
        settings.iter().filter(|settings| !settings.is_empty()).count()
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

/// A request that waits for its answer, and tells whether one came.
type Waiting = Pin<Box<dyn Future<Output = bool>>>;

async fn sent(stream: Stream) -> Waiting {
    sent_with(stream, RequestBody::Empty).await
}

async fn sent_with(mut stream: Stream, body: RequestBody) -> Waiting {
    let mut waiting = Box::pin(async move {
        let request = Request::get("http://a/").body(()).unwrap();
        stream.exchange(request, body, None).await.is_ok()
    });
    let is_waiting = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending()));
    assert!(is_waiting.await);
    waiting
}

/// Runs a test on a connection on which a first request waits.
async fn with_one_waiting(test: impl AsyncFnOnce(Bench, Waiting, Peer)) {
    let run = async {
        let bench = Bench::new();
        let (first, peer) = bench.take_new().await;
        let peer = Peer::new(peer);
        let first = sent(first).await;
        test(bench, first, peer).await;
    };
    LocalSet::new().run_until(run).await;
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
    with_one_waiting(async |bench, _first, mut peer| {
        let patience = bench.timeouts.response;
        tokio::time::pause();
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
    })
    .await;
}

#[tokio::test]
async fn a_backend_is_not_asked_more_often_than_it_likes() {
    with_one_waiting(async |bench, mut first, mut peer| {
        tokio::time::pause();
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
    })
    .await;
}

/// As many servers of gRPC answer nothing for as long as there is nothing to tell.
#[tokio::test]
async fn a_backend_that_answers_nothing_is_asked_by_settings_and_is_busy_with_those_that_left_till_then()
 {
    with_one_waiting(async |bench, _first, mut peer| {
        tokio::time::pause();
        assert_eq!(peer.settle().await, 1);
        for times in 1..=PINGS_MAX as usize {
            leave(&bench, UNSEEN_MAX + 1).await;
            assert_eq!(peer.look().await, times);
        }
        assert_eq!((bench.under_way(), bench.member.in_flight()), (0, 0));
        let all = (PINGS_MAX as usize + 2) * UNSEEN_MAX;
        leave(&bench, 2 * UNSEEN_MAX).await;
        assert_eq!((bench.under_way(), bench.member.in_flight()), (15, 15));
        pass(SETTINGS_EVERY * 5).await;
        assert_eq!(peer.resets().await, all - UNSEEN_MAX + 2, "it has still not looked");
        assert_eq!(peer.settle().await, 2, "none before the last are acknowledged");
        pass(SETTINGS_EVERY).await;
        pass(TAKEN_AFTER).await;
        assert_eq!(peer.resets().await, all + 2);
        assert_eq!((bench.under_way(), bench.member.in_flight()), (0, 0));
        assert_eq!(peer.frames(PING).await.len(), PINGS_MAX as usize);
    })
    .await;
}

#[tokio::test]
async fn those_whose_uploads_break_off_are_not_reset_more_often_than_others() {
    with_one_waiting(async |bench, _first, mut peer| {
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
    })
    .await;
}

#[tokio::test]
async fn those_before_one_that_is_answered_were_seen() {
    with_one_waiting(async |bench, mut first, mut peer| {
        tokio::time::pause();
        leave(&bench, UNSEEN_MAX).await;
        let mut last = sent(bench.take().await).await;
        peer.answer(1);
        assert!(first.as_mut().await);
        leave(&bench, 1).await;
        assert_eq!(peer.resets().await, UNSEEN_MAX, "it was sent before them");
        peer.answer(UNSEEN_MAX as u8 + 2);
        assert!(last.as_mut().await);
        leave(&bench, UNSEEN_MAX).await;
        assert_eq!(peer.resets().await, 2 * UNSEEN_MAX);
    })
    .await;
}
