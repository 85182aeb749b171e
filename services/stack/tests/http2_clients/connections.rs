//! A client's connection: how it begins, what it carries, and how it ends.

use chassis::shutdown::Stop;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    common::{
        World, even,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
        http2::connect,
        raw::{exchange, status},
    },
    request, whole,
};

#[tokio::test]
async fn the_preface_may_come_in_pieces_and_what_only_begins_like_it_is_http_1() {
    let world = World::start(1, &[]).await;
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in frames::PREFACE {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(&frames::frame(frames::SETTINGS, 0, 0, &[])).await.unwrap();
    let mut client = RawClient(stream);
    let block = frames::get("/status/204", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    assert_eq!(client.until(frames::HEADERS).await.unwrap().stream, 1);

    for other in ["PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", "PRI * HTTP/1.1\r\nHost:\r\n\r\n"] {
        assert_eq!(status(&exchange(world.proxy.address, other).await), 400, "{other:?}");
    }
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in ["P", "OST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", "\r\n"] {
        stream.write_all(part.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn requests_on_one_connection_are_served_side_by_side_and_spread_over_the_backends() {
    let world = World::start(3, &[("PROXY_WORKERS", "1")]).await;
    let client = connect(world.proxy.address).await;
    let asked = (0..12).map(|_| {
        let mut client = client.clone();
        async move { client.send_request(request("GET", "/delay/100ms", b"")).await.unwrap() }
    });
    let mut counts = std::collections::BTreeMap::new();
    for response in futures_util::future::join_all(asked).await {
        let server = response.headers()["x-served-by"].to_str().unwrap().to_owned();
        assert_eq!(whole(response).await.0, 200);
        *counts.entry(server).or_default() += 1;
    }
    assert_eq!(counts, even(&["s0", "s1", "s2"], 4));
}

#[tokio::test]
async fn a_connection_counts_once_however_many_requests_are_on_it() {
    let world = World::start(1, &[("PROXY_WORKERS", "1")]).await;
    let client = connect(world.proxy.address).await;
    let _idle = [(); 3].map(|()| std::net::TcpStream::connect(world.proxy.address).unwrap());
    let state = async |state: &str| {
        world.metric(&format!("evenkeel_connections{{side=\"client\",state=\"{state}\"")).await
    };
    let states = async || (state("active").await, state("idle").await);
    world.until("all to be there", async || states().await == (0.0, 4.0)).await;
    let asked = (0..8).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.send_request(request("GET", "/delay/60s", b"")).await })
    });
    let asked: Vec<_> = asked.collect();
    let in_flight = async || world.metric("evenkeel_in_flight{").await == 8.0;
    world.until("all requests to be there", in_flight).await;
    assert_eq!(states().await, (1.0, 3.0));
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    world.until("it to be idle", async || states().await == (0.0, 4.0)).await;
}

/// RFC 9113 §6.8.
#[tokio::test]
async fn a_stop_says_goodbye_and_finishes_the_streams() {
    let world = World::start(1, &[("PROXY_STOP_QUIET", "200ms")]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let block = frames::get("/delay/5s", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"] == 1;
    world.until("the request to be in flight", in_flight).await;
    world.proxy.ask_to_stop(Stop::Graceful);
    let frames = client.rest().await;
    let of = |kind| frames.iter().position(|frame| frame.kind == kind);
    let goodbye = of(frames::GOAWAY).unwrap();
    assert_eq!(frames[goodbye].payload[4..8], [0; 4], "no error");
    assert!(of(frames::HEADERS).unwrap() > goodbye, "{frames:?}");
    assert!(frames.iter().any(|frame| frame.flags & END_STREAM != 0 && frame.stream == 1));
    world.until_without_admin("the end", async || world.proxy.has_ended()).await;
}

#[tokio::test]
async fn a_client_that_comes_during_a_stop_is_served_and_then_sent_elsewhere() {
    let variables = [("PROXY_STOP_QUIET", "3s"), ("PROXY_STOP_MAX", "20s")];
    let world = World::start(1, &variables).await;
    world.proxy.ask_to_stop(Stop::Graceful);
    let ready = async || {
        let answer = world.client.get(world.admin_url("/readyz")).send().await.unwrap();
        answer.status() == 503
    };
    world.until("the stop to begin", ready).await;
    let mut client = connect(world.proxy.address).await;
    let response = client.send_request(request("GET", "/", b"")).await.unwrap();
    assert_eq!(whole(response).await.0, 200);
    world.until("the goodbye", async || client.is_closed()).await;
    assert!(!world.proxy.has_ended(), "said before the end of the stop");
}

#[tokio::test]
async fn an_idle_connection_is_told_before_it_is_closed() {
    let variables = [("PROXY_IDLE_TIMEOUT", "300ms"), ("PROXY_HEADER_TIMEOUT", "5s")];
    let world = World::start(1, &variables).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let block = frames::get("/delay/1s", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    let frames = client.rest().await;
    let of = |kind| frames.iter().position(|frame| frame.kind == kind).unwrap();
    assert!(of(frames::HEADERS) < of(frames::GOAWAY), "busy is not idle: {frames:?}");
    let timeouts = "evenkeel_client_timeouts_total{phase=\"idle\"}";
    assert_eq!(world.metric(timeouts).await, 1.0);
}
