//! Requests that wait for a moment while nobody can serve, in the hope of a restart.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use chassis::shutdown::Stop;
use common::{World, server};
use tokio::task::JoinSet;

/// Longer than a test takes, so that what waits is waited for.
const LONG: (&str, &str) = ("PROXY_LAST_RESORT_WAIT", "1m");

async fn until_rung(world: &World, rung: &str) {
    let stands = async || world.admin_json("/v1/pools/default").await["rung"] == rung;
    world.until(rung, stands).await;
}

async fn until_waiting(world: &World, count: usize) {
    let wait = async || world.admin_json("/v1/pools/default").await["counts"]["waiting"] == count;
    world.until("requests to wait", wait).await;
}

/// Kills all servers, and gives their addresses.
fn kill_all(world: &mut World) -> Vec<SocketAddr> {
    let killed = world.servers.drain(..).flatten();
    let stop = |server: evenkeel_stack::Service| {
        server.ask_to_stop(Stop::Prompt);
        server.address
    };
    killed.map(stop).collect()
}

async fn restart(world: &mut World, index: usize, address: SocketAddr) {
    let mut listener = None;
    world
        .until("the port to be free", async || {
            listener = chassis::net::bind("TEST_PORT", address.ip(), address.port()).ok();
            listener.is_some()
        })
        .await;
    world.servers.push(Some(server(index, listener.unwrap())));
}

fn get(world: &World) -> impl Future<Output = reqwest::Response> + Send + 'static {
    let request = world.client.get(world.url("/"));
    async move { request.send().await.unwrap() }
}

fn reason(answer: &reqwest::Response) -> &str {
    assert_eq!(answer.headers()["retry-after"], "1");
    answer.headers()["proxy-status"].to_str().unwrap()
}

async fn waits_so_far(world: &World) -> f64 {
    world.metric("evenkeel_queue_duration_seconds_count").await
}

#[tokio::test]
async fn all_servers_are_gone_and_one_is_back_in_time_and_no_request_has_failed() {
    let mut world = World::start(3, &[LONG]).await;
    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (client, url) = (world.client.clone(), world.url("/"));
        let (done, served) = (Arc::clone(&done), Arc::clone(&served));
        clients.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let answer = client.get(&url).send().await.unwrap();
                let status = answer.status();
                assert_eq!(
                    status,
                    200,
                    "{:?} {}",
                    answer.headers().clone(),
                    answer.text().await.unwrap()
                );
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    world.until("requests", async || served.load(Ordering::Relaxed) > 100).await;
    let addresses = kill_all(&mut world);
    until_rung(&world, "queue").await;
    until_waiting(&world, 4).await;
    let ready = world.client.get(world.admin_url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503, "nobody can serve");
    let before = served.load(Ordering::Relaxed);

    restart(&mut world, 1, addresses[1]).await;
    world.until("more requests", async || served.load(Ordering::Relaxed) > before + 100).await;
    done.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let events = world.admin_json("/v1/events").await.to_string();
    assert!(events.contains("requests wait for a backend to come back"), "{events}");
}

#[tokio::test]
async fn a_pool_that_stays_dead_has_requests_wait_once_and_then_refuses_them_at_once() {
    let mut world = World::start(1, &[("PROXY_LAST_RESORT_WAIT", "2s")]).await;
    kill_all(&mut world);
    until_rung(&world, "queue").await;
    let answer = get(&world).await;
    assert_eq!(answer.status(), 503);
    assert!(reason(&answer).contains("no_backend"), "{}", reason(&answer));
    assert_eq!(world.admin_json("/v1/pools/default").await["rung"], "nobody");
    let picks = "evenkeel_picks_total{pool=\"default\",rung=\"queue\"}";
    assert_eq!(world.metric(picks).await, 1.0);
    let waited = waits_so_far(&world).await;
    assert!(waited > 0.0);
    let answer = get(&world).await;
    assert!(reason(&answer).contains("no_backend"), "{}", reason(&answer));
    assert_eq!((answer.status().as_u16(), waits_so_far(&world).await), (503, waited));
}

#[tokio::test]
async fn only_so_many_wait_and_whoever_leaves_gives_its_place_up() {
    let mut world = World::start(1, &[LONG, ("PROXY_QUEUE_MAX", "1")]).await;
    let addresses = kill_all(&mut world);
    until_rung(&world, "queue").await;
    let waiting = tokio::spawn(get(&world));
    until_waiting(&world, 1).await;
    let answer = get(&world).await;
    assert_eq!(answer.status(), 503);
    assert!(reason(&answer).contains("queue_full"), "{}", reason(&answer));

    waiting.abort();
    until_waiting(&world, 0).await;
    let gone = "evenkeel_failures_total{pool=\"default\",backend=\"_none\",reason=\"client_gone\"}";
    world.until("it to be counted", async || world.metric(gone).await == 1.0).await;

    let request = world.client.post(world.url("/echo")).body("what is to be done once");
    let waiting = tokio::spawn(async move { request.send().await.unwrap() });
    until_waiting(&world, 1).await;
    restart(&mut world, 0, addresses[0]).await;
    assert_eq!(waiting.await.unwrap().status(), 200, "nothing of it had been sent");
}

#[tokio::test]
async fn without_a_time_for_it_nobody_waits() {
    let mut world = World::start(1, &[("PROXY_LAST_RESORT_WAIT", "0s")]).await;
    kill_all(&mut world);
    until_rung(&world, "nobody").await;
    let answer = get(&world).await;
    assert!(reason(&answer).contains("no_backend"), "{}", reason(&answer));
    assert_eq!((answer.status().as_u16(), waits_so_far(&world).await), (503, 0.0));
}

#[tokio::test]
async fn nobody_is_waited_for_who_was_taken_out() {
    let world = World::start(1, &[LONG]).await;
    let change = serde_json::json!({"state": "maint", "force": true});
    assert_eq!(world.patch(&world.id(0), change).await.0, 200);
    assert_eq!(world.admin_json("/v1/pools/default").await["rung"], "nobody");
    let answer = get(&world).await;
    assert!(reason(&answer).contains("no_backend"), "{}", reason(&answer));
}

#[tokio::test]
async fn the_first_request_that_finds_all_gone_waits_too() {
    // So that no probe finds it out before.
    let mut world = World::start(2, &[LONG, ("PROXY_PROBE_INTERVAL", "1m")]).await;
    let addresses = kill_all(&mut world);
    for address in &addresses {
        let is_closed = async || tokio::net::TcpStream::connect(address).await.is_err();
        world.until("the server to be gone", is_closed).await;
    }
    let first = tokio::spawn(get(&world));
    until_rung(&world, "queue").await;
    restart(&mut world, 0, addresses[0]).await;
    assert_eq!(first.await.unwrap().status(), 200);
}
