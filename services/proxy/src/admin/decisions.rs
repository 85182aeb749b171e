//! `GET /v1/decisions`: why requests went where they went.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use balance::{BackendId, BackendView, PoolView};
use chassis::problem::Problem;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin,
    openapi::{Announcing, Finding, Reading},
};
use crate::{
    announced::{LIFETIME, is_unguessable},
    clock::Clock,
    control::POOL,
    decisions::{AttemptRecord, CANDIDATES_MOST, Candidate, Record},
    error::Source,
};

/// How a request was decided.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Decision {
    request_id: Option<String>,
    /// The end of the request, RFC 3339
    pub(crate) at: String,
    /// Why this is recorded: `sample`, `retry`, `failure`, or `announced`
    recorded: &'static str,
    pool: &'static str,
    policy: &'static str,
    method: &'static str,
    /// What the client got; 499 if it left
    status: u16,
    /// Why it failed, as in `Proxy-Status`
    reason: Option<&'static str>,
    /// At fault for that: `client`, `backend` or `proxy`
    source: Option<&'static str>,
    duration_ms: f64,
    first_byte_ms: Option<f64>,
    attempts: Vec<Attempt>,
    /// All backends, or the first of many, and why each was picked or passed over
    considered: Vec<Considered>,
    /// Backends that are left out of that list
    left_out: usize,
}

/// One try on one backend.
#[derive(Debug, Serialize, ToSchema)]
struct Attempt {
    backend: String,
    /// Since the request's begin
    started_ms: f64,
    duration_ms: f64,
    /// `answered`, or a reason
    result: &'static str,
}

/// A backend in a decision.
#[derive(Debug, Serialize, ToSchema)]
struct Considered {
    backend: String,
    weight: u32,
    /// Beside this request
    in_flight: u32,
    /// `picked`, `tried`, `passed_over` (it could have got the request) or `not_eligible`
    verdict: &'static str,
    why: String,
}

impl Decision {
    pub(crate) fn is_sample(&self) -> bool {
        self.recorded == "sample"
    }

    fn concerns(&self, backend: &str) -> bool {
        self.attempts.iter().any(|attempt| attempt.backend == backend)
    }

    fn considers(&self, backend: &str) -> bool {
        self.considered.iter().any(|considered| considered.backend == backend)
    }
}

/// A record with what the pool knows of those that were no candidates.
pub(crate) fn decision(record: Record, pool: &PoolView, clock: Clock) -> Decision {
    let policy = record.policy.as_str();
    let recorded = match (&record.failure, record.attempts.len()) {
        (Some(_), _) => "failure",
        (None, 2..) => "retry",
        (None, _) if record.is_announced => "announced",
        (None, _) => "sample",
    };
    let picked = record.attempts.last().map(|attempt| attempt.backend.clone());
    let of_picked = record.candidates.iter().find(|c| Some(&c.backend) == picked.as_ref());
    let eligible = record.candidates.iter().map(|candidate| {
        let (verdict, why) = verdict(candidate, of_picked, picked.as_ref(), &record, policy);
        Considered {
            backend: candidate.backend.to_string(),
            weight: candidate.weight,
            in_flight: candidate.in_flight,
            verdict,
            why,
        }
    });
    let is_candidate = |id: &BackendId| record.candidates.iter().any(|c| c.backend == *id);
    let others = pool.backends.iter().filter(|backend| !is_candidate(&backend.id));
    // Those that are eligible and were no candidates: cut off by the limit, or back since.
    let excluded = others.take(CANDIDATES_MOST).map(|backend| beside(backend, &record));
    let considered: Vec<Considered> = eligible.chain(excluded).collect();
    Decision {
        request_id: record.request_id.as_ref().and_then(|id| Some(id.to_str().ok()?.to_owned())),
        at: clock.text(record.at),
        recorded,
        pool: POOL,
        policy,
        method: record.method,
        status: record.code,
        reason: record.failure.map(|reason| reason.token()),
        source: record.failure.map(|reason| match reason.source() {
            Source::Client => "client",
            Source::Backend => "backend",
            Source::Proxy => "proxy",
        }),
        duration_ms: millis(record.duration),
        first_byte_ms: record.first_byte.map(millis),
        left_out: pool.backends.len().saturating_sub(considered.len()),
        attempts: record.attempts.iter().map(attempt).collect(),
        considered,
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn attempt(record: &AttemptRecord) -> Attempt {
    Attempt {
        backend: record.backend.to_string(),
        started_ms: millis(record.started),
        duration_ms: millis(record.took),
        result: record.failure.map_or("answered", |reason| reason.token()),
    }
}

/// What became of a candidate, and why.
fn verdict(
    candidate: &Candidate,
    of_picked: Option<&Candidate>,
    picked: Option<&BackendId>,
    record: &Record,
    policy: &str,
) -> (&'static str, String) {
    if Some(&candidate.backend) == picked {
        let by = if record.is_visit { "its cookie" } else { policy };
        return ("picked", format!("chosen by {by}"));
    }
    let before = record.attempts.iter().find(|attempt| attempt.backend == candidate.backend);
    if let Some(failure) = before.and_then(|attempt| attempt.failure) {
        return ("tried", format!("tried before for this request: {}", failure.token()));
    }
    if record.is_visit {
        return ("passed_over", "the request has the cookie of another one".to_owned());
    }
    let Some(of_picked) = of_picked else {
        return ("passed_over", "no backend was picked".to_owned());
    };
    let (here, there) = (candidate.in_flight, of_picked.in_flight);
    let why = match policy {
        "round_robin" => "it was another one's turn".to_owned(),
        "least_request" if load(candidate) > load(of_picked) => {
            format!("more in flight for its weight: {here}, where the one picked had {there}")
        }
        "least_request" => "no less in flight than the one picked, which came first".to_owned(),
        "p2c" => "not one of the two drawn, or the busier of them".to_owned(),
        "random" => "another one was drawn".to_owned(),
        "first" => "behind the one picked in the list".to_owned(),
        "hash" => "the key belongs to another one, or this one was too busy for it".to_owned(),
        policy => format!("{policy} chose another one"),
    };
    ("passed_over", why)
}

fn load(candidate: &Candidate) -> f64 {
    f64::from(candidate.in_flight + 1) / f64::from(candidate.weight.max(1))
}

/// What became of one that was no candidate. A request that has tried all of those goes on to
/// backends that need not serve.
fn beside(backend: &BackendView, record: &Record) -> Considered {
    let considered = not_eligible(backend);
    let at = record.attempts.iter().rposition(|attempt| attempt.backend == backend.id);
    match at.map(|at| (at + 1 == record.attempts.len(), record.attempts[at].failure)) {
        Some((true, _)) => {
            let why = match record.is_visit {
                true => "chosen by its cookie: it keeps its visitors".to_owned(),
                false => "those that serve had been tried, and it could".to_owned(),
            };
            Considered { verdict: "picked", why, ..considered }
        }
        Some((false, Some(failure))) => {
            let why = format!("tried before for this request: {}", failure.token());
            Considered { verdict: "tried", why, ..considered }
        }
        _ => considered,
    }
}

fn not_eligible(backend: &BackendView) -> Considered {
    let why = if backend.reasons.is_empty() {
        "no candidate for the worker at that moment; it is one now".to_owned()
    } else {
        backend.reasons.join("; ")
    };
    Considered {
        backend: backend.id.to_string(),
        weight: backend.weight,
        in_flight: backend.in_flight,
        verdict: "not_eligible",
        why,
    }
}

/// The query of `GET /v1/decisions`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Only those recorded for this
    #[param(inline)]
    recorded: Option<Recorded>,
    /// Only those with an attempt on this backend
    backend: Option<String>,
    /// Only those that picked this backend or passed it over
    considered: Option<String>,
    /// At most so many, the newest
    #[param(minimum = 1, maximum = 2000)]
    limit: Option<u16>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Recorded {
    Sample,
    Retry,
    Failure,
    Announced,
}

impl Recorded {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sample => "sample",
            Self::Retry => "retry",
            Self::Failure => "failure",
            Self::Announced => "announced",
        }
    }
}

/// Decisions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DecisionList {
    /// The share of successful requests that is recorded, 0 to 1
    sampled_share: f64,
    /// Records that found no room, since the start
    dropped_total: u64,
    #[schema(value_type = Vec<Decision>)]
    #[serde(serialize_with = "plain")]
    decisions: Vec<Arc<Decision>>,
}

fn plain<S: serde::Serializer>(
    decisions: &[Arc<Decision>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(decisions.iter().map(Arc::as_ref))
}

/// Decisions answered when no limit is asked for.
const LIMIT: u16 = 100;

/// Why requests went where they went, newest first
///
/// Failed and retried requests are always recorded, others are sampled; the last thousand of each.
/// Announced ones (`PUT /v1/decisions/{request_id}`) are recorded for certain; the last hundred.
#[utoipa::path(
    get,
    path = "/v1/decisions",
    params(Filter),
    responses((status = 200, body = DecisionList), Reading)
)]
pub(super) async fn decisions(
    State(admin): State<Admin>,
    Query(filter): Query<Filter>,
) -> Result<Json<DecisionList>, Problem> {
    let limit = filter.limit.unwrap_or(LIMIT);
    if !(1..=2000).contains(&limit) {
        let detail = "limit: expected 1 to 2000";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let wanted = |decision: &Arc<Decision>| {
        filter.recorded.is_none_or(|recorded| recorded.as_str() == decision.recorded)
            && filter.backend.as_deref().is_none_or(|backend| decision.concerns(backend))
            && filter.considered.as_deref().is_none_or(|backend| decision.considers(backend))
    };
    let all = admin.decisions.all().into_iter();
    Ok(Json(DecisionList {
        sampled_share: admin.decisions.share(),
        dropped_total: admin.decisions.dropped(),
        decisions: all.filter(wanted).take(limit.into()).collect(),
    }))
}

/// How one request was decided, by its `X-Request-Id`
#[utoipa::path(
    get,
    path = "/v1/decisions/{request_id}",
    params(("request_id" = String, Path, description = "The X-Request-Id of a request")),
    responses((status = 200, body = Decision), Reading, Finding)
)]
pub(super) async fn decision_of(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let all = admin.decisions.all();
    let found = all.into_iter().find(|decision| decision.request_id.as_deref() == Some(&id));
    found.map(|found| Json(&*found).into_response()).ok_or_else(|| {
        let share = admin.decisions.share() * 100.0;
        let detail = format!(
            "no decision is recorded for {id:?}: failed and retried requests are, and {share} % \
             of the others (PROXY_DECISIONS), the last thousand of each"
        );
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

/// An announced request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Announcement {
    request_id: String,
    /// Until when it is waited for, RFC 3339
    until: String,
}

/// Has one request recorded for certain
///
/// The first request that comes with this id as `X-Request-Id` within half a minute keeps the id
/// and is recorded, whatever the sampling says. Since whoever knows the id can be that request, it
/// has to be one that nobody guesses: 32 random hexadecimal digits.
#[utoipa::path(
    put,
    path = "/v1/decisions/{request_id}",
    params((
        "request_id" = String, Path, pattern = "^[0-9a-f]{32}$",
        description = "The X-Request-Id that the request will have",
        example = "7f8a1f0e5c3d4b2a9e6d1c0b8f7a6e5d",
    )),
    responses((status = 200, body = Announcement), Announcing)
)]
pub(super) async fn announce(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Announcement>, Problem> {
    if !is_unguessable(&id) {
        let detail = "request_id: expected 32 random hexadecimal digits in lower case";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    admin.decisions.announce(&id).await.map_err(|wait| {
        let seconds = wait.as_secs_f64().ceil() as u64;
        let detail = format!("too many requests are announced: try again in {seconds} s");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    })?;
    let until = admin.control.clock.text(admin.control.clock.now() + LIFETIME);
    Ok(Json(Announcement { request_id: id, until }))
}
