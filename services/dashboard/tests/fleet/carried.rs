//! Changes that are carried over to proxies which missed them.

use std::time::Instant;

use serde_json::json;

use crate::{
    JSON, dashboard, proxy,
    support::{Change, FakeAdmin, PATIENCE, SAID, backend, unsaid},
};

/// The first change that a proxy is told of.
async fn first_told(proxy: &FakeAdmin) -> Change {
    told(proxy, 0).await
}

/// The change that a proxy is told of after so many others.
async fn told(proxy: &FakeAdmin, before: usize) -> Change {
    let end = Instant::now() + PATIENCE;
    while proxy.with(|world| world.changes.len() <= before) {
        assert!(Instant::now() < end, "it was never told");
        tokio::task::yield_now().await;
    }
    proxy.with(|world| world.changes[before].clone())
}

#[tokio::test]
async fn a_proxy_that_was_away_gets_the_standing_intent_when_it_returns() {
    let (one, mut two) = (proxy("edge-1", &[backend("x:1")]), proxy("edge-2", &[backend("x:1")]));
    let dashboard = dashboard(&[&one, &two]);
    dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    two.kill();
    let page =
        dashboard.text_with("/", |text| text.contains("1 of 2 proxies does not answer")).await;
    assert!(page.contains("last heard"), "its own state");
    let answer = dashboard
        .post("/backends/default/x:1", &[("state", "maint"), ("reason", "disk")], &[JSON])
        .await;
    let text = answer.text().await.unwrap();
    assert!(text.contains("edge-2 does not answer; it is told when it returns"), "{text}");
    one.with(|world| {
        let backend = &mut world.pools["pools"][0]["backends"][0];
        (backend["admin"], backend["effective"]) = (json!("maint"), json!("maint"));
        (backend["admin_actor"], backend["admin_reason"]) =
            (json!("dashboard, on this machine"), json!("disk"));
        backend["admin_since"] = json!("2026-11-23T15:00:12.000Z");
    });

    two.come_back();
    let told = first_told(&two).await;
    assert_eq!(
        (told.body["state"].clone(), told.body["reason"].clone()),
        (json!("maint"), json!("disk"))
    );
    assert_eq!(
        told.actor.as_deref(),
        Some("dashboard, on this machine, carried over by the dashboard")
    );
    assert_eq!(one.with(|world| world.changes.len()), 1, "nobody else is told anything");
}

#[tokio::test]
async fn an_override_that_is_refused_does_not_keep_what_is_forced_beneath_it_from_being_told() {
    let mut drained = unsaid("x:1");
    (drained["admin"], drained["effective"]) = (json!("drain"), json!("drained"));
    (drained["admin_actor"], drained["admin_said_at"]) = (json!("ann"), json!(SAID.0));
    drained["admin_expires_at"] = json!("2026-11-23T16:00:00.000Z");
    drained["admin_standing_said_at"] = json!("2026-11-23T15:00:01.000Z");
    drained["admin_reverts_to"] =
        json!({"state": "maint", "actor": "bob", "forced": true, "deadline_at": null});
    let (one, two) = (proxy("edge-1", &[drained]), proxy("edge-2", &[unsaid("x:1")]));
    two.with(|world| world.refusal = Some((409, "too few would be left")));
    let _dashboard = dashboard(&[&one, &two]).ready().await;
    let (on_top, beneath) = (told(&two, 0).await.body, told(&two, 1).await.body);
    assert_eq!((&on_top["state"], on_top.get("force")), (&json!("drain"), None), "{on_top}");
    assert_eq!((&beneath["state"], &beneath["force"]), (&json!("maint"), &json!(true)));
    assert_eq!(beneath["said_at"], "2026-11-23T15:00:01.000Z");
}

#[tokio::test]
async fn a_proxy_that_was_away_gets_the_weight_when_it_returns() {
    let mut plain = backend("x:1");
    (plain["configured_weight"], plain["weight_wanted"]) = (json!(1), json!(null));
    let (one, mut two) = (proxy("edge-1", &[plain.clone()]), proxy("edge-2", &[plain]));
    let dashboard = dashboard(&[&one, &two]);
    dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    two.kill();
    dashboard.text_with("/", |text| text.contains("1 of 2 proxies does not answer")).await;
    let form = [("weight", "5"), ("reason", "bigger")];
    let answer = dashboard.post("/backends/default/x:1", &form, &[JSON]);
    let text = answer.await.text().await.unwrap();
    assert!(text.contains("x:1 is set to weight 5 on edge-1. edge-2 does not answer"), "{text}");
    one.with(|world| {
        let backend = &mut world.pools["pools"][0]["backends"][0];
        (backend["weight"], backend["weight_wanted"]) = (json!(5), json!(5));
        (backend["weight_actor"], backend["weight_reason"]) = (json!("ann"), json!("bigger"));
        backend["weight_since"] = json!("2026-11-23T15:00:12.000Z");
    });

    two.come_back();
    let told = first_told(&two).await;
    assert_eq!(told.body, json!({"weight": 5, "reason": "bigger"}));
    assert_eq!(told.actor.as_deref(), Some("ann, carried over by the dashboard"));
    let page = dashboard.text("/").await;
    assert!(page.contains("not everywhere"), "as long as it has not: {page}");
}

#[tokio::test]
async fn a_proxy_that_was_away_gets_the_limit_when_it_returns_and_the_page_tells_who_has_another() {
    let mut plain = backend("x:1");
    (plain["admin_said_at"], plain["max_in_flight_wanted"]) = (json!(null), json!(null));
    let (one, mut two) = (proxy("edge-1", &[plain.clone()]), proxy("edge-2", &[plain]));
    let dashboard = dashboard(&[&one, &two]);
    dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    two.kill();
    dashboard.text_with("/", |text| text.contains("1 of 2 proxies does not answer")).await;
    let form = [("max_in_flight", "5"), ("reason", "it swaps"), ("ttl", "1h")];
    let answer = dashboard.post("/backends/default/x:1", &form, &[JSON]);
    let text = answer.await.text().await.unwrap();
    let expected = "x:1 is set to at most 5 in flight on edge-1. edge-2 does not answer";
    assert!(text.contains(expected), "{text}");
    let said_at = one.with(|world| world.changes[0].body["said_at"].clone());
    assert!(said_at.is_string(), "they take such times");
    one.with(|world| {
        let backend = &mut world.pools["pools"][0]["backends"][0];
        (backend["max_in_flight"], backend["max_in_flight_wanted"]) = (json!(5), json!(5));
        backend["max_in_flight_actor"] = json!("ann");
        backend["max_in_flight_reason"] = json!("it swaps");
        // The proxy has been up for 12.3 s, since 15:00.
        backend["max_in_flight_expires_at"] = json!("2026-11-23T16:00:12.300Z");
        backend["max_in_flight_said_at"] = said_at.clone();
    });

    two.come_back();
    let told = first_told(&two).await;
    let ttl = told.body["ttl"].as_str().unwrap().trim_end_matches("ms").parse::<u64>().unwrap();
    assert!((3_500_000..=3_600_000).contains(&ttl), "what is left of it: {ttl}");
    let (limit, reason) = (&told.body["max_in_flight"], &told.body["reason"]);
    assert_eq!((limit, reason), (&json!(5), &json!("it swaps")));
    assert_eq!(told.body["said_at"], said_at, "it keeps its time");
    assert_eq!(told.actor.as_deref(), Some("ann, carried over by the dashboard"));
    let page = dashboard.text("/backends/default/x:1").await;
    assert!(page.contains("Not the same everywhere: no limit on edge-2."), "{page}");
}
