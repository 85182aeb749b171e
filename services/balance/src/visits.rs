//! How many requests a backend got from visitors of late.
//!
//! It tells when a drain has come to its end as far as one can know: visitors say when they come and
//! never that they will not come again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::time::Time;

/// Seconds of one part of the minute: it moves on in these steps.
const PART: u64 = 10;

/// The part that is under way, and a whole minute before it.
const PARTS: usize = 7;

/// Visits of the last minute, and when the last of all was.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    /// By the part they came in: which one in the upper half, how many in the lower one.
    parts: [AtomicU64; PARTS],
    /// In milliseconds; 0 if there was none.
    last: AtomicU64,
}

impl Visits {
    pub(crate) fn note(&self, now: Time) {
        let part = part(now);
        let one_more = |before: u64| match before >> 32 {
            // One worker's clock may be a little behind another's.
            known if known >= part => Some(before + 1),
            _ => Some((part << 32) + 1),
        };
        let place = &self.parts[(part % PARTS as u64) as usize];
        // It always gives a value.
        let _ = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        let millis = u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(millis.max(1), Ordering::Relaxed);
    }

    /// When the last one was, to the millisecond.
    pub(crate) fn last(&self) -> Option<Time> {
        let millis = Some(self.last.load(Ordering::Relaxed)).filter(|millis| *millis > 0)?;
        Some(Time::after_start(Duration::from_millis(millis)))
    }

    pub(crate) fn of_late(&self, now: Time) -> u32 {
        let part = part(now);
        let counts = self.parts.iter().map(|place| place.load(Ordering::Relaxed));
        let is_late = |count: &u64| (count >> 32) + PARTS as u64 > part;
        counts.filter(is_late).map(|count| count as u32).sum()
    }
}

fn part(now: Time) -> u64 {
    now.since_start().as_secs() / PART
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::after_start(Duration::from_secs(seconds))
    }

    #[test]
    fn visits_count_for_a_minute_and_no_longer() {
        let visits = Visits::default();
        (0..3).for_each(|_| visits.note(at(100_005)));
        visits.note(at(100_030));
        assert_eq!(visits.of_late(at(100_030)), 4);
        assert_eq!(visits.of_late(at(100_065)), 4);
        assert_eq!(visits.of_late(at(100_070)), 1);
        assert_eq!(visits.of_late(at(100_100)), 0);
        visits.note(at(100_070));
        assert_eq!(visits.of_late(at(100_070)), 2, "the place of the first ones is used again");
    }

    #[test]
    fn the_last_visit_is_the_latest_by_whichever_clock() {
        let visits = Visits::default();
        assert_eq!(visits.last(), None);
        visits.note(at(7));
        visits.note(at(5));
        assert_eq!(visits.last(), Some(at(7)));
    }
}
