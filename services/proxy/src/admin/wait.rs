//! `GET /v1/pools/{pool}/backends/{id}?wait=30s`: answers as soon as the backend is drained.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use balance::BackendId;
use chassis::{problem::Problem, units};
use http::StatusCode;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Admin, find_backend, view};

/// Longer waits are better asked for again: whatever is in between may cut them anyway.
const LONGEST: Duration = Duration::from_secs(600);

/// Between two looks. Whoever waits hears within 50 ms that the last request has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    wait: Option<String>,
}

/// Handles the request. Without `wait`, or for a backend that is not draining, it answers at once.
pub(super) async fn one_backend(
    State(admin): State<Admin>,
    Path((pool, id)): Path<(String, String)>,
    query: Result<Query<Wait>, QueryRejection>,
) -> Result<Json<view::Backend>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;
    if let Some(text) = query.wait {
        let longest = units::positive_duration(&text)
            .ok()
            .filter(|wait| *wait <= LONGEST)
            .ok_or_else(|| bad(format!("wait: expected a duration up to {LONGEST:?}")))?;
        find_backend(&admin, &pool, &id)?;
        until_drained(&admin, &BackendId::new(&id), longest).await;
    }
    find_backend(&admin, &pool, &id).map(Json)
}

async fn until_drained(admin: &Admin, id: &BackendId, longest: Duration) {
    let end = Instant::now() + longest;
    // An answer that is awaited must not hold up a stop.
    while !admin.shutdown.is_requested()
        && Instant::now() < end
        && admin.control.read(|pool| pool.is_draining(id))
    {
        tokio::time::sleep(LOOK).await;
    }
}
