//! A backend: one server instance that may get requests.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    degraded::Saying,
    load::AnswerTime,
    outcome::{Counts, Outcome, Outcomes},
    queue::Queue,
    time::Time,
    visits::Visits,
};

/// The stable name of a backend within its pool: `host:port` as configured, or `address:port` as
/// discovered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(Arc<str>);

impl BackendId {
    /// A name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A backend as discovery reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub id: BackendId,
    /// Where to connect, best first; several only for a configured host name. The error in words
    /// if the name does not resolve.
    pub addresses: Result<Vec<SocketAddr>, String>,
    /// Its share of the traffic relative to the others.
    pub weight: u32,
    /// How much it is wanted, 0 most: others serve only while those above have too little.
    pub tier: u16,
    /// Whether the source says that it is going away and serves still. It gets requests only if
    /// there is nobody else.
    pub is_terminating: bool,
    /// What tells this instance from others under the same name, if the source knows it: in
    /// Kubernetes the UID of its pod. Otherwise its addresses must do.
    pub instance: Option<String>,
}

impl Found {
    /// A backend of weight 1 that is there to stay.
    #[must_use]
    pub fn new(id: BackendId, addresses: Result<Vec<SocketAddr>, String>) -> Self {
        Self { id, addresses, weight: 1, tier: 0, is_terminating: false, instance: None }
    }
}

/// In place of a limit of requests in flight.
const NO_LIMIT: u32 = u32::MAX;

/// What workers and the control thread share of one generation of a backend.
#[derive(Debug)]
pub struct Member {
    id: BackendId,
    generation: u64,
    slot: usize,
    /// Of the name, for hashing: the same in every proxy, so that replicas agree.
    hash: u64,
    /// Attempts that hold a ticket in the lower half, attempts so far in the upper one: so many as
    /// began and are not in flight have ended, and a request pays nothing for our knowing it.
    attempts: AtomicU64,
    outcomes: Outcomes,
    /// Whether its responses ask to spare it.
    pub(crate) saying: Saying,
    /// The most requests in flight at a time; [`NO_LIMIT`] if there is none.
    limit: AtomicU32,
    /// Who waits for a ticket to be given back.
    queue: Arc<Queue>,
    /// How long it takes to answer, if the policy goes by that.
    answer_time: AnswerTime,
    /// Upgraded connections among the attempts in flight.
    tunnels: AtomicU32,
    /// Whether they are to end.
    must_end_tunnels: AtomicBool,
    /// By which visitors ask for it, if they may.
    tag: Option<u128>,
    visits: Visits,
    // A std mutex: held for a copy, never across I/O, and only where a connection is made.
    addresses: Mutex<Vec<SocketAddr>>,
    /// How often they have changed.
    moves: AtomicU32,
}

/// One attempt in the upper half of [`Member::attempts`].
const BEGUN: u64 = 1 << 32;

impl Member {
    /// `streak_limit` is how many failures in a row the pool wants to be told of; 0 is never.
    pub(crate) fn new(
        id: BackendId,
        generation: u64,
        slot: usize,
        addresses: Vec<SocketAddr>,
        streak_limit: u32,
        queue: Arc<Queue>,
    ) -> Self {
        let hash = hash_of(id.as_str().as_bytes());
        let (attempts, outcomes) = (AtomicU64::new(0), Outcomes::new(streak_limit));
        let (limit, saying) = (AtomicU32::new(NO_LIMIT), Saying::default());
        let (tunnels, must_end_tunnels) = (AtomicU32::new(0), AtomicBool::new(false));
        Self {
            id,
            generation,
            slot,
            hash,
            attempts,
            outcomes,
            saying,
            limit,
            queue,
            answer_time: AnswerTime::default(),
            tunnels,
            must_end_tunnels,
            tag: None,
            visits: Visits::default(),
            addresses: Mutex::new(addresses),
            moves: AtomicU32::new(0),
        }
    }

    pub(crate) fn with_tag(mut self, tag: Option<u128>) -> Self {
        self.tag = tag;
        self
    }

    /// By which requests ask for it; see [`crate::Pool::with_tags`].
    #[must_use]
    pub fn tag(&self) -> Option<u128> {
        self.tag
    }

    pub(crate) fn note_visit(&self, now: Time) {
        self.visits.note(now);
    }

    /// Requests that asked for it within the last minute, or up to ten seconds more.
    #[must_use]
    pub fn visits(&self, now: Time) -> u32 {
        self.visits.of_late(now)
    }

    /// When a request asked for it last, to the millisecond.
    #[must_use]
    pub fn last_visit(&self) -> Option<Time> {
        self.visits.last()
    }

    /// The backend's name.
    #[must_use]
    pub fn id(&self) -> &BackendId {
        &self.id
    }

    /// Distinguishes this backend from one that had its name before. Never used twice.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A small number that no other present backend has, for tables indexed by backend. It is used
    /// again after this one is gone: compare the generation.
    #[must_use]
    pub fn slot(&self) -> usize {
        self.slot
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Where to connect, best first.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often its addresses have changed: a connection that was made before may lead to one that
    /// is no longer its.
    #[must_use]
    pub fn moves(&self) -> u32 {
        self.moves.load(Ordering::Acquire)
    }

    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != addresses {
            *known = addresses;
            self.moves.fetch_add(1, Ordering::Release);
        }
    }

    /// Attempts that hold a ticket.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed) as u32
    }

    /// Takes note of how long an attempt took to its answer, or to its failure, for
    /// [`crate::Policy::LeastTime`].
    pub fn answered(&self, took: Duration, is_failure: bool, now: Time) {
        self.answer_time.note(took, is_failure, now);
    }

    pub(crate) fn answer_time(&self) -> &AnswerTime {
        &self.answer_time
    }

    /// Upgraded connections among them.
    #[must_use]
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Ordering::Relaxed)
    }

    pub(crate) fn add_tunnel(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_tunnel(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the deadline of its drain has passed, at which requests end that may last for days.
    #[must_use]
    pub fn must_end_tunnels(&self) -> bool {
        self.must_end_tunnels.load(Ordering::Relaxed)
    }

    /// Says whether tunnels are to end, and tells whether that is new.
    pub(crate) fn set_must_end_tunnels(&self, must: bool) -> bool {
        self.must_end_tunnels.swap(must, Ordering::Relaxed) != must
    }

    /// The most requests in flight at a time, if there is a limit.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit != NO_LIMIT)
    }

    /// Sets the most requests in flight at a time. More may be under way for the moment.
    pub(crate) fn set_limit(&self, limit: Option<u32>) {
        let limit = limit.unwrap_or(NO_LIMIT);
        if self.limit.swap(limit, Ordering::SeqCst) != limit {
            self.queue.wake_first();
        }
    }

    /// Whether another request may be sent to it, as of now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        (self.attempts.load(Ordering::SeqCst) as u32) < self.limit.load(Ordering::Relaxed)
    }

    /// Begins an attempt, unless there is no room for one. Gives the term in which it counts. SeqCst
    /// here and in `leave` because of the queue: whoever waits and finds no room must be seen by
    /// whoever makes some.
    pub(crate) fn enter(&self) -> Option<u32> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == NO_LIMIT {
            return Some(self.enter_anyway());
        }
        let one_more =
            |attempts: u64| ((attempts as u32) < limit).then(|| attempts.wrapping_add(BEGUN + 1));
        self.attempts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        Some(self.outcomes.term())
    }

    /// Begins one whether there is room for it or not.
    pub(crate) fn enter_anyway(&self) -> u32 {
        self.attempts.fetch_add(BEGUN + 1, Ordering::SeqCst);
        self.outcomes.term()
    }

    pub(crate) fn leave(&self) {
        let before = self.attempts.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before as u32 > 0, "a ticket of {} was given back twice", self.id);
        self.queue.wake_first();
    }

    pub(crate) fn note(&self, outcome: Outcome, term: u32) -> bool {
        self.outcomes.note(outcome, term)
    }

    /// How attempts ended so far.
    pub(crate) fn counts(&self) -> Counts {
        let attempts = self.attempts.load(Ordering::Relaxed);
        let (begun, in_flight) = ((attempts >> 32) as u32, attempts as u32);
        self.outcomes.counts(begun.wrapping_sub(in_flight))
    }

    /// Notes that a response asks to spare the backend. True if the pool is to be told with
    /// [`crate::Pool::degraded`]; if it cannot be, say so with [`Self::not_asked_to_spare`].
    pub fn ask_to_spare(&self) -> bool {
        self.saying.say()
    }

    /// The pool could not be told: the next response that asks is news again.
    pub fn not_asked_to_spare(&self) {
        self.saying.not_told();
    }

    pub(crate) fn streak(&self) -> u32 {
        self.outcomes.streak()
    }

    pub(crate) fn take_streak(&self) -> bool {
        self.outcomes.take_streak()
    }

    pub(crate) fn set_streak_limit(&self, limit: u32) {
        self.outcomes.set_streak_limit(limit);
    }

    pub(crate) fn begin_term(&self) {
        self.outcomes.begin_term();
    }
}

/// A hash that is the same on every machine and in every version: 64-bit FNV-1a (Fowler, Noll, Vo). What
/// goes into it is mixed further where it is used, so its weak high bits do no harm.
#[must_use]
pub fn hash_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
