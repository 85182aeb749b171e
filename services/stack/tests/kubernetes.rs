//! Backends that the Kubernetes API tells of, and an API server that has bad days.
#![allow(clippy::unwrap_used)]

mod common;

use common::{World, any_port, api_server::ApiServer, even, server};
use evenkeel_stack::Service;
use serde_json::{Value, json};

/// A pod that is a server of the test.
fn pod(name: &str, server: &Service, conditions: Value) -> Value {
    json!({
        "addresses": [server.address.ip().to_string()],
        // For the fake server, which gives a slice the port of its first endpoint.
        "port": server.address.port(),
        "conditions": conditions,
        "targetRef": {"kind": "Pod", "name": name, "uid": format!("uid-of-{name}")},
    })
}

fn ready(name: &str, server: &Service) -> Value {
    pod(name, server, json!({"ready": true, "serving": true, "terminating": false}))
}

fn leaving(name: &str, server: &Service) -> Value {
    pod(name, server, json!({"ready": false, "serving": true, "terminating": true}))
}

fn over(api: &ApiServer, servers: Vec<Service>) -> World {
    let url = format!("http://{}", api.address);
    let variables = [("PROXY_KUBERNETES_API", url.as_str())];
    World::over("kubernetes://web.shop:http", &variables, servers)
}

fn servers<const COUNT: usize>() -> [Service; COUNT] {
    std::array::from_fn(|index| server(index, any_port()))
}

fn id(name: &str, server: &Service) -> String {
    format!("{name}:{}", server.address.port())
}

async fn error(world: &World) -> Option<String> {
    let pool = world.admin_json("/v1/pools/default").await;
    pool["source"]["error"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn pods_come_and_go_as_the_watch_tells() {
    let [a, b] = servers();
    let api = ApiServer::start().await;
    api.set("web-1", &[ready("a", &a)]);
    let ids = [id("a", &a), id("b", &b)];
    let (first, second) = (ready("a", &a), ready("b", &b));
    let world = over(&api, vec![a, b]);
    world.until_eligible(1).await;
    assert_eq!(world.spread(2).await, even(&["s0"], 2));
    let pool = world.admin_json("/v1/pools/default").await;
    assert_eq!(pool["source"]["kind"], "kubernetes");
    assert_eq!(pool["source"]["text"], "kubernetes://web.shop:http");
    assert_eq!(world.backend(&ids[0]).await["instance"], "uid-of-a");

    api.set("web-2", &[second]);
    world.until_eligible(2).await;
    assert_eq!(world.spread(4).await, even(&["s0", "s1"], 2));
    api.delete("web-1");
    world.until_eligible(1).await;
    assert_eq!(world.spread(2).await, even(&["s1"], 2));
    api.set("web-1", &[first]);
    world.until_eligible(2).await;
    assert_eq!((api.lists(), api.watches()), (1, 1));
    let head = api.last_head();
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
}

#[tokio::test]
async fn a_pod_that_is_going_away_serves_only_if_nobody_else_does() {
    let [a, b] = servers();
    let api = ApiServer::start().await;
    api.set("web-1", &[ready("a", &a)]);
    api.set("web-2", &[ready("b", &b)]);
    let (leaving_a, leaving_b) = (leaving("a", &a), leaving("b", &b));
    let name = id("a", &a);
    let world = over(&api, vec![a, b]);
    world.until_eligible(2).await;
    api.set("web-1", &[leaving_a]);
    world.until_eligible(1).await;
    assert_eq!(world.backend(&name).await["terminating"], true);
    assert_eq!(world.spread(4).await, even(&["s1"], 4));
    api.set("web-2", &[leaving_b]);
    world.until_eligible(2).await;
    assert_eq!(world.spread(4).await, even(&["s0", "s1"], 2));
    assert_eq!(world.admin_json("/v1/pools/default").await["rung"], "terminating");
}

#[tokio::test]
async fn another_pod_at_the_same_address_is_a_new_backend() {
    let [a] = servers();
    let api = ApiServer::start().await;
    api.set("web-1", &[ready("a", &a)]);
    let (mut again, name) = (ready("a", &a), id("a", &a));
    let world = over(&api, vec![a]);
    world.until_eligible(1).await;
    let before = world.backend(&name).await["generation"].as_u64();
    again["targetRef"]["uid"] = json!("another");
    api.set("web-1", &[again]);
    world.until("another one", async || world.backend(&name).await["instance"] == "another").await;
    assert!(world.backend(&name).await["generation"].as_u64() > before);
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_from_where_it_was() {
    let [a, b] = servers();
    let api = ApiServer::start().await;
    api.set("web-1", &[ready("a", &a)]);
    let (both, again) = ([ready("b", &b)], [ready("a", &a)]);
    let world = over(&api, vec![a, b]);
    world.until_eligible(1).await;
    for (round, in_order) in [true, false].into_iter().enumerate() {
        world.until("a watch", async || api.watches() == 1).await;
        let version = api.bookmark();
        api.end_watches(in_order);
        // What happens between two watches is told by the second.
        if round == 0 {
            api.set("web-2", &both)
        } else {
            api.delete("web-2")
        }
        world.until_eligible(2 - round).await;
        assert!(api.watched_from().contains(&version.to_string()), "{:?}", api.watched_from());
    }
    assert_eq!((api.lists(), error(&world).await), (1, None));
    api.set("web-1", &again);
}

#[tokio::test]
async fn who_fell_behind_lists_anew() {
    let [a, b] = servers();
    let api = ApiServer::start().await;
    api.set("web-1", &[ready("a", &a)]);
    let second = [ready("b", &b)];
    let world = over(&api, vec![a, b]);
    world.until_eligible(1).await;
    world.until("a watch", async || api.watches() == 1).await;
    api.end_watches(true);
    api.set("web-2", &second);
    api.compact();
    world.until_eligible(2).await;
    assert_eq!(api.lists(), 2);
    world.until("no error", async || error(&world).await.is_none()).await;
}

#[tokio::test]
async fn nonsense_of_the_server_changes_nothing_and_is_told() {
    let [a] = servers();
    let api = ApiServer::start().await;
    api.set("web-1", &[ready("a", &a)]);
    let world = over(&api, vec![a]);
    world.until_eligible(1).await;
    for line in [
        "<html>gateway</html>",
        r#"{"type":"ADDED","object":{"kind":"Pod"}}"#,
        r#"{"type":"RENAMED","object":{}}"#,
        r#"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcd is away"}}"#,
        r#"{"type":"MODIFIED","object":{"metadata":{"name":"x","resourceVersion":"1"},"endpoints":7}}"#,
    ] {
        world.until("a watch", async || api.watches() == 1).await;
        let lists = api.lists();
        api.bookmark();
        api.say(line);
        world.until("another list", async || api.lists() > lists).await;
        assert_eq!(world.get("/").await, (200, "s0".to_owned()), "{line}");
    }
    world.until("a watch", async || api.watches() == 1).await;
    world.until("no error", async || error(&world).await.is_none()).await;
}

#[tokio::test]
async fn a_server_that_refuses_or_is_away_keeps_the_backends_and_is_told() {
    let [a] = servers();
    let api = ApiServer::start().await;
    api.set("web-1", &[ready("a", &a)]);
    let world = over(&api, vec![a]);
    world.until_eligible(1).await;
    for (code, message, expected) in [
        (403, "cannot watch resource \"endpointslices\"", "its Role must allow"),
        (401, "Unauthorized", "token mounted"),
        (503, "apiserver is shutting down", "answers 503: apiserver is shutting down"),
    ] {
        world.until("a watch", async || api.watches() == 1).await;
        api.bookmark();
        api.refuse(Some((code, message)));
        api.end_watches(true);
        let told = async || error(&world).await.is_some_and(|error| error.contains(expected));
        world.until(expected, told).await;
        assert_eq!(world.get("/").await, (200, "s0".to_owned()), "{code}");
        api.refuse(None);
        world.until("no error", async || error(&world).await.is_none()).await;
    }
    assert_eq!(api.lists(), 1, "what was known was not in doubt");
}

#[tokio::test]
async fn a_service_without_ready_pods_or_slices_keeps_the_last_good_set() {
    let [a] = servers();
    let api = ApiServer::start().await;
    let (good, unready) = ([ready("a", &a)], [pod("a", &a, json!({"ready": false}))]);
    let world = over(&api, vec![a]);
    let told = async |expected: &str| {
        let is_told = async || error(&world).await.is_some_and(|error| error.contains(expected));
        world.until(expected, is_told).await;
    };
    told("has no EndpointSlices").await;
    let ready = world.client.get(world.admin_url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    api.set("web-1", &good);
    world.until_eligible(1).await;
    api.set("web-1", &unready);
    told("no pod of the Service web in shop is ready").await;
    assert_eq!(world.get("/").await, (200, "s0".to_owned()));
    api.delete("web-1");
    told("has no EndpointSlices").await;
    assert_eq!(world.get("/").await, (200, "s0".to_owned()));
}

#[tokio::test]
async fn a_token_is_read_anew_for_each_question() {
    let [a] = servers();
    let api = ApiServer::start().await;
    api.set("web-1", &[ready("a", &a)]);
    let file = std::env::temp_dir().join(format!("evenkeel-token-{}", std::process::id()));
    std::fs::write(&file, "first-token\n").unwrap();
    let url = format!("http://{}", api.address);
    let variables = [
        ("PROXY_KUBERNETES_API", url.as_str()),
        ("PROXY_KUBERNETES_TOKEN_FILE", file.to_str().unwrap()),
    ];
    let world = World::over("kubernetes://web.shop:http", &variables, vec![a]);
    world.until_eligible(1).await;
    assert!(api.last_head().contains("Bearer first-token\r\n"), "{}", api.last_head());
    std::fs::write(&file, "second-token\n").unwrap();
    world.until("a watch", async || api.watches() == 1).await;
    api.end_watches(true);
    let second = async || api.last_head().contains("Bearer second-token\r\n");
    world.until("the new token", second).await;
    std::fs::remove_file(&file).unwrap();
    world.until("a watch", async || api.watches() == 1).await;
    api.end_watches(true);
    let told = async || error(&world).await.is_some_and(|error| error.contains("the token in"));
    world.until("the reason", told).await;
    assert_eq!(world.get("/").await, (200, "s0".to_owned()));
}
