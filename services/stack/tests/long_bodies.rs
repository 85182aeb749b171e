//! Long bodies, which go from socket to socket without being read.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{World, raw::read_head};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Several times what waits between the sockets at once.
const LONG: usize = 3 * 1024 * 1024;

/// What comes after the end of a body, though nobody asked for it.
const UNASKED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong";

/// A body in which whatever is lost, doubled or moved shows.
fn body() -> Vec<u8> {
    (0..LONG as u32 / 4).flat_map(u32::to_be_bytes).collect()
}

/// What a backend answers, by its target.
fn answer(head: &str) -> (Vec<u8>, bool) {
    let long = [format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n").into_bytes(), body()];
    match head.split([' ', '?']).nth(1).unwrap() {
        "/long" => (long.concat(), true),
        "/endless" => (b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n".to_vec(), false),
        "/cut" => (long.concat()[..LONG / 2].to_vec(), false),
        "/more" => ([&long.concat(), UNASKED].concat(), true),
        _ => (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(), true),
    }
}

/// A backend, and how many connections it has had.
async fn backend() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                loop {
                    let head = read_head(&mut stream).await;
                    if head.is_empty() {
                        return;
                    }
                    let (bytes, goes_on) = answer(&head);
                    let part = if head.starts_with("GET /long?") { 7_001 } else { bytes.len() };
                    for (index, part) in bytes.chunks(part).enumerate() {
                        // In large parts and small ones, of which some come alone.
                        let (large, small) = part.split_at(part.len().saturating_sub(index % 20));
                        for part in [large, small] {
                            if stream.write_all(part).await.is_err() {
                                return;
                            }
                            tokio::task::yield_now().await;
                        }
                    }
                    while head.starts_with("GET /endless") {
                        if stream.write_all(&[0; 16 * 1024]).await.is_err() {
                            return;
                        }
                    }
                    if !goes_on {
                        return;
                    }
                }
            });
        }
    });
    (address, connections)
}

/// A proxy over such a backend, whose id and connections come with it.
async fn world() -> (World, String, Arc<AtomicUsize>) {
    let (address, connections) = backend().await;
    let settings = [("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1")];
    let world = World::over(&format!("http://{address}"), &settings, vec![]);
    world.until_eligible(1).await;
    (world, address.to_string(), connections)
}

async fn ask(client: &mut TcpStream, target: &str) -> String {
    client.write_all(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
    read_head(client).await
}

/// Reads so many bytes, a few at a time: each time the proxy has to wait for room.
async fn read_slowly(client: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    for part in read.chunks_mut(100_000) {
        tokio::task::yield_now().await;
        client.read_exact(part).await.unwrap();
    }
    read
}

/// Waits until nothing is left of bodies.
async fn is_clean(world: &World) {
    for left in ["evenkeel_buffered_bytes", "evenkeel_pipes"] {
        world.until("nothing to be left", async || world.metric(left).await == 0.0).await;
    }
}

async fn is_served(client: &mut TcpStream) {
    assert!(ask(client, "/").await.starts_with("HTTP/1.1 200 "));
    let mut body = [0; 2];
    client.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"ok");
}

#[tokio::test]
async fn a_long_body_arrives_as_it_was_sent_and_both_connections_go_on() {
    let (world, _, connections) = world().await;
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    for (target, is_slow) in
        [("/long", false), ("/long", true), ("/long?in-parts", false), ("/long?in-parts", true)]
    {
        assert!(ask(&mut client, target).await.starts_with("HTTP/1.1 200 "));
        let read = if is_slow {
            read_slowly(&mut client, LONG).await
        } else {
            let mut read = vec![0; LONG];
            client.read_exact(&mut read).await.unwrap();
            read
        };
        assert!(read == body(), "it is not the same");
        is_served(&mut client).await;
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    is_clean(&world).await;
}

#[tokio::test]
async fn a_long_body_that_its_backend_breaks_off_is_cut_where_it_ends() {
    let (world, id, _) = world().await;
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    assert!(ask(&mut client, "/cut").await.contains(&format!("content-length: {LONG}")));
    let mut read = Vec::new();
    let _ = client.read_to_end(&mut read).await;
    assert!(!read.is_empty() && read.len() < LONG / 2 && body().starts_with(&read));
    let series = format!(
        "evenkeel_failures_total{{pool=\"default\",backend=\"{id}\",reason=\"reset_mid_body\"}}"
    );
    world.until("it to be counted", async || world.metric(&series).await == 1.0).await;
    is_served(&mut TcpStream::connect(world.proxy.address).await.unwrap()).await;
}

#[tokio::test]
async fn what_comes_after_the_end_of_a_long_body_is_nobodys_answer() {
    let (world, _, connections) = world().await;
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    assert!(ask(&mut client, "/more").await.starts_with("HTTP/1.1 200 "));
    assert!(read_slowly(&mut client, LONG).await == body());
    is_served(&mut client).await;
    assert_eq!(connections.load(Ordering::Relaxed), 2, "the doubtful one was kept");
}

#[tokio::test]
async fn a_client_that_leaves_in_a_long_body_leaves_nothing_behind() {
    let (world, id, _) = world().await;
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    ask(&mut client, "/long").await;
    read_slowly(&mut client, LONG / 10).await;
    drop(client);
    world.until("it to be over", async || world.backend(&id).await["in_flight"] == 0).await;
    is_clean(&world).await;
    is_served(&mut TcpStream::connect(world.proxy.address).await.unwrap()).await;
}

#[tokio::test]
async fn long_bodies_beyond_the_pipes_that_there_are_are_read() {
    // Of one worker.
    const PIPES: usize = 32;
    let (world, _, _) = world().await;
    let pipes = async || world.metric("evenkeel_pipes").await as usize;
    let mut stuck = Vec::new();
    for count in 1..=PIPES + 1 {
        let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
        ask(&mut client, "/endless").await;
        world.until("it to have a pipe", async || pipes().await == count.min(PIPES)).await;
        stuck.push(client);
    }
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    ask(&mut client, "/long").await;
    assert!(read_slowly(&mut client, LONG).await == body());
    assert_eq!(pipes().await, PIPES);
    drop(stuck);
    is_clean(&world).await;
    is_served(&mut client).await;
}
