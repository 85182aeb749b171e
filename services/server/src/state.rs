//! What all requests of one server share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use chassis::{
    secret::Secret,
    shutdown::{Shutdown, Stop},
};
use http::HeaderValue;
use tokio::sync::watch;

use crate::{Settings, faults::Faults, metrics::Metrics};

/// What WebSockets get after the rest of a stop to answer our close frame: a few round trips.
const WEBSOCKETS_CLOSE_WAIT: Duration = Duration::from_secs(1);

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    name_header: HeaderValue,
    version: String,
    instance: String,
    started_at: SystemTime,
    started: Instant,
    requests: AtomicU64,
    /// What an operator said; a stop makes the server not ready as well.
    ready: AtomicBool,
    /// WebSockets that are open, so that a stop can wait for their end.
    websockets: watch::Sender<usize>,
    faults: Faults,
    admin_token: Option<Secret>,
    metrics: Arc<Metrics>,
    stop_quiet: Duration,
    shutdown: Shutdown,
}

/// Counts one open WebSocket until it is dropped.
pub(crate) struct OpenWebSocket(Arc<Server>);

impl Drop for OpenWebSocket {
    fn drop(&mut self) {
        self.0.websockets.send_modify(|open| *open -= 1);
        self.0.metrics.websockets.dec();
    }
}

impl Server {
    pub(crate) fn new(settings: Settings, shutdown: Shutdown) -> Self {
        let server = Self {
            name_header: HeaderValue::from_str(&settings.name)
                .unwrap_or(HeaderValue::from_static("invalid")),
            name: settings.name,
            version: settings.version_label.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
            instance: format!("{:016x}", crate::faults::entropy()),
            started_at: SystemTime::now(),
            started: Instant::now(),
            requests: AtomicU64::new(0),
            ready: AtomicBool::new(true),
            websockets: watch::Sender::new(0),
            faults: Faults::new(settings.faults, settings.fault_seed),
            admin_token: settings.admin_token,
            metrics: Arc::new(Metrics::new()),
            stop_quiet: settings.stop.quiet,
            shutdown,
        };
        server.show_readiness();
        server
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
        self.show_readiness();
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn open_websocket(self: &Arc<Self>) -> OpenWebSocket {
        self.websockets.send_modify(|open| *open += 1);
        self.metrics.websockets.inc();
        OpenWebSocket(Arc::clone(self))
    }

    /// Brings the metric in line with what `/readyz` answers.
    pub(crate) fn show_readiness(&self) {
        let ready = self.is_ready() && !self.shutdown.is_requested();
        self.metrics.ready.set(i64::from(ready));
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn name_header(&self) -> HeaderValue {
        self.name_header.clone()
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Random for each start, so that a restart under the same name shows.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn started_at(&self) -> SystemTime {
        self.started_at
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn why_not_ready(&self) -> Vec<String> {
        if self.is_ready() { Vec::new() } else { vec!["told so through /admin/ready".to_owned()] }
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(crate) fn admin_token(&self) -> Option<&Secret> {
        self.admin_token.as_ref()
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Waits until a stop is asked for.
    pub(crate) async fn stop_requested(&self) -> Stop {
        self.shutdown.requested().await
    }

    /// Waits for the moment of a stop at which long-lived connections should go. Whoever routes
    /// here has had the quiet time to notice, so a client that connects again lands elsewhere.
    pub(crate) async fn time_to_leave(&self) {
        if self.stop_requested().await == Stop::Graceful {
            tokio::time::sleep(self.stop_quiet).await;
        }
    }

    /// Waits until no WebSocket is open any more, for a bounded time.
    pub(crate) async fn websockets_closed(&self) {
        let mut open = self.websockets.subscribe();
        let closed = open.wait_for(|open| *open == 0);
        if tokio::time::timeout(WEBSOCKETS_CLOSE_WAIT, closed).await.is_err() {
            tracing::warn!("WebSockets were still open at the end of the time to stop");
        }
    }
}
