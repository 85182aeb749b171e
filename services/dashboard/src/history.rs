//! The last minutes, one slot per second: totals for the charts, requests for the sparklines.
//!
//! Rates are differences of the proxy's counters between two polls, not its ten-second averages,
//! so that a chart shows each second as it was. Seconds in which the proxy did not answer are
//! holes, not zeros. Bounded: 300 slots, and 60 per backend that is in the last picture.

use std::collections::{HashMap, VecDeque};

use crate::model::{Answer, Traffic};

/// Seconds that the charts show: enough to see a rollout, short enough for one pixel a second.
pub(crate) const SECONDS: usize = 300;
/// Seconds that a sparkline shows.
pub(crate) const SPARK_SECONDS: usize = 60;

/// One second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) rate: Option<f64>,
    pub(crate) error_share: Option<f64>,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p95_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) in_flight: Option<f64>,
}

type Series = VecDeque<Option<f64>>;

/// All series.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    totals: VecDeque<Sample>,
    backends: HashMap<(String, String), (u64, Series)>,
    run: String,
    /// The second of the newest slot.
    second: Option<u64>,
    /// When the counters were last read for a slot, and what they were.
    base: Option<(f64, Traffic)>,
    away: bool,
}

impl History {
    /// Notes what was seen `now` seconds after an arbitrary start; `None` if nobody answered.
    pub(crate) fn record(&mut self, now: f64, answer: Option<&Answer>) {
        let second = now as u64;
        let skipped = match self.second {
            Some(last) if second <= last => return,
            Some(last) => usize::try_from(second - last - 1).unwrap_or(SECONDS).min(SECONDS),
            None => 0,
        };
        self.second = Some(second);
        if let Some(answer) = answer.filter(|answer| answer.proxy.started_at != self.run) {
            // Another process, whose counters begin at zero.
            self.run.clone_from(&answer.proxy.started_at);
            self.base = None;
            self.backends.clear();
        }
        let elapsed = self.base.as_ref().map(|(then, _)| now - then);
        let sample = answer.map(|answer| self.sample(now, answer)).unwrap_or_default();
        // Polls slower than a second stand for the seconds between them; silence does not.
        let filler = if self.away { Sample::default() } else { sample };
        for _ in 0..skipped {
            push(&mut self.totals, filler, SECONDS);
        }
        push(&mut self.totals, sample, SECONDS);
        self.record_backends(answer, elapsed, skipped);
        self.away = answer.is_none();
    }

    fn sample(&mut self, now: f64, answer: &Answer) -> Sample {
        let traffic = answer.traffic();
        let base = self.base.replace((now, traffic.clone()));
        let delta = base.and_then(|(then, base)| {
            let requests = traffic.requests_total.checked_sub(base.requests_total)?;
            let failures = traffic.failures_total.saturating_sub(base.failures_total);
            Some((requests as f64, failures as f64, now - then))
        });
        Sample {
            rate: delta.map(|(requests, _, seconds)| requests / seconds),
            error_share: delta
                .filter(|(requests, ..)| *requests > 0.0)
                .map(|(requests, failures, _)| (failures / requests).min(1.0)),
            p50_ms: traffic.p50_ms,
            p95_ms: traffic.p95_ms,
            p99_ms: traffic.p99_ms,
            in_flight: Some(answer.pools.iter().map(|pool| pool.in_flight() as f64).sum()),
        }
    }

    fn record_backends(&mut self, answer: Option<&Answer>, elapsed: Option<f64>, skipped: usize) {
        let Some(answer) = answer else {
            for (_, series) in self.backends.values_mut() {
                (0..=skipped).for_each(|_| push(series, None, SPARK_SECONDS));
            }
            return;
        };
        let mut before = std::mem::take(&mut self.backends);
        for pool in &answer.pools {
            for backend in &pool.backends {
                let key = (pool.name.clone(), backend.id.clone());
                let total = backend.traffic.requests_total;
                let known = before.remove(&key);
                let rate = known.as_ref().zip(elapsed).and_then(|((base, _), seconds)| {
                    Some(total.checked_sub(*base)? as f64 / seconds)
                });
                let mut series = known.map(|(_, series)| series).unwrap_or_default();
                let filler = if self.away { None } else { rate };
                (0..skipped).for_each(|_| push(&mut series, filler, SPARK_SECONDS));
                push(&mut series, rate, SPARK_SECONDS);
                self.backends.insert(key, (total, series));
            }
        }
    }

    /// One value of each slot, oldest first; shorter than [`SECONDS`] at the beginning.
    pub(crate) fn series(&self, value: impl Fn(&Sample) -> Option<f64>) -> Vec<Option<f64>> {
        self.totals.iter().map(value).collect()
    }

    /// Requests per second of one backend, oldest first.
    pub(crate) fn backend(&self, pool: &str, id: &str) -> Vec<Option<f64>> {
        let key = (pool.to_owned(), id.to_owned());
        self.backends
            .get(&key)
            .map(|(_, series)| series.iter().copied().collect())
            .unwrap_or_default()
    }
}

fn push<T>(series: &mut VecDeque<T>, value: T, most: usize) {
    if series.len() == most {
        series.pop_front();
    }
    series.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(run: &str, requests: u64, failures: u64) -> Answer {
        let traffic = serde_json::json!({"requests_total": requests, "failures_total": failures});
        serde_json::from_value(serde_json::json!({
            "proxy": {"started_at": run},
            "pools": [{"name": "default", "traffic": traffic, "backends": [{
                "id": "a", "admin": "ready", "health": "up", "effective": "serving",
                "in_flight": 2, "traffic": traffic,
            }]}],
        }))
        .unwrap()
    }

    #[test]
    fn rates_are_differences_per_second() {
        let mut history = History::default();
        history.record(0.2, Some(&answer("x", 100, 0)));
        history.record(0.7, Some(&answer("x", 150, 0))); // The same second: no new slot.
        history.record(2.2, Some(&answer("x", 300, 20)));
        let slots = history.series(|sample| sample.rate);
        assert_eq!(slots, [None, Some(100.0), Some(100.0)], "a skipped second is filled");
        assert_eq!(history.series(|sample| sample.error_share).last(), Some(&Some(0.1)));
        assert_eq!(history.backend("default", "a"), [None, Some(100.0), Some(100.0)]);
    }

    #[test]
    fn silence_is_a_hole_and_not_zero() {
        let mut history = History::default();
        history.record(0.0, Some(&answer("x", 0, 0)));
        history.record(1.0, None);
        history.record(4.0, Some(&answer("x", 40, 0)));
        let in_flight = history.series(|sample| sample.in_flight);
        assert_eq!(in_flight, [Some(2.0), None, None, None, Some(2.0)]);
    }

    #[test]
    fn a_restarted_proxy_gives_no_rate_for_the_second_of_its_start() {
        let mut history = History::default();
        history.record(0.0, Some(&answer("x", 1_000, 0)));
        history.record(1.0, Some(&answer("y", 7_000, 0)));
        history.record(2.0, Some(&answer("y", 7_005, 0)));
        assert_eq!(history.series(|sample| sample.rate), [None, None, Some(5.0)]);
    }

    #[test]
    fn history_is_bounded() {
        let mut history = History::default();
        for second in 0..1_000 {
            history.record(f64::from(second), Some(&answer("x", 0, 0)));
        }
        assert_eq!(history.series(|sample| sample.rate).len(), SECONDS);
        assert_eq!(history.backend("default", "a").len(), SPARK_SECONDS);
    }
}
