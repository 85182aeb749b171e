//! The live feed.

mod support;

use support::{Dashboard, FakeAdmin, backend, pools};

#[tokio::test]
async fn what_changes_at_the_proxy_reaches_a_live_page() {
    let admin = FakeAdmin::start(pools(&[backend("a:1"), backend("b:2")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let mut live = dashboard.live().await;
    let first = live.next().await.unwrap();
    assert!(first["html"]["headline"].as_str().unwrap().contains("Both backends serve"));

    admin.with(|world| {
        let changed = &mut world.pools["pools"][0]["backends"][1];
        changed["effective"] = "down".into();
        changed["health"] = "down".into();
        changed["health_reason"] = "connection refused".into();
    });
    let patch = live.until("1 of 2 serve: b:2 is down").await;
    let html = patch["html"].as_object().unwrap();
    let cells: Vec<&str> = html
        .iter()
        .filter(|(id, _)| id.starts_with('b') && id.len() > 16)
        .map(|(_, html)| html.as_str().unwrap())
        .collect();
    assert_eq!(cells.len(), 2, "state and health of one backend, nothing of the other: {html:?}");
    assert!(cells.iter().any(|cell| cell.contains("connection refused")));
    assert!(!html.contains_key("pools"), "the table is not sent again");
}

#[tokio::test]
async fn an_update_tells_how_long_after_the_feed_began_it_was_made() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let asked = std::time::Instant::now();
    let mut live = dashboard.live().await;
    let first = live.next().await.unwrap()["made_ms"].as_u64().unwrap();
    let began = std::time::Instant::now();
    admin.with(|world| world.pools["pools"][0]["backends"][0]["in_flight"] = 77.into());
    let then = live.until(">77<").await["made_ms"].as_u64().unwrap();
    assert!(first <= then && u128::from(then) <= asked.elapsed().as_millis(), "{first}, {then}");
    admin.with(|world| world.pools["pools"][0]["backends"][0]["in_flight"] = 78.into());
    let asked_again = began.elapsed().as_millis();
    let last = live.until(">78<").await["made_ms"].as_u64().unwrap();
    assert!(u128::from(last) >= asked_again, "{last} after {asked_again}");
}

#[tokio::test]
async fn a_large_picture_comes_in_parts_to_a_page_which_would_give_up_a_silent_feed() {
    let backends: Vec<_> = (0..100).map(|number| backend(&format!("b-{number}:1"))).collect();
    let admin = FakeAdmin::start(pools(&backends));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let mut feed = dashboard.get("/live?window=minutes&parts").await;
    let mut text = Vec::new();
    let text = loop {
        let chunk = tokio::time::timeout(support::PATIENCE, feed.chunk()).await;
        text.extend(chunk.expect("the feed is silent").unwrap().expect("the feed ended"));
        let text = String::from_utf8_lossy(&text);
        if let Some((first, rest)) = text.split_once("event: patch\n")
            && let Some((last, _)) = rest.split_once("\n\n")
        {
            break format!("{first}{last}");
        }
    };
    let parts: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert!(parts.len() > 3, "{} parts", parts.len());
    // One comes within 8 s, the page's patience, also where a second brings no more than 4 KiB.
    assert!(parts.iter().all(|part| part.len() <= 32 * 1024));
    let patch: serde_json::Value = serde_json::from_str(&parts.concat()).unwrap();
    assert!(patch["html"]["headline"].as_str().unwrap().contains("All 100 backends serve"));
    assert!(patch["html"]["pools"].as_str().unwrap().contains("b-99:1"));
    let whole = dashboard.live().await.next().await.unwrap();
    assert!(whole["html"]["pools"].is_string(), "who does not ask for parts gets it at once");
}

#[tokio::test]
async fn a_backend_that_joins_is_sent_as_one_new_row() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let mut live = dashboard.live().await;
    live.next().await.unwrap();
    admin.with(|world| world.pools = pools(&[backend("new:9"), backend("a:1")]));
    let patch = live.until("new:9").await;
    let rows = &patch["rows"][0];
    assert_eq!(rows["order"].as_array().unwrap().len(), 2);
    let added = rows["added"].as_object().unwrap();
    assert_eq!(added.len(), 1);
    assert!(added.values().next().unwrap().as_str().unwrap().contains("new:9"));
}

#[tokio::test]
async fn the_feed_ends_at_a_stop_and_the_service_with_it() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let mut live = dashboard.live().await;
    live.next().await.unwrap();
    dashboard.stop();
    while live.next().await.is_some() {}
    let ended = tokio::time::timeout(support::PATIENCE, dashboard.task).await;
    ended.expect("it stops").unwrap().unwrap();
}

#[tokio::test]
async fn live_pages_are_bounded_and_counted() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(dashboard.live().await);
    }
    let refused = dashboard.get("/live").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let metrics = dashboard.text("/metrics").await;
    assert!(metrics.contains("evenkeel_dashboard_live_clients 100"), "{metrics}");
    drop(open);
    dashboard
        .text_with("/metrics", |text| text.contains("evenkeel_dashboard_live_clients 0"))
        .await;
}

#[tokio::test]
async fn a_stranger_who_opens_many_feeds_leaves_places_for_operators() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let stranger = || dashboard.client.get(dashboard.url("/live")).header("x-forwarded-for", "x");
    let mut open = Vec::new();
    let refused = loop {
        let answer = stranger().send().await.unwrap();
        if answer.status() != 200 {
            break answer;
        }
        open.push(answer);
        assert!(open.len() < 100, "all places are taken");
    };
    assert_eq!((refused.status().as_u16(), open.len()), (503, 25));
    assert!(refused.text().await.unwrap().contains("at your address"));
    dashboard.live().await;
}
