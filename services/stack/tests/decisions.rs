//! Why a request went where it went, for each request that failed and for a share of the others.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use common::{World, closed_port};
use serde_json::{Value, json};

/// The decision about the request that had this answer.
async fn decision_of(world: &World, answer: &reqwest::Response) -> Value {
    let id = answer.headers()["x-request-id"].to_str().unwrap();
    let url = world.admin_url(&format!("/v1/decisions/{id}"));
    let mut found = Value::Null;
    world
        .until("the decision", async || {
            let answer = world.ask(world.client.get(&url)).await;
            found = answer.body;
            answer.status == 200
        })
        .await;
    found
}

fn of<'a>(decision: &'a Value, backend: &str) -> &'a Value {
    let considered = decision["considered"].as_array().unwrap();
    considered.iter().find(|considered| considered["backend"] == backend).unwrap()
}

#[tokio::test]
async fn of_a_success_it_is_told_who_was_picked_and_why_each_other_one_was_not() {
    let world = World::start(3, &[("PROXY_DECISIONS", "100%")]).await;
    world.patch(&world.id(2), json!({"state": "drain", "reason": "new disk"})).await;
    let answer = world.client.get(world.url("/")).send().await.unwrap();
    let decision = decision_of(&world, &answer).await;
    assert_eq!((&decision["recorded"], &decision["status"]), (&json!("sample"), &json!(200)));
    let picked = decision["attempts"][0]["backend"].as_str().unwrap().to_owned();
    assert_eq!(decision["attempts"][0]["result"], "answered");
    assert_eq!(of(&decision, &picked)["verdict"], "picked");
    let other = if picked == world.id(0) { world.id(1) } else { world.id(0) };
    assert_eq!(of(&decision, &other)["verdict"], "passed_over");
    assert!(of(&decision, &other)["why"].as_str().unwrap().contains("turn"));
    assert_eq!(of(&decision, &world.id(2))["verdict"], "not_eligible");
    assert!(of(&decision, &world.id(2))["why"].as_str().unwrap().contains("new disk"));
}

#[tokio::test]
async fn a_failure_is_recorded_without_sampling_and_found_by_the_id_that_the_client_got() {
    let world = World::start(1, &[("PROXY_DECISIONS", "0%")]).await;
    world.patch(&world.id(0), json!({"state": "maint", "force": true})).await;
    let answer = world.client.get(world.url("/")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let decision = decision_of(&world, &answer).await;
    assert_eq!((&decision["reason"], &decision["source"]), (&json!("no_backend"), &json!("proxy")));
    assert_eq!(decision["attempts"], json!([]));
    assert_eq!(of(&decision, &world.id(0))["verdict"], "not_eligible");
    let list = world.admin_json("/v1/decisions?recorded=failure&limit=5").await;
    assert_eq!(list["decisions"], json!([decision]));
    assert_eq!(world.admin_json("/v1/decisions?recorded=sample").await["decisions"], json!([]));
}

#[tokio::test]
async fn a_retry_is_recorded_with_what_was_tried_before() {
    let world = World::start(1, &[]).await;
    let closed = closed_port();
    let backends = format!("http://{closed},http://{}", world.id(0));
    let variables = [("PROXY_PROBE", "off"), ("PROXY_POLICY", "first"), ("PROXY_DECISIONS", "0%")];
    let retrying = World::over(&backends, &variables, vec![]);
    retrying.until_eligible(2).await;
    let answer = retrying.client.get(retrying.url("/")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let decision = decision_of(&retrying, &answer).await;
    assert_eq!(decision["recorded"], "retry");
    let results: Vec<&Value> =
        decision["attempts"].as_array().unwrap().iter().map(|a| &a["result"]).collect();
    assert_eq!(results, ["connect_refused", "answered"]);
    assert_eq!(of(&decision, &closed.to_string())["verdict"], "tried");
    assert_eq!(of(&decision, &world.id(0))["verdict"], "picked");
    let filter = format!("/v1/decisions?recorded=retry&backend={closed}");
    assert_eq!(retrying.admin_json(&filter).await["decisions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_sampled_where_the_share_is_0_and_an_unknown_id_is_told_so() {
    let world = World::start(1, &[("PROXY_DECISIONS", "0%")]).await;
    world.spread(20).await;
    let list = world.admin_json("/v1/decisions").await;
    assert_eq!((&list["sampled_share"], &list["decisions"]), (&json!(0.0), &json!([])));
    let answer = world.ask(world.client.get(world.admin_url("/v1/decisions/unheard"))).await;
    assert_eq!(answer.status, 404);
    assert!(answer.detail().contains("PROXY_DECISIONS"), "{}", answer.detail());
    for query in ["limit=0", "recorded=all", "what=x"] {
        let url = world.admin_url(&format!("/v1/decisions?{query}"));
        assert_eq!(world.ask(world.client.get(url)).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn an_announced_request_keeps_its_id_and_is_recorded_whatever_the_sampling_says() {
    let world = World::start(2, &[("PROXY_DECISIONS", "0%")]).await;
    let id = "0123456789abcdef0123456789abcdef";
    let announce = async || {
        let url = world.admin_url(&format!("/v1/decisions/{id}"));
        world.ask(world.client.put(url)).await
    };
    let send = async || {
        let request = world.client.get(world.url("/echo")).header("x-request-id", id);
        let answer = request.send().await.unwrap();
        answer.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_ne!(send().await, id, "nobody announced it yet");
    let answer = announce().await;
    assert_eq!((answer.status, &answer.body["request_id"]), (200, &json!(id)));
    assert_eq!(world.spread(4).await.len(), 2, "others are not it");
    let request = world.client.get(world.url("/echo")).header("x-request-id", id);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], id);
    let decision = decision_of(&world, &answer).await;
    assert_eq!((&decision["recorded"], &decision["status"]), (&json!("announced"), &json!(200)));
    assert_ne!(send().await, id, "the id is used up");
    let list = world.admin_json("/v1/decisions?recorded=announced").await;
    assert_eq!(list["decisions"], json!([decision]));
}

#[tokio::test]
async fn an_announced_request_is_found_by_its_id_even_if_it_is_refused() {
    let world = World::start(1, &[("PROXY_DECISIONS", "0%")]).await;
    world.patch(&world.id(0), json!({"state": "maint", "force": true})).await;
    let id = "00000000000000000000000000000abc";
    let url = world.admin_url(&format!("/v1/decisions/{id}"));
    assert_eq!(world.ask(world.client.put(url)).await.status, 200);
    let request = world.client.get(world.url("/")).header("x-request-id", id);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["x-request-id"], id);
    assert_eq!(decision_of(&world, &answer).await["recorded"], "failure");
}

#[tokio::test]
async fn only_who_may_change_things_announces_and_only_ids_that_nobody_guesses() {
    let token = [("PROXY_ADMIN_TOKEN", "correct-horse")];
    let world = World::start(1, &token).await;
    let put = |id: &str| world.client.put(world.admin_url(&format!("/v1/decisions/{id}")));
    let id = "0123456789abcdef0123456789abcdef";
    assert_eq!(world.ask(put(id)).await.status, 401);
    let with_token = |id: &str| put(id).bearer_auth("correct-horse");
    assert_eq!(world.ask(with_token(id)).await.status, 200);
    for guessable in ["1", "0123456789ABCDEF0123456789ABCDEF", "x%00"] {
        assert_eq!(world.ask(with_token(guessable)).await.status, 400, "{guessable}");
    }
    for n in 1..32 {
        assert_eq!(world.ask(with_token(&format!("{n:032x}"))).await.status, 200, "{n}");
    }
    let answer = world.ask(with_token("ffffffffffffffffffffffffffffffff")).await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() <= 30, "{}", answer.detail());
}

#[tokio::test]
async fn those_that_passed_a_backend_over_are_found_by_its_id() {
    let world = World::start(2, &[("PROXY_DECISIONS", "100%")]).await;
    world.patch(&world.id(1), json!({"state": "drain"})).await;
    let answer = world.client.get(world.url("/")).send().await.unwrap();
    let decision = decision_of(&world, &answer).await;
    let found = async |query: String| world.admin_json(&query).await["decisions"].clone();
    let id = world.id(1);
    assert_eq!(found(format!("/v1/decisions?backend={id}")).await, json!([]));
    assert_eq!(found(format!("/v1/decisions?considered={id}")).await, json!([decision]));
    assert_eq!(found("/v1/decisions?considered=unheard".to_owned()).await, json!([]));
}
