//! What a slow side makes the proxy hold: what one side has written, less what the kernel holds
//! and the other side has read. The kernel tells of its part in `/proc/net/tcp`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{
    PATIENCE, World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
    raw::read_head,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
};

const MIB: u64 = 1024 * 1024;

/// Writes for as long as somebody reads, and counts.
async fn write_on(stream: &mut TcpStream, written: &AtomicU64) {
    let bytes = [7; 16 * 1024];
    while let Ok(count) = stream.write(&bytes).await {
        written.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A backend that answers with a body without end, or takes a request's head and no more.
async fn backend(answers: bool) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let written = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&written);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        if answers {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
            stream.write_all(head).await.unwrap();
            write_on(&mut stream, &counted).await;
        }
        std::future::pending::<()>().await;
    });
    (address, written)
}

async fn over(backend: SocketAddr) -> World {
    // None of them is over before it was measured.
    let variables = [
        ("PROXY_PROBE", "off"),
        ("PROXY_WORKERS", "1"),
        ("PROXY_WRITE_TIMEOUT", "1h"),
        ("PROXY_RESPONSE_TIMEOUT", "1h"),
    ];
    let world = World::over(&format!("http://{backend}"), &variables, vec![]);
    world.until_eligible(1).await;
    world
}

/// Bytes in the kernel's queues of all connections with one of these ports at an end.
fn queued(ports: [u16; 2]) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let port = |address: &str| hex(address.split_once(':').unwrap().1) as u16;
    let sum = table.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        const ESTABLISHED: &str = "01";
        let is_ours = [fields[1], fields[2]].iter().any(|end| ports.contains(&port(end)));
        let (sending, receiving) = fields[4].split_once(':').unwrap();
        if is_ours && fields[3] == ESTABLISHED { hex(sending) + hex(receiving) } else { 0 }
    });
    sum.sum()
}

/// What is neither in the kernel nor written any more, once no more is written: the proxy's own.
async fn held(world: &World, written: &AtomicU64, ports: [u16; 2]) -> u64 {
    let written = || written.load(Ordering::Relaxed);
    world.until("something to be written", async || written() > 0).await;
    let written = world.settled(async || written()).await;
    let mut held = written;
    for _ in 0..10 {
        world.turn().await;
        // What goes from one queue to another while they are looked at may be missing in both.
        held = held.min(written.saturating_sub(queued(ports)));
    }
    held
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_a_huge_response_costs_less_than_a_mebibyte() {
    let (backend, written) = backend(true).await;
    let world = over(backend).await;
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let ports = [backend.port(), client.local_addr().unwrap().port()];
    let held = held(&world, &written, ports).await;
    assert!(held < MIB, "{held} bytes");
    // It does move once it is read, so that something was measured.
    let before = written.load(Ordering::Relaxed);
    let mut sink = vec![0; 1_000_000];
    let more = async || {
        client.read_exact(&mut sink).await.unwrap();
        written.load(Ordering::Relaxed) > before
    };
    world.until("the backend to write on", more).await;
}

#[tokio::test]
async fn the_same_over_http_2_with_windows_wide_open() {
    let (backend, written) = backend(true).await;
    let world = over(backend).await;
    let mut client = RawClient::connect(world.proxy.address, &[(4, 0x7fff_ffff)]).await;
    let wide = 0x7000_0000_u32.to_be_bytes();
    client.send(frames::WINDOW_UPDATE, 0, 0, &wide).await;
    let block = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    let ports = [backend.port(), client.0.local_addr().unwrap().port()];
    let held = held(&world, &written, ports).await;
    assert!(held < MIB, "{held} bytes");
}

#[tokio::test]
async fn a_fast_upload_to_a_backend_that_reads_nothing_costs_less_than_a_mebibyte() {
    let (backend, _) = backend(false).await;
    let world = over(backend).await;
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    let ports = [backend.port(), client.local_addr().unwrap().port()];
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n";
    client.write_all(head).await.unwrap();
    let written = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&written);
    tokio::spawn(async move { write_on(&mut client, &counted).await });
    let held = held(&world, &written, ports).await;
    assert!(held < MIB, "{held} bytes");
}

/// A backend that answers a request at its head and then reads some of the body at each `turn`. Tells how
/// much of it came.
async fn slow_reader(turn: watch::Receiver<()>) -> (SocketAddr, mpsc::UnboundedReceiver<u64>) {
    let socket = TcpSocket::new_v4().unwrap();
    // So that what is under way is with the proxy and not in a buffer here.
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (tell, mut turn) = (tell.clone(), turn.clone());
            tokio::spawn(async move {
                read_head(&mut stream).await;
                // A client that comes late must not come here on a connection that is kept.
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                let (mut count, mut part) = (0, vec![0; 64 * 1024]);
                loop {
                    match stream.read(&mut part).await {
                        Ok(0) | Err(_) => break,
                        Ok(read) => count += read as u64,
                    }
                    turn.changed().await.unwrap();
                }
                tell.send(count).unwrap();
            });
        }
    });
    (address, told)
}

#[tokio::test]
async fn a_body_goes_up_to_its_last_byte_though_its_response_has_ended() {
    // Where the last part waits for room depends on sizes; these make it wait in some.
    const SIZES: std::ops::Range<u64> = 26..38;
    let (turn, turns) = watch::channel(());
    let (backend, mut told) = slow_reader(turns).await;
    // Parts of a body are as large as what may be read of a head.
    let variables =
        [("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1"), ("PROXY_HEADER_BYTES_MAX", "400KB")];
    let world = World::over(&format!("http://{backend}"), &variables, vec![]);
    world.until_eligible(1).await;
    let proxy = world.proxy.address;
    for size in SIZES {
        tokio::spawn(async move {
            let bytes = size * 100_000;
            let mut client = TcpStream::connect(proxy).await.unwrap();
            // Whether anything may come after it makes no difference.
            let then = if size % 2 == 0 { "close" } else { "keep-alive" };
            let head = format!(
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: {then}\r\nContent-Length: {bytes}\r\n\r\n"
            );
            client.write_all(head.as_bytes()).await.unwrap();
            client.write_all(&vec![b'x'; bytes as usize]).await.unwrap();
            assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200"));
            std::future::pending::<()>().await;
        });
    }
    let mut arrived = Vec::new();
    let all = async {
        while arrived.len() < SIZES.count() {
            // The proxy has filled what room there was.
            world.turn().await;
            turn.send_replace(());
            arrived.extend(std::iter::from_fn(|| told.try_recv().ok()));
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("some does not arrive");
    arrived.sort_unstable();
    assert_eq!(arrived, SIZES.map(|size| size * 100_000).collect::<Vec<_>>());
}
