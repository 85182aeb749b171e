//! Idle connections of clients that have given back what serving takes. When they do, and when their time
//! is over, `proxy/src/client/tests` shows.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use chassis::shutdown::Stop;
use common::{World, raw::read_head};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const RESTING: &str = r#"evenkeel_connections{side="client",state="resting"}"#;
/// Soon, and however long a test takes, no other limit ends a connection.
const VARIABLES: [(&str, &str); 3] =
    [("PROXY_REST_AFTER", "10ms"), ("PROXY_HEADER_TIMEOUT", "1h"), ("PROXY_IDLE_TIMEOUT", "1h")];
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
    let world = World::start(1, &VARIABLES).await;
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
async fn a_connection_that_rests_ends_with_a_stop() {
    let world = World::start(1, &VARIABLES).await;
    let mut stream = resting(&world).await;
    world.proxy.ask_to_stop(Stop::Graceful);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}
