//! Idle connections of clients that have given back what serving takes.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use chassis::shutdown::Stop;
use common::{World, raw::read_head};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const RESTING: &str = r#"evenkeel_connections{side="client",state="resting"}"#;
const REQUEST: &[u8] = b"GET /status/204 HTTP/1.1\r\nhost: a\r\n\r\n";

/// A connection that has had an answer and rests.
async fn resting(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    assert!(read_head(&mut stream).await.contains(" 204 "));
    world.until("it rests", async || world.metric(RESTING).await == 1.0).await;
    stream
}

#[tokio::test]
async fn a_connection_that_rests_is_served_again_and_again() {
    let world = World::start(1, &[("PROXY_REST_AFTER", "10ms")]).await;
    let mut stream = resting(&world).await;
    for _ in 0..2 {
        // In two parts, so that it also wakes for less than a head.
        stream.write_all(&REQUEST[..7]).await.unwrap();
        world.until("it is awake", async || world.metric(RESTING).await == 0.0).await;
        stream.write_all(&REQUEST[7..]).await.unwrap();
        assert!(read_head(&mut stream).await.contains(" 204 "));
        world.until("it rests", async || world.metric(RESTING).await == 1.0).await;
    }
}

#[tokio::test]
async fn the_beginning_of_a_request_that_came_with_the_one_before_is_kept() {
    let world = World::start(1, &[("PROXY_REST_AFTER", "10ms")]).await;
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    let (beginning, rest) = REQUEST.split_at(20);
    stream.write_all(&[REQUEST, beginning].concat()).await.unwrap();
    assert!(read_head(&mut stream).await.contains(" 204 "));
    for _ in 0..5 {
        // Long enough for a look or two at whether it may rest.
        world.metric(RESTING).await;
    }
    stream.write_all(rest).await.unwrap();
    assert!(read_head(&mut stream).await.contains(" 204 "));
}

#[tokio::test]
async fn a_connection_that_rests_for_too_long_is_closed() {
    let variables = [("PROXY_REST_AFTER", "10ms"), ("PROXY_IDLE_TIMEOUT", "500ms")];
    let world = World::start(1, &variables).await;
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    assert!(read_head(&mut stream).await.contains(" 204 "));
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    let idle = world.metric(r#"evenkeel_client_timeouts_total{phase="idle"}"#).await;
    assert_eq!(idle, 1.0);
}

#[tokio::test]
async fn a_connection_that_rests_ends_with_a_stop() {
    let world = World::start(1, &[("PROXY_REST_AFTER", "10ms")]).await;
    let mut stream = resting(&world).await;
    world.proxy.ask_to_stop(Stop::Graceful);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}
