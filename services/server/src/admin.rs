//! Telling the server to be ready or not, and to misbehave.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, State, rejection::BytesRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use chassis::{access, json, problem::Problem};
use http::{StatusCode, request::Parts};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    faults::{Plan, Text},
    state::Server,
    traffic,
};

/// A change is a handful of fields.
const BODY_BYTES_MAX: usize = 16 * 1024;

pub(crate) fn routes(server: Arc<Server>) -> Router {
    Router::new()
        .route("/admin/ready", get(show_ready).put(set_ready))
        .route("/admin/faults", get(show_faults).put(set_faults).delete(clear_faults))
        .method_not_allowed_fallback(traffic::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(server)
}

/// Proof that the caller may change something.
struct MayChange;

impl FromRequestParts<Arc<Server>> for MayChange {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let ConnectInfo(peer) = peer.ok_or_else(|| {
            Problem::new(StatusCode::FORBIDDEN, "the caller's address is not known")
        })?;
        access::check_change(peer.ip(), &parts.headers, server.admin_token())?;
        Ok(Self)
    }
}

/// Proof that this server may be told to misbehave.
struct FaultsAllowed;

impl FromRequestParts<Arc<Server>> for FaultsAllowed {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        if server.faults().allowed() {
            return Ok(Self);
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "faults are not allowed on this server: start it with SERVER_FAULTS=true to allow them",
        ))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ready {
    ready: bool,
}

async fn show_ready(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({ "name": server.name(), "ready": server.is_ready() }))
}

async fn set_ready(
    _: MayChange,
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let Ready { ready } = object(body)?;
    server.set_ready(ready);
    tracing::info!(name = server.name(), ready, "readiness was set");
    Ok(show_ready(State(server)).await)
}

async fn show_faults(_: FaultsAllowed, State(server): State<Arc<Server>>) -> Json<Text> {
    Json(server.faults().text())
}

async fn set_faults(
    _: MayChange,
    _: FaultsAllowed,
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Text>, Problem> {
    let plan = Plan::parse(object(body)?)
        .map_err(|mistakes| Problem::new(StatusCode::BAD_REQUEST, mistakes))?;
    server.faults().set(Some(plan));
    let faults = server.faults().text();
    tracing::warn!(name = server.name(), ?faults, "faults were set");
    Ok(Json(faults))
}

async fn clear_faults(
    _: MayChange,
    _: FaultsAllowed,
    State(server): State<Arc<Server>>,
) -> Response {
    server.faults().set(None);
    tracing::info!(name = server.name(), "faults were cleared");
    StatusCode::NO_CONTENT.into_response()
}

/// Reads a JSON object.
fn object<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    json::object(&body).map_err(|mistake| Problem::new(StatusCode::BAD_REQUEST, mistake))
}
