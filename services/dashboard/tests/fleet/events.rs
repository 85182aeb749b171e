//! What happened, of which several proxies tell.

use serde_json::json;

use crate::{
    dashboard, proxy,
    support::{Dashboard, backend, event},
};

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
