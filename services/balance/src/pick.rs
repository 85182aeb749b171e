//! The request path: which backend gets this attempt.
//!
//! The control thread publishes an immutable [`Snapshot`]; a worker keeps the one it knows and
//! compares one version number per pick to see whether there is a newer one. So a pick costs a
//! load and an addition on shared memory, and no lock; the lock is taken only to fetch a new
//! snapshot. Members, order and version change together, so that no pick sees half of a change.

mod visit;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::{
    backend::Member,
    outcome::Outcome,
    plan::PolicyPlan,
    policy::{Choice, Moment, Policy},
    queue::Queue,
    random::Random,
    rung::Rung,
    tier::Serving,
    time::Time,
};

pub use visit::NoVisit;
pub(crate) use visit::{Tagger, Visited};

/// What picks are made from. Never changed after it is published.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    /// How one of them is chosen.
    pub(crate) plan: PolicyPlan,
    /// The rung of the ladder that all of them stand on, and the lowest of their tiers.
    pub(crate) serving: Serving,
    /// The backends that may get requests, in the order of their list.
    pub(crate) members: Vec<Arc<Member>>,
    /// Their weights.
    pub(crate) weights: Vec<u32>,
    /// Indexes into `members`, in turn.
    pub(crate) schedule: Vec<u32>,
    /// Those who could serve and need not, for requests that have tried all members: a group for
    /// each rung and tier, best first.
    pub(crate) rest: Vec<Vec<Arc<Member>>>,
    /// The generations of all these by their slots, to know one without a search; 0 is nobody's.
    pub(crate) able: Vec<u64>,
    /// Whom requests may ask for, members included.
    pub(crate) visited: Visited,
}

/// A counter that all workers write, on a cache line of its own: what they only read stays in the
/// caches of all. Two lines, as processors fetch pairs of them.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Alone(AtomicU64);

/// Counters of what workers need not agree on: more workers than processors are rare, and two that
/// share one only wait for each other now and then.
const COUNTERS: usize = 32;

/// The place where the control thread leaves snapshots for the workers.
#[derive(Debug, Default)]
pub(crate) struct Published {
    version: AtomicU64,
    // A std mutex: held for an Arc's clone or swap.
    snapshot: Mutex<Arc<Snapshot>>,
    /// First attempts that took a turn. One counter for all workers is what makes turns exact.
    turns: Alone,
    /// First attempts that took none, those that asked for a member by its tag included, by worker, so
    /// that none waits for what another counts.
    chosen: [Alone; COUNTERS],
    /// How many pickers there have been.
    pickers: AtomicUsize,
    /// Attempts after the first walk the schedule with a counter of their own: they must not make
    /// the turns of first attempts uneven.
    retries: AtomicU64,
    /// First attempts that asked by its tag for one that is no member.
    visits_beside: Alone,
    /// Who waits for a backend with room, or for any.
    queue: Arc<Queue>,
}

impl Published {
    /// Nothing to pick from yet.
    pub(crate) fn new(plan: PolicyPlan) -> Self {
        let snapshot = Mutex::new(Arc::new(Snapshot { plan, ..Snapshot::default() }));
        Self { snapshot, ..Self::default() }
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        let version = snapshot.version;
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        // Whoever reads this version finds that snapshot (or a newer one) in the mutex. SeqCst, as with
        // the line's length: either we see who has just entered the line, or they see this version.
        self.version.store(version, Ordering::SeqCst);
        self.queue.wake_first();
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// First attempts that went to members, or to nobody.
    pub(crate) fn picks(&self) -> u64 {
        let chosen = self.chosen.iter().map(|count| count.0.load(Ordering::Relaxed));
        let in_turn = self.turns.0.load(Ordering::Relaxed);
        in_turn + chosen.sum::<u64>()
    }

    /// All first attempts.
    pub(crate) fn requests(&self) -> u64 {
        self.picks() + self.visits_beside.0.load(Ordering::Relaxed)
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// No backend may get this attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBackend {
    /// None of the pool.
    NoneEligible,
    /// None of the pool, and one that was up a moment ago may be back: the request may wait in line.
    Awaited,
    /// None that this request has not tried yet.
    AllTried,
    /// None has room for another request, or others wait for room already.
    AllFull,
    /// None that this request has not tried yet has room, but one that it has: whoever comes after
    /// it can go there.
    OthersFull,
}

/// The right to make one attempt on one backend. Given back by dropping it, which every way out
/// of a request does exactly once: the response's end, an error, or the client's leaving.
#[derive(Debug)]
pub struct Ticket {
    member: Arc<Member>,
    term: u32,
    is_visit: bool,
}

impl Ticket {
    /// One for what goes on at a backend of an attempt that is given up, whatever the limit says.
    #[must_use]
    pub fn of_what_goes_on(member: &Arc<Member>) -> Self {
        Self { member: Arc::clone(member), term: member.enter_anyway(), is_visit: false }
    }

    /// The backend.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Whether the request asked for this backend.
    #[must_use]
    pub fn is_visit(&self) -> bool {
        self.is_visit
    }

    /// Notes how the attempt ended; to be called once. True if the pool should be told of
    /// [`crate::AttemptFailure::Streak`].
    #[must_use]
    pub fn note(&self, outcome: Outcome) -> bool {
        self.member.note(outcome, self.term)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.member.leave();
    }
}

/// Picks backends for one worker.
#[derive(Debug)]
pub struct Picker {
    published: Arc<Published>,
    /// Which of [`Published::chosen`] it counts on.
    counter: usize,
    known: Arc<Snapshot>,
    random: Random,
    moment: Moment,
}

impl Picker {
    pub(crate) fn new(published: Arc<Published>, seed: u64) -> Self {
        let known = published.current();
        let counter = published.pickers.fetch_add(1, Ordering::Relaxed) % COUNTERS;
        Self { published, counter, known, random: Random::new(seed), moment: Moment::default() }
    }

    /// How backends are chosen as of now.
    pub fn plan(&mut self) -> &PolicyPlan {
        self.refresh();
        &self.known.plan
    }

    /// The policy that the latest pick went by.
    #[must_use]
    pub fn latest_policy(&self) -> Policy {
        self.known.plan.policy
    }

    /// Says what time it is, before a pick by [`Policy::LeastTime`]; the others need not know.
    pub fn tell_time(&mut self, now: Time) {
        self.moment.advance(&self.known, now);
    }

    /// The backend for a request's first attempt. `key` is what [`Policy::Hash`] goes by.
    ///
    /// # Errors
    /// [`NoBackend::NoneEligible`] or [`NoBackend::Awaited`] if nobody serves, or
    /// [`NoBackend::AllFull`], also when there is room and others wait for it.
    pub fn pick(&mut self, key: Option<u64>) -> Result<Ticket, NoBackend> {
        self.refresh();
        let takes_turn = self.known.plan.policy.takes_turn(key);
        let counter = match takes_turn {
            true => &self.published.turns,
            false => &self.published.chosen[self.counter],
        };
        let turn = counter.0.fetch_add(1, Ordering::Relaxed);
        if self.published.queue.length() > 0 && !self.known.members.is_empty() {
            return Err(NoBackend::AllFull);
        }
        self.take(turn, key, &[])
    }

    /// A backend for a further attempt, or for the first in line: one whose generation is not among
    /// `tried`.
    ///
    /// # Errors
    /// [`NoBackend::AllTried`] if there are backends but no other one; [`NoBackend::AllFull`] or
    /// [`NoBackend::OthersFull`] if none of the others has room.
    pub fn pick_other(&mut self, key: Option<u64>, tried: &[u64]) -> Result<Ticket, NoBackend> {
        self.refresh();
        let turn = self.published.retries.fetch_add(1, Ordering::Relaxed);
        self.take(turn, key, tried)
    }

    /// A backend that need not serve, for a request that has tried all that do: a backup, or one of a
    /// lower rung. Whoever is about to fail a request may as well ask it; in a moment the pool will
    /// know, too, that the others are gone. Those that are as good as each other share them by chance,
    /// without weights.
    ///
    /// # Errors
    /// [`NoBackend::AllTried`] if there is none, or none with room.
    pub fn pick_resort(&mut self, tried: &[u64]) -> Result<Ticket, NoBackend> {
        self.refresh();
        // Not the counter of retries: it has moved by as much for each such request, and the same
        // one of two would always be next.
        let turn = self.random.next();
        let untried = |member: &&Arc<Member>| !tried.contains(&member.generation());
        let ticket = |member: &Arc<Member>| {
            let term = member.enter()?;
            Some(Ticket { member: Arc::clone(member), term, is_visit: false })
        };
        let in_turn = |group: &Vec<Arc<Member>>| {
            // Groups are not empty, and the rest is less than their length.
            let (end, start) = group.split_at((turn % group.len() as u64) as usize);
            start.iter().chain(end).filter(untried).find_map(ticket)
        };
        self.known.rest.iter().find_map(in_turn).ok_or(NoBackend::AllTried)
    }

    /// Whether a member may still get requests, for whoever has been busy since it was picked.
    pub fn is_eligible(&mut self, member: &Member) -> bool {
        self.refresh();
        self.known.able.get(member.slot()) == Some(&member.generation())
    }

    /// Whether nobody serves, and requests wait for somebody.
    pub fn is_awaiting(&mut self) -> bool {
        self.refresh();
        self.known.serving.rung == Rung::Queue
    }

    /// Whether anybody serves.
    pub fn has_members(&mut self) -> bool {
        self.refresh();
        !self.known.members.is_empty()
    }

    /// The line in which to wait for room, or for somebody.
    #[must_use]
    pub fn queue(&self) -> &Arc<Queue> {
        self.published.queue()
    }

    /// The backends that picks are made from for the moment, with their weights.
    pub fn candidates(&self) -> impl Iterator<Item = (&Arc<Member>, u32)> {
        self.known.members.iter().zip(self.known.weights.iter().copied())
    }

    /// First attempts of all workers so far.
    #[must_use]
    pub fn picks(&self) -> u64 {
        self.published.requests()
    }

    fn refresh(&mut self) {
        if self.published.version.load(Ordering::SeqCst) != self.known.version {
            self.known = self.published.current();
        }
    }

    fn take(&mut self, turn: u64, key: Option<u64>, tried: &[u64]) -> Result<Ticket, NoBackend> {
        let members = &self.known.members;
        let mut choice =
            Choice { turn, key, tried, random: &mut self.random, moment: &self.moment };
        while let Some(at) = choice.make(self.known.plan.policy, &self.known) {
            let member = Arc::clone(&members[at]);
            if let Some(term) = member.enter() {
                return Ok(Ticket { member, term, is_visit: false });
            }
            // Another worker took the last room meanwhile: choose anew among those that have some.
        }
        let is_tried = |member: &Arc<Member>| tried.contains(&member.generation());
        Err(match () {
            () if self.known.serving.rung == Rung::Queue => NoBackend::Awaited,
            () if members.is_empty() => NoBackend::NoneEligible,
            () if members.iter().all(is_tried) => NoBackend::AllTried,
            () if members.iter().any(|member| is_tried(member) && member.has_room()) => {
                NoBackend::OthersFull
            }
            () => NoBackend::AllFull,
        })
    }
}
