//! Clients of HTTP/2 with prior knowledge, on the port where those of HTTP/1 are.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{future::poll_fn, net::SocketAddr, task::Context, time::Duration};

use bytes::Bytes;
use chassis::shutdown::Stop;
use common::{
    World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
    raw::{RawBackend, exchange, status},
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

type Body = BoxBody<Bytes, std::convert::Infallible>;

async fn connect(address: SocketAddr) -> SendRequest<Body> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: &str, target: &str, body: &'static [u8]) -> Request<Body> {
    let request = Request::builder().method(method).uri(format!("http://shop.example{target}"));
    request.body(Full::new(Bytes::from_static(body)).boxed()).unwrap()
}

async fn whole(response: Response<Incoming>) -> (u16, HeaderMap, Bytes, Option<HeaderMap>) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (parts.status.as_u16(), parts.headers, body.to_bytes(), trailers)
}

/// A proxy over one raw backend that counts as up without probes.
async fn over(backend: &RawBackend, variables: &[(&str, &str)]) -> World {
    let mut all = vec![("PROXY_PROBE", "off")];
    all.extend(variables);
    let world = World::over(&format!("http://{}", backend.address), &all, vec![]);
    world.until_eligible(1).await;
    world
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// RFC 9113 §8.3.1 (:authority), §8.2.3 (cookies); RFC 9110 §7.6.3 (Via).
#[tokio::test]
async fn the_head_that_arrives_at_a_backend_of_http_1_says_the_same() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let mut request = request("GET", "/a%20b?c=d", b"");
    let headers = request.headers_mut();
    headers.append("cookie", "a=1".parse().unwrap());
    headers.append("cookie", "b=2".parse().unwrap());
    headers.append("te", "trailers".parse().unwrap());
    headers.append("x-forwarded-for", "6.6.6.6".parse().unwrap());
    headers.append("expect", "100-continue".parse().unwrap());
    let response = connect(world.proxy.address).await.send_request(request).await.unwrap();
    let (status, headers, body, _) = whole(response).await;
    assert_eq!((status, &body[..]), (200, &b"ok"[..]));
    assert!(headers.contains_key("x-request-id") && !headers.contains_key("connection"));
    let head = backend.last_head().await;
    for line in [
        "GET /a%20b?c=d HTTP/1.1\r\n",
        "host: shop.example\r\n",
        "cookie: a=1; b=2\r\n",
        "te: trailers\r\n",
        "connection: te\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: shop.example\r\n",
        "via: 2.0 evenkeel\r\n",
        "x-request-id: ",
    ] {
        assert!(head.contains(line), "{line:?} is missing in:\n{head}");
    }
    assert!(!head.contains("expect") && !head.contains("6.6.6.6"), "{head}");
}

/// RFC 9110 §8.6: a client of HTTP/2 takes such an answer for malformed.
#[tokio::test]
async fn an_answer_without_a_body_tells_no_length_but_of_what_it_stands_for() {
    for (answer, method, expected) in [
        (
            &b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"[..],
            "GET",
            None,
        ),
        (
            b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\nconnection: close\r\n\r\n",
            "HEAD",
            None,
        ),
        (
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\nconnection: close\r\n\r\n",
            "GET",
            Some("5"),
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n", "HEAD", Some("5")),
    ] {
        let backend = RawBackend::start(answer).await;
        let world = over(&backend, &[]).await;
        let mut client = connect(world.proxy.address).await;
        let response = client.send_request(request(method, "/", b"")).await.unwrap();
        let length = response.headers().get("content-length").cloned();
        assert_eq!(length.as_ref().map(|length| length.to_str().unwrap()), expected, "{method}");
        assert_eq!(whole(response).await.2, "");
    }
}

/// RFC 9113 §8.2.2: an answer that named one would be malformed.
#[tokio::test]
async fn an_answer_that_asks_for_another_protocol_names_none_to_who_cannot_change_to_it() {
    let backend = RawBackend::start(
        b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\n\
          connection: upgrade, close\r\ncontent-length: 2\r\n\r\nws",
    )
    .await;
    let world = over(&backend, &[]).await;
    let mut client = connect(world.proxy.address).await;
    let response = client.send_request(request("GET", "/", b"")).await.unwrap();
    let (status, headers, body, _) = whole(response).await;
    assert_eq!((status, &body[..], headers.get("upgrade")), (426, &b"ws"[..], None));
}

/// RFC 9110 §9.3.2.
#[tokio::test]
async fn an_error_of_our_own_has_no_text_for_who_wants_only_the_head() {
    let nobody = World::over("http://127.0.0.1:1", &[("PROXY_PROBE", "off")], vec![]);
    let mut client = connect(nobody.proxy.address).await;
    let mut length = |method| {
        let asked = client.send_request(request(method, "/", b""));
        async {
            let (status, headers, body, _) = whole(asked.await.unwrap()).await;
            assert!(status >= 500 && headers.contains_key("proxy-status"), "{status}");
            (headers["content-length"].clone(), body.len())
        }
    };
    let (told, bytes) = length("GET").await;
    assert_eq!(told, bytes.to_string());
    // The error itself may be another one by now.
    let (told, bytes) = length("HEAD").await;
    assert!(told != "0" && bytes == 0, "{told:?} {bytes}");
}

/// Sends a request that may be told something before its answer; what that is, and the answer.
async fn interims(
    address: SocketAddr,
    request: Request<()>,
    body: Option<&'static [u8]>,
) -> (Vec<Response<()>>, Response<h2::RecvStream>) {
    let socket = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (mut response, mut stream) = sender.send_request(request, body.is_none()).unwrap();
    let mut heads = Vec::new();
    let next = |response: &mut h2::client::ResponseFuture, context: &mut Context<'_>| {
        response.poll_informational(context)
    };
    while let Some(head) = poll_fn(|context| next(&mut response, context)).await {
        let head = head.unwrap();
        if let Some(body) = body.filter(|_| head.status() == 100) {
            stream.send_data(Bytes::from_static(body), true).unwrap();
        }
        heads.push(head);
    }
    (heads, response.await.unwrap())
}

fn expecting() -> Request<()> {
    let request = Request::post("http://shop.example/echo").header("expect", "100-continue");
    request.body(()).unwrap()
}

/// RFC 9110 §15.2.
#[tokio::test]
async fn what_a_backend_says_before_its_answer_arrives_before_it() {
    let backend = RawBackend::start(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nkeep-alive: 1\r\n\r\n\
          HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    )
    .await;
    let get = || Request::get("http://shop.example/").body(()).unwrap();
    let world = over(&backend, &[]).await;
    let (heads, response) = interims(world.proxy.address, get(), None).await;
    let links: Vec<_> = heads
        .iter()
        .map(|head| (head.status().as_u16(), head.headers()["link"].as_bytes()))
        .collect();
    assert_eq!(links, [(103, &b"</a.css>"[..]), (103, b"</b.css>")]);
    assert!(!heads[0].headers().contains_key("keep-alive"));
    assert_eq!((response.status().as_u16(), response.headers().get("link")), (200, None));
    let silent = over(&backend, &[("PROXY_INTERIM_RESPONSES", "false")]).await;
    let (heads, response) = interims(silent.proxy.address, get(), None).await;
    assert_eq!((heads.len(), response.status().as_u16()), (0, 200));
}

/// RFC 9110 §10.1.1.
#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked_once_a_backend_takes_it() {
    let world = World::start(1, &[]).await;
    let (heads, response) = interims(world.proxy.address, expecting(), Some(b"the body")).await;
    assert_eq!(heads.iter().map(|head| head.status().as_u16()).collect::<Vec<_>>(), [100]);
    assert_eq!(response.status(), 200);
    let nobody = World::over("http://127.0.0.1:1", &[("PROXY_PROBE", "off")], vec![]);
    let (heads, response) = interims(nobody.proxy.address, expecting(), Some(b"the body")).await;
    assert!(heads.is_empty() && response.status().is_server_error(), "{heads:?} {response:?}");
}

#[tokio::test]
async fn requests_on_one_connection_are_served_side_by_side_and_spread_over_the_backends() {
    let world = World::start(3, &[("PROXY_WORKERS", "1")]).await;
    let client = connect(world.proxy.address).await;
    let asked = (0..12).map(|_| {
        let mut client = client.clone();
        async move { client.send_request(request("GET", "/delay/100ms", b"")).await.unwrap() }
    });
    let mut counts = std::collections::BTreeMap::new();
    for response in futures_util::future::join_all(asked).await {
        let server = response.headers()["x-served-by"].to_str().unwrap().to_owned();
        assert_eq!(whole(response).await.0, 200);
        *counts.entry(server).or_default() += 1;
    }
    assert_eq!(counts, common::even(&["s0", "s1", "s2"], 4));
}

#[tokio::test]
async fn a_connection_counts_once_however_many_requests_are_on_it() {
    let world = World::start(1, &[("PROXY_WORKERS", "1")]).await;
    let client = connect(world.proxy.address).await;
    let _idle = [(); 3].map(|()| std::net::TcpStream::connect(world.proxy.address).unwrap());
    let state = async |state: &str| {
        world.metric(&format!("evenkeel_connections{{side=\"client\",state=\"{state}\"")).await
    };
    let states = async || (state("active").await, state("idle").await);
    world.until("all to be there", async || states().await == (0.0, 4.0)).await;
    let asked = (0..8).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.send_request(request("GET", "/delay/60s", b"")).await })
    });
    let asked: Vec<_> = asked.collect();
    let in_flight = async || world.metric("evenkeel_in_flight{").await == 8.0;
    world.until("all requests to be there", in_flight).await;
    assert_eq!(states().await, (1.0, 3.0));
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    world.until("it to be idle", async || states().await == (0.0, 4.0)).await;
}

#[tokio::test]
async fn bodies_and_statuses_without_one_pass_whole() {
    let world = World::start(1, &[]).await;
    let mut client = connect(world.proxy.address).await;
    let body: &[u8] = vec![7; 3_000_000].leak();
    let response = client.send_request(request("POST", "/echo", body)).await.unwrap();
    assert_eq!(whole(response).await.2, body);
    let response = client.send_request(request("HEAD", "/bytes/1000", b"")).await.unwrap();
    let (status, headers, body, _) = whole(response).await;
    assert_eq!(
        (status, &headers["content-length"], body.len()),
        (200, &"1000".parse().unwrap(), 0)
    );
    for code in [204, 304] {
        let path = format!("/status/{code}");
        let response = client.send_request(request("GET", &path, b"")).await.unwrap();
        let (status, headers, body, _) = whole(response).await;
        assert_eq!((status, headers.get("content-length"), body.len()), (code, None, 0));
    }
}

/// RFC 9110 §6.5.
#[tokio::test]
async fn trailers_pass_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backends = format!("http://{}", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut heard, mut buffer) = (String::new(), [0; 4096]);
        while !heard.contains("\r\n0\r\n") || !heard.ends_with("\r\n\r\n") {
            let count = stream.read(&mut buffer).await.unwrap();
            heard.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                       2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        heard
    });
    let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(1).await;
    let trailers = HeaderMap::from_iter([("x-mine".parse().unwrap(), "2".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed();
    let request = Request::post("http://a/").header("trailer", "x-mine").body(body).unwrap();
    let response = connect(world.proxy.address).await.send_request(request).await.unwrap();
    let (_, _, body, trailers) = whole(response).await;
    assert_eq!((&body[..], &trailers.unwrap()["x-sum"]), (&b"ok"[..], &"1".parse().unwrap()));
    let heard = heard.await.unwrap();
    assert!(heard.contains("\r\nhello\r\n0\r\nx-mine: 2\r\n\r\n"), "{heard}");
}

/// RFC 9110 §10.1.1.
#[tokio::test]
async fn a_body_needs_no_100_and_other_expectations_are_answered_417() {
    let world = World::start(1, &[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let target =
        [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/echo")];
    let block = frames::block(&[&target[..], &[("expect", "100-continue")]].concat());
    client.send(frames::HEADERS, END_HEADERS, 1, &block).await;
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"] == 1;
    world.until("the request to be in flight", in_flight).await;
    client.send(frames::DATA, END_STREAM, 1, b"hello").await;
    assert_eq!(client.until(frames::DATA).await.unwrap().payload, b"hello");
    let mut request = request("POST", "/", b"hello");
    request.headers_mut().insert("expect", "x".parse().unwrap());
    let answer = connect(world.proxy.address).await.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 417);
    let said = answer.headers()["proxy-status"].to_str().unwrap();
    assert!(said.contains("expectation_failed"), "{said}");
}

/// RFC 9113 §8.1.1, §8.2.1, §8.2.2, §8.3: what would smuggle once it is written as HTTP/1, in one frame or
/// in two.
#[tokio::test]
async fn malformed_requests_never_reach_a_backend() {
    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let with = |fields: &[(&'static str, &'static str)]| [&GET[..], fields].concat();
    let without = |name: &str| -> Vec<_> { GET.into_iter().filter(|(n, _)| *n != name).collect() };
    let replaced = |name: &'static str, value: &'static str| -> Vec<_> {
        GET.into_iter().map(|(n, v)| if n == name { (n, value) } else { (n, v) }).collect()
    };
    let cases = [
        with(&[("transfer-encoding", "chunked")]),
        with(&[("connection", "close")]),
        with(&[("proxy-connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("upgrade", "websocket")]),
        with(&[("te", "gzip")]),
        with(&[("Upper", "1")]),
        with(&[("a b", "1")]),
        with(&[("a:b", "1")]),
        with(&[("", "1")]),
        with(&[("x", "1\r\nhost: b")]),
        with(&[("x", "1\n")]),
        with(&[("x", "\0")]),
        with(&[("x", " 1")]),
        with(&[("x", "1\t")]),
        with(&[("host", "b")]),
        with(&[("host", "a"), ("host", "a")]),
        with(&[("content-length", "5")]),
        with(&[("content-length", "0"), ("content-length", "0")]),
        with(&[("content-length", "+0")]),
        with(&[("content-length", "x")]),
        with(&[("content-length", "")]),
        with(&[(":path", "/")]),
        with(&[(":path", "/again")]),
        with(&[(":status", "200")]),
        with(&[(":made-up", "1")]),
        with(&[("x", "1"), (":authority", "b")]),
        with(&[(":protocol", "websocket")]),
        without(":method"),
        without(":scheme"),
        without(":path"),
        without(":authority"),
        replaced(":path", ""),
        replaced(":path", "*"),
        replaced(":path", "x"),
        replaced(":path", "?a"),
        replaced(":path", "/\u{e9}"),
        replaced(":path", "/?q=\u{e9}"),
        replaced(":path", "/ HTTP/1.1"),
        replaced(":path", "/\r\nx: y"),
        replaced(":authority", ""),
        replaced(":authority", "u@a"),
        replaced(":authority", "a/b"),
        replaced(":authority", "a b"),
        replaced(":method", "GET /x HTTP/1.1"),
        replaced(":method", ""),
        replaced(":method", "CONNECT"),
    ];
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    for fields in &cases {
        let block = frames::block(fields);
        let whole = frames::frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block);
        for head in [whole].into_iter().chain(frames::each_cut(END_STREAM, 1, &block)) {
            let mut client = RawClient::connect(world.proxy.address, &[]).await;
            client.0.write_all(&head).await.unwrap();
            client.until_refused(1).await;
        }
        assert_eq!(backend.heads.lock().await.len(), 0, "{fields:?}");
    }
    let invalid =
        "evenkeel_failures_total{pool=\"default\",backend=\"_none\",reason=\"bad_request\"}";
    assert!(world.metric(invalid).await > 0.0);
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_never_passes_as_whole() {
    for (length, body) in [("5", "abc"), ("2", "abc")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backends = format!("http://{}", listener.local_addr().unwrap());
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            String::from_utf8(heard).unwrap()
        });
        let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
        world.until_eligible(1).await;
        let mut client = RawClient::connect(world.proxy.address, &[]).await;
        let block = frames::get("/", &[("content-length", length)]);
        client.send(frames::HEADERS, END_HEADERS, 1, &block).await;
        // Once the backend has the head.
        let id = backends.trim_start_matches("http://");
        let in_flight = async || world.backend(id).await["in_flight"] == 1;
        world.until("the request to be in flight", in_flight).await;
        client.send(frames::DATA, END_STREAM, 1, body.as_bytes()).await;
        assert_eq!(client.until(frames::RST_STREAM).await.unwrap().stream, 1);
        let heard = heard.await.unwrap();
        let (_, sent) = heard.split_once("\r\n\r\n").unwrap();
        assert!(sent.len() < length.parse().unwrap(), "{heard}");
    }
}

#[tokio::test]
async fn a_target_of_an_asterisk_is_forwarded_as_such() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let fields = [(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a"), (":path", "*")];
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::block(&fields)).await;
    client.until(frames::DATA).await.unwrap();
    let head = backend.last_head().await;
    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n") && head.contains("host: a\r\n"), "{head}");
}

/// RFC 9113 §8.7, §5.4.2.
#[tokio::test]
async fn a_stream_that_is_reset_cancels_its_attempt_and_no_other() {
    let world = World::start(1, &[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    for (stream, path) in [(1, "/delay/60s"), (3, "/delay/1s"), (5, "/bytes/80000000")] {
        let block = frames::get(path, &[]);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
    }
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"].clone();
    world.until("the requests to be in flight", async || in_flight().await == 3).await;
    // One before its response, one within.
    while client.until(frames::DATA).await.unwrap().stream != 5 {}
    for stream in [1, 5] {
        client.send(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await;
    }
    while client.until(frames::HEADERS).await.unwrap().stream != 3 {}
    world.until("the tickets to be given back", async || in_flight().await == 0).await;
    let backend = world.id(0);
    let gone = format!(
        "evenkeel_requests_total{{pool=\"default\",backend=\"{backend}\",method=\"GET\",code=\"499\"}}"
    );
    world.until("it to be counted", async || world.metric(&gone).await == 2.0).await;
    assert_eq!(world.backend(&backend).await["traffic"]["failures_total"], 0);
}

/// RFC 9113 §6.8.
#[tokio::test]
async fn a_stop_says_goodbye_and_finishes_the_streams() {
    let world = World::start(1, &[("PROXY_STOP_QUIET", "200ms")]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let block = frames::get("/delay/1s", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"] == 1;
    world.until("the request to be in flight", in_flight).await;
    world.proxy.ask_to_stop(Stop::Graceful);
    let frames = client.rest().await;
    let of = |kind| frames.iter().position(|frame| frame.kind == kind);
    let goodbye = of(frames::GOAWAY).unwrap();
    assert_eq!(frames[goodbye].payload[4..8], [0; 4], "no error");
    assert!(of(frames::HEADERS).unwrap() > goodbye, "{frames:?}");
    assert!(frames.iter().any(|frame| frame.flags & END_STREAM != 0 && frame.stream == 1));
    world.until_without_admin("the end", async || world.proxy.has_ended()).await;
}

#[tokio::test]
async fn a_client_that_comes_during_a_stop_is_served_and_then_sent_elsewhere() {
    let variables = [("PROXY_STOP_QUIET", "3s"), ("PROXY_STOP_MAX", "20s")];
    let world = World::start(1, &variables).await;
    world.proxy.ask_to_stop(Stop::Graceful);
    let ready = async || {
        let answer = world.client.get(world.admin_url("/readyz")).send().await.unwrap();
        answer.status() == 503
    };
    world.until("the stop to begin", ready).await;
    let mut client = connect(world.proxy.address).await;
    let response = client.send_request(request("GET", "/", b"")).await.unwrap();
    assert_eq!(whole(response).await.0, 200);
    world.until("the goodbye", async || client.is_closed()).await;
    assert!(!world.proxy.has_ended(), "said before the end of the stop");
}

#[tokio::test]
async fn the_preface_may_come_in_pieces_and_what_only_begins_like_it_is_http_1() {
    let world = World::start(1, &[]).await;
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in frames::PREFACE {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(&frames::frame(frames::SETTINGS, 0, 0, &[])).await.unwrap();
    let mut client = RawClient(stream);
    let block = frames::get("/status/204", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    assert_eq!(client.until(frames::HEADERS).await.unwrap().stream, 1);

    for other in ["PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", "PRI * HTTP/1.1\r\nHost:\r\n\r\n"] {
        assert_eq!(status(&exchange(world.proxy.address, other).await), 400, "{other:?}");
    }
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in ["P", "OST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", "\r\n"] {
        stream.write_all(part.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn an_idle_connection_is_told_before_it_is_closed() {
    let variables = [("PROXY_IDLE_TIMEOUT", "300ms"), ("PROXY_HEADER_TIMEOUT", "5s")];
    let world = World::start(1, &variables).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let block = frames::get("/delay/1s", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    let frames = client.rest().await;
    let of = |kind| frames.iter().position(|frame| frame.kind == kind).unwrap();
    assert!(of(frames::HEADERS) < of(frames::GOAWAY), "busy is not idle: {frames:?}");
    let timeouts = "evenkeel_client_timeouts_total{phase=\"idle\"}";
    assert_eq!(world.metric(timeouts).await, 1.0);
}

/// RFC 9113 §5.2, §10.5: a window that stays shut holds a backend's connection.
#[tokio::test]
async fn a_stream_whose_client_makes_no_room_is_reset_and_the_others_go_on() {
    let world = World::start(1, &[("PROXY_WRITE_TIMEOUT", "500ms")]).await;
    // SETTINGS_INITIAL_WINDOW_SIZE: ten bytes for each stream.
    let mut client = RawClient::connect(world.proxy.address, &[(4, 10)]).await;
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"].clone();
    let block = frames::get("/bytes/80000000", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    assert_eq!(client.until(frames::RST_STREAM).await.unwrap().stream, 1);
    world.until("the ticket to be given back", async || in_flight().await == 0).await;
    let block = frames::get("/status/204", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 3, &block).await;
    assert_eq!(client.until(frames::HEADERS).await.unwrap().stream, 3);
    let timeouts = "evenkeel_client_timeouts_total{phase=\"write\"}";
    assert_eq!(world.metric(timeouts).await, 1.0);
}

/// Its end is held back until the client has taken what is before it, and then comes by itself.
#[tokio::test]
async fn an_answer_that_is_longer_than_its_window_comes_to_its_end() {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
        trailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
    for (answer, last) in [(OK, frames::DATA), (CHUNKED, frames::HEADERS)] {
        let backend = RawBackend::start(answer).await;
        let world = over(&backend, &[]).await;
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let mut client = RawClient::connect(world.proxy.address, &[(4, 1)]).await;
        let block = frames::get("/", &[]);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
        assert_eq!(client.until(frames::DATA).await.unwrap().payload, b"o");
        client.send(frames::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()).await;
        let data = client.until(frames::DATA).await.unwrap();
        assert_eq!((&data.payload[..], data.flags & END_STREAM), (&b"k"[..], 0));
        let end = client.until(last).await.unwrap();
        assert_eq!((end.flags & END_STREAM, end.payload.is_empty()), (1, last == frames::DATA));
    }
}

#[tokio::test]
async fn what_fails_is_told_on_its_stream_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backends = format!("http://{}", listener.local_addr().unwrap());
    let variables = [("PROXY_PROBE", "off"), ("PROXY_RESPONSE_TIMEOUT", "200ms")];
    let world = World::over(&backends, &variables, vec![]);
    world.until_eligible(1).await;
    let mut client = connect(world.proxy.address).await;
    for _ in 0..2 {
        let request = request("GET", "/", b"");
        let answer = client.send_request(request);
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), 504);
        let proxy_status = answer.headers()["proxy-status"].to_str().unwrap();
        assert!(proxy_status.contains("response_timeout"), "{proxy_status}");
    }
}
