//! What happened in the last seconds, from samples of counters that only grow.
//!
//! A handful of samples instead of a record of each attempt: the memory is constant, an attempt
//! costs nothing, and the window's edge is off by at most one sample.

use std::{collections::VecDeque, time::Duration};

use crate::{outcome::Counts, time::Time};

/// Parts of a window: its edge is off by at most a tenth.
pub(crate) const PARTS: u32 = 10;

#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// The oldest is the base that the others are compared with.
    samples: VecDeque<(Time, Counts)>,
}

impl Window {
    pub(crate) fn new(counts: Counts, now: Time) -> Self {
        Self { samples: [(now, counts)].into() }
    }

    /// Adds a sample; those older than `length` go, but for the last of them, which is the base.
    pub(crate) fn add(&mut self, counts: Counts, length: Duration, now: Time) {
        let is_over = |sample: Option<&(Time, Counts)>| {
            sample.is_some_and(|(time, _)| now.since(*time) >= length)
        };
        while is_over(self.samples.get(1)) {
            self.samples.pop_front();
        }
        // Looks that come faster than the parts, as when failures are told, add no sample.
        match self.samples.len() {
            1 => self.samples.push_back((now, counts)),
            last => {
                let (begun, _) = self.samples[last - 2];
                if now.since(begun) < length / PARTS {
                    self.samples[last - 1].1 = counts;
                } else {
                    self.samples.push_back((now, counts));
                }
            }
        }
    }

    /// What happened within it.
    pub(crate) fn total(&self) -> Counts {
        match (self.samples.front(), self.samples.back()) {
            (Some((_, first)), Some((_, last))) => last.since(*first),
            _ => Counts::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Time {
        Time::after_start(Duration::from_secs(seconds))
    }

    fn counts(attempts: u32) -> Counts {
        Counts { attempts, failures: 0 }
    }

    #[test]
    fn only_the_last_seconds_count() {
        let mut window = Window::new(counts(0), at(0));
        for second in 1..=60 {
            window.add(counts(100 * second as u32), LENGTH, at(second));
        }
        assert_eq!(window.total().attempts, 1_000);
        assert!(window.samples.len() <= PARTS as usize + 2);
    }

    #[test]
    fn samples_in_between_are_seen_and_take_no_room() {
        let mut window = Window::new(counts(0), at(0));
        for attempt in 1..=1_000 {
            window.add(counts(attempt), LENGTH, at(0));
        }
        assert_eq!((window.total().attempts, window.samples.len()), (1_000, 2));
    }

    #[test]
    fn after_a_long_silence_nothing_of_before_counts() {
        let mut window = Window::new(counts(0), at(0));
        window.add(counts(50), LENGTH, at(1));
        window.add(counts(53), LENGTH, at(100));
        assert_eq!(window.total().attempts, 3);
    }
}
