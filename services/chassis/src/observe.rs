//! `/healthz`, `/readyz` and `/metrics`, the same on each service.

use std::sync::Arc;

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use prometheus::Registry;

use crate::{metrics, shutdown::Shutdown};

/// The paths of [`routes`]. Requests to them are not traffic: they do not delay a stop.
pub const PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Says why the service is not ready, in sentences; nothing means ready.
pub type NotReady = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Routes for probes and Prometheus.
///
/// `/healthz` stays 200 as long as the process answers, also while it stops: a liveness probe
/// must not kill a service that is finishing its work. `/readyz` turns 503 at once at a stop.
pub fn routes(registry: Registry, shutdown: Shutdown, not_ready: NotReady) -> Router {
    let ready = move || {
        let mut reasons = not_ready();
        if shutdown.is_requested() {
            reasons.insert(0, "stopping".to_owned());
        }
        async move { ready_answer(&reasons) }
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(move || async move { metrics_answer(&registry) }))
}

fn ready_answer(reasons: &[String]) -> Response {
    if reasons.is_empty() {
        "ready\n".into_response()
    } else {
        let text = format!("not ready: {}\n", reasons.join("; "));
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

fn metrics_answer(registry: &Registry) -> Response {
    let content_type = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
    (content_type, metrics::render(registry)).into_response()
}
