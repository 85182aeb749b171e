//! The proxy's Prometheus metrics, put together when somebody scrapes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use balance::{Admin, EjectReason, Health, Policy, Pool, PoolView, Rung, Withheld};
use chassis::metrics::DURATION_BUCKETS;
use prometheus::{
    core::{Collector, Desc},
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::{
    control::Control,
    error::{Reason, Source},
    limits::Limit,
    probe::ProbeCounts,
    stats::{Durations, Gauges, NO_BACKEND, Numbers, Stats},
    sticky::VisitCounts,
};

const POOL: &str = "default";

/// Why attempts are commonly followed by another one.
const RETRIED: [Reason; 6] = [
    Reason::ConnectRefused,
    Reason::ConnectTimeout,
    Reason::ConnectFailed,
    Reason::ResetBeforeHeaders,
    Reason::ResponseTimeout,
    Reason::Draining,
];

/// Collects everything that the workers and the pool know.
pub(crate) struct ProxyCollector {
    pub(crate) control: Arc<Control>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) probes: Arc<ProbeCounts>,
}

impl Collector for ProxyCollector {
    /// None: the names below are told apart by being in one place.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let numbers: Vec<(String, Numbers)> = self.stats.numbers().into_iter().collect();
        let view = self.control.read(|pool| pool.view());
        let present: Vec<&str> = view.backends.iter().map(|backend| backend.id.as_str()).collect();
        let mut families = traffic_families(&numbers, &present);
        families.extend(self.pool_families(&view));
        families.extend(self.process_families());
        // A family without a series would be left out with an error by the encoder.
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}

fn traffic_families(numbers: &[(String, Numbers)], present: &[&str]) -> Vec<MetricFamily> {
    let requests = numbers.iter().flat_map(|(backend, numbers)| {
        numbers.requests.iter().map(|((method, code), count)| {
            let code = code.to_string();
            let labels =
                [("pool", POOL), ("backend", backend), ("method", method), ("code", &code)];
            counter(&labels, *count)
        })
    });
    let failures = by_reason(numbers, present, |numbers| &numbers.failures, may_fail);
    let retries = by_reason(
        numbers,
        present,
        |numbers| &numbers.retries,
        |backend, reason| backend != NO_BACKEND && RETRIED.contains(&reason),
    );
    let durations = |durations: fn(&Numbers) -> &Durations| {
        numbers.iter().map(move |(backend, numbers)| {
            histogram(&[("pool", POOL), ("backend", backend)], durations(numbers))
        })
    };
    vec![
        family(
            "evenkeel_requests_total",
            "Requests by the backend that served them last, method and status.",
            MetricType::COUNTER,
            requests,
        ),
        family(
            "evenkeel_failures_total",
            "Attempts that failed, by reason, those that another attempt made good included.",
            MetricType::COUNTER,
            failures,
        ),
        family(
            "evenkeel_retries_total",
            "Failed attempts that were followed by another one, by reason.",
            MetricType::COUNTER,
            retries,
        ),
        family(
            "evenkeel_request_duration_seconds",
            "From a request's head to the end of its response.",
            MetricType::HISTOGRAM,
            durations(|numbers| &numbers.request_durations),
        ),
        family(
            "evenkeel_upstream_duration_seconds",
            "From the start of an attempt to the head of the backend's response.",
            MetricType::HISTOGRAM,
            durations(|numbers| &numbers.upstream_durations),
        ),
        family(
            "evenkeel_connect_duration_seconds",
            "For making a connection to a backend.",
            MetricType::HISTOGRAM,
            durations(|numbers| &numbers.connect_durations),
        ),
    ]
}

/// A counter by backend and reason, with a zero for what `may` happen and has not yet: `rate` sees
/// an increase only over a value that was there before, and would miss the first failure of all.
fn by_reason(
    numbers: &[(String, Numbers)],
    present: &[&str],
    counts: fn(&Numbers) -> &BTreeMap<Reason, u64>,
    may: fn(&str, Reason) -> bool,
) -> Vec<Metric> {
    let mut series = BTreeMap::new();
    let known = numbers.iter().map(|(backend, _)| backend.as_str());
    for backend in known.chain(present.iter().copied()) {
        let reasons = Reason::ALL.into_iter().filter(|reason| may(backend, *reason));
        series.extend(reasons.map(|reason| ((backend, reason), 0)));
    }
    for (backend, numbers) in numbers {
        let counts = counts(numbers).iter();
        series.extend(counts.map(|(reason, count)| ((backend.as_str(), *reason), *count)));
    }
    let counter = |((backend, reason), count): ((&str, Reason), u64)| {
        counter(&[("pool", POOL), ("backend", backend), ("reason", reason.token())], count)
    };
    series.into_iter().map(counter).collect()
}

/// Whether requests of a backend, or those that no backend got, are known to fail for a reason. What
/// clients do wrong says nothing of a backend, and has no zero there.
fn may_fail(backend: &str, reason: Reason) -> bool {
    let is_of_backend = reason.source() == Source::Backend;
    if backend == NO_BACKEND { !is_of_backend } else { is_of_backend || RETRIED.contains(&reason) }
}

impl ProxyCollector {
    fn pool_families(&self, view: &PoolView) -> Vec<MetricFamily> {
        let backends = &view.backends;
        let labels = |backend: &str| [("pool", POOL), ("backend", backend)].map(own);
        let up = backends.iter().map(|backend| {
            gauge(
                labels(backend.id.as_str()),
                f64::from(u8::from(matches!(backend.health, Health::Up | Health::Degraded))),
            )
        });
        let in_flight = backends
            .iter()
            .map(|backend| gauge(labels(backend.id.as_str()), f64::from(backend.in_flight)));
        let weight = backends
            .iter()
            .map(|backend| gauge(labels(backend.id.as_str()), f64::from(backend.weight)));
        let tier = backends
            .iter()
            .map(|backend| gauge(labels(backend.id.as_str()), f64::from(backend.tier)));
        let limit = backends.iter().filter_map(|backend| {
            Some(gauge(labels(backend.id.as_str()), f64::from(backend.max_in_flight?)))
        });
        let tunnels = backends
            .iter()
            .map(|backend| gauge(labels(backend.id.as_str()), f64::from(backend.tunnels)));
        let admin = backends.iter().flat_map(|backend| {
            [Admin::Ready, Admin::Drain, Admin::Maint].map(|state| {
                let mut labels = labels(backend.id.as_str()).to_vec();
                labels.push(own(("state", state.as_str())));
                gauge(labels, f64::from(u8::from(backend.admin == state)))
            })
        });
        let picks = Rung::ALL.map(|rung| {
            let count = view.picks.get(&rung).copied().unwrap_or_default();
            counter(&[("pool", POOL), ("rung", rung.as_str())], count)
        });
        let policies = Policy::ALL.map(|policy| {
            let is_it = f64::from(u8::from(view.plan.policy == policy));
            gauge([("pool", POOL), ("policy", policy.as_str())].map(own), is_it)
        });
        let ejections = EjectReason::ALL.map(|reason| {
            let count = view.ejections.get(&reason).copied().unwrap_or_default();
            counter(&[("pool", POOL), ("reason", reason.as_str())], count)
        });
        let withheld = Withheld::ALL.map(|reason| {
            let count = view.withheld.get(&reason).copied().unwrap_or_default();
            counter(&[("pool", POOL), ("reason", reason.as_str())], count)
        });
        vec![
            family(
                "evenkeel_picks_total",
                "Requests by the rung of the last-resort ladder that their first pick stood on.",
                MetricType::COUNTER,
                picks,
            ),
            family(
                "evenkeel_policy",
                "1 for the policy that backends are chosen by.",
                MetricType::GAUGE,
                policies,
            ),
            family(
                "evenkeel_ejections_total",
                "Backends taken out because requests failed, by reason.",
                MetricType::COUNTER,
                ejections,
            ),
            family(
                "evenkeel_ejections_withheld_total",
                "Backends that should have been ejected and were not, by what the pool lacked.",
                MetricType::COUNTER,
                withheld,
            ),
            family(
                "evenkeel_backend_up",
                "1 if the backend passes its probes and is not ejected.",
                MetricType::GAUGE,
                up,
            ),
            family(
                "evenkeel_backend_admin_state",
                "1 for the state that an operator wants of the backend.",
                MetricType::GAUGE,
                admin,
            ),
            family(
                "evenkeel_backend_weight",
                "The backend's share of the traffic relative to the others.",
                MetricType::GAUGE,
                weight,
            ),
            family(
                "evenkeel_backend_tier",
                "The backend's tier: 0 is wanted most, others stand by for those above.",
                MetricType::GAUGE,
                tier,
            ),
            family(
                "evenkeel_tier",
                "The lowest tier of the backends that serve.",
                MetricType::GAUGE,
                [gauge([("pool", POOL)].map(own), f64::from(view.tier))],
            ),
            family(
                "evenkeel_in_flight",
                "Requests that the backend is serving.",
                MetricType::GAUGE,
                in_flight,
            ),
            family(
                "evenkeel_tunnels",
                "Upgraded connections, such as WebSockets, among the requests in flight.",
                MetricType::GAUGE,
                tunnels,
            ),
            family(
                "evenkeel_max_in_flight",
                "Requests that the backend may serve at a time; absent where there is no limit.",
                MetricType::GAUGE,
                limit,
            ),
        ]
    }

    fn process_families(&self) -> Vec<MetricFamily> {
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

fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.into_iter().collect());
    family
}

fn own((name, value): (&str, &str)) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels.iter().copied().map(own).collect());
    metric.set_counter(counter);
    metric
}

fn gauge(labels: impl Into<Vec<LabelPair>>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels.into());
    metric.set_gauge(gauge);
    metric
}

fn histogram(labels: &[(&str, &str)], durations: &Durations) -> Metric {
    let mut cumulative = 0;
    let buckets = DURATION_BUCKETS.iter().zip(durations.buckets).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(durations.count);
    histogram.set_sample_sum(durations.sum);
    let mut metric = Metric::from_label(labels.iter().copied().map(own).collect());
    metric.set_histogram(histogram);
    metric
}
