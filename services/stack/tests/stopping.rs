//! A stop of the proxy that nobody notices.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::sync::Arc;

use chassis::shutdown::Stop;
use common::{
    World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
    raw::read_head,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};

/// Longer than any test.
const LONG: [(&str, &str); 2] = [("PROXY_STOP_QUIET", "1h"), ("PROXY_STOP_MAX", "1h")];

/// Soon quiet, and what is in flight has its time all the same.
const SOON: [(&str, &str); 2] = [("PROXY_STOP_QUIET", "50ms"), ("PROXY_STOP_MAX", "1h")];

#[tokio::test]
async fn at_a_stop_the_proxy_is_not_ready_but_alive_and_serves_on() {
    let world = World::start(1, &LONG).await;
    world.proxy.ask_to_stop(Stop::Graceful);
    let probe = async |path: &str| {
        world.client.get(world.admin_url(path)).send().await.unwrap().status().as_u16()
    };
    world.until("the proxy to be not ready", async || probe("/readyz").await == 503).await;
    assert_eq!(probe("/healthz").await, 200);

    // A new connection, as somebody makes who has not heard yet.
    let late = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = late.get(world.url("/")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["connection"], "close");
}

/// Waits until a stop has come to where nobody can connect any more.
async fn until_closed(world: &World) {
    let is_closed = async || TcpStream::connect(world.proxy.address).await.is_err();
    world.until_without_admin("new connections to be refused", is_closed).await;
}

/// A backend that answers a POST on its head, and of any other answer holds back the end until the `gate`
/// is open.
async fn backend(gate: &Arc<Semaphore>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let gate = Arc::clone(gate);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").await.unwrap();
                if head.starts_with("POST") {
                    stream.write_all(b"k").await.unwrap();
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    return;
                }
                let _open = gate.acquire().await.unwrap();
                stream.write_all(b"k").await.unwrap();
            });
        }
    });
    address
}

/// A proxy that is soon quiet over such a backend.
async fn over_gated() -> (World, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let variables = [&SOON[..], &[("PROXY_PROBE", "off")]].concat();
    let world = World::over(&backend(&gate).await, &variables, vec![]);
    world.until_eligible(1).await;
    (world, gate)
}

#[tokio::test]
async fn what_is_in_flight_at_a_stop_is_answered_and_then_the_proxy_ends() {
    let (world, gate) = over_gated().await;
    let slow = world.client.get(world.url("/")).send().await.unwrap();
    world.proxy.ask_to_stop(Stop::Graceful);
    until_closed(&world).await;
    assert!(!world.proxy.has_ended(), "it waits for what is in flight");
    gate.add_permits(1);
    assert_eq!(slow.text().await.unwrap(), "ok");
    world.until_without_admin("the proxy to end", async || world.proxy.has_ended()).await;
}

#[tokio::test]
async fn a_stop_fails_none_of_those_who_go_on_asking() {
    let variables = [("PROXY_STOP_QUIET", "500ms"), ("PROXY_STOP_MAX", "500ms")];
    let world = World::start(2, &variables).await;
    let mut answered = 0;
    loop {
        match world.client.get(world.url("/")).send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), 200);
                answered += 1;
                if answered == 10 {
                    world.proxy.ask_to_stop(Stop::Graceful);
                }
            }
            Err(error) => {
                assert!(error.is_connect(), "only a new connection may be refused: {error:?}");
                break;
            }
        }
    }
    assert!(answered >= 10);
    world.until_without_admin("the end", async || world.proxy.has_ended()).await;
}

#[tokio::test]
async fn a_stop_cuts_no_response_even_after_an_upload_that_outlived_its_own() {
    let (world, gate) = over_gated().await;
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200"));
    client.read_exact(&mut [0; 2]).await.unwrap();
    client.write_all(b"0123456789GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200"));
    world.proxy.ask_to_stop(Stop::Graceful);
    until_closed(&world).await;
    gate.add_permits(1);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "ok");
}

/// What the kernel still has of an answer must not be lost when the client says what it has taken, which
/// a client of HTTP/2 does all the time (RFC 9113 §6.9).
#[tokio::test]
async fn a_client_of_http_2_may_take_the_end_of_its_answer_after_the_last_was_written() {
    const BYTES: usize = 300_000;
    let world = World::start(1, &SOON).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut client = RawClient(socket.connect(world.proxy.address).await.unwrap());
    client.0.write_all(frames::PREFACE).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE: nothing goes out before all of the goodbye is said.
    client.send(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    let block = frames::get(&format!("/bytes/{BYTES}"), &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    client.until(frames::HEADERS).await.unwrap();
    world.proxy.ask_to_stop(Stop::Graceful);
    while client.until(frames::GOAWAY).await.unwrap().payload[..4] != [0, 0, 0, 1] {}
    let window = u32::try_from(BYTES).unwrap().to_be_bytes();
    for stream in [0, 1] {
        client.send(frames::WINDOW_UPDATE, 0, stream, &window).await;
    }
    // It is waited for as long as it says something.
    let update = frames::frame(frames::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    let is_written = async || {
        client.0.write_all(&update).await.unwrap();
        world.backend(&world.id(0)).await["in_flight"] == 0
    };
    world.until("the last to be written", is_written).await;
    let mut taken = 0;
    while let Some(frame) = client.read().await {
        taken += if frame.kind == frames::DATA { frame.payload.len() } else { 0 };
        let _ = client.0.write_all(&update).await;
    }
    assert_eq!(taken, BYTES);
    drop(client);
    world.until_without_admin("the end", async || world.proxy.has_ended()).await;
}

#[tokio::test]
async fn at_ctrl_c_the_proxy_does_not_wait_for_web_sockets() {
    let world = World::start(1, &[("PROXY_STOP_MAX", "600s")]).await;
    let url = format!("ws://{}/ws", world.proxy.address);
    let _socket = tokio_tungstenite::connect_async(url).await.unwrap();
    world.proxy.ask_to_stop(Stop::Prompt);
    world.until_without_admin("the end", async || world.proxy.has_ended()).await;
}

#[tokio::test]
async fn at_ctrl_c_the_proxy_does_not_wait_to_be_quiet() {
    let world = World::start(1, &[("PROXY_STOP_QUIET", "600s"), ("PROXY_STOP_MAX", "600s")]).await;
    world.proxy.ask_to_stop(Stop::Prompt);
    world.until_without_admin("the end", async || world.proxy.has_ended()).await;
}
