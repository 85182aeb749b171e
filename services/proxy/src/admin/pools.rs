//! Reading pools and backends.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use balance::PoolView;
use chassis::problem::Problem;
use http::{StatusCode, header};

use super::{
    Admin,
    openapi::{Finding, Reading},
    view,
};

/// Everything: the proxy, its pools and their backends
#[utoipa::path(
    get,
    path = "/v1/pools",
    responses((status = 200, body = view::Everything), Reading)
)]
pub(super) async fn pools(State(admin): State<Admin>) -> Json<view::Everything> {
    Json(view::everything(&admin))
}

/// One pool with its backends, and the tag for `If-Match`
#[utoipa::path(
    get,
    path = "/v1/pools/{pool}",
    params(("pool" = String, Path, description = "The name of a pool", example = "default")),
    responses(
        (status = 200, body = view::Pool, headers(
            ("etag" = String, description = "Stands for what operators want of the pool")
        )),
        Reading,
        Finding,
    )
)]
pub(super) async fn pool(
    State(admin): State<Admin>,
    Path(pool): Path<String>,
) -> Result<Response, Problem> {
    let pool = find_pool(&admin, &pool)?;
    let tag = [(header::ETAG, pool.etag().to_owned())];
    Ok((tag, Json(pool)).into_response())
}

/// The backends of a pool
#[utoipa::path(
    get,
    path = "/v1/pools/{pool}/backends",
    params(("pool" = String, Path, description = "The name of a pool", example = "default")),
    responses((status = 200, body = view::Backends), Reading, Finding)
)]
pub(super) async fn backends(
    State(admin): State<Admin>,
    Path(pool): Path<String>,
) -> Result<Json<view::Backends>, Problem> {
    find_pool(&admin, &pool).map(|pool| Json(pool.into_backends()))
}

pub(super) fn find_pool(admin: &Admin, name: &str) -> Result<view::Pool, Problem> {
    let pool = view::pool(admin);
    if pool.name() == name { Ok(pool) } else { Err(no_pool(name, pool.name())) }
}

fn no_pool(name: &str, known: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no pool {name:?}; there is {known:?}"))
}

pub(super) fn find_backend(admin: &Admin, pool: &str, id: &str) -> Result<view::Backend, Problem> {
    find_pool(admin, pool)?
        .into_backend(id)
        .ok_or_else(|| no_backend(&admin.control.read(|pool| pool.view()), id))
}

/// To be answered for an id that no backend of the pool has.
pub(super) fn no_backend(pool: &PoolView, id: &str) -> Problem {
    if pool.backends.is_empty() {
        let detail = format!("the pool has no backend {id:?}; it has none at all");
        return Problem::new(StatusCode::NOT_FOUND, detail);
    }
    // Enough to see how ids look; a list of hundreds would help nobody.
    let some: Vec<&str> = pool.backends.iter().take(5).map(|b| b.id.as_str()).collect();
    let (count, some) = (pool.backends.len(), some.join(", "));
    let detail = format!("the pool has no backend {id:?}; it has {count} such as {some}");
    Problem::new(StatusCode::NOT_FOUND, detail)
}

#[cfg(test)]
mod tests {
    use balance::{Policy, Pool, ProbePlan};

    use super::*;

    #[test]
    fn an_unknown_id_in_an_empty_pool_is_told_in_a_whole_sentence() {
        let pool = Pool::new("default", Policy::default(), ProbePlan::default(), 1).view();
        let told = no_backend(&pool, "a:1");
        assert_eq!(told.detail(), "the pool has no backend \"a:1\"; it has none at all");
    }
}
