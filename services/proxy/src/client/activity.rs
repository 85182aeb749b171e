//! What a client's connection is doing, and since when: the ground for its limits of time.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::{settings::Timeouts, stats::Gauges};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for the first byte of a request.
    Idle,
    /// Receiving a request's head.
    Head,
    /// Serving a request.
    Busy,
}

/// What a connection is doing, and since when.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    phase: Cell<Phase>,
    /// Milliseconds after `start`. Of a connection that serves a request it says nothing.
    since: Cell<u64>,
    has_served: Cell<bool>,
    /// Requests of HTTP/2 that are being served, or are not let go of yet.
    busy: Cell<u32>,
    /// Milliseconds after `start` since which the client takes nothing of what we have for it;
    /// [`NOT_BLOCKED`] if it does. As much is written as can be, so that as long as something is
    /// left to write this is set.
    blocked_since: Cell<u64>,
    /// HTTP/2 may send a head while it is being served: milliseconds after `start` since which one
    /// has begun and not ended, or [`NO_HEAD`].
    stream_head_since: Cell<u64>,
}

const NOT_BLOCKED: u64 = u64::MAX;

/// No head has begun.
const NO_HEAD: u64 = u64::MAX;

impl Activity {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            start: Instant::now(),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(0),
            has_served: Cell::new(false),
            busy: Cell::new(0),
            blocked_since: Cell::new(NOT_BLOCKED),
            stream_head_since: Cell::new(NO_HEAD),
        })
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.since.set(self.now());
        self.phase.set(phase);
    }

    /// Notes that a request is being served.
    pub(super) fn serve(&self) {
        self.phase.set(Phase::Busy);
        self.has_served.set(true);
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
            self.stream_head_since.set(since);
        }
    }

    fn is_in_stream_head(&self) -> bool {
        self.stream_head_since.get() != NO_HEAD
    }

    /// Milliseconds since the connection began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NOT_BLOCKED - 1)
    }

    /// Notes how a write went.
    pub(super) fn wrote(&self, is_blocked: bool) {
        let was_blocked = self.is_blocked();
        if is_blocked && !was_blocked {
            self.blocked_since.set(self.now());
        } else if !is_blocked && was_blocked {
            self.blocked_since.set(NOT_BLOCKED);
            if self.is(Phase::Idle) {
                // Only now has the client all that was meant for it.
                self.enter(Phase::Idle);
            }
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.get() != NOT_BLOCKED
    }

    /// Since when the client takes nothing, if it does not.
    pub(super) fn blocked_at(&self) -> Instant {
        self.start + Duration::from_millis(self.blocked_since.get())
    }

    pub(super) fn is(&self, phase: Phase) -> bool {
        self.phase.get() == phase
    }

    /// Whether nothing has arrived yet at all.
    pub(super) fn awaits_first_request(&self) -> bool {
        self.is(Phase::Idle) && !self.has_served.get()
    }

    /// Whether it has had an answer and been idle for so long.
    pub(super) fn may_rest(&self, now: Instant, after: Duration) -> bool {
        let since = self.start + Duration::from_millis(self.since.get());
        let has_served = self.has_served.get();
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

    /// Until when what it is doing may take.
    pub(super) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let after = |since: &Cell<u64>, limit| {
            Some(self.start + Duration::from_millis(since.get()) + limit)
        };
        if self.is_blocked() {
            Some(self.blocked_at() + timeouts.write)
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

/// Marks a connection of HTTP/2 as serving a request until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    activity: Rc<Activity>,
    gauges: Arc<Gauges>,
}

impl Busy {
    pub(super) fn new(activity: &Rc<Activity>, gauges: &Arc<Gauges>) -> Self {
        if activity.busy.get() == 0 {
            gauges.client_shared.fetch_add(1, Ordering::Relaxed);
        }
        activity.busy.set(activity.busy.get() + 1);
        activity.serve();
        Self { activity: Rc::clone(activity), gauges: Arc::clone(gauges) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self { activity, gauges } = self;
        activity.busy.set(activity.busy.get() - 1);
        // What belongs to one request may outlive the beginning of the next.
        if activity.busy.get() == 0 {
            gauges.client_shared.fetch_sub(1, Ordering::Relaxed);
            activity.enter(Phase::Idle);
        }
    }
}
