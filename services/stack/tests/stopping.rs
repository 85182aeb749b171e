//! A stop of the proxy that nobody notices.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use chassis::shutdown::Stop;
use common::World;

#[tokio::test]
async fn at_a_stop_the_proxy_is_not_ready_but_alive_and_serves_on_until_it_is_quiet() {
    let variables = [("PROXY_STOP_QUIET", "1s"), ("PROXY_STOP_MAX", "20s")];
    let world = World::start(1, &variables).await;
    let slow = tokio::spawn(world.client.get(world.url("/delay/2s")).send());
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"] == 1;
    world.until("the request to be in flight", in_flight).await;

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

    assert_eq!(slow.await.unwrap().unwrap().status(), 200, "in flight when the stop came");
    let ended = async || world.proxy.has_ended();
    world.until_without_admin("the proxy to end", ended).await;
}

#[tokio::test]
async fn with_steady_requests_the_stop_comes_at_its_maximum_and_fails_none() {
    let variables = [("PROXY_STOP_QUIET", "10s"), ("PROXY_STOP_MAX", "500ms")];
    let world = World::start(2, &variables).await;
    world.proxy.ask_to_stop(Stop::Graceful);
    let mut answered = 0;
    loop {
        match world.client.get(world.url("/")).send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), 200);
                answered += 1;
            }
            Err(error) => {
                assert!(error.is_connect(), "only a new connection may be refused: {error:?}");
                break;
            }
        }
    }
    assert!(answered > 0);
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
