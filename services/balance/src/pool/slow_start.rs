//! Slow start: a backend that just came up gets little at first, and its share after a while.
//!
//! A fresh process has cold caches, no connections to its database and code that is not compiled
//! yet; a full share at once can bring down what just came up. Its weight climbs in steps instead,
//! one tenth of the time each: every step is a published snapshot in which turns are exact, so that
//! round robin needs no exception. When the whole pool is new nobody starts slowly: somebody has to
//! do the work, and holding back all of them alike would change nothing but the turns. So it is when
//! one comes up while all others still climb: then nobody climbs, or the coldest would get the most.

use std::time::Duration;

use super::Pool;
use crate::{entry::Entry, health::Health, rung::Rung, tier::Serving, time::Time};

/// Steps from a tenth of the weight to all of it.
pub(crate) const STEPS: u32 = 10;

/// Weights are multiplied by [`STEPS`] while somebody climbs. Where that would make more turns than
/// this (4 MB), the pool is so large that one newcomer's share is small anyway, and starts at once.
const TURNS_MOST: u64 = 1 << 20;

impl Pool {
    /// Lets backends that come up climb to their weight for so long; zero is at once.
    #[must_use]
    pub fn with_slow_start(mut self, time: Duration) -> Self {
        self.slow_start = time;
        self
    }

    /// Notes who came up and who went, and how far those that climb have come.
    pub(super) fn note_climbs(&mut self, now: Time) {
        let time = self.slow_start;
        let is_settled = |entry: &Entry| {
            let is_old = entry.up_since.is_some_and(|since| now.since(since) >= time);
            is_old && entry.rung() == Some(Rung::Up)
        };
        let is_pool_new = !self.backends.values().any(is_settled);
        let step = self.slow_start_step().as_nanos();
        let are_all_whole = time.is_zero() || is_pool_new;
        let begin = if are_all_whole { STEPS } else { 1 };
        for entry in self.backends.values_mut() {
            match (entry.observed(), entry.up_since) {
                (Health::Checking | Health::Down | Health::Ejected, _) => entry.up_since = None,
                (Health::Up | Health::Degraded, None) => {
                    (entry.up_since, entry.climbed) = (Some(now), begin);
                }
                (Health::Up | Health::Degraded, Some(_)) if are_all_whole => entry.climbed = STEPS,
                (Health::Up | Health::Degraded, Some(since)) if entry.climbed < STEPS => {
                    let steps = now.since(since).as_nanos() / step;
                    entry.climbed = u32::try_from(steps + 1).unwrap_or(STEPS).min(STEPS);
                }
                (Health::Up | Health::Degraded, Some(_)) => {}
            }
        }
    }

    /// The weights to publish: whole ones, or tenths while somebody climbs.
    pub(super) fn published_weights(eligible: &[&Entry]) -> Vec<u32> {
        let weights = eligible.iter().map(|entry| entry.weight());
        let turns = weights.clone().map(u64::from).sum::<u64>() * u64::from(STEPS);
        if turns > TURNS_MOST || eligible.iter().all(|entry| entry.climbed == STEPS) {
            return weights.collect();
        }
        eligible.iter().map(|entry| entry.weight() * entry.climbed).collect()
    }

    /// Sets the limits of requests in flight, which climb as the weights do: least_request would
    /// give a newcomer all that it can hold. Not where nobody is there to take the rest.
    pub(super) fn set_limits(&self, serving: Serving) {
        let is_settled = |entry: &Entry| {
            entry.climbed == STEPS && entry.rung() == Some(Rung::Up) && entry.is_member(serving)
        };
        let others_serve = self.backends.values().any(is_settled);
        for entry in self.backends.values() {
            let limit = entry.intent.limit(self.max_in_flight);
            let climbed = if others_serve { entry.climbed } else { STEPS };
            let tenths =
                |limit: u32| (u64::from(limit) * u64::from(climbed)).div_ceil(STEPS.into());
            entry.member.set_limit(limit.map(|limit| tenths(limit) as u32));
        }
    }

    /// When the next step is due.
    pub(super) fn climb_deadline(&self) -> Option<Time> {
        let climbing = self.backends.values().filter(|entry| entry.climbed < STEPS);
        let step = self.slow_start_step();
        climbing.filter_map(|entry| Some(entry.up_since? + step * entry.climbed)).min()
    }

    fn slow_start_step(&self) -> Duration {
        (self.slow_start / STEPS).max(Duration::from_nanos(1))
    }
}
