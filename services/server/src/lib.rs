//! The demo and test backend: says who it is, and misbehaves on request.
//!
//! A load balancer can only be shown and tested against something behind it. This server answers
//! on every shape of traffic that a proxy must carry (small, large, slow, streamed, upgraded), puts
//! its name on each answer so that a client can tell the replicas apart, can be told to be not
//! ready, and can inject faults. Faults spare probes, metrics and the admin API: a replica that
//! fails its users while its probes pass is exactly what a balancer must notice.

mod admin;
mod faults;
mod identity;
mod metrics;
mod payload;
mod settings;
mod state;
mod traffic;
mod websocket;

use std::{net::TcpListener, sync::Arc};

use axum::{
    Router, middleware,
    routing::{any, get},
};
use chassis::{observe, serve, shutdown::Shutdown};

pub use crate::settings::Settings;
use crate::state::Server;

/// Serves on `listener` until `shutdown` asks for a stop and the stop is done.
///
/// # Errors
/// The listener could not be used.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let plan = settings.stop;
    let address = listener.local_addr()?;
    let server = Arc::new(Server::new(settings, shutdown.clone()));
    tracing::info!(name = server.name(), instance = server.instance(), %address, "serving");

    let ready = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            server.stop_requested().await;
            server.show_readiness();
        }
    });
    let result = serve::serve(listener, router(&server), shutdown, plan).await;
    ready.abort();
    // An upgraded connection is no longer the HTTP server's, so nobody else waits for its end.
    server.websockets_closed().await;
    result
}

fn router(server: &Arc<Server>) -> Router {
    let not_ready = {
        let server = Arc::clone(server);
        Arc::new(move || server.why_not_ready())
    };
    let observed =
        observe::routes(server.metrics().registry(), server.shutdown().clone(), not_ready);
    traffic_routes(server).merge(admin::routes(Arc::clone(server))).merge(observed)
}

/// Everything that counts as traffic, unknown paths included.
fn traffic_routes(server: &Arc<Server>) -> Router {
    Router::new()
        .route("/", get(identity::identity))
        .route("/echo", any(identity::echo))
        .route("/echo/{*path}", any(identity::echo))
        .route("/delay/{duration}", any(payload::delay))
        .route("/status/{code}", any(payload::status))
        .route("/bytes/{size}", get(payload::bytes))
        .route("/stream/{lines}", get(payload::stream))
        .route("/ws", any(websocket::echo))
        .method_not_allowed_fallback(traffic::method_not_allowed)
        .fallback(traffic::not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(server), traffic::serve))
        .with_state(Arc::clone(server))
}
