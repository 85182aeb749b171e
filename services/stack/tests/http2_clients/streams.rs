//! What one stream suffers, and the others on its connection do not.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::{
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
        http2::connect,
        raw::{OK, RawBackend, over},
    },
    request,
};

/// RFC 9113 §8.7, §5.4.2.
#[tokio::test]
async fn a_stream_that_is_reset_cancels_its_attempt_and_no_other() {
    let world = World::start(1, &[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    for (stream, path) in [(1, "/delay/60s"), (3, "/delay/1s"), (5, "/bytes/80000000")] {
        let block = frames::get(path, &[]);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
    }
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"].clone();
    world.until("the requests to be in flight", async || in_flight().await == 3).await;
    // One before its response, one within.
    while client.until(frames::DATA).await.unwrap().stream != 5 {}
    for stream in [1, 5] {
        client.send(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await;
    }
    while client.until(frames::HEADERS).await.unwrap().stream != 3 {}
    world.until("the tickets to be given back", async || in_flight().await == 0).await;
    let backend = world.id(0);
    let gone = format!(
        "evenkeel_requests_total{{pool=\"default\",backend=\"{backend}\",method=\"GET\",code=\"499\"}}"
    );
    world.until("it to be counted", async || world.metric(&gone).await == 2.0).await;
    assert_eq!(world.backend(&backend).await["traffic"]["failures_total"], 0);
}

/// RFC 9113 §5.2, §10.5: a window that stays shut holds a backend's connection.
#[tokio::test]
async fn a_stream_whose_client_makes_no_room_is_reset_and_the_others_go_on() {
    let world = World::start(1, &[("PROXY_WRITE_TIMEOUT", "500ms")]).await;
    // SETTINGS_INITIAL_WINDOW_SIZE: ten bytes for each stream.
    let mut client = RawClient::connect(world.proxy.address, &[(4, 10)]).await;
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"].clone();
    let block = frames::get("/bytes/80000000", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    assert_eq!(client.until(frames::RST_STREAM).await.unwrap().stream, 1);
    world.until("the ticket to be given back", async || in_flight().await == 0).await;
    let block = frames::get("/status/204", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 3, &block).await;
    assert_eq!(client.until(frames::HEADERS).await.unwrap().stream, 3);
    let timeouts = "evenkeel_client_timeouts_total{phase=\"write\"}";
    assert_eq!(world.metric(timeouts).await, 1.0);
}

/// Its end is held back until the client has taken what is before it, and then comes by itself.
#[tokio::test]
async fn an_answer_that_is_longer_than_its_window_comes_to_its_end() {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
        trailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
    for (answer, last) in [(OK, frames::DATA), (CHUNKED, frames::HEADERS)] {
        let backend = RawBackend::start(answer).await;
        let world = over(&backend, &[]).await;
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let mut client = RawClient::connect(world.proxy.address, &[(4, 1)]).await;
        let block = frames::get("/", &[]);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
        assert_eq!(client.until(frames::DATA).await.unwrap().payload, b"o");
        client.send(frames::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()).await;
        let data = client.until(frames::DATA).await.unwrap();
        assert_eq!((&data.payload[..], data.flags & END_STREAM), (&b"k"[..], 0));
        let end = client.until(last).await.unwrap();
        assert_eq!((end.flags & END_STREAM, end.payload.is_empty()), (1, last == frames::DATA));
    }
}

#[tokio::test]
async fn what_fails_is_told_on_its_stream_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backends = format!("http://{}", listener.local_addr().unwrap());
    let variables = [("PROXY_PROBE", "off"), ("PROXY_RESPONSE_TIMEOUT", "200ms")];
    let world = World::over(&backends, &variables, vec![]);
    world.until_eligible(1).await;
    let mut client = connect(world.proxy.address).await;
    for _ in 0..2 {
        let request = request("GET", "/", b"");
        let answer = client.send_request(request);
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), 504);
        let proxy_status = answer.headers()["proxy-status"].to_str().unwrap();
        assert!(proxy_status.contains("response_timeout"), "{proxy_status}");
    }
}

/// RFC 9113 §5.1: what a client has sent before it can know that its upload is not wanted is passed over.
#[tokio::test]
async fn what_comes_late_of_uploads_that_were_answered_early_ends_no_other_request() {
    let world = World::start(1, &[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let post = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/echo")];
    let refused = frames::block(&[&post[..], &[("expect", "odd")]].concat());
    let uploads = (1..200).step_by(2);
    for stream in uploads.clone() {
        client.send(frames::HEADERS, END_HEADERS, stream, &refused).await;
        assert_eq!(client.until(frames::RST_STREAM).await.unwrap().stream, stream);
    }
    let trailers = frames::block(&[("x-sum", "7")]);
    for stream in uploads {
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &trailers).await;
    }
    let block = frames::get("/status/204", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 201, &block).await;
    let next = client.until(frames::HEADERS).await.expect("the connection goes on");
    assert_eq!(next.stream, 201);
}
