//! Changes without JavaScript, and what is alike with it.

use crate::{FORM, JSON, PATH, started};

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
