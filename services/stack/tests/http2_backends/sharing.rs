//! How requests share connections, and when they do not.

use std::sync::atomic::Ordering;

use crate::{
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
        http2::connect,
    },
    echo::{Backend, call},
    refusals::{Refusal, answering},
};

#[tokio::test]
async fn requests_share_a_connection_until_the_backends_limit_is_reached() {
    for (streams, most) in [(100, 1), (4, 3)] {
        let backend = Backend::start(streams).await;
        // Without probes, each of which would be one more connection.
        let world = backend.world(&[("PROXY_PROBE", "off")]).await;
        // So that the backend's limit is known.
        assert_eq!(world.get("/").await.0, 200);
        let before = backend.connections.load(Ordering::Relaxed) - 1;
        let asked = (0..12).map(|_| world.get("/slow"));
        for (status, _) in futures_util::future::join_all(asked).await {
            assert_eq!(status, 200);
        }
        let made = backend.connections.load(Ordering::Relaxed) - before;
        assert!(made <= most, "{made} connections of {streams} streams");
    }
}

#[tokio::test]
async fn nothing_is_sent_that_a_new_connection_would_refuse_as_beyond_its_limit() {
    let backend = Backend::start(4).await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_RETRIES", "0")];
    let world = backend.world(&variables).await;
    let asked = (0..12).map(|_| world.get("/slow"));
    for (status, _) in futures_util::future::join_all(asked).await {
        assert_eq!(status, 200);
    }
    let retries = format!(
        "evenkeel_retries_total{{pool=\"default\",backend=\"{}\",reason=\"reset_before_headers\"}}",
        backend.address
    );
    assert_eq!(world.metric(&retries).await, 0.0);
    assert_eq!(world.backend(&backend.address.to_string()).await["health"], "up");
}

#[tokio::test]
async fn a_connection_to_a_backend_is_idle_while_no_request_is_on_it() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_UPSTREAM_IDLE_TIMEOUT", "60s")]).await;
    let state = async |state: &str| {
        world.metric(&format!("evenkeel_connections{{side=\"backend\",state=\"{state}\"")).await
    };
    let states = async || (state("active").await, state("idle").await);
    for _ in 0..2 {
        let mut client = connect(world.proxy.address).await;
        let asked = [(); 2].map(|()| client.send_request(call("/never", b"")));
        let asked = tokio::spawn(futures_util::future::join_all(asked));
        world.until("it to be used", async || states().await == (1.0, 0.0)).await;
        asked.abort();
        world.until("it to be idle", async || states().await == (0.0, 1.0)).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_resets_only_its_own_stream() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_PROBE", "off")]).await;
    let mut raw = RawClient::connect(world.proxy.address, &[]).await;
    for (stream, path) in [(1, "/never"), (3, "/slow")] {
        let block = frames::get(path, &[]);
        raw.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
    }
    let id = backend.address.to_string();
    let in_flight = async || world.backend(&id).await["in_flight"].clone();
    world.until("both to be in flight", async || in_flight().await == 2).await;
    raw.send(frames::RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await;
    assert_eq!(raw.until(frames::HEADERS).await.unwrap().stream, 3);
    world.until("the tickets to be given back", async || in_flight().await == 0).await;
    assert_eq!(world.backend(&id).await["traffic"]["failures_total"], 0);
    assert_eq!(backend.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_takes_its_connection_out_of_use() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_PROBE", "off"), ("PROXY_RESPONSE_TIMEOUT", "2s")]).await;
    assert_eq!(world.get("/never").await.0, 504);
    assert_eq!(world.get("/").await.0, 200);
    assert_eq!(backend.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_request_that_a_backend_is_slow_with_is_tried_elsewhere() {
    let slow = Backend::start(100).await;
    let (good, requests) = answering(Refusal::Stream).await;
    let variables = [
        ("PROXY_BACKEND_PROTOCOL", "h2c"),
        ("PROXY_PROBE", "off"),
        ("PROXY_POLICY", "first"),
        ("PROXY_TRY_TIMEOUT", "100ms"),
    ];
    let world = World::over(&format!("http://{},http://{good}", slow.address), &variables, vec![]);
    world.until_eligible(2).await;
    assert_eq!(world.get("/never").await.0, 204);
    assert_eq!((slow.heads.lock().unwrap().len(), requests.load(Ordering::Relaxed)), (1, 2));
}
