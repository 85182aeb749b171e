//! The clock of the shell: tells the core what time it is, and people when something was.

use std::time::{Duration, SystemTime};

use balance::{SaidAt, Time};
use chassis::wall;
use tokio::time::Instant;

/// A running clock. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// The wall clock at the start. Times are told relative to it, so that a wall clock that is
    /// set while we run cannot reorder events.
    wall: SystemTime,
}

/// The origin of the core's time lies this long before the start of the process, so that moments
/// of an earlier run can be told: an operator's change of last month has its date still.
const BEFORE_START: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), wall: SystemTime::now() }
    }

    pub(crate) fn now(&self) -> Time {
        Time::after_start(BEFORE_START + self.start.elapsed())
    }

    /// The start of the process.
    pub(crate) fn started(&self) -> Time {
        Time::after_start(BEFORE_START)
    }

    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.start + time.since(self.started())
    }

    /// A moment as RFC 3339 text with milliseconds.
    pub(crate) fn text(&self, time: Time) -> String {
        humantime::format_rfc3339_millis(self.wall - BEFORE_START + time.since_start()).to_string()
    }

    /// The wall clock's time since 1970, as it goes on from the start of the process.
    pub(crate) fn unix(&self) -> Duration {
        let start = self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        start + self.start.elapsed()
    }

    /// What is said at this moment, to the millisecond that its text has.
    pub(crate) fn said_now(&self) -> SaidAt {
        // Ours stands while a machine sleeps, and is off for good where the wall clock was set right
        // after the start: others would be far ahead of it.
        SaidAt(wall::millis(self.unix().max(wall::now())))
    }

    /// The moment that a text of [`Self::text`] means; one before all times is the origin.
    pub(crate) fn parse(&self, text: &str) -> Option<Time> {
        let moment = humantime::parse_rfc3339(text).ok()?;
        let origin = self.wall - BEFORE_START;
        Some(Time::after_start(moment.duration_since(origin).unwrap_or_default()))
    }
}

/// When something was said, as RFC 3339 text with milliseconds.
pub(crate) fn said_text(said_at: SaidAt) -> String {
    wall::text(said_at.0)
}

/// What a text of [`said_text`] means; none of what is no time since 1970.
pub(crate) fn said_at(text: &str) -> Option<SaidAt> {
    wall::parse(text).map(SaidAt)
}
