//! Backups over real sockets: they rest, they take over without a failed request, and rest again.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use chassis::shutdown::Stop;
use common::{World, even, kept_port, listen_on, server};
use serde_json::json;

/// A proxy over primaries and a backup, which is the last server.
async fn start(primaries: usize, variables: &[(&str, &str)]) -> World {
    let mut listeners: Vec<_> = (0..=primaries).map(|_| kept_port()).collect();
    // In the order of their ids, which is that of the pool's document.
    listeners.sort_by_key(|listener| listener.local_addr().unwrap().to_string());
    let servers: Vec<_> =
        listeners.into_iter().enumerate().map(|(at, listener)| server(at, listener)).collect();
    let urls: Vec<String> =
        servers.iter().map(|server| format!("http://{}", server.address)).collect();
    let world = World::over(&(urls.join(",") + ";backup"), variables, servers);
    world
        .until("all to be up", async || all(&world, "health").await == vec!["up"; primaries + 1])
        .await;
    world
}

/// A member of each backend, in the order of the servers.
async fn all(world: &World, member: &str) -> Vec<serde_json::Value> {
    let pool = world.admin_json("/v1/pools/default").await;
    let backends = pool["backends"].as_array().unwrap();
    backends.iter().map(|backend| backend[member].clone()).collect()
}

#[tokio::test]
async fn a_backup_gets_nothing_until_no_primary_can_serve() {
    let world = start(1, &[]).await;
    assert_eq!(all(&world, "effective").await, ["serving", "standby"]);
    assert_eq!(all(&world, "tier").await, [0, 1]);
    assert_eq!(world.spread(6).await, even(&["s0"], 6));

    let (status, _) = world.patch(&world.id(0), json!({"state": "maint"})).await;
    assert_eq!(status, 200);
    assert_eq!(all(&world, "effective").await, ["maint", "serving"]);
    assert_eq!(world.spread(6).await, even(&["s1"], 6));
    assert_eq!(world.metric("evenkeel_tier{pool=\"default\"}").await, 1.0);
    let pool = world.admin_json("/v1/pools/default").await;
    assert_eq!((&pool["rung"], &pool["tier"]), (&json!("up"), &json!(1)));

    world.patch(&world.id(0), json!({"state": "ready"})).await;
    world
        .until("the primary", async || all(&world, "effective").await == ["serving", "standby"])
        .await;
    assert_eq!(world.spread(6).await, even(&["s0"], 6));
    let events = world.admin_json("/v1/events").await.to_string();
    assert!(events.contains("tier 0 has enough again"), "{events}");
}

#[tokio::test]
async fn no_request_fails_when_the_only_primary_dies() {
    // Without probes in time, so that it is requests that find out.
    let mut world = start(1, &[("PROXY_PROBE_INTERVAL", "1h")]).await;
    assert_eq!(world.get("/").await, (200, "s0".to_owned()));
    let url = world.backend_url(&world.id(0));
    world.servers[0].take().unwrap().stop(Stop::Prompt).unwrap();
    for _ in 0..20 {
        assert_eq!(world.get("/").await, (200, "s1".to_owned()));
    }
    world
        .until("the first of them to be recorded", async || {
            decision_on(&world, &world.id(1)).await.is_some()
        })
        .await;
    let decision = decision_on(&world, &world.id(1)).await.unwrap();
    let considered = decision["considered"].as_array().unwrap();
    for one in considered {
        let is_backup = one["backend"] == world.id(1);
        let expected = if is_backup { "picked" } else { "tried" };
        assert_eq!(one["verdict"], expected, "{decision:#}");
    }
    world
        .until("the requests' word to be heard", async || {
            world.ask(world.client.get(&url)).await.body["health"] == "down"
        })
        .await;
}

#[tokio::test]
async fn a_backup_serves_while_all_primaries_are_down_and_no_request_fails() {
    let mut world = start(2, &[]).await;
    let backup = world.id(2);
    assert_eq!(world.spread(10).await, even(&["s0", "s1"], 5));
    assert_eq!(requests(&world, &backup).await, 0.0);

    let addresses = [0, 1].map(|index| world.servers[index].as_ref().unwrap().address);
    world.servers[0].take().unwrap().stop(Stop::Prompt).unwrap();
    assert_eq!(world.spread(10).await, even(&["s1"], 10));
    assert_eq!(requests(&world, &backup).await, 0.0, "one primary is enough");
    world.servers[1].take().unwrap().stop(Stop::Prompt).unwrap();
    // From the first moment, before probes have told.
    assert_eq!(world.spread(20).await, even(&["s2"], 20));
    world
        .until("the pool to know", async || {
            all(&world, "effective").await == ["down", "down", "serving"]
        })
        .await;
    assert_eq!(world.spread(20).await, even(&["s2"], 20));

    world.servers[0] = Some(server(0, listen_on(addresses[0])));
    world
        .until("the primary to be back", async || {
            all(&world, "effective").await == ["serving", "down", "standby"]
        })
        .await;
    assert_eq!(world.spread(10).await, even(&["s0"], 10));
    assert_eq!(requests(&world, &backup).await, 40.0, "none since the primary is back");
}

/// Why a request that was retried went to this backend.
async fn decision_on(world: &World, id: &str) -> Option<serde_json::Value> {
    let path = format!("/v1/decisions?recorded=retry&backend={id}");
    world.admin_json(&path).await["decisions"].get(0).cloned()
}

/// How many requests a backend has got.
async fn requests(world: &World, id: &str) -> f64 {
    let series =
        format!("evenkeel_upstream_duration_seconds_count{{pool=\"default\",backend=\"{id}\"");
    world.metric(&series).await
}

#[tokio::test]
async fn with_a_share_the_backup_joins_those_that_are_left() {
    let world = start(2, &[("PROXY_TIER_MIN", "60%")]).await;
    assert_eq!(world.spread(6).await, even(&["s0", "s1"], 3));
    world.patch(&world.id(0), json!({"state": "maint"})).await;
    assert_eq!(world.spread(6).await, even(&["s1", "s2"], 3));
}

#[tokio::test]
async fn a_dry_run_tells_who_would_serve_and_it_comes_true() {
    let world = start(2, &[]).await;
    // Only the other primary takes over as long as there is one.
    assert_eq!(shares_after_drain(&world, 0).await, [0.0, 1.0, 0.0]);
    world.patch(&world.id(0), json!({"state": "drain"})).await;
    assert_eq!(world.spread(6).await, even(&["s1"], 6));
    assert_eq!(shares_after_drain(&world, 1).await, [0.0, 0.0, 1.0]);
    let (status, _) = world.patch(&world.id(1), json!({"state": "drain"})).await;
    assert_eq!(status, 200, "the backup is there");
    assert_eq!(world.spread(6).await, even(&["s2"], 6));

    // Nobody is left below it.
    let (status, refused) = world.patch(&world.id(2), json!({"state": "drain"})).await;
    assert_eq!((status, &refused["prediction"]["eligible_after"]), (409, &json!(0)));
    assert_eq!(world.spread(2).await, even(&["s2"], 2));
}

/// What a dry run says of each backend's share if one were drained.
async fn shares_after_drain(world: &World, index: usize) -> Vec<f64> {
    let url = format!("{}?dry_run=true", world.backend_url(&world.id(index)));
    let dry = world.ask(world.client.patch(url).json(&json!({"state": "drain"}))).await;
    assert_eq!((dry.status, &dry.body["refused"]), (200, &json!(false)));
    let prediction = &dry.body["prediction"];
    assert_eq!(prediction["eligible_after"], 1);
    let backends = prediction["backends"].as_array().unwrap();
    let share = |id: String| {
        let backend = backends.iter().find(|backend| backend["id"] == id).unwrap();
        backend["share_after"].as_f64().unwrap()
    };
    (0..world.servers.len()).map(|index| share(world.id(index))).collect()
}
