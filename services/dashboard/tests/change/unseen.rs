//! Words that operators have not seen are not undone by theirs.

use chassis::wall;

use crate::{
    FORM, JSON, PATH,
    support::{Dashboard, FakeAdmin, SAID, pools, said_by_ann, unsaid},
};

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
