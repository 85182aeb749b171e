//! Backends of HTTP/2 (h2c), with gRPC as the one that needs most of it.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use common::{
    World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
    raw::{exchange, status},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A backend of HTTP/2 that notes the heads that it sees and on how many connections.
struct Backend {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<http::request::Parts>>>,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    /// Streams at once that it allows.
    async fn start(streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, connections) = (Arc::default(), Arc::<AtomicUsize>::default());
        let (seen, count) = (Arc::clone(&heads), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let seen: Arc<Mutex<Vec<_>>> = Arc::clone(&seen);
                let service = service_fn(move |request: Request<Incoming>| {
                    let (parts, body) = request.into_parts();
                    seen.lock().unwrap().push(parts.clone());
                    async move { Ok::<_, std::convert::Infallible>(answer(parts, body).await) }
                });
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.max_concurrent_streams(streams);
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, heads, connections }
    }

    async fn world(&self, variables: &[(&str, &str)]) -> World {
        over(&self.address.to_string(), variables).await
    }
}

async fn over(backend: &str, variables: &[(&str, &str)]) -> World {
    let mut all = vec![("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_WORKERS", "1")];
    all.extend(variables);
    let world = World::over(&format!("http://{backend}"), &all, vec![]);
    world.until_eligible(1).await;
    world
}

/// Echoes what it got, with trailers as gRPC has them; or, as `/refuse`, trailers only.
async fn answer(parts: http::request::Parts, body: Incoming) -> Response<Body> {
    let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let mut response = Response::builder().header("content-type", "application/grpc");
    match parts.uri.path() {
        "/refuse" => {
            response = response.header("grpc-status", "12");
            response.body(Empty::new().boxed()).unwrap()
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            response.body(Full::default().boxed()).unwrap()
        }
        "/never" => std::future::pending().await,
        _ => {
            let body = body.collect().await.unwrap().to_bytes();
            let frames = [Frame::data(body), Frame::trailers(status)].map(Ok);
            response.body(StreamBody::new(futures_util::stream::iter(frames)).boxed()).unwrap()
        }
    }
}

async fn client(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<Body> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    sender
}

fn call(path: &str, message: &'static [u8]) -> Request<Body> {
    let frames = [Ok(Frame::data(Bytes::from_static(message)))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    let request = Request::post(format!("http://api.example{path}"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    request.body(body).unwrap()
}

/// RFC 9113 §8.3.1.
#[tokio::test]
async fn an_absolute_target_without_a_path_gets_one() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[]).await;
    for (target, expected) in [("http://shop.example", "/"), ("http://shop.example?x", "/?x")] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&exchange(world.proxy.address, &request).await), 200, "{target}");
        let head = backend.heads.lock().unwrap().pop().unwrap();
        assert_eq!(head.uri.path_and_query().unwrap().as_str(), expected, "{target}");
    }
}

#[tokio::test]
async fn a_grpc_call_passes_with_its_trailers_and_so_do_trailers_without_a_body() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[]).await;
    let mut client = client(world.proxy.address).await;
    let response = client.send_request(call("/pkg.Service/Method", b"hello")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "hello");
    let response = client.send_request(call("/refuse", b"hello")).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());

    let heads = backend.heads.lock().unwrap();
    let head = &heads[0];
    assert_eq!(head.uri, "http://api.example/pkg.Service/Method");
    assert_eq!(head.headers["te"], "trailers");
    assert!(!head.headers.contains_key("connection"));
    assert_eq!(head.headers["via"], "2.0 evenkeel");
    assert_eq!(head.headers["x-forwarded-for"], "127.0.0.1");
    for gone in ["host", "transfer-encoding", "connection"] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
}

/// A backend that notes the trailers of each request that comes to it whole.
async fn noting_trailers() -> (SocketAddr, Arc<Mutex<Vec<HeaderMap>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, wholes) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<_>>>::default());
    let noted = Arc::clone(&wholes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            let service = service_fn(move |request: Request<Incoming>| {
                let noted = Arc::clone(&noted);
                async move {
                    let body = request.into_body().collect().await?;
                    noted.lock().unwrap().push(body.trailers().cloned().unwrap_or_default());
                    Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, wholes)
}

/// RFC 9113 §8.1, §8.2; RFC 9110 §6.5.1.
#[tokio::test]
async fn a_request_with_malformed_trailers_never_comes_to_its_backend_whole() {
    let (backend, wholes) = noting_trailers().await;
    let world = over(&backend.to_string(), &[("PROXY_PROBE", "off")]).await;
    // Until it is answered or refused. The status, if that is one of ours.
    let send = async |trailers: &[(&str, &str)]| {
        let mut client = RawClient::connect(world.proxy.address, &[]).await;
        client.send(frames::HEADERS, END_HEADERS, 1, &frames::get("/", &[])).await;
        client.send(frames::DATA, 0, 1, b"hello").await;
        let block = frames::block(trailers);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
        loop {
            match client.read().await {
                Some(frame) if frame.stream == 0 && frame.kind != frames::GOAWAY => {}
                // Of the static table (RFC 7541, Appendix A).
                Some(frame) if frame.kind == frames::HEADERS => break Some(frame.payload[0]),
                _ => break None,
            }
        }
    };
    const REFUSED: Option<u8> = Some(0x8c);
    for (trailers, answer) in [
        ([("x", " 1")], REFUSED),
        ([("x", "1\t")], REFUSED),
        ([("x", "1\r\ny: 2")], None),
        ([("x", "\0")], None),
        ([("Upper", "1")], None),
        ([("connection", "close")], None),
        ([("transfer-encoding", "chunked")], None),
        ([("te", "gzip")], None),
        ([(":made-up", "1")], None),
    ] {
        assert_eq!(send(&trailers).await, answer, "{trailers:?}");
    }
    assert_eq!(send(&[("x-sum", "1"), (":path", "/")]).await, None);
    assert_eq!(wholes.lock().unwrap().len(), 0);
    let mine = [("x-sum", "1"), ("host", "b"), ("x-forwarded-for", "6.6.6.6")];
    assert_eq!(send(&mine).await, Some(0x88));
    let kept = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
    assert_eq!(wholes.lock().unwrap()[..], [kept]);
}

#[tokio::test]
async fn clients_of_http_1_are_served_too_whatever_the_body() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[]).await;
    for body in ["", "hello"] {
        let answer = world.client.post(world.url("/")).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), body);
    }
}

/// RFC 9110 §7.8.
#[tokio::test]
async fn a_wish_for_another_protocol_is_passed_over_unless_nothing_else_will_do() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_PROBE", "off")]).await;
    for (protocol, expected) in [("TLS/1.0", 200), ("TLS/1.0, x", 200), ("WebSocket", 501)] {
        let upgrade = world.client.get(world.url("/")).header("connection", "upgrade");
        let answer = upgrade.header("upgrade", protocol).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{protocol}");
    }
    assert_eq!(backend.heads.lock().unwrap().len(), 2);
}

/// RFC 9113 §6.5.2, §7.
#[tokio::test]
async fn the_fields_after_an_upload_arrive_whole_or_it_is_refused() {
    let (backend, wholes) = noting_trailers().await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_HEADER_BYTES_MAX", "8KiB")];
    let world = over(&backend.to_string(), &variables).await;
    let mut client = client(world.proxy.address).await;
    for (kibibytes, names, expected) in [
        (1, &["x-a", "x-b"][..], 200),
        (6, &["x-a", "x-b"], 200),
        (9, &["x-a", "x-b"], 431),
        (20, &["x-a", "x-b"], 431),
        (24, &["x-a"], 431),
    ] {
        let value =
            http::HeaderValue::try_from("x".repeat(kibibytes * 1024 / names.len())).unwrap();
        let fields = names.iter().map(|name| (name.parse().unwrap(), value.clone()));
        let trailers = HeaderMap::from_iter(fields);
        let frames = [Ok(Frame::data(Bytes::from_static(b"hello"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let request = Request::post("http://api.example/").body(body).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), expected, "{kibibytes}");
    }
    let sizes: Vec<usize> = wholes.lock().unwrap().iter().map(|whole| whole["x-b"].len()).collect();
    assert_eq!(sizes, [512, 6 * 512]);
    let hits = "evenkeel_limits_hit_total{limit=\"header_bytes\"}";
    world.until("it to be counted", async || world.metric(hits).await == 3.0).await;
}

/// Nobody else is on it.
#[tokio::test]
async fn on_a_connection_of_its_own_a_request_has_as_many_fields_after_its_body_as_anywhere() {
    let (backend, wholes) = noting_trailers().await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_HEADER_BYTES_MAX", "15KiB")];
    let world = over(&backend.to_string(), &variables).await;
    let mut client = client(world.proxy.address).await;
    for (kibibytes, expected) in [(9, 200), (14, 200), (16, 431)] {
        let frames = [
            Frame::data(Bytes::from_static(b"hello")),
            Frame::trailers(fields(1, kibibytes * 1024, b'x')),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed();
        let mut request = Request::post("http://api.example/").body(body).unwrap();
        *request.headers_mut() = fields(1, 9_000, b'x');
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), expected, "{kibibytes}");
    }
    let sizes: Vec<usize> = wholes.lock().unwrap().iter().map(|whole| whole["x-0"].len()).collect();
    assert_eq!(sizes, [9 * 1024, 14 * 1024]);
}

#[tokio::test]
async fn requests_share_a_connection_until_the_backends_limit_is_reached() {
    for (streams, most) in [(100, 1), (4, 3)] {
        let backend = Backend::start(streams).await;
        // Without probes, each of which would be one more connection.
        let world = backend.world(&[("PROXY_PROBE", "off")]).await;
        // So that the backend's limit is known.
        assert_eq!(world.get("/").await.0, 200);
        let before = backend.connections.load(Ordering::Relaxed) - 1;
        let asked = (0..12).map(|_| world.get("/slow"));
        for (status, _) in futures_util::future::join_all(asked).await {
            assert_eq!(status, 200);
        }
        let made = backend.connections.load(Ordering::Relaxed) - before;
        assert!(made <= most, "{made} connections of {streams} streams");
    }
}

#[tokio::test]
async fn a_connection_to_a_backend_is_idle_while_no_request_is_on_it() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_UPSTREAM_IDLE_TIMEOUT", "60s")]).await;
    let state = async |state: &str| {
        world.metric(&format!("evenkeel_connections{{side=\"backend\",state=\"{state}\"")).await
    };
    let states = async || (state("active").await, state("idle").await);
    for _ in 0..2 {
        let mut client = client(world.proxy.address).await;
        let asked = [(); 2].map(|()| client.send_request(call("/never", b"")));
        let asked = tokio::spawn(futures_util::future::join_all(asked));
        world.until("it to be used", async || states().await == (1.0, 0.0)).await;
        asked.abort();
        world.until("it to be idle", async || states().await == (0.0, 1.0)).await;
    }
}

#[tokio::test]
async fn an_http_probe_speaks_the_backends_protocol() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_PROBE", "http"), ("PROXY_PROBE_PATH", "/ready")]).await;
    assert_eq!(world.get("/").await.0, 200);
    let heads = backend.heads.lock().unwrap();
    let paths: BTreeSet<_> = heads.iter().map(|head| head.uri.path().to_owned()).collect();
    assert!(paths.contains("/ready"), "{paths:?}");
}

#[tokio::test]
async fn a_client_that_leaves_resets_only_its_own_stream() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_PROBE", "off")]).await;
    let mut raw = RawClient::connect(world.proxy.address, &[]).await;
    for (stream, path) in [(1, "/never"), (3, "/slow")] {
        let block = frames::get(path, &[]);
        raw.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
    }
    let id = backend.address.to_string();
    let in_flight = async || world.backend(&id).await["in_flight"].clone();
    world.until("both to be in flight", async || in_flight().await == 2).await;
    raw.send(frames::RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await;
    assert_eq!(raw.until(frames::HEADERS).await.unwrap().stream, 3);
    world.until("the tickets to be given back", async || in_flight().await == 0).await;
    assert_eq!(world.backend(&id).await["traffic"]["failures_total"], 0);
    assert_eq!(backend.connections.load(Ordering::Relaxed), 1);
}

// Errors of RFC 9113 §7.
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// What a backend of raw frames does instead of answering 204.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// With the first request, it resets the stream as refused (RFC 9113 §8.7).
    Stream,
    /// It says goodbye and that it has looked at no stream (§6.8).
    Goodbye,
    /// It says goodbye and that it may have looked at this one, and closes.
    GoodbyeAfterwards,
    /// It resets each, with this error (§7).
    EachStream(u32),
    /// It says goodbye whenever there is a request.
    EachGoodbye,
    /// It begins with an answer, which may be all of it, and resets the stream without an error (§8.1).
    Answered { is_whole: bool },
    /// It says goodbye when it has answered so many on a connection, and looks at no more.
    GoodbyeAfter(usize),
}

/// A backend that refuses requests, and how many it was sent.
async fn refusing(refusal: Refusal) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).await.ok()?;
                let mut peer = RawClient(stream);
                peer.send(frames::SETTINGS, 0, 0, &[]).await;
                for served in 1.. {
                    let head = peer.until(frames::HEADERS).await?;
                    let goodbye = |last: u32| [last.to_be_bytes(), [0; 4]].concat();
                    match (count.fetch_add(1, Ordering::Relaxed), refusal) {
                        (0, Refusal::Stream) => {
                            let refused = REFUSED_STREAM.to_be_bytes();
                            peer.send(frames::RST_STREAM, 0, head.stream, &refused).await;
                        }
                        (_, Refusal::EachStream(error)) => {
                            let error = error.to_be_bytes();
                            peer.send(frames::RST_STREAM, 0, head.stream, &error).await;
                        }
                        (0, Refusal::Goodbye) | (_, Refusal::EachGoodbye) => {
                            peer.send(frames::GOAWAY, 0, 0, &goodbye(0)).await;
                        }
                        (_, Refusal::Answered { is_whole }) => {
                            peer.send(frames::HEADERS, END_HEADERS, head.stream, &[0x88]).await;
                            let flags = if is_whole { END_STREAM } else { 0 };
                            peer.send(frames::DATA, flags, head.stream, b"hel").await;
                            peer.send(frames::RST_STREAM, 0, head.stream, &[0; 4]).await;
                        }
                        (0, Refusal::GoodbyeAfterwards) => {
                            peer.send(frames::GOAWAY, 0, 0, &goodbye(head.stream)).await;
                            return Some(());
                        }
                        // The 204 of the static table (RFC 7541, Appendix A).
                        _ => {
                            let flags = END_HEADERS | END_STREAM;
                            peer.send(frames::HEADERS, flags, head.stream, &[0x89]).await;
                            if refusal == Refusal::GoodbyeAfter(served) {
                                peer.send(frames::GOAWAY, 0, 0, &goodbye(head.stream)).await;
                                peer.rest().await;
                                return Some(());
                            }
                        }
                    }
                }
                Some(())
            });
        }
    });
    (address, requests)
}

/// The same, which has refused before, and now answers. How many it is sent counts from one.
async fn answering(refusal: Refusal) -> (SocketAddr, Arc<AtomicUsize>) {
    let (address, requests) = refusing(refusal).await;
    requests.store(1, Ordering::Relaxed);
    (address, requests)
}

#[tokio::test]
async fn what_a_backend_certainly_has_not_begun_with_is_sent_again_whatever_it_is() {
    for (refusal, expected, sent) in [
        (Refusal::Stream, 204, 2),
        (Refusal::Goodbye, 204, 2),
        (Refusal::GoodbyeAfterwards, 502, 1),
    ] {
        let (address, requests) = refusing(refusal).await;
        let second = answering(refusal).await;
        let variables =
            [("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_PROBE", "off"), ("PROXY_POLICY", "first")];
        let backends = format!("http://{address},http://{}", second.0);
        let world = World::over(&backends, &variables, vec![]);
        world.until_eligible(2).await;
        let answer = world.client.post(world.url("/")).send().await.unwrap();
        let total = requests.load(Ordering::Relaxed) + second.1.load(Ordering::Relaxed) - 1;
        assert_eq!((answer.status().as_u16(), total), (expected, sent));
    }
}

#[tokio::test]
async fn an_answer_that_is_reset_without_an_error_is_whole_only_if_it_has_ended() {
    for is_whole in [true, false] {
        let (address, _) = refusing(Refusal::Answered { is_whole }).await;
        let world = over(&address.to_string(), &[("PROXY_PROBE", "off")]).await;
        let answer = world.client.get(world.url("/")).send().await.unwrap();
        let text = answer.text().await.ok();
        assert_eq!(text.as_deref(), is_whole.then_some("hel"));
        let mut client = client(world.proxy.address).await;
        let answer = client.send_request(call("/", b"")).await.unwrap();
        let body = answer.into_body().collect().await.map(|body| body.to_bytes());
        assert_eq!(body.ok().as_deref(), is_whole.then_some(&b"hel"[..]));
    }
}

/// Sends requests, eight at a time, and counts the answers by their status.
async fn spread(world: &World, count: usize) -> BTreeMap<u16, usize> {
    let requests = (0..count).map(|_| world.client.post(world.url("/")).send());
    let answers = futures_util::stream::iter(requests);
    let answers = futures_util::StreamExt::buffer_unordered(answers, 8);
    let statuses = BTreeMap::new();
    futures_util::StreamExt::fold(answers, statuses, async |mut statuses, answer| {
        *statuses.entry(answer.unwrap().status().as_u16()).or_default() += 1;
        statuses
    })
    .await
}

#[tokio::test]
async fn backends_that_refuse_everything_are_sent_at_most_a_fifth_more() {
    const REQUESTS: usize = 600;
    let refused = Refusal::EachStream(REFUSED_STREAM);
    for refusal in [refused, Refusal::EachGoodbye] {
        let backends = [refusing(refusal).await, refusing(refusal).await];
        let list = backends.each_ref().map(|(address, _)| format!("http://{address}")).join(",");
        let variables =
            [("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_PROBE", "off"), ("PROXY_EJECT", "false")];
        let more = [("PROXY_RETRIES", "3")];
        let world = World::over(&list, &[&variables[..], &more].concat(), vec![]);
        world.until_eligible(2).await;
        assert_eq!(spread(&world, REQUESTS).await, [(502, REQUESTS)].into());
        let sent: usize = backends.iter().map(|(_, sent)| sent.load(Ordering::Relaxed)).sum();
        assert!(sent > REQUESTS, "{refusal:?}: there were retries");
        let most = REQUESTS * 6 / 5 * 101 / 100;
        assert!(sent <= most, "{refusal:?}: {sent} of {REQUESTS} requests");
        assert!(world.metric("evenkeel_retry_budget_exhausted_total").await > 0.0);
    }
}

#[tokio::test]
async fn a_goodbye_on_a_connection_that_has_served_costs_no_request_and_no_retry() {
    const REQUESTS: usize = 400;
    let (address, _) = refusing(Refusal::GoodbyeAfter(20)).await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_RETRIES", "0"), ("PROXY_RETRY_BUDGET", "0%")];
    let world = over(&address.to_string(), &variables).await;
    assert_eq!(spread(&world, REQUESTS).await, [(204, REQUESTS)].into());
    let retries = format!(
        "evenkeel_retries_total{{pool=\"default\",backend=\"{address}\",reason=\"reset_before_headers\"}}"
    );
    assert!(world.metric(&retries).await > 0.0, "some were sent beyond it");
}

#[tokio::test]
async fn a_backend_that_ends_or_refuses_streams_is_ejected_while_others_serve() {
    for (refusal, method) in [
        (Refusal::EachStream(REFUSED_STREAM), Method::POST),
        (Refusal::EachStream(INTERNAL_ERROR), Method::GET),
    ] {
        let bad = refusing(refusal).await.0;
        let (good, _) = answering(Refusal::Stream).await;
        let variables = [("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_PROBE", "off")];
        let world = World::over(&format!("http://{bad},http://{good}"), &variables, vec![]);
        world.until_eligible(2).await;
        for _ in 0..30 {
            let answer = world.client.request(method.clone(), world.url("/")).send().await.unwrap();
            assert_eq!(answer.status(), 204, "{refusal:?}");
        }
        let health = async || world.backend(&bad.to_string()).await["health"].clone();
        world.until("it to be ejected", async || health().await == "ejected").await;
    }
}

#[tokio::test]
async fn who_waits_for_a_connection_that_others_make_in_vain_has_seen_nothing_of_the_backend() {
    // It takes connections, and nobody says anything on them.
    let silent = common::any_port();
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

#[tokio::test]
async fn nothing_is_sent_that_a_new_connection_would_refuse_as_beyond_its_limit() {
    let backend = Backend::start(4).await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_RETRIES", "0")];
    let world = backend.world(&variables).await;
    let asked = (0..12).map(|_| world.get("/slow"));
    for (status, _) in futures_util::future::join_all(asked).await {
        assert_eq!(status, 200);
    }
    let retries = format!(
        "evenkeel_retries_total{{pool=\"default\",backend=\"{}\",reason=\"reset_before_headers\"}}",
        backend.address
    );
    assert_eq!(world.metric(&retries).await, 0.0);
    assert_eq!(world.backend(&backend.address.to_string()).await["health"], "up");
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_takes_its_connection_out_of_use() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_PROBE", "off"), ("PROXY_RESPONSE_TIMEOUT", "500ms")]).await;
    assert_eq!(world.get("/never").await.0, 504);
    assert_eq!(world.get("/").await.0, 200);
    assert_eq!(backend.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_request_that_a_backend_is_slow_with_is_tried_elsewhere() {
    let slow = Backend::start(100).await;
    let (good, requests) = answering(Refusal::Stream).await;
    let variables = [
        ("PROXY_BACKEND_PROTOCOL", "h2c"),
        ("PROXY_PROBE", "off"),
        ("PROXY_POLICY", "first"),
        ("PROXY_TRY_TIMEOUT", "100ms"),
    ];
    let world = World::over(&format!("http://{},http://{good}", slow.address), &variables, vec![]);
    world.until_eligible(2).await;
    assert_eq!(world.get("/never").await.0, 204);
    assert_eq!((slow.heads.lock().unwrap().len(), requests.load(Ordering::Relaxed)), (1, 2));
}

/// A backend that says this twice before each answer.
async fn hinting(hint: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    for link in ["</a.css>", "</b.css>"] {
                        let hint = Response::builder().status(hint).header("link", link);
                        respond.send_informational(hint.body(()).unwrap()).unwrap();
                    }
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from_static(b"the answer"), true).unwrap();
                }
            });
        }
    });
    address
}

/// RFC 9110 §15.2, RFC 9113 §8.6.
#[tokio::test]
async fn what_a_backend_says_before_its_answer_arrives_before_it() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let world = over(&hinting(103).await.to_string(), &[]).await;
    let answer = exchange(world.proxy.address, request).await;
    let heads: Vec<&str> = answer.split("\r\n\r\n").collect();
    for (head, link) in heads.iter().zip(["</a.css>", "</b.css>"]) {
        assert!(
            head.starts_with("HTTP/1.1 103 Early Hints\r\n") && head.contains(link),
            "{answer}"
        );
    }
    assert!(heads[2].starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("the answer"), "{answer}");
    let switching = over(&hinting(101).await.to_string(), &[]).await;
    let answer = exchange(switching.proxy.address, request).await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains("http_protocol_error"), "{answer}");
}

/// Fields of one byte over and over, which Huffman coding makes shorter, or more than three times as long.
fn fields(count: usize, bytes: usize, byte: u8) -> HeaderMap {
    let name = |number| HeaderName::try_from(format!("x-{number}")).unwrap();
    let value = HeaderValue::from_bytes(&vec![byte; bytes]).unwrap();
    (0..count).map(|number| (name(number), value.clone())).collect()
}

/// hyper takes 16 KiB, and ends the connection beyond 64, at a field that goes on for two frames, and at
/// the seventh frame.
#[tokio::test]
async fn what_ends_a_connection_for_its_many_fields_ends_nobody_elses() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_PROBE", "off")]).await;
    let connections = || backend.connections.load(Ordering::Relaxed);
    let mut other = TcpStream::connect(world.proxy.address).await.unwrap();
    let head =
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    other.write_all(head).await.unwrap();
    let has_begun = async || !backend.heads.lock().unwrap().is_empty();
    world.until("it to begin", has_begun).await;
    let mut client = client(world.proxy.address).await;
    for (fields, expected) in [
        (fields(1, 7_000, b'x'), 200),
        (fields(2, 6_000, b'x'), 200),
        (fields(1, 40_000, b'x'), 431),
        (fields(1, 40_000, 0xff), 431),
        (fields(15, 4_000, b'x'), 431),
        (fields(70, 880, b'x'), 431),
    ] {
        let before = connections();
        let bytes: usize = fields.values().map(HeaderValue::len).sum();
        let answer = world.client.get(world.url("/")).headers(fields.clone()).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{bytes}");
        assert_eq!(connections() - before, usize::from(bytes > 8192), "{bytes}");
        let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(fields)].map(Ok);
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let request = Request::post("http://api.example/never").body(body).unwrap();
        if bytes > 8192 {
            assert_eq!(client.send_request(request).await.unwrap().status(), 431, "{bytes}");
        }
    }
    other.write_all(b"5\r\nhello\r\n0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("hello"), "{answer}");
    let failures = format!(
        "evenkeel_failures_total{{pool=\"default\",backend=\"{}\",reason=\"reset_before_headers\"}}",
        backend.address
    );
    assert_eq!(world.metric(&failures).await, 0.0, "nobody blames the backend");
}
