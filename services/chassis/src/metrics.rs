//! The process's Prometheus registry: build information, process numbers, and what a service adds.

use prometheus::{IntGaugeVec, Opts, Registry, TextEncoder};

/// Bucket bounds of every duration histogram, in seconds: 0.5 ms to 10 s. The lowest three are for
/// backends on the same network; the others are those of OpenTelemetry's HTTP conventions.
pub const DURATION_BUCKETS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

/// Methods that may be a label: those of RFC 9110 §9.3 and PATCH (RFC 5789).
pub const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// What stands for any other method: a client could invent one per request.
pub const OTHER_METHOD: &str = "_OTHER";

/// The label of a method.
#[must_use]
pub fn method_label(method: &http::Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER_METHOD)
}

/// A registry with `evenkeel_build_info` and the process metrics.
#[must_use]
pub fn registry(service: &str) -> Registry {
    let registry = Registry::new();
    let build = IntGaugeVec::new(
        Opts::new("evenkeel_build_info", "Version of the running binary; the value is always 1."),
        &["service", "version"],
    )
    .expect("the name and labels are valid");
    build.with_label_values(&[service, env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build)).expect("nothing else is registered under this name");
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process)).expect("nothing else is registered under these names");
    registry
}

/// The registry's content in the text format that Prometheus scrapes.
#[must_use]
pub fn render(registry: &Registry) -> String {
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_else(|error| {
        tracing::error!(%error, "metrics could not be encoded");
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invented_method_is_counted_as_other() {
        assert_eq!(method_label(&http::Method::GET), "GET");
        assert_eq!(method_label(&http::Method::from_bytes(b"BREW").unwrap()), "_OTHER");
    }

    #[test]
    fn build_information_is_always_there() {
        let text = render(&registry("proxy"));
        assert!(text.contains("evenkeel_build_info{service=\"proxy\",version="));
    }
}
