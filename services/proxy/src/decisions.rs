//! Why a request went where it went: the candidates, why each other one was passed over, the
//! attempts and their times.
//!
//! The log tells outcomes and never the alternatives. Failed and retried requests are always
//! recorded, others are sampled, and both are bounded; what an operator announced is recorded for
//! certain (`announced`). A request that is not recorded costs one comparison of a counter and one
//! look at another; one that is costs a small allocation and a message to the admin thread, which
//! adds what only it knows: why backends that were no candidates were none.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use balance::{BackendId, Picker, Policy, Time};
use chassis::units::Share;
use http::{HeaderMap, HeaderValue};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    admin::decisions::{self as told, Decision},
    announced::{self, Announced, Place},
    control::Control,
    error::Reason,
};

/// Records of each kind that are kept: sampled successes never push out a failure. With the limit
/// of candidates that is 8 MiB at most.
const KEPT: usize = 1000;

/// Records of announced requests that are kept, apart from the others: a storm of failures must not
/// push out what somebody is about to read.
const KEPT_ANNOUNCED: usize = 100;

/// How long an announcement waits for a place. Records are taken every [`TAKE_EVERY`], and the
/// places that become free go to whoever waits.
const PLACE_WAIT: Duration = Duration::from_secs(1);

/// Candidates of a record, and as many backends that were none: enough to see the rule.
pub(crate) const CANDIDATES_MOST: usize = 16;

/// Records that may wait for the admin thread. It takes them all at once.
const WAITING: usize = 256;

/// Between two looks of the admin thread: when everything fails, records of 256 requests fifty
/// times a second are more than anybody reads.
const TAKE_EVERY: Duration = Duration::from_millis(20);

/// What a worker knows of a decision.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) at: Time,
    /// What its backend was chosen by.
    pub(crate) policy: Policy,
    /// Whether that was the request's cookie rather than the policy.
    pub(crate) is_visit: bool,
    pub(crate) request_id: Option<HeaderValue>,
    pub(crate) method: &'static str,
    pub(crate) code: u16,
    pub(crate) failure: Option<Reason>,
    pub(crate) duration: Duration,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) attempts: Vec<AttemptRecord>,
    /// Those that could be picked when the last attempt's backend was.
    pub(crate) candidates: Vec<Candidate>,
    /// Whether an operator announced it.
    pub(crate) is_announced: bool,
}

/// One try of a request on one backend.
#[derive(Clone, Debug)]
pub(crate) struct AttemptRecord {
    pub(crate) backend: BackendId,
    /// Since the request's begin.
    pub(crate) started: Duration,
    pub(crate) took: Duration,
    /// Why it failed; none if a response came.
    pub(crate) failure: Option<Reason>,
}

/// A backend that could be picked.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) backend: BackendId,
    pub(crate) weight: u32,
    /// Without the request itself.
    pub(crate) in_flight: u32,
}

/// A worker's end.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Successes between two that are recorded, on average; 0 records none.
    gap: u32,
    left: Cell<u32>,
    random: RefCell<fastrand::Rng>,
    sender: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
    announced: Arc<Announced>,
}

impl Recorder {
    /// The id of a request that an operator announced, and the place for its record.
    pub(crate) fn announced(&self, headers: &HeaderMap) -> Option<(HeaderValue, Place)> {
        self.announced.take(headers)
    }

    /// Whether the request that begins now is to be recorded even if all goes well.
    pub(crate) fn is_next(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.wrapping_sub(1));
        if left == 0 { self.draw() } else { false }
    }

    /// A fixed gap could be in step with the turns, and would always meet the same backend.
    #[cold]
    fn draw(&self) -> bool {
        let most = self.gap.saturating_mul(2).saturating_sub(1);
        let next = if self.gap == 0 { u32::MAX } else { self.random.borrow_mut().u32(0..most) };
        self.left.set(next);
        self.gap > 0
    }

    /// Sends a record, to its own place if it has one. It is made only if there is room for it.
    pub(crate) fn send(&self, place: Option<Place>, record: impl FnOnce() -> Record) {
        match (place, self.sender.try_reserve()) {
            (Some(place), _) => {
                place.send(record());
            }
            (None, Ok(permit)) => permit.send(record()),
            (None, Err(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The backends that a worker picks from.
pub(crate) fn candidates(picker: &Picker, picked: Option<&BackendId>) -> Vec<Candidate> {
    let candidate = |(member, weight): (&Arc<balance::Member>, u32)| Candidate {
        backend: member.id().clone(),
        weight,
        in_flight: member.in_flight()
            - u32::from(picked == Some(member.id())).min(member.in_flight()),
    };
    let is_picked = |(member, _): &(&Arc<balance::Member>, u32)| Some(member.id()) == picked;
    // The one that was picked is not to fall victim to the limit.
    let first = picker.candidates().filter(is_picked);
    let others = picker.candidates().filter(|candidate| !is_picked(candidate));
    first.chain(others).take(CANDIDATES_MOST).map(candidate).collect()
}

/// What is kept, and the channel to it.
#[derive(Debug)]
pub(crate) struct Decisions {
    share: f64,
    sender: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
    announced: Arc<Announced>,
    // A std mutex: held to append or copy, never across an await.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    samples: VecDeque<Arc<Decision>>,
    failures: VecDeque<Arc<Decision>>,
    announced: VecDeque<Arc<Decision>>,
}

impl Decisions {
    pub(crate) fn new(share: Share) -> (Arc<Self>, mpsc::Receiver<Record>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (dropped, announced, kept) = (Arc::default(), Arc::default(), Mutex::default());
        (Arc::new(Self { share: share.get(), sender, dropped, announced, kept }), receiver)
    }

    /// An end for one worker.
    pub(crate) fn recorder(&self) -> Recorder {
        let gap = if self.share > 0.0 { (1.0 / self.share).round() as u32 } else { 0 };
        let random = RefCell::new(fastrand::Rng::new());
        Recorder {
            gap: gap.min(u32::MAX / 2),
            left: Cell::new(0),
            random,
            sender: self.sender.clone(),
            dropped: Arc::clone(&self.dropped),
            announced: Arc::clone(&self.announced),
        }
    }

    /// Has the next request with this id recorded for certain.
    ///
    /// # Errors
    /// How long to wait, if there is no room for its record.
    pub(crate) async fn announce(&self, id: &str) -> Result<(), Duration> {
        let place = self.sender.clone().reserve_owned();
        let place = tokio::time::timeout(PLACE_WAIT, place).await.ok().and_then(Result::ok);
        self.announced.announce(id, place.ok_or(PLACE_WAIT)?, Instant::now())?;
        announced::forget_later(Arc::clone(&self.announced));
        Ok(())
    }

    /// The share of successes that is recorded.
    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    /// Records that found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// All that is kept, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Decision>> {
        let kept = self.lock();
        let queues = [&kept.samples, &kept.failures, &kept.announced];
        let mut all: Vec<_> = queues.into_iter().flatten().cloned().collect();
        drop(kept);
        all.sort_by(|a, b| b.at.cmp(&a.at));
        all
    }

    fn keep(&self, decision: Decision, is_announced: bool) {
        let mut kept = self.lock();
        let (queue, most) = match (is_announced, decision.is_sample()) {
            (true, _) => (&mut kept.announced, KEPT_ANNOUNCED),
            (_, true) => (&mut kept.samples, KEPT),
            (_, false) => (&mut kept.failures, KEPT),
        };
        if queue.len() == most {
            queue.pop_front();
        }
        queue.push_back(Arc::new(decision));
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in records until the process ends.
pub(crate) async fn run(
    decisions: Arc<Decisions>,
    mut records: mpsc::Receiver<Record>,
    control: Arc<Control>,
) {
    let mut batch = Vec::new();
    while records.recv_many(&mut batch, WAITING).await > 0 {
        // One view for all of them: they are at most some milliseconds old.
        let view = control.read(|pool| pool.view());
        for record in batch.drain(..) {
            let is_announced = record.is_announced;
            decisions.keep(told::decision(record, &view, control.clock), is_announced);
        }
        tokio::time::sleep(TAKE_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder(share: &str) -> (Arc<Decisions>, Recorder, mpsc::Receiver<Record>) {
        let (decisions, receiver) = Decisions::new(chassis::units::share(share).unwrap());
        let recorder = decisions.recorder();
        (decisions, recorder, receiver)
    }

    #[test]
    fn so_many_are_sampled_as_the_share_says() {
        for (share, expected) in [("0%", 0..1), ("100%", 10_000..10_001), ("10%", 800..1_200)] {
            let (_decisions, recorder, _receiver) = recorder(share);
            let count = (0..10_000).filter(|_| recorder.is_next()).count();
            assert!(expected.contains(&count), "{share}: {count}");
        }
    }

    #[test]
    fn samples_are_not_in_step_with_the_turns() {
        let (_decisions, recorder, _receiver) = recorder("25%");
        let mut by_turn = [0; 4];
        (0..40_000).filter(|_| recorder.is_next()).for_each(|at| by_turn[at % 4] += 1);
        assert!(by_turn.iter().all(|count| (2_000..3_000).contains(count)), "{by_turn:?}");
    }

    fn failure() -> Record {
        Record {
            at: Time::default(),
            policy: Policy::default(),
            is_visit: false,
            request_id: None,
            method: "GET",
            code: 503,
            failure: Some(Reason::NoBackend),
            duration: Duration::ZERO,
            first_byte: None,
            attempts: Vec::new(),
            candidates: Vec::new(),
            is_announced: false,
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_not_made() {
        let (decisions, recorder, _receiver) = recorder("1%");
        (0..WAITING).for_each(|_| recorder.send(None, failure));
        recorder.send(None, || panic!("there is no room for it"));
        assert_eq!(decisions.dropped(), 1);
    }

    #[tokio::test]
    async fn what_was_announced_has_its_place_in_a_storm_of_failures() {
        let (decisions, recorder, mut receiver) = recorder("0%");
        decisions.announce("ours").await.unwrap();
        (0..2 * WAITING).for_each(|_| recorder.send(None, failure));
        let headers = HeaderMap::from_iter([(
            crate::headers::X_REQUEST_ID,
            HeaderValue::from_static("ours"),
        )]);
        let (_, place) = recorder.announced(&headers).unwrap();
        recorder.send(Some(place), || Record { is_announced: true, ..failure() });
        let mut records = Vec::new();
        receiver.recv_many(&mut records, 2 * WAITING).await;
        assert_eq!(records.iter().filter(|record| record.is_announced).count(), 1);
        assert_eq!(records.len(), WAITING);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_taken_in_an_announcement_is_refused_in_the_end() {
        let (decisions, recorder, _receiver) = recorder("0%");
        (0..WAITING).for_each(|_| recorder.send(None, failure));
        assert_eq!(decisions.announce("ours").await, Err(PLACE_WAIT));
    }
}
