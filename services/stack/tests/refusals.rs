//! What the admin API refuses: each with a problem that says what to do, and nothing changed.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use common::World;
use reqwest::Method;

const JSON: (&str, &str) = ("content-type", "application/json");
const BY_POSITION: &str = "[\"maint\", null, null, \"why\", null, null, true]";
const DRAIN: &str = "{\"state\": \"drain\"}";

/// Method, path (`{id}` is a backend), headers, body; status, and words of the sentence.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);

const CASES: [Case<'static>; 37] = [
    // Pages of other sites, and names that somebody else gave this machine.
    ("PATCH", "{id}", &[JSON, ("origin", "http://evil.example")], DRAIN, 403, "other sites"),
    ("PATCH", "{id}", &[JSON, ("origin", "null")], DRAIN, 403, "other sites"),
    ("PATCH", "{id}", &[JSON, ("sec-fetch-site", "cross-site")], DRAIN, 403, "other sites"),
    ("PATCH", "{id}", &[JSON, ("host", "evil.example")], DRAIN, 403, "PROXY_ADMIN_TOKEN"),
    ("PATCH", "{id}", &[JSON, ("x-forwarded-for", "10.0.0.9")], DRAIN, 403, "PROXY_ADMIN_TOKEN"),
    ("GET", "/v1/audit", &[("host", "evil.example")], "", 403, "PROXY_ADMIN_TOKEN"),
    ("GET", "/v1/audit", &[("sec-fetch-site", "cross-site")], "", 403, "other sites"),
    // Not JSON, or not this JSON.
    ("PATCH", "{id}", &[], DRAIN, 415, "application/json"),
    ("PATCH", "{id}", &[("content-type", "text/plain")], DRAIN, 415, "application/json"),
    (
        "PATCH",
        "{id}",
        &[("content-type", "application/x-www-form-urlencoded")],
        "state=drain",
        415,
        "application/json",
    ),
    ("PATCH", "{id}", &[JSON], "", 400, "the body is empty"),
    ("PATCH", "{id}", &[JSON], "null", 400, "expected a JSON object"),
    ("PATCH", "{id}", &[JSON], "[]", 400, "expected a JSON object"),
    // serde would take this for a state, a reason and force.
    ("PATCH", "{id}", &[JSON], BY_POSITION, 400, "expected a JSON object"),
    ("PATCH", "{id}?dry_run=true", &[JSON], BY_POSITION, 400, "expected a JSON object"),
    ("PATCH", "/v1/pools/default", &[JSON], "[\"random\"]", 400, "expected a JSON object"),
    ("PATCH", "{id}", &[JSON], "{}", 400, "neither a state nor a weight"),
    ("PATCH", "{id}", &[JSON], "{\"state\": \"drain\", \"mood\": 1}", 400, "unknown field"),
    ("PATCH", "{id}", &[JSON], "{\"state\": \"gone\"}", 400, "ready, drain or maint"),
    ("PATCH", "{id}", &[JSON], "{\"state\": 1}", 400, "state: expected text"),
    ("PATCH", "{id}", &[JSON], "{\"weight\": \"3\"}", 400, "weight: expected a whole number"),
    ("PATCH", "{id}", &[JSON], "{\"weight\": -1}", 400, "not negative"),
    ("PATCH", "{id}", &[JSON], "{\"weight\": 1.5}", 400, "a whole number"),
    ("PATCH", "{id}", &[JSON], "{\"weight\": 257}", 400, "0 to 256"),
    ("PATCH", "{id}", &[JSON], "{\"weight\": 1, \"ttl\": \"soon\"}", 400, "a duration"),
    ("PATCH", "{id}", &[JSON], "{\"weight\": 1, \"force\": \"yes\"}", 400, "true or false"),
    // Parameters and names that there are not.
    ("PATCH", "{id}?dry_run=maybe", &[JSON], DRAIN, 400, "dry_run"),
    ("PATCH", "{id}?dryrun=true", &[JSON], DRAIN, 400, "unknown field"),
    ("GET", "/v1/events?after=-1", &[], "", 400, "the number of an event"),
    ("GET", "/v1/history?seconds=7200", &[], "", 400, "1 to 3600"),
    ("GET", "/v1/decisions?limit=0", &[], "", 400, "1 to 2000"),
    ("PATCH", "/v1/pools/default/backends/nobody:1", &[JSON], DRAIN, 404, "has no backend"),
    ("PATCH", "/v1/pools/other/backends/nobody:1", &[JSON], DRAIN, 404, "there is no pool"),
    ("GET", "/v1/pool", &[], "", 404, "start at /v1/pools"),
    // Methods that there are not.
    ("PUT", "{id}", &[JSON], DRAIN, 405, "PATCH"),
    ("DELETE", "{id}", &[], "", 405, "PATCH"),
    ("POST", "/v1/pools", &[JSON], "{}", 405, "GET"),
];

#[tokio::test]
async fn whatever_cannot_be_meant_is_refused_with_what_to_do_and_changes_nothing() {
    let world = World::start(2, &[]).await;
    let id = world.id(0);
    let before = world.backend(&id).await["etag"].clone();
    for (method, path, headers, body, status, words) in CASES {
        let path = path.replace("{id}", &format!("/v1/pools/default/backends/{id}"));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = world.client.request(method.clone(), world.admin_url(&path)).body(body);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = world.ask(request).await;
        let told =
            format!("{method} {path} {headers:?} {body}: {} {}", answer.status, answer.detail());
        assert!(answer.status == status && answer.detail().contains(words), "{told}");
    }
    assert_eq!(world.backend(&id).await["etag"], before);
}

#[tokio::test]
async fn a_change_that_is_too_long_is_refused() {
    let world = World::start(2, &[]).await;
    // One byte more than may be; with more, the answer would meet a client that still sends.
    let reason = "x".repeat((64 << 10) - DRAIN.len() - ", \"reason\": \"\"".len() + 1);
    let body = format!("{{\"state\": \"drain\", \"reason\": \"{reason}\"}}");
    assert_eq!(body.len(), (64 << 10) + 1);
    let request = world.client.patch(world.backend_url(&world.id(0)));
    let answer = world.ask(request.header(JSON.0, JSON.1).body(body)).await;
    assert_eq!(answer.status, 413, "{}", answer.detail());
    assert_eq!(world.backend(&world.id(0)).await["admin"], "ready");
}
