//! Three proxies with skewed load: the percentiles that the dashboard shows are those of all
//! requests together.
//!
//! A client on a busy machine measures its own waiting as well. So what counts as exact is what the
//! proxies measured of each request, as their decisions tell it, which lies between the backend's
//! delay and what the client measured: nothing here depends on how long anything takes. A machine
//! that is too busy to send a second's load within the ten seconds that percentiles look back gets
//! another try.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::time::{Duration, Instant};

use common::{World, page::Page};
use futures_util::{StreamExt, stream};
use serde_json::Value;

/// Requests, and their delays in milliseconds from … on, by a step: the busiest proxy has the fast
/// ones, so that neither an average of percentiles nor the worst of them comes near.
const LOADS: [(u64, u64, u64); 3] = [(200, 10, 1), (60, 60, 3), (20, 250, 20)];

/// Requests under way on one proxy: all of the load takes about a second.
const AT_ONCE: usize = 40;

/// Percentiles look back ten seconds, in steps of half a second.
const LOOKS_BACK: Duration = Duration::from_secs(9);

/// Sends the load of one proxy, and measures it in milliseconds.
async fn send(world: &World, (requests, from, step): (u64, u64, u64)) -> Vec<f64> {
    let sent = stream::iter(0..requests).map(|n| async move {
        let url = world.url(&format!("/delay/{}ms", from + n * step));
        let began = Instant::now();
        let answer = world.client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
        began.elapsed().as_secs_f64() * 1e3
    });
    sent.buffer_unordered(AT_ONCE).collect().await
}

/// What a proxy measured of each request, in milliseconds.
async fn measured(world: &World, requests: u64) -> Vec<f64> {
    let mut durations = Vec::new();
    world
        .until("all decisions", async || {
            let told = world.admin_json("/v1/decisions?limit=2000").await;
            let told = told["decisions"].as_array().unwrap().clone();
            durations = told.iter().map(|one| one["duration_ms"].as_f64().unwrap()).collect();
            durations.len() as u64 == requests
        })
        .await;
    durations
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The least value that this share of all are not above.
fn exact(sorted: &[f64], share: f64) -> f64 {
    sorted[(sorted.len() as f64 * share).ceil() as usize - 1]
}

/// Of the pool, what a dashboard over three proxies shows after this load, and what the proxies and
/// their clients measured; nothing if it took so long that percentiles look back at a part of it.
async fn shown_and_measured() -> Option<(Value, [Vec<f64>; 2])> {
    let every = [("PROXY_DECISIONS", "100%")];
    let one = World::start(2, &every).await;
    let backends = [0, 1].map(|index| format!("http://{}", one.id(index))).join(",");
    let [two, three] = [(); 2].map(|()| World::over(&backends, &every, vec![]));
    for world in [&two, &three] {
        world.until_eligible(2).await;
    }
    let page = Page::over(&[&one, &two, &three]).await;

    let began = Instant::now();
    let clients = tokio::join!(send(&one, LOADS[0]), send(&two, LOADS[1]), send(&three, LOADS[2]));
    let traffic = |state: &str| -> Value {
        let state: Value = serde_json::from_str(state).unwrap();
        state["picture"]["pools"][0]["traffic"].clone()
    };
    let all: u64 = LOADS.iter().map(|(requests, ..)| requests).sum();
    let shown = page.until("/api/state", |state| traffic(state)["requests_total"] == all).await;
    if began.elapsed() > LOOKS_BACK {
        return None;
    }
    let mut durations = Vec::new();
    for (world, (requests, ..)) in [&one, &two, &three].into_iter().zip(LOADS) {
        durations.extend(measured(world, requests).await);
    }
    let clients = [clients.0, clients.1, clients.2].concat();
    Some((traffic(&shown), [sorted(durations), sorted(clients)]))
}

#[tokio::test]
async fn percentiles_of_three_proxies_with_skewed_load_are_within_two_per_cent() {
    let mut found = None;
    for _ in 0..3 {
        found = shown_and_measured().await;
        if found.is_some() {
            break;
        }
    }
    let (shown, [durations, clients]) = found.expect("a second's load is sent within nine");
    let delays = LOADS
        .iter()
        .flat_map(|(requests, from, step)| (0..*requests).map(move |n| (from + n * step) as f64));
    let delays = sorted(delays.collect());
    for ((delay, duration), client) in delays.iter().zip(&durations).zip(&clients) {
        assert!(delay <= duration, "{duration} ms for a delay of {delay} ms");
        assert!(duration <= client, "{duration} ms of {client} ms at the client");
    }
    for (name, share) in [("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)] {
        let (shown, exact) = (shown[name].as_f64().unwrap(), exact(&durations, share));
        assert!((shown - exact).abs() / exact < 0.02, "{name}: {shown} for {exact}");
    }
}
