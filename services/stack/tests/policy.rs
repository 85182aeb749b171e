//! Policies and weights that are changed while requests are under way, over real sockets.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Answer, World, even, page::Page};
use serde_json::{Value, json};

async fn patch(world: &World, headers: &[(&str, &str)], change: Value) -> Answer {
    let request = world.client.patch(world.admin_url("/v1/pools/default")).json(&change);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    world.ask(request).await
}

async fn pool(world: &World) -> Value {
    world.admin_json("/v1/pools/default").await
}

/// Clients that send one request after the other, some with a body, until they are stopped.
struct Load {
    sent: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(world: &World, clients: usize) -> Self {
        let (sent, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let client = |number: usize| {
            let (sent, is_over) = (Arc::clone(&sent), Arc::clone(&is_over));
            let (client, url) = (world.client.clone(), world.url("/echo?user=7"));
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let request = match number % 2 {
                        0 => client.get(&url),
                        _ => client.post(&url).body("a body that is sent once"),
                    };
                    match request.header("cookie", format!("session={number}")).send().await {
                        Ok(answer) if answer.status() == 200 => {
                            answer.bytes().await.unwrap();
                        }
                        other => failures.push(format!("{other:?}")),
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { sent, is_over, clients }
    }

    /// Waits until so many more requests have ended.
    async fn pass(&self, count: usize) {
        let end = self.sent.load(Ordering::Relaxed) + count;
        let wait = async {
            while self.sent.load(Ordering::Relaxed) < end {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(common::PATIENCE, wait).await.unwrap();
    }

    /// The requests that were lost.
    async fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut lost = Vec::new();
        for client in self.clients {
            lost.extend(client.await.unwrap());
        }
        lost
    }
}

#[tokio::test]
async fn no_request_is_lost_while_the_policy_goes_through_all_that_there_are() {
    let world = World::start(3, &[]).await;
    let load = Load::start(&world, 8);
    let plans = [
        json!({"policy": "least_request"}),
        json!({"policy": "p2c"}),
        json!({"policy": "hash", "hash_key": "cookie:session"}),
        json!({"hash_key": "query:user"}),
        json!({"policy": "least_time"}),
        json!({"policy": "first"}),
        json!({"policy": "random", "ttl": "10m"}),
        json!({"policy": null}),
    ];
    for plan in plans.iter().chain(&plans) {
        assert_eq!(patch(&world, &[], plan.clone()).await.status, 200, "{plan}");
        load.pass(40).await;
    }
    assert_eq!(load.end().await, [""; 0]);
    assert_eq!(world.metric("evenkeel_policy{pool=\"default\",policy=\"round_robin\"}").await, 1.0);
}

#[tokio::test]
async fn no_request_is_lost_while_weights_change() {
    let world = World::start(3, &[]).await;
    let load = Load::start(&world, 8);
    for round in 0..30 {
        let (id, weight) = (world.id(round % 3), [5, 0, 256, 1][round % 4]);
        let (status, _) = world.patch(&id, json!({"weight": weight})).await;
        assert_eq!(status, 200);
        load.pass(20).await;
    }
    assert_eq!(load.end().await, [""; 0]);
}

#[tokio::test]
async fn after_the_answer_requests_go_by_the_new_policy_and_then_by_the_configured_one_again() {
    let world = World::start(3, &[("PROXY_HASH_KEY", "path")]).await;
    let answer = patch(&world, &[], json!({"policy": "leastconn", "reason": "one is slow"})).await;
    assert_eq!((answer.status, &answer.body["policy"]), (200, &json!("least_request")));
    let first = json!({"policy": "first", "reason": "a test", "ttl": "10m"});
    let answer = patch(&world, &[("x-evenkeel-actor", "ada")], first).await;
    assert_eq!(
        (&answer.body["policy_reason"], &answer.body["hash_key"]),
        (&json!("a test"), &json!("path"))
    );
    assert!(answer.body["policy_actor"].as_str().unwrap().starts_with("ada"));
    assert!(answer.body["policy_expires_at"].is_string());
    assert_eq!(answer.body["policy_reverts_to"], "least_request", "what stands without it");
    let counts = world.spread(6).await;
    assert_eq!(counts.len(), 1, "{counts:?}");
    let back = json!({"policy": null, "reason": "it was a test"});
    let answer = patch(&world, &[], back).await;
    assert_eq!((answer.status, &answer.body["policy_wanted"]), (200, &Value::Null));
    assert_eq!(answer.body["policy_reason"], "it was a test", "whose word it is is told");
    assert_eq!(world.spread(9).await, even(&["s0", "s1", "s2"], 3));
    let events = world.admin_json("/v1/events").await.to_string();
    for told in [
        "policy least_request (was round_robin): one is slow",
        "policy first (was least_request): a test",
        "the configured policy round_robin (was first)",
    ] {
        assert!(events.contains(told), "{events}");
    }
    let audit = world.admin_json("/v1/audit").await;
    let entry = &audit["entries"][1];
    assert_eq!(
        (&entry["path"], &entry["after"]["policy"]),
        (&json!("/v1/pools/default"), &json!("first"))
    );
    assert_eq!(entry["before"]["policy"], "least_request");
}

#[tokio::test]
async fn a_policy_by_another_proxys_name_goes_by_what_that_name_says() {
    let world = World::start(3, &[("PROXY_POLICY", "uri_hash")]).await;
    assert_eq!(pool(&world).await["hash_key"], "path");
    for path in ["/", "/echo", "/bytes/1", "/bytes/2"] {
        let mut servers = BTreeSet::new();
        for _ in 0..4 {
            servers.insert(world.get(path).await.1);
        }
        assert_eq!(servers.len(), 1, "{path}: {servers:?}");
    }
    let answer = patch(&world, &[], json!({"policy": "cookie"})).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.detail(),
        "hash_key: expected cookie:NAME beside the policy cookie; hash goes by any key"
    );
    let answer = patch(&world, &[], json!({"policy": "cookie", "hash_key": "cookie:a"})).await;
    assert_eq!(
        (&answer.body["policy"], &answer.body["hash_key"]),
        (&json!("hash"), &json!("cookie:a"))
    );
    let answer = patch(&world, &[], json!({"policy": "ip_hash"})).await;
    assert_eq!(answer.body["hash_key"], "client_address", "whatever was in force");
}

#[tokio::test]
async fn a_policy_that_nobody_knows_is_refused_with_all_the_names_that_there_are() {
    let world = World::start(1, &[]).await;
    let before = pool(&world).await["etag"].clone();
    let answer = patch(&world, &[], json!({"policy": "fastest"})).await;
    assert_eq!(answer.status, 400);
    for name in ["round_robin", "wrr", "least_request", "leastconn", "p2c", "peak_ewma", "hash"] {
        assert!(answer.detail().contains(name), "{}", answer.detail());
    }
    let other = world.client.patch(world.admin_url("/v1/pools/other"));
    assert_eq!(world.ask(other.json(&json!({"policy": "first"}))).await.status, 404);
    assert_eq!(pool(&world).await["etag"], before, "a refused change changes nothing");
}

#[tokio::test]
async fn a_policy_has_the_safeguards_that_a_backend_has() {
    let world = World::start(1, &[]).await;
    let read = world.ask(world.client.get(world.admin_url("/v1/pools/default"))).await;
    let tag = read.header("etag").to_owned();
    assert_eq!(read.body["etag"], tag);

    let url = world.admin_url("/v1/pools/default?dry_run=true");
    let dry = world.ask(world.client.patch(url).json(&json!({"policy": "p2c"}))).await;
    assert_eq!((dry.status, &dry.body["policy"]), (200, &json!("p2c")));
    assert_eq!(pool(&world).await["policy"], "round_robin", "a dry run changes nothing");

    let keyed = [("if-match", tag.as_str()), ("idempotency-key", "4f1c")];
    let first = patch(&world, &keyed, json!({"policy": "p2c"})).await;
    let again = patch(&world, &keyed, json!({"policy": "p2c"})).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let late = patch(&world, &keyed[..1], json!({"policy": "first"})).await;
    assert_eq!((late.status, &late.body["current"]["policy"]), (412, &json!("p2c")));
    assert!(late.detail().contains("now p2c"), "{}", late.detail());
    assert_eq!(late.header("etag"), first.header("etag"));
}

#[tokio::test]
async fn a_policy_outlives_a_restart_of_the_proxy_until_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    let variables = [("PROXY_STATE_FILE", file.to_str().unwrap())];
    let world = World::start(2, &variables).await;
    let change = json!({"policy": "hash", "hash_key": "header:x-user", "reason": "sessions"});
    assert_eq!(patch(&world, &[], change).await.status, 200);
    drop(world);
    let world = World::start(2, &variables).await;
    let now = pool(&world).await;
    assert_eq!(
        [&now["policy"], &now["hash_key"], &now["policy_configured"], &now["policy_reason"]],
        ["hash", "header:x-user", "round_robin", "sessions"]
    );
    assert_eq!(patch(&world, &[], json!({"policy": "first", "ttl": "300ms"})).await.status, 200);
    world.until("what stood before", async || pool(&world).await["policy"] == "hash").await;
    assert_eq!(pool(&world).await["policy_reason"], "sessions");
    let entries = world.admin_json("/v1/audit").await["entries"].clone();
    assert_eq!(
        (&entries[0]["action"], &entries[0]["path"]),
        (&json!("expired"), &json!("/v1/pools/default"))
    );
    assert!(!std::fs::read_to_string(&file).unwrap().contains("first"));
}

#[tokio::test]
async fn a_policy_that_was_said_before_another_does_not_replace_it_nor_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    let variables = [("PROXY_STATE_FILE", file.to_str().unwrap())];
    let world = World::start(1, &variables).await;
    let newer = patch(&world, &[], json!({"policy": "p2c"})).await;
    let said_at = newer.body["policy_said_at"].clone();
    assert_eq!(newer.body["policy_standing_said_at"], said_at);
    let older = json!({"policy": "first", "said_at": "2026-01-31T12:00:00.000Z"});
    let refused = patch(&world, &[], older.clone()).await;
    assert_eq!((refused.status, &refused.body["said_at"]), (409, &said_at));
    assert!(refused.detail().contains("was said after it"), "{}", refused.detail());
    let url = world.admin_url("/v1/pools/default?dry_run=true");
    let dry = world.ask(world.client.patch(&url).json(&older)).await;
    assert_eq!((&dry.body["refused"], &dry.body["policy"]), (&json!(true), &json!("p2c")));
    let detail = dry.body["detail"].as_str().unwrap();
    assert!(detail.starts_with("default would stay as it is: what it would replace"), "{detail}");
    // What is said now is newer, also that it is as configured, for a while or for good.
    let brief = patch(&world, &[], json!({"policy": null, "ttl": "1h"})).await;
    assert_eq!((brief.status, &brief.body["policy"]), (200, &json!("round_robin")));
    assert_eq!(brief.body["policy_reverts_to"], "p2c");
    // A word between the two goes beneath.
    let between = json!({"policy": "random", "said_at": said_at});
    let dry = world.ask(world.client.patch(&url).json(&between)).await;
    assert_eq!((&dry.body["refused"], &dry.body["policy"]), (&json!(false), &json!("round_robin")));
    let expected = "default would go on to choose by round_robin, and by random when";
    assert!(dry.body["detail"].as_str().unwrap().starts_with(expected), "{}", dry.body);
    assert_eq!(patch(&world, &[], json!({"policy": null})).await.status, 200);
    drop(world);
    let world = World::start(1, &variables).await;
    assert_eq!(patch(&world, &[], older).await.status, 409);
    let pool = pool(&world).await;
    assert_eq!((&pool["policy"], &pool["policy_wanted"]), (&json!("round_robin"), &Value::Null));
}

#[tokio::test]
async fn a_proxy_that_did_not_hear_of_a_policy_is_told_by_the_dashboard_and_so_is_its_end() {
    let one = World::start(2, &[]).await;
    let urls = format!("http://{},http://{}", one.id(0), one.id(1));
    let two = World::over(&urls, &[], vec![]);
    let _page = Page::over(&[&one, &two]).await;
    let change = json!({"policy": "hash", "hash_key": "cookie:session", "reason": "sessions"});
    let told = patch(&one, &[("x-evenkeel-actor", "ada")], change).await;
    assert_eq!(told.status, 200);
    two.until("the policy", async || pool(&two).await["policy"] == "hash").await;
    let carried = pool(&two).await;
    for field in ["hash_key", "policy_reason", "policy_said_at", "policy_standing_said_at"] {
        assert_eq!(carried[field], told.body[field], "{field}");
    }
    let actor = carried["policy_actor"].as_str().unwrap();
    assert!(actor.starts_with("ada (from 127.0.0.1), carried over by the dashboard"), "{actor}");
    assert_eq!(patch(&two, &[], json!({"policy": null})).await.status, 200);
    one.until("the configured one", async || pool(&one).await["policy_wanted"].is_null()).await;
    assert_eq!(pool(&one).await["policy"], "round_robin");
}
