//! Several proxies: one picture, and one change for all.

mod support;

use serde_json::{Value, json};
use support::{Dashboard, FakeAdmin, SAID, backend, event, pools, unsaid};

/// A proxy of a name with these backends.
fn proxy(name: &str, backends: &[Value]) -> FakeAdmin {
    let mut answer = pools(backends);
    answer["proxy"]["name"] = json!(name);
    FakeAdmin::start(answer)
}

const JSON: (&str, &str) = ("accept", "application/json");

/// The first change that a proxy is told of.
async fn first_told(proxy: &FakeAdmin) -> support::Change {
    told(proxy, 0).await
}

/// The change that a proxy is told of after so many others.
async fn told(proxy: &FakeAdmin, before: usize) -> support::Change {
    let end = std::time::Instant::now() + support::PATIENCE;
    while proxy.with(|world| world.changes.len() <= before) {
        assert!(std::time::Instant::now() < end, "it was never told");
        tokio::task::yield_now().await;
    }
    proxy.with(|world| world.changes[before].clone())
}

fn dashboard(proxies: &[&FakeAdmin]) -> Dashboard {
    let urls: Vec<String> = proxies.iter().map(|proxy| proxy.url()).collect();
    Dashboard::start(&urls.join(","), &[])
}

#[tokio::test]
async fn several_proxies_are_one_picture_of_sums() {
    let mut busy = backend("x:1");
    busy["traffic"] =
        json!({"requests_per_second": 90.0, "latency": {"scale": 7, "buckets": [100, 900]}});
    let mut idle = backend("x:1");
    idle["traffic"] =
        json!({"requests_per_second": 10.0, "latency": {"scale": 6, "buckets": [60, 1]}});
    let (one, two) = (proxy("edge-1", &[busy]), proxy("edge-2", &[idle]));
    let dashboard = dashboard(&[&one, &two]);
    let page = dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    assert!(page.contains(">edge-1<") && page.contains(">edge-2<"), "each proxy has its place");
    let state: Value = serde_json::from_str(&dashboard.text("/api/state").await).unwrap();
    let shown = &state["picture"]["pools"][0]["backends"][0];
    assert_eq!(shown["in_flight"], 6);
    assert_eq!(shown["traffic"]["requests_per_second"], 100.0);
    // 900 requests of 0.1 ms and one of 0.06 ms: the average of both medians would be far off.
    let median = shown["traffic"]["p50_ms"].as_f64().unwrap();
    assert!((median - 0.1).abs() < 0.002, "{median}");
}

#[tokio::test]
async fn what_proxies_disagree_about_is_told_with_names() {
    let mut down = backend("x:1");
    (down["effective"], down["health"]) = (json!("down"), json!("down"));
    down["health_reason"] = json!("connection refused");
    let one = proxy("edge-1", &[backend("x:1"), backend("y:1")]);
    let two = proxy("edge-2", &[down, backend("y:1")]);
    let dashboard = dashboard(&[&one, &two]);
    let page = dashboard.text_with("/", |text| text.contains("1 of 2 serve")).await;
    assert!(page.contains("Both backends serve, but proxies disagree about x:1"), "{page}");
    let told = page.split("class=\"opinion\"").nth(1).unwrap();
    assert!(told.contains("edge-2") && told.contains("connection refused"), "{told}");
    // On a backend's own page it has a place where they agree, too: what comes moves nothing.
    for (id, words) in [("x:1", "Proxies disagree"), ("y:1", "Proxies agree")] {
        let page = dashboard.text(&format!("/backends/default/{id}")).await;
        assert!(page.contains(words), "{id}: {page}");
    }
}

#[tokio::test]
async fn a_drain_hides_neither_a_proxy_that_serves_from_nobody_nor_disagreement() {
    let mut drained = backend("c:1");
    (drained["admin"], drained["effective"]) = (json!("drain"), json!("drained"));
    let down = |id: &str| {
        let mut down = backend(id);
        (down["effective"], down["health"]) = (json!("down"), json!("down"));
        down
    };
    let one = proxy("edge-1", &[backend("a:1"), backend("b:1"), drained.clone()]);
    let two = proxy("edge-2", &[down("a:1"), down("b:1"), drained]);
    let reason = "no backend can take requests (2 down, 1 drained)";
    two.with(|world| {
        world.pools["proxy"]["ready"] = json!(false);
        world.pools["proxy"]["not_ready_reasons"] = json!([reason]);
    });
    let dashboard = dashboard(&[&one, &two]);
    let page = dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    let line = page.split("id=\"headline\"").nth(1).unwrap().split("</h1>").next().unwrap();
    let expected = "2 of 3 serve: c:1 is drained, but on edge-2 no backend serves, and proxies \
                    disagree about a:1 and b:1<";
    assert!(line.contains(expected) && line.contains("class=\"bad\""), "{line}");
    let banner = format!("1 of 2 proxies is not ready: edge-2: {reason}.");
    assert!(page.contains(&banner), "{page}");
    // It finds one of them again, and stops.
    two.with(|world| {
        world.pools["pools"][0]["backends"][1] = backend("b:1");
        world.pools["proxy"]["stopping"] = json!(true);
    });
    let expected = "2 of 3 serve: c:1 is drained, but edge-2 is stopping, and proxies disagree \
                    about a:1<";
    let page = dashboard.text_with("/", |text| text.contains(expected)).await;
    assert!(!page.contains("proxies is not ready"), "{page}");
}

#[tokio::test]
async fn a_backends_page_says_that_proxies_agree_only_if_all_that_is_set_is_the_same() {
    let ids = ["weight:1", "limit:1", "end:1", "then:1", "same:1"];
    let mut here = ids.map(backend);
    here[3]["admin_expires_at"] = json!("2026-11-23T16:07:08.000Z");
    here[3]["admin_reverts_to"] = json!({"state": "drain", "deadline_at": null});
    let mut there = here.clone();
    there[0]["weight"] = json!(3);
    there[1]["max_in_flight"] = json!(7);
    there[2]["admin_expires_at"] = json!("2026-11-23T16:07:08.000Z");
    there[2]["admin_reverts_to"] = json!({"state": "drain"});
    there[3]["admin_reverts_to"]["deadline_at"] = json!("2026-11-23T16:08:09.000Z");
    let (one, two) = (proxy("edge-1", &here), proxy("edge-2", &there));
    let dashboard = dashboard(&[&one, &two]);
    let page = dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    assert_eq!(page.matches("weight not everywhere").count(), 1, "{page}");
    assert_eq!(page.matches("limit not everywhere").count(), 1, "{page}");
    for (id, told) in [
        ("weight:1", "elsewhere"),
        ("limit:1", "at most 7 in flight"),
        ("end:1", "of the state: 16:07:08, then drain"),
        ("then:1", "of the deadline that comes then: 16:08:09"),
    ] {
        let page = dashboard.text(&format!("/backends/default/{id}")).await;
        let card =
            page.split("id=\"opinions\"").nth(1).unwrap().split("</section>").next().unwrap();
        assert!(card.contains("Proxies disagree") && card.contains(told), "{id}: {card}");
    }
    let page = dashboard.text("/backends/default/same:1").await;
    assert!(page.contains("Proxies agree"), "{page}");
}

#[tokio::test]
async fn ages_are_told_by_the_clock_of_the_proxy_that_tells_the_time() {
    let drained = |hour: u32, minute: u32| {
        let at = |before: u32| json!(format!("2026-11-23T{hour}:{:02}:00.000Z", minute - before));
        let mut one = backend("");
        (one["admin"], one["effective"]) = (json!("drain"), json!("drained"));
        (one["admin_actor"], one["admin_since"]) = (json!("ann"), at(2));
        one["health_since"] = at(5);
        one["last_probe"]["at"] = at(1);
        (one["weight_wanted"], one["weight_since"]) = (json!(3), at(3));
        one
    };
    let named = |mut one: Value, id: &str| {
        one["id"] = json!(id);
        one
    };
    // The second's clock is more than an hour ahead.
    let one = proxy("edge-1", &[backend("x:1"), named(drained(15, 10), "y:1")]);
    let two = proxy("edge-2", &[named(drained(16, 20), "x:1"), backend("y:1")]);
    one.with(|world| world.pools["proxy"]["uptime_seconds"] = json!(610));
    two.with(|world| world.pools["proxy"]["uptime_seconds"] = json!(4_810));
    let event = |id: u64, at: &str| {
        let mut event = event(id, &format!("at {at}"));
        event["at"] = json!(at);
        event
    };
    one.with(|world| world.events = vec![event(1, "2026-11-23T15:09:10.000Z")]);
    two.with(|world| world.events = vec![event(1, "2026-11-23T16:19:10.000Z")]);
    let dashboard = dashboard(&[&one, &two]);
    let all = ["2 of 2 proxies answer", ">15:09:10<", ">16:19:10<"];
    let both = |text: &str| all.iter().all(|part| text.contains(part));
    let page = dashboard.text_with("/", both).await;
    for mark in ["15:09:10 UTC", "16:19:10 UTC"] {
        assert_eq!(page.matches(mark).count(), 4, "a mark on each chart: {page}");
    }
    let overrides =
        page.split("id=\"overrides\"").nth(1).unwrap().split("</section>").next().unwrap();
    for age in [">2 min ago<", ">3 min ago<"] {
        assert_eq!(overrides.matches(age).count(), 2, "{age}: {overrides}");
    }
    let rows = page.split("id=\"pools\"").nth(1).unwrap();
    for age in [">for 5 min<", ">1 min ago<"] {
        assert_eq!(rows.matches(age).count(), 2, "{age}: {rows}");
    }
    for id in ["x:1", "y:1"] {
        let page = dashboard.text(&format!("/backends/default/{id}")).await;
        assert!(page.contains(" for 5 min: "), "{page}");
    }
}

#[tokio::test]
async fn a_policy_that_does_not_end_everywhere_at_the_same_time_is_told_with_names() {
    let at = |name: &str, end: Value| {
        let proxy = proxy(name, &[backend("x:1")]);
        proxy.with(|world| {
            let pool = &mut world.pools["pools"][0];
            (pool["policy"], pool["policy_wanted"]) = (json!("random"), json!("random"));
            pool["policy_expires_at"] = end;
        });
        proxy
    };
    let end = json!("2026-11-23T16:07:08.000Z");
    let (one, two) = (at("edge-1", end.clone()), at("edge-2", json!(null)));
    let dashboard = dashboard(&[&one, &two]);
    let told = "does not end everywhere in the same way";
    let page = dashboard.text_with("/", |text| text.contains(told)).await;
    let list = page.split("id=\"overrides\"").nth(1).unwrap().split("</section>").next().unwrap();
    let of = |name: &str| list.split(name).nth(1).unwrap().split("edge-").next().unwrap();
    assert!(of("edge-1").contains("at <time") && of("edge-1").contains(">16:07:08 UTC<"), "{list}");
    assert!(of("edge-2").contains("not at all"), "{list}");
    two.with(|world| world.pools["pools"][0]["policy_expires_at"] = end);
    dashboard.text_with("/", |text| !text.contains(told)).await;
}

#[tokio::test]
async fn a_saved_hour_of_several_proxies_tells_which_of_them_are_not_well() {
    let mut down = backend("a:1");
    (down["effective"], down["health"]) = (json!("down"), json!("down"));
    let one = proxy("edge-1", &[backend("a:1")]);
    let (two, three) = (proxy("edge-2", &[backend("a:1")]), proxy("edge-3", &[down]));
    for proxy in [&two, &three] {
        proxy.with(|world| world.pools["proxy"]["ready"] = json!(false));
    }
    two.with(|world| world.events = vec![event(1, "something")]);
    let dashboard = dashboard(&[&one, &two, &three]);
    let is_there =
        |text: &str| text.contains("3 of 3 proxies answer") && text.contains("something");
    let live = dashboard.text_with("/", is_there).await;
    let file = dashboard.text("/api/export").await;
    let saved = dashboard.open(&file).await;
    let expected = "but on edge-3 no backend serves, and edge-2 is not ready, and proxies disagree";
    for page in [&live, &saved] {
        let line = page.split("id=\"headline\"").nth(1).unwrap().split("</h1>").next().unwrap();
        assert!(line.contains(expected), "{line}");
    }
    let part = |id: &str, end: &str| {
        saved.split(&format!("id=\"{id}\"")).nth(1).unwrap().split(end).next().unwrap().to_owned()
    };
    let subline = part("subline", "</p>");
    assert!(subline.contains("<span>3 of 3 proxies answer</span>"), "{subline}");
    assert!(part("map", "</ul>").contains("<span>edge-2</span>"));
    assert!(part("events", "</ol>").contains("on edge-2"));
}

#[tokio::test]
async fn a_change_goes_to_all_and_each_answer_is_told() {
    let mut proxies = ["a", "b", "c"].map(|name| proxy(name, &[backend("x:1")]));
    // They are told in the order of their addresses.
    proxies.sort_by_key(FakeAdmin::url);
    let [one, two, three] = proxies;
    for (proxy, name) in [(&one, "edge-1"), (&two, "edge-2"), (&three, "edge-3")] {
        proxy.with(|world| world.pools["proxy"]["name"] = json!(name));
    }
    let dashboard = dashboard(&[&one, &two, &three]);
    dashboard.text_with("/", |text| text.contains("3 of 3 proxies answer")).await;
    let drain = async || {
        let answer = dashboard
            .post("/backends/default/x:1", &[("state", "drain")], &[("accept", "application/json")])
            .await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = drain().await;
    assert_eq!(status, 200);
    assert!(text.contains("on all 3 proxies"), "{text}");
    for proxy in [&one, &two, &three] {
        assert_eq!(proxy.with(|world| world.changes.len()), 1);
    }

    // The first refusal ends it: nobody else is asked.
    one.with(|world| world.refusal = Some((409, "it is the only one")));
    let (status, text) = drain().await;
    assert_eq!(status, 409, "{text}");
    assert_eq!(two.with(|world| world.changes.len()), 1);

    one.with(|world| world.refusal = None);
    two.with(|world| world.refusal = Some((409, "it is the only one")));
    let (status, text) = drain().await;
    assert_eq!(status, 409);
    assert!(
        text.contains("set on edge-1, edge-3, but edge-2 refused: It is the only one"),
        "{text}"
    );
    let later = "edge-2 is told again until it takes it; to take it back, set x:1 to ready.";
    assert!(text.contains(later), "{text}");
}

#[tokio::test]
async fn who_insists_on_what_some_have_done_has_seen_that() {
    let mut proxies = ["a", "b"].map(|name| proxy(name, &[support::unsaid("x:1")]));
    proxies.sort_by_key(FakeAdmin::url);
    let [one, two] = proxies;
    let dashboard = dashboard(&[&one, &two]);
    dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    two.with(|world| world.refusal = Some((409, "it is the only one")));
    let path = "/backends/default/x:1";
    let answer = dashboard.post(path, &[("state", "drain"), ("seen", "0")], &[JSON]).await;
    assert_eq!(answer.status(), 409);
    let problem: Value = answer.json().await.unwrap();
    let said = one.with(|world| world.changes[0].body["said_at"].clone());
    let seen = chassis::wall::parse(said.as_str().unwrap()).unwrap().to_string();
    assert_eq!((&problem["seen"], &problem["unseen"]), (&json!(seen), &json!(false)));
    one.with(|world| {
        let backend = &mut world.pools["pools"][0]["backends"][0];
        (backend["admin"], backend["etag"]) = (json!("drain"), json!("\"done\""));
        (backend["admin_said_at"], backend["admin_standing_said_at"]) = (said.clone(), said);
    });
    let form = [("state", "drain"), ("seen", &seen), ("force", "true")];
    assert_eq!(dashboard.post(path, &form, &[JSON]).await.status(), 200);
}

#[tokio::test]
async fn what_one_proxy_alone_has_heard_is_not_undone_unseen_on_any() {
    let one = proxy("edge-1", &[support::unsaid("x:1")]);
    let two = proxy("edge-2", &[support::said_by_ann("x:1")]);
    let dashboard = dashboard(&[&one, &two]);
    let said = support::SAID.1.to_string();
    let shown = format!("name=\"seen\" value=\"{said}\"");
    dashboard.text_with("/", |text| text.contains("2 of 2") && text.contains(&shown)).await;
    // A proxy that has not heard a word is told of it, which is no part of this.
    let told = || {
        let all = [&one, &two].map(|proxy| proxy.with(|world| world.changes.clone()));
        all.concat().iter().filter(|change| change.body["state"] == "drain").count()
    };
    for (seen, status, count) in [("0", 409, 0), (&*said, 200, 2)] {
        let form = [("state", "drain"), ("seen", seen)];
        let answer = dashboard.post("/backends/default/x:1", &form, &[JSON]).await;
        assert_eq!((answer.status().as_u16(), told()), (status, count));
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_make_a_change_keeps_it_from_nobody_and_all_that_is_said_is_told() {
    let mut proxies = ["a", "b", "c", "d"].map(|name| proxy(name, &[backend("x:1")]));
    // They are told in the order of their addresses.
    proxies.sort_by_key(FakeAdmin::url);
    let [one, two, three, mut four] = proxies;
    let named = [(&one, "edge-1"), (&two, "edge-2"), (&three, "edge-3"), (&four, "edge-4")];
    for (proxy, name) in named {
        proxy.with(|world| world.pools["proxy"]["name"] = json!(name));
    }
    let dashboard = dashboard(&[&one, &two, &three, &four]);
    dashboard.text_with("/", |text| text.contains("4 of 4 proxies answer")).await;
    four.kill();
    dashboard.text_with("/", |text| text.contains("1 of 4 proxies does not answer")).await;
    one.with(|world| world.refusal = Some((404, "there is no backend x:1")));
    two.with(|world| world.not_saved = Some("the disk is full"));
    three.with(|world| world.refusal = Some((409, "it is the only one")));
    let form = [("state", "drain")];
    let answer = dashboard.post("/backends/default/x:1", &form, &[("accept", "application/json")]);
    let answer = answer.await;
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 409, "what can be insisted on: {text}");
    for part in [
        "x:1 is set on edge-2, but edge-3 refused: It is the only one.",
        "edge-1 refused: There is no backend x:1.",
        "They are told again until they take it; to take it back, set x:1 to ready.",
        "It is not saved, and a restart of the proxy would undo it: the disk is full.",
        "edge-4 does not answer; it is told when it returns.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_refusal_does_not_hide_that_others_gave_no_answer_to_the_change() {
    let mut proxies = ["a", "b", "c"].map(|name| proxy(name, &[backend("x:1")]));
    // They are told in the order of their addresses.
    proxies.sort_by_key(FakeAdmin::url);
    let [one, two, mut three] = proxies;
    for (proxy, name) in [(&one, "edge-1"), (&two, "edge-2"), (&three, "edge-3")] {
        proxy.with(|world| world.pools["proxy"]["name"] = json!(name));
    }
    let dashboard = dashboard(&[&one, &two, &three]);
    dashboard.text_with("/", |text| text.contains("3 of 3 proxies answer")).await;
    three.kill();
    dashboard.text_with("/", |text| text.contains("1 of 3 proxies does not answer")).await;
    one.with(|world| world.refusal = Some((404, "there is no backend x:1")));
    two.with(|world| world.is_cut_short = true);
    let form = [("state", "drain")];
    let answer = dashboard.post("/backends/default/x:1", &form, &[("accept", "application/json")]);
    let text = answer.await.text().await.unwrap();
    assert_eq!(two.with(|world| world.changes.len()), 1, "it has taken it");
    for part in [
        "edge-1 refused: There is no backend x:1.".to_owned(),
        "Whether it was changed is not known".to_owned(),
        two.url(),
        format!("Nothing answers at {}", three.url()),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
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
        .post(
            "/backends/default/x:1",
            &[("state", "maint"), ("reason", "disk")],
            &[("accept", "application/json")],
        )
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
    let answer = dashboard.post("/backends/default/x:1", &form, &[("accept", "application/json")]);
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
    let answer = dashboard.post("/backends/default/x:1", &form, &[("accept", "application/json")]);
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

#[tokio::test]
async fn of_several_predictions_the_worst_is_told_with_who_differs_and_who_is_silent() {
    let ids = ["a:1", "b:1", "c:1"].map(backend);
    let (one, two) = (proxy("edge-1", &ids), proxy("edge-2", &ids));
    let mut three = proxy("edge-3", &ids);
    two.with(|world| world.dry_run = Some(support::dry_run(2, 1, None)));
    let dashboard = dashboard(&[&one, &two, &three]);
    dashboard.text_with("/", |text| text.contains("3 of 3 proxies answer")).await;
    three.kill();
    dashboard.text_with("/", |text| text.contains("1 of 3 proxies does not answer")).await;
    let effect = dashboard.text("/backends/default/a:1/effect?state=drain").await;
    let expected = "Then 1 of 3 serve; its 30/s go to them: about 60/s each, 100% more than now. \
                    edge-1 differs: there 2 of 3 would serve. edge-3 does not answer and is not \
                    counted.";
    assert!(effect.contains(expected), "{effect}");
}

#[tokio::test]
async fn one_event_of_all_proxies_is_one_line() {
    let (one, two) = (proxy("edge-1", &[backend("x:1")]), proxy("edge-2", &[backend("x:1")]));
    for proxy in [&one, &two] {
        proxy.with(|world| world.events.push(event(1, "x:1 is up")));
    }
    let dashboard = dashboard(&[&one, &two]);
    let page = dashboard
        .text_with("/", |text| {
            text.contains("on edge-1, edge-2") || text.contains("on edge-2, edge-1")
        })
        .await;
    let list = page.split("id=\"events\"").nth(1).unwrap();
    assert_eq!(list.matches("x:1 is up").count(), 1);
}

#[tokio::test]
async fn two_ways_to_one_proxy_are_one_proxy() {
    let one = proxy("edge-1", &[backend("x:1")]);
    let port = one.address.port();
    let dashboard =
        Dashboard::start(&format!("http://127.0.0.1:{port},http://localhost:{port}"), &[])
            .ready()
            .await;
    let page = dashboard.text("/").await;
    assert!(page.contains("The only backend serves") && !page.contains("proxies answer"), "{page}");
}

#[tokio::test]
async fn an_event_is_told_once_whichever_ways_lead_to_its_proxies_and_what_they_are_called() {
    let (one, two) = (proxy("host", &[backend("x:1")]), proxy("host", &[backend("x:1")]));
    let mut long_ago = event(3, "long ago");
    long_ago["at"] = json!("2026-11-20T11:52:35.000Z");
    one.with(|world| world.events = vec![long_ago, event(4, "on one"), event(5, "on both")]);
    two.with(|world| {
        world.pools["proxy"]["started_at"] = json!("2026-11-23T15:00:00.500Z");
        world.events = vec![event(1, "on both")];
    });
    let urls = [one.url(), one.url().replace("127.0.0.1", "localhost"), two.url()].join(",");
    let dashboard = Dashboard::start(&urls, &[]);
    let (first, second) = (one.address.to_string(), two.address.to_string());
    let is_there = |text: &str| {
        let by_both = [format!("on {first}, {second}"), format!("on {second}, {first}")];
        text.contains("2 of 2 proxies answer") && by_both.iter().any(|told| text.contains(told))
    };
    let page = dashboard.text_with("/", is_there).await;
    let list = page.split("id=\"events\"").nth(1).unwrap().split("</ol>").next().unwrap();
    assert_eq!(list.matches("<li").count(), 3, "{list}");
    assert!(list.contains(">15:00:01<") && list.contains(">20\u{a0}Nov 11:52:35<"), "{list}");
    // Each of the four charts marks what was within its window.
    assert_eq!(page.matches("15:00:01 UTC  on both</title>").count(), 4, "{page}");
}

#[tokio::test]
async fn a_change_is_said_at_one_time_that_is_newer_than_all_that_any_proxy_has_heard() {
    let at = |said_at: &str| {
        let mut backend = backend("x:1");
        backend["admin_said_at"] = json!(said_at);
        backend
    };
    // Their clocks are far ahead of ours; what `two` has heard since, nobody has seen yet.
    let ahead = at("2999-01-01T00:00:00.000Z");
    let (one, two) =
        (proxy("edge-1", &[ahead]), proxy("edge-2", &[at("2998-01-01T00:00:00.000Z")]));
    let old = proxy("edge-3", &[backend("x:1")]);
    two.with(|world| world.newer = Some("2999-01-01T00:00:00.500Z"));
    let dashboard = dashboard(&[&one, &two, &old]);
    dashboard.text_with("/", |text| text.contains("3 of 3 proxies answer")).await;
    let form = [("state", "drain")];
    let answer = dashboard.post("/backends/default/x:1", &form, &[("accept", "application/json")]);
    let text = answer.await.text().await.unwrap();
    assert!(text.contains("x:1 is set to drain on all 3 proxies"), "{text}");
    for proxy in [&one, &two] {
        let told = proxy.with(|world| world.changes.last().unwrap().body.clone());
        assert_eq!(told, json!({"state": "drain", "said_at": "2999-01-01T00:00:00.501Z"}));
    }
    let first = two.with(|world| world.changes[0].body["said_at"].clone());
    assert_eq!(first, "2999-01-01T00:00:00.001Z", "newer than what they have told");
    let told = old.with(|world| world.changes.last().unwrap().body.clone());
    assert_eq!(told, json!({"state": "drain"}), "it would refuse a field that it does not know");
}
