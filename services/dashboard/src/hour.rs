//! The last hour as the proxies remember it, over all of them: a dashboard that has just started
//! shows what happened before it did, and one that was away has no gap.
//!
//! Each run of a proxy tells its seconds, which are numbered since 1970 and so are the same ones
//! everywhere. What can be added up is added up; percentiles come from the sum of the histograms.
//! A second or a slot is summed up once, when it is heard, and not for each page. Bounded: an hour
//! of seconds for each of [`RUNS_MOST`] runs, some kilobytes each at most; the run that was silent
//! for longest goes first, and what was summed up with it stays.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    charts::Window,
    history::{HOUR, Sample, Series},
    replica::Proxy,
    slot::{Columns, Slot},
};

/// Seconds in a slot of the hour: as many slots as a chart has points.
pub(crate) const SLOT: usize = 12;
/// Runs of proxies that are remembered: a rollout of ten and who went before them.
const RUNS_MOST: usize = 24;
/// How long a second waits for a proxy that has not told it yet, before it is shown without.
const WAIT: u64 = 5;
/// Clocks that differ by less are taken for equal: the difference is measured over the network,
/// and seconds that wander from one slot to the next would be worse.
pub(crate) const CLOCKS_EQUAL: f64 = 1.5;

/// One run of a proxy.
#[derive(Debug)]
struct Run {
    name: String,
    /// What to add to its seconds to have ours.
    shift: i64,
    /// The newest of its seconds, by our clock.
    last: u64,
    /// The hour up to it, oldest first.
    seconds: VecDeque<Option<Slot>>,
}

impl Run {
    /// Whether the clocks differ otherwise by now, by more than a measurement may be off.
    fn has_another_clock(&self, ahead: f64) -> bool {
        (ahead - self.shift as f64).abs() > 2.0 * CLOCKS_EQUAL
    }

    fn at(&self, second: u64) -> Option<&Slot> {
        let back = usize::try_from(self.last.checked_sub(second)?).ok()?;
        self.seconds.get(self.seconds.len().checked_sub(back + 1)?)?.as_ref()
    }

    /// Notes a second that is newer than all before.
    fn push(&mut self, second: u64, slot: Slot) {
        let gap = usize::try_from(second - self.last).unwrap_or(HOUR).min(HOUR);
        self.seconds.extend((1..gap).map(|_| None));
        self.seconds.push_back(Some(slot));
        let over = self.seconds.len().saturating_sub(HOUR);
        self.seconds.drain(..over);
        self.last = second;
    }
}

/// The hour of one subject, the whole or a backend, over all proxies.
#[derive(Debug, Default)]
pub(crate) struct Hour {
    runs: Vec<Run>,
    /// Runs that do not tell their hour.
    refusing: BTreeSet<String>,
    /// Summed up by second, up to `newest`.
    seconds: VecDeque<Sample>,
    /// Summed up by slots of [`SLOT`] seconds, up to the one of `newest`.
    slots: VecDeque<Sample>,
    newest: Option<u64>,
}

impl Hour {
    /// From which of its own seconds on a run is to be asked; nothing for all of its hour.
    pub(crate) fn next(&self, run: &str) -> Option<u64> {
        let run = self.runs.iter().find(|known| known.name == run)?;
        (run.last + 1).checked_add_signed(-run.shift)
    }

    /// Notes what one run of a proxy told of this subject, a series for each pool. `ahead` is how
    /// many seconds our clock, by which it is `now`, is ahead of its.
    pub(crate) fn hear(
        &mut self,
        run: &str,
        (now, ahead): (u64, f64),
        from: u64,
        told: &[&Columns],
    ) {
        self.refusing.remove(run);
        if self.runs.iter().any(|known| known.name == run && known.has_another_clock(ahead)) {
            // A clock was set. All is asked for anew, and is then in its right place.
            *self = Self::default();
            return;
        }
        let index = match self.runs.iter().position(|known| known.name == run) {
            Some(index) => index,
            None => self.begin(run, ahead, from),
        };
        let Some(run) = self.runs.get_mut(index) else { return };
        let length = told.iter().map(|columns| columns.len()).max().unwrap_or(0);
        let before = run.last;
        for at in 0..length.min(HOUR) {
            let Some(second) = from.saturating_add(at as u64).checked_add_signed(run.shift) else {
                continue;
            };
            if second > now.saturating_add(WAIT) {
                break;
            }
            // All pools of a proxy as one: they are seen in the same moment.
            let slots: Vec<Slot> = told.iter().filter_map(|columns| columns.slot(at)).collect();
            let slot = match &slots[..] {
                [] => continue,
                [one] => one.clone(),
                more => Slot::sum(more.iter()),
            };
            if second > run.last {
                run.push(second, slot);
            }
        }
        if run.last > before {
            self.sum_up(before + 1);
        }
    }

    /// Notes that a run does not tell its hour.
    pub(crate) fn refused(&mut self, run: &str) {
        self.refusing.insert(run.to_owned());
    }

    /// Whether it is known of all of these proxies. Otherwise what the dashboard saw itself is
    /// nearer to the truth.
    pub(crate) fn is_known<'a>(&self, mut answering: impl Iterator<Item = &'a Proxy>) -> bool {
        let refuses =
            |proxy: &Proxy| proxy.identity().is_some_and(|run| self.refusing.contains(&run));
        self.newest.is_some() && !answering.any(refuses)
    }

    /// The last minutes by the second, or the hour in slots, up to `now` in seconds since 1970.
    pub(crate) fn window(&self, window: Window, now: u64) -> Series {
        let (all, step) = match window {
            Window::Minutes => (&self.seconds, 1),
            Window::Hour => (&self.slots, SLOT),
        };
        self.series(all, step, window.seconds() / step, now)
    }

    /// The hour by the second.
    pub(crate) fn all(&self, now: u64) -> Series {
        self.series(&self.seconds, 1, HOUR, now)
    }

    fn series(&self, all: &VecDeque<Sample>, step: usize, count: usize, now: u64) -> Series {
        let Some(newest) = self.newest else { return Series::default() };
        // While nobody tells anything, time goes on all the same: as a hole.
        let silent =
            usize::try_from(now.saturating_sub(WAIT).saturating_sub(newest)).unwrap_or(HOUR);
        let holes = (silent / step).min(count);
        let known = all.len().min(count - holes);
        let slots = all.iter().skip(all.len() - known).copied();
        let slots = slots.chain((0..holes).map(|_| Sample::HOLE)).collect();
        let step_seconds = step as u64;
        let newest = newest / step_seconds * step_seconds + (holes * step) as u64;
        Series { slots, step, newest: newest as f64 }
    }

    fn begin(&mut self, name: &str, ahead: f64, from: u64) -> usize {
        if self.runs.len() >= RUNS_MOST {
            let silent = self.runs.iter().enumerate().min_by_key(|(_, run)| run.last);
            if let Some(index) = silent.map(|(index, _)| index) {
                self.refusing.remove(&self.runs.remove(index).name);
            }
        }
        let shift = if ahead.abs() < CLOCKS_EQUAL { 0 } else { ahead.round() as i64 };
        let last = from.saturating_add_signed(shift).saturating_sub(1);
        self.runs.push(Run { name: name.to_owned(), shift, last, seconds: VecDeque::new() });
        self.runs.len() - 1
    }

    /// The newest second that everybody has told who tells anything.
    fn complete(&self) -> Option<u64> {
        let newest = self.runs.iter().map(|run| run.last).max()?;
        self.runs.iter().map(|run| run.last).filter(|last| last + WAIT >= newest).min()
    }

    /// Sums up all from this second on anew, and the slots that they are in.
    fn sum_up(&mut self, first: u64) {
        let Some(complete) = self.complete() else { return };
        // What was shown without one that was late stays, and is made good when it is heard.
        let until = complete.max(self.newest.unwrap_or(0));
        let begin = self.newest.map_or(first, |newest| first.min(newest + 1));
        let oldest = until.saturating_sub(HOUR as u64 - 1);
        self.extend(until);
        for second in begin.max(oldest)..=until {
            let slots = self.runs.iter().filter_map(|run| run.at(second));
            let sample = Slot::sample(slots, 1.0).unwrap_or(Sample::HOLE);
            put(&mut self.seconds, until - second, sample);
        }
        let step = SLOT as u64;
        for slot in begin.max(oldest) / step..=until / step {
            let sample = self.slot(slot * step, until);
            put(&mut self.slots, until / step - slot, sample);
        }
    }

    /// Makes room up to a second.
    fn extend(&mut self, until: u64) {
        let step = SLOT as u64;
        let grown = |before: Option<u64>, now: u64, most: usize| {
            let grown = before.map_or(most as u64, |before| now.saturating_sub(before));
            usize::try_from(grown).unwrap_or(most).min(most)
        };
        let seconds = grown(self.newest, until, HOUR);
        let slots = grown(self.newest.map(|newest| newest / step), until / step, HOUR / SLOT);
        fit(&mut self.seconds, seconds, HOUR);
        fit(&mut self.slots, slots, HOUR / SLOT);
        self.newest = Some(until);
    }

    /// One slot: percentiles of all its requests, and the highest of its seconds of what can have
    /// a short peak, which must not vanish in an hour.
    fn slot(&self, first: u64, until: u64) -> Sample {
        let seconds = first..=(first + SLOT as u64 - 1).min(until);
        let slots: Vec<&Slot> = seconds
            .clone()
            .flat_map(|at| self.runs.iter().filter_map(move |run| run.at(at)))
            .collect();
        let Some(sum) = Slot::sample(slots.iter().copied(), SLOT as f64) else {
            return Sample::HOLE;
        };
        let of_second = |second| {
            let back = usize::try_from(until - second).ok()?;
            self.seconds.get(self.seconds.len().checked_sub(back + 1)?).copied()
        };
        let highest = seconds.filter_map(of_second).fold(Sample::HOLE, Sample::highest);
        Sample { p50_ms: sum.p50_ms, p95_ms: sum.p95_ms, p99_ms: sum.p99_ms, ..highest }
    }
}

fn put(series: &mut VecDeque<Sample>, back: u64, sample: Sample) {
    let index = usize::try_from(back).ok().and_then(|back| series.len().checked_sub(back + 1));
    if let Some(slot) = index.and_then(|index| series.get_mut(index)) {
        *slot = sample;
    }
}

fn fit(series: &mut VecDeque<Sample>, grown: usize, most: usize) {
    series.extend((0..grown).map(|_| Sample::HOLE));
    let over = series.len().saturating_sub(most);
    series.drain(..over);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::latency::tests::of;

    /// Series of so many requests of so many milliseconds in each second; nothing where nobody
    /// looked.
    fn columns(seconds: &[Option<(u64, u64)>]) -> Columns {
        let requests: Vec<Value> =
            seconds.iter().map(|one| one.map_or(Value::Null, |(count, _)| json!(count))).collect();
        let latency: Vec<Value> = seconds
            .iter()
            .map(|one| match one {
                Some((count, millis)) if *count > 0 => {
                    json!(of(7, (0..*count).map(|_| millis * 1_000)))
                }
                _ => Value::Null,
            })
            .collect();
        serde_json::from_value(json!({
            "requests": requests, "errors": requests, "in_flight": requests, "latency": latency,
        }))
        .unwrap()
    }

    fn hear(hour: &mut Hour, run: &str, from: u64, seconds: &[Option<(u64, u64)>]) {
        hour.hear(run, (from + 2 * HOUR as u64, 0.0), from, &[&columns(seconds)]);
    }

    /// The rates of the newest seconds; nothing for a hole.
    fn rates(hour: &Hour, count: usize, now: u64) -> Vec<Option<u32>> {
        let slots = hour.all(now).slots;
        let newest = &slots[slots.len() - count..];
        newest.iter().map(|slot| (!slot.rate.is_nan()).then_some(slot.rate as u32)).collect()
    }

    #[test]
    fn the_hour_before_the_dashboards_start_is_there_and_adds_up_over_proxies() {
        let mut hour = Hour::default();
        hear(&mut hour, "a", 1_000, &[Some((90, 2)), Some((90, 2)), None]);
        assert_eq!(rates(&hour, 2, 1_001), [Some(90), Some(90)]);
        hear(&mut hour, "b", 1_000, &[Some((10, 200)), Some((1, 200)), None]);
        assert_eq!(rates(&hour, 3, 1_001), [None, Some(100), Some(91)]);
        let first = hour.all(1_001).slots[HOUR - 2];
        // Of 100 requests, 90 take 2 ms: no average of percentiles gives these.
        assert!(
            (first.p50_ms - 2.0).abs() < 0.02 && (first.p95_ms - 200.0).abs() < 2.0,
            "{first:?}"
        );
        assert_eq!(hour.next("a"), Some(1_002), "what nobody looked at yet is asked for again");
    }

    #[test]
    fn a_second_waits_for_those_who_have_not_told_it_yet_but_not_for_ever() {
        let mut hour = Hour::default();
        hear(&mut hour, "a", 1_000, &[Some((5, 1))]);
        hear(&mut hour, "b", 1_000, &[Some((7, 1))]);
        hear(&mut hour, "a", 1_001, &[Some((5, 1))]);
        assert_eq!(rates(&hour, 1, 1_001), [Some(12)], "no dip where one is a moment late");
        hear(&mut hour, "b", 1_001, &[Some((7, 1))]);
        assert_eq!(rates(&hour, 2, 1_001), [Some(12), Some(12)]);
        for second in 1_002..=1_008 {
            hear(&mut hour, "a", second, &[Some((5, 1))]);
        }
        assert_eq!(rates(&hour, 3, 1_008), [Some(5); 3], "it is away");
        hear(&mut hour, "b", 1_002, &[Some((7, 1)), None, Some((7, 1)), Some((7, 1))]);
        hear(&mut hour, "b", 1_006, &[Some((7, 1)); 3]);
        let told = [12, 5, 12, 12, 12, 12, 12].map(Some);
        assert_eq!(rates(&hour, 7, 1_008), told, "and tells what was missed when it is back");
    }

    #[test]
    fn clocks_that_differ_make_no_other_seconds() {
        let mut hour = Hour::default();
        hear(&mut hour, "a", 1_000, &[Some((5, 1)); 4]);
        hour.hear("b", (1_003, -3_600.2), 4_600, &[&columns(&[Some((7, 1)); 4])]);
        hour.hear("c", (1_003, 0.9), 1_000, &[&columns(&[Some((9, 1)); 4])]);
        assert_eq!(rates(&hour, 4, 1_003), [Some(21); 4]);
        assert_eq!((hour.next("b"), hour.next("c")), (Some(4_604), Some(1_004)));
        hour.hear("b", (1_004, 4.0), 4_604, &[&columns(&[Some((7, 1))])]);
        assert_eq!(hour.next("b"), None, "a clock that was set makes all of it be asked anew");
    }

    #[test]
    fn a_slot_of_the_hour_keeps_peaks_and_has_the_percentiles_of_all_its_requests() {
        let mut hour = Hour::default();
        let mut seconds = vec![Some((100, 1)); 24];
        seconds[5] = Some((900, 1));
        seconds[7] = Some((12, 50));
        hear(&mut hour, "a", 12_000, &seconds);
        let shown = hour.window(Window::Hour, 12_023);
        assert_eq!((shown.slots.len(), shown.step, shown.newest), (HOUR / SLOT, SLOT, 12_012.0));
        let [.., first, _] = shown.slots[..] else { panic!() };
        assert_eq!(first.rate, 900.0, "a second's peak is seen");
        // 12 of 1912 take 50 ms, which is less than one in a hundred.
        assert!((first.p99_ms - 1.0).abs() < 0.02, "{first:?}");
        assert_eq!(hour.window(Window::Minutes, 12_023).slots.len(), 300);
    }

    #[test]
    fn while_nobody_tells_anything_time_goes_on_as_a_hole() {
        let mut hour = Hour::default();
        hear(&mut hour, "a", 1_000, &[Some((5, 1)); 3]);
        assert_eq!(rates(&hour, 2, 1_002 + WAIT), [Some(5), Some(5)]);
        assert_eq!(rates(&hour, 4, 1_002 + WAIT + 3), [Some(5), None, None, None]);
        assert_eq!(hour.all(9_000).slots.len(), HOUR);
        assert_eq!(hour.all(1_002 + WAIT + 3).newest, 1_005.0);
    }

    #[test]
    fn memory_is_bounded_and_what_was_summed_up_stays() {
        let mut hour = Hour::default();
        hear(&mut hour, "first", 1_000, &[Some((5, 1)); 10]);
        for run in 0..RUNS_MOST {
            hear(&mut hour, &run.to_string(), 1_010 + run as u64, &[Some((1, 1))]);
        }
        assert_eq!((hour.runs.len(), hour.next("first")), (RUNS_MOST, None));
        let slots = hour.all(1_033).slots;
        assert!(slots.iter().any(|slot| slot.rate == 5.0));
        hear(&mut hour, "0", 1_011, &vec![Some((1, 1)); 2 * HOUR]);
        assert!(hour.runs.iter().all(|run| run.seconds.len() <= HOUR));
        assert_eq!((hour.seconds.len(), hour.slots.len()), (HOUR, HOUR / SLOT));
    }

    #[test]
    fn the_pools_of_a_proxy_are_one_and_what_nobody_can_read_does_no_harm() {
        let mut hour = Hour::default();
        let (one, two) = (columns(&[Some((5, 1))]), columns(&[Some((7, 1)), Some((7, 1))]));
        hour.hear("a", (1_001, 0.0), 1_000, &[&one, &two]);
        assert_eq!(rates(&hour, 2, 1_001), [Some(12), Some(7)]);
        hour.hear("a", (1_002, 0.0), u64::MAX - 1, &[&one]);
        hour.hear("x", (1_002, f64::INFINITY), u64::MAX, &[&one]);
        hour.hear("y", (1_002, -1e300), 0, &[&one]);
        hour.hear("z", (1_002, 0.0), 900_000, &[&one]);
        assert_eq!(rates(&hour, 2, 1_001), [Some(12), Some(7)]);
    }
}
