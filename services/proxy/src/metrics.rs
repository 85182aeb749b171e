//! The proxy's Prometheus metrics, put together when somebody scrapes.

use std::{collections::BTreeMap, sync::Arc};

use balance::{Admin, EjectReason, Health, Policy, PoolView, Rung, Withheld};
use prometheus::{
    core::{Collector, Desc},
    proto::{Metric, MetricFamily, MetricType},
};

use self::series::{counter, family, gauge, histogram, own};
use crate::{
    control::Control,
    error::{Reason, Source},
    probe::ProbeCounts,
    stats::{Durations, NO_BACKEND, Numbers, Stats},
};

mod process;
mod series;

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
}
