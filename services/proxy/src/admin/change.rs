//! Changing a backend: `PATCH /v1/pools/{pool}/backends/{id}`.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use balance::{
    BackendId, BackendView, Change, MAX_IN_FLIGHT_MAX, Pool, PoolView, Refused, Reset, SaidAt,
    Time, WEIGHT_MAX,
};
use chassis::{problem::Problem, units};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin, Caller, audit,
    incoming::{self, Given, bad},
    make::{Asked, Saved, changed_meanwhile, make},
    openapi::Changing,
    pools::{find_backend, find_pool, no_backend},
    prediction::{After, Prediction},
    tag, view,
};
use crate::{
    audit::{Intent, Wanted},
    clock::said_text,
};

/// A change: a state, a weight, a limit of requests in flight, or several of them.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Change)]
#[serde(deny_unknown_fields)]
struct Body {
    state: Option<State_>,
    /// Its turns are as many of all turns as its weight is of all weights; null goes back to the
    /// configured one
    #[serde(default, deserialize_with = "incoming::given")]
    #[schema(value_type = Option<u32>, maximum = 256)]
    weight: Given<u32>,
    /// Requests in flight at a time; 0 is no limit, null goes back to the configured one
    #[serde(default, deserialize_with = "incoming::given")]
    #[schema(value_type = Option<u32>, maximum = 1_000_000)]
    max_in_flight: Given<u32>,
    /// One line, for whoever comes next
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// After this long, at most 30 days, what is changed goes back to what stood before, by itself.
    /// Without it the change stands, and replaces what was there for a while too
    #[schema(example = "30m")]
    ttl: Option<String>,
    /// With drain or maint: after this long, at most a day, upgraded connections are ended, and visits
    /// by the sticky cookie
    #[schema(example = "5m")]
    deadline: Option<String>,
    /// When it was said, if that was earlier: for whoever tells a proxy what it has missed. What was
    /// said after it stays as it is. Without it the change is newer than all that was said before
    #[schema(format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    said_at: Option<String>,
    /// Do it even if too few backends are left
    #[serde(default)]
    force: bool,
}

/// The query of a change.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Only tell what the change would do
    #[serde(default)]
    #[param(required = false)]
    pub(super) dry_run: bool,
}

/// A backend after its change, and whether the change is on disk.
#[derive(Serialize, ToSchema)]
struct Made {
    #[serde(flatten)]
    backend: view::Backend,
    #[serde(flatten)]
    saving: Saved,
}

/// What a change would do, with `dry_run`.
#[derive(Debug, Serialize, ToSchema)]
struct DryRun {
    /// Whether it would be refused without `force`
    refused: bool,
    /// Why, or that it would be done
    detail: String,
    prediction: Prediction,
}

/// Either of the two answers.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // Only its schema is used.
enum Changed {
    Made(Box<Made>),
    DryRun(DryRun),
}

/// The states as JSON names them. `not ready` is what the page calls maint.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = State)]
#[serde(rename_all = "lowercase", try_from = "String")]
enum State_ {
    Ready,
    Drain,
    Maint,
}

/// By hand, because serde would take an object with the name as its only field as well.
impl TryFrom<String> for State_ {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "ready" => Ok(Self::Ready),
            "drain" => Ok(Self::Drain),
            "maint" | "not ready" | "not_ready" => Ok(Self::Maint),
            _ => Err(format!("expected ready, drain or maint, not {name:?}")),
        }
    }
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

/// Changes a backend
///
/// Nothing has changed if the answer is an error. After a 200, no new request goes to a backend
/// that was taken out, but those of visitors to one that is drained; `saved` is false if the state file could not be written, so that the change
/// would be lost with the process. With `If-Match`, only if nobody has changed it since; with
/// `Idempotency-Key`, once even if it is sent again.
#[utoipa::path(
    patch,
    path = "/v1/pools/{pool}/backends/{id}",
    params(
        ("pool" = String, Path, description = "The name of a pool", example = "default"),
        ("id" = String, Path, description = "The id of a backend", example = "10.0.0.1:8080"),
        ("If-Match" = Option<String>, Header, description = "The tag of what is to be changed"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this one change"),
        ("X-Evenkeel-Actor" = Option<String>, Header, description = "Who asks, for the log"),
        Options,
    ),
    request_body(
        content = Body,
        example = json!({"state": "drain", "reason": "new disk", "ttl": "30m", "deadline": "5m"}),
    ),
    responses(
        (status = 200, body = Changed, headers(
            ("etag" = String, description = "The tag after the change")
        )),
        Changing,
    )
)]
pub(super) async fn patch(
    State(admin): State<Admin>,
    Path((pool, id)): Path<(String, String)>,
    Query(options): Query<Options>,
    Extension(caller): Extension<Caller>,
    (headers, uri): (HeaderMap, Uri),
    body: Bytes,
) -> Result<Response, Problem> {
    find_pool(&admin, &pool)?;
    let mut change = parse(&headers, &body, admin.control.clock.said_now())?;
    let actor = audit::actor(caller.address, &headers);
    change.actor = Some(actor.clone());
    if options.dry_run {
        return dry_run(&admin, &id, &headers, change).map(|told| Json(told).into_response());
    }
    let (reason, forced) = (change.reason.clone(), change.force);
    let (headers, uri, body) = (&headers, &uri, &body);
    let asked = Asked { caller: &caller, actor, reason, forced, headers, uri, body };
    let apply = |pool: &mut Pool, now| {
        let considered = consider(&admin, pool, &id, headers, &mut change, now)?;
        considered.verdict.map_err(|refused| {
            let problem = refusal(&id, &refused);
            match refused {
                Refused::Superseded { .. } => problem,
                _ => problem.with_member("prediction", considered.prediction),
            }
        })?;
        pool.change(&BackendId::new(&id), &change, now)
            .map_err(|_| no_backend(&pool.view(), &id))?;
        Ok((Wanted::Backend(considered.intent), Wanted::Backend(admin.intent_of(pool, &id))))
    };
    make(&admin, asked, apply, |saving| {
        let backend = find_backend(&admin, &pool, &id)?;
        Ok((backend.etag().to_owned(), Made { backend, saving }))
    })
    .await
}

/// Tells what a change would do, and changes nothing.
fn dry_run(
    admin: &Admin,
    id: &str,
    headers: &HeaderMap,
    mut change: Change,
) -> Result<DryRun, Problem> {
    let now = admin.control.clock.now();
    let considered =
        admin.control.read(|pool| consider(admin, pool, id, headers, &mut change, now))?;
    Ok(DryRun {
        refused: considered.verdict.is_err(),
        detail: match considered.verdict {
            Err(refused) => format!("{id} would stay as it is: {}", in_words(&refused)),
            Ok(()) => format!("{id} would be changed{}", considered.prediction.room_in_words()),
        },
        prediction: considered.prediction,
    })
}

/// The answer to a change that is refused.
pub(super) fn refusal(name: &str, refused: &Refused) -> Problem {
    let detail = format!("{name} stays as it is: {}", in_words(refused));
    let problem = Problem::new(StatusCode::CONFLICT, detail);
    match refused {
        Refused::Superseded { by } => problem.with_member("said_at", said_text(*by)),
        _ => problem,
    }
}

/// Why a change is refused, and what to do about it.
pub(super) fn in_words(refused: &Refused) -> String {
    match refused {
        Refused::Superseded { by } => {
            let by = said_text(*by);
            format!("{refused}, at {by}; leave out said_at to say it now")
        }
        _ => format!("{refused} with \"force\": true"),
    }
}

/// What there is to say about a change before it is made.
struct Considered {
    /// What operators want of it now.
    intent: Intent,
    prediction: Prediction,
    verdict: Result<(), Refused>,
}

/// Looks at a change from all sides. The prediction and the verdict are of the same moment as the
/// change itself: nobody else has the pool meanwhile.
fn consider(
    admin: &Admin,
    pool: &Pool,
    id: &str,
    headers: &HeaderMap,
    change: &mut Change,
    now: Time,
) -> Result<Considered, Problem> {
    let view: PoolView = pool.view();
    let backend = view.backends.iter().find(|backend| backend.id.as_str() == id);
    let backend = backend.ok_or_else(|| no_backend(&view, id))?;
    let latest = admin.sampler.latest();
    if !tag::matches(headers, &tag::of(backend, &admin.control.clock)) {
        let current = view::backend(admin, backend, &latest);
        let (words, tag) = (current.intent_in_words(), current.etag().to_owned());
        return Err(changed_meanwhile(id, &words, &tag, current));
    }
    change.said_at =
        change.said_at.or_else(|| Some(said_now(change, backend, admin.control.clock.said_now())));
    change.floor = admin.settings.floor.of(view.backends.len());
    let name = BackendId::new(id);
    let after = After {
        serving: pool.would_serve(&name, change, now),
        id,
        limit: change.limits().map(|_| pool.limit_after(&name, change, now)),
        floor: change.floor,
    };
    let prediction = Prediction::of(&view, &latest, &after);
    let verdict = pool.check_change(&name, change, now);
    Ok(Considered { intent: admin.intent(backend), prediction, verdict })
}

/// When a change is said that says nothing of it: now, and after all that it replaces, whatever
/// clocks that was said by.
fn said_now(change: &Change, backend: &BackendView, now: SaidAt) -> SaidAt {
    let replaced = [
        change.state.map(|_| backend.admin_said),
        change.weighs().map(|_| backend.weight_said),
        change.limits().map(|_| backend.max_in_flight_said),
    ];
    replaced.into_iter().flatten().map(|said| said.next(now)).max().unwrap_or(now)
}

fn parse(headers: &HeaderMap, body: &[u8], now: SaidAt) -> Result<Change, Problem> {
    let body: Body = incoming::json(headers, body)?;
    if body.state.is_none() && [body.weight, body.max_in_flight] == [Given::Nothing; 2] {
        return Err(bad("the change names neither a state nor a weight nor max_in_flight"));
    }
    if body.max_in_flight.value().is_some_and(|limit| limit > MAX_IN_FLIGHT_MAX) {
        let expected = format!("a whole number from 0 (no limit) to {MAX_IN_FLIGHT_MAX}");
        return Err(bad(format!("max_in_flight: expected {expected}")));
    }
    if body.weight.value().is_some_and(|weight| weight > WEIGHT_MAX) {
        return Err(bad(format!("weight: expected a whole number from 0 to {WEIGHT_MAX}")));
    }
    let reason = incoming::reason(body.reason)?;
    let ttl = incoming::ttl(body.ttl.as_deref())?;
    let deadline = body
        .deadline
        .map(|text| units::duration(&text))
        .transpose()
        .map_err(|expected| bad(format!("deadline: expected {expected}")))?;
    if deadline.is_some() && !matches!(body.state, Some(State_::Drain | State_::Maint)) {
        return Err(bad("deadline: expected only with the state drain or maint"));
    }
    Ok(Change {
        state: body.state.map(Into::into),
        weight: body.weight.value(),
        max_in_flight: body.max_in_flight.value(),
        reset: Reset {
            weight: body.weight == Given::Null,
            max_in_flight: body.max_in_flight == Given::Null,
        },
        said_at: incoming::said_at(body.said_at.as_deref(), now)?,
        reason,
        actor: None,
        ttl,
        deadline,
        force: body.force,
        floor: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header;

    use super::*;

    fn parse_json(text: &str) -> Result<Change, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        parse(&headers, text.as_bytes(), SaidAt(1_000))
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
    fn null_goes_back_to_what_is_configured_and_nothing_leaves_it() {
        let reset = |text: &str| {
            let Reset { weight, max_in_flight } = parse_json(text).unwrap().reset;
            (weight, max_in_flight)
        };
        assert_eq!(reset("{\"weight\": null}"), (true, false));
        assert_eq!(reset("{\"weight\": 0, \"max_in_flight\": null}"), (false, true));
        assert_eq!(reset("{\"state\": \"ready\"}"), (false, false));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        let cases = [
            ("{", "ends within its JSON object"),
            ("[\"maint\", null, null, \"why\", null, null, true]", "expected a JSON object"),
            ("{}", "neither a state nor a weight"),
            ("{\"reason\": \"x\"}", "neither a state nor a weight"),
            ("{\"state\": \"off\"}", "state: expected ready, drain or maint, not \"off\""),
            ("{\"state\": 1}", "state: expected text in quotes, not 1"),
            ("{\"state\": {\"maint\": null}}", "state: expected text in quotes, not an object"),
            ("{\"stat\": \"ready\"}", "unknown field \"stat\""),
            ("{\"weight\": -1}", "weight: expected a whole number"),
            ("{\"weight\": 257}", "0 to 256"),
            ("{\"state\": \"drain\", \"deadline\": \"soon\"}", "deadline: expected a duration"),
            ("{\"state\": \"ready\", \"deadline\": \"1m\"}", "only with the state drain"),
            ("{\"weight\": 0, \"deadline\": \"1m\"}", "only with the state drain"),
            ("{\"max_in_flight\": -1}", "max_in_flight: expected a whole number"),
            ("{\"max_in_flight\": 1000001}", "to 1000000"),
            ("{\"weight\": 1, \"ttl\": \"5\"}", "ttl: expected a duration"),
            ("{\"weight\": 1, \"reason\": \"a\\nb\"}", "one line"),
            ("{\"weight\": 1, \"said_at\": 5}", "said_at: expected text in quotes, not 5"),
            ("{\"weight\": 1, \"said_at\": \"noon\"}", "said_at: expected a time such as"),
            ("{\"weight\": 1, \"said_at\": \"1969-12-31T23:59:59Z\"}", "said_at: expected a time"),
            (
                "{\"weight\": 1, \"said_at\": \"1970-01-02T00:00:01.001Z\"}",
                "at most a day after this proxy's clock, which says 1970-01-01T00:00:01.000Z",
            ),
            ("{\"state\": \"ready\", \"state\": \"drain\"}", "the field \"state\" is there twice"),
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
        assert_eq!(
            parse(&headers, b"{\"state\": \"ready\"}", SaidAt(0)).unwrap_err().status(),
            415
        );
    }
}
