//! What waits in the proxy for clients that read nothing, and for backends that do not: bounded over all of
//! them, shown, and no harm to those who read.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::net::SocketAddr;

use bytes::Bytes;
use common::{
    World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
    raw::read_head,
};
use futures_util::FutureExt;
use http::Request;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// A response that no system has room for.
const HUGE: &str = "/bytes/1GiB";

/// One without an end that comes a byte at a time.
const CRUMBS: &str = "/crumbs";

/// A backend that has huge responses ready faster than they can be passed on, which ours has not in
/// a debug build, and short ones. Of a POST it reads no more than the head.
async fn backend() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    // So that what it does not read is soon with the proxy.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                if head.starts_with("POST ") {
                    return std::future::pending().await;
                }
                if head.contains(CRUMBS) {
                    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                    let mut part = head.to_owned();
                    while stream.write_all(part.as_bytes()).await.is_ok() {
                        part = "1\r\nx\r\n".repeat(1 << 16);
                    }
                    return;
                }
                let is_huge = head.contains(HUGE);
                let bytes: usize = if is_huge { 1 << 30 } else { 1 << 20 };
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                let part = vec![b'x'; 1 << 20];
                for _ in 0..bytes >> 20 {
                    if stream.write_all(&part).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// One worker, which is what `World::turn` counts on, and no limit that ends what is to be measured.
const ALWAYS: [(&str, &str); 3] =
    [("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1"), ("PROXY_WRITE_TIMEOUT", "1h")];

async fn over_backend(variables: &[(&str, &str)]) -> World {
    let backends = format!("http://{}", backend().await);
    let variables = [variables, &ALWAYS].concat();
    let world = World::over(&backends, &variables, vec![]);
    world.until_eligible(1).await;
    world
}

async fn buffered(world: &World) -> f64 {
    world.metric("evenkeel_buffered_bytes").await
}

async fn hits(world: &World) -> f64 {
    world.metric("evenkeel_limits_hit_total{limit=\"buffered_bytes\"}").await
}

/// A client that has asked for a huge response and reads nothing of it.
async fn stuck(world: &World) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(world.proxy.address).await.unwrap();
    let request = format!("GET {HUGE} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

/// What waits, once that is at least so much and does not change any more.
async fn settled(world: &World, least: f64) -> f64 {
    let is_there = async || buffered(world).await >= least;
    world.until(&format!("{least} bytes to wait"), is_there).await;
    world.settled(async || buffered(world).await).await
}

/// Whoever reads gets all of a large response.
async fn is_served(world: &World) {
    let answer = world.client.get(world.url("/bytes/1MiB")).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap().len(), 1024 * 1024);
}

/// Nothing waits any more, and large responses are read as ever.
async fn is_unharmed(world: &World) {
    world.until("nothing to be left", async || buffered(world).await == 0.0).await;
    is_served(world).await;
}

#[tokio::test]
async fn what_waits_for_clients_that_read_nothing_is_bounded_and_others_are_served() {
    let world = over_backend(&[("PROXY_BUFFERED_BYTES_MAX", "1MiB")]).await;
    // How much waits of each depends on what the system has taken before.
    const CLIENTS_MOST: usize = 1_000;
    let mut clients = Vec::new();
    while hits(&world).await == 0.0 && clients.len() < CLIENTS_MOST {
        for _ in 0..100 {
            clients.push(stuck(&world).await);
        }
        let served = clients.len() as f64;
        let in_flight = async || world.metric("evenkeel_in_flight{").await == served;
        world.until("all to be served", in_flight).await;
        settled(&world, 1.0).await;
    }
    world.until("the bound to be met", async || hits(&world).await > 0.0).await;
    // At the bound there is little for each, not nothing.
    let bytes = settled(&world, 1.0).await;
    assert!(bytes < MIB + clients.len() as f64 * 16.0 * KIB, "{bytes}");
    is_served(&world).await;
    drop(clients);
    is_unharmed(&world).await;
}

#[tokio::test]
async fn a_client_of_http_2_that_reads_nothing_costs_little_however_many_streams_it_has() {
    let world = over_backend(&[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[(4, 0x7fff_ffff)]).await;
    client.send(frames::WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
    const STREAMS: u32 = 100;
    // At once: the library reads no more while it cannot write.
    let mut requests = Vec::new();
    for stream in 0..STREAMS {
        let block = frames::get(HUGE, &[]);
        let flags = END_HEADERS | END_STREAM;
        requests.extend(frames::frame(frames::HEADERS, flags, 2 * stream + 1, &block));
    }
    client.0.write_all(&requests).await.unwrap();
    let in_flight = async || world.metric("evenkeel_in_flight{").await == f64::from(STREAMS);
    world.until("all to be served", in_flight).await;
    let bytes = settled(&world, 1.0).await;
    assert!(bytes < MIB + f64::from(STREAMS) * 32.0 * KIB, "{bytes}");
    assert_eq!(hits(&world).await, 0.0);
    drop(client);
    is_unharmed(&world).await;
}

/// In the HTTP/2 library each piece has a place of its own, whatever is in it.
#[tokio::test]
async fn a_response_that_comes_a_byte_at_a_time_waits_in_few_pieces() {
    let world = over_backend(&[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[(4, 0x7fff_ffff)]).await;
    client.send(frames::WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::get(CRUMBS, &[])).await;
    let (mut bytes, mut pieces) = (0, 0);
    while bytes < 1 << 18 {
        bytes += client.until(frames::DATA).await.unwrap().payload.len();
        pieces += 1;
    }
    assert!(pieces < bytes / 100, "{pieces}");
}

#[tokio::test]
async fn streams_that_get_no_room_do_not_stop_one_that_does() {
    let world = over_backend(&[("PROXY_BUFFERED_BYTES_MAX", "1MiB")]).await;
    // Room for a byte of each.
    let mut client = RawClient::connect(world.proxy.address, &[(4, 1)]).await;
    client.send(frames::WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
    const STUCK: u32 = 90;
    for stream in 0..STUCK {
        let block = frames::get(HUGE, &[]);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &block).await;
    }
    settled(&world, 0.5 * MIB).await;
    let stream = 2 * STUCK + 1;
    let block = frames::get("/bytes/1MiB", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
    client.send(frames::WINDOW_UPDATE, 0, stream, &0x7000_0000_u32.to_be_bytes()).await;
    let mut bytes = 0;
    loop {
        let frame = client.until(frames::DATA).await.unwrap();
        if frame.stream == stream {
            bytes += frame.payload.len();
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
    }
    assert_eq!(bytes, 1024 * 1024);
}

/// Connections of clients of HTTP/2 with so many uploads each, which send as much as they may.
async fn uploads(world: &World, connections: usize, streams: usize) -> JoinSet<()> {
    let mut running = JoinSet::new();
    // A connection that has its share is not read on, be it for another request.
    let (begin, begun) = tokio::sync::watch::channel(false);
    for _ in 0..connections {
        let io = TokioIo::new(TcpStream::connect(world.proxy.address).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = handshake.unwrap();
        running.spawn(async move { drop(connection.await) });
        for _ in 0..streams {
            let part =
                || Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![0; 16_384])));
            let mut begun = begun.clone();
            let parts = async move {
                drop(begun.wait_for(|begun| *begun).await);
                futures_util::stream::repeat_with(part)
            };
            let body = StreamBody::new(Box::pin(parts.flatten_stream()));
            let request = Request::post("http://a/").body(body).unwrap();
            let mut sender = sender.clone();
            running.spawn(async move { drop(sender.send_request(request).await) });
        }
    }
    let all = (connections * streams) as f64;
    let in_flight = async || world.metric("evenkeel_in_flight{").await == all;
    world.until("all to be there", in_flight).await;
    begin.send(true).unwrap();
    running
}

#[tokio::test]
async fn what_a_client_of_http_2_sends_to_a_backend_that_reads_nothing_counts() {
    let world = over_backend(&[]).await;
    for (streams, window) in [(1, 256.0 * KIB), (5, 768.0 * KIB)] {
        let running = uploads(&world, 1, streams).await;
        // The library tells a client of room that has come back once it is half of the window.
        let least = window / 2.0 - 16.0 * KIB;
        let bytes = settled(&world, least).await;
        // Of each, one part is on its way to the backend; and where a window ends, some 20 frames may be
        // small, which count for more than is in them.
        let most = window + streams as f64 * 16.0 * KIB + 5.0 * KIB;
        assert!((least..=most).contains(&bytes), "{bytes} of {window}");
        assert_eq!(hits(&world).await, 0.0);
        drop(running);
        is_unharmed(&world).await;
    }
}

#[tokio::test]
async fn what_waits_for_backends_that_read_nothing_is_bounded_and_others_are_served() {
    let variables = [
        ("PROXY_BUFFERED_BYTES_MAX", "2MiB"),
        // A client that left is looked for as often as the shortest limit.
        ("PROXY_HEADER_TIMEOUT", "1s"),
        // One whose end is behind what the system has no room for is not seen to leave before that.
        ("PROXY_RESPONSE_TIMEOUT", "10s"),
    ];
    let world = over_backend(&variables).await;
    const CONNECTIONS: usize = 40;
    // All of their windows together are fifteen times what there may be.
    let running = uploads(&world, CONNECTIONS, 3).await;
    let mut most = 0.0_f64;
    let mut looks = async || {
        most = most.max(buffered(&world).await);
        hits(&world).await
    };
    world.until("the bound to be met", async || looks().await > 0.0).await;
    world.settled(&mut looks).await;
    // Within 10 s two parts more are read of each.
    let bound = 2.0 * MIB + CONNECTIONS as f64 * (32.0 + 2.0 * 16.0) * KIB;
    assert!(most < bound, "{most}");
    is_served(&world).await;
    drop(running);
    is_unharmed(&world).await;
}

/// An upload over HTTP/1 that goes on for as long as somebody takes it.
async fn upload_over_http1(address: SocketAddr) {
    let mut client = TcpStream::connect(address).await.unwrap();
    // Its end would be behind what nobody reads.
    client.set_zero_linger().unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let part = vec![b'x'; 1 << 16];
    while client.write_all(&part).await.is_ok() {}
}

#[tokio::test]
async fn what_uploads_over_http_1_wait_with_is_bounded_and_others_are_served() {
    let variables = [("PROXY_BUFFERED_BYTES_MAX", "1MiB"), ("PROXY_RESPONSE_TIMEOUT", "1h")];
    let world = over_backend(&variables).await;
    const CLIENTS: usize = 60;
    let mut uploads = JoinSet::new();
    for _ in 0..CLIENTS {
        uploads.spawn(upload_over_http1(world.proxy.address));
    }
    world.until("the bound to be met", async || hits(&world).await > 0.0).await;
    let bytes = settled(&world, 0.5 * MIB).await;
    assert!(bytes < MIB + CLIENTS as f64 * 16.0 * KIB, "{bytes}");
    is_served(&world).await;
    drop(uploads);
    is_unharmed(&world).await;
}

/// A backend of HTTP/2 that has room for everything and reads no more than a head. Its ends of connections.
async fn deaf() -> (SocketAddr, UnboundedReceiver<RawClient>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let address = listener.local_addr().unwrap();
    let (given, peers) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_exact(&mut [0; frames::PREFACE.len()]).await.unwrap();
            let mut peer = RawClient(stream);
            let settings = [&[0, 4][..], &0x7fff_ffff_u32.to_be_bytes()].concat();
            peer.send(frames::SETTINGS, 0, 0, &settings).await;
            peer.send(frames::WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
            peer.until(frames::HEADERS).await.unwrap();
            given.send(peer).unwrap();
        }
    });
    (address, peers)
}

/// It takes all that the backend has room for, though nobody reads it.
#[tokio::test]
async fn what_the_library_has_of_an_upload_counts_until_its_stream_or_its_connection_is_gone() {
    let (backend, mut peers) = deaf().await;
    let variables = [
        ("PROXY_BACKEND_PROTOCOL", "h2c"),
        ("PROXY_PROBE", "off"),
        ("PROXY_EJECT", "false"),
        ("PROXY_WORKERS", "1"),
        // A client that left is looked for as often as the shortest limit.
        ("PROXY_HEADER_TIMEOUT", "1s"),
    ];
    let world = World::over(&format!("http://{backend}"), &variables, vec![]);
    world.until_eligible(1).await;
    for end in ["client leaves", "backend resets", "backend closes"] {
        let client = tokio::spawn(upload_over_http1(world.proxy.address));
        let mut peer = peers.recv().await.unwrap();
        let bytes = settled(&world, 64.0 * KIB).await;
        assert!(bytes > 64.0 * KIB, "{bytes}");
        match end {
            "client leaves" => {
                client.abort();
                let is_gone = async || world.metric("evenkeel_in_flight{").await == 0.0;
                world.until("it to be seen", is_gone).await;
                // Its reset waits behind what the backend does not read.
                let bytes = buffered(&world).await;
                assert!((64.0 * KIB..96.0 * KIB).contains(&bytes), "{bytes}");
            }
            "backend resets" => peer.send(frames::RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await,
            _ => drop(peer),
        }
        world.until("nothing to be left", async || buffered(&world).await == 0.0).await;
        let open = "evenkeel_connections{side=\"backend\",state=\"";
        let are_closed = async || {
            let [active, idle] = ["active", "idle"].map(|state| format!("{open}{state}\"}}"));
            world.metric(&active).await + world.metric(&idle).await == 0.0
        };
        world.until("its connection to be closed", are_closed).await;
    }
}

/// It sends as much as its window allows, whatever its client takes.
#[tokio::test]
async fn what_a_backend_of_http_2_sends_meanwhile_counts_with_clients_of_either_kind() {
    let variables =
        [("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_WORKERS", "1"), ("PROXY_WRITE_TIMEOUT", "1h")];
    let world = World::start(1, &variables).await;
    let http1 = stuck(&world).await;
    let of_http1 = settled(&world, 128.0 * KIB).await;
    assert!(of_http1 < 512.0 * KIB, "{of_http1}");
    drop(http1);
    is_unharmed(&world).await;
    // Room for a byte.
    let mut http2 = RawClient::connect(world.proxy.address, &[(4, 1)]).await;
    http2.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::get(HUGE, &[])).await;
    let of_http2 = settled(&world, 128.0 * KIB).await;
    assert!(of_http2 < 512.0 * KIB, "{of_http2}");
    drop(http2);
    is_unharmed(&world).await;
}
