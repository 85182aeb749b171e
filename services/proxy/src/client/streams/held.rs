//! What of the responses on one connection of HTTP/2 waits for its client, and how fast that takes it.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{pace::Pace, stats::Gauges};

/// What of the responses on one connection waits for its client.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Cell<usize>,
    /// Streams of which the library has parts that have not gone out.
    pub(super) giving: Cell<u32>,
    /// Whether any of it has moved since that was last looked at, or has come when there was none.
    pub(super) has_moved: Cell<bool>,
    /// Since when none has, as far as the looks tell.
    still_since: Cell<Instant>,
    /// What the client has room for of a response before it makes more.
    pub(super) window: Rc<Cell<u32>>,
    pub(super) all: All,
    pub(super) together: Together,
    pub(super) gauges: Arc<Gauges>,
}

/// How fast the client takes all of it, while something waits for nothing but the connection.
#[derive(Debug)]
pub(super) struct All {
    /// Streams that wait so.
    pub(super) waiting: Cell<u32>,
    /// Bytes that have gone out since that was last looked at.
    pub(super) gone: Cell<usize>,
    /// Whether there was a moment since then in which none waited so.
    pub(super) has_paused: Cell<bool>,
    looked: Cell<Instant>,
    pace: Cell<Pace>,
}

/// How fast the client takes those together that may wait for room of their own. Each alone has only its part
/// of the time, and so it takes as many times as long to see that they are too slow as there are of them.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// The longest that one of them waited before it went on, of those that have since the last look.
    waited: Cell<Duration>,
    /// Bytes of them that have gone out since then.
    gone: Cell<usize>,
    /// When it was looked at last and any had.
    looked: Cell<Option<Instant>>,
    pace: Cell<Pace>,
}

impl Together {
    /// Takes note of one that has waited for so long, and of which so much has gone out then.
    pub(super) fn note(&self, waited: Duration, bytes: usize) {
        self.waited.set(self.waited.get().max(waited));
        self.gone.set(self.gone.get() + bytes);
    }

    /// Whether the client has taken less than it has to of all of them. Of one that takes nothing another
    /// limit says.
    pub(super) fn is_slow(&self, rate_min: u32) -> bool {
        let (now, waited, gone) = (Instant::now(), self.waited.take(), self.gone.take());
        if gone == 0 {
            return false;
        }
        let since = self.looked.replace(Some(now));
        let mut pace = self.pace.take();
        // They may have waited side by side, or in turn.
        pace.waited(since.map_or(waited, |since| waited.min(now - since)));
        let is_kept = pace.is_kept(gone, now, rate_min);
        self.pace.set(pace);
        !is_kept
    }
}

impl Held {
    pub(super) fn new(gauges: &Arc<Gauges>, window: &Rc<Cell<u32>>) -> Self {
        let now = Instant::now();
        let all = All {
            waiting: Cell::default(),
            gone: Cell::default(),
            has_paused: Cell::new(true),
            looked: Cell::new(now),
            pace: Cell::default(),
        };
        Self {
            bytes: Cell::default(),
            giving: Cell::default(),
            has_moved: Cell::default(),
            still_since: Cell::new(now),
            window: Rc::clone(window),
            all,
            together: Together::default(),
            gauges: Arc::clone(gauges),
        }
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.gauges.buffered.add(bytes, &self.gauges.limits);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        self.gauges.buffered.subtract(bytes);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.get() >= self.gauges.buffered.share()
    }

    /// For how long nothing of it has moved, as far as the looks tell.
    pub(super) fn still_for(&self) -> Duration {
        let now = Instant::now();
        if self.has_moved.take() {
            self.still_since.set(now);
        }
        now - self.still_since.get()
    }

    /// Whether the client has taken less than it has to of all that waited for it. Time counts from one
    /// look to the next, if something waited for the connection in all of it.
    pub(super) fn is_slow(&self, rate_min: u32) -> bool {
        let All { waiting, gone, has_paused, looked, pace } = &self.all;
        let (now, gone) = (Instant::now(), gone.take());
        let since = looked.replace(now);
        let mut current = pace.take();
        if has_paused.replace(waiting.get() == 0) {
            return false;
        }
        current.waited(now - since);
        // Of a client that takes nothing at all another limit says.
        let is_kept = gone == 0 || current.is_kept(gone, now, rate_min);
        pace.set(current);
        !is_kept
    }
}
