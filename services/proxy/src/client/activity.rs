//! What a client's connection is doing, and since when: the ground for its limits of time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{settings::Timeouts, stats::Gauges};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Waiting for the first byte of a request.
    Idle,
    /// Receiving a request's head.
    Head,
    /// Serving a request.
    Busy,
}

/// What a connection is doing, and since when. Atomics only because an upgraded connection's I/O
/// must be `Send`; all use is on one thread.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    phase: AtomicU8,
    /// Milliseconds after `start`.
    since: AtomicU64,
    has_served: AtomicBool,
    /// The connection speaks another protocol, which the client asked for.
    has_switched: AtomicBool,
    /// Requests that are being served, or are not let go of yet.
    busy: AtomicU32,
    /// Milliseconds after `start` since which the client takes nothing of what we have for it;
    /// [`NOT_BLOCKED`] if it does. hyper writes as much as it can, so that as long as something is
    /// left to write this is set.
    blocked_since: AtomicU64,
    /// HTTP/2 may send a head while it is being served: milliseconds after `start` since which one
    /// has begun and not ended, or [`NO_HEAD`].
    stream_head_since: AtomicU64,
}

const NOT_BLOCKED: u64 = u64::MAX;

/// No head has begun.
const NO_HEAD: u64 = u64::MAX;

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let phase = AtomicU8::new(Phase::Idle as u8);
        Arc::new(Self {
            start: Instant::now(),
            phase,
            since: AtomicU64::new(0),
            has_served: AtomicBool::new(false),
            has_switched: AtomicBool::new(false),
            busy: AtomicU32::new(0),
            blocked_since: AtomicU64::new(NOT_BLOCKED),
            stream_head_since: AtomicU64::new(NO_HEAD),
        })
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.since.store(self.now(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Notes that something has arrived, which between two requests of HTTP/1 is the next one.
    pub(super) fn begin_head(&self) {
        if self.is(Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    /// Notes whether a head of HTTP/2 has begun and not ended.
    pub(super) fn note_stream_head(&self, is_open: bool) {
        if is_open != self.is_in_stream_head() {
            let since = if is_open { self.now() } else { NO_HEAD };
            self.stream_head_since.store(since, Ordering::Relaxed);
        }
    }

    fn is_in_stream_head(&self) -> bool {
        self.stream_head_since.load(Ordering::Relaxed) != NO_HEAD
    }

    /// Milliseconds since the connection began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NOT_BLOCKED - 1)
    }

    /// Notes how a write went.
    pub(super) fn wrote(&self, is_blocked: bool) {
        let was_blocked = self.is_blocked();
        if is_blocked && !was_blocked {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        } else if !is_blocked && was_blocked {
            self.blocked_since.store(NOT_BLOCKED, Ordering::Relaxed);
            if self.is(Phase::Idle) {
                // Only now has the client all that was meant for it.
                self.enter(Phase::Idle);
            }
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.load(Ordering::Relaxed) != NOT_BLOCKED
    }

    pub(super) fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    /// Whether nothing has arrived yet at all.
    pub(super) fn awaits_first_request(&self) -> bool {
        self.is(Phase::Idle) && !self.has_served.load(Ordering::Relaxed)
    }

    /// Whether it has had an answer and been idle for so long.
    pub(super) fn may_rest(&self, now: Instant, after: Duration) -> bool {
        let since = self.start + Duration::from_millis(self.since.load(Ordering::Relaxed));
        let has_served = self.has_served.load(Ordering::Relaxed);
        self.is(Phase::Idle) && has_served && !self.is_blocked() && now >= since + after
    }

    /// Counts that it took too long over what it is doing.
    pub(super) fn count_timeout(&self, gauges: &Gauges) {
        let why = match () {
            () if self.is_blocked() => &gauges.write_timeouts,
            () if self.is_in_stream_head() || self.is(Phase::Head) => &gauges.header_timeouts,
            () => &gauges.idle_timeouts,
        };
        why.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn has_switched(&self) -> bool {
        self.has_switched.load(Ordering::Relaxed)
    }

    /// Until when what it is doing may take.
    pub(super) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let after = |since: &AtomicU64, limit| {
            Some(self.start + Duration::from_millis(since.load(Ordering::Relaxed)) + limit)
        };
        if self.is_blocked() {
            after(&self.blocked_since, timeouts.write)
        } else if self.is_in_stream_head() {
            after(&self.stream_head_since, timeouts.header)
        } else if self.is(Phase::Idle) {
            after(&self.since, timeouts.idle)
        } else if self.is(Phase::Head) {
            after(&self.since, timeouts.header)
        } else {
            None
        }
    }
}

/// Marks a connection as serving a request until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Busy {
    pub(super) fn new(activity: &Arc<Activity>) -> Self {
        activity.busy.fetch_add(1, Ordering::Relaxed);
        activity.enter(Phase::Busy);
        activity.has_served.store(true, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }

    /// Notes that what comes next is another protocol.
    pub(crate) fn switch(&self) {
        self.0.has_switched.store(true, Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // What belongs to one request may outlive the beginning of the next.
        if self.0.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.enter(Phase::Idle);
        }
    }
}
