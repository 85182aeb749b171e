//! Bounds on what clients can make the proxy hold, and how a refusal is said.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use common::{
    World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
    raw::{RawBackend, exchange, read_head, status},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn hits(world: &World, limit: &str) -> f64 {
    world.metric(&format!("evenkeel_limits_hit_total{{limit=\"{limit}\"}}")).await
}

/// A connection on which one request has been answered, or nothing if it was closed.
async fn served(world: &World) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.write_all(GET).await.ok()?;
    let head = read_head(&mut stream).await;
    (status(&head) == 200).then_some(stream)
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_their_places_given_again() {
    let world = World::start(1, &[("PROXY_CONNECTIONS_MAX", "2"), ("PROXY_WORKERS", "2")]).await;
    let first = served(&world).await.unwrap();
    let _second = served(&world).await.unwrap();
    assert!(served(&world).await.is_none());
    assert_eq!(hits(&world, "connections").await, 1.0);
    drop(first);
    world.until("the place to be free", async || served(&world).await.is_some()).await;
}

#[tokio::test]
async fn one_address_cannot_take_all_connections_not_even_by_upgrading_them() {
    let world = World::start(1, &[("PROXY_CONNECTIONS_PER_CLIENT_MAX", "1")]).await;
    let url = format!("ws://{}/ws", world.proxy.address);
    let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert!(served(&world).await.is_none());
    assert_eq!(hits(&world, "connections_per_client").await, 1.0);
    drop(socket);
    world.until("the place to be free", async || served(&world).await.is_some()).await;
}

#[tokio::test]
async fn requests_beyond_the_bound_are_told_to_come_back() {
    let world = World::start(1, &[("PROXY_REQUESTS_MAX", "1"), ("PROXY_WORKERS", "1")]).await;
    let mut slow = TcpStream::connect(world.proxy.address).await.unwrap();
    slow.write_all(b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"] == 1;
    world.until("the request to be in flight", in_flight).await;
    let answer = world.client.get(world.url("/")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    let proxy_status = answer.headers()["proxy-status"].to_str().unwrap();
    assert!(proxy_status.contains("details=\"overloaded\""), "{proxy_status}");
    // What could be read in two ways is refused as that, and nothing after it is read.
    let two = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    assert_eq!(status(&exchange(world.proxy.address, two).await), 400);
    assert_eq!(hits(&world, "requests").await, 1.0);
    drop(slow);
    world.until("it to be over", async || world.get("/").await.0 == 200).await;
}

#[tokio::test]
async fn targets_and_heads_beyond_the_bound_never_reach_a_backend() {
    let backend = RawBackend::start(b"HTTP/1.1 204 No\r\nconnection: close\r\n\r\n").await;
    let variables = [
        ("PROXY_PROBE", "off"),
        ("PROXY_TARGET_BYTES_MAX", "100"),
        ("PROXY_HEADERS_MAX", "10"),
        ("PROXY_HEADER_BYTES_MAX", "8KiB"),
    ];
    let world = World::over(&format!("http://{}", backend.address), &variables, vec![]);
    world.until_eligible(1).await;
    let long = format!("/{}", "x".repeat(100));
    let many: String = (0..10).map(|n| format!("x-{n}: 1\r\n")).collect();
    let big = format!("x: {}\r\n", "y".repeat(9_000));
    for (target, fields, expected, limit) in [
        (long.as_str(), "", 414, "target_bytes"),
        ("/", many.as_str(), 431, "headers"),
        ("/", big.as_str(), 431, "header_bytes"),
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
        let answer = exchange(world.proxy.address, &request).await;
        assert_eq!(status(&answer), expected, "{answer}");
        assert!(answer.contains("\r\nproxy-status: evenkeel; "), "{answer}");
        assert_eq!(hits(&world, limit).await, 1.0);
    }
    // The same over HTTP/2.
    for (path, fields) in [(&long[..], &[][..]), ("/", &[("x", "y"); 11])] {
        let mut client = RawClient::connect(world.proxy.address, &[]).await;
        let block = frames::get(path, fields);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
        assert_eq!(client.until(frames::HEADERS).await.unwrap().stream, 1);
    }
    assert_eq!((hits(&world, "target_bytes").await, hits(&world, "headers").await), (2.0, 2.0));
    assert_eq!(backend.heads.lock().await.len(), 0);
}

#[tokio::test]
async fn a_head_beyond_the_bound_is_too_big_even_in_one_piece() {
    let world = World::start(1, &[]).await;
    for (bytes, expected) in [(63 * 1024, 200), (65 * 1024, 431), (100 * 1024, 431)] {
        let field = "y".repeat(bytes);
        let request =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {field}\r\n\r\n");
        let answer = exchange(world.proxy.address, &request).await;
        assert_eq!(status(&answer), expected, "{bytes}: {answer}");
    }
}

#[tokio::test]
async fn a_head_of_http_2_that_is_too_big_is_answered_and_counted() {
    let world = World::start(1, &[("PROXY_HEADER_BYTES_MAX", "8KiB")]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    // Within what the library reads, which is more.
    let block = frames::get("/", &[("x", &*"y".repeat(120)); 60]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    client.until(frames::HEADERS).await.unwrap();
    assert_eq!(hits(&world, "header_bytes").await, 1.0);
    assert_eq!(
        world
            .metric(&format!(
                "evenkeel_requests_total{{pool=\"default\",backend=\"{}\"",
                world.id(0)
            ))
            .await,
        0.0
    );
}
