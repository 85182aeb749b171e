//! Changes that go to all proxies, and what is told of those that did not make them.

use serde_json::{Value, json};

use crate::{
    JSON, dashboard, proxy,
    support::{FakeAdmin, SAID, backend, dry_run, said_by_ann, unsaid},
};

/// Proxies edge-1, edge-2 … in the order in which they are told, which is that of their addresses.
fn in_order<const COUNT: usize>(backends: &[Value]) -> [FakeAdmin; COUNT] {
    let mut proxies = std::array::from_fn(|_| proxy("", backends));
    proxies.sort_by_key(FakeAdmin::url);
    for (index, proxy) in proxies.iter().enumerate() {
        let name = format!("edge-{}", index + 1);
        proxy.with(|world| world.pools["proxy"]["name"] = json!(name));
    }
    proxies
}

#[tokio::test]
async fn a_change_goes_to_all_and_each_answer_is_told() {
    let [one, two, three] = in_order(&[backend("x:1")]);
    let dashboard = dashboard(&[&one, &two, &three]);
    dashboard.text_with("/", |text| text.contains("3 of 3 proxies answer")).await;
    let drain = async || {
        let answer = dashboard.post("/backends/default/x:1", &[("state", "drain")], &[JSON]).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = drain().await;
    assert_eq!(status, 200);
    assert!(text.contains("on all 3 proxies"), "{text}");
    for proxy in [&one, &two, &three] {
        assert_eq!(proxy.with(|world| world.changes.len()), 1);
    }

    // The first refusal ends it: nobody else is asked.
    one.with(|world| world.refusal = Some((409, "it is the only one")));
    let (status, text) = drain().await;
    assert_eq!(status, 409, "{text}");
    assert_eq!(two.with(|world| world.changes.len()), 1);

    one.with(|world| world.refusal = None);
    two.with(|world| world.refusal = Some((409, "it is the only one")));
    let (status, text) = drain().await;
    assert_eq!(status, 409);
    assert!(
        text.contains("set on edge-1, edge-3, but edge-2 refused: It is the only one"),
        "{text}"
    );
    let later = "edge-2 is told again until it takes it; to take it back, set x:1 to ready.";
    assert!(text.contains(later), "{text}");
}

#[tokio::test]
async fn a_proxy_that_cannot_make_a_change_keeps_it_from_nobody_and_all_that_is_said_is_told() {
    let [one, two, three, mut four] = in_order(&[backend("x:1")]);
    let dashboard = dashboard(&[&one, &two, &three, &four]);
    dashboard.text_with("/", |text| text.contains("4 of 4 proxies answer")).await;
    four.kill();
    dashboard.text_with("/", |text| text.contains("1 of 4 proxies does not answer")).await;
    one.with(|world| world.refusal = Some((404, "there is no backend x:1")));
    two.with(|world| world.not_saved = Some("the disk is full"));
    three.with(|world| world.refusal = Some((409, "it is the only one")));
    let form = [("state", "drain")];
    let answer = dashboard.post("/backends/default/x:1", &form, &[JSON]);
    let answer = answer.await;
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 409, "what can be insisted on: {text}");
    for part in [
        "x:1 is set on edge-2, but edge-3 refused: It is the only one.",
        "edge-1 refused: There is no backend x:1.",
        "They are told again until they take it; to take it back, set x:1 to ready.",
        "It is not saved, and a restart of the proxy would undo it: the disk is full.",
        "edge-4 does not answer; it is told when it returns.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_refusal_does_not_hide_that_others_gave_no_answer_to_the_change() {
    let [one, two, mut three] = in_order(&[backend("x:1")]);
    let dashboard = dashboard(&[&one, &two, &three]);
    dashboard.text_with("/", |text| text.contains("3 of 3 proxies answer")).await;
    three.kill();
    dashboard.text_with("/", |text| text.contains("1 of 3 proxies does not answer")).await;
    one.with(|world| world.refusal = Some((404, "there is no backend x:1")));
    two.with(|world| world.is_cut_short = true);
    let form = [("state", "drain")];
    let answer = dashboard.post("/backends/default/x:1", &form, &[JSON]);
    let text = answer.await.text().await.unwrap();
    assert_eq!(two.with(|world| world.changes.len()), 1, "it has taken it");
    for part in [
        "edge-1 refused: There is no backend x:1.".to_owned(),
        "Whether it was changed is not known".to_owned(),
        two.url(),
        format!("Nothing answers at {}", three.url()),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
}

#[tokio::test]
async fn who_insists_on_what_some_have_done_has_seen_that() {
    let [one, two] = in_order(&[unsaid("x:1")]);
    let dashboard = dashboard(&[&one, &two]);
    dashboard.text_with("/", |text| text.contains("2 of 2 proxies answer")).await;
    two.with(|world| world.refusal = Some((409, "it is the only one")));
    let path = "/backends/default/x:1";
    let answer = dashboard.post(path, &[("state", "drain"), ("seen", "0")], &[JSON]).await;
    assert_eq!(answer.status(), 409);
    let problem: Value = answer.json().await.unwrap();
    let said = one.with(|world| world.changes[0].body["said_at"].clone());
    let seen = chassis::wall::parse(said.as_str().unwrap()).unwrap().to_string();
    assert_eq!((&problem["seen"], &problem["unseen"]), (&json!(seen), &json!(false)));
    one.with(|world| {
        let backend = &mut world.pools["pools"][0]["backends"][0];
        (backend["admin"], backend["etag"]) = (json!("drain"), json!("\"done\""));
        (backend["admin_said_at"], backend["admin_standing_said_at"]) = (said.clone(), said);
    });
    let form = [("state", "drain"), ("seen", &seen), ("force", "true")];
    assert_eq!(dashboard.post(path, &form, &[JSON]).await.status(), 200);
}

#[tokio::test]
async fn what_one_proxy_alone_has_heard_is_not_undone_unseen_on_any() {
    let one = proxy("edge-1", &[unsaid("x:1")]);
    let two = proxy("edge-2", &[said_by_ann("x:1")]);
    let dashboard = dashboard(&[&one, &two]);
    let said = SAID.1.to_string();
    let shown = format!("name=\"seen\" value=\"{said}\"");
    dashboard.text_with("/", |text| text.contains("2 of 2") && text.contains(&shown)).await;
    // A proxy that has not heard a word is told of it, which is no part of this.
    let told = || {
        let all = [&one, &two].map(|proxy| proxy.with(|world| world.changes.clone()));
        all.concat().iter().filter(|change| change.body["state"] == "drain").count()
    };
    for (seen, status, count) in [("0", 409, 0), (&*said, 200, 2)] {
        let form = [("state", "drain"), ("seen", seen)];
        let answer = dashboard.post("/backends/default/x:1", &form, &[JSON]).await;
        assert_eq!((answer.status().as_u16(), told()), (status, count));
    }
}

#[tokio::test]
async fn a_change_is_said_at_one_time_that_is_newer_than_all_that_any_proxy_has_heard() {
    let at = |said_at: &str| {
        let mut backend = backend("x:1");
        backend["admin_said_at"] = json!(said_at);
        backend
    };
    // Their clocks are far ahead of ours; what `two` has heard since, nobody has seen yet.
    let ahead = at("2999-01-01T00:00:00.000Z");
    let (one, two) =
        (proxy("edge-1", &[ahead]), proxy("edge-2", &[at("2998-01-01T00:00:00.000Z")]));
    let old = proxy("edge-3", &[backend("x:1")]);
    two.with(|world| world.newer = Some("2999-01-01T00:00:00.500Z"));
    let dashboard = dashboard(&[&one, &two, &old]);
    dashboard.text_with("/", |text| text.contains("3 of 3 proxies answer")).await;
    let form = [("state", "drain")];
    let answer = dashboard.post("/backends/default/x:1", &form, &[JSON]);
    let text = answer.await.text().await.unwrap();
    assert!(text.contains("x:1 is set to drain on all 3 proxies"), "{text}");
    for proxy in [&one, &two] {
        let told = proxy.with(|world| world.changes.last().unwrap().body.clone());
        assert_eq!(told, json!({"state": "drain", "said_at": "2999-01-01T00:00:00.501Z"}));
    }
    let first = two.with(|world| world.changes[0].body["said_at"].clone());
    assert_eq!(first, "2999-01-01T00:00:00.001Z", "newer than what they have told");
    let told = old.with(|world| world.changes.last().unwrap().body.clone());
    assert_eq!(told, json!({"state": "drain"}), "it would refuse a field that it does not know");
}

#[tokio::test]
async fn of_several_predictions_the_worst_is_told_with_who_differs_and_who_is_silent() {
    let ids = ["a:1", "b:1", "c:1"].map(backend);
    let (one, two) = (proxy("edge-1", &ids), proxy("edge-2", &ids));
    let mut three = proxy("edge-3", &ids);
    two.with(|world| world.dry_run = Some(dry_run(2, 1, None)));
    let dashboard = dashboard(&[&one, &two, &three]);
    dashboard.text_with("/", |text| text.contains("3 of 3 proxies answer")).await;
    three.kill();
    dashboard.text_with("/", |text| text.contains("1 of 3 proxies does not answer")).await;
    let effect = dashboard.text("/backends/default/a:1/effect?state=drain").await;
    let expected = "Then 1 of 3 serve; its 30/s go to them: about 60/s each, 100% more than now. \
                    edge-1 differs: there 2 of 3 would serve. edge-3 does not answer and is not \
                    counted.";
    assert!(effect.contains(expected), "{effect}");
}
