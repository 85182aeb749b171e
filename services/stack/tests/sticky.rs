//! Visitors that stay on their backend by a cookie (envoyproxy/envoy#7218: also while it is drained).
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use common::{World, even, served_by};
use reqwest::{Client, Response, header::SET_COOKIE};
use serde_json::json;

const STICKY: &[(&str, &str)] = &[
    ("PROXY_STICKY_COOKIE", "visit"),
    ("PROXY_STICKY_SECRET", "correct-horse-battery"),
    ("PROXY_DECISIONS", "100%"),
];

/// The cookies that an answer sets.
fn set(answer: &Response) -> Vec<String> {
    let all = answer.headers().get_all(SET_COOKIE).iter();
    all.map(|value| value.to_str().unwrap().to_owned()).collect()
}

/// Someone who keeps the cookie that they were last given.
struct Visitor {
    client: Client,
    url: String,
    cookie: Option<String>,
}

impl Visitor {
    fn of(world: &World) -> Self {
        let client = Client::builder().no_proxy().timeout(common::PATIENCE).build().unwrap();
        Self { client, url: world.url("/"), cookie: None }
    }

    /// Who served, and whether there was a cookie.
    async fn visit(&mut self) -> (String, bool) {
        let mut request = self.client.get(&self.url);
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let cookies = set(&answer);
        assert!(cookies.len() < 2, "{cookies:?}");
        if let Some(cookie) = cookies.first() {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        (served_by(&answer), !cookies.is_empty())
    }

    /// A new visitor of the server with this name.
    async fn of_server(world: &World, name: &str) -> Self {
        loop {
            let mut visitor = Self::of(world);
            if visitor.visit().await.0 == name {
                return visitor;
            }
        }
    }
}

fn result(name: &str) -> String {
    format!("evenkeel_sticky_picks_total{{pool=\"default\",result=\"{name}\"}}")
}

#[tokio::test]
async fn without_the_setting_nobody_gets_a_cookie() {
    let world = World::start(2, &[]).await;
    for _ in 0..4 {
        let answer = world.client.get(world.url("/")).header("cookie", "visit=x").send().await;
        assert!(set(&answer.unwrap()).is_empty());
    }
    assert_eq!(world.metric(&result("unknown")).await, 0.0);
}

#[tokio::test]
async fn a_visitor_stays_on_its_backend_and_the_others_take_turns_as_ever() {
    let world = World::start(3, STICKY).await;
    let mut visitor = Visitor::of(&world);
    assert_eq!(visitor.visit().await, ("s0".to_owned(), true));
    let mut others = BTreeMap::new();
    for _ in 0..9 {
        assert_eq!(visitor.visit().await, ("s0".to_owned(), false));
        *others.entry(Visitor::of(&world).visit().await.0).or_default() += 1;
    }
    assert_eq!(others, even(&["s0", "s1", "s2"], 3));
    assert_eq!(world.metric(&result("honoured")).await, 9.0);
    let backend = world.backend(&world.id(0)).await;
    assert_eq!(backend["sticky"], 9);
}

#[tokio::test]
async fn every_policy_keeps_visitors() {
    for policy in ["least_request", "p2c", "least_time", "random", "first", "hash"] {
        let world = World::start(2, &[STICKY, &[("PROXY_POLICY", policy)]].concat()).await;
        let mut visitor = Visitor::of(&world);
        let (server, _) = visitor.visit().await;
        for _ in 0..6 {
            assert_eq!(visitor.visit().await, (server.clone(), false), "{policy}");
        }
    }
}

#[tokio::test]
async fn the_cookie_tells_nothing_and_has_the_attributes_that_the_way_needs() {
    let variables = [("PROXY_TRUSTED_PROXIES", "127.0.0.1/32"), ("PROXY_STICKY_TTL", "8h")];
    let world = World::start(1, &[STICKY, &variables].concat()).await;
    let ask = async |proto: Option<&str>| {
        let mut request = world.client.get(world.url("/"));
        if let Some(proto) = proto {
            request = request.header("x-forwarded-proto", proto);
        }
        let cookies = set(&request.send().await.unwrap());
        let (name, value) = cookies[0].split_once('=').unwrap();
        assert_eq!(name, "visit");
        let (value, attributes) = value.split_once(';').unwrap();
        assert_eq!(value.len(), 22, "{value}");
        assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        attributes.to_owned()
    };
    let plain = " Path=/; HttpOnly; SameSite=Lax; Max-Age=28800";
    assert_eq!(ask(None).await, plain);
    assert_eq!(ask(Some("http")).await, plain);
    assert_eq!(ask(Some("https")).await, " Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=28800");
    let world = World::start(1, STICKY).await;
    let request = world.client.get(world.url("/")).header("x-forwarded-proto", "https");
    let cookies = set(&request.send().await.unwrap());
    assert!(cookies[0].ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookies:?}");
}

#[tokio::test]
async fn a_drained_backend_keeps_its_visitors_and_gets_no_new_ones_until_it_is_in_maintenance() {
    let world = World::start(3, STICKY).await;
    let mut visitor = Visitor::of_server(&world, "s1").await;
    assert_eq!(world.patch(&world.id(1), json!({"state": "drain"})).await.0, 200);
    for _ in 0..6 {
        assert_eq!(visitor.visit().await.0, "s1", "until then");
        assert_ne!(Visitor::of(&world).visit().await.0, "s1");
    }
    let backend = world.backend(&world.id(1)).await;
    assert_eq!((&backend["sticky"], &backend["effective"]), (&json!(6), &json!("draining")));
    let (last, until) = (time(&backend["sticky_last_at"]), time(&backend["sticky_awaited_until"]));
    assert_eq!(until.duration_since(last).unwrap(), Duration::from_secs(60), "a minute after it");
    let reasons = backend["reasons"].to_string();
    assert!(reasons.contains("within the last minute: 6"), "{reasons}");
    assert!(reasons.contains("waits for visitors: drained at"), "{reasons}");
    let decisions = format!("/v1/decisions?backend={}", world.id(1));
    let why = async || {
        // It may not be recorded yet.
        let latest = world.admin_json(&decisions).await["decisions"][0].clone();
        let mut considered = latest["considered"].as_array().into_iter().flatten();
        let picked = considered.find(|one| one["verdict"] == "picked");
        picked.map_or(String::new(), |picked| picked["why"].as_str().unwrap().to_owned())
    };
    world.until("the reason", async || why().await.contains("by its cookie")).await;
    assert_eq!(world.patch(&world.id(1), json!({"state": "maint"})).await.0, 200);
    let (server, is_new) = visitor.visit().await;
    assert!(server != "s1" && is_new, "{server}");
    assert_eq!(visitor.visit().await, (server, false));
}

fn time(text: &serde_json::Value) -> SystemTime {
    humantime::parse_rfc3339(text.as_str().unwrap()).unwrap()
}

/// What is told of a backend when it is drained, or after `wait`.
async fn wait(world: &World, id: &str, wait: &str) -> serde_json::Value {
    world.admin_json(&format!("/v1/pools/default/backends/{id}?wait={wait}")).await
}

#[tokio::test]
async fn waiting_for_a_drain_waits_until_no_visitor_has_come_for_a_while() {
    let world = World::start(2, &[STICKY, &[("PROXY_STICKY_IDLE", "300ms")]].concat()).await;
    let id = world.id(1);
    let mut visitor = Visitor::of_server(&world, "s1").await;
    assert_eq!(world.patch(&id, json!({"state": "drain"})).await.0, 200);
    // One who goes on to come, and at some time comes no more.
    let (drained, last) = tokio::join!(wait(&world, &id, "20s"), async {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(900) {
            assert_eq!(visitor.visit().await.0, "s1");
        }
        SystemTime::now()
    });
    let now = SystemTime::now();
    assert_eq!(drained["effective"], "drained");
    assert!(time(&drained["sticky_last_at"]) <= last);
    let waited = now.duration_since(time(&drained["sticky_last_at"])).unwrap();
    assert!(waited >= Duration::from_millis(295), "drained {waited:?} after the last visit");
    assert_eq!(drained["sticky_awaited_until"], json!(null));
    let events = world.admin_json("/v1/events").await.to_string();
    assert!(events.contains("no visitor has come for 0.3 s"), "{events}");
    // Whoever comes all the same is served there, and waited for.
    world
        .until("it to be draining again", async || {
            assert_eq!(visitor.visit().await.0, "s1", "until then");
            world.backend(&id).await["effective"] == "draining"
        })
        .await;
}

#[tokio::test]
async fn waiting_for_a_drain_waits_for_visitors_no_longer_than_until_the_deadline() {
    let world = World::start(2, &[STICKY, &[("PROXY_STICKY_IDLE", "1h")]].concat()).await;
    let id = world.id(1);
    assert_eq!(world.patch(&id, json!({"state": "drain"})).await.0, 200);
    let still = wait(&world, &id, "50ms").await;
    assert_eq!((&still["effective"], &still["in_flight"]), (&json!("draining"), &json!(0)));
    let change = json!({"state": "drain", "deadline": "300ms"});
    assert_eq!(world.patch(&id, change).await.0, 200);
    assert_eq!(wait(&world, &id, "20s").await["effective"], "drained");
}

#[tokio::test]
async fn the_deadline_of_a_drain_outlives_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let file = [("PROXY_STATE_FILE", path.to_str().unwrap())];
    let mut world = World::start(2, &[STICKY, &file].concat()).await;
    let mut visitor = Visitor::of_server(&world, "s1").await;
    let id = world.id(1);
    let change = json!({"state": "drain", "deadline": "1h"});
    let (status, drained) = world.patch(&id, change).await;
    assert_eq!(status, 200);
    let backends = [0, 1].map(|index| format!("http://{}", world.id(index))).join(",");
    let servers = std::mem::take(&mut world.servers).into_iter().flatten().collect();
    drop(world);
    let next = World::over(&backends, &[STICKY, &file].concat(), servers);
    next.until_eligible(1).await;
    let told = next.backend(&id).await;
    let apart = |one: SystemTime, other: SystemTime| {
        one.duration_since(other).or_else(|_| other.duration_since(one)).unwrap()
    };
    let deadlines = (time(&told["deadline_at"]), time(&drained["deadline_at"]));
    assert!(apart(deadlines.0, deadlines.1) < Duration::from_millis(50), "{deadlines:?}");
    visitor.url = next.url("/");
    assert_eq!(visitor.visit().await.0, "s1", "until then");
}

#[tokio::test]
async fn the_deadline_of_a_drain_ends_visits() {
    let world = World::start(2, STICKY).await;
    let mut visitor = Visitor::of_server(&world, "s1").await;
    let change = json!({"state": "drain", "deadline": "300ms"});
    assert_eq!(world.patch(&world.id(1), change).await.0, 200);
    let mut moved = None;
    world
        .until("the visitor to move", async || {
            let visit = visitor.visit().await;
            assert!(visit.0 == "s0" || !visit.1, "it keeps its cookie till then");
            moved = Some(visit).filter(|(server, _)| server == "s0");
            moved.is_some()
        })
        .await;
    assert_eq!(moved, Some(("s0".to_owned(), true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_visit_fails_while_a_backend_is_drained_and_then_killed_and_each_visitor_moves_once() {
    let mut world = World::start(3, STICKY).await;
    let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let there = Arc::new(AtomicUsize::new(0));
    let visitors: Vec<_> = (0..9)
        .map(|_| {
            let mut visitor = Visitor::of(&world);
            let (is_over, done) = (Arc::clone(&is_over), Arc::clone(&done));
            let there = Arc::clone(&there);
            tokio::spawn(async move {
                let mut servers = vec![visitor.visit().await.0];
                while !is_over.load(Ordering::Relaxed) {
                    let (server, is_new) = visitor.visit().await;
                    there.fetch_add(usize::from(server == "s1"), Ordering::Relaxed);
                    if servers.last() != Some(&server) {
                        assert!(is_new, "it moves with a new cookie");
                        servers.push(server);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                servers
            })
        })
        .collect();
    let more = async |world: &World, count: &AtomicUsize| {
        let goal = count.load(Ordering::Relaxed) + 100;
        world.until("visits to go on", async || count.load(Ordering::Relaxed) >= goal).await;
    };
    more(&world, &done).await;
    assert_eq!(world.patch(&world.id(1), json!({"state": "drain"})).await.0, 200);
    // Its visitors come still.
    more(&world, &there).await;
    let victim = world.servers[1].take().unwrap();
    tokio::task::spawn_blocking(move || victim.kill()).await.unwrap().unwrap();
    more(&world, &done).await;
    is_over.store(true, Ordering::Relaxed);
    let mut moved = 0;
    for visitor in visitors {
        let servers = visitor.await.unwrap();
        match servers[0].as_str() {
            "s1" => assert!(servers.len() == 2 && servers[1] != "s1", "{servers:?}"),
            _ => assert_eq!(servers.len(), 1, "{servers:?}"),
        }
        moved += servers.len() - 1;
    }
    assert_eq!(moved, 3, "a third of the visitors was there");
}

#[tokio::test]
async fn a_cookie_that_we_did_not_give_is_as_none() {
    let world = World::start(2, STICKY).await;
    let given = Visitor::of_server(&world, "s1").await.cookie.unwrap();
    // One bit of a real one, and what somebody might try.
    let last = if given.ends_with('A') { "Q" } else { "A" };
    let forged = format!("{}{last}", &given[..given.len() - 1]);
    let address = format!("visit={}", world.id(1));
    let tries = [forged.as_str(), "visit=", "visit=s1", &address, "visit=AAAAAAAAAAAAAAAAAAAAAA"];
    for (count, cookie) in tries.iter().enumerate() {
        let request = world.client.get(world.url("/")).header("cookie", *cookie);
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), set(&answer).len()), (200, 1), "{cookie}");
        assert_eq!(world.metric(&result("unknown")).await, count as f64 + 1.0, "{cookie}");
    }
    assert_eq!(world.metric(&result("honoured")).await, 0.0);
}

#[tokio::test]
async fn proxies_with_the_same_secret_know_each_other_s_visitors_and_others_do_not() {
    let world = World::start(2, STICKY).await;
    let backends = [0, 1].map(|index| format!("http://{}", world.id(index))).join(",");
    let of = |secret: &'static str| {
        let variables = [("PROXY_STICKY_COOKIE", "visit"), ("PROXY_STICKY_SECRET", secret)];
        World::over(&backends, &variables, vec![])
    };
    let (same, other) = (of("correct-horse-battery"), of("another-horse-battery"));
    for name in ["s0", "s1"] {
        let mut visitor = Visitor::of_server(&world, name).await;
        for (there, is_known) in [(&same, true), (&other, false)] {
            there.until_eligible(2).await;
            visitor.url = there.url("/");
            let (server, is_new) = visitor.visit().await;
            assert!(is_new != is_known && (server == name || !is_known), "{name}: {server}");
        }
    }
}

#[tokio::test]
async fn the_cookie_is_found_among_others_in_any_field_and_passed_on_as_it_came() {
    let world = World::start(3, STICKY).await;
    let given = Visitor::of_server(&world, "s2").await.cookie.unwrap();
    let http2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [&world.client, &http2] {
        for cookies in [vec!["a=1", &given, "b=2"], vec![&format!("a=1; {given}; b=2")]] {
            let mut request = client.get(world.url("/echo"));
            for cookie in cookies {
                request = request.header("cookie", cookie);
            }
            let answer = request.send().await.unwrap();
            assert_eq!((served_by(&answer).as_str(), set(&answer).len()), ("s2", 0));
            let seen = answer.text().await.unwrap();
            assert!(seen.contains(&given) && seen.contains("b=2"), "{seen}");
        }
    }
}

#[tokio::test]
async fn a_visitor_of_a_full_backend_is_served_elsewhere_and_keeps_its_cookie() {
    let world = World::start(2, &[STICKY, &[("PROXY_MAX_IN_FLIGHT", "1")]].concat()).await;
    let mut visitor = Visitor::of_server(&world, "s1").await;
    let held = world.client.get(world.url("/delay/60s"));
    let held = held.header("cookie", visitor.cookie.clone().unwrap());
    let held = tokio::spawn(held.send());
    world
        .until("the request to be in flight", async || {
            world.backend(&world.id(1)).await["in_flight"] == 1
        })
        .await;
    assert_eq!(visitor.visit().await, ("s0".to_owned(), false));
    assert_eq!(world.metric(&result("elsewhere")).await, 1.0);
    held.abort();
    world.until("room", async || world.backend(&world.id(1)).await["in_flight"] == 0).await;
    assert_eq!(visitor.visit().await.0, "s1", "until then");
}

#[tokio::test]
async fn what_we_answer_ourselves_and_an_upgrade_set_no_cookie() {
    let world = World::start(1, STICKY).await;
    let url = format!("ws://{}/ws", world.proxy.address);
    let (_socket, answer) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert!(!answer.headers().contains_key("set-cookie"));
    let change = json!({"state": "maint", "force": true});
    assert_eq!(world.patch(&world.id(0), change).await.0, 200);
    let answer = world.client.get(world.url("/")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), set(&answer).len()), (503, 0));
}

#[tokio::test]
async fn a_cookie_comes_beside_those_of_the_backend() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        common::raw::read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\nset-cookie: a=1\r\ncontent-length: 0\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    let variables = [STICKY, &[("PROXY_PROBE", "off")]].concat();
    let world = World::over(&format!("http://{address}"), &variables, vec![]);
    world.until_eligible(1).await;
    let cookies = set(&world.client.get(world.url("/")).send().await.unwrap());
    assert!(cookies.len() == 2 && cookies[0] == "a=1", "{cookies:?}");
    assert!(cookies[1].starts_with("visit="), "{cookies:?}");
}
