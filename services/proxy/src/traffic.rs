//! The last seconds of each backend, for people: rates, error shares and percentiles.
//!
//! A sampler takes what the workers recorded twice a second and keeps ten seconds of it. Percentiles
//! come from histograms that are added up, over workers and over backends; percentiles themselves
//! cannot be averaged.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use balance::BackendId;
use hdrhistogram::Histogram;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    control::Control,
    history::{self, History, Second},
    latency::Latency,
    stats::{NO_BACKEND, Recent, Stats, histogram},
};

/// How far back error shares and percentiles look, in samples: ten seconds are long enough for a p99 of a hundred requests a
/// second to mean something, short enough that a recovery shows.
const WINDOW: usize = 20;

/// How far back rates look, in samples: an operator who takes a backend out wants to see it within
/// a second.
const RATE_WINDOW: usize = 2;

/// Between samples.
const EVERY: Duration = Duration::from_millis(500);

/// The last seconds of a backend or a pool.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Traffic {
    requests_total: u64,
    failures_total: u64,
    requests_per_second: f64,
    /// 0 to 1.
    error_share: f64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    window_seconds: u64,
    /// The durations behind the percentiles, for whoever adds up several proxies.
    latency: Latency,
}

/// Buckets of a window's [`Latency`]: at scale 6, a per cent, they hold four powers of two, and a
/// backend's JSON stays below 3 KiB. One whose durations reach over more than eight has more, since
/// percentiles within two per cent count for more than the size of an answer.
const LATENCY_BUCKETS: usize = 256;

/// The latest [`Traffic`] of each backend and of all.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    history: Mutex<BTreeMap<String, Window>>,
    latest: Mutex<Arc<Latest>>,
}

/// The samples of one backend.
#[derive(Debug)]
struct Window {
    /// Oldest first, one more than the window: rates are differences.
    samples: VecDeque<Recent>,
    /// The durations of those in the window. Kept rather than added up each time, so that a sample
    /// costs as much as what is new in it, and next to nothing for a backend that rests.
    durations: Histogram<u32>,
}

impl Default for Window {
    fn default() -> Self {
        // A new series begins at nothing, so that its first requests count.
        Self { samples: [Recent::default()].into(), durations: histogram() }
    }
}

impl Window {
    fn push(&mut self, sample: Recent) {
        if let Some(durations) = &sample.durations {
            // Fails only if the target had a fixed range.
            let _ = self.durations.add(durations);
        }
        self.samples.push_back(sample);
        if self.samples.len() > WINDOW + 1 {
            self.samples.pop_front();
        }
        let leaving = self.samples.len().checked_sub(WINDOW + 1).map(|at| &mut self.samples[at]);
        if let Some(durations) = leaving.and_then(|sample| sample.durations.take()) {
            // Fails only if it had not been added.
            let _ = self.durations.subtract(&durations);
        }
    }
}

/// Traffic by backend, and in total.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latest {
    pub(crate) backends: BTreeMap<String, Traffic>,
    pub(crate) pool: Traffic,
}

impl Traffic {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests_per_second
    }
}

impl Sampler {
    /// The latest sample.
    pub(crate) fn latest(&self) -> Arc<Latest> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a sample, and gives what came since the one before.
    pub(crate) fn sample(&self, stats: &Stats) -> BTreeMap<String, Second> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = stats.take_recent();
        history.retain(|id, _| recent.contains_key(id));
        let mut grown = BTreeMap::new();
        for (id, sample) in recent {
            let window = history.entry(id.clone()).or_default();
            if let Some(before) = window.samples.back() {
                grown.insert(id, sample.since(before));
            }
            window.push(sample);
        }
        let mut all = histogram();
        for window in history.values().filter(|window| !window.durations.is_empty()) {
            // Fails only if the target had a fixed range.
            let _ = all.add(&window.durations);
        }
        let backends = history.iter().filter(|(id, _)| *id != NO_BACKEND);
        let latest = Latest {
            backends: backends
                .map(|(id, window)| (id.clone(), traffic(&[window], &window.durations)))
                .collect(),
            pool: traffic(&history.values().collect::<Vec<_>>(), &all),
        };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(latest);
        grown
    }
}

impl Recent {
    fn since(&self, before: &Self) -> Second {
        let grown = |now: u64, before: u64| u32::try_from(now.saturating_sub(before));
        Second {
            requests: grown(self.requests_total, before.requests_total).unwrap_or(u32::MAX),
            errors: grown(self.errors_total, before.errors_total).unwrap_or(u32::MAX),
            in_flight: 0,
            latency: self.durations.as_ref().map(Latency::from).unwrap_or_default(),
        }
    }
}

/// Samples until the process ends, at whole and half seconds of the wall clock, so that the seconds
/// of several proxies are the same ones.
pub(crate) async fn run(
    sampler: Arc<Sampler>,
    stats: Arc<Stats>,
    control: Arc<Control>,
    history: Arc<History>,
) {
    let since = control.clock.unix().subsec_nanos() % EVERY.subsec_nanos();
    let first = tokio::time::Instant::now() + (EVERY - Duration::from_nanos(since.into()));
    let mut every = tokio::time::interval_at(first, EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        every.tick().await;
        let view = control.read(|pool| pool.view());
        let backends: Vec<_> = view.everybody().collect();
        let present: Vec<BackendId> = backends.iter().map(|backend| backend.id.clone()).collect();
        stats.forget(&present, control.clock.now());
        let mut grown = sampler.sample(&stats);
        for backend in backends {
            let second = grown.entry(backend.id.to_string()).or_default();
            second.in_flight = backend.in_flight;
        }
        history.record(history::half_second(control.clock.unix()), grown);
    }
}

/// What several series of samples add up to, whose durations do to these.
fn traffic(series: &[&Window], durations: &Histogram<u32>) -> Traffic {
    let series = || series.iter().map(|window| &window.samples);
    let total = |count: fn(&Recent) -> u64| -> u64 {
        series().filter_map(|samples| samples.back()).map(count).sum()
    };
    let grown = |count: fn(&Recent) -> u64, samples_back: usize| -> u64 {
        series()
            .filter_map(|samples| {
                let before = samples.len().saturating_sub(samples_back + 1);
                // A backend that came back after its series was forgotten counts from 0.
                Some(count(samples.back()?).saturating_sub(count(samples.get(before)?)))
            })
            .sum()
    };
    let (requests, errors) =
        (grown(|r| r.requests_total, WINDOW), grown(|r| r.errors_total, WINDOW));
    let percentile = |quantile| {
        (!durations.is_empty()).then(|| durations.value_at_quantile(quantile) as f64 / 1e3)
    };
    let rate_seconds = EVERY.as_secs_f64() * RATE_WINDOW as f64;
    Traffic {
        requests_total: total(|recent| recent.requests_total),
        failures_total: total(|recent| recent.errors_total),
        requests_per_second: grown(|r| r.requests_total, RATE_WINDOW) as f64 / rate_seconds,
        error_share: if requests == 0 { 0.0 } else { errors as f64 / requests as f64 },
        p50_ms: percentile(0.50),
        p95_ms: percentile(0.95),
        p99_ms: percentile(0.99),
        window_seconds: (EVERY * WINDOW as u32).as_secs(),
        latency: Latency::from(durations).fit(LATENCY_BUCKETS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Outcome;

    fn record(stats: &Stats, backend: &str, count: usize, code: u16, millis: u64) {
        let duration = Duration::from_millis(millis);
        let (first_byte, failure, is_counted) = (None, None, false);
        let outcome = Outcome { method: "GET", code, duration, first_byte, failure, is_counted };
        let shard = stats.shard(backend, 0);
        (0..count).for_each(|_| shard.record(&outcome));
    }

    #[test]
    fn percentiles_of_the_pool_come_from_all_durations_not_from_percentiles() {
        let (stats, sampler) = (Stats::new(1), Sampler::default());
        record(&stats, "fast", 980, 200, 1);
        record(&stats, "slow", 20, 200, 100);
        sampler.sample(&stats);
        let latest = sampler.latest();
        assert!((latest.backends["slow"].p50_ms.unwrap() - 100.0).abs() < 1.0);
        assert!((latest.pool.p50_ms.unwrap() - 1.0).abs() < 0.02);
        assert!((latest.pool.p99_ms.unwrap() - 100.0).abs() < 1.0);
    }

    #[test]
    fn rates_and_shares_follow_the_last_seconds() {
        let (stats, sampler) = (Stats::new(1), Sampler::default());
        stats.shard("a", 0);
        sampler.sample(&stats);
        for _ in 0..4 {
            record(&stats, "a", 90, 200, 1);
            record(&stats, "a", 10, 502, 1);
            sampler.sample(&stats);
        }
        let traffic = &sampler.latest().backends["a"];
        assert_eq!(traffic.requests_per_second, 200.0);
        assert_eq!(traffic.error_share, 0.1);
        for _ in 0..WINDOW + 1 {
            sampler.sample(&stats);
        }
        let traffic = &sampler.latest().backends["a"];
        assert_eq!((traffic.requests_per_second, traffic.error_share), (0.0, 0.0));
        assert_eq!((traffic.p50_ms, traffic.requests_total), (None, 400));
    }

    #[test]
    fn durations_count_as_long_as_they_are_in_the_window() {
        let (stats, sampler) = (Stats::new(1), Sampler::default());
        record(&stats, "a", 50, 200, 4_000);
        for sample in 0..2 * WINDOW {
            record(&stats, "a", 1, 200, 1);
            sampler.sample(&stats);
            let latest = sampler.latest();
            for p99 in [latest.backends["a"].p99_ms, latest.pool.p99_ms] {
                let expected = if sample < WINDOW { 4_000.0 } else { 1.0 };
                assert!((p99.unwrap() / expected - 1.0).abs() < 0.01, "{sample}: {p99:?}");
            }
        }
    }
}
