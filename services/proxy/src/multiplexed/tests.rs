use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream as StdStream},
    pin::Pin,
    sync::atomic::Ordering,
    task::Poll,
};

use http_body::Body as _;
use tokio::{io::AsyncWriteExt as _, task::LocalSet};

use super::{
    outgoing::{Outgoing, SmallFrames},
    *,
};
use crate::{
    body::{ClientBody, RequestBody, Upload},
    client::uploading,
    settings::Settings,
    stats::Stats,
    upstream::tests::member,
    worker::tests::until,
};

/// The connections to a backend that allows the usual number of streams, and never answers.
pub(super) struct Bench {
    listener: TcpListener,
    multiplexed: Multiplexed,
    pub(super) member: Arc<Member>,
    pub(super) timeouts: Timeouts,
}

impl Bench {
    pub(super) fn new() -> Self {
        let settings = Settings::from_variables(&[]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            member: member(listener.local_addr().unwrap()),
            listener,
            multiplexed: Multiplexed::new(&Stats::new(1).gauges[0], FieldLimits::USUAL),
            timeouts: settings.timeouts,
        }
    }

    /// How many requests are under way.
    pub(super) fn under_way(&self) -> i64 {
        self.multiplexed.gauges.client_active.load(Ordering::Relaxed)
    }

    pub(super) async fn take(&self) -> Stream {
        self.multiplexed.take(&self.member, None, &self.timeouts).await.unwrap()
    }

    /// Takes a place on a new connection; with the backend's end of it.
    pub(super) async fn take_new(&self) -> (Stream, StdStream) {
        let listener = self.listener.try_clone().unwrap();
        let accepting = std::thread::spawn(move || {
            let mut peer = listener.accept().unwrap().0;
            peer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
            peer
        });
        let stream = self.take().await;
        assert!(!stream.is_kept);
        (stream, accepting.join().unwrap())
    }

    fn closes(&self) -> u64 {
        self.multiplexed.gauges.backend_idle_closed.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_this_instant_is_not_used() {
    let local = LocalSet::new();
    let test = async {
        let bench = Bench::new();
        let (stream, peer) = bench.take_new().await;
        drop(stream);
        assert!(bench.take().await.is_kept);
        // Nothing is awaited from here on, so that nobody has told us of the end yet.
        drop(peer);
        let (_stream, _peer) = bench.take_new().await;
        assert_eq!(bench.closes(), 1);
    };
    local.run_until(test).await;
}

#[tokio::test]
async fn a_connection_is_given_up_when_it_has_been_idle_for_as_long_as_is_set() {
    let local = LocalSet::new();
    let test = async {
        let bench = Bench::new();
        let limit = bench.timeouts.upstream_idle;
        let just = limit - Duration::from_millis(1);
        for is_taken in [true, false] {
            let (stream, mut peer) = bench.take_new().await;
            drop(stream);
            tokio::time::pause();
            tokio::time::advance(just).await;
            bench.multiplexed.close_idle(limit);
            let stream = bench.take().await;
            assert!(stream.is_kept);
            // It is not idle, however long that takes.
            tokio::time::advance(limit * 2).await;
            bench.multiplexed.close_idle(limit);
            drop(stream);
            tokio::time::advance(just).await;
            bench.multiplexed.close_idle(limit);
            tokio::time::advance(limit - just).await;
            if is_taken {
                let free = bench.multiplexed.free(
                    &bench.member,
                    Wanted { since: None, is_alone: false },
                    limit,
                );
                assert!(free.is_none(), "it is not used");
            }
            bench.multiplexed.close_idle(limit);
            tokio::time::resume();
            peer.set_nonblocking(true).unwrap();
            until(|| peer.read(&mut [0; 64]).is_ok_and(|count| count == 0)).await;
            assert_eq!(bench.closes(), 0, "it was we who closed");
        }
    };
    local.run_until(test).await;
}

#[tokio::test]
async fn a_backend_that_never_allows_a_stream_is_left_when_the_time_to_connect_is_over() {
    let local = LocalSet::new();
    let test = async {
        let bench = Bench::new();
        let limit = bench.timeouts.connect;
        tokio::time::pause();
        let start = Instant::now();
        let taken = bench.multiplexed.take(&bench.member, None, &bench.timeouts).await;
        assert_eq!(taken.err(), Some(NoStream::Failed(Reason::ConnectTimeout)));
        // Timers go by the millisecond.
        let late = limit + Duration::from_millis(2);
        assert!((limit..late).contains(&start.elapsed()), "{:?}", start.elapsed());
    };
    local.run_until(test).await;
}

#[tokio::test]
async fn a_connection_is_given_up_before_the_backend_closes_it() {
    let local = LocalSet::new();
    let test = async {
        let bench = Bench::new();
        let (stream, peer) = bench.take_new().await;
        drop(stream);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(1)).await;
        bench.multiplexed.close_idle(bench.timeouts.upstream_idle);
        drop(peer);
        tokio::time::resume();
        let (stream, mut peer) = bench.take_new().await;
        drop(stream);
        assert_eq!(bench.closes(), 1, "after a second");
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(800)).await;
        bench.multiplexed.close_idle(bench.timeouts.upstream_idle);
        tokio::time::resume();
        let (_stream, _peer) = bench.take_new().await;
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        while peer.read(&mut [0; 64]).unwrap() > 0 {}
        assert_eq!(bench.closes(), 1, "it was we who closed");
    };
    local.run_until(test).await;
}

#[tokio::test]
async fn an_upload_whose_backend_has_no_room_does_not_wait_for_its_client() {
    let run = async {
        let bench = Bench::new();
        let (stream, _peer) = bench.take_new().await;
        let (mut client, body) = uploading().await;
        let upload = Upload::of_rate(100, FieldLimits::USUAL, Arc::default(), None);
        let upload = Rc::new(upload);
        let body = RequestBody::Client(ClientBody::Http1(body), Rc::clone(&upload));
        let mut outgoing = Outgoing::new(body, SmallFrames::new(&stream.connection));
        for pieces in ["some", " more"] {
            client.write_all(pieces.as_bytes()).await.unwrap();
            let part = poll_fn(|context| Pin::new(&mut outgoing).poll_frame(context)).await;
            let part = part.unwrap().expect("it is the client's doing");
            assert_eq!(part.into_data().unwrap(), pieces);
            assert!(!upload.waits_for_client());
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(3600)).await;
            tokio::time::resume();
        }
        let more =
            poll_fn(|context| Poll::Ready(Pin::new(&mut outgoing).poll_frame(context))).await;
        assert!(more.is_pending() && upload.waits_for_client());
    };
    LocalSet::new().run_until(run).await;
}
