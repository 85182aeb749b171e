//! A proxy that is away, comes back, or was never there.

mod support;

use axum::Router;
use support::{Dashboard, FakeAdmin, TOKEN, backend, bind, event, pools, web_page};

#[tokio::test]
async fn a_proxy_that_is_away_leaves_its_last_picture_and_recovery_needs_nobody() {
    let mut admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let mut live = dashboard.live().await;
    live.until("The only backend serves").await;

    admin.kill();
    live.until("The proxy does not answer").await;
    let page = dashboard.text("/").await;
    assert!(page.contains("connection refused"), "it says why");
    assert!(page.contains("what LOAD_BALANCER_ADMIN_URL says"), "it says what to do");
    assert!(!page.contains("LOAD_BALANCER_URL"), "and names the setting that was used");
    assert!(page.contains("data-stale=\"true\"") && page.contains(">a:1<"), "greyed, not gone");
    assert!(page.contains("the last picture, <strong>"), "with its age");
    // The page must be reachable above all when the proxy is not.
    assert_eq!(dashboard.get("/readyz").await.status(), 200);

    admin.come_back();
    live.until("The only backend serves").await;
    let page = dashboard.text("/").await;
    assert!(page.contains("data-stale=\"false\"") && !page.contains("LOAD_BALANCER_ADMIN_URL"));
}

#[tokio::test]
async fn a_wrong_address_is_told_from_a_proxy_that_is_away() {
    let page = FakeAdmin::other(Router::new().fallback(web_page));
    let missing = FakeAdmin::other(Router::new());
    let json = FakeAdmin::other(Router::new().fallback(|| async { "{\"status\": \"up\"}" }));
    let wrong = "does not look like Evenkeel&#39;s admin API";
    let cases = [
        (page.url(), "it answered with a web page"),
        (missing.url(), "it answered 404 Not Found"),
        (json.url(), "its answer cannot be read"),
    ];
    for (url, what) in cases {
        let dashboard = Dashboard::start(&url, &[]);
        let told = dashboard.text_with("/", |text| text.contains("class=\"bad\"")).await;
        let told = told.replace('\'', "&#39;");
        assert!(told.contains(wrong) && told.contains(what), "{what}: {told}");
        assert!(told.contains("Set LOAD_BALANCER_ADMIN_URL"));
    }
}

#[tokio::test]
async fn a_port_where_nobody_speaks_http_is_an_error_in_words() {
    let listener = bind(0);
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"SSH-2.0-other\r\n");
        }
    });
    let dashboard = Dashboard::start(&format!("http://{address}"), &[]);
    let told = dashboard.text_with("/api/state", |text| !text.contains("\"error\":null")).await;
    assert!(told.contains("LOAD_BALANCER_ADMIN_URL"), "{told}");
}

#[tokio::test]
async fn events_of_a_restarted_proxy_follow_those_before() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    admin.with(|world| world.events = vec![event(1, "first life"), event(2, "also then")]);
    let dashboard = Dashboard::start(&admin.url(), &[]);
    dashboard.text_with("/", |text| text.contains("also then")).await;
    admin.with(|world| {
        world.pools["proxy"]["started_at"] = "2026-11-23T16:00:00.000Z".into();
        world.events = vec![event(1, "second life")];
    });
    let page = dashboard.text_with("/", |text| text.contains("second life")).await;
    let at = |text: &str| page.find(text).unwrap();
    assert!(at("second life") < at("also then") && at("also then") < at("first life"));
    for number in 1..=3 {
        assert_eq!(page.matches(&format!("id=\"e{number}\"")).count(), 1, "ids stay unique");
    }
}

#[tokio::test]
async fn a_proxy_that_wants_a_token_for_reading_gets_it() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    admin.with(|world| world.read_token = Some(TOKEN));
    let without = Dashboard::start(&admin.url(), &[]);
    without.text_with("/", |text| text.contains("wants a token for reading")).await;
    let with = [("LOAD_BALANCER_ADMIN_TOKEN", TOKEN)];
    Dashboard::start(&admin.url(), &with).ready().await;
}

#[tokio::test]
async fn a_token_that_the_proxy_does_not_take_is_told_as_such_and_not_shown_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "yesterdays-token").unwrap();
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    admin.with(|world| world.read_token = Some(TOKEN));
    let settings = [("LOAD_BALANCER_ADMIN_TOKEN_FILE", file.to_str().unwrap())];
    let dashboard = Dashboard::start(&admin.url(), &settings);
    dashboard.text_with("/", |text| text.contains("is not the token of the proxy at")).await;
    let is_tenth =
        |text: &str| text.contains("evenkeel_dashboard_polls_total{result=\"refused\"} 10");
    dashboard.text_with("/metrics", is_tenth).await;
    assert_eq!(admin.with(|world| world.wrong_tokens), 1);
    std::fs::write(&file, TOKEN).unwrap();
    dashboard.ready().await;
}

#[tokio::test]
async fn a_proxy_that_looks_at_no_token_for_a_while_is_told_as_such() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    admin.with(|world| (world.read_token, world.is_limited) = (Some(TOKEN), true));
    let with = [("LOAD_BALANCER_ADMIN_TOKEN", TOKEN)];
    let dashboard = Dashboard::start(&admin.url(), &with);
    let told = dashboard.text_with("/", |text| text.contains("Too many wrong tokens came")).await;
    assert!(told.contains("asked again after 6 s") && !told.contains("LOAD_BALANCER_ADMIN_URL"));
}
