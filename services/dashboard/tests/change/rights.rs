//! Who may change anything.

use crate::{FORM, JSON, PATH, started, support::TOKEN};

const ELSEWHERE: (&str, &str) = ("host", "dashboard.example");
const ITS_ORIGIN: (&str, &str) = ("origin", "http://dashboard.example");

#[tokio::test]
async fn a_change_reaches_the_proxy_only_for_those_who_may() {
    let (admin, dashboard) = started(&[("LOAD_BALANCER_ADMIN_TOKEN", TOKEN)]).await;
    let bearer = format!("Bearer {TOKEN}");
    type Case<'a> = (&'a str, &'a [(&'static str, &'a str)], u16);
    let cases: &[Case<'_>] = &[
        ("from the page on this machine", &[], 200),
        ("under a name that may be rebound", &[ELSEWHERE, ITS_ORIGIN], 403),
        ("from another site's page", &[("origin", "http://evil.example")], 403),
        ("from another site, as fetched", &[("sec-fetch-site", "cross-site")], 403),
        ("from a sandboxed page", &[("origin", "null")], 403),
        ("without a sign of the page", &[("origin", "")], 403),
        ("with the token", &[ELSEWHERE, ("origin", ""), ("authorization", &bearer)], 200),
        ("with a wrong token", &[("origin", ""), ("authorization", "Bearer wrong-one")], 401),
        ("with a made up session", &[ELSEWHERE, ITS_ORIGIN, ("cookie", "evenkeel_session=1")], 403),
    ];
    for (name, headers, status) in cases {
        admin.with(|world| world.changes.clear());
        let answer = dashboard.post(PATH, &FORM, &[headers, &[JSON][..]].concat()).await;
        assert_eq!(answer.status(), *status, "{name}");
        let changes = admin.with(|world| world.changes.clone());
        assert_eq!(changes.len(), usize::from(*status == 200), "{name}");
        if let [change] = &changes[..] {
            assert_eq!((change.pool.as_str(), change.id.as_str()), ("default", "a:1"));
            assert_eq!(change.body, serde_json::json!({"state": "drain", "reason": "update"}));
            assert_eq!(change.token.as_deref(), Some(TOKEN));
            assert!(change.actor.as_deref().unwrap().starts_with("dashboard"));
        } else {
            let problem: serde_json::Value = answer.json().await.unwrap();
            assert!(problem["detail"].as_str().unwrap().len() > 20, "{name}: a sentence");
        }
    }
}

#[tokio::test]
async fn signing_in_with_the_token_opens_the_controls_until_signing_out() {
    let (admin, dashboard) = started(&[("LOAD_BALANCER_ADMIN_TOKEN", TOKEN)]).await;
    let page = |cookie: String| {
        let request = dashboard.client.get(dashboard.url("/")).header("host", ELSEWHERE.1);
        async { request.header("cookie", cookie).send().await.unwrap().text().await.unwrap() }
    };
    let stranger = page(String::new()).await;
    assert!(stranger.contains("Sign in to change") && stranger.contains("disabled"));

    let wrong = dashboard.post("/login", &[("token", "wrong-token")], &[ELSEWHERE, ITS_ORIGIN]);
    let wrong = wrong.await;
    assert_eq!(wrong.status(), 401);
    assert!(wrong.headers().get("set-cookie").is_none());
    assert!(wrong.text().await.unwrap().contains("This token is not the right one"));

    let right = dashboard.post("/login", &[("token", TOKEN)], &[ELSEWHERE, ITS_ORIGIN]).await;
    assert_eq!(right.status(), 303);
    let cookie = right.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let signed_in = page(cookie.clone()).await;
    assert!(signed_in.contains("Sign out") && !signed_in.contains("Sign in to change"));

    let headers = [ELSEWHERE, ITS_ORIGIN, ("cookie", cookie.as_str()), JSON];
    assert_eq!(dashboard.post(PATH, &FORM, &headers).await.status(), 200);
    let foreign = [ELSEWHERE, ("origin", "http://evil.example"), ("cookie", cookie.as_str())];
    assert_eq!(dashboard.post(PATH, &FORM, &foreign).await.status(), 403, "CSRF with a session");
    assert_eq!(dashboard.post("/logout", &[], &foreign).await.status(), 403);
    assert_eq!(dashboard.post("/logout", &[], &headers).await.status(), 303);
    assert_eq!(dashboard.post(PATH, &FORM, &headers).await.status(), 403, "signed out");
    assert_eq!(admin.with(|world| world.changes.len()), 1);
}

#[tokio::test]
async fn the_sixth_wrong_token_within_a_minute_must_wait() {
    let (_admin, dashboard) = started(&[("LOAD_BALANCER_ADMIN_TOKEN", TOKEN)]).await;
    for _ in 0..5 {
        let answer = dashboard.post("/login", &[("token", "wrong-token")], &[]).await;
        assert_eq!(answer.status(), 401);
    }
    let answer = dashboard.post("/login", &[("token", TOKEN)], &[]).await;
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
}
