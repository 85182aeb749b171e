//! What the pages tell beyond the rows: one backend, overrides, order, series, a request to try.

mod support;

use std::io::{Read, Write};

use axum::{Router, http::HeaderMap, routing::get};
use serde_json::{Value, json};
use support::{Dashboard, FakeAdmin, TOKEN, backend, dry_run, event, pools};

fn three() -> Value {
    let mut all: Vec<Value> = ["a:1", "b:1", "c:1"].map(backend).into();
    for (index, one) in all.iter_mut().enumerate() {
        one["traffic"]["requests_per_second"] = json!([5.0, 90.0, 20.0][index]);
    }
    (all[2]["admin"], all[2]["effective"]) = (json!("drain"), json!("drained"));
    (all[2]["admin_reason"], all[2]["admin_actor"]) = (json!("kernel update"), json!("ann"));
    all[2]["admin_expires_at"] = json!("2026-11-23T16:00:12.000Z");
    all[2]["admin_reverts_to"] = json!({"state": "maint", "since": "2026-11-23T14:00:00.000Z",
        "reason": "new disk", "actor": "bob"});
    pools(&all)
}

#[tokio::test]
async fn a_backend_has_a_page_with_its_probes_events_and_what_a_change_would_do() {
    let admin = FakeAdmin::start(three());
    admin.with(|world| {
        let mut own = event(1, "it came up");
        own["backend"] = json!("a:1");
        world.events = vec![own, event(2, "somebody else")];
    });
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page =
        dashboard.text_with("/backends/default/a:1", |text| text.contains("it came up")).await;
    assert!(page.contains("connected in 0.3 ms") && !page.contains("somebody else"), "{page}");
    assert!(page.contains("Then 2 of 3 serve; its 15/s go to them: about 30/s each"), "{page}");
    assert!(
        page.contains("data-feed=\"/live?window=minutes&amp;pool=default&amp;id=a%3A1\""),
        "{page}"
    );
    assert_eq!(dashboard.get("/backends/default/nobody").await.status(), 404);
}

#[tokio::test]
async fn what_a_change_would_do_is_the_proxys_own_word_for_readers_too() {
    let admin = FakeAdmin::start(three());
    admin.with(|world| {
        world.read_token = Some(TOKEN);
        world.dry_run = Some(dry_run(2, 1, Some("a:1 would stay as it is: too few are left")));
    });
    let token = [("LOAD_BALANCER_ADMIN_TOKEN", TOKEN)];
    let dashboard = Dashboard::start(&admin.url(), &token).ready().await;
    let path = "/backends/default/a:1/effect?weight=0";
    // Through a reverse proxy: nobody has signed in.
    let stranger =
        dashboard.client.get(dashboard.url(path)).header("x-forwarded-for", "203.0.113.7");
    let effect = stranger.send().await.unwrap().text().await.unwrap();
    let expected = "The proxy would refuse it: too few are left. Then 1 of 3 serve; its 15/s go to \
                    them: about 30/s each, 100% more than now.";
    assert!(effect.contains(expected), "{effect}");
    let asked = admin.with(|world| world.dry_runs.last().cloned()).unwrap();
    assert_eq!((asked.id.as_str(), &asked.body), ("a:1", &json!({"weight": 0})));
    assert_eq!(asked.token.as_deref(), Some(TOKEN));
    assert!(admin.with(|world| world.changes.is_empty()), "asking changes nothing");
    let question = dashboard.text("/backends/default/a:1/change?state=drain").await;
    assert!(question.contains("The proxy would refuse it"), "without JavaScript, too");
    let bad = dashboard.get("/backends/default/a:1/effect?weight=257").await;
    assert_eq!(bad.status(), 400);
}

#[tokio::test]
async fn a_weight_is_shown_with_who_set_it_and_can_be_taken_back() {
    let mut all = three();
    let weighted = &mut all["pools"][0]["backends"][1];
    (weighted["weight"], weighted["weight_wanted"]) = (json!(3), json!(3));
    (weighted["configured_weight"], weighted["weight_reverts_to"]) = (json!(1), json!(2));
    (weighted["weight_actor"], weighted["weight_reason"]) = (json!("ann"), json!("bigger disk"));
    weighted["weight_since"] = json!("2026-11-23T15:00:10.000Z");
    weighted["weight_expires_at"] = json!("2026-11-23T16:00:12.000Z");
    let admin = FakeAdmin::start(all);
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/").await;
    let told = page.split("id=\"overrides\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(page.contains("2 overrides in force"), "{page}");
    for part in ["weight 3</strong> instead of 1", "by ann", "<q>bigger disk</q>", ", then 2"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let page = dashboard.text("/backends/default/b:1").await;
    for part in ["Set weight", "Back to the configured weight, 1", "bigger disk", "16:00:12 UTC"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let other = dashboard.text("/backends/default/a:1").await;
    // Where nothing is set it stands in its place, too, and does nothing.
    assert!(
        other.contains("Set weight") && other.contains("disabled>Back to the configured weight")
    );
    assert!(!page.contains("disabled>Back to the configured weight"), "{page}");
}

#[tokio::test]
async fn a_limit_is_shown_with_who_set_it_and_can_be_taken_back() {
    let mut all = three();
    let limited = &mut all["pools"][0]["backends"][1];
    (limited["max_in_flight"], limited["max_in_flight_wanted"]) = (json!(3), json!(3));
    limited["configured_max_in_flight"] = json!(40);
    limited["max_in_flight_actor"] = json!("ann");
    limited["max_in_flight_reason"] = json!("it swaps");
    limited["max_in_flight_since"] = json!("2026-11-23T15:00:10.000Z");
    limited["max_in_flight_expires_at"] = json!("2026-11-23T16:00:12.000Z");
    let admin = FakeAdmin::start(all);
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/").await;
    assert!(page.contains("2 overrides"), "{page}");
    let told = page.split("id=\"overrides\"").nth(1).unwrap().split("</section>").next().unwrap();
    for part in [
        "at most 3 in flight</strong> instead of at most 40 in flight",
        "by ann",
        "<q>it swaps</q>",
        ", then no limit",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let page = dashboard.text("/backends/default/b:1").await;
    for part in [
        "Set limit",
        "Back to the configured limit, 40",
        "it swaps",
        "16:00:12 UTC",
        "At most 3 in flight instead of at most 40 in flight",
        "change?max_in_flight=",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let other = dashboard.text("/backends/default/a:1").await;
    assert!(other.contains("Set limit") && other.contains("disabled>Back to the configured limit"));
}

#[tokio::test]
async fn a_backends_page_shows_what_its_last_probe_got() {
    let mut backends = [backend("a:1"), backend("b:1")];
    backends[0]["last_probe"]["first_bytes"] = json!("<b>ready</b>\\n");
    backends[1]["last_probe"] = json!({"at": "2026-11-23T15:00:11.000Z", "passed": false,
        "detail": "no answer within 1s", "duration_ms": 1003.0, "streak": 1});
    let admin = FakeAdmin::start(pools(&backends));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let probes = async |id: &str| {
        let page = dashboard.text(&format!("/backends/default/{id}")).await;
        page.split("id=\"probes\"").nth(1).unwrap().split("</section>").next().unwrap().to_owned()
    };
    let (passed, failed) = (probes("a:1").await, probes("b:1").await);
    assert!(passed.contains("<code>&lt;b&gt;ready&lt;/b&gt;\\n</code>"), "{passed}");
    assert!(
        failed.contains("no answer within 1s<span class=\"quiet\"> · after 1 s</span>"),
        "{failed}"
    );
}

#[tokio::test]
async fn an_override_is_shown_with_reason_actor_and_end() {
    let admin = FakeAdmin::start(three());
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/").await;
    let told = page.split("id=\"overrides\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(page.contains("1 override in force"), "{page}");
    for part in [
        "c:1",
        "by ann",
        "kernel update",
        "16:00:12 UTC",
        ", in 59 min",
        ", then not ready again, by bob: <q>new disk</q>",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[tokio::test]
async fn the_ways_to_another_order_and_to_another_window_keep_one_another() {
    let admin = FakeAdmin::start(three());
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/?window=hour&sort=rate").await;
    for way in ["window=hour&amp;sort=rate-turned", "window=hour&amp;sort=name", "sort=rate"] {
        assert!(page.contains(&format!("href=\"/?{way}\"")), "{way}: {page}");
    }
    let page = dashboard.text("/").await;
    for way in ["sort=rate", "window=hour"] {
        assert!(page.contains(&format!("href=\"/?{way}\"")), "{way}: {page}");
    }
}

#[tokio::test]
async fn a_page_without_a_script_can_be_told_to_stand_still_and_its_links_lead_to_such_pages() {
    let admin = FakeAdmin::start(three());
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let refresh = "http-equiv=\"refresh\"";
    for path in ["/", "/backends/default/b:1"] {
        let page = dashboard.text(&format!("{path}?window=hour")).await;
        let stop = page.find(&format!("href=\"{path}?window=hour&amp;still=yes\"")).unwrap();
        assert!(page.contains(refresh) && stop < page.find("<main").unwrap(), "{page}");

        let page = dashboard.text(&format!("{path}?still=yes")).await;
        assert!(!page.contains(refresh), "{page}");
        assert!(page.contains(&format!("href=\"{path}?still=no\"")), "{page}");

        let from = dashboard.url("/?still=yes");
        let answer = dashboard.client.get(dashboard.url(path)).header("referer", from);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.headers()["location"], format!("{path}?still=yes"));
    }
}

#[tokio::test]
async fn rows_can_be_put_in_order_without_a_script() {
    let admin = FakeAdmin::start(three());
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    for (query, order) in [
        ("", ["a:1", "b:1", "c:1"]),
        ("?sort=rate", ["b:1", "c:1", "a:1"]),
        ("?sort=rate-turned", ["a:1", "c:1", "b:1"]),
        ("?sort=state", ["c:1", "a:1", "b:1"]),
        ("?sort=share", ["b:1", "c:1", "a:1"]),
        ("?sort=operator", ["c:1", "a:1", "b:1"]),
        ("?sort=nonsense", ["a:1", "b:1", "c:1"]),
    ] {
        let page = dashboard.text(&format!("/{query}")).await;
        let body = page.split("<tbody").nth(1).unwrap();
        let places = order.map(|id| body.find(&format!(">{id}</a>")).unwrap());
        assert!(places.is_sorted(), "{query}: {places:?}");
    }
}

#[tokio::test]
async fn the_hour_can_be_had_as_one_file_and_as_series() {
    let admin = FakeAdmin::start(three());
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let answer = dashboard.get("/api/export").await;
    let name = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(name.starts_with("attachment; filename=\"evenkeel-2"), "{name}");
    let file: Value = answer.json().await.unwrap();
    assert_eq!(file["format"], "evenkeel-hour-1");
    assert_eq!(file["backends"].as_array().unwrap().len(), 3);
    assert!(file["totals"]["in_flight"].as_array().unwrap().iter().any(|slot| slot == 9.0));
    let series = dashboard.text("/api/series?window=hour&pool=default&id=b:1").await;
    let series: Value = serde_json::from_str(&series).unwrap();
    assert_eq!(series["step_seconds"], 10);
}

#[tokio::test]
async fn a_request_to_try_tells_who_answered_and_goes_nowhere_else() {
    let answer = |headers: HeaderMap| async move {
        assert!(!headers.contains_key("cookie"), "the visitor's cookies stay here");
        ([("x-served-by", "server-7")], "<b>hello</b>")
    };
    let balancer = FakeAdmin::other(Router::new().route("/echo", get(answer)));
    let admin = FakeAdmin::start(three());
    let url = balancer.url();
    let dashboard =
        Dashboard::start(&admin.url(), &[("LOAD_BALANCER_URL", url.as_str())]).ready().await;
    let page = dashboard.post("/try", &[("path", "/echo"), ("method", "GET")], &[]).await;
    let page = page.text().await.unwrap();
    assert!(page.contains("200 OK") && page.contains("server-7"), "{page}");
    assert!(page.contains("&lt;b&gt;hello&lt;/b&gt;"), "an answer is only text");
    for (form, more, status) in [
        ([("path", "//evil"), ("method", "GET")], [("x-a", "b")], 400),
        ([("path", "/"), ("method", "DELETE")], [("x-a", "b")], 400),
        ([("path", "/"), ("method", "GET")], [("origin", "http://evil.example")], 403),
    ] {
        assert_eq!(dashboard.post("/try", &form, &more).await.status(), status, "{form:?}");
    }
}

#[tokio::test]
async fn text_in_a_pipe_is_the_same_table_once() {
    let admin = FakeAdmin::start(three());
    let url = admin.url();
    let output = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel-dashboard"));
        command.env_clear().args(["--text", "--load-balancer-admin-url", &url]).output().unwrap()
    })
    .await
    .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("2 of 3 serve: c:1 is drained\n"), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.contains(":1")).skip(1).collect();
    assert!(rows[0].starts_with("Drained") && rows[0].contains("kernel update"), "{text}");
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn nothing_is_saved_before_a_proxy_has_answered() {
    let mut admin = FakeAdmin::start(pools(&[backend("a:1")]));
    admin.kill();
    let dashboard = Dashboard::start(&admin.url(), &[]);
    let answer = dashboard.get("/api/export").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("No proxy has answered yet"));
}

#[tokio::test]
async fn a_saved_hour_is_opened_again_without_a_proxy() {
    let mut admin = FakeAdmin::start(three());
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let file = dashboard.text("/api/export").await;
    admin.kill();
    let body = |file: &str, more: &[(&str, &str)]| {
        let part = |(name, text): &(&str, &str)| {
            format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        };
        let more: String = more.iter().map(part).collect();
        format!("{}{more}--x--\r\n", part(&("file", file)))
    };
    let send_more = async |file: &str, origin: &str, more: &[(&str, &str)]| {
        let answer = dashboard
            .client
            .post(dashboard.url("/open"))
            .header("origin", origin)
            .header("content-type", "multipart/form-data; boundary=x")
            .body(body(file, more))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let send = async |file: &str, origin: &str| send_more(file, origin, &[]).await;
    let own = dashboard.url("");
    let (status, page) = send(&file, &own).await;
    assert_eq!(status, 200, "{page}");
    assert!(
        page.contains("from a file") && page.contains("2 of 3 serve: c:1 is drained"),
        "{page}"
    );
    assert!(!page.contains("data-feed") && page.contains("kernel update"));
    assert!(!page.contains("Sign in") && !page.contains("/backends/"), "nothing can be changed");
    // The values under the pointer, and the file itself for what leads on.
    assert!(page.contains("id=\"series\"") && page.contains("evenkeel-hour-1"));
    let sorted = send_more(&file, &own, &[("sort", "rate")]).await.1;
    let places = ["b:1", "c:1", "a:1"].map(|id| sorted.find(&format!(">{id}</button>")).unwrap());
    assert!(places.is_sorted(), "{places:?}");
    let row = page.split("name=\"backend\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let (status, own_page) = send_more(&file, &own, &[("backend", row)]).await;
    assert_eq!(status, 200);
    assert!(own_page.contains("41% of the requests"), "{own_page}");
    assert!(own_page.contains("All backends of the file") && own_page.contains("panel-rate"));
    let evil = file.replace("edge-1", "</textarea></script><script><!--file-->");
    let (status, page) = send(&evil, &own).await;
    assert!(status == 200 && !page.contains("<script>"), "{page}");
    assert_eq!(send("{}", &own).await.0, 400);
    assert_eq!(send(&file.replace("hour-1", "hour-9"), &own).await.0, 400);
    assert_eq!(
        send(&file, "http://evil.example").await.0,
        403,
        "no other site shows its page here"
    );
}

/// As a browser sends it: all of it, and only then it looks for an answer.
#[tokio::test]
async fn a_file_that_is_too_large_is_refused_in_words_once_it_is_there() {
    let dashboard = Dashboard::start("http://127.0.0.1:1", &[]);
    let head = format!(
        "POST /open HTTP/1.1\r\nhost: {0}\r\norigin: http://{0}\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=x\r\ncontent-length: {1}\r\n\r\n",
        dashboard.address,
        32 << 20
    );
    let address = dashboard.address;
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; 32 << 20]).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("larger than 16 MiB"),
        "{answer}"
    );
}
