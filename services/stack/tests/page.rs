//! The dashboard over real proxies.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use common::{World, page::Page};
use serde_json::Value;

/// Known values of a column of a series.
fn known(series: &Value, column: &str) -> Vec<f64> {
    series[column].as_array().unwrap().iter().filter_map(Value::as_f64).collect()
}

/// So many requests at once, in the latest whole seconds of the history of each proxy.
async fn busy(worlds: &[&World], requests: u64) {
    for world in worlds {
        world.spread(requests as usize).await;
    }
    for world in worlds {
        world
            .until("the requests in the history", async || {
                let told = world.admin_json("/v1/history?backends=false").await;
                let seconds = told["pools"][0]["series"]["requests"].as_array().unwrap().clone();
                seconds.iter().filter_map(Value::as_u64).sum::<u64>() == requests
            })
            .await;
    }
}

#[tokio::test]
async fn a_dashboard_that_has_just_started_shows_the_hour_of_all_proxies() {
    let (one, two) = (World::start(2, &[]).await, World::start(2, &[]).await);
    busy(&[&one, &two], 20).await;
    // Both over the same backends would be the same test; these have their own.
    let page = Page::over(&[&one, &two]).await;
    let total = |series: &str| -> f64 {
        let series: Value = serde_json::from_str(series).unwrap();
        known(&series, "rate").iter().sum()
    };
    let series = page.until("/api/series?window=minutes", |text| total(text) >= 40.0).await;
    let series: Value = serde_json::from_str(&series).unwrap();
    assert_eq!((total(&series.to_string()), &series["step_seconds"]), (40.0, &1.into()));
    assert!(known(&series, "p99_ms").iter().any(|millis| *millis > 0.0));
    let path = format!("/api/series?window=minutes&pool=default&id={}", two.id(1));
    page.until(&path, |text| total(text) == 10.0).await;
    // The file has all of it, too, in slots of twelve seconds.
    let file: Value = serde_json::from_str(&page.until("/api/export", |_| true).await).unwrap();
    let requests = |hour: &Value| known(hour, "rate").iter().sum::<f64>() * 12.0;
    let backends = file["backends"].as_array().unwrap();
    assert_eq!(backends.len(), 4);
    for backend in backends {
        // More only if they came in the slot that is under way, which is as long as it has been.
        assert!(requests(&backend["hour"]) >= 9.9, "{}", backend["hour"]);
    }
    let shown: f64 = known(&file["totals"], "rate").iter().sum();
    assert_eq!(shown, 40.0);
    // The last minute of a row is there as well, before anything was seen to happen.
    page.until("/", |text| {
        let rows = text.split("<tbody").nth(1).unwrap();
        rows.split("</tr>").filter(|row| row.contains("path class=\"line rate\" d=\"M")).count()
            >= 4
    })
    .await;
}

#[tokio::test]
async fn a_request_to_try_tells_why_it_went_where_it_went_even_if_nothing_is_sampled() {
    let variables = [("PROXY_DECISIONS", "0%"), ("PROXY_NAME", "edge-1")];
    let world = World::start(2, &variables).await;
    let (away, there) = (world.id(0), world.id(1));
    world.patch(&away, serde_json::json!({"state": "drain", "reason": "new disk"})).await;
    let page = Page::over(&[&world]).await;
    for _ in 0..3 {
        let (status, answer) = page.post("/try", "method=GET&path=%2Fecho").await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let html = answer["html"].as_str().unwrap();
        assert_eq!(status, 200, "{html}");
        let picked = format!("{there}</span> was picked by round robin, of 1 candidate");
        assert!(html.contains(&picked) && html.contains("200 OK"), "{html}");
        assert!(html.contains(&away) && html.contains("new disk"), "why not the other: {html}");
    }
    // What the page of a backend shows: those three passed it over.
    let path = format!("/backends/default/{away}");
    page.until(&path, |text| text.matches("not eligible").count() >= 3).await;
}
