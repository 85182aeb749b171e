//! An hour that was saved while not all was well with the proxies themselves.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod support;

use serde_json::{Value, json};
use support::{Dashboard, FakeAdmin, backend, pools};

/// Two proxies over the same two backends, and a dashboard that knows both.
async fn fleet() -> ([FakeAdmin; 2], Dashboard) {
    let all = ["edge-1", "edge-2"].map(|name| {
        let proxy = FakeAdmin::start(pools(&[backend("a:1"), backend("b:1")]));
        proxy.with(|world| world.pools["proxy"]["name"] = name.into());
        proxy
    });
    let urls = all.each_ref().map(FakeAdmin::url).join(",");
    let dashboard = Dashboard::start(&urls, &[]);
    dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    (all, dashboard)
}

/// The element with this id up to where it ends.
fn part<'a>(page: &'a str, id: &str, end: &str) -> &'a str {
    let rest = page.split(&format!("id=\"{id}\"")).nth(1).unwrap_or_else(|| panic!("{page}"));
    rest.split(end).next().unwrap()
}

#[tokio::test]
async fn a_proxy_that_was_away_when_an_hour_was_saved_is_away_in_the_file() {
    let ([_one, mut two], dashboard) = fleet().await;
    two.kill();
    // Whether the connection is refused or breaks is a matter of the moment.
    let why = two.address.to_string();
    let sentence = "Both backends serve, but 1 of 2 proxies does not answer";
    dashboard.text_with("/", |text| text.contains(sentence)).await;
    let file = dashboard.text("/api/export").await;
    let page = dashboard.open(&file).await;
    assert!(part(&page, "headline", "</h1>").contains(sentence), "{page}");
    assert!(part(&page, "subline", "</p>").contains("1 of 2 proxies answer"), "{page}");
    let map = part(&page, "map", "</ul>");
    assert!(map.contains("edge-1") && map.contains("edge-2") && map.contains("away"), "{map}");
    let list = part(&page, "proxies", "</section>");
    assert!(list.contains("Away") && list.contains("last heard"), "{list}");
    assert!(list.contains(&why) && !list.contains("told when it returns"), "{list}");
    assert!(part(&page, "freshness", ">").contains("data-stale=\"false\""));

    // A file of before told only of those that answered.
    let mut old: Value = serde_json::from_str(&file).unwrap();
    for member in ["age_seconds", "trouble", "events_error"] {
        assert!(old.as_object_mut().unwrap().remove(member).is_some(), "{member}");
    }
    let proxies = old["proxies"].as_array_mut().unwrap();
    proxies.retain(|proxy| proxy["fault"].is_null());
    for proxy in proxies.iter_mut() {
        *proxy = json!({"name": proxy["name"], "answer": proxy["answer"]});
    }
    let page = dashboard.open(&old.to_string()).await;
    assert!(
        part(&page, "headline", "</h1>").contains("<span>Both backends serve</span>"),
        "{page}"
    );
    assert!(part(&page, "map", "</ul>").contains("edge-1"), "{page}");
}

#[tokio::test]
async fn an_hour_that_was_saved_when_nobody_answered_is_not_well_when_it_is_opened() {
    let ([mut one, mut two], dashboard) = fleet().await;
    one.kill();
    two.kill();
    dashboard.text_with("/", |text| text.contains("No proxy answers")).await;
    let file = dashboard.text("/api/export").await;
    let mut file: Value = serde_json::from_str(&file).unwrap();
    // As if it had been a while.
    file["age_seconds"] = json!(75.0);
    let page = dashboard.open(&file.to_string()).await;
    assert!(part(&page, "headline", "</h1>").contains("No proxy answers"), "{page}");
    assert!(part(&page, "freshness", ">").contains("data-stale=\"true\""), "{page}");
    let notice = part(&page, "notice", "<section");
    assert!(notice.contains("None of 2 proxies answers"), "{notice}");
    assert!(notice.contains("The last picture was <strong>1 min old</strong>"), "{notice}");
    assert_eq!(part(&page, "proxies", "</section>").matches("Away").count(), 2, "{page}");
}
