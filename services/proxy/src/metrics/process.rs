//! What is counted of the process as a whole: connections, limits, time, probes.

use std::sync::{
    PoisonError,
    atomic::{AtomicU64, Ordering},
};

use balance::Pool;
use prometheus::proto::{MetricFamily, MetricType};

use super::{
    POOL, ProxyCollector,
    series::{counter, family, gauge, histogram, own},
};
use crate::{
    limits::Limit,
    stats::{Durations, Gauges},
    sticky::VisitCounts,
};

impl ProxyCollector {
    pub(super) fn process_families(&self) -> Vec<MetricFamily> {
        let sum = |gauge: fn(&Gauges) -> i64| -> i64 {
            self.stats.gauges.iter().map(|gauges| gauge(gauges)).sum()
        };
        let open = sum(|gauges| gauges.client_open.load(Ordering::Relaxed));
        let alone = sum(|gauges| {
            let sharing = gauges.client_sharing.load(Ordering::Relaxed);
            gauges.client_active.load(Ordering::Relaxed) - sharing
        });
        let active = alone + sum(|gauges| gauges.client_shared.load(Ordering::Relaxed));
        let resting = sum(|gauges| gauges.client_resting.load(Ordering::Relaxed));
        let backend_open = sum(|gauges| gauges.backend_open.load(Ordering::Relaxed));
        let backend_idle = sum(|gauges| gauges.backend_idle.load(Ordering::Relaxed));
        let connection = |side, state, count: i64| {
            gauge([("side", side), ("state", state)].map(own), count.max(0) as f64)
        };
        let exhausted = self
            .stats
            .gauges
            .iter()
            .map(|gauges| gauges.budget_exhausted.load(Ordering::Relaxed))
            .sum();
        let buffered: usize = self.stats.gauges.iter().map(|gauges| gauges.buffered.bytes()).sum();
        let count = |gauge: fn(&Gauges) -> &AtomicU64| -> u64 {
            self.stats.gauges.iter().map(|gauges| gauge(gauges).load(Ordering::Relaxed)).sum()
        };
        let visits = (0..VisitCounts::RESULTS.len()).map(|at| {
            let all = self.stats.gauges.iter().map(|gauges| gauges.visits.counts()[at]);
            counter(&[("pool", POOL), ("result", VisitCounts::RESULTS[at])], all.sum())
        });
        let timeout = |phase, gauge| counter(&[("phase", phase)], count(gauge));
        let mut queued = Durations::default();
        for gauges in &self.stats.gauges {
            queued.add(&gauges.queue_durations.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let waiting = self.control.read(Pool::waiting) as f64;
        let saving = &self.control.saving;
        let saved =
            saving.is_saved().map(|is_saved| gauge(Vec::new(), f64::from(u8::from(is_saved))));
        let save_errors = saving.is_saved().map(|_| counter(&[], saving.errors()));
        let probes = |result, count: u64| counter(&[("pool", POOL), ("result", result)], count);
        vec![
            family(
                "evenkeel_connections",
                "Open connections, by side, and whether a request is on them.",
                MetricType::GAUGE,
                [
                    connection("client", "active", active),
                    connection("client", "idle", open - active - resting),
                    connection("client", "resting", resting),
                    connection("backend", "active", backend_open - backend_idle),
                    connection("backend", "idle", backend_idle),
                ],
            ),
            family(
                "evenkeel_backend_idle_closed_total",
                "Connections that a backend closed while they waited for a request.",
                MetricType::COUNTER,
                [counter(&[], count(|gauges| &gauges.backend_idle_closed))],
            ),
            family(
                "evenkeel_invalid_requests_total",
                "Request heads that could not be read, answered 400, 414 or 431.",
                MetricType::COUNTER,
                [counter(&[], count(|gauges| &gauges.invalid_heads))],
            ),
            family(
                "evenkeel_client_timeouts_total",
                "Connections of clients that were closed for taking too long, by phase.",
                MetricType::COUNTER,
                [
                    timeout("header", |gauges| &gauges.header_timeouts),
                    timeout("idle", |gauges| &gauges.idle_timeouts),
                    timeout("write", |gauges| &gauges.write_timeouts),
                    timeout("tunnel", |gauges| &gauges.tunnel_timeouts),
                ],
            ),
            family(
                "evenkeel_buffered_bytes",
                "Bytes of responses that wait for clients, of uploads that wait for backends, and of heads without an end yet.",
                MetricType::GAUGE,
                [gauge(vec![], buffered as f64)],
            ),
            family(
                "evenkeel_pipes",
                "Pipes through which long responses pass.",
                MetricType::GAUGE,
                [gauge(vec![], sum(|gauges| gauges.pipes.load(Ordering::Relaxed)) as f64)],
            ),
            family(
                "evenkeel_limits_hit_total",
                "Times that a bound on what clients or backends may do was hit.",
                MetricType::COUNTER,
                Limit::ALL.map(|limit| {
                    let gauges = self.stats.gauges.iter();
                    let count = gauges.map(|gauges| gauges.limits.of(limit)).sum();
                    counter(&[("limit", limit.as_str())], count)
                }),
            ),
            family(
                "evenkeel_tunnels_ended_total",
                "Upgraded connections and event streams that ended at the deadline of a drain.",
                MetricType::COUNTER,
                [counter(&[], count(|gauges| &gauges.tunnels_ended))],
            ),
            family(
                "evenkeel_tunnels_cut_total",
                "Those of them that did not end with a good-bye from both sides.",
                MetricType::COUNTER,
                [counter(&[], count(|gauges| &gauges.tunnels_cut))],
            ),
            family(
                "evenkeel_queue_length",
                "Requests that wait for a backend with room, or for any to come back.",
                MetricType::GAUGE,
                [gauge([("pool", POOL)].map(own), waiting)],
            ),
            family(
                "evenkeel_queue_duration_seconds",
                "How long requests waited in line, those in vain included.",
                MetricType::HISTOGRAM,
                [histogram(&[("pool", POOL)], &queued)],
            ),
            family(
                "evenkeel_sticky_picks_total",
                "Requests with the cookie of a backend: sent to it, elsewhere as it was full, or unknown.",
                MetricType::COUNTER,
                visits,
            ),
            family(
                "evenkeel_retry_budget_exhausted_total",
                "Retries that were not made because the budget was spent.",
                MetricType::COUNTER,
                [counter(&[("pool", POOL)], exhausted)],
            ),
            family(
                "evenkeel_accept_errors_total",
                "Connections that could not be accepted, such as for want of file descriptors.",
                MetricType::COUNTER,
                [counter(&[], self.stats.accept_errors.load(Ordering::Relaxed))],
            ),
            family(
                "evenkeel_state_saved",
                "1 if all that operators want is in the state file; absent without one.",
                MetricType::GAUGE,
                saved,
            ),
            family(
                "evenkeel_state_write_errors_total",
                "Times that the state file could not be written; absent without one.",
                MetricType::COUNTER,
                save_errors,
            ),
            family(
                "evenkeel_probes_total",
                "Health probes by result.",
                MetricType::COUNTER,
                [
                    probes("pass", self.probes.passed.load(Ordering::Relaxed)),
                    probes("fail", self.probes.failed.load(Ordering::Relaxed)),
                    probes("not_made", self.probes.not_made.load(Ordering::Relaxed)),
                ],
            ),
        ]
    }
}
