//! Clients that take their time on purpose, in the ways that slowhttptest knows: others are served
//! beside them, the limits of time end them all, and nothing is left of them. What they do to the
//! latency of others, `bench/slow` measures.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{
    World,
    raw::{exchange, read_head, status},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

/// Of each kind. Both ends of all of them are open in this process, in all tests at once.
const SLOW: usize = 250;

/// A segment on an Ethernet. With one of the loopback interface the kernel has room for megabytes
/// that a client does not read.
const SEGMENT_BYTES: u32 = 1460;

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
    streams
}

/// Goes on with each until the proxy closes it, sending `trickle` every second; what they were told.
fn go_on(streams: Vec<TcpStream>, trickle: &'static [u8]) -> JoinSet<String> {
    streams.into_iter().map(|stream| told(stream, trickle)).collect()
}

async fn told(mut stream: TcpStream, trickle: &[u8]) -> String {
    let (mut reader, mut writer) = stream.split();
    let mut told = Vec::new();
    {
        // A reset that follows the answer, since more was sent, is an end too.
        let mut reading = pin!(reader.read_to_end(&mut told));
        while tokio::time::timeout(Duration::from_secs(1), &mut reading).await.is_err() {
            let _ = writer.write_all(trickle).await;
        }
    }
    String::from_utf8(told).unwrap()
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

/// Has others served until the proxy has ended all slow clients by the limit that counts in
/// `series`. Nothing is left of them then.
async fn others_are_served_until_all_have_ended(world: &World, series: &str) {
    world.until("all to be there", async || open(world).await == SLOW as f64).await;
    world
        .until("the slow clients to be ended", async || {
            let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let answer = exchange(world.proxy.address, request).await;
            assert_eq!(status(&answer), 200, "{answer}");
            world.metric(series).await == SLOW as f64
        })
        .await;
    world.until("no connection to be left", async || open(world).await == 0.0).await;
    let in_flight = async || world.metric("evenkeel_in_flight{").await == 0.0;
    world.until("no request to be left", in_flight).await;
}

const HEADER_TIMEOUTS: &str = "evenkeel_client_timeouts_total{phase=\"header\"}";
const IDLE_TIMEOUTS: &str = "evenkeel_client_timeouts_total{phase=\"idle\"}";
const WRITE_TIMEOUTS: &str = "evenkeel_client_timeouts_total{phase=\"write\"}";
const UPLOAD_RATE: &str = "evenkeel_limits_hit_total{limit=\"upload_rate\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_trickle_in_are_answered_408_and_keep_nobody_from_service() {
    let world = World::start(1, &[("PROXY_HEADER_TIMEOUT", "5s")]).await;
    let streams = slow(&world, "GET / HTTP/1.1\r\nHost: a\r\n").await;
    let told = go_on(streams, b"X-a: b\r\n");
    others_are_served_until_all_have_ended(&world, HEADER_TIMEOUTS).await;
    for told in told.join_all().await {
        assert_eq!(status(&told), 408, "{told}");
    }
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
async fn bodies_that_trickle_in_are_answered_408_and_keep_nobody_from_service() {
    let backend = format!("http://{}", patient_backend().await);
    let world = World::over(&backend, &[], vec![]);
    world.until_eligible(1).await;
    let beginning = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8192\r\n\r\n";
    let told = go_on(slow(&world, beginning).await, b"x");
    others_are_served_until_all_have_ended(&world, UPLOAD_RATE).await;
    for told in told.join_all().await {
        assert_eq!(status(&told), 408, "{told}");
    }
}

/// Reads a few bytes every second, and what is left when it is `over`.
async fn hardly_read(mut stream: TcpStream, over: Arc<AtomicBool>) -> Vec<u8> {
    let mut read = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let _ = (&mut stream).take(32).read_to_end(&mut read).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let _ = stream.read_to_end(&mut read).await;
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_hardly_read_are_cut_and_keep_nobody_from_service() {
    let world = World::start(1, &[("PROXY_WRITE_TIMEOUT", "5s")]).await;
    const BYTES: usize = 1024 * 1024;
    let streams = slow(&world, &format!("GET /bytes/{BYTES} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let over = Arc::<AtomicBool>::default();
    let reading = streams.into_iter().map(|stream| hardly_read(stream, Arc::clone(&over)));
    let reading: JoinSet<Vec<u8>> = reading.collect();
    others_are_served_until_all_have_ended(&world, WRITE_TIMEOUTS).await;
    over.store(true, Ordering::Relaxed);
    assert!(reading.join_all().await.iter().all(|read| (1..BYTES).contains(&read.len())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_ranges_are_an_ordinary_request_and_keep_nobody_from_service() {
    let world = World::start(1, &[("PROXY_IDLE_TIMEOUT", "5s")]).await;
    let ranges: String = (1..3000).map(|end| format!(",5-{end}")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-{ranges}\r\n\r\n");
    let told = go_on(slow(&world, &request).await, b"");
    others_are_served_until_all_have_ended(&world, IDLE_TIMEOUTS).await;
    for told in told.join_all().await {
        assert_eq!(status(&told), 200, "{told}");
    }
}
