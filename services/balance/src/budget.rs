//! How many retries the whole pool may spend.
//!
//! Retries help while few requests fail and harm when many do: with every request retried once, a
//! pool in trouble gets double the load. So retries may be at most a share of the requests of the
//! last seconds; a quiet pool, whose share would be next to nothing, has a small number instead. A
//! retry is counted when it is decided, not when it is sent, so that those waiting cannot add up
//! unseen (envoy#30205); one for which there is nobody in the end is given back.
//!
//! Requests are not counted here: the shared pick counter already does that, so a request that
//! needs no retry pays nothing. Only a retry takes the lock, and a note of the counter now and then.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::time::Time;

/// How far back requests count. Long enough to hold some in a quiet pool, short enough that the
/// requests of a busy minute do not pay for the retries of a bad one.
const WINDOW: Duration = Duration::from_secs(10);

/// Retries allowed per window where the share would be fewer: two a second. Not on top of the share,
/// so that with all requests failing the load grows by no more than the share.
const RESERVE: f64 = 20.0;

/// A budget of retries.
#[derive(Debug)]
pub struct RetryBudget {
    share: f64,
    // A std mutex: two additions under it, no wait, and only on the way to a retry.
    windows: Mutex<[Window; 2]>,
}

/// Half of [`WINDOW`]; the two halves together approximate a sliding window.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Time,
    requests_before: u64,
    retries: u64,
}

impl RetryBudget {
    /// A budget of `share` (0 to 1) of the requests.
    #[must_use]
    pub fn new(share: f64) -> Self {
        let window = Window { start: Time::START, requests_before: 0, retries: 0 };
        Self { share, windows: Mutex::new([window; 2]) }
    }

    /// Notes how many requests there have been so far. To be called every few seconds at least: who
    /// takes a retry after a silence would otherwise know of no requests before.
    pub fn note(&self, requests: u64, now: Time) {
        slide(&mut self.windows.lock().unwrap_or_else(PoisonError::into_inner), requests, now);
    }

    /// Takes one retry from the budget, if there is one. `requests` counts all requests so far.
    pub fn take(&self, requests: u64, now: Time) -> bool {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        slide(&mut windows, requests, now);
        let recent = requests.saturating_sub(windows[0].requests_before);
        let spent = windows[0].retries + windows[1].retries;
        // A share of nothing means that nobody wants retries; the reserve is for small shares.
        let reserve = if self.share > 0.0 { RESERVE } else { 0.0 };
        let allowed = (spent as f64) < reserve.max(self.share * recent as f64);
        if allowed {
            windows[1].retries += 1;
        }
        allowed
    }

    /// Gives one back that was taken for a retry which was not made after all.
    pub fn give_back(&self) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        // The half in which it was taken may be the older one by now, or gone.
        let [older, latest] = &mut *windows;
        let half = if latest.retries > 0 { latest } else { older };
        half.retries = half.retries.saturating_sub(1);
    }
}

/// Begins a new half when it is time to.
fn slide(windows: &mut [Window; 2], requests: u64, now: Time) {
    let age = now.since(windows[1].start);
    if age >= WINDOW / 2 {
        let fresh = Window { start: now, requests_before: requests, retries: 0 };
        // After a long silence the older half is no longer of the last seconds.
        let older = if age >= WINDOW { fresh } else { windows[1] };
        *windows = [older, fresh];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_every_request_fails_retries_stay_within_their_share() {
        let budget = RetryBudget::new(0.2);
        let mut granted = 0;
        let requests = 60_000;
        for request in 0..requests {
            let now = Time::after_start(Duration::from_millis(request));
            granted += u64::from(budget.take(request, now));
        }
        let share = granted as f64 / requests as f64;
        assert!((0.19..=0.2).contains(&share), "{share} of {requests}");
    }

    #[test]
    fn the_first_retries_in_a_long_time_have_a_share_of_the_requests_before() {
        let (budget, second) = (RetryBudget::new(0.2), Duration::from_secs(1));
        // A thousand a second, and nobody needs a retry.
        for passed in 0..=600 {
            budget.note(u64::from(passed) * 1_000, Time::after_start(second * passed));
        }
        let now = Time::after_start(second * 600);
        let granted = (0..5_000).filter(|_| budget.take(600_000, now)).count();
        assert!((1_000..=2_000).contains(&granted), "{granted}");
    }

    #[test]
    fn a_quiet_pool_may_retry() {
        let budget = RetryBudget::new(0.2);
        assert!(budget.take(1, Time::after_start(Duration::from_secs(3_600))));
    }

    #[test]
    fn a_share_of_nothing_allows_no_retry() {
        assert!(!RetryBudget::new(0.0).take(1_000, Time::after_start(Duration::from_secs(60))));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_nothing_else() {
        let budget = RetryBudget::new(0.01);
        let now = Time::after_start(Duration::from_secs(60));
        assert_eq!((0..200).filter(|_| budget.take(0, now)).count(), RESERVE as usize);
        budget.give_back();
        assert!(budget.take(0, now) && !budget.take(0, now));
        // Half a window later it is the older half's.
        budget.note(0, now + WINDOW / 2);
        budget.give_back();
        assert!(budget.take(0, now + WINDOW / 2) && !budget.take(0, now + WINDOW / 2));
        // What was taken long ago is nobody's any more.
        budget.note(0, now + 3 * WINDOW);
        budget.give_back();
        assert_eq!((0..200).filter(|_| budget.take(0, now + 3 * WINDOW)).count(), 20);
    }

    #[test]
    fn an_empty_budget_fills_again_with_time() {
        let budget = RetryBudget::new(0.01);
        let now = Time::after_start(Duration::from_secs(60));
        assert_eq!((0..200).filter(|_| budget.take(0, now)).count(), RESERVE as usize);
        assert!(!budget.take(0, now));
        assert!(budget.take(0, now + WINDOW));
    }
}
