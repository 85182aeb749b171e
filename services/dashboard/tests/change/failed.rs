//! Changes that are refused, or that the proxy gives no good answer to.

use crate::{FORM, JSON, PATH, started, support::TOKEN};

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
