//! The clock of the shell: tells the core what time it is, and people when something was.

use std::time::SystemTime;

use balance::Time;
use tokio::time::Instant;

/// A running clock. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// The wall clock at the start. Times are told relative to it, so that a wall clock that is
    /// set while we run cannot reorder events.
    wall: SystemTime,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), wall: SystemTime::now() }
    }

    pub(crate) fn now(&self) -> Time {
        Time::after_start(self.start.elapsed())
    }

    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.start + time.since_start()
    }

    /// A moment as RFC 3339 text with milliseconds.
    pub(crate) fn text(&self, time: Time) -> String {
        humantime::format_rfc3339_millis(self.wall + time.since_start()).to_string()
    }
}
