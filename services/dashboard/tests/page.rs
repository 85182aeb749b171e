//! The page as a document.

mod support;

use serde_json::json;
use support::{Dashboard, FakeAdmin, backend, event, pools};

#[tokio::test]
async fn every_answer_keeps_other_sites_out() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let paths = [
        "/",
        "/login",
        "/live",
        "/api/state",
        "/nowhere",
        "/assets/style.css",
        "/metrics",
        "/readyz",
    ];
    for path in paths {
        let answer = dashboard.get(path).await;
        let header = |name: &str| {
            answer.headers().get(name).unwrap_or_else(|| panic!("{path}: {name}")).to_str().unwrap()
        };
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "same-origin");
        header("cache-control");
    }
    let page = dashboard.text("/").await;
    for inline in [" style=", " onclick=", "<style", "<script>", "javascript:", "//cdn"] {
        assert!(!page.contains(inline), "{inline} would not pass the policy");
    }
}

#[tokio::test]
async fn the_files_of_the_page_are_there_and_may_be_kept_for_ever() {
    let admin = FakeAdmin::start(pools(&[]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/").await;
    let urls: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert_eq!(urls.len(), 3, "{urls:?}");
    for url in urls {
        let answer = dashboard.get(url).await;
        assert_eq!(answer.status(), 200, "{url}");
        assert!(answer.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    }
}

#[tokio::test]
async fn hostile_names_and_reasons_are_only_text() {
    let evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>/../?#%2f'";
    let mut hostile = backend(evil);
    for field in ["health_reason", "admin_reason", "admin_actor", "url"] {
        hostile[field] = evil.into();
    }
    hostile["admin"] = "drain".into();
    hostile["last_probe"]["detail"] = evil.into();
    hostile["reasons"] = json!([evil]);
    let mut answer = pools(&[hostile]);
    answer["pools"][0]["source"] = json!({"kind": "dns", "text": evil, "error": evil});
    answer["proxy"]["name"] = evil.into();
    answer["proxy"]["ready"] = false.into();
    answer["proxy"]["not_ready_reasons"] = json!([evil]);
    let admin = FakeAdmin::start(answer);
    admin.with(|world| {
        let mut said = event(1, evil);
        (said["backend"], said["actor"], said["kind"]) = ("x".into(), evil.into(), evil.into());
        said["at"] = evil.into();
        world.events = vec![said];
    });
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text_with("/", |text| text.contains("id=\"e1\"")).await;
    assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
    let patch = dashboard.live().await.next().await.unwrap();
    let pools = patch["html"]["pools"].as_str().unwrap();
    assert!(!pools.contains("<script>") && !pools.contains("<img"));

    // The controls still work for such an id: its path leads to the question and to the proxy.
    let action = page.split("data-action=\"").nth(1).unwrap().split('"').next().unwrap();
    let question = dashboard.get(&format!("{action}/change?state=ready")).await;
    assert_eq!(question.status(), 200, "{action}");
    assert!(!question.text().await.unwrap().contains("<script>"));
    let done = dashboard.post(action, &[("state", "ready")], &[]).await;
    assert_eq!(done.status(), 303);
    assert_eq!(admin.with(|world| world.changes[0].id.clone()), evil);
}

#[tokio::test]
async fn one_none_and_five_hundred_backends_are_shown() {
    let admin = FakeAdmin::start(pools(&[]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let none = dashboard.text("/").await;
    assert!(none.contains("There are no backends yet") && none.contains("PROXY_BACKENDS"));

    admin.with(|world| world.pools = pools(&[backend("a:1")]));
    dashboard.text_with("/", |text| text.contains("The only backend serves")).await;

    let many: Vec<_> =
        (0..500).map(|n| backend(&format!("10.0.{}.{}:80", n / 250, n % 250))).collect();
    admin.with(|world| world.pools = pools(&many));
    let page = dashboard.text_with("/", |text| text.contains("All 500 backends serve")).await;
    assert_eq!(page.matches("<tr id=").count(), 500);
    let ids: std::collections::BTreeSet<&str> =
        page.split("<tr id=\"").skip(1).map(|row| row.split('"').next().unwrap()).collect();
    assert_eq!(ids.len(), 500, "each row has its own id");
}

#[tokio::test]
async fn each_of_five_hundred_rows_tells_its_reason_its_weight_and_a_share_that_is_not_nothing() {
    let mut many: Vec<_> =
        (0..500).map(|n| backend(&format!("10.0.{}.{}:80", n / 250, n % 250))).collect();
    for one in &mut many {
        one["traffic"]["requests_per_second"] = json!(2.0);
    }
    let mut answer = pools(&many);
    answer["pools"][0]["traffic"]["requests_per_second"] = json!(1_000.0);
    let admin = FakeAdmin::start(answer);
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/").await;
    assert_eq!(page.matches("<span class=\"value\">0.2%</span>").count(), 500);
    assert_eq!(page.matches("title=\"it connects\">it connects</small>").count(), 500);
    assert_eq!(page.matches("data-label=\"Weight\"><span class=\"value\">1</span>").count(), 500);
    let own = dashboard.text("/backends/default/10.0.0.7:80").await;
    assert!(own.contains("0.2% of the requests"), "{own}");
}

#[tokio::test]
async fn a_look_up_that_fails_is_told_among_the_notices() {
    let mut answer = pools(&[backend("a:1")]);
    answer["pools"][0]["source"]["error"] = json!("no such name");
    let admin = FakeAdmin::start(answer);
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/").await;
    let notice =
        page.split("id=\"notice\"").nth(1).unwrap().split("id=\"freshness\"").next().unwrap();
    assert!(notice.contains("fails, and those known stay: no such name"), "{notice}");
}

#[tokio::test]
async fn a_proxy_of_another_version_is_still_shown() {
    let admin = FakeAdmin::start(json!({
        "proxy": {"started_at": "some time", "news": [1, 2]},
        "pools": [{"name": "default", "backends": [
            {"id": "a", "admin": "asleep", "health": "sleepy", "effective": "dreaming"},
            {"id": "b", "admin": null, "health": 7, "effective": {"state": "new"}, "eligible": true},
            {"id": "c"},
        ]}],
    }));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/").await;
    assert!(page.contains("1 of 3 serve: a does not serve, c does not serve"), "{page}");
}

#[tokio::test]
async fn degraded_and_ejected_have_a_word_a_colour_and_a_shape_of_their_own() {
    let mut degraded = backend("a:1");
    (degraded["health"], degraded["effective"]) = (json!("degraded"), json!("degraded"));
    degraded["eligible"] = json!(false);
    let mut ejected = backend("b:1");
    (ejected["health"], ejected["effective"]) = (json!("ejected"), json!("ejected"));
    let admin = FakeAdmin::start(pools(&[degraded, ejected, backend("c:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let page = dashboard.text("/").await;
    assert!(page.contains("1 of 3 serve: b:1 is ejected, a:1 is degraded and spared"), "{page}");
    let shapes: std::collections::BTreeSet<&str> = ["busy", "bad", "good"]
        .iter()
        .map(|tone| {
            let health = page.split(&format!("<strong class=\"{tone}\" data-rank")).nth(1).unwrap();
            health.split(" d=\"").nth(1).unwrap().split('"').next().unwrap()
        })
        .collect();
    assert_eq!(shapes.len(), 3, "colour is not the only sign");
}

#[tokio::test]
async fn what_the_dashboard_counts_is_in_its_metrics() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    dashboard.post("/backends/default/a:1", &[("state", "ready")], &[]).await;
    dashboard.post("/backends/default/a:1", &[("state", "ready")], &[("origin", "null")]).await;
    let metrics = dashboard.text("/metrics").await;
    for series in [
        "evenkeel_dashboard_polls_total{result=\"ok\"}",
        "evenkeel_dashboard_changes_total{result=\"done\"} 1",
        "evenkeel_dashboard_changes_total{result=\"forbidden\"} 1",
        "evenkeel_dashboard_live_clients 0",
    ] {
        assert!(metrics.contains(series), "{series} is missing in:\n{metrics}");
    }
}
