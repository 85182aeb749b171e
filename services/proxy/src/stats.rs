//! What happened to requests, counted where it happens and summed where it is read.
//!
//! Each worker has a shard of its own for each backend and takes its lock once per request, so
//! the lock is free except in the moment in which a reader adds the shards up. Sharing counters
//! between workers instead would move their cache lines from core to core with every request.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use balance::{BackendId, Time};
use chassis::metrics::DURATION_BUCKETS;
use hdrhistogram::Histogram;

use crate::{
    buffered::Buffered,
    error::{Reason, Source},
    limits::LimitCounts,
    sticky::VisitCounts,
};

/// The label of requests that no backend got.
pub(crate) const NO_BACKEND: &str = "_none";

/// How long the series of a backend that left are kept, so that a scrape or two see its end.
const SERIES_KEPT: Duration = Duration::from_secs(600);

/// The longest duration that the percentiles tell apart, in microseconds: beyond every timeout's
/// default. Longer ones count as this.
const LONGEST_US: u64 = 120_000_000;

/// A Prometheus histogram of durations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations {
    pub(crate) buckets: [u64; DURATION_BUCKETS.len()],
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Durations {
    pub(crate) fn record(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.sum += other.sum;
    }
}

/// How a request ended, for [`Shard::record`].
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) method: &'static str,
    /// The status that the client got, or 499 if it left.
    pub(crate) code: u16,
    /// From the request's head to the response's end.
    pub(crate) duration: Duration,
    /// From the attempt's start to the response's head, if there was one.
    pub(crate) first_byte: Option<Duration>,
    /// Why it failed, if it did.
    pub(crate) failure: Option<Reason>,
    /// Whether that is counted already, as what its last attempt came to.
    pub(crate) is_counted: bool,
}

impl Outcome {
    /// Whether this counts as an error on the page. What a client does wrong says nothing of the
    /// backend that it happened to get.
    fn is_error(&self) -> bool {
        match self.failure {
            Some(reason) => reason.source() != Source::Client,
            None => self.code >= 500,
        }
    }
}

/// Numbers of one backend.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    /// Requests by method and status.
    pub(crate) requests: BTreeMap<(&'static str, u16), u64>,
    /// Failures by reason, those that a retry made good included.
    pub(crate) failures: BTreeMap<Reason, u64>,
    /// Attempts that were followed by another one, by the reason.
    pub(crate) retries: BTreeMap<Reason, u64>,
    pub(crate) request_durations: Durations,
    pub(crate) upstream_durations: Durations,
    pub(crate) connect_durations: Durations,
    pub(crate) errors: u64,
    /// Durations in microseconds since the sampler last took them.
    recent: Histogram<u32>,
}

/// Two significant digits: percentiles are right to one per cent.
pub(crate) fn histogram() -> Histogram<u32> {
    Histogram::new(2).expect("two significant digits are within 0 to 5")
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            requests: BTreeMap::new(),
            failures: BTreeMap::new(),
            retries: BTreeMap::new(),
            request_durations: Durations::default(),
            upstream_durations: Durations::default(),
            connect_durations: Durations::default(),
            errors: 0,
            recent: histogram(),
        }
    }
}

impl Numbers {
    pub(crate) fn requests_total(&self) -> u64 {
        self.requests.values().sum()
    }

    fn add(&mut self, other: &Self) {
        other.requests.iter().for_each(|(key, n)| *self.requests.entry(*key).or_default() += n);
        other.failures.iter().for_each(|(key, n)| *self.failures.entry(*key).or_default() += n);
        other.retries.iter().for_each(|(key, n)| *self.retries.entry(*key).or_default() += n);
        self.request_durations.add(&other.request_durations);
        self.upstream_durations.add(&other.upstream_durations);
        self.connect_durations.add(&other.connect_durations);
        self.errors += other.errors;
    }
}

/// One worker's numbers of one backend.
#[derive(Debug, Default)]
pub(crate) struct Shard(Mutex<Numbers>);

impl Shard {
    /// Counts the end of a request.
    pub(crate) fn record(&self, outcome: &Outcome) {
        let mut numbers = self.lock();
        *numbers.requests.entry((outcome.method, outcome.code)).or_default() += 1;
        if let Some(reason) = outcome.failure.filter(|_| !outcome.is_counted) {
            *numbers.failures.entry(reason).or_default() += 1;
        }
        numbers.errors += u64::from(outcome.is_error());
        numbers.request_durations.record(outcome.duration);
        if let Some(duration) = outcome.first_byte {
            numbers.upstream_durations.record(duration);
        }
        let micros = u64::try_from(outcome.duration.as_micros()).unwrap_or(LONGEST_US);
        // Fails only beyond the range, which the limit excludes.
        let _ = numbers.recent.record(micros.min(LONGEST_US));
    }

    /// Counts an attempt that failed, after which its request goes on.
    pub(crate) fn record_failure(&self, reason: Reason) {
        *self.lock().failures.entry(reason).or_default() += 1;
    }

    /// Counts that another attempt has followed it.
    pub(crate) fn record_retry(&self, reason: Reason) {
        *self.lock().retries.entry(reason).or_default() += 1;
    }

    /// Counts a connection that was made.
    pub(crate) fn record_connect(&self, duration: Duration) {
        self.lock().connect_durations.record(duration);
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's numbers that belong to no backend.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// Open connections of clients.
    pub(crate) client_open: AtomicI64,
    /// Requests that are being served.
    pub(crate) client_active: AtomicI64,
    /// Those of them that may share their connection with others, as with HTTP/2.
    pub(crate) client_sharing: AtomicI64,
    /// Connections of clients that serve such requests.
    pub(crate) client_shared: AtomicI64,
    /// Idle connections of clients that have given back what serving takes.
    pub(crate) client_resting: AtomicI64,
    /// Open connections to backends.
    pub(crate) backend_open: AtomicI64,
    /// Those that wait for a request.
    pub(crate) backend_idle: AtomicI64,
    /// Pipes through which long bodies pass.
    pub(crate) pipes: AtomicI64,
    /// Connections that a backend closed while they waited for a request.
    pub(crate) backend_idle_closed: AtomicU64,
    /// Heads that hyper refused before they became requests.
    pub(crate) invalid_heads: AtomicU64,
    /// Clients that did not send a whole head in time.
    pub(crate) header_timeouts: AtomicU64,
    /// Clients that sent nothing for too long between two requests.
    pub(crate) idle_timeouts: AtomicU64,
    /// Clients that took nothing of their response for too long.
    pub(crate) write_timeouts: AtomicU64,
    /// What waits for clients, or for backends, that do not take it.
    pub(crate) buffered: Buffered,
    /// Tunnels that were silent for too long.
    pub(crate) tunnel_timeouts: AtomicU64,
    /// Bounds on clients and backends that were hit.
    pub(crate) limits: LimitCounts,
    /// Tunnels that ended because the deadline of a drain had passed.
    pub(crate) tunnels_ended: AtomicU64,
    /// Those of them that were cut, with no good-bye or in the middle of it.
    pub(crate) tunnels_cut: AtomicU64,
    /// How long requests waited for a backend with room. A mutex, because only those that wait take
    /// it.
    pub(crate) queue_durations: Mutex<Durations>,
    /// What became of requests with the cookie of a backend.
    pub(crate) visits: VisitCounts,
    /// Retries that the budget refused.
    pub(crate) budget_exhausted: AtomicU64,
}

impl Gauges {
    /// Counts a request that had to wait.
    pub(crate) fn record_queued(&self, duration: Duration) {
        self.queue_durations.lock().unwrap_or_else(PoisonError::into_inner).record(duration);
    }
}

/// All shards, by backend.
#[derive(Debug)]
pub(crate) struct Stats {
    backends: Mutex<BTreeMap<String, BackendStats>>,
    /// By worker.
    pub(crate) gauges: Vec<Arc<Gauges>>,
    /// Connections that could not be accepted.
    pub(crate) accept_errors: AtomicU64,
}

#[derive(Debug, Default)]
struct BackendStats {
    shards: Vec<Arc<Shard>>,
    last_present: Time,
}

impl Stats {
    /// Empty numbers for so many workers.
    #[cfg(test)]
    pub(crate) fn new(workers: usize) -> Self {
        Self::bounded(workers, usize::MAX)
    }

    /// The same, where so many bytes may wait for clients.
    pub(crate) fn bounded(workers: usize, buffered_bytes: usize) -> Self {
        let buffered = || Buffered::up_to(buffered_bytes / workers.max(1));
        let gauges = || Arc::new(Gauges { buffered: buffered(), ..Gauges::default() });
        let gauges = (0..workers).map(|_| gauges()).collect();
        Self { backends: Mutex::default(), gauges, accept_errors: AtomicU64::new(0) }
    }

    /// Worker `worker`'s shard for a backend. A backend that comes back goes on counting.
    pub(crate) fn shard(&self, backend: &str, worker: usize) -> Arc<Shard> {
        let mut backends = self.lock();
        let stats = backends.entry(backend.to_owned()).or_default();
        if stats.shards.len() <= worker {
            stats.shards.resize_with(worker + 1, Arc::default);
        }
        Arc::clone(&stats.shards[worker])
    }

    /// The numbers of each backend, summed over workers.
    pub(crate) fn numbers(&self) -> BTreeMap<String, Numbers> {
        let backends = self.lock();
        let sum = |stats: &BackendStats| {
            let mut sum = Numbers::default();
            stats.shards.iter().for_each(|shard| sum.add(&shard.lock()));
            sum
        };
        backends.iter().map(|(id, stats)| (id.clone(), sum(stats))).collect()
    }

    /// Takes the durations recorded since the last call, with the totals of requests and errors.
    pub(crate) fn take_recent(&self) -> BTreeMap<String, Recent> {
        let backends = self.lock();
        let take = |stats: &BackendStats| {
            let mut recent = Recent::default();
            for shard in &stats.shards {
                let mut numbers = shard.lock();
                recent.requests_total += numbers.requests_total();
                recent.errors_total += numbers.errors;
                if !numbers.recent.is_empty() {
                    let durations = recent.durations.get_or_insert_with(histogram);
                    // Fails only if the target had a fixed range.
                    let _ = durations.add(&numbers.recent);
                    numbers.recent.reset();
                }
            }
            recent
        };
        backends.iter().map(|(id, stats)| (id.clone(), take(stats))).collect()
    }

    /// Forgets backends that have not been `present` for [`SERIES_KEPT`].
    pub(crate) fn forget(&self, present: &[BackendId], now: Time) {
        let mut backends = self.lock();
        let present: HashSet<&str> = present.iter().map(BackendId::as_str).collect();
        backends.retain(|id, stats| {
            if id == NO_BACKEND || present.contains(id.as_str()) {
                stats.last_present = now;
            }
            now.since(stats.last_present) < SERIES_KEPT
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BackendStats>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Stats::take_recent`] takes.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    pub(crate) requests_total: u64,
    pub(crate) errors_total: u64,
    /// `None` where there are none: most samples of most backends, and an empty one takes a kilobyte.
    pub(crate) durations: Option<Histogram<u32>>,
}

/// Adds one to a gauge until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Gauges>, fn(&Gauges) -> &AtomicI64);

impl Counted {
    pub(crate) fn new(gauges: &Arc<Gauges>, gauge: fn(&Gauges) -> &AtomicI64) -> Self {
        gauge(gauges).fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(gauges), gauge)
    }

    /// Adds one to another gauge beside it.
    pub(crate) fn also(&self, gauge: fn(&Gauges) -> &AtomicI64) -> Self {
        Self::new(&self.0, gauge)
    }

    pub(crate) fn gauges(&self) -> &Gauges {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: u16, failure: Option<Reason>) -> Outcome {
        let duration = Duration::from_millis(3);
        let first_byte = Some(duration);
        Outcome { method: "GET", code, duration, first_byte, failure, is_counted: false }
    }

    #[test]
    fn shards_of_all_workers_add_up() {
        let stats = Stats::new(2);
        stats.shard("a", 0).record(&outcome(200, None));
        stats.shard("a", 1).record(&outcome(200, None));
        stats.shard("a", 1).record(&outcome(502, Some(Reason::ProtocolError)));
        let numbers = &stats.numbers()["a"];
        assert_eq!(numbers.requests[&("GET", 200)], 2);
        assert_eq!(numbers.failures[&Reason::ProtocolError], 1);
        assert_eq!((numbers.requests_total(), numbers.errors), (3, 1));
        assert_eq!(numbers.request_durations.count, 3);
    }

    #[test]
    fn what_a_client_does_wrong_is_no_error_of_the_backend() {
        let stats = Stats::new(2);
        for reason in [Reason::ClientGone, Reason::BadRequest, Reason::RequestTimeout] {
            stats.shard("a", 0).record(&outcome(reason.status().as_u16(), Some(reason)));
        }
        assert_eq!(stats.numbers()["a"].errors, 0);
        stats.shard("a", 0).record(&outcome(200, Some(Reason::ResetMidBody)));
        stats.shard("a", 0).record(&outcome(500, None));
        assert_eq!(stats.numbers()["a"].errors, 2);
    }

    #[test]
    fn recent_durations_are_taken_once() {
        let stats = Stats::new(2);
        stats.shard("a", 0).record(&outcome(200, None));
        assert_eq!(stats.take_recent()["a"].durations.as_ref().map(Histogram::len), Some(1));
        assert_eq!(stats.take_recent()["a"].durations, None);
        assert_eq!(stats.take_recent()["a"].requests_total, 1);
    }

    #[test]
    fn the_series_of_a_backend_that_left_go_ten_minutes_later() {
        let stats = Stats::new(2);
        stats.shard("a", 0);
        let at = |seconds| Time::after_start(Duration::from_secs(seconds));
        stats.forget(&[BackendId::new("a")], at(1));
        stats.forget(&[], at(600));
        assert!(stats.numbers().contains_key("a"));
        stats.forget(&[], at(601));
        assert!(stats.numbers().is_empty());
    }
}
