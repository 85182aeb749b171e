//! What the dashboard counts about itself.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// The dashboard's own metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Polls of the admin API.
    pub(crate) polls: IntCounterVec,
    /// Open live connections.
    pub(crate) live_clients: IntGauge,
    /// Changes asked for on the page.
    pub(crate) changes: IntCounterVec,
    /// Attempts to sign in.
    pub(crate) sign_ins: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["result"])
                .expect("the name and label are valid");
            registry
                .register(Box::new(counter.clone()))
                .expect("nothing else is registered under this name");
            counter
        };
        let live_clients =
            IntGauge::new("evenkeel_dashboard_live_clients", "Pages that are fed live.")
                .expect("the name is valid");
        registry
            .register(Box::new(live_clients.clone()))
            .expect("nothing else is registered under this name");
        Self {
            polls: counter(
                "evenkeel_dashboard_polls_total",
                "Polls of the proxy's admin API by result.",
            ),
            live_clients,
            changes: counter(
                "evenkeel_dashboard_changes_total",
                "Changes of backends asked for on the page by result.",
            ),
            sign_ins: counter(
                "evenkeel_dashboard_sign_ins_total",
                "Attempts to sign in by result.",
            ),
        }
    }
}
