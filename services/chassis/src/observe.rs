//! `/healthz`, `/readyz` and `/metrics`, the same on each service.

use std::sync::Arc;

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{Method, StatusCode, Uri, header};
use prometheus::Registry;

use crate::{metrics, problem::Problem, shutdown::Shutdown};

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
        .method_not_allowed_fallback(wrong_method)
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; reading is GET", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        serve,
        shutdown::{self, Stop, StopPlan},
    };

    #[tokio::test]
    async fn a_wrong_method_is_answered_with_a_problem_and_the_methods_there_are() {
        let (trigger, shutdown) = shutdown::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let routes = routes(Registry::new(), shutdown.clone(), Arc::new(Vec::new));
        let plan = StopPlan { quiet: Default::default(), max: Default::default() };
        let server = tokio::spawn(serve::serve(listener, routes, shutdown, plan));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for path in PATHS {
            let url = format!("http://{address}{path}");
            assert_eq!(client.get(&url).send().await.unwrap().status(), 200, "{path}");
            let answer = client.delete(&url).send().await.unwrap();
            assert_eq!(answer.status(), 405, "{path}");
            assert_eq!(answer.headers()["allow"], "GET,HEAD", "{path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
            let text = answer.text().await.unwrap();
            assert!(text.contains(&format!("{path} does not take DELETE")), "{text}");
        }
        trigger.stop(Stop::Prompt);
        server.await.unwrap().unwrap();
    }
}
