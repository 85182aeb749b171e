//! What happened: each request is counted once, as an answer or as a failure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::{
    attempt::{Answer, Effort, Failure},
    options::DURATION_MAX,
};

/// Enough to see a pattern; the counts tell the rest.
const EXAMPLES_MAX: usize = 10;
/// A request may be due for a whole load and then take its whole timeout.
const LATENCY_MAX_MICROS: u64 = 2 * DURATION_MAX.as_micros() as u64;

#[derive(Debug)]
pub(crate) struct Tally {
    start: Instant,
    last_success: Instant,
    largest_gap: Duration,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<&'static str, u64>,
    served_by: BTreeMap<String, u64>,
    /// In microseconds, of complete answers.
    latency: Histogram<u64>,
    bytes: u64,
    examples: Vec<Value>,
    /// Connections that were opened.
    connections: u64,
    /// Kept connections that the server had closed before anything was sent on them.
    stale_reconnects: u64,
}

impl Tally {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            last_success: start,
            largest_gap: Duration::ZERO,
            statuses: BTreeMap::new(),
            failures: Failure::KINDS.into_iter().map(|kind| (kind, 0)).collect(),
            served_by: BTreeMap::new(),
            latency: Histogram::new_with_max(LATENCY_MAX_MICROS, 3)
                .expect("these bounds and three significant digits are supported"),
            bytes: 0,
            examples: Vec::new(),
            connections: 0,
            stale_reconnects: 0,
        }
    }

    /// Counts one request. Latency counts only where there was a complete answer.
    pub(crate) fn count(
        &mut self,
        result: Result<Answer, Failure>,
        latency: Duration,
        effort: &Effort,
    ) {
        self.connections += effort.connections;
        self.stale_reconnects += effort.stale_reconnects;
        match result {
            Ok(answer) => self.answered(answer, latency),
            Err(failure) => {
                *self.failures.entry(failure.kind()).or_default() += 1;
                self.example(json!(failure.to_string()));
            }
        }
    }

    fn answered(&mut self, answer: Answer, latency: Duration) {
        *self.statuses.entry(answer.status).or_default() += 1;
        if let Some(name) = answer.served_by {
            *self.served_by.entry(name).or_default() += 1;
        }
        self.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        self.bytes += answer.bytes;
        if is_success(answer.status) {
            let now = Instant::now();
            self.largest_gap = self.largest_gap.max(now - self.last_success);
            self.last_success = now;
        } else {
            self.example(json!(answer.status));
        }
    }

    /// Ends the gap that was open when the load ended.
    pub(crate) fn finish(&mut self) {
        self.largest_gap = self.largest_gap.max(self.last_success.elapsed());
    }

    fn example(&mut self, what: Value) {
        if self.examples.len() < EXAMPLES_MAX {
            let at = milliseconds(self.start.elapsed());
            self.examples.push(json!({ "at_ms": at, "what": what }));
        }
    }

    fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    fn ok(&self) -> u64 {
        self.statuses.iter().filter(|(status, _)| is_success(**status)).map(|(_, n)| n).sum()
    }

    fn failures(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Whether every request was answered completely, with 2xx, and there was one.
    pub(crate) fn is_clean(&self) -> bool {
        self.failures() == 0 && self.ok() == self.answers() && self.ok() > 0
    }

    pub(crate) fn progress(&self) -> String {
        format!(
            "{:>4.0}s  ok {}  other answers {}  failed {}",
            self.start.elapsed().as_secs_f64(),
            self.ok(),
            self.answers() - self.ok(),
            self.failures(),
        )
    }

    pub(crate) fn report(&self) -> Value {
        let seconds = self.start.elapsed().as_secs_f64();
        let quantile = |quantile| {
            milliseconds(Duration::from_micros(self.latency.value_at_quantile(quantile)))
        };
        json!({
            "sent": self.answers() + self.failures(),
            "ok": self.ok(),
            "not_ok": self.answers() - self.ok(),
            "failed": self.failures(),
            "statuses": self.statuses,
            "failures": self.failures,
            "examples": self.examples,
            "served_by": self.served_by,
            "connections": self.connections,
            "stale_reconnects": self.stale_reconnects,
            "bytes": self.bytes,
            "duration_seconds": seconds,
            "requests_per_second": (self.answers() as f64 / seconds).round(),
            "latency_ms": {
                "p50": quantile(0.5),
                "p95": quantile(0.95),
                "p99": quantile(0.99),
                "max": milliseconds(Duration::from_micros(self.latency.max())),
            },
            "largest_gap_ms": milliseconds(self.largest_gap),
        })
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
