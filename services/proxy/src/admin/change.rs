//! Changing a backend: `PATCH /v1/pools/{pool}/backends/{id}`.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
};
use balance::{BackendId, Change, MAX_IN_FLIGHT_MAX, Refused, WEIGHT_MAX};
use chassis::{problem::Problem, units};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::{Admin, Caller, actor, find_backend, find_pool, no_backend, view};

/// Longer reasons do not help on a page; the whole log of a day does not belong here.
const REASON_LONGEST: usize = 500;

/// The body of a change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    state: Option<State_>,
    weight: Option<u32>,
    max_in_flight: Option<u32>,
    reason: Option<String>,
    ttl: Option<String>,
    deadline: Option<String>,
    #[serde(default)]
    force: bool,
}

/// The states as JSON names them. `not ready` is what the page calls maint.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State_ {
    Ready,
    Drain,
    #[serde(alias = "not ready", alias = "not_ready")]
    Maint,
}

impl From<State_> for balance::Admin {
    fn from(state: State_) -> Self {
        match state {
            State_::Ready => Self::Ready,
            State_::Drain => Self::Drain,
            State_::Maint => Self::Maint,
        }
    }
}

/// Handles the change. Nothing has changed if the answer is an error; after a 200, no pick goes to
/// a backend that was taken out.
pub(super) async fn patch(
    State(admin): State<Admin>,
    Path((pool, id)): Path<(String, String)>,
    caller: Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<view::Backend>, Problem> {
    find_pool(&admin, &pool)?;
    let mut change = parse(&headers, &body)?;
    change.actor = Some(actor(&caller, &headers));
    let result = admin.control.apply(|pool, now| pool.change(&BackendId::new(&id), &change, now));
    match result {
        Ok(()) => {
            admin.fence.pass().await;
            find_backend(&admin, &pool, &id).map(Json)
        }
        Err(Refused::Unknown) => Err(no_backend(&admin, &id)),
        Err(refused @ Refused::LastUsable { .. }) => {
            let detail = format!("{id} stays as it is: {refused} with \"force\": true");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
    }
}

fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Change, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // Asking for JSON keeps forms of other sites out: browsers send them without asking first.
    if !content_type.is_some_and(|kind| kind.starts_with("application/json")) {
        let detail = "send the change as JSON, with Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| bad(format!("the change is not what is expected: {error}")))?;
    if body.state.is_none() && body.weight.is_none() && body.max_in_flight.is_none() {
        let detail = "the change names neither a state nor a weight nor max_in_flight";
        return Err(bad(detail.to_owned()));
    }
    if body.max_in_flight.is_some_and(|limit| limit > MAX_IN_FLIGHT_MAX) {
        let expected = format!("a whole number from 0 (no limit) to {MAX_IN_FLIGHT_MAX}");
        return Err(bad(format!("max_in_flight: expected {expected}")));
    }
    if body.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
        return Err(bad(format!("weight: expected a whole number from 0 to {WEIGHT_MAX}")));
    }
    if body.reason.as_ref().is_some_and(|reason| reason.len() > REASON_LONGEST) {
        return Err(bad(format!("reason: expected at most {REASON_LONGEST} bytes")));
    }
    if body.reason.as_ref().is_some_and(|reason| reason.chars().any(char::is_control)) {
        return Err(bad("reason: expected one line of text".to_owned()));
    }
    let ttl: Option<Duration> = body
        .ttl
        .map(|text| units::positive_duration(&text))
        .transpose()
        .map_err(|expected| bad(format!("ttl: expected {expected}")))?;
    let deadline = body
        .deadline
        .map(|text| units::duration(&text))
        .transpose()
        .map_err(|expected| bad(format!("deadline: expected {expected}")))?;
    if deadline.is_some() && !matches!(body.state, Some(State_::Drain | State_::Maint)) {
        return Err(bad("deadline: expected only with the state drain or maint".to_owned()));
    }
    let reason = body.reason.filter(|reason| !reason.trim().is_empty());
    Ok(Change {
        state: body.state.map(Into::into),
        weight: body.weight,
        max_in_flight: body.max_in_flight,
        reason,
        actor: None,
        ttl,
        deadline,
        force: body.force,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_json(text: &str) -> Result<Change, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        parse(&headers, text.as_bytes())
    }

    #[test]
    fn each_name_of_a_state_is_understood() {
        let cases = [
            ("ready", balance::Admin::Ready),
            ("drain", balance::Admin::Drain),
            ("maint", balance::Admin::Maint),
            ("not ready", balance::Admin::Maint),
        ];
        for (name, state) in cases {
            let change = parse_json(&format!("{{\"state\": {name:?}, \"ttl\": \"10m\"}}")).unwrap();
            assert_eq!(change.state, Some(state));
            assert_eq!(change.ttl, Some(Duration::from_secs(600)));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        let cases = [
            ("{", "not what is expected"),
            ("[]", "not what is expected"),
            ("{}", "neither a state nor a weight"),
            ("{\"reason\": \"x\"}", "neither a state nor a weight"),
            ("{\"state\": \"off\"}", "unknown variant `off`"),
            ("{\"state\": 1}", "not what is expected"),
            ("{\"stat\": \"ready\"}", "unknown field `stat`"),
            ("{\"weight\": -1}", "not what is expected"),
            ("{\"weight\": 257}", "0 to 256"),
            ("{\"state\": \"drain\", \"deadline\": \"soon\"}", "deadline: expected a duration"),
            ("{\"state\": \"ready\", \"deadline\": \"1m\"}", "only with the state drain"),
            ("{\"weight\": 0, \"deadline\": \"1m\"}", "only with the state drain"),
            ("{\"max_in_flight\": -1}", "not what is expected"),
            ("{\"max_in_flight\": 1000001}", "to 1000000"),
            ("{\"weight\": 1, \"ttl\": \"5\"}", "ttl: expected a duration"),
            ("{\"weight\": 1, \"reason\": \"a\\nb\"}", "one line"),
            ("{\"state\": \"ready\", \"state\": \"drain\"}", "duplicate field `state`"),
        ];
        for (text, expected) in cases {
            let problem = parse_json(text).unwrap_err();
            assert_eq!(problem.status(), 400, "{text}");
            assert!(problem.detail().contains(expected), "{text}: {}", problem.detail());
        }
    }

    #[test]
    fn a_form_is_not_taken_for_json() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        assert_eq!(parse(&headers, b"{\"state\": \"ready\"}").unwrap_err().status(), 415);
    }
}
