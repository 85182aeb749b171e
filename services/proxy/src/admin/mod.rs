//! The admin API: reading the state of pools and backends, and changing what operators may change.
//!
//! It has a port and a thread of its own, so that it answers while the data path is saturated and
//! can be kept from those who may only send traffic.

mod change;
mod events;
mod history;
mod view;
mod wait;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension, Json, Router,
    extract::{ConnectInfo, Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use balance::Effective;
use chassis::{access, problem::Problem, shutdown::Shutdown};
use http::{HeaderMap, Method, StatusCode, header};

use crate::{
    control::Control, fence::Fence, history::History, settings::Settings, traffic::Sampler,
};

/// What the admin API shows and changes.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) control: Arc<Control>,
    pub(crate) sampler: Arc<Sampler>,
    pub(crate) history: Arc<History>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) fence: Fence,
    pub(crate) shutdown: Shutdown,
}

/// The routes under `/v1`.
pub(crate) fn routes(admin: Admin) -> Router {
    let backend = get(wait::one_backend).patch(change::patch);
    Router::new()
        .route("/v1/pools", get(pools))
        .route("/v1/pools/{pool}", get(one_pool))
        .route("/v1/pools/{pool}/backends", get(backends))
        .route("/v1/pools/{pool}/backends/{id}", backend)
        .route("/v1/events", get(events::events))
        .route("/v1/history", get(history::history))
        .layer(middleware::from_fn_with_state(admin.clone(), check_access))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .with_state(admin)
}

/// Who asks, for the audit trail.
#[derive(Clone, Debug)]
pub(crate) struct Caller(SocketAddr);

async fn check_access(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let allowed = if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        check_read(&admin, headers)
    } else {
        access::check_change(peer.ip(), headers, admin.settings.admin_token.as_ref())
    };
    match allowed {
        Ok(()) => {
            request.extensions_mut().insert(Caller(peer));
            as_problem(next.run(request).await).await
        }
        Err(problem) => problem.into_response(),
    }
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

/// Reading needs a token only where one is set for it; the admin token reads too.
fn check_read(admin: &Admin, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(read_token) = &admin.settings.admin_read_token else { return Ok(()) };
    let is_admin = admin.settings.admin_token.as_ref();
    if is_admin.is_some_and(|token| access::check_token(headers, token).is_ok()) {
        return Ok(());
    }
    access::check_token(headers, read_token)
}

async fn wrong_method(method: Method) -> Problem {
    let detail = format!("{method} is not possible here; reading is GET, changing is PATCH");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

async fn unknown_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here; start at /v1/pools")
}

async fn pools(State(admin): State<Admin>) -> Json<view::Everything> {
    Json(view::everything(&admin))
}

async fn one_pool(
    State(admin): State<Admin>,
    Path(pool): Path<String>,
) -> Result<Json<view::Pool>, Problem> {
    find_pool(&admin, &pool).map(Json)
}

async fn backends(
    State(admin): State<Admin>,
    Path(pool): Path<String>,
) -> Result<Json<view::Backends>, Problem> {
    find_pool(&admin, &pool).map(|pool| Json(pool.into_backends()))
}

fn find_pool(admin: &Admin, name: &str) -> Result<view::Pool, Problem> {
    let pool = view::pool(admin);
    if pool.name() == name { Ok(pool) } else { Err(no_pool(name, pool.name())) }
}

fn no_pool(name: &str, known: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no pool {name:?}; there is {known:?}"))
}

fn find_backend(admin: &Admin, pool: &str, id: &str) -> Result<view::Backend, Problem> {
    find_pool(admin, pool)?.into_backend(id).ok_or_else(|| no_backend(admin, id))
}

fn no_backend(admin: &Admin, id: &str) -> Problem {
    let ids: Vec<String> = admin
        .control
        .read(|pool| pool.view().backends.iter().map(|backend| backend.id.to_string()).collect());
    // Enough to see how ids look; a list of hundreds would help nobody.
    let some = ids.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let detail = format!("the pool has no backend {id:?}; it has {} such as {some}", ids.len());
    Problem::new(StatusCode::NOT_FOUND, detail)
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

/// The caller, its own words about who it is included.
fn actor(caller: &Extension<Caller>, headers: &HeaderMap) -> String {
    /// Longer names do not help on a page.
    const LONGEST: usize = 100;
    let address = caller.0.0.ip().to_canonical();
    let said = headers.get("x-evenkeel-actor").and_then(|value| value.to_str().ok());
    match said.map(str::trim).filter(|said| !said.is_empty()) {
        Some(said) => {
            let said: String = said.chars().take(LONGEST).collect();
            format!("{said} (from {address})")
        }
        None => address.to_string(),
    }
}
