//! The admin API: what it shows, what it changes, and what it refuses without changing anything.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use common::{Answer, World, even};
use reqwest::Method;
use serde_json::{Value, json};

fn problem(answer: &Answer) -> (u16, String) {
    (answer.status, answer.detail().to_owned())
}

#[tokio::test]
async fn the_state_of_every_backend_can_be_read() {
    let world = World::start(2, &[("PROXY_NAME", "front")]).await;
    world.spread(10).await;
    world
        .until("the sampler", async || {
            world.admin_json("/v1/pools").await["pools"][0]["traffic"]["requests_total"] == 10
        })
        .await;
    let all = world.admin_json("/v1/pools").await;
    assert_eq!(all["proxy"]["name"], "front");
    assert_eq!(all["proxy"]["ready"], true);
    let backend = &all["pools"][0]["backends"][0];
    assert_eq!((&backend["admin"], &backend["health"]), (&json!("ready"), &json!("up")));
    assert_eq!(backend["traffic"]["requests_total"], 5);
    assert!(backend["traffic"]["p99_ms"].as_f64().unwrap() > 0.0);
    let probe = &backend["last_probe"];
    assert_eq!((&probe["passed"], &probe["code"]), (&json!(true), &Value::Null), "TCP has no code");
}

#[tokio::test]
async fn the_last_probe_is_told_with_what_was_answered() {
    let answer = b"HTTP/1.1 503 No\r\ncontent-length: 12\r\n\r\nno database\n";
    let refuses = common::raw::RawBackend::start(answer).await;
    let ready = common::raw::RawBackend::start(b"HTTP/1.1 200 OK\r\n\r\nready").await;
    let silent = common::any_port();
    let addresses = [refuses.address, ready.address, silent.local_addr().unwrap()];
    let list = addresses.map(|address| format!("http://{address}")).join(",");
    let world =
        World::over(&list, &[("PROXY_PROBE", "http"), ("PROXY_PROBE_TIMEOUT", "2s")], vec![]);
    let probe =
        async |at: usize| world.backend(&addresses[at].to_string()).await["last_probe"].clone();
    assert_eq!(probe(2).await, Value::Null, "the first is not through");
    let expected = [
        (false, json!(503), json!("no database\\n")),
        (true, json!(200), json!("ready")),
        (false, Value::Null, Value::Null),
    ];
    for (at, (passed, code, first_bytes)) in expected.into_iter().enumerate() {
        world.until("a probe", async || !probe(at).await.is_null()).await;
        let probe = probe(at).await;
        assert_eq!(
            (&probe["passed"], &probe["code"], &probe["first_bytes"]),
            (&json!(passed), &code, &first_bytes)
        );
        assert!(probe["at"].is_string() && probe["duration_ms"].as_f64().unwrap() > 0.0);
    }
    assert!(probe(2).await["duration_ms"].as_f64().unwrap() >= 2000.0);
    assert_eq!(probe(2).await["detail"], "no answer within 2s");
}

#[tokio::test]
async fn the_last_hour_can_be_read_second_by_second_and_adds_up() {
    let world = World::start(2, &[]).await;
    world.spread(10).await;
    let sum = |series: &Value, name: &str| -> u64 {
        series[name].as_array().unwrap().iter().filter_map(Value::as_u64).sum()
    };
    let pool = async |query: &str| {
        world.admin_json(&format!("/v1/history?{query}")).await["pools"][0].clone()
    };
    world
        .until("ten requests in the history", async || {
            sum(&pool("").await["series"], "requests") == 10
        })
        .await;
    let all = world.admin_json("/v1/history").await;
    assert_eq!((&all["resolution_seconds"], &all["slots"]), (&json!(1), &json!(3600)));
    let latencies = all["pools"][0]["series"]["latency"].as_array().unwrap();
    let counted: u64 = latencies
        .iter()
        .filter_map(|latency| latency["buckets"].as_array())
        .flat_map(|buckets| buckets.iter().skip(1).step_by(2).filter_map(Value::as_u64))
        .sum();
    assert_eq!(counted, 10, "each duration is in one bucket");
    let one = pool(&format!("backend={}&resolution=60&latency=false", world.id(0))).await;
    assert_eq!(sum(&one["backends"][0]["series"], "requests"), 5);
    assert!(one["series"]["latency"].is_null());
    let alone = pool("backends=false").await;
    assert_eq!((&alone["backends"], sum(&alone["series"], "requests")), (&json!([]), 10));
    let now = world.admin_json("/v1/pools").await;
    let buckets = now["pools"][0]["traffic"]["latency"]["buckets"].as_array().unwrap();
    assert!(buckets.len() >= 2 && now["pools"][0]["traffic"]["latency"]["scale"] == 7);
    for (query, status, words) in [
        ("resolution=0", 400, "1 to 3600"),
        ("since=1", 400, "unknown field"),
        ("backend=x&backends=false", 400, "either"),
        ("backend=nobody", 404, "no backend"),
    ] {
        let request = world.client.get(world.admin_url(&format!("/v1/history?{query}")));
        let (found, detail) = problem(&world.ask(request).await);
        assert!(found == status && detail.contains(words), "{query}: {found} {detail}");
    }
}

#[tokio::test]
async fn after_the_answer_no_request_reaches_a_drained_backend_and_ready_brings_it_back() {
    let world = World::start(3, &[]).await;
    let id = world.id(1);
    let (status, backend) = world.patch(&id, json!({"state": "drain", "reason": "new disk"})).await;
    assert_eq!((status, &backend["admin"]), (200, &json!("drain")));
    assert_eq!(backend["admin_reason"], "new disk");
    assert_eq!(world.spread(20).await, even(&["s0", "s2"], 10));
    let (status, backend) = world.patch(&id, json!({"state": "ready"})).await;
    assert_eq!((status, &backend["effective"]), (200, &json!("serving")));
    assert_eq!(world.spread(30).await, even(&["s0", "s1", "s2"], 10));
}

#[tokio::test]
async fn a_request_in_flight_ends_well_while_its_backend_drains() {
    let world = World::start(2, &[]).await;
    let slow = tokio::spawn(world.client.get(world.url("/delay/5s")).send());
    let in_flight = async || {
        let pool = world.admin_json("/v1/pools/default").await;
        let backends = pool["backends"].as_array().unwrap().clone();
        backends.into_iter().find(|backend| backend["in_flight"] == 1)
    };
    world.until("the request to be in flight", async || in_flight().await.is_some()).await;
    let id = in_flight().await.unwrap()["id"].as_str().unwrap().to_owned();
    let (_, backend) = world.patch(&id, json!({"state": "drain"})).await;
    assert_eq!(backend["effective"], "draining");
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    world.until("drained", async || world.backend(&id).await["effective"] == "drained").await;
}

#[tokio::test]
async fn not_ready_is_another_word_for_maint() {
    let world = World::start(2, &[]).await;
    let (status, backend) = world.patch(&world.id(0), json!({"state": "not ready"})).await;
    assert_eq!((status, &backend["effective"]), (200, &json!("maint")));
    assert_eq!(world.spread(4).await, even(&["s1"], 4));
}

#[tokio::test]
async fn the_last_usable_backend_is_kept_unless_forced() {
    let world = World::start(2, &[]).await;
    world.patch(&world.id(0), json!({"state": "maint"})).await;
    let (status, answer) = world.patch(&world.id(1), json!({"state": "drain"})).await;
    assert_eq!(status, 409);
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("only one of 2 backends") && detail.contains("force"), "{detail}");
    assert_eq!(world.get("/").await, (200, "s1".to_owned()));
    let (status, _) = world.patch(&world.id(1), json!({"state": "drain", "force": true})).await;
    assert_eq!(status, 200);
    assert_eq!(world.get("/").await.0, 503);
}

#[tokio::test]
async fn bad_changes_are_refused_and_change_nothing() {
    let world = World::start(2, &[]).await;
    let path = format!("/v1/pools/default/backends/{}", world.id(0));
    let before = world.backend(&world.id(0)).await["admin_since"].clone();
    let cases = [
        (path.as_str(), "{\"state\": ", 400, "ends within"),
        (&path, "{\"state\": \"gone\"}", 400, "ready, drain or maint"),
        (&path, "{\"mood\": \"good\"}", 400, "unknown field"),
        (&path, "{}", 400, "neither"),
        ("/v1/pools/default/backends/nobody:1", "{\"state\": \"drain\"}", 404, "no backend"),
        ("/v1/pools/other/backends/nobody:1", "{\"state\": \"drain\"}", 404, "no pool"),
        ("/v1/nothing", "{}", 404, "/v1/pools"),
    ];
    for (path, body, status, words) in cases {
        let request = world.client.patch(world.admin_url(path));
        let request = request.header("content-type", "application/json").body(body);
        let (found, detail) = problem(&world.ask(request).await);
        assert_eq!(found, status, "{path} {body}");
        assert!(detail.contains(words), "{path} {body}: {detail}");
    }
    for odd in ["/v1/pools/default/backends/%ff", "/v1/events?after=x", "/v1/events?since=3"] {
        let answer = world.ask(world.client.get(world.admin_url(odd))).await;
        assert_eq!(problem(&answer).0, 400, "{odd}");
    }
    let request = world.client.patch(world.admin_url(&path)).body("{\"state\": \"drain\"}");
    assert_eq!(problem(&world.ask(request).await).0, 415);
    let request = world.client.patch(world.admin_url(&format!("{path}?dryrun=true")));
    let answer = world.ask(request.json(&json!({"state": "drain"}))).await;
    assert_eq!(problem(&answer).0, 400);
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let answer = world.ask(world.client.request(method, world.admin_url(&path))).await;
        assert_eq!((problem(&answer).0, answer.header("allow")), (405, "GET,HEAD,PATCH"));
    }
    assert_eq!(world.backend(&world.id(0)).await["admin_since"], before);
    assert_eq!(world.spread(4).await, even(&["s0", "s1"], 2));
}

#[tokio::test]
async fn with_a_token_set_changes_need_it_and_reading_does_not() {
    let world = World::start(2, &[("PROXY_ADMIN_TOKEN", "correct-horse")]).await;
    let url = world.admin_url(&format!("/v1/pools/default/backends/{}", world.id(0)));
    let send = async |token: Option<&str>| {
        let request = world.client.patch(&url).json(&json!({"state": "drain"}));
        let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
        world.ask(request).await
    };
    assert_eq!(problem(&send(None).await).0, 401);
    assert_eq!(problem(&send(Some("incorrect-horse")).await).0, 401);
    assert_eq!(world.backend(&world.id(0)).await["admin"], "ready");
    assert_eq!(send(Some("correct-horse")).await.status, 200);
    assert_eq!(world.backend(&world.id(0)).await["admin"], "drain");
}

#[tokio::test]
async fn with_a_read_token_set_reading_needs_one_of_the_two() {
    let variables =
        [("PROXY_ADMIN_TOKEN", "correct-horse"), ("PROXY_ADMIN_READ_TOKEN", "battery-staple")];
    let world = World::over("http://127.0.0.1:1", &variables, vec![]);
    let read = async |token: &str| {
        let request = world.client.get(world.admin_url("/v1/pools")).bearer_auth(token);
        world.ask(request).await.status
    };
    assert_eq!(read("wrong-token").await, 401);
    assert_eq!(read("battery-staple").await, 200);
    assert_eq!(read("correct-horse").await, 200);
    let probe = world.client.get(world.admin_url("/healthz")).send().await.unwrap();
    assert_eq!(probe.status(), 200, "probes need no token");
}

#[tokio::test]
async fn a_page_of_another_site_cannot_change_anything() {
    let world = World::start(2, &[]).await;
    let url = world.admin_url(&format!("/v1/pools/default/backends/{}", world.id(0)));
    for (name, value) in [("origin", "http://evil.example"), ("host", "evil.example")] {
        let request = world.client.patch(&url).header(name, value);
        let answer = world.ask(request.json(&json!({"state": "drain"}))).await;
        assert_eq!(problem(&answer).0, 403, "{name}");
    }
    assert_eq!(world.backend(&world.id(0)).await["admin"], "ready");
}

#[tokio::test]
async fn changes_appear_on_the_timeline_with_who_and_why() {
    let world = World::start(2, &[]).await;
    let before = world.admin_json("/v1/events").await["last_id"].as_u64().unwrap();
    let url = world.admin_url(&format!("/v1/pools/default/backends/{}", world.id(0)));
    let request = world.client.patch(url).header("x-evenkeel-actor", "ada");
    world.ask(request.json(&json!({"state": "maint", "reason": "new disk"}))).await;
    let events = world.admin_json(&format!("/v1/events?after={before}")).await;
    let event = &events["events"][0];
    assert_eq!(event["message"], "maint (was ready): new disk");
    assert_eq!(event["actor"], "ada (from 127.0.0.1)");

    let mut live = world
        .client
        .get(world.admin_url("/v1/events"))
        .header("accept", "text/event-stream")
        .header("last-event-id", before.to_string())
        .send()
        .await
        .unwrap();
    let chunk = String::from_utf8(live.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(chunk.contains(&format!("id: {}", before + 1)), "{chunk}");
    assert!(chunk.contains("maint (was ready): new disk"), "{chunk}");
}

#[tokio::test]
async fn a_change_with_a_time_limit_reverts_by_itself() {
    let world = World::start(2, &[]).await;
    let (status, backend) =
        world.patch(&world.id(0), json!({"state": "drain", "ttl": "300ms"})).await;
    assert_eq!(status, 200);
    assert!(backend["admin_expires_at"].is_string());
    assert_eq!(backend["admin_reverts_to"]["state"], "ready");
    world.until_eligible(2).await;
    assert_eq!(world.backend(&world.id(0)).await["admin"], "ready");
}

#[tokio::test]
async fn what_stands_below_a_change_with_a_time_limit_is_told_and_outlives_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let variables = [("PROXY_STATE_FILE", path.to_str().unwrap())];
    let mut world = World::start(2, &variables).await;
    let id = world.id(0);
    let maint = json!({"state": "maint", "reason": "new disk", "weight": 3});
    assert_eq!(world.patch(&id, maint).await.0, 200);
    let on_top = |ttl| json!({"state": "ready", "weight": 9, "max_in_flight": 5, "ttl": ttl});
    let (_, backend) = world.patch(&id, on_top("1h")).await;
    assert_eq!((&backend["admin"], &backend["weight"]), (&json!("ready"), &json!(9)));
    let then = &backend["admin_reverts_to"];
    assert_eq!((&then["state"], &then["reason"]), (&json!("maint"), &json!("new disk")));
    assert_eq!(backend["weight_reverts_to"], 3);
    assert_eq!(backend["max_in_flight_reverts_to"], json!(null), "no limit");
    assert_eq!(world.patch(&id, on_top("300ms")).await.0, 200);

    let urls = format!("http://{id},http://{}", world.id(1));
    let servers = std::mem::take(&mut world.servers).into_iter().flatten().collect();
    let next = World::over(&urls, &variables, servers);
    next.until("maintenance", async || next.backend(&id).await["effective"] == "maint").await;
    let backend = next.backend(&id).await;
    assert_eq!((&backend["admin_reason"], &backend["weight"]), (&json!("new disk"), &json!(3)));
    assert_eq!(backend["admin_reverts_to"], json!(null));
}

#[tokio::test]
async fn a_change_that_cannot_be_saved_holds_and_says_so_until_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    // What is in the way where the file is written aside first; also root cannot write there.
    let obstacle = folder.path().join("state.json.new");
    std::fs::create_dir_all(&obstacle).unwrap();
    let variables = [("PROXY_STATE_FILE", path.to_str().unwrap())];
    let world = World::start(2, &variables).await;
    let why = world.admin_json("/v1/pools").await["proxy"]["not_saved_reason"].clone();
    assert!(why.as_str().unwrap().contains("cannot be written"), "told at the start: {why}");

    let (status, backend) = world.patch(&world.id(0), json!({"state": "maint"})).await;
    assert_eq!(
        (status, &backend["admin"], &backend["saved"]),
        (200, &json!("maint"), &json!(false))
    );
    let why = backend["not_saved_reason"].as_str().unwrap();
    assert!(why.contains("state.json cannot be written: Is a directory"), "{why}");
    assert_eq!(world.metric("evenkeel_state_saved").await, 0.0);
    assert!(world.metric("evenkeel_state_write_errors_total").await >= 2.0);
    let events = world.admin_json("/v1/events").await.to_string();
    assert!(events.contains("the change holds, and is lost with this process"), "{events}");
    let audit = world.admin_json("/v1/audit").await["entries"][0].clone();
    assert!(audit["detail"].as_str().unwrap().starts_with("not saved: "), "{audit}");

    // By itself, as soon as nothing is in the way.
    std::fs::remove_dir(&obstacle).unwrap();
    world.until("a saved state", async || world.metric("evenkeel_state_saved").await == 1.0).await;
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"maint\""));
    let events = world.admin_json("/v1/events").await.to_string();
    assert!(events.contains("can be written again"), "{events}");
    let (_, backend) = world.patch(&world.id(0), json!({"state": "ready"})).await;
    assert_eq!((&backend["saved"], &backend["not_saved_reason"]), (&json!(true), &json!(null)));
}

#[tokio::test]
async fn a_state_files_folder_that_is_missing_keeps_nobody_from_serving_and_is_made_later() {
    let folder = tempfile::tempdir().unwrap();
    let (obstacle, path) = (folder.path().join("a"), folder.path().join("a/b/state.json"));
    // Nobody can make a folder in a file, not even root.
    std::fs::write(&obstacle, "").unwrap();
    let world = World::start(2, &[("PROXY_STATE_FILE", path.to_str().unwrap())]).await;
    let why = world.admin_json("/v1/pools").await["proxy"]["not_saved_reason"].clone();
    assert!(why.as_str().unwrap().contains("a/b/state.json cannot be written"), "{why}");
    assert_eq!(world.metric("evenkeel_state_saved").await, 0.0);
    let (status, backend) = world.patch(&world.id(0), json!({"state": "drain"})).await;
    assert_eq!((status, &backend["saved"]), (200, &json!(false)));
    std::fs::remove_file(obstacle).unwrap();
    let (_, backend) = world.patch(&world.id(0), json!({"weight": 3})).await;
    assert_eq!((&backend["saved"], &backend["not_saved_reason"]), (&json!(true), &json!(null)));
    assert_eq!(world.metric("evenkeel_state_saved").await, 1.0);
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(kept.contains("\"drain\"") && kept.contains("\"weight\": 3"), "{kept}");
}

#[tokio::test]
async fn changes_outlive_a_proxy_that_ends_in_whatever_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let variables = [("PROXY_STATE_FILE", path.to_str().unwrap())];
    let mut world = World::start(2, &variables).await;
    let id = world.id(0);
    let change = json!({"state": "maint", "reason": "new disk", "weight": 3});
    assert_eq!(world.patch(&id, change).await.0, 200);
    let since = world.backend(&id).await["admin_since"].clone();
    // Nothing is left to do for an end: what was answered is on disk.
    let urls = format!("http://{id},http://{}", world.id(1));
    let next = World::over(
        &urls,
        &variables,
        std::mem::take(&mut world.servers).into_iter().flatten().collect(),
    );
    next.until_eligible(1).await;
    let backend = next.backend(&id).await;
    assert_eq!((&backend["effective"], &backend["weight"]), (&json!("maint"), &json!(3)));
    assert_eq!((&backend["admin_reason"], &backend["admin_since"]), (&json!("new disk"), &since));
    assert_eq!(next.spread(4).await, even(&["s1"], 4));

    std::fs::write(&path, "{").unwrap();
    let last = World::over(&urls, &variables, vec![]);
    last.until_eligible(2).await;
    let events = last.admin_json("/v1/events").await.to_string();
    assert!(events.contains("is not what was written"), "{events}");
    std::fs::remove_file(format!("{}.unreadable", path.display())).unwrap();
    let _ = std::fs::remove_file(path);
}

#[tokio::test]
async fn failures_and_retries_that_have_not_happened_yet_are_zeros() {
    let world = World::start(2, &[]).await;
    let metrics = async || {
        let answer = world.client.get(world.admin_url("/metrics")).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let series = |name: &str, backend: &str, reason: &str, count: u64| {
        format!("{name}{{pool=\"default\",backend=\"{backend}\",reason=\"{reason}\"}} {count}\n")
    };
    let (id, text) = (world.id(0), metrics().await);
    for (name, backend, reason) in [
        ("evenkeel_failures_total", id.as_str(), "connect_refused"),
        ("evenkeel_failures_total", &id, "reset_mid_body"),
        ("evenkeel_failures_total", "_none", "no_backend"),
        ("evenkeel_failures_total", "_none", "bad_request"),
        ("evenkeel_retries_total", &id, "reset_before_headers"),
    ] {
        assert!(text.contains(&series(name, backend, reason, 0)), "{backend} {reason}:\n{text}");
        assert!(text.contains(&format!("# TYPE {name} counter\n")), "{name}");
    }
    // A pool of a thousand must not be drowned in series: a backend's failures and retries stay
    // well below the sixty of its three histograms.
    let zeros = text.lines().filter(|line| line.contains(&id) && line.contains("reason="));
    assert_eq!(zeros.count(), 15);
    assert!(!text.contains(&format!("backend=\"{id}\",reason=\"no_backend\"")));
    let refused = world.client.request(Method::CONNECT, world.url("/")).send().await.unwrap();
    assert_eq!(refused.status(), 501);
    let text = metrics().await;
    let counted = series("evenkeel_failures_total", "_none", "not_supported", 1);
    assert_eq!(text.matches(&counted).count(), 1, "{text}");
}

#[tokio::test]
async fn the_metrics_count_what_was_served() {
    let world = World::start(2, &[]).await;
    world.spread(6).await;
    world
        .client
        .request(Method::from_bytes(b"BREW").unwrap(), world.url("/"))
        .send()
        .await
        .unwrap();
    let series = |method: &str, code: u16| {
        let backend = world.id(0);
        format!(
            "evenkeel_requests_total{{pool=\"default\",backend=\"{backend}\",\
             method=\"{method}\",code=\"{code}\"}}"
        )
    };
    assert_eq!(world.metric(&series("GET", 200)).await, 3.0);
    let id = world.id(0);
    let count =
        format!("evenkeel_request_duration_seconds_count{{pool=\"default\",backend=\"{id}\"}}");
    assert!(world.metric(&count).await >= 3.0);
    let up = format!("evenkeel_backend_up{{pool=\"default\",backend=\"{id}\"}}");
    assert_eq!(world.metric(&up).await, 1.0);
    let text = world.client.get(world.admin_url("/metrics")).send().await.unwrap();
    assert!(text.text().await.unwrap().contains("method=\"_OTHER\""));
}
