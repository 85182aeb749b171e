//! Draining a server: traefik/traefik#41 ("in the pipeline" since 2015), envoyproxy/envoy#7218,
//! yyyar/gobetween#118; and WebSockets that never let a drain end.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::{
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
        raw::read_head,
    },
    load::Load,
};

async fn wait(world: &World, id: &str, wait: &str) -> serde_json::Value {
    world.admin_json(&format!("/v1/pools/default/backends/{id}?wait={wait}")).await
}

#[tokio::test]
async fn each_backend_is_drained_in_turn_under_load_and_no_request_fails() {
    let world = World::start(3, &[]).await;
    let load = Load::of_gets_and_posts(&world);
    for index in 0..3 {
        load.more(&world, 20).await;
        let id = world.id(index);
        let (status, _) = world.patch(&id, json!({"state": "drain"})).await;
        assert_eq!(status, 200);
        let drained = wait(&world, &id, "20s").await;
        assert_eq!((&drained["effective"], &drained["in_flight"]), (&json!("drained"), &json!(0)));
        assert_eq!(world.patch(&id, json!({"state": "ready"})).await.0, 200);
        world.until_eligible(3).await;
    }
    assert_eq!(load.end().await.servers(), ["s0", "s1", "s2"]);
}

#[tokio::test]
async fn waiting_ends_when_the_last_request_does_and_not_before() {
    let world = World::start(2, &[]).await;
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.write_all(b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let busy = async || {
        let backends = world.admin_json("/v1/pools/default/backends").await;
        let backends = backends["backends"].as_array().unwrap().clone();
        let busy = backends.into_iter().find(|backend| backend["in_flight"] == 1);
        busy.map(|backend| backend["id"].as_str().unwrap().to_owned())
    };
    world.until("the request to be in flight", async || busy().await.is_some()).await;
    let id = busy().await.unwrap();
    assert_eq!(wait(&world, &id, "20s").await["effective"], "serving", "nothing to wait for");
    world.patch(&id, json!({"state": "drain"})).await;
    let still = wait(&world, &id, "50ms").await;
    assert_eq!((&still["effective"], &still["in_flight"]), (&json!("draining"), &json!(1)));
    let drained = wait(&world, &id, "20s");
    let (drained, ()) = tokio::join!(drained, async { drop(stream) });
    assert_eq!(drained["effective"], "drained");
    for bad in ["0s", "soon", "1h"] {
        assert_eq!(wait(&world, &id, bad).await["status"], 400, "{bad}");
    }
}

#[tokio::test]
async fn at_the_deadline_web_sockets_are_told_that_the_server_goes_away() {
    let world = World::start(1, &[]).await;
    let id = world.id(0);
    let url = format!("ws://{}/ws", world.proxy.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    let change = json!({"state": "drain", "force": true, "deadline": "200ms"});
    let (status, draining) = world.patch(&id, change).await;
    assert_eq!((status, &draining["tunnels"]), (200, &json!(1)));
    assert!(draining["deadline_at"].is_string());
    let Some(Ok(Message::Close(Some(why)))) = socket.next().await else {
        panic!("expected a close frame")
    };
    assert_eq!(why.code, CloseCode::Away);
    let drained = wait(&world, &id, "20s").await;
    assert_eq!((&drained["effective"], &drained["tunnels"]), (&json!("drained"), &json!(0)));
    world
        .until("the end to be counted", async || {
            world.metric("evenkeel_tunnels_ended_total").await == 1.0
        })
        .await;
}

#[tokio::test]
async fn at_the_deadline_event_streams_end_as_if_complete_and_other_responses_go_on() {
    for (kind, ends) in [("text/event-stream; charset=utf-8", true), ("text/plain", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go_on, mut may_go_on) = tokio::sync::mpsc::channel::<()>(1);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(b"6\r\ndata:\n\r\n").await.unwrap();
            may_go_on.recv().await;
            let _ = stream.write_all(b"5\r\nlast\n\r\n0\r\n\r\n").await;
        });
        let world = World::over(&format!("http://{address}"), &[("PROXY_PROBE", "off")], vec![]);
        world.until_eligible(1).await;
        let mut answer = world.client.get(world.url("/")).send().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "data:\n");
        let id = address.to_string();
        let change = json!({"state": "drain", "force": true, "deadline": "200ms"});
        assert_eq!(world.patch(&id, change).await.0, 200);
        if ends {
            assert_eq!(answer.chunk().await.unwrap(), None, "no error, and no more");
            assert_eq!(wait(&world, &id, "20s").await["effective"], "drained");
        } else {
            let still = wait(&world, &id, "1s").await;
            assert_eq!(still["effective"], "draining");
            go_on.send(()).await.unwrap();
            assert_eq!(answer.chunk().await.unwrap().unwrap(), "last\n");
        }
        let ended = world.metric("evenkeel_tunnels_ended_total").await;
        assert_eq!(ended, f64::from(u8::from(ends)));
    }
}

/// A proxy over a backend that always has an event, with the backend's id.
async fn never_silent() -> (World, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let events = b"6\r\ndata:\n\r\n".repeat(10_000);
        while stream.write_all(&events).await.is_ok() {}
    });
    let world = World::over(&format!("http://{address}"), &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(1).await;
    (world, address.to_string())
}

/// With a client that takes them or none.
#[tokio::test]
async fn at_the_deadline_event_streams_end_that_are_never_silent() {
    for reads in [true, false] {
        let (world, id) = never_silent().await;
        let mut answer = world.client.get(world.url("/")).send().await.unwrap();
        let change = json!({"state": "drain", "force": true, "deadline": "200ms"});
        assert_eq!(world.patch(&id, change).await.0, 200);
        if reads {
            while answer.chunk().await.unwrap().is_some() {}
        }
        assert_eq!(wait(&world, &id, "20s").await["effective"], "drained");
    }
}

#[tokio::test]
async fn at_the_deadline_event_streams_of_http_2_end_whose_client_has_no_room() {
    let (world, id) = never_silent().await;
    // SETTINGS_INITIAL_WINDOW_SIZE: ten bytes for the stream.
    let mut client = RawClient::connect(world.proxy.address, &[(4, 10)]).await;
    let block = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    client.until(frames::DATA).await.unwrap();
    let change = json!({"state": "drain", "force": true, "deadline": "200ms"});
    assert_eq!(world.patch(&id, change).await.0, 200);
    assert_eq!(wait(&world, &id, "20s").await["effective"], "drained");
    assert_eq!(world.metric("evenkeel_tunnels_ended_total").await, 1.0);
    // Its client can still take what waits for it, up to an end that looks like one.
    for stream in [0, 1] {
        let room = 10_000_000_u32.to_be_bytes();
        client.send(frames::WINDOW_UPDATE, 0, stream, &room).await;
    }
    loop {
        let frame = client.read().await.expect("the connection ended");
        assert_ne!(frame.kind, frames::RST_STREAM);
        if frame.kind == frames::DATA && frame.flags & END_STREAM != 0 {
            break;
        }
    }
}

#[tokio::test]
async fn at_the_deadline_other_upgrades_are_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        stream.write_all(switch.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let world = World::over(&format!("http://{address}"), &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(1).await;
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101"));
    let id = address.to_string();
    let tunnels = async || world.backend(&id).await["tunnels"].clone();
    world.until("the tunnel to be counted", async || tunnels().await == 1).await;
    let change = json!({"state": "maint", "force": true, "deadline": "0s"});
    assert_eq!(world.patch(&id, change).await.0, 200);
    let end = tokio::time::timeout(Duration::from_secs(20), client.read(&mut [0])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "cut, with nothing of ours in it: {end:?}");
    assert_eq!(wait(&world, &id, "20s").await["in_flight"], 0);
    assert_eq!(world.metric("evenkeel_tunnels_cut_total").await, 1.0);
}
