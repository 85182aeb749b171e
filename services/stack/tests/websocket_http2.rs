//! WebSockets of clients of HTTP/2 (RFC 8441): a stream to them, a connection of HTTP/1 to the backend.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{io, time::Duration};

use bytes::Bytes;
use chassis::shutdown::Stop;
use common::{
    PATIENCE, World,
    bootstrap::{
        Stream, accepted, ask, connect, heard, open, opened, over, switching, until_none_is_left,
        wish,
    },
    frames::{self, END_HEADERS, RawClient},
};
use futures_util::{SinkExt, StreamExt};
use h2::{Reason, client::Builder};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

#[tokio::test]
async fn what_a_client_says_before_its_answer_arrives_after_it() {
    let (world, listener) = over(&[]).await;
    let client = connect(world.proxy.address, &Builder::new()).await;
    let mut client = client.ready().await.unwrap();
    let (response, mut send) = client.send_request(wish("websocket", &[]), false).unwrap();
    send.send_data(Bytes::from_static(b"early"), true).unwrap();
    let (mut backend, head) = accepted(&listener).await;
    let mut byte = [0];
    assert!(backend.try_read(&mut byte).is_err(), "it has not switched yet");
    backend.write_all(switching(&head, "").as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, backend.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!((&text[..], response.await.unwrap().status().as_u16()), ("early", 200));
}

/// RFC 8441 §5: the end of a direction is the end of its stream.
#[tokio::test]
async fn a_direction_that_its_client_ends_leaves_the_other_one_open() {
    let large = "x".repeat(1_000_000);
    let (world, listener, mut stream, mut backend) = open(&[]).await;
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    timeout(PATIENCE, backend.read_to_string(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, "last words");
    let answer = async {
        backend.write_all(large.as_bytes()).await.unwrap();
        drop(backend);
    };
    let (rest, ()) = tokio::join!(stream.rest(), answer);
    assert!(rest == large, "{} bytes", rest.len());
    until_none_is_left(&world, &listener).await;
}

#[tokio::test]
async fn a_direction_that_its_backend_ends_leaves_the_other_one_open() {
    let large = "x".repeat(1_000_000);
    let (world, listener, mut stream, mut backend) = open(&[]).await;
    backend.write_all(b"last words").await.unwrap();
    backend.shutdown().await.unwrap();
    assert_eq!(stream.rest().await, "last words");
    let answer = async {
        stream.write_all(large.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let mut heard = String::new();
    let reading = timeout(PATIENCE, backend.read_to_string(&mut heard));
    let (read, ()) = tokio::join!(reading, answer);
    read.unwrap().unwrap();
    assert!(heard == large, "{} bytes", heard.len());
    until_none_is_left(&world, &listener).await;
}

/// One to a server that says back what it hears.
async fn echo(world: &World) -> WebSocketStream<Stream> {
    let client = connect(world.proxy.address, &Builder::new()).await;
    let mut request = wish("websocket", &[]);
    *request.uri_mut() = "http://shop.example/ws".parse().unwrap();
    let (status, _, stream) = ask(&client, request).await;
    assert_eq!(status, 200);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    for message in [Message::text("grüß dich"), Message::binary(vec![7; 300_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await, message);
    }
    socket
}

async fn next(socket: &mut WebSocketStream<Stream>) -> Message {
    timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

async fn code(socket: &mut WebSocketStream<Stream>) -> CloseCode {
    let Message::Close(Some(close)) = next(socket).await else { panic!("no close frame") };
    let end = timeout(PATIENCE, socket.next()).await.unwrap();
    assert!(end.is_none(), "{end:?}");
    close.code
}

#[tokio::test]
async fn codes_of_a_close_pass_whoever_closes() {
    let world = World::start(1, &[]).await;
    let mut socket = echo(&world).await;
    let close = CloseFrame { code: CloseCode::Library(4321), reason: "enough".into() };
    socket.send(Message::Close(Some(close))).await.unwrap();
    assert_eq!(code(&mut socket).await, CloseCode::Library(4321));

    let mut socket = echo(&world).await;
    world.servers[0].as_ref().unwrap().ask_to_stop(Stop::Graceful);
    assert_eq!(code(&mut socket).await, CloseCode::Away);
}

#[tokio::test]
async fn at_the_deadline_of_a_drain_it_is_told_that_the_server_goes_away() {
    let world = World::start(1, &[]).await;
    let mut socket = echo(&world).await;
    let change = json!({"state": "drain", "force": true, "deadline": "200ms"});
    let (status, draining) = world.patch(&world.id(0), change).await;
    assert_eq!((status, &draining["tunnels"]), (200, &json!(1)));
    assert_eq!(code(&mut socket).await, CloseCode::Away);
    drop(socket);
    let drained = async || world.backend(&world.id(0)).await["effective"] == "drained";
    world.until("the drain to end", drained).await;
    assert_eq!(world.metric("evenkeel_tunnels_ended_total").await, 1.0);
    assert_eq!(world.metric("evenkeel_tunnels_cut_total").await, 0.0);
}

/// One that is asked for by hand, with its backend. Its stream has room for a byte.
async fn by_hand(world: &World, listener: &TcpListener) -> (RawClient, TcpStream) {
    let mut client = RawClient::connect(world.proxy.address, &[(4, 1)]).await;
    let block = frames::block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ]);
    client.send(frames::HEADERS, END_HEADERS, 1, &block).await;
    let (mut backend, head) = accepted(listener).await;
    backend.write_all(switching(&head, "").as_bytes()).await.unwrap();
    client.until(frames::HEADERS).await.unwrap();
    (client, backend)
}

/// What a browser does whose user goes to another page.
#[tokio::test]
async fn a_close_frame_arrives_though_its_client_resets_the_stream_at_once() {
    const CLOSE: &[u8] = &[0x88, 0x82, 1, 2, 3, 4, 2, 0xEB];
    let (world, listener) = over(&[]).await;
    let (mut client, mut backend) = by_hand(&world, &listener).await;
    let close = frames::frame(frames::DATA, 0, 1, CLOSE);
    let reset = frames::frame(frames::RST_STREAM, 0, 1, &u32::from(Reason::CANCEL).to_be_bytes());
    client.0.write_all(&[close, reset].concat()).await.unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, backend.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, CLOSE);
    drop(backend);
    until_none_is_left(&world, &listener).await;
}

/// RFC 8441 §5: RST_STREAM with CANCEL is what a reset is to a connection.
#[tokio::test]
async fn who_breaks_off_is_seen_to_by_the_other_side() {
    let (world, listener, mut stream, mut backend) = open(&[]).await;
    stream.write_all(&[0x81, 0x85]).await.unwrap();
    heard::<2>(&mut backend).await;
    stream.send.send_reset(Reason::CANCEL);
    let read = timeout(PATIENCE, backend.read(&mut [0; 9])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    until_none_is_left(&world, &listener).await;

    let client = connect(world.proxy.address, &Builder::new()).await;
    let (mut stream, mut backend) = opened(&client, &listener).await;
    backend.write_all(&[0x81, 5, b'a']).await.unwrap();
    assert_eq!(heard::<3>(&mut stream).await, [0x81, 5, b'a']);
    backend.set_zero_linger().unwrap();
    drop(backend);
    assert_eq!(stream.reset().await, Some(Reason::CANCEL));
    until_none_is_left(&world, &listener).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_websockets_with_it() {
    let (world, listener, stream, mut backend) = open(&[]).await;
    // Ends its connection, as nobody uses it any more.
    drop(stream);
    assert!(timeout(PATIENCE, backend.read(&mut [0])).await.unwrap().is_err());
    until_none_is_left(&world, &listener).await;
}

/// What the backend does not take is not read, and so does not show it.
#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_its_backend_takes_nothing() {
    let (world, listener, mut stream, backend) = open(&[]).await;
    let part = vec![7; 100_000];
    let filling = async {
        // No more fits anywhere.
        while timeout(Duration::from_millis(300), stream.write_all(&part)).await.is_ok() {}
    };
    timeout(PATIENCE, filling).await.unwrap();
    stream.send.send_reset(Reason::CANCEL);
    until_none_is_left(&world, &listener).await;
    drop(backend);
}

/// More than there is room for in the kernel, all along the way.
const MANY_BYTES: usize = 40_000_000;

/// Writes so much to a client that takes none of it, and checks what is held for that meanwhile.
async fn fill(world: &World, mut backend: TcpStream) -> JoinHandle<TcpStream> {
    let writing = tokio::spawn(async move {
        let _ = backend.write_all(&vec![7; MANY_BYTES]).await;
        backend
    });
    let buffered = async || world.metric("evenkeel_buffered_bytes").await;
    let mut still = 0;
    let stands = async || {
        let bytes = buffered().await;
        assert!(bytes <= 16.0 * 1024.0, "{bytes} bytes");
        still = if bytes > 0.0 { still + 1 } else { 0 };
        still > 30
    };
    world.until("all to stand still", stands).await;
    assert!(!writing.is_finished(), "all of it is somewhere");
    writing
}

#[tokio::test]
async fn a_client_that_reads_nothing_has_no_more_held_for_it_than_a_part() {
    let (world, _listener, mut stream, backend) = open(&[]).await;
    let writing = fill(&world, backend).await;
    let mut heard = vec![0; MANY_BYTES];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    assert!(heard.iter().all(|byte| *byte == 7));
    drop(writing.await.unwrap());
    assert_eq!(stream.rest().await, "");
    let nothing = async || world.metric("evenkeel_buffered_bytes").await == 0.0;
    world.until("nothing to be held", nothing).await;
}

/// Nothing but its socket is full then.
#[tokio::test]
async fn the_same_with_windows_wide_open() {
    const WIDE: u32 = 0x7000_0000;
    let (world, listener) = over(&[]).await;
    let (mut client, backend) = by_hand(&world, &listener).await;
    for stream in [0, 1] {
        client.send(frames::WINDOW_UPDATE, 0, stream, &WIDE.to_be_bytes()).await;
    }
    fill(&world, backend).await.abort();
    drop(client);
    until_none_is_left(&world, &listener).await;
}

/// Limits for those that take a response too slowly, and for connections without a request.
#[tokio::test]
async fn one_that_is_silent_or_whose_client_pauses_is_left_alone() {
    let variables = [
        ("PROXY_WRITE_TIMEOUT", "100ms"),
        ("PROXY_IDLE_TIMEOUT", "100ms"),
        ("PROXY_READ_TIMEOUT", "100ms"),
        ("PROXY_DOWNLOAD_RATE_MIN", "1000000"),
        ("PROXY_UPLOAD_RATE_MIN", "1000000"),
    ];
    let (world, listener) = over(&variables).await;
    let (mut client, mut backend) = by_hand(&world, &listener).await;
    // More than is read of it at once.
    backend.write_all(&[7; 20_000]).await.unwrap();
    assert_eq!(client.until(frames::DATA).await.unwrap().payload, [7]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.send(frames::WINDOW_UPDATE, 0, 1, &100_u32.to_be_bytes()).await;
    assert_eq!(client.until(frames::DATA).await.unwrap().payload, [7; 100]);
    client.send(frames::DATA, 0, 1, b"x").await;
    assert_eq!(&heard::<1>(&mut backend).await, b"x");
}

#[tokio::test]
async fn one_that_is_silent_for_too_long_is_reset_and_counted() {
    let (world, listener, mut stream, _backend) = open(&[("PROXY_TUNNEL_TIMEOUT", "200ms")]).await;
    assert_eq!(stream.reset().await, Some(Reason::CANCEL));
    until_none_is_left(&world, &listener).await;
    let timeouts = "evenkeel_client_timeouts_total{phase=\"tunnel\"}";
    assert_eq!(world.metric(timeouts).await, 1.0);
}

#[tokio::test]
async fn it_is_counted_as_other_tunnels_are_and_others_share_its_connection() {
    let (world, listener) = over(&[]).await;
    let client = connect(world.proxy.address, &Builder::new()).await;
    let (stream, backend) = opened(&client, &listener).await;
    let id = listener.local_addr().unwrap().to_string();
    let tunnels = format!("evenkeel_tunnels{{pool=\"default\",backend=\"{id}\"}}");
    assert_eq!(
        (world.metric(&tunnels).await, &world.backend(&id).await["in_flight"]),
        (1.0, &json!(1))
    );
    let connections = async |side| {
        world.metric(&format!("evenkeel_connections{{side=\"{side}\",state=\"active\"}}")).await
    };
    assert_eq!((connections("client").await, connections("backend").await), (1.0, 1.0));
    let requests = format!(
        "evenkeel_requests_total{{pool=\"default\",backend=\"{id}\",method=\"CONNECT\",code=\"200\"}}"
    );
    assert_eq!(world.metric(&requests).await, 1.0);
    // The second one on it, beside the first.
    let (mut other, mut its_backend) = opened(&client, &listener).await;
    assert_eq!((connections("client").await, connections("backend").await), (1.0, 2.0));
    its_backend.write_all(b"x").await.unwrap();
    assert_eq!(&heard::<1>(&mut other).await, b"x");
    drop((stream, backend, other, its_backend));
    until_none_is_left(&world, &listener).await;
    world.until("the connection to be idle", async || connections("client").await == 0.0).await;
}

#[tokio::test]
async fn a_stop_waits_for_it_and_ctrl_c_does_not() {
    let (world, _listener, mut stream, mut backend) = open(&[("PROXY_STOP_MAX", "600s")]).await;
    world.proxy.ask_to_stop(Stop::Graceful);
    let is_refused = async || TcpStream::connect(world.proxy.address).await.is_err();
    world.until_without_admin("the port to close", is_refused).await;
    backend.write_all(b"still there").await.unwrap();
    assert_eq!(&heard::<11>(&mut stream).await, b"still there");
    assert!(!world.proxy.has_ended());
    drop(backend);
    assert_eq!(stream.rest().await, "");
    stream.shutdown().await.unwrap();
    world.until_without_admin("the end", async || world.proxy.has_ended()).await;

    let (world, _listener, _stream, _backend) = open(&[("PROXY_STOP_MAX", "600s")]).await;
    world.proxy.ask_to_stop(Stop::Prompt);
    world.until_without_admin("the end", async || world.proxy.has_ended()).await;
}
