//! A schedule in each worker, so that bursts meet on one server: envoyproxy/envoy#2593 (15 % of the
//! requests late), #12882, #28301 and #37369; emissary-ingress/emissary#1567, whose users run Envoy
//! with one worker for it.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::common::{World, any_port, served_by, server};

const WEIGHTS: [usize; 3] = [5, 3, 1];

/// A proxy of four workers over servers with these weights.
async fn weighted() -> World {
    let servers: Vec<_> = (0..WEIGHTS.len()).map(|index| server(index, any_port())).collect();
    let url = |index: usize| format!("http://{};weight={}", servers[index].address, WEIGHTS[index]);
    let urls = (0..WEIGHTS.len()).map(url).collect::<Vec<_>>().join(",");
    let world = World::over(&urls, &[("PROXY_WORKERS", "4")], servers);
    world.until_eligible(WEIGHTS.len()).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_robin_is_exact_over_all_workers_and_kept_and_new_connections() {
    const TURNS: usize = 150;
    let world = Arc::new(weighted().await);
    let tasks: Vec<_> = (0..9)
        .map(|task| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                // Kept connections stay with their worker; new ones go to the least busy one.
                let builder = reqwest::Client::builder().no_proxy();
                let kept = if task < 7 { 1 } else { 0 };
                let client = builder.pool_max_idle_per_host(kept).build().unwrap();
                let mut counts = BTreeMap::new();
                for _ in 0..TURNS {
                    let answer = client.get(world.url("/")).send().await.unwrap();
                    assert_eq!(answer.status(), 200);
                    *counts.entry(served_by(&answer)).or_insert(0) += 1;
                    answer.bytes().await.unwrap();
                }
                counts
            })
        })
        .collect();
    let mut counts = BTreeMap::new();
    for task in tasks {
        for (server, count) in task.await.unwrap() {
            *counts.entry(server).or_insert(0) += count;
        }
    }
    // Nine clients with as many turns each, and as many turns in the weights.
    let expected =
        WEIGHTS.iter().enumerate().map(|(index, weight)| (format!("s{index}"), weight * TURNS));
    assert_eq!(counts, expected.collect());
}

#[tokio::test]
async fn requests_that_come_at_once_on_all_workers_meet_nowhere_more_than_the_weights_say() {
    const EACH: usize = 4;
    let world = weighted().await;
    let mut held = Vec::new();
    for _ in 0..EACH * WEIGHTS.iter().sum::<usize>() {
        let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
        stream.write_all(b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        held.push(stream);
    }
    let in_flight = async || {
        let mut counts = Vec::new();
        for index in 0..WEIGHTS.len() {
            let backend = world.backend(&world.id(index)).await;
            counts.push(backend["in_flight"].as_u64().unwrap() as usize);
        }
        counts
    };
    let are_all_there = async || in_flight().await.iter().sum::<usize>() == held.len();
    world.until("all to be under way", are_all_there).await;
    assert_eq!(in_flight().await, WEIGHTS.map(|weight| weight * EACH));
}
