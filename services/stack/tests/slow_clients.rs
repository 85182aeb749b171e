//! Clients that take their time on purpose, in the ways that slowhttptest knows, hundreds at once: others
//! are served beside them, and when they leave nothing is left of them. That the limits of time end them,
//! and when, `proxy/src/client/tests` shows; what thousands do to the latency of others, `bench/slow`
//! measures.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::net::SocketAddr;

use common::{
    World,
    raw::{exchange, read_head, status},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// Of each kind. Both ends of all of them are open in this process, in all tests at once.
const SLOW: usize = 250;

/// Requests of others, before each of which all slow clients go on a little.
const OTHERS: usize = 10;

/// A segment on an Ethernet. With one of the loopback interface the kernel has room for megabytes
/// that a client does not read.
const SEGMENT_BYTES: u32 = 1460;

/// No limit ends a slow client here, however long it all takes.
const PATIENT: [(&str, &str); 6] = [
    ("PROXY_HEADER_TIMEOUT", "1h"),
    ("PROXY_IDLE_TIMEOUT", "1h"),
    ("PROXY_WRITE_TIMEOUT", "1h"),
    ("PROXY_RESPONSE_TIMEOUT", "1h"),
    ("PROXY_UPLOAD_RATE_MIN", "0"),
    ("PROXY_DOWNLOAD_RATE_MIN", "0"),
];

/// A connection on which `beginning` was sent.
async fn connect(proxy: SocketAddr, beginning: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket2::SockRef::from(&socket).set_tcp_mss(SEGMENT_BYTES).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(proxy).await.unwrap();
    stream.write_all(beginning.as_bytes()).await.unwrap();
    stream
}

/// Slow clients of one kind, as many as there are to be.
async fn slow(world: &World, beginning: &str) -> Vec<TcpStream> {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let mut streams = Vec::new();
    for _ in 0..SLOW {
        streams.push(connect(world.proxy.address, beginning).await);
    }
    world.until("all to be there", async || open(world).await == SLOW as f64).await;
    streams
}

/// Connections of clients that the proxy has.
async fn open(world: &World) -> f64 {
    let mut sum = 0.0;
    for state in ["active", "idle", "resting"] {
        let series = format!("evenkeel_connections{{side=\"client\",state=\"{state}\"");
        sum += world.metric(&series).await;
    }
    sum
}

async fn in_flight(world: &World) -> f64 {
    world.metric("evenkeel_in_flight{").await
}

/// Has others served while each of the slow ones goes on.
async fn others_are_served(
    world: &World,
    streams: &mut [TcpStream],
    go_on: impl AsyncFn(&mut TcpStream),
) {
    for _ in 0..OTHERS {
        for stream in &mut *streams {
            go_on(stream).await;
        }
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = exchange(world.proxy.address, request).await;
        assert_eq!(status(&answer), 200, "{answer}");
    }
    world.until("all to be there still", async || open(world).await == SLOW as f64).await;
}

async fn nothing_is_left(world: &World) {
    world.until("no connection to be left", async || open(world).await == 0.0).await;
    world.until("no request to be left", async || in_flight(world).await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_trickle_in_keep_nobody_from_service() {
    let world = World::start(1, &PATIENT).await;
    let mut streams = slow(&world, "GET / HTTP/1.1\r\nHost: a\r\n").await;
    let trickle = async |stream: &mut TcpStream| stream.write_all(b"X-a: b\r\n").await.unwrap();
    others_are_served(&world, &mut streams, trickle).await;
    drop(streams);
    nothing_is_left(&world).await;
}

/// A backend that answers once it has a whole request.
async fn patient_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while read_head(&mut stream).await.starts_with("GET ") {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).await.unwrap();
                }
                // Of a POST here, the end never comes.
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_trickle_in_keep_nobody_from_service() {
    let backend = format!("http://{}", patient_backend().await);
    let world = World::over(&backend, &PATIENT, vec![]);
    world.until_eligible(1).await;
    let mut streams =
        slow(&world, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8192\r\n\r\n").await;
    world.until("all to be served", async || in_flight(&world).await == SLOW as f64).await;
    let trickle = async |stream: &mut TcpStream| stream.write_all(b"x").await.unwrap();
    others_are_served(&world, &mut streams, trickle).await;
    drop(streams);
    nothing_is_left(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_hardly_read_keep_nobody_from_service() {
    let world = World::start(1, &PATIENT).await;
    let mut streams = slow(&world, "GET /bytes/1MiB HTTP/1.1\r\nHost: a\r\n\r\n").await;
    world.until("all to be served", async || in_flight(&world).await == SLOW as f64).await;
    let read = async |stream: &mut TcpStream| {
        stream.read_exact(&mut [0; 32]).await.unwrap();
    };
    others_are_served(&world, &mut streams, read).await;
    assert_eq!(in_flight(&world).await, SLOW as f64);
    drop(streams);
    nothing_is_left(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_ranges_are_an_ordinary_request_and_keep_nobody_from_service() {
    let world = World::start(1, &PATIENT).await;
    let ranges: String = (1..3000).map(|end| format!(",5-{end}")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-{ranges}\r\n\r\n");
    let mut streams = slow(&world, &request).await;
    for stream in &mut streams {
        assert_eq!(status(&read_head(stream).await), 200);
    }
    others_are_served(&world, &mut streams, async |_| {}).await;
    drop(streams);
    nothing_is_left(&world).await;
}
