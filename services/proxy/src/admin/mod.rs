//! The admin API: reading the state of pools and backends, and changing what operators may change.
//!
//! It has a port and a thread of its own, so that it answers while the data path is saturated and
//! can be kept from those who may only send traffic.

mod access;
mod audit;
mod change;
pub(crate) mod decisions;
mod events;
mod history;
mod idempotency;
mod incoming;
mod make;
mod openapi;
mod policy;
mod pools;
mod prediction;
mod tag;
mod view;
mod wait;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::{IntoResponse, Response},
};
use balance::Effective;
use chassis::{attempts::Attempts, detach, problem::Problem, shutdown::Shutdown};
use http::{Method, StatusCode, header};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use idempotency::Idempotency;

use access::Caller;

use crate::{
    audit::Audit, control::Control, decisions::Decisions, fence::Fence, history::History,
    settings::Settings, traffic::Sampler,
};

/// What the admin API shows and changes.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) control: Arc<Control>,
    pub(crate) sampler: Arc<Sampler>,
    pub(crate) history: Arc<History>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) fence: Fence,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) decisions: Arc<Decisions>,
    pub(crate) audit: Arc<Audit>,
    /// Who sent wrong tokens lately.
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) shutdown: Shutdown,
}

/// A change with the longest reason is a kilobyte.
const CHANGE_LONGEST: usize = 64 << 10;

/// The routes under `/v1`.
pub(crate) fn routes(admin: Admin) -> Router {
    let (router, api) = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(pools::pools))
        .routes(routes!(pools::pool, policy::patch))
        .routes(routes!(pools::backends))
        .routes(routes!(wait::one_backend, change::patch))
        .routes(routes!(events::events))
        .routes(routes!(history::history))
        .routes(routes!(decisions::decisions))
        .routes(routes!(decisions::decision_of, decisions::announce))
        .routes(routes!(audit::audit))
        .split_for_parts();
    router
        .merge(openapi::route(&api))
        .layer(DefaultBodyLimit::max(CHANGE_LONGEST))
        // One whose client has left may be made already, and its key must know the answer.
        .layer(middleware::from_fn(detach::changes))
        .layer(middleware::from_fn_with_state(admin.clone(), access::check))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .with_state(admin)
}

/// Errors that axum answers with plain text, such as an id that is not UTF-8, as problems too.
async fn as_problem(response: Response) -> Response {
    /// Its texts are one line.
    const LONGEST: usize = 1024;
    let status = response.status();
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/problem+json");
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), LONGEST).await.unwrap_or_default();
    Problem::new(status, String::from_utf8_lossy(&text)).into_response()
}

async fn wrong_method(method: Method) -> Problem {
    let detail = format!(
        "{method} is not possible here; reading is GET, changing a pool or a backend is PATCH"
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

async fn unknown_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here; start at /v1/pools")
}

impl Admin {
    /// Why the proxy is not ready: no backend can take a request, so that each would fail.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let pool = self.control.read(|pool| pool.view());
        if pool.eligible() > 0 {
            return Vec::new();
        }
        let Some(first) = pool.backends.first() else {
            let error = pool.discovery_error.unwrap_or_else(|| "not looked up yet".to_owned());
            return vec![format!("no backends are known: {error}")];
        };
        let count = |state| pool.backends.iter().filter(|b| b.effective == state).count();
        let states = [Effective::Down, Effective::Checking, Effective::Drained, Effective::Maint]
            .map(|state| (count(state), state.as_str()))
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, state)| format!("{count} {state}"))
            .collect::<Vec<_>>()
            .join(", ");
        let example = format!("{}: {}", first.id, first.reasons.join("; "));
        vec![format!("no backend can take requests ({states}); {example}")]
    }
}
