//! Who may do what: each caller at each address, the refusals included.

mod support;

use support::{Dashboard, FakeAdmin, TOKEN, backend, pools};

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
    let own = format!("http://{}", dashboard.address);
    let cookie = {
        let answer = dashboard.post("/login", &[("token", TOKEN)], &[]).await;
        assert_eq!(answer.status(), 303);
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
            assert!(cookie.contains(part), "{part} is missing in {cookie}");
        }
        cookie.split(';').next().unwrap().to_owned()
    };
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
            let mut headers = vec![("accept", "application/json")];
            headers.extend(caller.headers.iter().copied());
            let answer = if method == "GET" {
                let mut request = dashboard.client.get(format!("{own}{path}"));
                for (name, value) in &headers {
                    request = request.header(*name, *value);
                }
                request.send().await.unwrap()
            } else {
                dashboard.post(path, form, &headers).await
            };
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
