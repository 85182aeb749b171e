//! The WebSocket echo.

// A helper that fails should panic as its test would.
#![allow(clippy::unwrap_used)]

mod common;

use chassis::shutdown::Stop;
use common::{PATIENCE, Running, short_stop, start};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(server: &Running) -> Socket {
    let (socket, response) = connect_async(format!("ws://{}/ws", server.address)).await.unwrap();
    assert_eq!(response.headers()["x-served-by"], "one");
    socket
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn messages_come_back_as_they_were_sent() {
    let server = start(|_| ());
    let mut socket = open(&server).await;
    for message in [Message::text("grüß dich"), Message::binary(vec![7; 100_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await, message);
    }
    socket.send(Message::Ping("are you there".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("are you there".into()));
    assert_eq!(server.metric("evenkeel_server_websockets").await, 1.0);
}

#[tokio::test]
async fn a_close_comes_back_with_its_code() {
    let server = start(|_| ());
    let mut socket = open(&server).await;
    let close = CloseFrame { code: CloseCode::Library(4321), reason: "enough".into() };
    socket.send(Message::Close(Some(close))).await.unwrap();
    let Message::Close(Some(answer)) = next(&mut socket).await else { panic!("no close frame") };
    assert_eq!(answer.code, CloseCode::Library(4321));
    assert!(socket.next().await.is_none());
    server.metric_becomes("evenkeel_server_websockets", 0.0).await;
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_conversation() {
    let server = start(|_| ());
    let mut socket = open(&server).await;
    // The server may hang up before it has read all of this.
    let _ = socket.send(Message::binary(vec![0; (1 << 20) + 1])).await;
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
    assert!(!matches!(answer, Some(Ok(Message::Binary(_)))));
    server.metric_becomes("evenkeel_server_websockets", 0.0).await;
}

#[tokio::test]
async fn at_a_stop_a_websocket_is_told_that_the_server_goes_away() {
    for stop in [Stop::Graceful, Stop::Prompt] {
        let server = start(|settings| settings.stop = short_stop());
        let mut socket = open(&server).await;
        server.stop(stop);
        let Message::Close(Some(close)) = next(&mut socket).await else { panic!("no close frame") };
        assert_eq!(close.code, CloseCode::Away);
        assert!(socket.next().await.is_none());
        server.stopped().await;
    }
}
