//! What the server counts about its traffic.

use std::{sync::Arc, time::Instant};

use chassis::metrics::{DURATION_BUCKETS, method_label};
use http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// The code of a request whose client left before the answer (nginx's convention).
const CLIENT_LEFT: &str = "499";
/// The code of a request whose connection was cut without an answer (nginx's convention).
const CUT: &str = "444";

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: Histogram,
    in_flight: IntGauge,
    faults: IntCounterVec,
    pub(crate) ready: IntGauge,
    pub(crate) websockets: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = chassis::metrics::registry("server");
        let requests = IntCounterVec::new(
            Opts::new(
                "evenkeel_server_requests_total",
                "Requests that have ended; code 499: the client left, 444: cut by a fault.",
            ),
            &["method", "code"],
        );
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "evenkeel_server_request_duration_seconds",
                "Time from the request's head to the last byte of the answer's body.",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
        );
        let faults = IntCounterVec::new(
            Opts::new("evenkeel_server_faults_total", "Faults that were injected."),
            &["kind"],
        );
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        Self {
            in_flight: gauge("evenkeel_server_in_flight", "Requests that have not ended."),
            ready: gauge("evenkeel_server_ready", "Whether /readyz answers 200."),
            websockets: gauge("evenkeel_server_websockets", "WebSockets that are open."),
            requests: register(&registry, requests),
            duration: register(&registry, duration),
            faults: register(&registry, faults),
            registry,
        }
    }

    pub(crate) fn registry(&self) -> Registry {
        self.registry.clone()
    }

    pub(crate) fn count_fault(&self, kind: &str) {
        self.faults.with_label_values(&[kind]).inc();
    }

    /// Starts to record one request.
    pub(crate) fn begin(self: &Arc<Self>, method: &Method) -> Record {
        self.in_flight.inc();
        Record {
            metrics: Arc::clone(self),
            method: method_label(method),
            code: None,
            start: Instant::now(),
        }
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: Result<C, prometheus::Error>,
) -> C {
    let metric = metric.expect("the names and labels above are valid");
    registry.register(Box::new(metric.clone())).expect("each name above is used once");
    metric
}

/// One request. Dropping it ends the record, on every way out: the body's end, an error, a client
/// that hung up.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: Arc<Metrics>,
    method: &'static str,
    code: Option<Code>,
    start: Instant,
}

#[derive(Debug)]
enum Code {
    Answered(StatusCode),
    Cut,
}

impl Record {
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.code = Some(Code::Answered(status));
    }

    pub(crate) fn cut(&mut self) {
        self.code = Some(Code::Cut);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let code = match &self.code {
            Some(Code::Answered(status)) => status.as_str(),
            Some(Code::Cut) => CUT,
            None => CLIENT_LEFT,
        };
        self.metrics.in_flight.dec();
        self.metrics.requests.with_label_values(&[self.method, code]).inc();
        self.metrics.duration.observe(self.start.elapsed().as_secs_f64());
    }
}
