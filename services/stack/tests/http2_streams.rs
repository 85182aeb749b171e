//! Backends of HTTP/2 that allow few streams, or none, or have no room on them.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{
    World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::{mpsc, watch},
};

// RFC 9113 §6.5.2 and §7.
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

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
    let list = backends.iter().map(|backend| format!("http://{}", backend.address));
    let variables = [
        ("PROXY_BACKEND_PROTOCOL", "h2c"),
        ("PROXY_WORKERS", "1"),
        ("PROXY_PROBE", "off"),
        ("PROXY_POLICY", "first"),
        ("PROXY_RETRIES", "0"),
        ("PROXY_CONNECT_TIMEOUT", connect_timeout),
        // Longer than a test has patience for.
        ("PROXY_RESPONSE_TIMEOUT", "5m"),
    ];
    let world = World::over(&list.collect::<Vec<_>>().join(","), &variables, vec![]);
    world.until_eligible(backends.len()).await;
    world
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
        let world = over(&[&none, &good], "200ms").await;
        assert_eq!(post(&world).await.status(), 204, "{kind:?}");
        assert_eq!((none.requests(), good.requests()), (0, 1), "{kind:?}");
        let retries = none.series("evenkeel_retries_total", "connect_timeout");
        world.until("the retry to be counted", async || world.metric(&retries).await == 1.0).await;
    }
}

#[tokio::test]
async fn a_backend_whose_streams_are_all_taken_is_left_for_another_one() {
    let (busy, good) = (Backend::start(Kind::HasOne).await, Backend::good().await);
    let world = over(&[&busy, &good], "200ms").await;
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

/// A proxy over a backend of raw frames.
async fn over_raw(variables: &[(&str, &str)]) -> (World, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut all =
        vec![("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_WORKERS", "1"), ("PROXY_PROBE", "off")];
    all.extend(variables);
    let world = World::over(&format!("http://{}", listener.local_addr().unwrap()), &all, vec![]);
    world.until_eligible(1).await;
    (world, listener)
}

/// The backend's end of the proxy's connection.
async fn accepted(listener: &TcpListener, settings: &[u8]) -> RawClient {
    let mut stream = listener.accept().await.unwrap().0;
    stream.set_nodelay(true).unwrap();
    stream.read_exact(&mut [0; frames::PREFACE.len()]).await.unwrap();
    let mut peer = RawClient(stream);
    peer.send(frames::SETTINGS, 0, 0, settings).await;
    peer
}

/// The same, which has no room for bodies until it makes some.
async fn without_room(listener: &TcpListener) -> RawClient {
    accepted(listener, &[&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &[0; 4]].concat()).await
}

/// A client that has begun to upload, and its backend, which answers nevertheless: with the head alone,
/// or with all of it. It is told the stream to the backend too.
async fn answered_upload(
    world: &World,
    listener: &TcpListener,
    (window, body_flags, answer_flags): (u32, u8, u8),
) -> (RawClient, RawClient, u32) {
    let settings = [(INITIAL_WINDOW_SIZE, window)];
    let mut client = RawClient::connect(world.proxy.address, &settings).await;
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    client.send(frames::HEADERS, END_HEADERS, 1, &frames::block(&head)).await;
    client.send(frames::DATA, body_flags, 1, b"the whole").await;
    let mut peer = without_room(listener).await;
    let stream = peer.until(frames::HEADERS).await.unwrap().stream;
    // The 200 of the static table (RFC 7541, Appendix A).
    peer.send(frames::HEADERS, END_HEADERS | answer_flags, stream, &[0x88]).await;
    let answer = client.until(frames::HEADERS).await.unwrap();
    assert_eq!(answer.flags & END_STREAM, answer_flags);
    (client, peer, stream)
}

#[tokio::test]
async fn a_backend_without_room_for_an_upload_hears_that_its_client_has_left() {
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = answered_upload(&world, &listener, (1024, 0, 0)).await;
    client.send(frames::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    assert_eq!(peer.until(frames::RST_STREAM).await.unwrap().stream, stream);
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_is_no_error_of_ours() {
    let (world, listener) = over_raw(&[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    client.send(frames::HEADERS, END_HEADERS, 1, &frames::block(&head)).await;
    client.send(frames::DATA, 0, 1, b"the first part").await;
    let mut stream = listener.accept().await.unwrap().0;
    stream.read_exact(&mut [0; frames::PREFACE.len()]).await.unwrap();
    let mut peer = RawClient(stream);
    peer.send(frames::SETTINGS, 0, 0, &[]).await;
    assert_eq!(peer.until(frames::DATA).await.unwrap().payload, b"the first part");
    client.send(frames::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    let reset = peer.until(frames::RST_STREAM).await.unwrap();
    assert_eq!(reset.payload, CANCEL.to_be_bytes());
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_hears_the_end_of_it_while_it_uploads() {
    let (world, listener) = over_raw(&[("PROXY_WRITE_TIMEOUT", "300ms")]).await;
    let (mut client, mut peer, stream) = answered_upload(&world, &listener, (0, 0, 0)).await;
    peer.send(frames::DATA, 0, stream, b"more than it has room for").await;
    assert_eq!(client.until(frames::RST_STREAM).await.unwrap().stream, 1);
    assert_eq!(peer.until(frames::RST_STREAM).await.unwrap().stream, stream);
}

#[tokio::test]
async fn an_upload_that_outlives_its_answer_arrives_whole_and_is_in_flight_till_then() {
    let (world, listener) = over_raw(&[]).await;
    let flags = (1024, END_STREAM, END_STREAM);
    let (_client, mut peer, stream) = answered_upload(&world, &listener, flags).await;
    let id = listener.local_addr().unwrap().to_string();
    let in_flight = async || world.backend(&id).await["in_flight"].clone();
    assert_eq!(in_flight().await, 1);
    peer.send(frames::WINDOW_UPDATE, 0, stream, &1024_u32.to_be_bytes()).await;
    let body = peer.until(frames::DATA).await.unwrap();
    assert_eq!(
        (body.stream, body.flags, &body.payload[..]),
        (stream, END_STREAM, &b"the whole"[..])
    );
    world.until("it to be through", async || in_flight().await == 0).await;
}

#[tokio::test]
async fn an_upload_that_outlives_its_answer_ends_when_its_backend_takes_none_of_it_in_time() {
    let (world, listener) = over_raw(&[("PROXY_RESPONSE_TIMEOUT", "500ms")]).await;
    let flags = (1024, END_STREAM, END_STREAM);
    let (_client, mut peer, stream) = answered_upload(&world, &listener, flags).await;
    assert_eq!(peer.until(frames::RST_STREAM).await.unwrap().stream, stream);
}

/// So many frames with as many bytes each.
fn small_frames(stream: u32, count: usize, bytes: usize) -> Vec<u8> {
    frames::frame(frames::DATA, 0, stream, &vec![b'x'; bytes]).repeat(count)
}

/// Waits until the other side has read all that was sent.
async fn all_read(peer: &mut RawClient) {
    peer.send(frames::PING, 0, 0, b"all read").await;
    while peer.until(frames::PING).await.expect("it closed").flags & frames::ACK == 0 {}
}

/// What comes of bodies until so many have ended.
async fn bodies(peer: &mut RawClient, mut count: usize) -> usize {
    let mut bytes = 0;
    while count > 0 {
        let body = peer.until(frames::DATA).await.expect("it closed");
        bytes += body.payload.len();
        count -= usize::from(body.flags & END_STREAM != 0);
    }
    bytes
}

#[tokio::test]
async fn responses_in_small_frames_wait_for_clients_without_room_however_many_frames() {
    const FRAMES: usize = 40_000;
    const STREAMS: [u32; 4] = [1, 3, 5, 7];
    let (world, listener) = over_raw(&[]).await;
    let settings = [(INITIAL_WINDOW_SIZE, 0)];
    let mut client = RawClient::connect(world.proxy.address, &settings).await;
    for stream in STREAMS {
        let head = frames::get("/", &[]);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &head).await;
    }
    let mut peer = without_room(&listener).await;
    for _ in STREAMS {
        let stream = peer.until(frames::HEADERS).await.unwrap().stream;
        peer.send(frames::HEADERS, END_HEADERS, stream, &[0x88]).await;
        peer.0.write_all(&small_frames(stream, FRAMES, 1)).await.unwrap();
        peer.send(frames::DATA, END_STREAM, stream, b"").await;
    }
    all_read(&mut peer).await;
    for stream in [0].into_iter().chain(STREAMS) {
        client.send(frames::WINDOW_UPDATE, 0, stream, &1_000_000_u32.to_be_bytes()).await;
    }
    assert_eq!(bodies(&mut client, STREAMS.len()).await, STREAMS.len() * FRAMES);
}

#[tokio::test]
async fn an_upload_in_small_frames_waits_for_a_backend_without_room_however_many_frames() {
    const FRAMES: usize = 12_000;
    const BYTES: usize = 20;
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = answered_upload(&world, &listener, (1024, 0, 0)).await;
    // Without which the window is the first one of all (RFC 9113 §6.9.2).
    client.send(frames::SETTINGS, frames::ACK, 0, &[]).await;
    client.0.write_all(&small_frames(1, FRAMES, BYTES)).await.unwrap();
    client.send(frames::DATA, END_STREAM, 1, b"").await;
    all_read(&mut client).await;
    for stream in [0, stream] {
        peer.send(frames::WINDOW_UPDATE, 0, stream, &1_000_000_u32.to_be_bytes()).await;
    }
    assert_eq!(bodies(&mut peer, 1).await, b"the whole".len() + FRAMES * BYTES);
}

/// Answers with the head alone, which the client takes and then leaves. The stream to the backend.
async fn left_within_the_answer(client: &mut RawClient, peer: &mut RawClient, stream: u32) -> u32 {
    let head = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &head).await;
    let at_backend = peer.until(frames::HEADERS).await.expect("it closed").stream;
    peer.send(frames::HEADERS, END_HEADERS, at_backend, &[0x88]).await;
    client.until(frames::HEADERS).await.expect("it closed");
    client.send(frames::RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).await;
    assert_eq!(peer.until(frames::RST_STREAM).await.unwrap().stream, at_backend);
    at_backend
}

/// More streams than the proxy remembers to have reset, so that what comes of others looks wrong to it.
#[tokio::test]
async fn a_connection_outlives_whatever_comes_late_for_clients_that_left() {
    const STREAMS: u32 = 1500;
    let (world, listener) = over_raw(&[("PROXY_HTTP2_RESETS_MAX", "100000")]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let head = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
    let mut peer = without_room(&listener).await;
    let waits = peer.until(frames::HEADERS).await.unwrap().stream;
    client.0.set_nodelay(true).unwrap();
    let mut left = Vec::new();
    for stream in (1..=STREAMS).map(|number| 2 * number + 1) {
        left.push(left_within_the_answer(&mut client, &mut peer, stream).await);
    }
    for _ in 0..5 {
        let late = left.iter().flat_map(|stream| small_frames(*stream, 1, 1));
        peer.0.write_all(&late.collect::<Vec<_>>()).await.unwrap();
        all_read(&mut peer).await;
    }
    peer.send(frames::HEADERS, END_HEADERS | END_STREAM, waits, &[0x89]).await;
    let answer = client.until(frames::HEADERS).await.expect("it closed");
    assert_eq!((answer.stream, answer.payload[0]), (1, 0x89));
}

/// A client that waits for an answer and uploads beside it, and its backend with the stream of that.
async fn uploading_beside_another(
    world: &World,
    listener: &TcpListener,
) -> (RawClient, RawClient, u32) {
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    client.0.set_nodelay(true).unwrap();
    let head = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
    let mut peer = accepted(listener, &[]).await;
    peer.until(frames::HEADERS).await.unwrap();
    client.send(frames::HEADERS, END_HEADERS, 3, &head).await;
    let stream = peer.until(frames::HEADERS).await.unwrap().stream;
    (client, peer, stream)
}

/// The frames and bytes that come until a body has ended.
async fn frames_of_body(peer: &mut RawClient) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    loop {
        let body = peer.until(frames::DATA).await.expect("it closed");
        (count, bytes) = (count + 1, bytes + body.payload.len());
        if body.flags & END_STREAM != 0 {
            return (count, bytes);
        }
    }
}

#[tokio::test]
async fn small_parts_of_an_upload_that_come_at_once_go_on_at_once() {
    const PARTS: usize = 3000;
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, _) = uploading_beside_another(&world, &listener).await;
    client.0.write_all(&small_frames(3, PARTS, 1)).await.unwrap();
    client.send(frames::DATA, END_STREAM, 3, b"").await;
    let (count, bytes) = frames_of_body(&mut peer).await;
    assert_eq!(bytes, PARTS);
    assert!(count < 100, "{count} frames");
}

/// What is whole never waits, so that what waits comes after it.
#[tokio::test]
async fn small_parts_wait_for_nothing_however_many_were_not_answered() {
    const PARTS: usize = 300;
    const WHOLE: &[u8] = &[b'w'; 256];
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, one_way) = uploading_beside_another(&world, &listener).await;
    let mut streams = vec![(3, one_way)];
    for stream in [5, 7] {
        client.send(frames::HEADERS, END_HEADERS, stream, &frames::get("/", &[])).await;
        streams.push((stream, peer.until(frames::HEADERS).await.unwrap().stream));
    }
    let [_, (5, talk), (7, wholes)] = streams[..] else { unreachable!() };
    for stream in [0, wholes] {
        peer.send(frames::WINDOW_UPDATE, 0, stream, &1_000_000_u32.to_be_bytes()).await;
    }
    peer.send(frames::HEADERS, END_HEADERS, talk, &[0x88]).await;
    client.until(frames::HEADERS).await.unwrap();
    for (stream, to_backend) in &streams[..2] {
        for number in 0..PARTS {
            client.send(frames::DATA, 0, *stream, b"x").await;
            all_read(&mut client).await;
            client.send(frames::DATA, 0, 7, WHOLE).await;
            for (stream, payload) in [(*to_backend, &b"x"[..]), (wholes, WHOLE)] {
                let part = peer.until(frames::DATA).await.expect("it closed");
                assert_eq!((part.stream, &part.payload[..]), (stream, payload), "{number}");
            }
        }
    }
}

/// hyper ends a connection over 2,000.
#[tokio::test]
async fn new_requests_go_elsewhere_while_many_small_parts_are_not_answered() {
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = uploading_beside_another(&world, &listener).await;
    for _ in 0..150 {
        client.send(frames::DATA, 0, 3, b"x").await;
        assert_eq!(peer.until(frames::DATA).await.unwrap().payload, b"x");
    }
    let head = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 5, &head).await;
    accepted(&listener, &[]).await.until(frames::HEADERS).await.unwrap();
    peer.send(frames::HEADERS, END_HEADERS, stream, &[0x88]).await;
    client.until(frames::HEADERS).await.unwrap();
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 7, &head).await;
    assert!(peer.until(frames::HEADERS).await.unwrap().stream > stream, "it has read them");
}

#[tokio::test]
async fn small_parts_of_a_conversation_wait_for_nothing() {
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = uploading_beside_another(&world, &listener).await;
    peer.send(frames::HEADERS, END_HEADERS, stream, &[0x88]).await;
    for _ in 0..500 {
        client.send(frames::DATA, 0, 3, b"x").await;
        assert_eq!(peer.until(frames::DATA).await.unwrap().payload, b"x");
        peer.send(frames::DATA, 0, stream, b"y").await;
        assert_eq!(client.until(frames::DATA).await.unwrap().payload, b"y");
    }
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 5, &frames::get("/", &[])).await;
    assert!(peer.until(frames::HEADERS).await.unwrap().stream > stream, "it goes the same way");
}

/// The library ends a connection that has brought more than 100 of them.
#[tokio::test]
async fn empty_parts_end_no_connection_however_many() {
    const PARTS: usize = 150;
    let empty = |stream| frames::frame(frames::DATA, 0, stream, b"").repeat(PARTS);
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = answered_upload(&world, &listener, (1024, 0, 0)).await;
    for stream in [0, stream] {
        peer.send(frames::WINDOW_UPDATE, 0, stream, &1024_u32.to_be_bytes()).await;
    }
    client.0.write_all(&empty(1)).await.unwrap();
    client.send(frames::DATA, END_STREAM, 1, b" of it").await;
    assert_eq!(bodies(&mut peer, 1).await, b"the whole of it".len());
    peer.0.write_all(&empty(stream)).await.unwrap();
    peer.send(frames::DATA, END_STREAM, stream, b"all").await;
    assert_eq!(bodies(&mut client, 1).await, b"all".len());
}

/// Libraries end a connection over 100 of them.
#[tokio::test]
async fn an_answer_that_ends_with_an_empty_part_has_none_before_its_end() {
    const BYTES: usize = 2000;
    let (world, listener) = over_raw(&[]).await;
    let settings = [(INITIAL_WINDOW_SIZE, 1024)];
    let mut client = RawClient::connect(world.proxy.address, &settings).await;
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::get("/", &[])).await;
    let mut peer = accepted(&listener, &[]).await;
    let stream = peer.until(frames::HEADERS).await.unwrap().stream;
    peer.send(frames::HEADERS, END_HEADERS, stream, &[0x88]).await;
    peer.0.write_all(&small_frames(stream, 1, BYTES)).await.unwrap();
    let mut bytes = client.until(frames::DATA).await.unwrap().payload.len();
    peer.send(frames::DATA, END_STREAM, stream, b"").await;
    all_read(&mut peer).await;
    client.send(frames::WINDOW_UPDATE, 0, 1, &1024_u32.to_be_bytes()).await;
    loop {
        let part = client.until(frames::DATA).await.expect("it closed");
        bytes += part.payload.len();
        if part.flags & END_STREAM != 0 {
            break;
        }
        assert!(!part.payload.is_empty(), "after {bytes} bytes");
    }
    assert_eq!(bytes, BYTES);
}

/// The answer to a request with a long head, which is the only one on its connection, where that ends:
/// with a goodbye for this reason that names this last stream, or without one.
async fn ended(goodbye: Option<(u32, u32)>) -> (u16, String) {
    let (world, listener) = over_raw(&[]).await;
    let request = world.client.get(world.url("/")).header("cookie", "x".repeat(9000));
    let answer = tokio::spawn(request.send());
    let mut peer = accepted(&listener, &[]).await;
    peer.until(frames::HEADERS).await.unwrap();
    if let Some((reason, last)) = goodbye {
        let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
        let goodbye = frames::frame(frames::GOAWAY, 0, 0, &payload);
        let ping = frames::frame(frames::PING, 0, 0, b"all read");
        peer.0.write_all(&[goodbye, ping].concat()).await.unwrap();
        // Until it has read that: it answers, or has closed over the goodbye.
        while peer.until(frames::PING).await.is_some_and(|ping| ping.flags & frames::ACK == 0) {}
    }
    drop((peer, listener));
    let answer = answer.await.unwrap().unwrap();
    let text = answer.headers()["proxy-status"].to_str().unwrap().to_owned();
    (answer.status().as_u16(), text)
}

#[tokio::test]
async fn a_long_head_is_too_long_only_where_its_backend_says_so() {
    const NO_ERROR: u32 = 0;
    const PROTOCOL_ERROR: u32 = 1;
    const INTERNAL_ERROR: u32 = 2;
    const ENHANCE_YOUR_CALM: u32 = 11;
    for goodbye in [(PROTOCOL_ERROR, 0), (ENHANCE_YOUR_CALM, 1)] {
        let (status, text) = ended(Some(goodbye)).await;
        assert_eq!(status, 431, "{goodbye:?}: {text}");
    }
    for goodbye in [None, Some((NO_ERROR, 1)), Some((INTERNAL_ERROR, 1))] {
        let (status, text) = ended(goodbye).await;
        assert_eq!(status, 502, "{goodbye:?}: {text}");
        assert!(text.contains("reset_before_headers"), "{goodbye:?}: {text}");
    }
}
