//! Bounds on what clients can make the proxy hold, and how a refusal is said.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::time::Duration;

use common::{
    World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
    raw::{RawBackend, exchange, read_head, status},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

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

/// A backend that reads all, and answers or not.
async fn reader(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(answer).await.unwrap();
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    });
    backend
}

#[tokio::test]
async fn a_body_that_trickles_in_is_too_slow_however_steady_it_is() {
    let answered = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (before, after) = tokio::join!(
        answer_to_trickle(reader(b"").await),
        answer_to_trickle(reader(answered).await)
    );
    assert!(status(&before) == 408 && before.contains("request_timeout"), "{before}");
    assert_eq!(status(&after), 200, "{after}");
}

/// What a client gets, up to its connection's end, that sends a body too slowly.
async fn answer_to_trickle(backend: String) -> String {
    let world = World::over(&backend, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(1).await;
    let stream = TcpStream::connect(world.proxy.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    writer.write_all(head).await.unwrap();
    let trickle = tokio::spawn(async move {
        // Two bytes a second, where a hundred are the least.
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut answer = String::new();
    let read = reader.read_to_string(&mut answer);
    // The rate is looked at after ten seconds.
    let _ = tokio::time::timeout(Duration::from_secs(60), read).await.expect("it stays open");
    assert_eq!(hits(&world, "upload_rate").await, 1.0);
    trickle.abort();
    answer
}

/// A client of HTTP/1 takes a long answer at 20 KB a second, and gets so many bytes before the end.
async fn trickle_of_http1(world: &World) -> usize {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // As on an Ethernet; with segments of the loopback interface the kernel holds megabytes.
    socket2::SockRef::from(&socket).set_tcp_mss(1460).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(world.proxy.address).await.unwrap();
    stream.write_all(b"GET /bytes/80000000 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (mut part, mut taken) = ([0; 2_000], 0);
    while let Ok(count @ 1..) = stream.read(&mut part).await {
        taken += count;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    taken
}

/// The same of HTTP/2, which makes room for 2000 bytes ten times a second.
async fn trickle_of_http2(world: &World) {
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let mut client = RawClient::connect(world.proxy.address, &[(4, 2_000)]).await;
    let block = frames::get("/bytes/80000000", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    let window = frames::frame(frames::WINDOW_UPDATE, 0, 1, &2_000_u32.to_be_bytes());
    let of_connection = frames::frame(frames::WINDOW_UPDATE, 0, 0, &2_000_u32.to_be_bytes());
    let (mut reader, mut writer) = client.0.split();
    let making_room = async {
        while writer.write_all(&[&window[..], &of_connection].concat()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let reset = async {
        let mut read = Vec::new();
        let reset = frames::frame(frames::RST_STREAM, 0, 1, &[0; 4]);
        while !read.windows(9).any(|head: &[u8]| head == &reset[..9]) {
            assert!(reader.read_buf(&mut read).await.unwrap() > 0, "the connection ended");
        }
    };
    tokio::select! {
        () = reset => {}
        () = making_room => panic!("the connection ended"),
    }
}

#[tokio::test]
async fn a_client_that_takes_its_answer_too_slowly_is_cut_off_and_no_backend_blamed() {
    let variables = [("PROXY_DOWNLOAD_RATE_MIN", "100000"), ("PROXY_HEADER_TIMEOUT", "1s")];
    let world = World::start(1, &variables).await;
    let limit = Duration::from_secs(60);
    let both = async { tokio::join!(trickle_of_http1(&world), trickle_of_http2(&world)) };
    let (taken, ()) = tokio::time::timeout(limit, both).await.expect("it stays open");
    assert!((1_000..20_000_000).contains(&taken), "{taken}");
    assert_eq!(hits(&world, "download_rate").await, 2.0);
    let gone = format!(
        "evenkeel_requests_total{{pool=\"default\",backend=\"{}\",method=\"GET\",code=\"499\"}}",
        world.id(0)
    );
    world.until("the ends to be recorded", async || world.metric(&gone).await == 2.0).await;
    let backend = world.backend(&world.id(0)).await;
    assert!(backend["in_flight"] == 0 && backend["traffic"]["failures_total"] == 0, "{backend}");
}
