//! Who may do what: each caller at each address, the refusals included.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod support;

use support::{Dashboard, FakeAdmin, TOKEN, backend, pools};

/// For reading.
const READ_TOKEN: &str = "battery-staple-horse";

const ORIGIN: &str = "http://evil.example";

/// A caller: its name, and the headers that make it.
struct Caller<'a> {
    name: &'a str,
    headers: Vec<(&'static str, &'a str)>,
}

/// A thing to do: how, where, with what form, and the status for each caller in turn.
type Deed = (&'static str, &'static str, &'static [(&'static str, &'static str)], [u16; 8]);

const CHANGE: &[(&str, &str)] = &[("state", "drain")];
const TRY: &[(&str, &str)] = &[("path", "/"), ("method", "GET")];

#[tokio::test]
async fn every_cell_of_who_may_do_what() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let balancer = FakeAdmin::other(axum::Router::new().fallback(|| async { "hello" }));
    let url = balancer.url();
    let settings = [("LOAD_BALANCER_ADMIN_TOKEN", TOKEN), ("LOAD_BALANCER_URL", url.as_str())];
    let dashboard = Dashboard::start(&admin.url(), &settings).ready().await;
    let cookie = signed_in(&dashboard, TOKEN).await;
    let (right, wrong) = (format!("Bearer {TOKEN}"), "Bearer not-the-right-token".to_owned());
    // Whoever comes through a reverse proxy is a stranger, although the connection is local.
    let far = ("x-forwarded-for", "203.0.113.7");
    let caller =
        |name, headers: &[(&'static str, &'static str)]| Caller { name, headers: headers.to_vec() };
    let callers = [
        caller("somebody on this machine", &[]),
        caller("a stranger", &[far]),
        Caller { name: "a stranger who signed in", headers: vec![far, ("cookie", &cookie)] },
        caller("a stranger with a made-up session", &[far, ("cookie", "evenkeel_session=0123")]),
        Caller {
            name: "a script with the token",
            headers: vec![far, ("origin", ""), ("authorization", &right)],
        },
        Caller {
            name: "a script with a wrong token",
            headers: vec![far, ("origin", ""), ("authorization", &wrong)],
        },
        Caller {
            name: "another site in a signed-in browser",
            headers: vec![("origin", ORIGIN), ("cookie", &cookie)],
        },
        caller("a script without any sign", &[("origin", "")]),
    ];
    let read = [200; 8];
    let deeds: [Deed; 12] = [
        ("GET", "/", &[], read),
        ("GET", "/backends/default/a:1", &[], read),
        ("GET", "/backends/default/a:1/effect?state=drain", &[], read),
        ("GET", "/api/state", &[], read),
        ("GET", "/api/series", &[], read),
        ("GET", "/api/export", &[], read),
        ("GET", "/login", &[], read),
        (
            "GET",
            "/backends/default/a:1/change?state=drain",
            &[],
            [200, 403, 200, 403, 403, 403, 200, 200],
        ),
        ("POST", "/backends/default/a:1", CHANGE, [200, 403, 200, 403, 200, 401, 403, 403]),
        ("POST", "/try", TRY, [200, 403, 200, 403, 200, 401, 403, 403]),
        ("POST", "/", &[], [405; 8]),
        ("POST", "/api/state", &[], [405; 8]),
    ];
    let mut expected_changes = 0;
    for (method, path, form, statuses) in deeds {
        for (caller, status) in callers.iter().zip(statuses) {
            let answer = done(&dashboard, (method, path, form), &caller.headers).await;
            let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
            assert!(
                policy.contains("default-src 'none'") && !policy.contains("unsafe"),
                "{policy}"
            );
            assert_eq!(answer.status(), status, "{method} {path} by {}", caller.name);
            expected_changes += usize::from(form == CHANGE && status == 200);
        }
    }
    let changes = admin.with(|world| world.changes.clone());
    assert_eq!(changes.len(), expected_changes, "a refusal reaches nobody");
    assert!(changes.iter().all(|change| change.token.as_deref() == Some(TOKEN)));
}

/// Signs in, and gives the cookie.
async fn signed_in(dashboard: &Dashboard, token: &str) -> String {
    let answer = dashboard.post("/login", &[("token", token)], &[]).await;
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{part} is missing in {cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

/// The answer to a deed by whoever sends these headers.
async fn done(
    dashboard: &Dashboard,
    (method, path, form): (&str, &str, &[(&str, &str)]),
    more: &[(&'static str, &str)],
) -> reqwest::Response {
    let mut headers = more.to_vec();
    if !more.iter().any(|(name, _)| *name == "accept") {
        headers.push(("accept", "application/json"));
    }
    if method != "GET" {
        return dashboard.post(path, form, &headers).await;
    }
    let mut request = dashboard.client.get(dashboard.url(path));
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn every_cell_of_who_may_do_what_where_reading_needs_a_token() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let balancer = FakeAdmin::other(axum::Router::new().fallback(|| async { "hello" }));
    let url = balancer.url();
    let settings = [
        ("LOAD_BALANCER_ADMIN_TOKEN", TOKEN),
        ("DASHBOARD_READ_TOKEN", READ_TOKEN),
        ("LOAD_BALANCER_URL", url.as_str()),
    ];
    let dashboard = Dashboard::start(&admin.url(), &settings).ready().await;
    let reader = signed_in(&dashboard, READ_TOKEN).await;
    let operator = signed_in(&dashboard, TOKEN).await;
    let bearer = |token: &str| format!("Bearer {token}");
    let (reads, changes) = (bearer(READ_TOKEN), bearer(TOKEN));
    let far = ("x-forwarded-for", "203.0.113.7");
    type Headers<'a> = &'a [(&'static str, &'a str)];
    let callers: [(&str, Headers<'_>); 8] = [
        ("somebody on this machine, who may change things", &[]),
        ("a stranger", &[far]),
        ("a stranger who signed in to read", &[far, ("cookie", &reader)]),
        ("a stranger who signed in to change", &[far, ("cookie", &operator)]),
        ("a stranger with a made-up session", &[far, ("cookie", "evenkeel_session=0123")]),
        ("a script that may read", &[far, ("origin", ""), ("authorization", &reads)]),
        ("a script that may change", &[far, ("origin", ""), ("authorization", &changes)]),
        ("another site in an operator's browser", &[("origin", ORIGIN), ("cookie", &operator)]),
    ];
    let read = [200, 401, 200, 200, 401, 200, 200, 200];
    let open = [200; 8];
    let path = "/backends/default/a:1";
    let deeds: [Deed; 17] = [
        ("GET", "/", &[], read),
        ("GET", "/live", &[], read),
        ("GET", path, &[], read),
        ("GET", "/backends/default/a:1/effect?state=drain", &[], read),
        ("GET", "/api/state", &[], read),
        ("GET", "/api/series", &[], read),
        ("GET", "/api/export", &[], read),
        ("GET", "/open", &[], read),
        // Whoever may open a file is told that this is none, if our own form sent it.
        ("POST", "/open", &[], [400, 401, 400, 400, 401, 403, 403, 403]),
        ("GET", "/login", &[], open),
        ("GET", "/healthz", &[], open),
        ("GET", "/readyz", &[], open),
        ("GET", "/metrics", &[], open),
        ("GET", "/nowhere", &[], [404; 8]),
        (
            "GET",
            "/backends/default/a:1/change?state=drain",
            &[],
            [200, 401, 403, 200, 401, 403, 403, 200],
        ),
        ("POST", path, CHANGE, [200, 403, 403, 200, 403, 403, 200, 403]),
        ("POST", "/try", TRY, [200, 403, 403, 200, 403, 403, 200, 403]),
    ];
    let secret = "a:1";
    for (method, path, form, statuses) in deeds {
        for ((name, headers), status) in callers.iter().zip(statuses) {
            let answer = done(&dashboard, (method, path, form), headers).await;
            assert_eq!(answer.status(), status, "{method} {path} by {name}");
            if status == 401 {
                assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{path} by {name}");
                let text = answer.text().await.unwrap();
                assert!(!text.contains(secret), "{path} tells {name}: {text}");
            }
        }
    }
    assert_eq!(admin.with(|world| world.changes.len()), 3, "a refusal reaches nobody");
    // A person gets the form rather than JSON, and in it nothing of what it guards.
    let browser = [far, ("accept", "text/html,*/*")];
    let answer = done(&dashboard, ("GET", path, &[]), &browser).await;
    assert_eq!(answer.status(), 401);
    let form = answer.text().await.unwrap();
    assert!(form.contains("action=\"/login\"") && form.contains("DASHBOARD_READ_TOKEN"), "{form}");
    assert!(!form.contains(secret), "{form}");
    // The page of a reader offers no control.
    let page = done(&dashboard, ("GET", "/", &[]), &[far, ("cookie", &reader)]).await;
    let page = page.text().await.unwrap();
    assert!(page.contains("View only") && page.contains("Sign out"), "{page}");
    assert!(page.contains("Sign in to change"), "{page}");

    let wrong = bearer("not-the-right-token");
    let wrong = [("authorization", wrong.as_str())];
    for path in ["/", "/live", "/api/state", "/api/export", "/open"] {
        let answer = done(&dashboard, ("GET", path, &[]), &wrong).await;
        assert_eq!(answer.status(), 401, "{path} with a wrong token, also on this machine");
    }
    let right = [("authorization", reads.as_str())];
    let answer = done(&dashboard, ("GET", "/api/state", &[]), &right).await;
    assert_eq!(answer.status(), 429, "who guesses must wait");
}

#[tokio::test]
async fn a_session_and_its_feed_end_when_the_token_for_reading_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, READ_TOKEN).unwrap();
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let settings = [("DASHBOARD_READ_TOKEN_FILE", file.to_str().unwrap())];
    let dashboard = Dashboard::start(&admin.url(), &settings).ready().await;
    let cookie = signed_in(&dashboard, READ_TOKEN).await;
    let headers = [("x-forwarded-for", "203.0.113.7"), ("cookie", cookie.as_str())];
    let mut feed = done(&dashboard, ("GET", "/live", &[]), &headers).await;
    assert!(feed.chunk().await.unwrap().is_some());
    let next = folder.path().join("next");
    std::fs::write(&next, "another-token-for-reading").unwrap();
    std::fs::rename(&next, &file).unwrap();
    assert_eq!(done(&dashboard, ("GET", "/", &[]), &headers).await.status(), 401);
    // What the feed would tell next, it does not.
    admin.with(|world| world.pools["pools"][0]["backends"][0]["in_flight"] = 77.into());
    let rest = tokio::time::timeout(support::PATIENCE, async {
        let mut rest = String::new();
        while let Some(chunk) = feed.chunk().await.unwrap() {
            rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        rest
    });
    assert!(!rest.await.expect("the feed ends").contains("77"));
}

#[tokio::test]
async fn who_guesses_the_token_must_wait() {
    let admin = FakeAdmin::start(pools(&[backend("a:1")]));
    let dashboard =
        Dashboard::start(&admin.url(), &[("LOAD_BALANCER_ADMIN_TOKEN", TOKEN)]).ready().await;
    let sign_in = async |token: &str| dashboard.post("/login", &[("token", token)], &[]).await;
    for _ in 0..5 {
        assert_eq!(sign_in("guess-guess-guess").await.status(), 401);
    }
    let answer = sign_in(TOKEN).await;
    assert_eq!(answer.status(), 429, "the right one must wait, too: else the wait would tell");
    assert!(answer.headers().contains_key("retry-after"));
    // The page and its reading go on.
    assert_eq!(dashboard.get("/").await.status(), 200);
}
