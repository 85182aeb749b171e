//! What follows an attempt that failed: where the next one goes. When it goes, and what becomes of one that
//! is slow, `proxy/src/client/tests/attempts.rs` shows to the millisecond.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    PATIENCE, World,
    raw::{exchange, read_head, status},
};
use futures_util::StreamExt;
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::Semaphore};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A backend that answers so many requests on each connection, and does `then` with the next.
struct Backend {
    address: SocketAddr,
    /// Requests that arrived.
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    /// Never answers.
    Hang,
}

impl Backend {
    async fn start(answers: usize, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (counted, made) = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                made.fetch_add(1, Ordering::Relaxed);
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    for served in 0.. {
                        if read_head(&mut stream).await.is_empty() {
                            return;
                        }
                        counted.fetch_add(1, Ordering::Relaxed);
                        match then {
                            _ if served < answers => stream.write_all(OK).await.unwrap(),
                            Then::Close => return,
                            Then::Hang => std::future::pending().await,
                        }
                    }
                });
            }
        });
        Self { address, requests, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn over(backends: &[&Backend], variables: &[(&str, &str)]) -> World {
    let list = backends.iter().map(|backend| format!("http://{}", backend.address));
    let list = list.collect::<Vec<_>>().join(",");
    let always = [("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1")];
    let world = World::over(&list, &[&always, variables].concat(), vec![]);
    world.until_eligible(backends.len()).await;
    world
}

#[tokio::test]
async fn an_attempt_that_failed_does_not_stand_in_the_way_of_the_next_at_the_same_backend() {
    let only = Backend::start(1, Then::Close).await;
    let world = over(&[&only], &[("PROXY_MAX_IN_FLIGHT", "1")]).await;
    for _ in 0..2 {
        assert_eq!(world.client.get(world.url("/")).send().await.unwrap().status(), 200);
    }
    assert_eq!(only.requests(), 3, "the second request was made twice");
}

#[tokio::test]
async fn what_nobody_else_could_be_asked_for_costs_nothing_of_the_budget() {
    let only = Backend::start(0, Then::Close).await;
    let world = over(&[&only], &[("PROXY_EJECT", "false")]).await;
    // More than a quiet pool may retry.
    for _ in 0..50 {
        assert_eq!(world.client.get(world.url("/")).send().await.unwrap().status(), 502);
    }
    assert_eq!(only.requests(), 50);
    assert_eq!(world.metric("evenkeel_retry_budget_exhausted_total").await, 0.0);
}

fn retries(backend: &Backend, reason: &str) -> String {
    format!(
        "evenkeel_retries_total{{pool=\"default\",backend=\"{}\",reason=\"{reason}\"}}",
        backend.address
    )
}

/// RFC 9110 §10.1.1: nothing is gone of a body that was not asked for.
#[tokio::test]
async fn a_request_whose_body_was_not_asked_for_is_tried_elsewhere_if_it_may_be_sent_twice() {
    let broken = Backend::start(0, Then::Close).await;
    let good = Backend::start(9, Then::Close).await;
    let variables = [("PROXY_POLICY", "first"), ("PROXY_EJECT", "false")];
    let world = over(&[&broken, &good], &variables).await;
    for (method, expected, requests) in [("PUT", 200, (1, 1)), ("POST", 502, (2, 1))] {
        let fields = "Host: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n";
        let request = format!("{method} / HTTP/1.1\r\n{fields}\r\n");
        let answer = exchange(world.proxy.address, &request).await;
        assert_eq!(status(&answer), expected, "{method}: {answer}");
        assert_eq!((broken.requests(), good.requests()), requests, "{method}");
    }
}

/// Between two looks at a backend, as `gone.rs` has it.
const SPACING: Duration = Duration::from_millis(50);

#[tokio::test]
async fn retries_that_the_budget_denies_do_not_cost_a_connection_each() {
    const REQUESTS: usize = 400;
    let broken = [Backend::start(0, Then::Close).await, Backend::start(0, Then::Close).await];
    let world = over(&[&broken[0], &broken[1]], &[("PROXY_EJECT", "false")]).await;
    let start = Instant::now();
    let requests = (0..REQUESTS).map(|_| world.client.get(world.url("/")).send());
    let mut answers = futures_util::stream::iter(requests).buffer_unordered(50);
    while let Some(answer) = answers.next().await {
        assert_eq!(answer.unwrap().status(), 502);
    }
    let denied = world.metric("evenkeel_retry_budget_exhausted_total").await;
    assert!(denied > 100.0, "{denied} were denied");
    for broken in broken {
        let looks = broken.connections() - broken.requests();
        let most = 2 + start.elapsed().as_millis() / SPACING.as_millis();
        assert!(looks as u128 <= most, "{looks} looks, {most} at most, for {denied} denied");
    }
}

#[tokio::test]
async fn a_request_that_a_backend_is_slow_with_is_tried_elsewhere_and_counts_against_it() {
    let (slow, good) = (Backend::start(0, Then::Hang).await, Backend::start(9, Then::Close).await);
    let variables = [
        ("PROXY_POLICY", "first"),
        ("PROXY_TRY_TIMEOUT", "100ms"),
        ("PROXY_EJECT_CONSECUTIVE", "1"),
    ];
    let world = over(&[&slow, &good], &variables).await;
    assert_eq!(world.client.get(world.url("/")).send().await.unwrap().status(), 200);
    assert_eq!((slow.requests(), good.requests()), (1, 1));
    let id = slow.address.to_string();
    let ejected = async || world.backend(&id).await["health"] == "ejected";
    world.until("the slow backend to be ejected", ejected).await;
    let series = retries(&slow, "response_timeout");
    world.until("the retry to be counted", async || world.metric(&series).await == 1.0).await;
}

/// A bound on waits that no random one of them comes near the end of a test's patience.
const VERY_LONG: &str = "24h";

#[tokio::test]
async fn the_first_retry_elsewhere_goes_at_once() {
    let (requests, connections) = Default::default();
    let closed = Backend { address: common::closed_port(), requests, connections };
    let broken = Backend::start(0, Then::Close).await;
    for bad in [closed, broken] {
        let good = Backend::start(9, Then::Close).await;
        let variables = [
            ("PROXY_POLICY", "first"),
            ("PROXY_RETRY_BACKOFF", VERY_LONG),
            ("PROXY_RESPONSE_TIMEOUT", VERY_LONG),
        ];
        let world = over(&[&bad, &good], &variables).await;
        assert_eq!(world.client.get(world.url("/")).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_retry_on_the_same_backend_waits_and_a_client_that_leaves_ends_the_wait() {
    let only = Backend::start(1, Then::Close).await;
    let variables = [
        ("PROXY_RETRY_BACKOFF", VERY_LONG),
        ("PROXY_RESPONSE_TIMEOUT", VERY_LONG),
        ("PROXY_MAX_IN_FLIGHT", "1"),
    ];
    let world = over(&[&only], &variables).await;
    assert_eq!(world.client.get(world.url("/")).send().await.unwrap().status(), 200);
    // Its connection is kept, and breaks.
    let waiting = tokio::spawn(world.client.get(world.url("/")).send());
    // What failed counts at once; what is to follow counts when it does, and takes up no room before.
    let series = retries(&only, "reset_before_headers");
    let failures = series.replace("retries_total", "failures_total");
    world.until("the failure to be counted", async || world.metric(&failures).await == 1.0).await;
    assert_eq!(world.backend(&only.address.to_string()).await["in_flight"], 0);
    assert_eq!(only.requests(), 2);
    waiting.abort();
    let gone = format!(
        "evenkeel_failures_total{{pool=\"default\",backend=\"{}\",reason=\"client_gone\"}}",
        only.address
    );
    world.until("the client to be gone", async || world.metric(&gone).await == 1.0).await;
    assert_eq!((only.requests(), world.metric(&series).await), (2, 0.0));
}

/// A backend that takes connections and resets them, up to so long after: some before the first byte
/// is written to them, half or so of those that come one at a time.
fn resetting() -> SocketAddr {
    const AFTER_MICROS: u64 = 100;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let (start, after) =
                (Instant::now(), Duration::from_micros(fastrand::u64(..AFTER_MICROS)));
            while start.elapsed() < after {
                std::hint::spin_loop();
            }
            // Closed without time to linger, a connection is reset.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    });
    address
}

#[tokio::test]
async fn a_request_of_which_no_byte_was_taken_is_sent_elsewhere_whatever_it_is_body_and_all() {
    let (requests, connections) = Default::default();
    let bad = Backend { address: resetting(), requests, connections };
    let good = common::server(0, common::any_port());
    let backends = format!("http://{},http://{}", bad.address, good.address);
    let variables = [
        ("PROXY_PROBE", "off"),
        ("PROXY_EJECT", "false"),
        ("PROXY_WORKERS", "1"),
        ("PROXY_POLICY", "first"),
        ("PROXY_RETRIES", "0"),
    ];
    let world = World::over(&backends, &variables, vec![good]);
    world.until_eligible(2).await;
    let series = retries(&bad, "reset_before_headers");
    let body = "what is to be done once ".repeat(1_000);
    let is_seen = async || {
        let answer = world.client.post(world.url("/echo")).body(body.clone()).send().await.unwrap();
        // Of most others, something was taken.
        match answer.status().as_u16() {
            200 => assert_eq!(answer.text().await.unwrap(), body),
            status => assert_eq!(status, 502),
        }
        world.metric(&series).await > 2.0
    };
    world.until("requests of which nothing was taken", is_seen).await;
}

/// A backend of which `answers` tells, by the number of the request, whether it answers or closes.
async fn answering<F>(answers: impl Fn(usize) -> F + Clone + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = bool> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answers, requests) = (answers.clone(), Arc::clone(&requests));
            tokio::spawn(async move {
                while !read_head(&mut stream).await.is_empty()
                    && answers(requests.fetch_add(1, Ordering::Relaxed)).await
                {
                    stream.write_all(OK).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_retry_that_waits_for_room_elsewhere_keeps_nobody_from_the_room_that_there_is() {
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let full = answering(move |_| {
        let gate = Arc::clone(&gated);
        async move {
            gate.acquire().await.unwrap().forget();
            true
        }
    })
    .await;
    // It fails once, on a connection that nobody had used.
    let shaky = answering(|number| async move { number > 0 }).await;
    let variables = [
        ("PROXY_PROBE", "off"),
        ("PROXY_EJECT", "false"),
        ("PROXY_POLICY", "first"),
        ("PROXY_MAX_IN_FLIGHT", "1"),
        ("PROXY_QUEUE_TIMEOUT", "60s"),
    ];
    let world = World::over(&format!("http://{full},http://{shaky}"), &variables, vec![]);
    world.until_eligible(2).await;
    let get = || tokio::spawn(world.client.get(world.url("/")).send());
    let in_flight =
        async |id: SocketAddr| world.backend(&id.to_string()).await["in_flight"].clone();
    let first = get();
    world.until("it to be full", async || in_flight(full).await == 1).await;
    let retried = get();
    let failures = format!(
        "evenkeel_failures_total{{pool=\"default\",backend=\"{shaky}\",reason=\"reset_before_headers\"}}"
    );
    world.until("the retry to be decided", async || world.metric(&failures).await == 1.0).await;
    for _ in 0..3 {
        let next = tokio::time::timeout(PATIENCE, get()).await;
        assert_eq!(next.expect("it waits behind the retry").unwrap().unwrap().status(), 200);
    }
    assert!(!retried.is_finished() && !first.is_finished());
    gate.add_permits(2);
    for waiting in [first, retried] {
        assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    }
}
