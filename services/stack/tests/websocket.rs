//! WebSockets of clients of HTTP/1.1, which ask for them with an upgrade.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use common::World;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

#[tokio::test]
async fn a_web_socket_echoes_through_the_proxy_and_holds_its_ticket() {
    let world = World::start(1, &[]).await;
    let url = format!("ws://{}/ws", world.proxy.address);
    let (mut socket, answer) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert_eq!(answer.status(), 101);
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    assert_eq!(world.backend(&world.id(0)).await["in_flight"], 1);
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    world
        .until("the ticket to be given back", async || {
            world.backend(&world.id(0)).await["in_flight"] == 0
        })
        .await;
}

/// RFC 6455 §5.5.1, §7.1.5.
#[tokio::test]
async fn the_code_and_the_reason_with_which_a_web_socket_is_closed_pass_both_ways() {
    let close = |code: u16, reason: &str| CloseFrame { code: code.into(), reason: reason.into() };
    let (clients, backends) = (close(4001, "enough"), close(1012, "restart"));
    for closes_first in ["client", "backend"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = World::over(&format!("http://{address}"), &[("PROXY_PROBE", "off")], vec![]);
        world.until_eligible(1).await;
        let url = format!("ws://{}/", world.proxy.address);
        let accepting = async {
            let (stream, _) = listener.accept().await.unwrap();
            tokio_tungstenite::accept_async(stream).await.unwrap()
        };
        let connecting = tokio_tungstenite::connect_async(url);
        let (mut backend, client) = tokio::join!(accepting, connecting);
        let mut client = client.unwrap().0;
        let heard = if closes_first == "client" {
            client.close(Some(clients.clone())).await.unwrap();
            backend.next().await
        } else {
            backend.close(Some(backends.clone())).await.unwrap();
            client.next().await
        };
        let said = if closes_first == "client" { &clients } else { &backends };
        assert_eq!(heard.unwrap().unwrap(), Message::Close(Some(said.clone())), "{closes_first}");
    }
}

#[tokio::test]
async fn a_silent_web_socket_is_closed_after_its_time() {
    let world = World::start(1, &[("PROXY_TUNNEL_TIMEOUT", "300ms")]).await;
    let url = format!("ws://{}/ws", world.proxy.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    let timeouts = "evenkeel_client_timeouts_total{phase=\"tunnel\"}";
    world.until("it to be counted", async || world.metric(timeouts).await == 1.0).await;
}
