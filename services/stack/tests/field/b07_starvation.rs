//! Of five equal servers one got 5 of 1500 requests and never came back: traefik/traefik#12306.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use serde_json::json;

use crate::common::{World, served_by};

const SERVERS: usize = 5;

/// Requests of which an equal share is 20.
const ROUND: usize = 100;

/// Lets a server take so long over each request.
async fn takes(world: &World, index: usize, latency: &str) {
    let url = format!("http://{}/admin/faults", world.id(index));
    let answer = world.client.put(url).json(&json!({"latency": latency})).send().await;
    assert_eq!(answer.unwrap().status(), 200);
}

/// What each server gets of some requests, ten at a time.
async fn round(world: &World, requests: usize) -> BTreeMap<String, usize> {
    let requests = (0..requests).map(|_| world.client.get(world.url("/")).send());
    let mut answers = futures_util::stream::iter(requests).buffer_unordered(10);
    let mut counts: BTreeMap<String, usize> =
        (0..SERVERS).map(|index| (format!("s{index}"), 0)).collect();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        *counts.get_mut(&served_by(&answer)).unwrap() += 1;
    }
    counts
}

#[tokio::test]
async fn a_server_that_was_slow_is_spared_but_tried_and_then_gets_its_share_again() {
    let world = World::start(SERVERS, &[("PROXY_POLICY", "least_time")]).await;
    for index in 0..SERVERS {
        takes(&world, index, "40ms").await;
    }
    // So long that what a busy machine adds does not matter.
    takes(&world, 2, "2s").await;
    let share = async |requests: usize| round(&world, requests).await["s2"];
    let is_spared = async || share(ROUND).await < ROUND / SERVERS / 4;
    world.until("the slow one to be spared", is_spared).await;
    // One of 50 requests goes to whose turn it is, whatever is known of it.
    assert!(share(500).await >= 500 / 50 / SERVERS);

    takes(&world, 2, "40ms").await;
    let is_back = async || share(ROUND).await >= ROUND / SERVERS / 2;
    world.until("a server like the others to have a share like theirs", is_back).await;
}
