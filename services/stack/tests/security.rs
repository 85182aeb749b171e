//! The two roles, tokens that are replaced, guessers, and the audit log, over real sockets. Each cell
//! of the table of who may do what is tested beside the code that decides it.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use common::{Answer, World, page::Page};
use serde_json::{Value, json};
use tempfile::TempDir;

fn file_in(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

async fn read(world: &World, path: &str, token: &str) -> Answer {
    world.ask(world.client.get(world.admin_url(path)).bearer_auth(token)).await
}

async fn drain(world: &World, id: &str, token: &str) -> Answer {
    let change = json!({"state": "drain", "reason": "new disk"});
    world.ask(world.client.patch(world.backend_url(id)).bearer_auth(token).json(&change)).await
}

#[tokio::test]
async fn the_token_for_reading_reads_and_changes_nothing_and_sees_no_audit_log() {
    let variables =
        [("PROXY_ADMIN_TOKEN", "correct-horse"), ("PROXY_ADMIN_READ_TOKEN", "battery-staple")];
    let world = World::over("http://127.0.0.1:1", &variables, vec![]);
    for path in ["/v1/pools", "/v1/events", "/v1/history", "/v1/decisions", "/v1/openapi.json"] {
        assert_eq!(read(&world, path, "battery-staple").await.status, 200, "{path}");
        assert_eq!(world.ask(world.client.get(world.admin_url(path))).await.status, 401, "{path}");
    }
    let refused = read(&world, "/v1/audit", "battery-staple").await;
    assert!(refused.status == 403 && refused.detail().contains("send the admin token"));
    let refused = drain(&world, "127.0.0.1:1", "battery-staple").await;
    assert_eq!(refused.status, 403);
    // What a change would do is for readers, too.
    world
        .until("the backend", async || {
            let url = format!("{}?dry_run=true", world.backend_url("127.0.0.1:1"));
            let drain = world.client.patch(url).bearer_auth("battery-staple");
            world.ask(drain.json(&json!({"state": "drain", "force": true}))).await.status == 200
        })
        .await;
    let state = read(&world, "/v1/pools/default/backends/127.0.0.1:1", "correct-horse").await;
    assert_eq!(state.body["admin"], "ready");
    assert_eq!(read(&world, "/v1/audit", "correct-horse").await.status, 200);
}

#[tokio::test]
async fn what_the_proxy_keeps_to_its_readers_the_dashboard_keeps_too() {
    let variables =
        [("PROXY_ADMIN_TOKEN", "correct-horse"), ("PROXY_ADMIN_READ_TOKEN", "battery-staple")];
    let world = World::over("http://127.0.0.1:1", &variables, vec![]);
    let settings = [
        ("LOAD_BALANCER_ADMIN_TOKEN", "correct-horse"),
        ("DASHBOARD_READ_TOKEN", "battery-staple"),
    ];
    let page = Page::with(&[&world], &settings).await;
    page.until("/api/state", |state| state.contains("127.0.0.1:1")).await;
    let status = async |path: &str, token: Option<&str>| {
        // Whoever comes through a reverse proxy is a stranger, although the connection is local.
        let request = world.client.get(page.url(path)).header("x-forwarded-for", "203.0.113.7");
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    for path in ["/", "/live", "/backends/default/127.0.0.1:1", "/api/state", "/api/export"] {
        assert_eq!(status(path, None).await, 401, "{path}");
        for token in ["battery-staple", "correct-horse"] {
            assert_eq!(status(path, Some(token)).await, 200, "{path} with {token}");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics", "/login"] {
        assert_eq!(status(path, None).await, 200, "{path}");
    }
    let open = Page::with(&[&world], &settings[..1]).await;
    let request = world.client.get(open.url("/api/state")).header("via", "1.1 front");
    assert_eq!(request.send().await.unwrap().status(), 200, "who wants it open leaves it so");
}

#[tokio::test]
async fn a_token_is_replaced_without_a_restart_and_one_of_the_two_always_holds() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_in(&folder, "token");
    std::fs::write(&file, "first-token").unwrap();
    let world = World::start(2, &[("PROXY_ADMIN_TOKEN_FILE", &file)]).await;
    let id = world.id(0);
    assert_eq!(drain(&world, &id, "first-token").await.status, 200);
    // As Kubernetes does it: a whole new file takes the old one's place.
    let next = file_in(&folder, "next");
    std::fs::write(&next, "other-token").unwrap();
    std::fs::rename(&next, &file).unwrap();
    assert_eq!(drain(&world, &id, "other-token").await.status, 200);
    assert_eq!(drain(&world, &id, "first-token").await.status, 401);
    // A file that is gone or broken locks nobody out.
    std::fs::write(&file, "bad").unwrap();
    assert_eq!(drain(&world, &id, "other-token").await.status, 200);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(drain(&world, &id, "other-token").await.status, 200);
}

#[tokio::test]
async fn the_live_events_end_when_the_token_that_reads_them_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_in(&folder, "token");
    std::fs::write(&file, "battery-staple").unwrap();
    let variables =
        [("PROXY_ADMIN_TOKEN", "correct-horse"), ("PROXY_ADMIN_READ_TOKEN_FILE", &file)];
    let world = World::over("http://127.0.0.1:1", &variables, vec![]);
    let listen = async |token: &str| {
        let request = world.client.get(world.admin_url("/v1/events")).bearer_auth(token);
        let mut events = request.header("accept", "text/event-stream").send().await.unwrap();
        assert!(events.chunk().await.unwrap().is_some(), "it tells of the start");
        events
    };
    let (mut old, mut admins) = (listen("battery-staple").await, listen("correct-horse").await);
    std::fs::write(&file, "other-staple").unwrap();
    assert_eq!(read(&world, "/v1/pools", "battery-staple").await.status, 401);
    let drain = json!({"state": "drain", "reason": "new disk", "force": true});
    let request = world.client.patch(world.backend_url("127.0.0.1:1")).json(&drain);
    assert_eq!(world.ask(request.bearer_auth("correct-horse")).await.status, 200);
    let mut rest = String::new();
    while let Some(chunk) = old.chunk().await.unwrap() {
        rest.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(!rest.contains("new disk"), "{rest}");
    let mut told = String::new();
    while !told.contains("new disk") {
        let chunk = admins.chunk().await.unwrap().expect("who may read is told on");
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test]
async fn a_guesser_is_stopped_after_ten_wrong_tokens_and_told_when_to_come_back() {
    let world = World::start(1, &[("PROXY_ADMIN_TOKEN", "correct-horse")]).await;
    let id = world.id(0);
    for n in 0..10 {
        assert_eq!(drain(&world, &id, &format!("guess-number-{n}")).await.status, 401);
    }
    let limited = drain(&world, &id, "correct-horse").await;
    assert!(limited.status == 429 && limited.detail().contains("too many wrong tokens"));
    let wait: u32 = limited.header("retry-after").parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
    assert_eq!(world.backend(&id).await["admin"], "ready", "reading without a token goes on");
}

fn entries(answer: &Answer) -> Vec<Value> {
    answer.body["entries"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_change_and_refusal_is_in_the_audit_log_of_this_process_and_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_in(&folder, "audit.log");
    let variables = [("PROXY_ADMIN_TOKEN", "correct-horse"), ("PROXY_AUDIT_LOG", &file)];
    let world = World::start(1, &variables).await;
    let id = world.id(0);
    assert_eq!(drain(&world, &id, "incorrect-horse").await.status, 401);
    assert_eq!(drain(&world, &id, "correct-horse").await.status, 409, "it is the last one");
    let change = json!({
        "state": "maint", "weight": 3, "reason": "new disk", "ttl": "300ms", "force": true,
        "deadline": "5m"
    });
    let request = world.client.patch(world.backend_url(&id)).json(&change);
    let request = request.header("x-evenkeel-actor", "ada").bearer_auth("correct-horse");
    assert_eq!(world.ask(request).await.status, 200);
    let expired = async || {
        entries(&read(&world, "/v1/audit", "correct-horse").await)
            .iter()
            .any(|entry| entry["action"] == "expired")
    };
    world.until("the change to go back", expired).await;

    let next = World::over("http://127.0.0.1:1", &variables, vec![]);
    let entries = entries(&read(&next, "/v1/audit", "correct-horse").await);
    let of = |action: &str| -> Vec<&Value> {
        entries.iter().filter(|entry| entry["action"] == action).collect()
    };
    let changed = of("changed")[0];
    assert_eq!(
        (&changed["actor"], &changed["from"]),
        (&json!("ada (from 127.0.0.1)"), &json!("127.0.0.1"))
    );
    assert_eq!((&changed["role"], &changed["reason"]), (&json!("admin"), &json!("new disk")));
    assert_eq!(
        (&changed["before"]["state"], &changed["after"]["state"]),
        (&json!("ready"), &json!("maint"))
    );
    assert_eq!((&changed["before"]["weight"], &changed["after"]["weight"]), (&json!(1), &json!(3)));
    assert!(changed["after"]["expires_at"].is_string());
    assert!(changed["after"]["deadline_at"].is_string());
    assert_eq!(changed["before"]["deadline_at"], Value::Null);
    assert_eq!(changed["forced"], true, "that the last one was taken out is no accident");
    let mut statuses: Vec<u64> =
        of("refused").iter().map(|entry| entry["status"].as_u64().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [401, 409]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("horse"), "a token is in the log: {text}");
    assert_eq!(text.lines().count(), entries.len());
}

#[tokio::test]
async fn a_flood_of_refusals_leaves_the_changes_in_the_log_and_says_how_many_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_in(&folder, "audit.log");
    let variables = [("PROXY_ADMIN_TOKEN", "correct-horse"), ("PROXY_AUDIT_LOG", &file)];
    let world = World::start(2, &variables).await;
    let id = world.id(0);
    assert_eq!(drain(&world, &id, "correct-horse").await.status, 200);
    for _ in 0..100 {
        assert_eq!(drain(&world, &world.id(1), "correct-horse").await.status, 409, "the last one");
    }
    let lines = || std::fs::read_to_string(&file).unwrap().lines().count();
    assert_eq!(lines(), 2, "what is refused again and again has one line");
    for n in 0..300 {
        let url = world.admin_url(&format!("/v1/pools/default/backends/{n}"));
        let (change, origin) = (json!({"state": "drain"}), "http://evil.example");
        let request = world.client.patch(url).json(&change);
        let request = if n % 2 == 0 { request } else { request.header("origin", origin) };
        assert_eq!(world.ask(request).await.status, if n % 2 == 0 { 401 } else { 403 });
    }
    assert!((3..50).contains(&lines()), "{} lines", lines());
    let told = read(&world, "/v1/audit", "correct-horse").await;
    let entries = entries(&told);
    assert_eq!(entries.len(), lines());
    assert_eq!(entries.last().unwrap()["action"], "changed", "the change came first and is there");
    let next = "(99 further refusals since the last)";
    let others = entries[entries.len() - 3]["detail"].as_str().unwrap();
    assert!(others.ends_with(next), "{others}");
    let refused = entries.len() as u64 - 1;
    assert_eq!(told.body["refusals_not_listed"].as_u64().unwrap() + refused, 400);
}
