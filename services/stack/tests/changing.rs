//! Changing things safely: against lost updates, sent twice, and knowing what it will cost.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use chassis::wall;
use common::{Answer, World, page::Page};
use serde_json::{Value, json};

async fn patch(world: &World, id: &str, headers: &[(&str, &str)], change: Value) -> Answer {
    let request = world.client.patch(world.backend_url(id)).json(&change);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    world.ask(request).await
}

#[tokio::test]
async fn a_change_of_something_that_was_changed_meanwhile_is_refused_with_what_it_is_now() {
    let world = World::start(2, &[]).await;
    let id = world.id(0);
    let read = world.ask(world.client.get(world.backend_url(&id))).await;
    let tag = read.header("etag").to_owned();
    assert_eq!(read.body["etag"], tag);

    let weight = json!({"weight": 2});
    let first = patch(&world, &id, &[("if-match", &tag)], weight.clone()).await;
    assert_eq!(first.status, 200);
    let newer = first.header("etag").to_owned();
    assert_ne!(newer, tag);
    let drain = json!({"state": "drain", "reason": "new disk"});
    let second = patch(&world, &id, &[("if-match", &tag)], drain.clone()).await;
    assert_eq!((second.status, second.header("etag")), (412, newer.as_str()));
    assert!(second.detail().contains("now ready with weight 2"), "{}", second.detail());
    assert_eq!(second.body["current"]["weight"], 2);
    assert_eq!(world.backend(&id).await["admin"], "ready", "a refused change changes nothing");
    for tags in [newer.as_str(), "*"] {
        assert_eq!(patch(&world, &id, &[("if-match", tags)], drain.clone()).await.status, 200);
    }
    let gone = patch(&world, "nobody:1", &[("if-match", "*")], drain).await;
    assert_eq!(gone.status, 404);

    // Who said the same again is told with when that was, which is not since when it is so.
    let again = json!({"state": "drain", "reason": "no, a fan"});
    let bob = [("x-evenkeel-actor", "bob")];
    let again = patch(&world, &id, &bob, again).await.body;
    let said = again["admin_standing_said_at"].as_str().unwrap();
    assert_ne!(again["admin_since"], said);
    let late = patch(&world, &id, &[("if-match", &tag)], weight).await;
    let words = format!("drain was set by bob (from 127.0.0.1) at {said} (no, a fan)");
    assert!(late.detail().contains(&words), "{}", late.detail());
}

#[tokio::test]
async fn traffic_and_health_leave_the_tag_as_it_is() {
    let world = World::start(2, &[]).await;
    let tag = world.backend(&world.id(0)).await["etag"].clone();
    world.spread(4).await;
    let seen = async || world.backend(&world.id(0)).await["traffic"]["requests_total"] == 2;
    world.until("the traffic to show", seen).await;
    assert_eq!(world.backend(&world.id(0)).await["etag"], tag);
}

#[tokio::test]
async fn what_was_read_before_a_restart_may_be_changed_after_it_unless_somebody_has_changed_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let file = [("PROXY_STATE_FILE", path.to_str().unwrap())];
    let mut world = World::start(3, &file).await;
    let backends: Vec<String> = (0..3).map(|index| world.id(index)).collect();
    // On one an override lies on what stands, on one a number was set, and of one nothing was said.
    for (id, change) in [
        (&backends[0], json!({"state": "drain", "reason": "new disk", "deadline": "5m"})),
        (&backends[0], json!({"state": "maint", "ttl": "1h"})),
        (&backends[1], json!({"weight": 3, "max_in_flight": 7, "ttl": "1h"})),
    ] {
        assert_eq!(world.patch(id, change).await.0, 200);
    }
    let policy = world.client.patch(world.admin_url("/v1/pools/default"));
    let policy = policy.json(&json!({"policy": "first", "ttl": "1h"}));
    assert_eq!(world.ask(policy).await.status, 200);
    let tags = async |world: &World| {
        let mut tags = vec![world.admin_json("/v1/pools/default").await["etag"].clone()];
        for id in &backends {
            tags.push(world.backend(id).await["etag"].clone());
        }
        tags
    };
    let before = tags(&world).await;
    let servers = std::mem::take(&mut world.servers).into_iter().flatten().collect();
    drop(world);

    // The other way round, as a look-up may give them.
    let urls = backends.iter().rev().map(|id| format!("http://{id}"));
    let next = World::over(&urls.collect::<Vec<_>>().join(","), &file, servers);
    next.until_eligible(2).await;
    assert_eq!(tags(&next).await, before);
    let tag = before[2].as_str().unwrap();
    for status in [200, 412] {
        let answer = patch(&next, &backends[1], &[("if-match", tag)], json!({"weight": 2})).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn a_change_with_a_key_is_carried_out_once_however_often_it_is_sent() {
    let world = World::start(2, &[]).await;
    let id = world.id(0);
    let tag = world.backend(&id).await["etag"].as_str().unwrap().to_owned();
    let headers = [("idempotency-key", "4f1c"), ("if-match", tag.as_str())];
    let drain = json!({"state": "drain", "ttl": "10m"});
    let first = patch(&world, &id, &headers, drain.clone()).await;
    let again = patch(&world, &id, &headers, drain.clone()).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!((&first.body, first.header("etag")), (&again.body, again.header("etag")));
    let events = world.admin_json("/v1/events").await.to_string();
    assert_eq!(events.matches("drain (was ready)").count(), 1);
    assert!(!events.contains("still drain"), "{events}");
    // Without the key the tag refuses it, and another change needs another key.
    assert_eq!(patch(&world, &id, &headers[1..], drain).await.status, 412);
    let other = patch(&world, &id, &headers[..1], json!({"state": "ready"})).await;
    assert_eq!((other.status, &world.backend(&id).await["admin"]), (422, &json!("drain")));
    let bad = patch(&world, &id, &[("idempotency-key", "a b")], json!({"state": "ready"})).await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn a_refused_change_may_be_sent_again_with_its_key() {
    let world = World::start(1, &[]).await;
    let id = world.id(0);
    let headers = [("idempotency-key", "k")];
    let drain = json!({"state": "drain"});
    for _ in 0..2 {
        assert_eq!(patch(&world, &id, &headers, drain.clone()).await.status, 409);
    }
}

#[tokio::test]
async fn before_the_click_everybody_can_see_what_it_will_cost_the_others() {
    let world = World::start(3, &[]).await;
    let id = world.id(2);
    world.patch(&world.id(1), json!({"weight": 3})).await;
    let url = format!("{}?dry_run=true", world.backend_url(&id));
    let dry = world.ask(world.client.patch(&url).json(&json!({"state": "drain"}))).await;
    assert_eq!((dry.status, &dry.body["refused"]), (200, &json!(false)));
    let prediction = &dry.body["prediction"];
    assert_eq!(
        (&prediction["eligible_before"], &prediction["eligible_after"]),
        (&json!(3), &json!(2))
    );
    let shares = |prediction: &Value, name: &str| -> Vec<(String, f64)> {
        let backends = prediction["backends"].as_array().unwrap();
        let pair = |backend: &Value| {
            (backend["id"].as_str().unwrap().to_owned(), backend[name].as_f64().unwrap())
        };
        backends.iter().map(pair).collect()
    };
    let before: f64 = shares(prediction, "share_before").iter().map(|(_, share)| share).sum();
    assert!((before - 1.0).abs() < 1e-9);
    let predicted = shares(prediction, "share_after");
    assert_eq!(world.backend(&id).await["admin"], "ready", "a dry run changes nothing");

    assert_eq!(world.patch(&id, json!({"state": "drain"})).await.0, 200);
    let counts = world.spread(40).await;
    for (index, name) in [(0, "s0"), (1, "s1"), (2, "s2")] {
        let share = *counts.get(name).unwrap_or(&0) as f64 / 40.0;
        let of = predicted.iter().find(|(id, _)| *id == world.id(index)).unwrap().1;
        assert!((share - of).abs() < 1e-9, "{name}: {share} was predicted to be {of}");
    }
    // A tag that is out of date is told in a dry run too.
    let request = world.client.patch(&url).header("if-match", "\"old\"");
    assert_eq!(world.ask(request.json(&json!({"state": "ready"}))).await.status, 412);
}

#[tokio::test]
async fn a_change_below_the_floor_is_refused_with_the_numbers_of_the_dry_run() {
    let world = World::start(3, &[("PROXY_FLOOR", "80%")]).await;
    let id = world.id(0);
    let url = format!("{}?dry_run=true", world.backend_url(&id));
    let dry = world.ask(world.client.patch(&url).json(&json!({"state": "maint"}))).await;
    assert_eq!((dry.status, &dry.body["refused"]), (200, &json!(true)));
    let refused = patch(&world, &id, &[], json!({"state": "maint"})).await;
    assert_eq!(refused.status, 409);
    assert!(refused.detail().contains("only 2 of 3 backends"), "{}", refused.detail());
    for number in ["floor", "eligible_before", "eligible_after", "total"] {
        let (told, before) = (&refused.body["prediction"][number], &dry.body["prediction"][number]);
        assert_eq!(told, before, "{number}");
    }
    assert_eq!(refused.body["prediction"]["floor"], 3);
    assert_eq!(world.backend(&id).await["admin"], "ready");
    let forced = patch(&world, &id, &[], json!({"state": "maint", "force": true})).await;
    assert_eq!(forced.status, 200);
}

#[tokio::test]
async fn a_weight_and_a_limit_go_back_to_what_is_configured() {
    let path = std::env::temp_dir().join(format!("evenkeel-null-{}.json", std::process::id()));
    let world = World::start(2, &[("PROXY_STATE_FILE", path.to_str().unwrap())]).await;
    let id = world.id(0);
    let wanted = json!({"weight": 3, "max_in_flight": 9, "reason": "big"});
    assert_eq!(patch(&world, &id, &[], wanted).await.status, 200);
    let backend = world.backend(&id).await;
    assert_eq!((&backend["weight_wanted"], &backend["weight_reason"]), (&json!(3), &json!("big")));
    let limit = |of: &str| &backend[format!("max_in_flight{of}")];
    assert_eq!(
        (limit(""), limit("_wanted"), limit("_reason")),
        (&json!(9), &json!(9), &json!("big"))
    );
    assert_eq!((limit("_since"), limit("_actor")), (&backend["weight_since"], &json!("127.0.0.1")));
    assert_eq!(backend["configured_max_in_flight"], json!(null), "there is none");
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"weight\": 3"));

    let back = json!({"weight": null, "max_in_flight": null, "reason": "as it was"});
    let url = format!("{}?dry_run=true", world.backend_url(&id));
    let dry = world.ask(world.client.patch(&url).json(&back)).await;
    let after = |index: usize| &dry.body["prediction"]["backends"][index]["share_after"];
    assert_eq!((after(0), after(1)), (&json!(0.5), &json!(0.5)));

    let headers = [("idempotency-key", "null-1")];
    let first = patch(&world, &id, &headers, back.clone()).await;
    let again = patch(&world, &id, &headers, back).await;
    assert_eq!((first.status, again.header("idempotency-replayed")), (200, "true"));
    assert_eq!((&first.body["weight"], &first.body["weight_wanted"]), (&json!(1), &json!(null)));
    assert_eq!(first.body["max_in_flight"], json!(null));
    // Whose word it is is told: who was away has to hear the newest.
    assert_eq!(first.body["weight_reason"], json!("as it was"));
    assert_eq!(first.body["max_in_flight_reason"], json!("as it was"));
    assert_eq!(first.body["max_in_flight_wanted"], json!(null));
    let audit = world.admin_json("/v1/audit").await["entries"][0].clone();
    let weights = (&audit["before"]["weight"], &audit["after"]["weight"]);
    assert_eq!(weights, (&json!(3), &json!(1)), "{audit}");
    assert_eq!(audit["after"]["max_in_flight"], json!(null));
    let events = world.admin_json("/v1/events").await.to_string();
    assert!(events.contains("configured weight, configured limit"), "{events}");
    let kept = std::fs::read_to_string(&path).unwrap();
    let kept = &serde_json::from_str::<Value>(&kept).unwrap()["pools"]["default"][&id];
    assert_eq!(kept["weight"], json!(null), "only that somebody said so: {kept}");
    assert_eq!(kept["weight_said"]["standing"], first.body["weight_said_at"]);
    let _ = std::fs::remove_file(path);
}

/// Of a dry run, what is in flight and what there is room for, before and after.
fn room(dry: &Value) -> [Value; 3] {
    let prediction = &dry["prediction"];
    ["in_flight", "max_in_flight_before", "max_in_flight_after"]
        .map(|name| prediction[name].clone())
}

#[tokio::test]
async fn what_a_change_would_leave_room_for_is_told_beside_what_is_in_flight() {
    let world = World::start(3, &[("PROXY_MAX_IN_FLIGHT", "2")]).await;
    let asked = (0..5).map(|_| tokio::spawn(world.client.get(world.url("/delay/20s")).send()));
    let asked: Vec<_> = asked.collect();
    let in_flight = async || {
        let pool = world.admin_json("/v1/pools/default/backends").await;
        let backends = pool["backends"].as_array().unwrap();
        backends.iter().map(|one| one["in_flight"].as_u64().unwrap()).sum::<u64>()
    };
    world.until("requests in flight", async || in_flight().await == 5).await;
    let url = format!("{}?dry_run=true", world.backend_url(&world.id(0)));
    let over = ", and 5 are now, 1 more than there would be room for";
    for (change, after, words) in [
        (
            json!({"max_in_flight": 1}),
            json!(5),
            "at most 5 requests could be in flight then, and 5 are now",
        ),
        (json!({"state": "drain"}), json!(4), over),
        (json!({"max_in_flight": 9}), json!(13), "would be changed"),
        (json!({"max_in_flight": 0}), Value::Null, "would be changed"),
        (json!({"max_in_flight": null}), json!(6), "would be changed"),
    ] {
        let dry = world.ask(world.client.patch(&url).json(&change)).await;
        assert_eq!(room(&dry.body), [json!(5), json!(6), after], "{change}");
        let detail = dry.body["detail"].as_str().unwrap();
        assert!(detail.ends_with(words), "{change}: {detail}");
    }
    asked.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_limit_for_a_while_is_predicted_told_in_the_audit_log_and_takes_nobody_out() {
    let world = World::start(1, &[("PROXY_MAX_IN_FLIGHT", "50")]).await;
    let id = world.id(0);
    let url = format!("{}?dry_run=true", world.backend_url(&id));
    let limit = json!({"max_in_flight": 1, "reason": "it swaps", "ttl": "1h"});
    let dry = world.ask(world.client.patch(&url).json(&limit)).await;
    let own = &dry.body["prediction"]["backends"][0];
    assert_eq!((dry.status, &dry.body["refused"]), (200, &json!(false)), "the last one goes on");
    assert_eq!(room(&dry.body), [json!(0), json!(50), json!(1)]);
    assert!(own["in_flight_after"].as_f64().unwrap() <= 1.0, "{own}");

    let headers = [("x-evenkeel-actor", "ada")];
    let made = patch(&world, &id, &headers, limit).await;
    assert_eq!((made.status, &made.body["max_in_flight"]), (200, &json!(1)));
    assert_eq!(made.body["max_in_flight_actor"], json!("ada (from 127.0.0.1)"));
    assert_eq!(made.body["max_in_flight_reverts_to"], json!(50));
    assert_eq!(made.body["configured_max_in_flight"], json!(50));
    let audit = world.admin_json("/v1/audit").await["entries"][0].clone();
    let (before, after) = (&audit["before"], &audit["after"]);
    assert_eq!((&before["max_in_flight"], &after["max_in_flight"]), (&json!(50), &json!(1)));
    assert_eq!(after["max_in_flight_expires_at"], made.body["max_in_flight_expires_at"]);
    assert_eq!(after["max_in_flight_reverts_to"], json!(50));
    // Who read it before may not replace it unseen.
    let stale = [("if-match", "\"0000000000000000\"")];
    let refused = patch(&world, &id, &stale, json!({"max_in_flight": null})).await;
    assert!(refused.status == 412 && refused.detail().contains("at most 1 in flight"));
}

/// The messages of a stream until one contains `words`.
async fn listen(world: &World, after: u64, words: &str) -> String {
    let request = world.client.get(world.admin_url("/v1/events"));
    let request = request.header("accept", "text/event-stream");
    let request = request.header("last-event-id", after.to_string());
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !text.contains(words) {
        text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    text
}

#[tokio::test]
async fn who_was_away_gets_the_events_since_the_last_one_it_saw_and_then_the_new_ones() {
    let world = World::start(2, &[]).await;
    let id = world.id(0);
    world.patch(&id, json!({"weight": 5})).await;
    let seen = world.admin_json("/v1/events").await["last_id"].as_u64().unwrap();
    world.patch(&id, json!({"weight": 6})).await;
    let (text, _) = tokio::join!(listen(&world, seen, "weight 7"), async {
        world.patch(&id, json!({"weight": 7})).await
    });
    assert!(text.contains("weight 6") && !text.contains("weight 5"), "{text}");
    assert!(text.contains(&format!("id: {}", seen + 1)) && !text.contains("event: gap"), "{text}");
    // An id of an earlier run gets all of this one, and is told that something may be missing.
    let text = listen(&world, seen - 1_000_000, "weight 7").await;
    assert!(text.starts_with("event: gap") && text.contains("weight 5"), "{text}");
}

#[tokio::test]
async fn a_word_that_is_older_than_what_stands_is_refused_with_when_that_was_said() {
    let world = World::start(2, &[]).await;
    let id = world.id(0);
    assert_eq!(world.backend(&id).await["weight_said_at"], Value::Null, "nobody has said anything");
    let (_, made) = world.patch(&id, json!({"weight": 3})).await;
    let said_at = made["weight_said_at"].as_str().unwrap().to_owned();
    assert_eq!(made["weight_standing_said_at"], said_at);
    let late = json!({"weight": 5, "said_at": "2026-01-01T00:00:00Z"});
    let refused = patch(&world, &id, &[], late.clone()).await;
    assert_eq!((refused.status, &refused.body["said_at"]), (409, &json!(said_at)));
    let expected = format!("at {said_at}; leave out said_at to say it now");
    assert!(refused.detail().contains(&expected), "{}", refused.detail());
    let url = format!("{}?dry_run=true", world.backend_url(&id));
    let dry = world.ask(world.client.patch(url).json(&late)).await;
    assert_eq!((dry.status, &dry.body["refused"]), (200, &json!(true)));
    assert_eq!(world.backend(&id).await["weight"], 3);
    // The same word once more, as by two who carry it, and one about something else.
    for change in [json!({"weight": 3, "said_at": said_at}), json!({"state": "drain"})] {
        assert_eq!(world.patch(&id, change).await.0, 200);
    }
    assert_eq!(world.backend(&id).await["weight_said_at"], said_at);
    for (said_at, expected) in [
        (json!(5), "said_at: expected text in quotes"),
        (json!("tomorrow"), "said_at: expected a time such as"),
        (json!("2999-01-01T00:00:00Z"), "at most a day after this proxy's clock"),
    ] {
        let change = json!({"weight": 9, "said_at": said_at});
        let refused = patch(&world, &id, &[], change).await;
        assert_eq!(refused.status, 400);
        assert!(refused.detail().contains(expected), "{}", refused.detail());
    }
}

#[tokio::test]
async fn a_clock_that_is_ahead_blocks_no_later_change() {
    let world = World::start(2, &[]).await;
    let id = world.id(0);
    let ahead = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    let text = |time| humantime::format_rfc3339_millis(time).to_string();
    let change = json!({"state": "drain", "said_at": text(ahead)});
    assert_eq!(world.patch(&id, change).await.0, 200);
    let (status, made) = world.patch(&id, json!({"state": "ready"})).await;
    assert_eq!((status, &made["admin"]), (200, &json!("ready")));
    let next = text(ahead + std::time::Duration::from_millis(1));
    assert_eq!(made["admin_said_at"], next, "it was said after that");
}

#[tokio::test]
async fn what_stands_is_told_late_beneath_the_override_that_was_said_after_it() {
    let world = World::start(2, &[]).await;
    let id = world.id(0);
    let (_, made) = world.patch(&id, json!({"state": "drain", "ttl": "10m"})).await;
    let below = "2026-01-01T00:00:00.000Z";
    let (status, now) = world.patch(&id, json!({"state": "maint", "said_at": below})).await;
    assert_eq!((status, &now["admin"]), (200, &json!("drain")));
    assert_eq!(now["admin_reverts_to"]["state"], "maint");
    assert_eq!(now["admin_said_at"], made["admin_said_at"]);
    assert_eq!(now["admin_standing_said_at"], below);
    let older = json!({"state": "maint", "ttl": "1h", "said_at": below});
    assert_eq!(world.patch(&id, older).await.0, 409, "what is on top was said after it");
}

#[tokio::test]
async fn a_proxy_that_did_not_hear_of_a_drain_is_told_what_is_left_of_its_deadline() {
    let one = World::start(2, &[]).await;
    let urls = format!("http://{},http://{}", one.id(0), one.id(1));
    let two = World::over(&urls, &[], vec![]);
    let _page = Page::over(&[&one, &two]).await;
    let id = one.id(0);
    two.until_eligible(2).await;
    let drain = json!({"state": "drain", "deadline": "5m"});
    let told = patch(&one, &id, &[], drain).await;
    two.until("the drain", async || two.backend(&id).await["admin"] == "drain").await;
    let ends = [told.body["deadline_at"].clone(), two.backend(&id).await["deadline_at"].clone()];
    let [there, here] =
        ends.map(|at| wall::parse(at.as_str().expect("it has a deadline")).unwrap());
    assert!(there.abs_diff(here) < 10_000, "{there} and {here}");
}

#[tokio::test]
async fn a_drain_beneath_an_override_is_told_to_who_missed_it_with_what_is_left_of_its_deadline() {
    let one = World::start(2, &[]).await;
    let urls = format!("http://{},http://{}", one.id(0), one.id(1));
    let id = one.id(0);
    let (_, drained) = one.patch(&id, json!({"state": "drain", "deadline": "5m"})).await;
    let (_, now) = one.patch(&id, json!({"state": "ready", "ttl": "10m"})).await;
    assert_eq!(now["deadline_at"], json!(null), "what is ready has none");
    assert_eq!(now["admin_reverts_to"]["deadline_at"], drained["deadline_at"]);
    let two = World::over(&urls, &[], vec![]);
    let _page = Page::over(&[&one, &two]).await;
    let then = async || two.backend(&id).await["admin_reverts_to"].clone();
    two.until("what lies below", async || then().await["state"] == "drain").await;
    let ends = [drained["deadline_at"].clone(), then().await["deadline_at"].clone()];
    let [there, here] =
        ends.map(|at| wall::parse(at.as_str().expect("it has a deadline")).unwrap());
    assert!(there.abs_diff(here) < 10_000, "{there} and {here}");
}
