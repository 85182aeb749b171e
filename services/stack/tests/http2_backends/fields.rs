//! The fields of a request, before its body and after it: which of them arrive, and that too many end
//! nobody else's connection.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    INTERNAL_ERROR,
    common::{
        frames::{self, END_HEADERS, END_STREAM, RawClient},
        http2::connect,
    },
    echo::Backend,
    over,
    peer::{accepted, over_raw},
};

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
    let world = over(&[backend], &[("PROXY_PROBE", "off")]).await;
    // Until it is answered or refused. The status, if that is one of ours.
    let send = async |trailers: &[(&str, &str)]| {
        let mut client = RawClient::connect(world.proxy.address, &[]).await;
        let announcing = frames::get("/", &[("trailer", "x-sum")]);
        client.send(frames::HEADERS, END_HEADERS, 1, &announcing).await;
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
        ([("x\"y", "1")], REFUSED),
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

/// RFC 9113 §6.5.2, §7.
#[tokio::test]
async fn the_fields_after_an_upload_arrive_whole_or_it_is_refused() {
    let (backend, wholes) = noting_trailers().await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_HEADER_BYTES_MAX", "8KiB")];
    let world = over(&[backend], &variables).await;
    let mut client = connect(world.proxy.address).await;
    for (kibibytes, names, expected) in [
        (1, &["x-a", "x-b"][..], 200),
        (6, &["x-a", "x-b"], 200),
        (9, &["x-a", "x-b"], 431),
        (20, &["x-a", "x-b"], 431),
        (24, &["x-a"], 431),
    ] {
        let value = HeaderValue::try_from("x".repeat(kibibytes * 1024 / names.len())).unwrap();
        let fields = names.iter().map(|name| (name.parse().unwrap(), value.clone()));
        let trailers = HeaderMap::from_iter(fields);
        let frames = [Ok(Frame::data(Bytes::from_static(b"hello"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let request = Request::post("http://api.example/").header("trailer", "x-a, x-b");
        let answer = client.send_request(request.body(body).unwrap()).await.unwrap();
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
    let world = over(&[backend], &variables).await;
    let mut client = connect(world.proxy.address).await;
    for (kibibytes, expected) in [(9, 200), (14, 200), (16, 431)] {
        let frames = [
            Frame::data(Bytes::from_static(b"hello")),
            Frame::trailers(fields(1, kibibytes * 1024, b'x')),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed();
        let request = Request::post("http://api.example/").header("trailer", "x-0");
        let mut request = request.body(body).unwrap();
        request.headers_mut().extend(fields(1, 9_000, b'x'));
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), expected, "{kibibytes}");
    }
    let sizes: Vec<usize> = wholes.lock().unwrap().iter().map(|whole| whole["x-0"].len()).collect();
    assert_eq!(sizes, [9 * 1024, 14 * 1024]);
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
    let mut client = connect(world.proxy.address).await;
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
        assert!(connections() - before <= usize::from(bytes > 8192), "{bytes}");
        let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(fields)].map(Ok);
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        // Not announced, they do not get there.
        let request = Request::post("http://api.example/").body(body).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 200, "{bytes}");
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
