//! The last hour as the dashboard saw it, for proxies that do not tell theirs (`hour` has what they
//! tell), and the last minute for the table: totals second by second, each backend in steps of five seconds, and the last
//! minute of each backend for its sparklines.
//!
//! Rates are differences of the proxies' counters between two answers, not their averages, so that
//! a chart shows each second as it was. Each proxy's counters are compared with its own: one that
//! comes, goes or restarts makes no spike. Seconds in which no proxy answered are holes, not
//! zeros. Bounded: 3600 slots, and 780 per backend that is in the last picture, 24 bytes each.

use std::collections::{HashMap, VecDeque};

use crate::{charts::Window, model::Answer};

/// Seconds of totals: who was woken by an alert sees how it began.
pub(crate) const HOUR: usize = 3600;
/// Seconds that a sparkline shows.
pub(crate) const SPARK_SECONDS: usize = 60;
/// Seconds in one slot of a backend's hour: 500 backends then take 9 MB.
pub(crate) const STEP: usize = 5;

/// One slot. What is not known is not a number: half the size of an `Option` each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) rate: f32,
    pub(crate) error_share: f32,
    pub(crate) p50_ms: f32,
    pub(crate) p95_ms: f32,
    pub(crate) p99_ms: f32,
    pub(crate) in_flight: f32,
}

impl Sample {
    pub(crate) const HOLE: Self = Self {
        rate: f32::NAN,
        error_share: f32::NAN,
        p50_ms: f32::NAN,
        p95_ms: f32::NAN,
        p99_ms: f32::NAN,
        in_flight: f32::NAN,
    };

    /// Two slots as one: the highest of each, because percentiles cannot be averaged and a short
    /// peak must not vanish in an hour.
    pub(crate) fn highest(self, other: Self) -> Self {
        Self {
            rate: self.rate.max(other.rate),
            error_share: self.error_share.max(other.error_share),
            p50_ms: self.p50_ms.max(other.p50_ms),
            p95_ms: self.p95_ms.max(other.p95_ms),
            p99_ms: self.p99_ms.max(other.p99_ms),
            in_flight: self.in_flight.max(other.in_flight),
        }
    }
}

/// Slots of equal length, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub(crate) slots: Vec<Sample>,
    /// Seconds in each.
    pub(crate) step: usize,
    /// When the newest slot began, in seconds since 1970.
    pub(crate) newest: f64,
}

impl Series {
    /// One value of each slot; a hole is nothing.
    pub(crate) fn values(&self, value: impl Fn(&Sample) -> f32) -> Vec<Option<f64>> {
        let known = |slot| Some(f64::from(value(slot))).filter(|value| !value.is_nan());
        self.slots.iter().map(known).collect()
    }

    /// The slot that a second since 1970 is in.
    fn at(&self, second: f64) -> Option<Sample> {
        let after_newest = (second - self.newest) / self.step.max(1) as f64;
        let index = self.slots.len() as f64 - 1.0 + after_newest.floor();
        if index < 0.0 { None } else { self.slots.get(index as usize).copied() }
    }

    /// The last `seconds` in about `count` slots.
    pub(crate) fn last(&self, seconds: usize, count: usize) -> Self {
        let wanted = (seconds / self.step.max(1)).min(self.slots.len());
        let slots = &self.slots[self.slots.len() - wanted..];
        let join = (seconds / self.step.max(1) / count.max(1)).max(1);
        // Whole groups counted from the newest, which must not mix with what is older.
        let mut joined: Vec<Sample> = slots
            .rchunks(join)
            .map(|chunk| chunk.iter().copied().fold(Sample::HOLE, Sample::highest))
            .collect();
        joined.reverse();
        Self { slots: joined, step: self.step * join, newest: self.newest }
    }
}

type Key = (String, String);

/// What one proxy said, and when, in seconds of the dashboard's own clock.
pub(crate) struct Said<'a> {
    /// Tells a run of a proxy from any other.
    pub(crate) run: String,
    pub(crate) at: f64,
    pub(crate) answer: &'a Answer,
}

/// Requests and failures per second, by backend; under no names in total.
type Rates = HashMap<Key, (f64, f64)>;

/// What one run of a proxy said last.
struct Base {
    at: f64,
    totals: HashMap<Key, (u64, u64)>,
    rates: Rates,
}

#[derive(Default)]
struct Backend {
    recent: VecDeque<Sample>,
    hour: VecDeque<Sample>,
    /// The slot of the hour that is not full yet.
    pending: Option<(u64, Sample)>,
}

/// All series.
#[derive(Default)]
pub(crate) struct History {
    totals: VecDeque<Sample>,
    backends: HashMap<Key, Backend>,
    bases: HashMap<String, Base>,
    /// The second of the newest slot.
    second: Option<u64>,
    newest_unix: f64,
    away: bool,
}

impl History {
    /// What was saved: of each backend the last minute, since its hour is shown from the file.
    pub(crate) fn saved<'a>(
        totals: &Series,
        backends: impl Iterator<Item = (Key, &'a Series)>,
    ) -> Self {
        let mut history = Self { newest_unix: totals.newest, ..Self::default() };
        totals.slots.iter().for_each(|slot| push(&mut history.totals, *slot, HOUR));
        for (key, series) in backends {
            let mut backend = Backend::default();
            let first = series.slots.len().saturating_sub(SPARK_SECONDS);
            for slot in &series.slots[first..] {
                (0..series.step).for_each(|_| push(&mut backend.recent, *slot, SPARK_SECONDS));
            }
            history.backends.insert(key, backend);
        }
        history
    }

    /// Puts what proxies remember of the last minute before what was seen of it.
    pub(crate) fn prefill(&mut self, told: &HashMap<Key, Series>) {
        for (key, series) in told {
            let Some(backend) = self.backends.get_mut(key) else { continue };
            for back in backend.recent.len()..SPARK_SECONDS {
                let sample = series.at(self.newest_unix - back as f64);
                backend.recent.push_front(sample.unwrap_or(Sample::HOLE));
            }
        }
    }

    /// Notes what was said, `now` seconds after an arbitrary start and `unix` after 1970; `merged`
    /// is all of it as one picture, `None` if nobody answered.
    pub(crate) fn record(
        &mut self,
        now: f64,
        unix: f64,
        said: &[Said<'_>],
        merged: Option<&Answer>,
    ) {
        let second = now as u64;
        let skipped = match self.second {
            Some(last) if second <= last => return,
            Some(last) => usize::try_from(second - last - 1).unwrap_or(HOUR).min(HOUR),
            None => 0,
        };
        self.second = Some(second);
        self.newest_unix = unix.floor();
        let rates = self.rates(said);
        let merged = merged.filter(|_| !said.is_empty());
        let total = merged.map_or(Sample::HOLE, |answer| {
            let in_flight = answer.pools.iter().map(|pool| pool.in_flight()).sum();
            sample(rates.get(&Key::default()), &answer.traffic(), in_flight)
        });
        // Polls slower than a second stand for the seconds between them; silence does not.
        let filler = if self.away { Sample::HOLE } else { total };
        (0..skipped).for_each(|_| push(&mut self.totals, filler, HOUR));
        push(&mut self.totals, total, HOUR);
        self.record_backends(second, skipped, &rates, merged);
        self.away = merged.is_none();
    }

    fn rates(&mut self, said: &[Said<'_>]) -> Rates {
        let mut before = std::mem::take(&mut self.bases);
        let mut sum = Rates::new();
        for one in said {
            let base = match before.remove(&one.run) {
                Some(base) if base.at >= one.at => base,
                last => Base::after(last, one),
            };
            for (key, (requests, failures)) in &base.rates {
                let entry = sum.entry(key.clone()).or_default();
                *entry = (entry.0 + requests, entry.1 + failures);
            }
            self.bases.insert(one.run.clone(), base);
        }
        sum
    }

    fn record_backends(
        &mut self,
        second: u64,
        skipped: usize,
        rates: &Rates,
        merged: Option<&Answer>,
    ) {
        let Some(answer) = merged else {
            for backend in self.backends.values_mut() {
                (0..=skipped).for_each(|_| backend.push(second, Sample::HOLE));
            }
            return;
        };
        let mut before = std::mem::take(&mut self.backends);
        for pool in &answer.pools {
            for backend in &pool.backends {
                let key = (pool.name.clone(), backend.id.clone());
                let sample = sample(rates.get(&key), &backend.traffic, backend.in_flight);
                let mut series = before.remove(&key).unwrap_or_default();
                let filler = if self.away { Sample::HOLE } else { sample };
                let first = second.saturating_sub(skipped as u64);
                (first..second).for_each(|second| series.push(second, filler));
                series.push(second, sample);
                self.backends.insert(key, series);
            }
        }
    }

    /// All seconds of the totals.
    pub(crate) fn totals(&self) -> Series {
        Series { slots: self.totals.iter().copied().collect(), step: 1, newest: self.newest_unix }
    }

    /// How many of the newest seconds the row of this index leaves out, so that it is drawn anew
    /// once in `turn` seconds and not all rows at the same time.
    pub(crate) fn turn(&self, index: usize, turn: usize) -> usize {
        (usize::try_from(self.second.unwrap_or_default()).unwrap_or_default() + index) % turn
    }

    /// The last minute of one backend without its newest `skip` seconds.
    pub(crate) fn recent(&self, pool: &str, id: &str, skip: usize) -> Series {
        let recent = self.backends.get(&(pool.to_owned(), id.to_owned())).map(|one| &one.recent);
        let slots = recent
            .map(|slots| slots.iter().take(slots.len().saturating_sub(skip)).copied().collect())
            .unwrap_or_default();
        Series { slots, step: 1, newest: self.newest_unix }
    }

    /// The last hour of one backend, or its last minutes in the same steps.
    pub(crate) fn backend_window(&self, pool: &str, id: &str, window: Window) -> Series {
        let hour = self.hour(pool, id);
        hour.last(window.seconds(), window.seconds())
    }

    /// The last hour of one backend.
    pub(crate) fn hour(&self, pool: &str, id: &str) -> Series {
        let backend = self.backends.get(&(pool.to_owned(), id.to_owned()));
        let slots = backend.map(|one| {
            one.hour.iter().chain(one.pending.as_ref().map(|(_, slot)| slot)).copied().collect()
        });
        Series { slots: slots.unwrap_or_default(), step: STEP, newest: self.newest_unix }
    }
}

impl Base {
    /// What `one` says now, with its rates since `last`; a run that is new has none yet.
    fn after(last: Option<Self>, one: &Said<'_>) -> Self {
        let mut totals = HashMap::from([(Key::default(), (0, 0))]);
        for pool in &one.answer.pools {
            let all = totals.entry(Key::default()).or_default();
            *all = (all.0 + pool.traffic.requests_total, all.1 + pool.traffic.failures_total);
            for backend in &pool.backends {
                let counts = (backend.traffic.requests_total, backend.traffic.failures_total);
                totals.insert((pool.name.clone(), backend.id.clone()), counts);
            }
        }
        let rates = last.map(|last| {
            let seconds = one.at - last.at;
            let rate = |(key, (requests, failures)): (&Key, &(u64, u64))| {
                let (before, failed_before) = last.totals.get(key)?;
                let grown = requests.checked_sub(*before)? as f64;
                let failed = failures.saturating_sub(*failed_before) as f64;
                Some((key.clone(), (grown / seconds, failed / seconds)))
            };
            totals.iter().filter_map(rate).collect()
        });
        Self { at: one.at, rates: rates.unwrap_or_default(), totals }
    }
}

impl Backend {
    fn push(&mut self, second: u64, sample: Sample) {
        push(&mut self.recent, sample, SPARK_SECONDS);
        let slot = second / STEP as u64;
        self.pending = Some(match self.pending {
            Some((known, highest)) if known == slot => (known, highest.highest(sample)),
            Some((_, full)) => {
                push(&mut self.hour, full, HOUR / STEP);
                (slot, sample)
            }
            None => (slot, sample),
        });
    }
}

fn sample(rates: Option<&(f64, f64)>, traffic: &crate::model::Traffic, in_flight: u64) -> Sample {
    let number = |value: Option<f64>| value.map_or(f32::NAN, |value| value as f32);
    let share =
        rates.filter(|(requests, _)| *requests > 0.0).map(|(all, failed)| (failed / all).min(1.0));
    Sample {
        rate: number(rates.map(|(requests, _)| *requests)),
        error_share: number(share),
        p50_ms: number(traffic.p50_ms),
        p95_ms: number(traffic.p95_ms),
        p99_ms: number(traffic.p99_ms),
        in_flight: in_flight as f32,
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

    fn answer(requests: u64, failures: u64) -> Answer {
        let traffic = serde_json::json!({"requests_total": requests, "failures_total": failures});
        serde_json::from_value(serde_json::json!({
            "proxy": {"started_at": ""},
            "pools": [{"name": "default", "traffic": traffic, "backends": [{
                "id": "a", "admin": "ready", "health": "up", "effective": "serving",
                "in_flight": 2, "traffic": traffic,
            }]}],
        }))
        .unwrap()
    }

    fn record(history: &mut History, now: f64, said: &[(&str, Answer)]) {
        let all: Vec<Said<'_>> = said
            .iter()
            .map(|(run, answer)| Said { run: (*run).to_owned(), at: now, answer })
            .collect();
        history.record(now, now, &all, said.first().map(|(_, answer)| answer));
    }

    fn known(values: impl Iterator<Item = f32>) -> Vec<Option<f32>> {
        values.map(|value| (!value.is_nan()).then_some(value)).collect()
    }

    fn rates(history: &History) -> Vec<Option<f32>> {
        known(history.totals().slots.iter().map(|slot| slot.rate))
    }

    #[test]
    fn rates_are_differences_per_second() {
        let mut history = History::default();
        record(&mut history, 0.2, &[("x", answer(100, 0))]);
        record(&mut history, 0.7, &[("x", answer(150, 0))]); // The same second: no new slot.
        record(&mut history, 2.2, &[("x", answer(300, 20))]);
        assert_eq!(rates(&history), [None, Some(100.0), Some(100.0)], "a skipped second is filled");
        assert!((history.totals().slots[2].error_share - 0.1).abs() < 1e-6);
        let recent = history.recent("default", "a", 0);
        assert_eq!(
            known(recent.slots.iter().map(|slot| slot.rate)),
            [None, Some(100.0), Some(100.0)]
        );
    }

    #[test]
    fn silence_is_a_hole_and_not_zero() {
        let mut history = History::default();
        record(&mut history, 0.0, &[("x", answer(0, 0))]);
        record(&mut history, 1.0, &[]);
        record(&mut history, 4.0, &[("x", answer(40, 0))]);
        let in_flight = known(history.totals().slots.iter().map(|slot| slot.in_flight));
        assert_eq!(in_flight, [Some(2.0), None, None, None, Some(2.0)]);
    }

    #[test]
    fn proxies_that_come_restart_and_go_make_no_spike() {
        let mut history = History::default();
        record(&mut history, 0.0, &[("x", answer(1_000, 0))]);
        record(&mut history, 1.0, &[("x", answer(1_010, 0)), ("y", answer(7_000, 0))]);
        record(&mut history, 2.0, &[("x", answer(1_020, 0)), ("y", answer(7_005, 0))]);
        record(&mut history, 3.0, &[("x2", answer(3, 0)), ("y", answer(7_010, 0))]);
        assert_eq!(rates(&history), [None, Some(10.0), Some(15.0), Some(5.0)]);
    }

    #[test]
    fn a_table_that_has_just_begun_shows_what_proxies_remember_of_its_minute() {
        let mut history = History::default();
        record(&mut history, 100.0, &[("x", answer(0, 0))]);
        record(&mut history, 101.0, &[("x", answer(7, 0))]);
        // Slots of two seconds; the newest began at 98.
        let slot = |rate| Sample { rate, ..Sample::HOLE };
        let slots = (0..30).map(|index| slot(index as f32)).collect();
        let told = Series { slots, step: 2, newest: 98.0 };
        let key = ("default".to_owned(), "a".to_owned());
        history.prefill(&HashMap::from([(key, told)]));
        let recent = known(history.recent("default", "a", 0).slots.iter().map(|slot| slot.rate));
        let expected = [28.0, 28.0, 29.0, 29.0].map(Some);
        assert_eq!(recent.len(), SPARK_SECONDS);
        assert_eq!(recent[SPARK_SECONDS - 6..], [&expected[..], &[None, Some(7.0)]].concat());
        assert_eq!(recent[0], Some(1.0), "42 is within the slot that began there");
    }

    #[test]
    fn history_is_bounded_and_an_hour_shows_its_peaks() {
        let mut history = History::default();
        for second in 0..5_000_u32 {
            let requests = u64::from(second) * 10 + if second >= 4_990 { 500 } else { 0 };
            record(&mut history, f64::from(second), &[("x", answer(requests, 0))]);
        }
        assert_eq!(history.totals().slots.len(), HOUR);
        assert_eq!(history.recent("default", "a", 0).slots.len(), SPARK_SECONDS);
        let hour = history.hour("default", "a");
        assert!(hour.slots.len() <= HOUR / STEP + 1);
        let shown = history.totals().last(HOUR, 300);
        assert_eq!((shown.slots.len(), shown.step), (300, 12));
        assert!(shown.slots.iter().any(|slot| slot.rate > 500.0), "a second's peak is seen");
    }
}
