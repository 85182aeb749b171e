//! Bounds on the fields of messages, before their bodies and after them, of clients and of backends that
//! speak either protocol.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use common::{
    World,
    raw::{exchange, status},
};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::TRAILER};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

const PROTOCOLS: [&str; 2] = ["http1", "h2c"];

/// So many fields of so many bytes each, in which compression finds little.
fn fields(count: usize, bytes: usize) -> HeaderMap {
    let value = HeaderValue::try_from("0".repeat(bytes)).unwrap();
    let name = |number| HeaderName::try_from(format!("x-{number}")).unwrap();
    (0..count).map(|number| (name(number), value.clone())).collect()
}

fn body(trailers: HeaderMap) -> BoxBody<Bytes, Infallible> {
    let frames = [Frame::data(Bytes::from_static(b"ok")), Frame::trailers(trailers)];
    StreamBody::new(stream::iter(frames.map(Ok))).boxed()
}

/// What `/head/COUNT/BYTES` and `/trailers/COUNT/BYTES` ask for.
fn answer(path: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let parts: Vec<&str> = path.split('/').collect();
    let [_, place, count, bytes] = parts[..] else { return Response::new(body(HeaderMap::new())) };
    let fields = fields(count.parse().unwrap(), bytes.parse().unwrap());
    if place == "head" {
        let mut response = Response::new(body(HeaderMap::new()));
        response.headers_mut().extend(fields);
        return response;
    }
    let names: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
    let response = Response::builder().header(TRAILER, names.join(", "));
    response.body(body(fields)).unwrap()
}

/// A backend that answers a request that has come to it whole, and how many have.
async fn backend(protocol: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, wholes) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let (count, is_http1) = (Arc::clone(&wholes), protocol == "http1");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            let service = service_fn(move |request: Request<Incoming>| {
                let count = Arc::clone(&count);
                async move {
                    let path = request.uri().path().to_owned();
                    request.into_body().collect().await?;
                    count.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, hyper::Error>(answer(&path))
                }
            });
            let io = TokioIo::new(stream);
            if is_http1 {
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service),
                );
            } else {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(io, service));
            }
        }
    });
    (address, wholes)
}

async fn over(backend: SocketAddr, protocol: &str, variables: &[(&str, &str)]) -> World {
    let mut all = vec![
        ("PROXY_BACKEND_PROTOCOL", protocol),
        ("PROXY_PROBE", "off"),
        ("PROXY_EJECT", "false"),
        ("PROXY_WORKERS", "1"),
    ];
    all.extend(variables);
    let world = World::over(&format!("http://{backend}"), &all, vec![]);
    world.until_eligible(1).await;
    world
}

/// Waits until a bound was hit so often.
async fn until_hit(world: &World, limit: &str, times: usize) {
    let metric = format!("evenkeel_limits_hit_total{{limit=\"{limit}\"}}");
    let is_counted = async || world.metric(&metric).await == times as f64;
    world.until("it to be counted", is_counted).await;
}

/// Asks for an answer. Its status, and whether it has come to its end.
async fn ask(world: &World, path: &str) -> (u16, bool) {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close, te\r\n\r\n");
    let answer = exchange(world.proxy.address, &request).await;
    (status(&answer), answer.contains("\r\n0\r\n"))
}

/// Sends a request over HTTP/1 with these fields after its body. The status of the answer.
async fn send_http1(world: &World, trailers: &HeaderMap) -> u16 {
    let mut request = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
                       transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
        .to_owned();
    for (name, value) in trailers {
        request += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    status(&exchange(world.proxy.address, &(request + "\r\n")).await)
}

/// The same over HTTP/2, unless that ends the connection.
async fn send_http2(world: &World, trailers: &HeaderMap) -> Option<u16> {
    let io = TokioIo::new(TcpStream::connect(world.proxy.address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://a/").body(body(trailers.clone())).unwrap();
    let answer = tokio::time::timeout(common::PATIENCE, sender.send_request(request));
    let answer = answer.await.expect("no answer and no end").ok()?;
    Some(answer.status().as_u16())
}

#[tokio::test]
async fn more_fields_after_a_request_than_may_be_are_refused_and_counted_by_their_bound() {
    for protocol in PROTOCOLS {
        let (backend, wholes) = backend(protocol).await;
        let variables = [("PROXY_HEADERS_MAX", "20"), ("PROXY_HEADER_BYTES_MAX", "8KiB")];
        let world = over(backend, protocol, &variables).await;
        for (count, bytes, expected) in [(20, 10, 200), (21, 1, 431), (3, 4_000, 431)] {
            let trailers = fields(count, bytes);
            assert_eq!(send_http1(&world, &trailers).await, expected, "{count} of {bytes}");
            assert_eq!(send_http2(&world, &trailers).await, Some(expected), "{count} of {bytes}");
        }
        until_hit(&world, "headers", 2).await;
        until_hit(&world, "header_bytes", 2).await;
        assert_eq!(wholes.load(Ordering::Relaxed), 2, "{protocol}");
    }
}

#[tokio::test]
async fn more_fields_of_an_answer_than_may_be_never_pass_and_are_counted_by_their_bound() {
    for protocol in PROTOCOLS {
        let (backend, _) = backend(protocol).await;
        let (count, bytes) = ("PROXY_RESPONSE_HEADERS_MAX", "PROXY_RESPONSE_HEADER_BYTES_MAX");
        let world = over(backend, protocol, &[(count, "20"), (bytes, "8KiB")]).await;
        for (path, expected) in [
            ("/head/10/10", (200, true)),
            ("/head/21/1", (502, false)),
            ("/head/3/4000", (502, false)),
            ("/trailers/20/10", (200, true)),
            ("/trailers/21/1", (200, false)),
            ("/trailers/3/4000", (200, false)),
        ] {
            assert_eq!(ask(&world, path).await, expected, "{protocol}: {path}");
        }
        until_hit(&world, "response_headers", 2).await;
        until_hit(&world, "response_header_bytes", 2).await;
    }
}

/// The HTTP/2 library drops a field that is longer than what it reads, and tells nobody.
#[tokio::test]
async fn a_field_after_a_request_is_never_dropped_however_long_it_is() {
    let (backend, wholes) = backend("http1").await;
    let world = over(backend, "http1", &[]).await;
    // In as few bits as they can have. The last is beyond what is held of any, which ends the connection.
    for (bytes, expected) in
        [(10_000, Some(200)), (100_000, Some(431)), (480_000, Some(431)), (1_000_000, None)]
    {
        let mut trailers = fields(1, bytes);
        trailers.insert("a-first", HeaderValue::from_static("1"));
        assert_eq!(send_http2(&world, &trailers).await, expected, "{bytes}");
    }
    until_hit(&world, "header_bytes", 2).await;
    until_hit(&world, "http2_excess", 1).await;
    assert_eq!(wholes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_field_after_an_answer_is_never_dropped_however_long_it_is() {
    let (backend, _) = backend("h2c").await;
    let world = over(backend, "h2c", &[]).await;
    let answers = [(60_000, true), (100_000, false), (1_000_000, false), (1_500_000, false)];
    for (bytes, is_whole) in answers {
        let answer = ask(&world, &format!("/trailers/1/{bytes}")).await;
        assert_eq!(answer, (200, is_whole), "{bytes}");
    }
    until_hit(&world, "response_header_bytes", 3).await;
}
