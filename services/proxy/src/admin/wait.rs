//! `GET /v1/pools/{pool}/backends/{id}?wait=30s`: answers as soon as the backend is drained: nothing
//! is in flight any more, and where it keeps visitors, none comes.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use balance::BackendId;
use chassis::{problem::Problem, units};
use http::{StatusCode, header};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::{
    Admin,
    openapi::{Finding, Reading},
    pools::find_backend,
    view,
};

/// Longer waits are better asked for again: whatever is in between may cut them anyway.
const LONGEST: Duration = Duration::from_secs(600);

/// Between two looks. Whoever waits hears within 50 ms that the last request has ended.
const LOOK: Duration = Duration::from_millis(20);

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Answer as soon as it is drained, after this long at the latest: at most 10m
    #[param(example = "30s")]
    wait: Option<String>,
}

/// One backend, with the tag for `If-Match`
///
/// Without `wait`, or for a backend that is not draining, the answer comes at once.
#[utoipa::path(
    get,
    path = "/v1/pools/{pool}/backends/{id}",
    params(
        ("pool" = String, Path, description = "The name of a pool", example = "default"),
        ("id" = String, Path, description = "The id of a backend", example = "10.0.0.1:8080"),
        Wait,
    ),
    responses(
        (status = 200, body = view::Backend, headers(
            ("etag" = String, description = "Stands for what operators want of the backend")
        )),
        Reading,
        Finding,
    )
)]
pub(super) async fn one_backend(
    State(admin): State<Admin>,
    Path((pool, id)): Path<(String, String)>,
    Query(query): Query<Wait>,
) -> Result<Response, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    if let Some(text) = query.wait {
        let longest = units::positive_duration(&text)
            .ok()
            .filter(|wait| *wait <= LONGEST)
            .ok_or_else(|| bad(format!("wait: expected a duration up to {LONGEST:?}")))?;
        find_backend(&admin, &pool, &id)?;
        until_drained(&admin, &BackendId::new(&id), longest).await;
    }
    let backend = find_backend(&admin, &pool, &id)?;
    let tag = [(header::ETAG, backend.etag().to_owned())];
    Ok((tag, Json(backend)).into_response())
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
