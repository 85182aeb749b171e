//! Serving an axum router until a graceful stop is done.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::Response,
    serve::ListenerExt,
};
use http::{HeaderValue, Version, header};

use crate::{
    observe,
    shutdown::{Activity, Shutdown, StopPlan},
};

/// Serves until a stop is asked for, the quiet phase of `plan` is over, and requests in flight
/// have ended or run out of time.
///
/// # Errors
/// The listener could not be used.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: Shutdown,
    plan: StopPlan,
) -> std::io::Result<()> {
    let activity = Activity::default();
    let router = router.layer(middleware::from_fn_with_state(
        (shutdown.clone(), activity.clone()),
        note_and_close,
    ));
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
        // Small answers must not wait for the peer's acknowledgement; failure costs only time.
        let _ = stream.set_nodelay(true);
    });
    let quiet = {
        let shutdown = shutdown.clone();
        async move { shutdown.quiet(plan, || activity.count()).await }
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(quiet);
    tokio::select! {
        result = server => result,
        () = deadline(shutdown, plan.max + StopPlan::FINISH) => Ok(()),
    }
}

async fn deadline(shutdown: Shutdown, after: Duration) {
    shutdown.requested().await;
    tokio::time::sleep(after).await;
    tracing::warn!("requests were still in flight at the end of the time to stop");
}

/// Counts what is traffic; while stopping, asks clients to take their next request elsewhere.
async fn note_and_close(
    axum::extract::State((shutdown, activity)): axum::extract::State<(Shutdown, Activity)>,
    request: Request,
    next: Next,
) -> Response {
    if !observe::PATHS.contains(&request.uri().path()) {
        activity.note();
    }
    let version = request.version();
    let mut response = next.run(request).await;
    if shutdown.is_requested() && version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
