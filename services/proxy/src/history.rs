//! The last hour, second by second: requests, errors, requests in flight and latencies of each
//! backend and of the pool.
//!
//! A page that was opened after the fact, and one that shows several proxies, need what happened
//! and not only what is. Each second becomes one small piece of bytes with a record for each
//! backend that was there, so that what came and went costs nothing while it is away, and an hour
//! of a hundred backends at full load stays within [`MOST_BYTES`]. When more would be needed the
//! oldest seconds go first.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    latency::{Latency, read_number, write_number},
    stats::NO_BACKEND,
};

/// Seconds that are kept: who was woken by an alert sees how it began.
pub(crate) const SECONDS: usize = 3600;

/// Memory for all of it: the worst hour of a hundred backends and the pool.
const MOST_BYTES: usize = 64 << 20;

/// A record's latencies; a second of some hundred different durations fits at half the finest
/// scale or better.
pub(crate) const LATENCY_BYTES: usize = 160;

/// A record's other parts: five numbers of five bytes at most.
const RECORD_BYTES: usize = 5 * 5 - 3 + LATENCY_BYTES;

/// A second's own cost: its place in the queue, the counts of its `Arc`, the allocator's.
const SECOND_BYTES: usize = 64;

/// The number of the pool's own record.
const POOL: u32 = 0;

const _: () = assert!(SECONDS * (SECOND_BYTES + 101 * RECORD_BYTES) <= MOST_BYTES);

/// What happened to a backend, or to the pool, within a second or more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Second {
    /// Requests that ended.
    pub(crate) requests: u32,
    /// Those of them that failed.
    pub(crate) errors: u32,
    /// The most that were in flight at once, as far as was looked.
    pub(crate) in_flight: u32,
    /// From a request's head to its response's end.
    pub(crate) latency: Latency,
}

impl Second {
    /// Adds another time of the same backend.
    pub(crate) fn then(&mut self, later: &Self) {
        self.in_flight = self.in_flight.max(later.in_flight);
        self.add(later);
    }

    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.latency.add(&other.latency);
    }

    fn write(self, number: u32, bytes: &mut Vec<u8>) {
        let latency =
            if self.latency.is_empty() { Vec::new() } else { self.latency.encode(LATENCY_BYTES) };
        for number in [number, self.requests, self.errors, self.in_flight, latency.len() as u32] {
            write_number(bytes, number);
        }
        bytes.extend(latency);
    }

    fn read(bytes: &mut &[u8]) -> Option<(u32, Self)> {
        let number = read_number(bytes)?;
        let (requests, errors) = (read_number(bytes)?, read_number(bytes)?);
        let in_flight = read_number(bytes)?;
        let length = read_number(bytes)? as usize;
        let (latency, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let latency = Latency::decode(latency).unwrap_or_default();
        Some((number, Self { requests, errors, in_flight, latency }))
    }
}

/// A second of all backends, numbered since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) second: u64,
    records: Arc<[u8]>,
}

impl Frame {
    /// What happened, by the number of a backend in [`Snapshot::backends`]; 0 is the pool.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u32, Second)> {
        let mut bytes = &*self.records;
        std::iter::from_fn(move || Second::read(&mut bytes))
    }

    fn cost(&self) -> usize {
        SECOND_BYTES + self.records.len()
    }
}

/// The hour as it is kept, for one reader.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Oldest first; a second in which nobody looked is not there.
    pub(crate) frames: Vec<Frame>,
    /// The number of each backend that is in any of them.
    pub(crate) backends: BTreeMap<String, u32>,
}

/// Keeps the hour.
#[derive(Debug)]
pub(crate) struct History {
    most_bytes: usize,
    // A std mutex: held to append a second or to copy references to all, never across an await.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    frames: VecDeque<Frame>,
    bytes: usize,
    names: BTreeMap<String, Name>,
    /// Numbers given so far. None is used twice.
    numbers: u32,
    /// The second that is under way.
    pending: Option<(u64, BTreeMap<String, Second>)>,
}

#[derive(Debug)]
struct Name {
    number: u32,
    last_second: u64,
}

/// Which half second ended just now, counted since 1970. A sampler that is a little early or late
/// is taken for punctual.
pub(crate) fn half_second(now: Duration) -> u64 {
    ((now.as_millis() + 250) / 500).saturating_sub(1) as u64
}

impl History {
    pub(crate) fn new() -> Self {
        Self { most_bytes: MOST_BYTES, kept: Mutex::default() }
    }

    /// Adds what happened in a half second. The second is kept when both its halves are there, or
    /// when the next one begins.
    pub(crate) fn record(&self, half: u64, grown: BTreeMap<String, Second>) {
        let second = half / 2;
        let mut kept = self.lock();
        match &mut kept.pending {
            Some((pending, sum)) if *pending == second => {
                for (id, second) in grown {
                    sum.entry(id).or_default().then(&second);
                }
            }
            _ => {
                kept.keep(self.most_bytes);
                kept.pending = Some((second, grown));
            }
        }
        if half % 2 == 1 {
            kept.keep(self.most_bytes);
        }
    }

    /// All that is kept.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let kept = self.lock();
        Snapshot {
            frames: kept.frames.iter().cloned().collect(),
            backends: kept.names.iter().map(|(id, name)| (id.clone(), name.number)).collect(),
        }
    }

    /// Memory in use.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, most_bytes: usize) {
        let Some((second, backends)) = self.pending.take() else { return };
        let mut pool = Second::default();
        let mut records = Vec::new();
        for (id, backend) in backends {
            pool.add(&backend);
            pool.in_flight = pool.in_flight.saturating_add(backend.in_flight);
            if id != NO_BACKEND {
                let number = self.number(id, second);
                backend.write(number, &mut records);
            }
        }
        pool.write(POOL, &mut records);
        let frame = Frame { second, records: records.into() };
        self.bytes += frame.cost();
        self.frames.push_back(frame);
        let oldest = second.saturating_sub(SECONDS as u64 - 1);
        while self.bytes > most_bytes || self.frames.front().is_some_and(|f| f.second < oldest) {
            let Some(gone) = self.frames.pop_front() else { break };
            self.bytes -= gone.cost();
        }
        let first = self.frames.front().map_or(second, |frame| frame.second);
        self.names.retain(|_, name| name.last_second >= first);
    }

    fn number(&mut self, id: String, second: u64) -> u32 {
        let name = self.names.entry(id).or_insert_with(|| {
            self.numbers += 1;
            Name { number: self.numbers, last_second: second }
        });
        name.last_second = second;
        name.number
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    fn second(requests: u32, spread: u64) -> Second {
        let mut durations = Histogram::<u32>::new(2).unwrap();
        (0..spread).for_each(|n| durations.record(100 + n * n * 31).unwrap());
        Second { requests, errors: 1, in_flight: 2, latency: Latency::from(&durations) }
    }

    fn one(id: &str, second: Second) -> BTreeMap<String, Second> {
        [(id.to_owned(), second)].into()
    }

    #[test]
    fn two_halves_make_a_second_and_the_pool_is_the_sum() {
        let history = History::new();
        history.record(20, one("a", second(3, 5)));
        assert!(history.snapshot().frames.is_empty(), "half a second is no second");
        let mut later = one("a", second(4, 5));
        later.insert("b".to_owned(), second(1, 0));
        later.insert(NO_BACKEND.to_owned(), second(2, 0));
        history.record(21, later);
        let Snapshot { frames, backends } = history.snapshot();
        let records: BTreeMap<u32, Second> = frames[0].records().collect();
        assert_eq!((frames.len(), frames[0].second), (1, 10));
        assert_eq!(backends.keys().collect::<Vec<_>>(), ["a", "b"]);
        let a = &records[&backends["a"]];
        assert_eq!((a.requests, a.errors, a.in_flight), (7, 2, 2));
        let mut latency = second(0, 5).latency;
        latency.add(&second(0, 5).latency);
        assert_eq!(a.latency, latency);
        assert_eq!((records[&POOL].requests, records[&POOL].in_flight), (10, 6));
        assert_eq!(records[&POOL].latency, latency);
    }

    #[test]
    fn a_second_that_lost_a_half_is_kept_all_the_same() {
        let history = History::new();
        history.record(20, one("a", second(3, 5)));
        history.record(22, one("a", second(4, 5)));
        let frames = history.snapshot().frames;
        assert_eq!(frames.iter().map(|frame| frame.second).collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn an_hour_is_kept_and_the_names_of_those_who_were_in_it() {
        let history = History::new();
        history.record(1, one("gone", second(1, 0)));
        for at in 1..=SECONDS as u64 {
            history.record(2 * at + 1, one("a", second(1, 0)));
        }
        let Snapshot { frames, backends } = history.snapshot();
        assert_eq!((frames.len(), frames[0].second), (SECONDS, 1));
        assert_eq!(backends.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_record_of_any_second_stays_within_its_bound() {
        let mut busiest = second(u32::MAX, 2_000);
        (busiest.errors, busiest.in_flight) = (u32::MAX, u32::MAX);
        let mut bytes = Vec::new();
        busiest.write(u32::MAX, &mut bytes);
        assert!(bytes.len() > LATENCY_BYTES / 2, "{}", bytes.len());
        assert!(bytes.len() <= RECORD_BYTES, "{}", bytes.len());
    }

    #[test]
    fn an_hour_of_a_hundred_busy_backends_takes_at_most_64_mebibytes() {
        let history = History::new();
        let busy = second(50_000, 2_000);
        let all: BTreeMap<String, Second> =
            (0..100).map(|n| (format!("10.0.0.{n}:8080"), busy.clone())).collect();
        // Ten seconds stand for the hour: each costs the same.
        (0..10).for_each(|at| history.record(2 * at + 1, all.clone()));
        let per_second = history.bytes() / 10;
        assert!(per_second * SECONDS <= 64 << 20, "{per_second} bytes a second");
        assert!(per_second * SECONDS > 16 << 20, "the backends were not busy: {per_second}");
    }

    #[test]
    fn what_is_too_much_costs_the_oldest_seconds() {
        let history = History { most_bytes: 10_000, ..History::new() };
        for at in 0..1_000 {
            history.record(2 * at + 1, one("a", second(9, 90)));
            assert!(history.bytes() <= 10_000);
        }
        let frames = history.snapshot().frames;
        assert!(frames.len() > 10 && frames.last().unwrap().second == 999);
    }

    #[test]
    fn a_sampler_may_be_a_quarter_second_early_or_late() {
        for (millis, half) in [(10_500, 20), (10_260, 20), (10_740, 20), (11_000, 21)] {
            assert_eq!(half_second(Duration::from_millis(millis)), half, "{millis}");
        }
    }
}
