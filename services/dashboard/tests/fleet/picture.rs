//! What several proxies say of their backends, as one picture.

use serde_json::{Value, json};

use crate::{
    dashboard, proxy,
    support::{Dashboard, backend, event},
};

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
