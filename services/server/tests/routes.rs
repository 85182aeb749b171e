//! What each route answers, and what it refuses.

mod common;

use std::time::{Duration, Instant};

use common::{problem, start};
use serde_json::json;

#[tokio::test]
async fn the_identity_tells_the_replica_and_what_it_saw() {
    let server = start(|settings| settings.version_label = Some("blue".to_owned()));
    let request = server.client.get(server.url("/?a=1")).header("x-forwarded-for", "192.0.2.7");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-served-by"], "one");
    let first: serde_json::Value = response.json().await.unwrap();
    assert_eq!((&first["name"], &first["version"]), (&json!("one"), &json!("blue")));
    assert_eq!(first["requests_served"], 1);
    assert_eq!(first["request"]["query"], "a=1");
    assert_eq!(first["request"]["headers"]["x-forwarded-for"], json!(["192.0.2.7"]));
    assert!(first["request"]["remote"].as_str().unwrap().starts_with("127.0.0.1:"));

    let second = server.json("/").await;
    assert_eq!(second["requests_served"], 2);
    assert_eq!(second["instance"], first["instance"]);
    let restarted = start(|_| ()).json("/").await;
    assert_ne!(restarted["instance"], first["instance"]);
}

#[tokio::test]
async fn an_echo_shows_the_head_of_a_get_and_returns_the_body_of_a_post() {
    let server = start(|_| ());
    let seen = server.json("/echo/some%20path?q=x").await;
    assert_eq!(seen["method"], "GET");
    assert_eq!((&seen["path"], &seen["query"]), (&json!("/echo/some%20path"), &json!("q=x")));

    let body = "0123456789".repeat(200_000);
    let request = server.client.post(server.url("/echo")).header("content-type", "text/x-ten");
    let response = request.body(body.clone()).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/x-ten");
    assert_eq!(response.headers()["content-length"], body.len().to_string());
    assert!(response.text().await.unwrap() == body, "the body came back changed");
}

#[tokio::test]
async fn an_echo_returns_the_first_chunk_before_the_last_is_sent() {
    use futures_util::{StreamExt, stream};
    let server = start(|_| ());
    let (sender, receiver) = tokio::sync::mpsc::channel::<String>(1);
    let chunks = stream::unfold(receiver, |mut receiver| async {
        Some((Ok::<_, std::io::Error>(receiver.recv().await?), receiver))
    });
    sender.send("first".to_owned()).await.unwrap();
    let body = reqwest::Body::wrap_stream(chunks);
    let request = server.client.put(server.url("/echo")).body(body).send();
    let mut answer = request.await.unwrap().bytes_stream();
    assert_eq!(answer.next().await.unwrap().unwrap(), "first");
    sender.send("last".to_owned()).await.unwrap();
    drop(sender);
    assert_eq!(answer.next().await.unwrap().unwrap(), "last");
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn an_echo_returns_trailers_to_who_takes_them() {
    let server = start(|_| ());
    let request = "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\nte: trailers\r\n\
                   trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    let (answer, _) = server.raw(request).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.ends_with("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_delay_answers_after_that_time() {
    let server = start(|_| ());
    let start = Instant::now();
    assert_eq!(server.json("/delay/120ms").await["delay"], "120ms");
    assert!(start.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn a_status_is_answered_as_asked() {
    let server = start(|_| ());
    for code in [200, 204, 304, 404, 418, 500, 503, 599] {
        let response = server.get(&format!("/status/{code}")).await;
        assert_eq!(response.status(), code);
        assert_eq!(response.headers()["x-served-by"], "one");
        let empty = response.bytes().await.unwrap().is_empty();
        assert_eq!(empty, matches!(code, 204 | 304), "{code}");
    }
}

#[tokio::test]
async fn bytes_come_in_the_size_asked_for_with_its_length() {
    let server = start(|_| ());
    for (asked, size) in [("0", 0), ("1", 1), ("100", 100), ("64KiB", 65_536), ("3MiB", 3 << 20)] {
        let response = server.get(&format!("/bytes/{asked}")).await;
        assert_eq!(response.headers()["content-length"], size.to_string());
        let body = response.bytes().await.unwrap();
        assert_eq!(body.len(), size);
        let right = body.iter().enumerate().all(|(index, byte)| *byte == body[index % 64]);
        assert!(right, "{asked}: the pattern broke");
    }
    let head = server.client.head(server.url("/bytes/1GiB")).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], (1_u64 << 30).to_string());
}

#[tokio::test]
async fn a_stream_sends_its_lines_one_by_one() {
    use futures_util::StreamExt;
    let server = start(|_| ());
    let start = Instant::now();
    let response = server.get("/stream/3?interval=50ms").await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let chunks: Vec<_> = response.bytes_stream().map(Result::unwrap).collect().await;
    assert!(start.elapsed() >= Duration::from_millis(100));
    let lines: Vec<serde_json::Value> =
        chunks.iter().map(|chunk| serde_json::from_slice(chunk).unwrap()).collect();
    let numbers: Vec<_> = lines.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_a_sentence() {
    let server = start(|_| ());
    for (path, part) in [
        ("/delay/5", "250ms"),
        ("/delay/1h", "at most 5m"),
        ("/delay/%ff", "UTF-8"),
        ("/status/abc", "200 to 599"),
        ("/status/101", "200 to 599"),
        ("/status/600", "200 to 599"),
        ("/bytes/-1", "64KiB"),
        ("/bytes/2GiB", "at most 1GiB"),
        ("/stream/x", "lines"),
        ("/stream/100001", "100000"),
        ("/stream/5?interval=x", "interval"),
        ("/stream/5?intervall=1s", "intervall"),
        ("/stream/100000?interval=1s", "more than 10m"),
        ("/ws", "WebSocket"),
    ] {
        let detail = problem(server.get(path).await, 400).await;
        assert!(detail.contains(part), "{path}: {detail}");
    }
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_say_so_and_carry_the_name() {
    let server = start(|_| ());
    let response = server.get("/no/such").await;
    assert_eq!(response.headers()["x-served-by"], "one");
    assert!(problem(response, 404).await.contains("/no/such"));

    let response = server.client.post(server.url("/bytes/1")).send().await.unwrap();
    assert_eq!(response.headers()["x-served-by"], "one");
    assert_eq!(response.headers()["allow"], "GET,HEAD");
    assert!(problem(response, 405).await.contains("POST"));
    let response = server.client.delete(server.url("/admin/ready")).send().await.unwrap();
    problem(response, 405).await;
}

#[tokio::test]
async fn metrics_count_traffic_by_method_and_code_and_nothing_else() {
    let server = start(|_| ());
    server.get("/").await;
    server.get("/status/503").await;
    server.get("/readyz").await;
    server.get("/admin/ready").await;
    let brew = reqwest::Method::from_bytes(b"BREW").unwrap();
    server.client.request(brew, server.url("/echo")).send().await.unwrap().bytes().await.unwrap();

    let requests = "evenkeel_server_requests_total";
    server.metric_becomes("evenkeel_server_request_duration_seconds_count", 3.0).await;
    assert_eq!(server.metric(&format!("{requests}{{code=\"200\",method=\"GET\"}}")).await, 1.0);
    assert_eq!(server.metric(&format!("{requests}{{code=\"503\",method=\"GET\"}}")).await, 1.0);
    assert_eq!(server.metric(&format!("{requests}{{code=\"200\",method=\"_OTHER\"}}")).await, 1.0);
    assert_eq!(server.metric("evenkeel_server_in_flight").await, 0.0);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let server = start(|_| ());
    let request = tokio::spawn(server.client.get(server.url("/delay/5m")).send());
    server.metric_becomes("evenkeel_server_in_flight", 1.0).await;
    request.abort();
    server.metric_becomes("evenkeel_server_in_flight", 0.0).await;
    let left = "evenkeel_server_requests_total{code=\"499\",method=\"GET\"}";
    assert_eq!(server.metric(left).await, 1.0);
}
