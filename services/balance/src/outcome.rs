//! How attempts end, counted where they end.
//!
//! Workers count on the backend itself, and the control thread takes a sample of the counters now
//! and then: nothing is sent from thread to thread for an attempt that went well. Such an attempt
//! costs one load of a line that its ticket has in the cache anyway; how many have ended follows
//! from the counter that tickets need in any case (see [`crate::Member`]). Only a failure that
//! completes a streak has to be told, so that the pool need not wait for its next sample.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What the end of an attempt says of its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did its work.
    Success,
    /// It could not be reached, broke off, took too long, or said that it cannot serve.
    Failure,
    /// Nothing: the client left, or was at fault.
    Unknown,
}

/// One backend's counters.
#[derive(Debug)]
pub(crate) struct Outcomes {
    failures: AtomicU32,
    unknown: AtomicU32,
    /// Failures since the last success.
    streak: AtomicU32,
    /// The streak that has to be told; 0 is never.
    streak_limit: AtomicU32,
    /// Whether a streak reached the limit since the last look. A success that another worker sees
    /// a moment later does not undo it.
    tripped: AtomicBool,
    /// Goes up with every ejection. An attempt that began before one says nothing about the time
    /// after it: requests that hang may end long after their backend is back.
    term: AtomicU32,
}

/// Counters at one moment, or the difference of two moments. They wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Attempts that ended and say something.
    pub(crate) attempts: u32,
    /// Those that failed.
    pub(crate) failures: u32,
}

impl Counts {
    pub(crate) fn since(self, earlier: Self) -> Self {
        let failures = self.failures.wrapping_sub(earlier.failures);
        // Read one after the other, so that a failure may be counted and its attempt not yet.
        let attempts = self.attempts.wrapping_sub(earlier.attempts).cast_signed().max(0);
        Self { attempts: attempts.cast_unsigned().max(failures), failures }
    }

    /// Of this and of other attempts.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            attempts: self.attempts.saturating_add(other.attempts),
            failures: self.failures.saturating_add(other.failures),
        }
    }

    /// Of these attempts but for some of them.
    pub(crate) fn without(self, some: Self) -> Self {
        Self {
            attempts: self.attempts.saturating_sub(some.attempts),
            failures: self.failures.saturating_sub(some.failures),
        }
    }

    pub(crate) fn successes(self) -> u32 {
        self.attempts - self.failures
    }

    /// The failing share, from 0 to 1.
    pub(crate) fn ratio(self) -> f64 {
        f64::from(self.failures) / f64::from(self.attempts.max(1))
    }
}

impl Outcomes {
    pub(crate) fn new(streak_limit: u32) -> Self {
        Self {
            failures: AtomicU32::new(0),
            unknown: AtomicU32::new(0),
            streak: AtomicU32::new(0),
            streak_limit: AtomicU32::new(streak_limit),
            tripped: AtomicBool::new(false),
            term: AtomicU32::new(0),
        }
    }

    pub(crate) fn term(&self) -> u32 {
        self.term.load(Ordering::Relaxed)
    }

    /// Counts the end of an attempt of `term`. True if the pool should be told now.
    pub(crate) fn note(&self, outcome: Outcome, term: u32) -> bool {
        match outcome {
            Outcome::Success => {
                // A load, because a store would take the line away from the other workers.
                if self.streak.load(Ordering::Relaxed) != 0 {
                    self.streak.store(0, Ordering::Relaxed);
                }
                false
            }
            Outcome::Failure if term == self.term() => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let streak = self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                let trips = streak == self.streak_limit.load(Ordering::Relaxed);
                if trips {
                    self.tripped.store(true, Ordering::Relaxed);
                }
                trips
            }
            Outcome::Failure | Outcome::Unknown => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// The counters, of which `ended` is kept elsewhere.
    pub(crate) fn counts(&self, ended: u32) -> Counts {
        let attempts = ended.wrapping_sub(self.unknown.load(Ordering::Relaxed));
        Counts { attempts, failures: self.failures.load(Ordering::Relaxed) }
    }

    /// Failures since the last success.
    pub(crate) fn streak(&self) -> u32 {
        self.streak.load(Ordering::Relaxed)
    }

    /// Whether there are or were as many failures in a row as the limit says. Asking forgets those
    /// that were.
    pub(crate) fn take_streak(&self) -> bool {
        let limit = self.streak_limit.load(Ordering::Relaxed);
        let tripped = self.tripped.swap(false, Ordering::Relaxed);
        limit > 0 && (tripped || self.streak.load(Ordering::Relaxed) >= limit)
    }

    pub(crate) fn set_streak_limit(&self, limit: u32) {
        self.streak_limit.store(limit, Ordering::Relaxed);
        self.streak.store(0, Ordering::Relaxed);
        self.tripped.store(false, Ordering::Relaxed);
    }

    /// Attempts that began before now say nothing from now on.
    pub(crate) fn begin_term(&self) {
        self.term.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(outcomes: &Outcomes, count: usize) -> usize {
        (0..count).filter(|_| outcomes.note(Outcome::Failure, outcomes.term())).count()
    }

    #[test]
    fn a_streak_is_told_once_and_a_success_ends_it() {
        let outcomes = Outcomes::new(3);
        assert_eq!(fail(&outcomes, 2), 0);
        outcomes.note(Outcome::Success, 0);
        assert_eq!(fail(&outcomes, 2), 0);
        assert!(!outcomes.take_streak());
        assert_eq!(fail(&outcomes, 8), 1, "told once, however long it is");
        outcomes.note(Outcome::Success, 0);
        assert!(outcomes.take_streak(), "it was one");
        assert!(!outcomes.take_streak());
    }

    #[test]
    fn what_began_before_an_ejection_is_not_held_against_the_time_after_it() {
        let outcomes = Outcomes::new(1);
        let before = outcomes.term();
        outcomes.begin_term();
        assert!(!outcomes.note(Outcome::Failure, before));
        assert_eq!(outcomes.counts(1), Counts { attempts: 0, failures: 0 });
    }

    #[test]
    fn a_client_that_leaves_counts_neither_way() {
        let outcomes = Outcomes::new(5);
        fail(&outcomes, 1);
        outcomes.note(Outcome::Unknown, 0);
        let counts = outcomes.counts(4).since(Counts::default());
        assert_eq!((counts.attempts, counts.failures, counts.successes()), (3, 1, 2));
        assert_eq!(fail(&outcomes, 4), 1, "nor does it end a streak");
    }

    #[test]
    fn counters_may_wrap_and_may_be_read_between_two_of_them() {
        let earlier = Counts { attempts: u32::MAX, failures: u32::MAX };
        let later = Counts { attempts: 9, failures: 1 };
        assert_eq!(later.since(earlier), Counts { attempts: 10, failures: 2 });
        let torn = Counts { attempts: u32::MAX - 1, failures: 0 };
        assert_eq!(torn.since(earlier), Counts { attempts: 1, failures: 1 });
    }
}
