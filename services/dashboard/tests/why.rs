//! Why requests went where they went: on the page of a backend, and of a request that is tried.

mod support;

use axum::{Router, http::HeaderMap, response::IntoResponse, routing::get};
use serde_json::{Value, json};
use support::{Dashboard, FakeAdmin, TOKEN, backend, pools};

/// A decision as the admin API tells it: `a:1` was picked, and `b:1` passed over.
fn decision(request_id: &str, second: u32) -> Value {
    json!({"request_id": request_id, "at": format!("2026-11-23T15:00:{second:02}.250Z"), "recorded": "sample",
        "pool": "default", "policy": "round_robin", "method": "GET", "status": 200, "reason": null, "source": null,
        "duration_ms": 12.5, "first_byte_ms": 12.1,
        "attempts": [{"backend": "a:1", "started_ms": 0.0, "duration_ms": 12.1, "result": "answered"}],
        "considered": [
            {"backend": "a:1", "weight": 1, "in_flight": 2, "verdict": "picked", "why": "chosen by round_robin"},
            {"backend": "b:1", "weight": 1, "in_flight": 0, "verdict": "passed_over", "why": "it was another one's turn"}],
        "left_out": 0})
}

fn proxy(name: &str, decisions: &[Value]) -> FakeAdmin {
    let mut answer = pools(&[backend("a:1"), backend("b:1")]);
    answer["proxy"]["name"] = json!(name);
    let admin = FakeAdmin::start(answer);
    admin.with(|world| world.decisions = Some(json!(decisions)));
    admin
}

#[tokio::test]
async fn a_backends_page_tells_why_requests_went_there_or_passed_it_over_on_all_proxies() {
    let one = proxy("edge-1", &[decision("x1", 9)]);
    let two = proxy("edge-2", &[decision("x2", 11)]);
    let dashboard = Dashboard::start(&format!("{},{}", one.url(), two.url()), &[]);
    dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    let told = |page: &str| {
        let section = page.split("id=\"decisions\"").nth(1).unwrap().to_owned();
        section.split("</section>").next().unwrap().to_owned()
    };
    let fits = |page: &str| page.contains("x1") && page.contains("x2");
    let page = told(&dashboard.text_with("/backends/default/b:1", fits).await);
    assert!(page.contains("passed over") && page.contains("it was another one's turn"), "{page}");
    let places = ["15:00:11", "on edge-2", "15:00:09", "on edge-1"].map(|text| page.find(text));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "newest first: {page}");
    let page = told(&dashboard.text_with("/backends/default/a:1", fits).await);
    assert!(page.contains("chosen by round_robin") && page.contains("1% of the others"), "{page}");
}

#[tokio::test]
async fn a_proxy_that_tells_no_decisions_takes_nothing_else_from_the_page() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/backends/default/a:1").await;
    assert!(page.contains("have not told any yet") && page.contains("connected in 0.3 ms"));
}

#[tokio::test]
async fn a_request_to_try_is_announced_and_shown_with_the_record_of_this_very_request() {
    let admin = proxy("edge-1", &[decision("another", 1)]);
    let world = std::sync::Arc::clone(&admin.world);
    let answer = move |headers: HeaderMap| async move {
        let id = headers["x-request-id"].to_str().unwrap().to_owned();
        let mut world = world.lock().unwrap();
        assert_eq!(world.announced, [(id.clone(), Some(TOKEN.to_owned()))], "told before");
        let mut own = decision(&id, 2);
        own["considered"][1]["why"] = json!("it is drained");
        world.decisions = Some(json!([own]));
        ([("x-served-by", "server-7"), ("x-request-id", id.as_str())], "hello").into_response()
    };
    let balancer = FakeAdmin::other(Router::new().route("/echo", get(answer)));
    let url = balancer.url();
    let settings = [("LOAD_BALANCER_ADMIN_TOKEN", TOKEN), ("LOAD_BALANCER_URL", url.as_str())];
    let dashboard = Dashboard::start(&admin.url(), &settings).ready().await;
    let form = [("path", "/echo"), ("method", "GET")];
    let page = dashboard.post("/try", &form, &[]).await.text().await.unwrap();
    let words = page.split("id=\"try-result\"").nth(1).unwrap();
    for part in
        ["200 OK", "server-7", "a:1", "was picked by round robin, of 2 candidates", "it is drained"]
    {
        assert!(words.contains(part), "{part}: {words}");
    }
}

#[tokio::test]
async fn without_the_right_to_announce_the_answer_is_shown_and_why_there_is_no_record() {
    let admin = proxy("edge-1", &[]);
    admin.with(|world| world.refusal = Some((401, "send the token")));
    let balancer = FakeAdmin::other(Router::new().fallback(|| async { "hello" }));
    let url = balancer.url();
    let dashboard =
        Dashboard::start(&admin.url(), &[("LOAD_BALANCER_URL", url.as_str())]).ready().await;
    let form = [("path", "/"), ("method", "GET")];
    let page = dashboard.post("/try", &form, &[]).await.text().await.unwrap();
    assert!(page.contains("200 OK") && page.contains("hello"), "{page}");
    assert!(page.contains("refused to record it (401 Unauthorized): send the token"), "{page}");
}
