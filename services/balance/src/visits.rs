//! How many requests a backend got from visitors of late.
//!
//! It tells an operator when a drain has come to its end as far as one can know: visitors say when
//! they come and never that they will not come again.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Time;

/// Seconds of one part of the minute: it moves on in these steps.
const PART: u64 = 10;

/// The part that is under way, and a whole minute before it.
const PARTS: usize = 7;

/// Visits of the last minute, by the part they came in: which one in the upper half, how many in the
/// lower one.
#[derive(Debug, Default)]
pub(crate) struct Visits([AtomicU64; PARTS]);

impl Visits {
    pub(crate) fn note(&self, now: Time) {
        let part = part(now);
        let one_more = |before: u64| match before >> 32 {
            // One worker's clock may be a little behind another's.
            known if known >= part => Some(before + 1),
            _ => Some((part << 32) + 1),
        };
        let place = &self.0[(part % PARTS as u64) as usize];
        // It always gives a value.
        let _ = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
    }

    pub(crate) fn of_late(&self, now: Time) -> u32 {
        let part = part(now);
        let counts = self.0.iter().map(|place| place.load(Ordering::Relaxed));
        let is_late = |count: &u64| (count >> 32) + PARTS as u64 > part;
        counts.filter(is_late).map(|count| count as u32).sum()
    }
}

fn part(now: Time) -> u64 {
    now.since_start().as_secs() / PART
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
