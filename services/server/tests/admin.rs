//! Readiness by API, injected faults, and who may change them.

mod common;

use std::time::{Duration, Instant};

use chassis::secret::Secret;
use common::{PATIENCE, problem, start};
use serde_json::json;

#[tokio::test]
async fn a_server_told_to_be_not_ready_says_so_and_still_serves() {
    let server = start(|_| ());
    assert_eq!(server.get("/readyz").await.status(), 200);
    assert_eq!(server.metric("evenkeel_server_ready").await, 1.0);

    assert_eq!(server.put("/admin/ready", r#"{"ready":false}"#).await.status(), 200);
    let response = server.get("/readyz").await;
    assert_eq!(response.status(), 503);
    assert!(response.text().await.unwrap().contains("/admin/ready"));
    assert_eq!(server.metric("evenkeel_server_ready").await, 0.0);
    assert_eq!(server.json("/admin/ready").await, json!({"name": "one", "ready": false}));
    assert_eq!(server.get("/healthz").await.status(), 200);
    assert_eq!(server.get("/").await.status(), 200);

    server.put("/admin/ready", r#"{"ready":true}"#).await;
    assert_eq!(server.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn a_malformed_change_is_refused_and_changes_nothing() {
    let server = start(|settings| settings.faults = true);
    for body in ["", "{", "{}", "[false]", r#"{"ready":"no"}"#, r#"{"ready":false,"force":true}"#] {
        problem(server.put("/admin/ready", body).await, 400).await;
    }
    let too_long: &'static str = " ".repeat(20_000).leak();
    problem(server.put("/admin/ready", too_long).await, 413).await;
    assert_eq!(server.json("/admin/ready").await["ready"], true);

    server.put("/admin/faults", r#"{"error_share":"100%"}"#).await;
    for (body, part) in [
        ("", "JSON object"),
        ("[]", "JSON object"),
        ("{", "ends within its JSON object"),
        (r#"{"eror_share":"1%"}"#, "unknown field"),
        (r#"{"error_share":0.2}"#, "error_share: expected text in quotes, not 0.2"),
        (r#"{"error_share":"101%"}"#, "a share from 0% to 100%"),
        (r#"{"status":99}"#, "400 to 599"),
    ] {
        let detail = problem(server.put("/admin/faults", body).await, 400).await;
        assert!(detail.contains(part), "{body}: {detail}");
    }
    assert_eq!(server.json("/admin/faults").await["error_share"], "100%");
}

#[tokio::test]
async fn faults_are_refused_unless_a_setting_allows_them() {
    let server = start(|_| ());
    for request in [
        server.client.get(server.url("/admin/faults")),
        server.client.put(server.url("/admin/faults")).body("{}"),
        server.client.delete(server.url("/admin/faults")),
    ] {
        let detail = problem(request.send().await.unwrap(), 403).await;
        assert!(detail.contains("SERVER_FAULTS=true"), "{detail}");
    }
    assert_eq!(server.get("/").await.status(), 200);
}

#[tokio::test]
async fn with_a_token_only_its_holder_may_change_anything() {
    let server = start(|settings| {
        settings.admin_token = Some(Secret::new("correct-horse").unwrap());
        settings.faults = true;
    });
    for path in ["/admin/ready", "/admin/faults"] {
        problem(server.put(path, r#"{"ready":false}"#).await, 401).await;
    }
    let request = server.client.put(server.url("/admin/ready")).bearer_auth("correct-horse");
    let response = request.body(r#"{"ready":false}"#).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(server.get("/admin/ready").await.status(), 200, "reading needs no token");
}

#[tokio::test]
async fn a_page_of_another_site_may_not_change_anything() {
    let server = start(|_| ());
    let request = server.client.put(server.url("/admin/ready"));
    let request = request.header("origin", "http://evil.example").body(r#"{"ready":false}"#);
    problem(request.send().await.unwrap(), 403).await;
    assert_eq!(server.json("/admin/ready").await["ready"], true);
}

#[tokio::test]
async fn injected_errors_strike_traffic_and_spare_probes_metrics_and_admin() {
    let server = start(|settings| settings.faults = true);
    let faults = r#"{"error_share":"100%","status":500}"#;
    assert_eq!(server.put("/admin/faults", faults).await.status(), 200);
    for path in ["/", "/echo", "/status/204", "/no/such"] {
        let response = server.get(path).await;
        assert_eq!(response.headers()["x-fault"], "error", "{path}");
        assert_eq!(response.headers()["x-served-by"], "one");
        problem(response, 500).await;
    }
    for path in ["/healthz", "/readyz", "/metrics", "/admin/ready", "/admin/faults"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(server.metric("evenkeel_server_faults_total{kind=\"error\"}").await, 4.0);

    let cleared = server.client.delete(server.url("/admin/faults")).send().await.unwrap();
    assert_eq!(cleared.status(), 204);
    assert_eq!(server.get("/").await.status(), 200);
    assert_eq!(server.json("/admin/faults").await["error_share"], "0%");
}

#[tokio::test]
async fn injected_latency_delays_traffic_only() {
    let server = start(|settings| settings.faults = true);
    server.put("/admin/faults", r#"{"latency":"5m"}"#).await;
    let slow = tokio::spawn(server.client.get(server.url("/")).send());
    server.metric_becomes("evenkeel_server_faults_total{kind=\"latency\"}", 1.0).await;
    assert_eq!(server.get("/readyz").await.status(), 200);
    assert!(!slow.is_finished());
    slow.abort();

    server.put("/admin/faults", r#"{"latency":"100ms"}"#).await;
    let start = Instant::now();
    assert_eq!(server.get("/").await.status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_reset_cuts_the_connection_without_an_answer() {
    let server = start(|settings| settings.faults = true);
    server.put("/admin/faults", r#"{"reset_share":"100%"}"#).await;
    for method in ["GET", "HEAD", "POST"] {
        let head = format!("{method} /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        let (answer, _) = server.raw(&head).await;
        assert_eq!(String::from_utf8_lossy(&answer), "", "{method}");
    }
    server.metric_becomes("evenkeel_server_in_flight", 0.0).await;
    let cut = "evenkeel_server_requests_total{code=\"444\",method=\"GET\"}";
    assert_eq!(server.metric(cut).await, 1.0);
    assert_eq!(server.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn a_hanging_request_is_never_answered_and_ends_with_a_stop() {
    let server = start(|settings| {
        settings.faults = true;
        settings.stop = common::short_stop();
    });
    server.put("/admin/faults", r#"{"hang_share":"100%"}"#).await;
    let hanging = tokio::spawn(server.client.get(server.url("/")).send());
    server.metric_becomes("evenkeel_server_faults_total{kind=\"hang\"}", 1.0).await;
    assert!(!hanging.is_finished());
    assert_eq!(server.get("/healthz").await.status(), 200);
    server.stop(chassis::shutdown::Stop::Graceful);
    let answer = tokio::time::timeout(PATIENCE, hanging).await.unwrap().unwrap();
    assert!(answer.is_err(), "{answer:?}");
    server.stopped().await;
}
