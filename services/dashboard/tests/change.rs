//! Who may change what, and what they are told.

mod support;

use chassis::wall;
use support::{Dashboard, FakeAdmin, SAID, TOKEN, backend, pools, said_by_ann, unsaid};

const JSON: (&str, &str) = ("accept", "application/json");
const ELSEWHERE: (&str, &str) = ("host", "dashboard.example");
const ITS_ORIGIN: (&str, &str) = ("origin", "http://dashboard.example");
const FORM: [(&str, &str); 2] = [("state", "drain"), ("reason", "update")];
const PATH: &str = "/backends/default/a:1";

async fn started(settings: &[(&str, &str)]) -> (FakeAdmin, Dashboard) {
    let admin = FakeAdmin::start(pools(&[backend("a:1"), backend("b:2")]));
    let dashboard = Dashboard::start(&admin.url(), settings).ready().await;
    (admin, dashboard)
}

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

#[tokio::test]
async fn without_javascript_forms_ask_do_and_show_the_result() {
    let (admin, dashboard) = started(&[]).await;
    let question = dashboard.text(&format!("{PATH}/change?state=drain")).await;
    assert!(question.contains("Set a:1 to drain?"));
    assert!(question.contains(&format!("action=\"{PATH}\"")), "{question}");
    let done = dashboard.post(PATH, &FORM, &[]).await;
    assert_eq!(done.status(), 303);
    let back = done.headers()["location"].to_str().unwrap().to_owned();
    assert!(dashboard.text(&back).await.contains("a:1 is set to drain."));
    assert!(!dashboard.text("/?result=a%20lie").await.contains("a lie"), "no text by link");
    assert_eq!(admin.with(|world| world.changes.len()), 1);
}

fn location(answer: &reqwest::Response) -> &str {
    answer.headers()["location"].to_str().expect("an address is text")
}

#[tokio::test]
async fn without_javascript_all_of_a_change_keeps_how_the_page_is_shown() {
    let (admin, dashboard) = started(&[]).await;
    let ask = async |query: &str, from: &str| {
        let request = dashboard.client.get(dashboard.url(&format!("{PATH}/change?{query}")));
        let answer = request.header("referer", dashboard.url(from)).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let has_fields = |page: &str| {
        let fields = ["name=\"window\" value=\"hour\"", "name=\"sort\" value=\"rate-turned\""];
        assert!(fields.iter().all(|field| page.contains(field)), "{page}");
    };
    let from = "/?window=hour&sort=rate-turned&result=1";
    let question = ask("state=drain", from).await;
    has_fields(&question);
    let cancel = "href=\"/?window=hour&amp;sort=rate-turned\">Cancel";
    assert!(question.contains(cancel), "{question}");
    // Of a number there are two questions, and the second comes from the first.
    has_fields(&ask("weight=", from).await);
    has_fields(&ask("weight=3&window=hour&sort=rate-turned", &format!("{PATH}/change")).await);

    let form = [FORM[0], ("window", "hour"), ("sort", "rate-turned")];
    let done = dashboard.post(PATH, &form, &[]).await;
    let back = location(&done);
    assert!(back.starts_with("/?window=hour&sort=rate-turned&result="), "{back}");
    let page = dashboard.text(back).await;
    assert!(page.contains("a:1 is set to drain.") && page.contains("over an hour"), "{page}");
    admin.with(|world| world.refusal = Some((503, "it is stopping")));
    let refused = dashboard.post(PATH, &form, &[]).await;
    let back = location(&refused);
    assert!(back.starts_with("/?window=hour&sort=rate-turned&result="), "{back}");
    admin.with(|world| world.refusal = Some((409, "too few would be left")));
    has_fields(&dashboard.post(PATH, &form, &[]).await.text().await.unwrap());
}

#[tokio::test]
async fn nothing_that_a_link_or_a_form_says_leads_elsewhere_after_a_change() {
    let (_admin, dashboard) = started(&[]).await;
    for value in ["//evil.example", "https://evil.example/", "hour&x=1", "rate\r\nx: y", "/login"] {
        let form = [FORM[0], ("window", value), ("sort", value), ("next", value)];
        let done = dashboard.post(PATH, &form, &[("referer", "http://evil.example/")]).await;
        let back = location(&done);
        let is_ours = back
            .strip_prefix("/?result=")
            .is_some_and(|id| id.len() > 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(is_ours, "{value}: {back}");
    }
}

#[tokio::test]
async fn a_weight_is_set_and_taken_back_with_and_without_javascript() {
    let (admin, dashboard) = started(&[]).await;
    let last = || admin.with(|world| world.changes.last().cloned()).unwrap().body;
    let number = dashboard.text(&format!("{PATH}/change?weight=")).await;
    assert!(number.contains("Which weight for a:1?") && number.contains("max=\"256\""));
    let question = dashboard.text(&format!("{PATH}/change?weight=3")).await;
    assert!(question.contains("Set a:1 to weight 3?") && question.contains("Then 2 of 3 serve"));
    assert!(question.contains("name=\"weight\" value=\"3\""), "{question}");
    let form = [("weight", "3"), ("reason", "bigger"), ("ttl", "1h")];
    let done = dashboard.post(PATH, &form, &[]).await;
    let back = done.headers()["location"].to_str().unwrap().to_owned();
    assert!(dashboard.text(&back).await.contains("a:1 is set to weight 3."));
    assert_eq!(last(), serde_json::json!({"weight": 3, "reason": "bigger", "ttl": "1h"}));

    // The script's dialog has both fields, of which one is empty.
    let form = [("state", ""), ("weight", "configured"), ("reason", "")];
    let answer = dashboard.post(PATH, &form, &[JSON]).await;
    assert!(answer.text().await.unwrap().contains("a:1 is set to its configured weight."));
    assert_eq!(last(), serde_json::json!({"weight": null}));
}

#[tokio::test]
async fn a_limit_is_set_and_taken_back_with_and_without_javascript() {
    let (admin, dashboard) = started(&[]).await;
    let last = || admin.with(|world| world.changes.last().cloned()).unwrap().body;
    let number = dashboard.text(&format!("{PATH}/change?max_in_flight=")).await;
    assert!(number.contains("Which limit of requests in flight for a:1?"), "{number}");
    assert!(number.contains("name=\"max_in_flight\"") && number.contains("max=\"1000000\""));
    let question = dashboard.text(&format!("{PATH}/change?max_in_flight=3")).await;
    assert!(question.contains("Set a:1 to at most 3 in flight?"), "{question}");
    assert!(question.contains("It has 1 request in flight now, which is not above the limit."));
    assert!(question.contains("name=\"max_in_flight\" value=\"3\""), "{question}");
    let form = [("max_in_flight", "3"), ("reason", "it swaps"), ("ttl", "1h")];
    let done = dashboard.post(PATH, &form, &[]).await;
    let back = done.headers()["location"].to_str().unwrap().to_owned();
    assert!(dashboard.text(&back).await.contains("a:1 is set to at most 3 in flight."));
    let expected = serde_json::json!({"max_in_flight": 3, "reason": "it swaps", "ttl": "1h"});
    assert_eq!(last(), expected);

    // The script's dialog has all fields, of which the others are empty.
    let form = [("state", ""), ("weight", ""), ("max_in_flight", "configured"), ("reason", "")];
    let answer = dashboard.post(PATH, &form, &[JSON]).await;
    let told = answer.text().await.unwrap();
    assert!(told.contains("a:1 is set to its configured limit of requests in flight."), "{told}");
    assert_eq!(last(), serde_json::json!({"max_in_flight": null}));
}

#[tokio::test]
async fn the_last_usable_backend_is_taken_out_only_by_saying_so() {
    let (admin, dashboard) = started(&[]).await;
    let sentence = "only 1 of 2 backends would be left: <none>";
    admin.with(|world| world.refusal = Some((409, sentence)));
    let answer = dashboard.post(PATH, &FORM, &[JSON]).await;
    assert_eq!(answer.status(), 409);
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("nly 1 of 2 backends would be left"));

    let page = dashboard.post(PATH, &FORM, &[]).await;
    assert_eq!(page.status(), 409);
    let page = page.text().await.unwrap();
    assert!(page.contains("would be left: &lt;none&gt;") && page.contains("Do it anyway"));
    assert!(page.contains("value=\"update\""), "the reason is not lost");
    let forced = [FORM[0], FORM[1], ("force", "true")];
    assert_eq!(dashboard.post(PATH, &forced, &[]).await.status(), 303);
    let last = admin.with(|world| world.changes.last().cloned()).unwrap();
    assert_eq!(last.body["force"], true);
}

#[tokio::test]
async fn what_another_operator_said_meanwhile_is_not_undone_unseen() {
    // The dashboard has heard it by then, or only the proxy has.
    for (interval, is_heard) in [("50ms", true), ("60s", false)] {
        let admin = FakeAdmin::start(pools(&[unsaid("a:1"), unsaid("b:2")]));
        let settings = [("DASHBOARD_INTERVAL", interval)];
        let dashboard = Dashboard::start(&admin.url(), &settings).ready().await;
        let seen = "name=\"seen\" value=\"0\"";
        assert!(dashboard.text("/").await.contains(seen));
        let question = dashboard.text(&format!("{PATH}/change?state=drain&seen=0")).await;
        assert!(question.contains(seen), "{question}");
        admin.with(|world| world.pools = pools(&[said_by_ann("a:1"), unsaid("b:2")]));
        if is_heard {
            dashboard.text_with("/", |text| text.contains("ann")).await;
        }

        let form = [FORM[0], FORM[1], ("seen", "0")];
        let answer = dashboard.post(PATH, &form, &[JSON]).await;
        assert_eq!(answer.status(), 409);
        let problem: serde_json::Value = answer.json().await.unwrap();
        let told = problem["detail"].as_str().unwrap();
        let expected = "a:1 was changed meanwhile, and is set to not ready by ann: “new disk”.";
        assert!(told.starts_with(expected), "{told}");
        assert_eq!(
            (&problem["seen"], &problem["unseen"]),
            (&SAID.1.to_string().into(), &true.into())
        );

        let page = dashboard.post(PATH, &form, &[]).await;
        assert_eq!(page.status(), 409);
        let page = page.text().await.unwrap();
        let seen = format!("name=\"seen\" value=\"{}\"", SAID.1);
        assert!(page.contains("by ann") && page.contains("value=\"update\""), "{page}");
        assert!(page.contains("Do it anyway") && page.contains(&seen), "{page}");
        assert!(!page.contains("name=\"force\""), "the guard was not asked: {page}");
        assert_eq!(admin.with(|world| world.changes.len()), 0);

        // Who has seen it may undo it, also where something else of the backend is new by now.
        admin.with(|world| world.pools["pools"][0]["backends"][0]["etag"] = "\"else\"".into());
        let form = [FORM[0], FORM[1], ("seen", &SAID.1.to_string())];
        assert_eq!(dashboard.post(PATH, &form, &[JSON]).await.status(), 200);
        let changes = admin.with(|world| world.changes.clone());
        assert_eq!((changes.len(), &changes[0].body["state"]), (1, &"drain".into()));
    }
}

/// The time of the last change that the proxy was told of, once it tells of it as said by `actor`.
fn tells_of_the_last(admin: &FakeAdmin, actor: &str, later: u64) -> u64 {
    admin.with(|world| {
        let body = &world.changes.last().expect("a change was told").body;
        let said = body["said_at"].as_str().and_then(wall::parse);
        let said = said.expect("it says when it was said") + later;
        let mut told = unsaid("a:1");
        (told["admin"], told["etag"]) = (body["state"].clone(), format!("\"{said}\"").into());
        told["admin_actor"] = actor.into();
        (told["admin_said_at"], told["admin_standing_said_at"]) =
            (wall::text(said).into(), wall::text(said).into());
        world.pools = pools(&[told, unsaid("b:2")]);
        said
    })
}

#[tokio::test]
async fn what_operators_said_themselves_is_undone_before_their_page_shows_it() {
    const OWN: &str = "dashboard, on this machine";
    // The dashboard has heard it by then, or only the proxy has.
    for (interval, is_heard) in [("50ms", true), ("60s", false)] {
        let admin = FakeAdmin::start(pools(&[unsaid("a:1"), unsaid("b:2")]));
        let settings = [("DASHBOARD_INTERVAL", interval)];
        let dashboard = Dashboard::start(&admin.url(), &settings).ready().await;
        let old = |state| [("state", state), ("seen", "0")];
        let answer = dashboard.post(PATH, &old("drain"), &[JSON]).await;
        assert_eq!(answer.status(), 200);
        let seen = answer.json::<serde_json::Value>().await.unwrap()["seen"].clone();
        let said = tells_of_the_last(&admin, OWN, 0).to_string();
        assert_eq!(seen, said, "the script is told when it was said");
        if is_heard {
            dashboard.text_with("/", |text| text.contains(&said)).await;
        }
        // A second and a third click on a page that is as it was.
        for state in ["ready", "maint"] {
            let answer = dashboard.post(PATH, &old(state), &[]).await;
            assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
            let said = tells_of_the_last(&admin, OWN, 0).to_string();
            if is_heard {
                dashboard.text_with("/", |text| text.contains(&said)).await;
            }
        }

        let said = tells_of_the_last(&admin, "ann", 1).to_string();
        if is_heard {
            dashboard.text_with("/", |text| text.contains(&said)).await;
        }
        let answer = dashboard.post(PATH, &old("ready"), &[JSON]).await;
        assert_eq!(answer.status(), 409, "ann's word is another one");
        assert!(answer.text().await.unwrap().contains("is set to not ready by ann."));
    }
}

#[tokio::test]
async fn what_is_said_while_a_number_is_typed_without_javascript_is_unseen() {
    let of = |said: Option<&str>| {
        let mut one = unsaid("a:1");
        (one["weight_wanted"], one["configured_weight"]) = (said.map(|_| 3).into(), 1.into());
        (one["weight_said_at"], one["weight_standing_said_at"]) = (said.into(), said.into());
        (one["weight_actor"], one["weight"]) = ("ann".into(), said.map_or(1, |_| 3).into());
        pools(&[one, unsaid("b:2")])
    };
    let admin = FakeAdmin::start(of(None));
    let dashboard = Dashboard::start(&admin.url(), &[]).ready().await;
    let way = "change?weight=&amp;seen=0\"";
    let page = dashboard.text(PATH).await;
    assert!(page.contains(way), "{page}");
    let number = dashboard.text(&format!("{PATH}/change?weight=&seen=0")).await;
    assert!(number.contains("name=\"seen\" value=\"0\""), "{number}");
    admin.with(|world| world.pools = of(Some(SAID.0)));
    dashboard.text_with(PATH, |text| text.contains(&SAID.1.to_string())).await;

    let question = dashboard.text(&format!("{PATH}/change?weight=2&seen=0")).await;
    assert!(question.contains("name=\"seen\" value=\"0\""), "{question}");
    let answer = dashboard.post(PATH, &[("weight", "2"), ("seen", "0")], &[]).await;
    assert_eq!(answer.status(), 409);
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_tried_again_by_who_knows_of_it() {
    let admin = FakeAdmin::start(pools(&[unsaid("a:1"), unsaid("b:2")]));
    let settings = [("DASHBOARD_INTERVAL", "60s")];
    let dashboard = Dashboard::start(&admin.url(), &settings).ready().await;
    admin.with(|world| world.is_cut_short = true);
    let form = [FORM[0], FORM[1], ("seen", "0")];
    let answer = dashboard.post(PATH, &form, &[JSON]).await;
    assert_eq!(answer.status(), 502);
    let problem: serde_json::Value = answer.json().await.unwrap();
    // It had been.
    let said = tells_of_the_last(&admin, "dashboard, on this machine", 0);
    assert_eq!((&problem["seen"], &problem["unseen"]), (&said.to_string().into(), &false.into()));
    admin.with(|world| world.is_cut_short = false);
    let answer = dashboard.post(PATH, &form, &[JSON]).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_never_reaches_the_proxy() {
    let (admin, dashboard) = started(&[]).await;
    let long = "x".repeat(201);
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);
    let cases: [Case<'_>; 12] = [
        (PATH, &[("state", "off")], 400),
        (PATH, &[], 400),
        (PATH, &[("weight", "257")], 400),
        (PATH, &[("weight", "some")], 400),
        (PATH, &[("weight", "1"), ("state", "drain")], 400),
        (PATH, &[("max_in_flight", "1000001")], 400),
        (PATH, &[("max_in_flight", "1"), ("weight", "1")], 400),
        (PATH, &[("state", "drain"), ("force", "perhaps")], 422),
        (PATH, &[("state", "drain"), ("reason", &long)], 400),
        (PATH, &[("state", "drain"), ("seen", "all")], 400),
        ("/backends/default/unknown", &[("state", "drain")], 404),
        ("/backends/default/..%2F..", &[("state", "drain")], 404),
    ];
    for (path, form, status) in cases {
        assert_eq!(dashboard.post(path, form, &[JSON]).await.status(), status, "{path} {form:?}");
        assert_eq!(dashboard.post(path, form, &[]).await.status(), status, "{path} {form:?}");
    }
    let huge = "x".repeat(100_000);
    assert_eq!(dashboard.post(PATH, &[("state", &huge)], &[JSON]).await.status(), 413);
    let json = ("content-type", "application/json");
    assert_eq!(dashboard.post(PATH, &FORM, &[JSON, json]).await.status(), 415);
    let link = format!("{PATH}?state=drain&force=true");
    assert_eq!(dashboard.get(&link).await.status(), 200, "it is a page");
    assert_eq!(admin.with(|world| world.changes.len()), 0);
}

#[tokio::test]
async fn a_refusal_for_want_of_a_token_says_what_to_set() {
    let path = std::env::temp_dir().join(format!("evenkeel-dashboard-{}", std::process::id()));
    let file = path.to_str().unwrap();
    let (admin, dashboard) = started(&[("LOAD_BALANCER_ADMIN_TOKEN_FILE", file)]).await;
    admin.with(|world| world.refusal = Some((401, "send the token")));
    let answer = dashboard.post(PATH, &FORM, &[JSON]).await;
    assert_eq!(answer.status(), 502, "it is not the visitor who lacks the token");
    let told = answer.text().await.unwrap();
    assert!(told.contains("Send the token") && told.contains(file), "{told}");

    // The proxy makes the file later; no restart is needed.
    std::fs::write(&path, TOKEN).unwrap();
    admin.with(|world| world.refusal = None);
    assert_eq!(dashboard.post(PATH, &FORM, &[JSON]).await.status(), 200);
    let token = admin.with(|world| world.changes.last().unwrap().token.clone());
    assert_eq!(token.as_deref(), Some(TOKEN));
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn a_change_that_the_proxy_cannot_save_is_told_as_such() {
    let (admin, dashboard) = started(&[]).await;
    let why = "the state file cannot be written: No space left on device";
    admin.with(|world| {
        world.not_saved = Some(why);
        world.pools["proxy"]["not_saved_reason"] = why.into();
    });
    let answer = dashboard.post(PATH, &FORM, &[JSON]).await;
    assert_eq!(answer.status(), 200);
    let told = answer.text().await.unwrap();
    assert!(told.contains("a restart of the proxy would undo it: the state file"), "{told}");
    let page = dashboard.text_with("/", |text| text.contains("Changes hold, but")).await;
    assert!(page.contains("No space left on device"), "{page}");
}

#[tokio::test]
async fn a_change_that_the_proxy_took_and_did_not_answer_may_have_been_made() {
    let (admin, dashboard) = started(&[]).await;
    admin.with(|world| world.is_cut_short = true);
    let answer = dashboard.post(PATH, &FORM, &[JSON]).await;
    assert_eq!(answer.status(), 502);
    let told = answer.text().await.unwrap();
    assert!(told.contains("Whether it was changed is not known"), "{told}");
    assert_eq!(admin.with(|world| world.changes.len()), 1);
}

#[tokio::test]
async fn a_proxy_that_dies_before_its_answer_is_told_as_a_connection_that_broke() {
    let (admin, dashboard) = started(&[]).await;
    admin.with(|world| world.is_gone_after_changes = true);
    let answer = dashboard.post(PATH, &FORM, &[JSON]).await;
    assert_eq!(answer.status(), 502);
    let told = answer.text().await.unwrap();
    assert!(told.contains("Whether it was changed is not known"), "{told}");
    assert!(told.contains("broke") && !told.contains("LOAD_BALANCER_ADMIN_URL"), "{told}");
    assert_eq!(admin.with(|world| world.changes.len()), 1);
}

#[tokio::test]
async fn a_change_while_the_proxy_is_away_says_that_nothing_was_changed() {
    let (mut admin, dashboard) = started(&[]).await;
    admin.kill();
    let answer = dashboard.post(PATH, &FORM, &[JSON]).await;
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().contains("Nothing was changed"));
}
