//! Backends that allow few streams, or none.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::{mpsc, watch},
};

use crate::{
    REFUSED_STREAM,
    common::{
        World, any_port,
        frames::{self, END_HEADERS, END_STREAM},
    },
    refusals::{Refusal, answering},
};

// RFC 9113 §6.5.2.
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// What a backend does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It allows as many streams as are set, none at first, and answers 204.
    Allows,
    /// It allows one on the first connection and never answers it, and none on others.
    HasOne,
    /// It allows two on the first connection, of which it never answers the first and refuses the
    /// second as one too many: it has just lowered its limit. On others it answers 204.
    Lowers,
    /// It says nothing.
    Silent,
    /// It speaks HTTP/1.
    Http1,
}

struct Backend {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// Streams that are allowed on each connection.
    allowed: watch::Sender<u32>,
}

impl Backend {
    async fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let [connections, closed, requests] = <[Arc<AtomicUsize>; 3]>::default();
        let allowed = watch::Sender::new(0);
        let (made, ended, seen) = (connections.clone(), closed.clone(), requests.clone());
        let told = allowed.subscribe();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = made.fetch_add(1, Ordering::Relaxed);
                let (ended, seen, mut told) = (ended.clone(), seen.clone(), told.clone());
                match (kind, number) {
                    (Kind::HasOne, _) => told = watch::channel(u32::from(number == 0)).1,
                    (Kind::Lowers, 0) => told = watch::channel(2).1,
                    (Kind::Lowers, _) => told = watch::channel(100).1,
                    _ => {}
                }
                tokio::spawn(async move {
                    serve(stream, kind, number, &seen, told).await;
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, connections, closed, requests, allowed }
    }

    /// A backend that allows enough.
    async fn good() -> Self {
        let backend = Self::start(Kind::Allows).await;
        backend.allowed.send_replace(100);
        backend
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A series of the proxy's that names it, with a reason.
    fn series(&self, name: &str, reason: &str) -> String {
        let backend = self.address;
        format!("{name}{{pool=\"default\",backend=\"{backend}\",reason=\"{reason}\"}}")
    }
}

async fn serve(
    stream: TcpStream,
    kind: Kind,
    number: usize,
    requests: &AtomicUsize,
    mut allowed: watch::Receiver<u32>,
) {
    let (mut reader, mut writer) = stream.into_split();
    match kind {
        Kind::Allows | Kind::HasOne | Kind::Lowers => {}
        Kind::Silent => return drop(reader.read_to_end(&mut Vec::new()).await),
        Kind::Http1 => {
            let _ = writer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return drop(reader.read_to_end(&mut Vec::new()).await);
        }
    }
    let (heads, mut arrived) = mpsc::unbounded_channel();
    tokio::spawn(read_heads(reader, heads));
    allowed.mark_changed();
    loop {
        let frame = tokio::select! {
            Ok(()) = allowed.changed() => {
                allows(*allowed.borrow_and_update())
            }
            head = arrived.recv() => {
                let Some(stream) = head else { return };
                match (kind, number, requests.fetch_add(1, Ordering::Relaxed)) {
                    (Kind::HasOne, ..) | (Kind::Lowers, 0, 0) => continue,
                    (Kind::Lowers, 0, _) => {
                        let refused = REFUSED_STREAM.to_be_bytes();
                        [allows(1), frames::frame(frames::RST_STREAM, 0, stream, &refused)].concat()
                    }
                    // The 204 of the static table (RFC 7541, Appendix A).
                    _ => frames::frame(frames::HEADERS, END_HEADERS | END_STREAM, stream, &[0x89]),
                }
            }
        };
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// What tells how many streams are allowed.
fn allows(streams: u32) -> Vec<u8> {
    let setting = [&MAX_CONCURRENT_STREAMS.to_be_bytes()[..], &streams.to_be_bytes()].concat();
    frames::frame(frames::SETTINGS, 0, 0, &setting)
}

/// Tells the stream of each head that arrives.
async fn read_heads(mut reader: OwnedReadHalf, heads: mpsc::UnboundedSender<u32>) -> Option<()> {
    reader.read_exact(&mut [0; frames::PREFACE.len()]).await.ok()?;
    loop {
        let mut head = [0; 9];
        reader.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        reader.read_exact(&mut vec![0; length as usize]).await.ok()?;
        if head[3] == frames::HEADERS {
            heads.send(u32::from_be_bytes([head[5], head[6], head[7], head[8]])).ok()?;
        }
    }
}

/// A proxy over backends of which the first is asked as long as it can be.
async fn over(backends: &[&Backend], connect_timeout: &str) -> World {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let variables = [
        ("PROXY_PROBE", "off"),
        ("PROXY_POLICY", "first"),
        ("PROXY_RETRIES", "0"),
        ("PROXY_CONNECT_TIMEOUT", connect_timeout),
        // Longer than a test has patience for.
        ("PROXY_RESPONSE_TIMEOUT", "5m"),
    ];
    crate::over(&addresses, &variables).await
}

/// Something that must not be done twice.
fn post(world: &World) -> impl Future<Output = reqwest::Response> + Send + 'static {
    let request = world.client.post(world.url("/")).body("what is to be done once");
    async move { request.send().await.unwrap() }
}

fn get(world: &World) -> impl Future<Output = reqwest::Response> + Send + 'static {
    let request = world.client.get(world.url("/"));
    async move { request.send().await.unwrap() }
}

#[tokio::test]
async fn a_backend_that_has_no_stream_for_a_request_in_time_counts_as_not_connected() {
    for (kind, status, reason) in [
        (Kind::Allows, 504, "connect_timeout"),
        (Kind::Silent, 504, "connect_timeout"),
        (Kind::Http1, 502, "protocol_error"),
    ] {
        let backend = Backend::start(kind).await;
        let world = over(&[&backend], "200ms").await;
        let answer = post(&world).await;
        assert_eq!(answer.status(), status, "{kind:?}");
        let said = answer.headers()["proxy-status"].to_str().unwrap();
        assert!(said.contains(reason), "{kind:?}: {said}");
        assert_eq!(backend.requests(), 0, "{kind:?}");
        let failures = backend.series("evenkeel_failures_total", reason);
        world
            .until("the failure to be counted", async || world.metric(&failures).await > 0.0)
            .await;
        let is_closed = async || backend.closed.load(Ordering::Relaxed) == backend.connections();
        world.until("its connection to be closed", is_closed).await;
    }
}

#[tokio::test]
async fn what_found_no_stream_is_sent_elsewhere_whatever_it_is() {
    for kind in [Kind::Allows, Kind::Silent] {
        let (none, good) = (Backend::start(kind).await, Backend::good().await);
        let world = over(&[&none, &good], "2s").await;
        assert_eq!(post(&world).await.status(), 204, "{kind:?}");
        assert_eq!((none.requests(), good.requests()), (0, 1), "{kind:?}");
        let retries = none.series("evenkeel_retries_total", "connect_timeout");
        world.until("the retry to be counted", async || world.metric(&retries).await == 1.0).await;
    }
}

#[tokio::test]
async fn a_backend_whose_streams_are_all_taken_is_left_for_another_one() {
    let (busy, good) = (Backend::start(Kind::HasOne).await, Backend::good().await);
    let world = over(&[&busy, &good], "2s").await;
    let held = tokio::spawn(post(&world));
    world.until("its stream to be taken", async || busy.requests() == 1).await;
    assert_eq!(post(&world).await.status(), 204);
    assert_eq!((busy.requests(), good.requests()), (1, 1));
    held.abort();
}

#[tokio::test]
async fn a_stream_that_is_allowed_in_time_is_taken() {
    let backend = Backend::start(Kind::Allows).await;
    let world = over(&[&backend], "1m").await;
    let requests: Vec<_> = (0..3).map(|_| tokio::spawn(post(&world))).collect();
    let id = backend.address.to_string();
    let wait = async || world.backend(&id).await["in_flight"] == 3;
    world.until("the requests to wait", wait).await;
    assert_eq!(backend.requests(), 0);
    backend.allowed.send_replace(3);
    for request in requests {
        assert_eq!(request.await.unwrap().status(), 204);
    }
    assert_eq!((backend.requests(), backend.connections()), (3, 1));
}

#[tokio::test]
async fn what_a_backend_refuses_as_it_lowers_its_limit_is_sent_again_at_no_cost() {
    let backend = Backend::start(Kind::Lowers).await;
    let world = over(&[&backend], "1m").await;
    let held = tokio::spawn(get(&world));
    world.until("a stream to be taken", async || backend.requests() == 1).await;
    assert_eq!(get(&world).await.status(), 204);
    assert_eq!((backend.requests(), backend.connections()), (3, 2));
    held.abort();
}

#[tokio::test]
async fn who_waits_for_a_connection_that_others_make_in_vain_has_seen_nothing_of_the_backend() {
    // It takes connections, and nobody says anything on them.
    let silent = any_port();
    let silent_address = silent.local_addr().unwrap();
    let (good, _) = answering(Refusal::Stream).await;
    let variables = [
        ("PROXY_BACKEND_PROTOCOL", "h2c"),
        ("PROXY_PROBE", "off"),
        ("PROXY_POLICY", "first"),
        ("PROXY_CONNECT_TIMEOUT", "1s"),
    ];
    let list = format!("http://{silent_address},http://{good}");
    let world = World::over(&list, &variables, vec![]);
    world.until_eligible(2).await;
    // They come one after the other, and all within half of that time.
    let world = &world;
    let asked = (0..20).map(|index| async move {
        tokio::time::sleep(Duration::from_millis(5 * index)).await;
        world.get("/").await
    });
    for (status, _) in futures_util::future::join_all(asked).await {
        assert_eq!(status, 204);
    }
    let silent_backend = world.backend(&silent_address.to_string()).await;
    assert_eq!(silent_backend["health"], "up", "{silent_backend}");
}
