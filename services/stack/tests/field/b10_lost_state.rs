//! What operators had set is gone after a restart or overwritten by health, configuration or
//! discovery: haproxy/haproxy#199, #409, #2085 and #953.

use serde_json::{Value, json};

use crate::{
    common::{World, even, listen_on, name_server::NameServer, server},
    names::{self, at, ids},
};

/// What an operator has said of a backend.
fn intent(backend: &Value) -> Value {
    let fields = [
        "admin",
        "admin_since",
        "admin_reason",
        "admin_actor",
        "admin_forced",
        "admin_expires_at",
        "weight",
        "weight_since",
        "weight_reason",
        "weight_actor",
        "weight_forced",
        "max_in_flight",
        "max_in_flight_since",
        "max_in_flight_reason",
        "max_in_flight_actor",
        "max_in_flight_said_at",
    ];
    fields.iter().map(|field| ((*field).to_owned(), backend[*field].clone())).collect()
}

#[tokio::test]
async fn what_was_set_stands_after_a_restart_with_another_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let file = ("PROXY_STATE_FILE", path.to_str().unwrap());
    let mut world = World::start(3, &[file]).await;
    let backends: Vec<String> = (0..3).map(|index| world.id(index)).collect();
    let changes = [
        json!({"state": "drain", "reason": "new disk"}),
        json!({"weight": 3, "max_in_flight": 7, "reason": "a big machine", "force": true}),
        json!({"state": "maint", "ttl": "1h", "reason": "an hour of rest", "force": true}),
    ];
    for (id, change) in backends.iter().zip(&changes) {
        assert_eq!(world.patch(id, change.clone()).await.0, 200);
    }
    let mut before = Vec::new();
    for id in &backends {
        before.push(intent(&world.backend(id).await));
    }
    let forced = |of: &str| before.iter().map(|one| one[of].clone()).collect::<Vec<_>>();
    assert_eq!(forced("admin_forced"), [false, false, true]);
    assert_eq!(forced("weight_forced"), [false, true, false]);
    let servers = std::mem::take(&mut world.servers).into_iter().flatten().collect();
    drop(world);

    let urls = backends.iter().map(|id| format!("http://{id};weight=9"));
    let urls = urls.collect::<Vec<_>>().join(",");
    let variables = [file, ("PROXY_POLICY", "least_request"), ("PROXY_MAX_IN_FLIGHT", "100")];
    let next = World::over(&urls, &variables, servers);
    next.until_eligible(1).await;
    for (id, before) in backends.iter().zip(before) {
        let mut after = intent(&next.backend(id).await);
        // What nobody has said is as the configuration says.
        if before["weight"] != 3 {
            assert_eq!((&after["weight"], &after["max_in_flight"]), (&json!(9), &json!(100)));
            (after["weight"], after["max_in_flight"]) = (json!(1), Value::Null);
        }
        assert_eq!(after, before, "{id}");
    }
    assert_eq!(next.spread(10).await, even(&["s1"], 10));
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back_is_what_its_operator_wants_it_to_be() {
    for state in ["drain", "maint"] {
        let mut world = World::start(2, &[]).await;
        let id = world.id(0);
        let (status, _) = world.patch(&id, json!({"state": state})).await;
        assert_eq!(status, 200);
        let generation = world.backend(&id).await["generation"].clone();
        let victim = world.servers[0].take().unwrap();
        let health = async || world.backend(&id).await["health"].clone();
        tokio::task::spawn_blocking(move || victim.kill()).await.unwrap().unwrap();
        // One in maintenance is not probed.
        if state == "drain" {
            world.until("it to be down", async || health().await == "down").await;
        }
        let back = server(0, listen_on(id.parse().unwrap()));
        if state == "drain" {
            world.until("it to be up", async || health().await == "up").await;
        }
        let backend = world.backend(&id).await;
        assert_eq!((&backend["admin"], &backend["generation"]), (&json!(state), &generation));
        assert_eq!(world.spread(10).await, even(&["s1"], 10), "{state}");
        assert_eq!(world.patch(&id, json!({"state": "ready"})).await.0, 200);
        world.until_eligible(2).await;
        assert_eq!(world.spread(10).await, even(&["s0", "s1"], 5), "{state}");
        drop(back);
    }
}

#[tokio::test]
async fn a_server_that_discovery_forgets_and_finds_again_is_still_out_of_service() {
    let first = at(10, 2, 0);
    let port = first.local_addr().unwrap().port();
    let servers = [server(0, first), server(1, at(10, 3, port))];
    let names = NameServer::start(&names::web(10, &[2, 3])).await;
    let world = names::world(&names, &format!("dns://web.test:{port}"), &[]);
    world.until_eligible(2).await;
    let id = format!("127.0.10.2:{port}");
    assert_eq!(world.patch(&id, json!({"state": "maint", "reason": "fire"})).await.0, 200);
    names.set(&names::web(10, &[3]));
    world.until("it to be forgotten", async || ids(&world).await.len() == 1).await;
    names.set(&names::web(10, &[2, 3]));
    world.until("it to be found again", async || ids(&world).await.len() == 2).await;
    let backend = world.backend(&id).await;
    assert_eq!((&backend["admin"], &backend["admin_reason"]), (&json!("maint"), &json!("fire")));
    assert_eq!(world.spread(10).await, even(&["s1"], 10));
    drop(servers);
}
