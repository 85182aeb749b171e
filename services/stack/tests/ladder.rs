//! Backends that ask to be spared, and who serves when nobody better does.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use chassis::shutdown::Stop;
use common::{World, even, raw::RawBackend, server};

const SPARED: &[u8] = b"HTTP/1.1 200 OK\r\nx-evenkeel-degraded: cold cache\r\nx-served-by: raw\r\n\
                        content-length: 0\r\n\r\n";

fn picks(rung: &str) -> String {
    format!("evenkeel_picks_total{{pool=\"default\",rung=\"{rung}\"}}")
}

#[tokio::test]
async fn a_backend_that_asks_to_be_spared_serves_only_when_nobody_else_does() {
    let spared = RawBackend::start(SPARED).await;
    let servers = vec![server(0, common::any_port())];
    let urls = format!("http://{},http://{}", spared.address, servers[0].address);
    let world = World::over(&urls, &[("PROXY_DEGRADED_TIME", "1h")], servers);
    world.until_eligible(2).await;
    let id = spared.address.to_string();
    world
        .until("the wish to be heard", async || {
            let answer = world.client.get(world.url("/")).send().await.unwrap();
            assert!(!answer.headers().contains_key("x-evenkeel-degraded"), "it is for the proxy");
            world.backend(&id).await["health"] == "degraded"
        })
        .await;
    let backend = world.backend(&id).await;
    assert_eq!(backend["reasons"][0], "degraded: cold cache");
    assert_eq!(world.spread(10).await, even(&["s0"], 10));
    assert_eq!(world.metric(&picks("degraded")).await, 0.0);

    world.servers[0].as_ref().unwrap().ask_to_stop(Stop::Prompt);
    world
        .until("the next rung", async || {
            world.admin_json("/v1/pools/default").await["rung"] == "degraded"
        })
        .await;
    assert_eq!(world.spread(5).await, even(&["raw"], 5));
    assert!(world.metric(&picks("degraded")).await >= 5.0);
    let events = world.admin_json("/v1/events").await.to_string();
    assert!(events.contains("those that ask to be spared serve"), "{events}");
}
