//! Who gets which share of the requests, and that nobody notices a backend that dies.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use common::{World, even, served_by, server};
use serde_json::json;

/// Sends `count` requests from one task, on one kept connection or on a new one for each.
async fn send(world: &World, count: usize, is_kept: bool) -> BTreeMap<String, usize> {
    let builder = reqwest::Client::builder().no_proxy();
    let client = if is_kept { builder } else { builder.pool_max_idle_per_host(0) }.build().unwrap();
    let mut counts = BTreeMap::new();
    for _ in 0..count {
        let answer = client.get(world.url("/")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        *counts.entry(served_by(&answer)).or_default() += 1;
        answer.bytes().await.unwrap();
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_thousand_requests_spread_exactly_over_kept_and_new_connections_and_all_workers() {
    let world = Arc::new(World::start(3, &[("PROXY_WORKERS", "4")]).await);
    let tasks: Vec<_> = (0..12)
        .map(|task| {
            let world = Arc::clone(&world);
            // Mostly kept ones: new ones take their time in a debug build.
            let (count, is_kept) = if task < 10 { (2_800, true) } else { (1_000, false) };
            tokio::spawn(async move { send(&world, count, is_kept).await })
        })
        .collect();
    let mut counts = BTreeMap::new();
    for task in tasks {
        for (server, count) in task.await.unwrap() {
            *counts.entry(server).or_insert(0) += count;
        }
    }
    assert_eq!(counts, even(&["s0", "s1", "s2"], 10_000));
}

#[tokio::test]
async fn weights_share_out_the_requests() {
    let world = World::start(2, &[]).await;
    let (status, backend) = world.patch(&world.id(0), json!({"weight": 3})).await;
    assert_eq!((status, &backend["weight"]), (200, &json!(3)));
    let expected = [("s0".to_owned(), 30), ("s1".to_owned(), 10)].into();
    assert_eq!(world.spread(40).await, expected);
}

#[tokio::test]
async fn the_hash_policy_keeps_a_key_on_its_backend() {
    let variables = [("PROXY_POLICY", "hash"), ("PROXY_HASH_KEY", "header:x-user")];
    let world = World::start(3, &variables).await;
    let mut places = std::collections::BTreeSet::new();
    for user in 0..20 {
        let mut servers = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let request = world.client.get(world.url("/")).header("x-user", user.to_string());
            servers.insert(served_by(&request.send().await.unwrap()));
        }
        assert_eq!(servers.len(), 1, "user {user} was served by {servers:?}");
        places.extend(servers);
    }
    assert_eq!(places.len(), 3, "twenty keys leave no backend without any");
}

#[tokio::test]
async fn the_least_request_policy_goes_around_a_backend_that_is_busy() {
    let world = World::start(2, &[("PROXY_POLICY", "least_request")]).await;
    let slow = tokio::spawn(world.client.get(world.url("/delay/60s")).send());
    let busy = async || {
        let pool = world.admin_json("/v1/pools/default").await;
        let backends = pool["backends"].as_array().unwrap().clone();
        backends.iter().position(|backend| backend["in_flight"] == 1)
    };
    world.until("the request to be in flight", async || busy().await.is_some()).await;
    let pool = world.admin_json("/v1/pools/default").await;
    let id = pool["backends"][busy().await.unwrap()]["id"].as_str().unwrap().to_owned();
    let idle = if id == world.id(0) { "s1" } else { "s0" };
    assert_eq!(world.spread(6).await, even(&[idle], 6));
    slow.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_one_of_three_backends_under_load_fails_no_request() {
    let mut world = World::start(3, &[]).await;
    let (victim, listener) = (world.servers[1].take().unwrap(), world.proxy.address);
    let url = format!("http://{listener}/bytes/2000");
    let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (url, is_over, done) = (url.clone(), Arc::clone(&is_over), Arc::clone(&done));
            tokio::spawn(async move {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    let answer = client.get(&url).send().await.unwrap();
                    assert_eq!(answer.status(), 200);
                    assert_eq!(answer.bytes().await.unwrap().len(), 2000);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = async |count: usize| {
        let goal = done.load(Ordering::Relaxed) + count;
        world.until("the load to go on", async || done.load(Ordering::Relaxed) >= goal).await;
    };
    more(200).await;
    let address = victim.address;
    tokio::task::spawn_blocking(move || victim.kill()).await.unwrap().unwrap();
    more(1000).await;
    world
        .until("the dead one to be down", async || {
            world.backend(&address.to_string()).await["health"] == "down"
        })
        .await;
    more(200).await;
    is_over.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
}

/// More than the budget of retries allows: it is there for pools in trouble, and one without a
/// backend that has died is in none.
#[tokio::test]
async fn whatever_a_dead_backend_had_in_flight_is_served_by_another() {
    const HELD: usize = 60;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let victim = listener.local_addr().unwrap();
    // It takes its half of the requests, answers none, and dies.
    let death = tokio::spawn(async move {
        let mut held = Vec::new();
        while held.len() < HELD {
            let (mut stream, _) = listener.accept().await.unwrap();
            if !common::raw::read_head(&mut stream).await.is_empty() {
                held.push(stream);
            }
        }
        // A killed process loses all at once; here the port goes first.
        drop(listener);
    });
    let server = common::server(0, common::any_port());
    let backends = format!("http://{victim},http://{}", server.address);
    let world = World::over(&backends, &[], vec![server]);
    world.until_eligible(2).await;
    let answers = (0..2 * HELD).map(|_| world.get("/"));
    for (status, server) in futures_util::future::join_all(answers).await {
        assert_eq!((status, server.as_str()), (200, "s0"));
    }
    death.await.unwrap();
}

#[tokio::test]
async fn a_dead_backend_comes_back_by_itself() {
    let mut world = World::start(2, &[]).await;
    let victim = world.servers[0].take().unwrap();
    let address = victim.address;
    tokio::task::spawn_blocking(move || victim.kill()).await.unwrap().unwrap();
    world.until_eligible(1).await;
    assert_eq!(world.spread(10).await, even(&["s1"], 10));
    world.servers[0] = Some(server(0, common::listen_on(address)));
    world.until_eligible(2).await;
    assert_eq!(world.spread(10).await, even(&["s0", "s1"], 5));
}

#[tokio::test]
async fn an_http_probe_takes_out_a_backend_that_says_it_is_not_ready() {
    let world = World::start(2, &[("PROXY_PROBE", "http")]).await;
    let url = format!("http://{}/admin/ready", world.id(0));
    let ready = async |is_ready: bool| {
        let answer = world.client.put(&url).json(&json!({"ready": is_ready})).send().await;
        assert_eq!(answer.unwrap().status(), 200);
    };
    ready(false).await;
    world.until_eligible(1).await;
    let backend = world.backend(&world.id(0)).await;
    assert!(backend["reasons"][0].as_str().unwrap().contains("answered 503"), "{backend}");
    assert_eq!(world.spread(4).await, even(&["s1"], 4));
    ready(true).await;
    world.until_eligible(2).await;
}

#[tokio::test]
async fn a_backend_whose_name_does_not_resolve_is_told_and_the_others_serve() {
    let live = server(0, common::any_port());
    let backends = format!("http://does-not-exist.invalid:80,http://{}", live.address);
    let world = World::over(&backends, &[], vec![live]);
    world.until_eligible(1).await;
    // The other one may be up before the name was looked up.
    world
        .until("the name to be told", async || {
            let backend = world.backend("does-not-exist.invalid:80").await;
            let reason = backend["reasons"][0].as_str().unwrap_or_default();
            backend["effective"] == "down"
                && reason.contains("does-not-exist.invalid does not resolve")
        })
        .await;
    assert_eq!(world.spread(4).await, even(&["s0"], 4));
}

#[tokio::test]
async fn with_only_a_name_that_does_not_resolve_the_proxy_runs_is_not_ready_and_says_why() {
    for backends in ["http://does-not-exist.invalid:80", "dns://does-not-exist.invalid:80"] {
        let world = World::over(backends, &[], vec![]);
        world
            .until("the reason", async || {
                let answer = world.client.get(world.admin_url("/readyz")).send().await.unwrap();
                assert_eq!(answer.status(), 503);
                answer.text().await.unwrap().contains("does-not-exist.invalid does not resolve")
            })
            .await;
        assert_eq!(world.get("/").await.0, 503);
    }
}

#[tokio::test]
async fn every_address_of_a_name_is_a_backend_of_its_own() {
    use std::net::ToSocketAddrs;
    let live = server(0, common::any_port());
    let port = live.address.port();
    let world = World::over(&format!("dns://localhost:{port}"), &[], vec![live]);
    world.until_eligible(1).await;
    let pool = world.admin_json("/v1/pools/default").await;
    let found: std::collections::BTreeSet<String> = pool["backends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backend| backend["id"].as_str().unwrap().to_owned())
        .collect();
    let addresses = ("localhost", port).to_socket_addrs().unwrap();
    assert_eq!(found, addresses.map(|address| address.to_string()).collect());
    assert_eq!(world.spread(4).await, even(&["s0"], 4), "only the one that listens serves");
    assert_eq!(pool["source"]["kind"], "dns");
}

#[tokio::test]
async fn a_backend_that_takes_no_connection_costs_the_connect_timeout_and_another_is_tried() {
    // A full queue of a listener that never accepts drops what comes on top.
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = full.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200))
    {
        filling.push(stream);
    }
    let live = server(0, common::any_port());
    let backends = format!("http://{address},http://{}", live.address);
    let variables = [("PROXY_PROBE", "off"), ("PROXY_CONNECT_TIMEOUT", "100ms")];
    let world = World::over(&backends, &variables, vec![live]);
    world.until_eligible(2).await;
    assert_eq!(world.spread(4).await, even(&["s0"], 4));
    let series = format!(
        "evenkeel_retries_total{{pool=\"default\",backend=\"{address}\",reason=\"connect_timeout\"}}"
    );
    assert_eq!(world.metric(&series).await, 2.0);
}

#[tokio::test]
async fn without_any_backend_the_proxy_runs_is_not_ready_says_why_and_recovers() {
    let address = common::closed_port();
    let mut world = World::over(&format!("http://{address}"), &[], vec![]);
    world
        .until("the first probe", async || {
            let text = world.client.get(world.admin_url("/readyz")).send().await.unwrap();
            assert_eq!(text.status(), 503);
            text.text().await.unwrap().contains("connection refused")
        })
        .await;
    let answer = world.client.get(world.url("/")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    let proxy_status = answer.headers()["proxy-status"].to_str().unwrap();
    assert!(proxy_status.contains("no_backend"), "{proxy_status}");

    world.servers.push(Some(server(0, common::listen_on(address))));
    world.until_eligible(1).await;
    let ready = world.client.get(world.admin_url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200);
    assert_eq!(world.get("/").await, (200, "s0".to_owned()));
}
