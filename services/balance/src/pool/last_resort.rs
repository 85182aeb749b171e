//! What is done while nobody can serve: who comes back is found soon, and requests wait for it.
//!
//! When all backends of a pool are gone at once, they are most often being restarted and back within
//! seconds. A request that waits for so long is served; one that is refused is an error that somebody
//! sees. So the pool stands on a rung of its own for a short while since the last one was up: its
//! requests wait in line. Afterwards it is dead until shown otherwise, and requests are refused at
//! once rather than after a wait that was in vain. One time bounds both, as in linkerd's fail-fast:
//! no request waits for longer than the rung is held.
//!
//! Nobody is waited for who cannot come: neither in a pool that has never had anybody up, nor where
//! operators took everybody out. Whoever comes in place of one that was up is waited for like it.
//!
//! Rejected: holding the rung for longer than a request may wait, which is a second number to say
//! nearly the same; and waiting only for the names that were up, which would refuse requests just
//! when a single instance is made anew under another name.

use std::time::Duration;

use super::Pool;
use crate::{
    backend::BackendId, entry::Entry, health::ProbePlan, rung::Rung, tier::Serving, time::Time,
};

impl Pool {
    /// Has requests wait when nobody can serve, for up to this long since the last one was up. Zero,
    /// as without, is to refuse them at once.
    #[must_use]
    pub fn with_last_resort(mut self, wait: Duration) -> Self {
        self.last_resort = wait;
        self
    }

    /// Who serves, or whether requests wait for somebody.
    pub(super) fn serving(&self, now: Time) -> Serving {
        let serving = Serving::of(self.everybody().map(Entry::stand), self.tier_least);
        let waits = || self.awaited_until().is_some_and(|until| until > now);
        match serving.rung {
            Rung::Nobody if waits() => Serving { rung: Rung::Queue, ..serving },
            _ => serving,
        }
    }

    /// Until when somebody is waited for who is in service and was up, or who came in place of one
    /// that was.
    fn awaited_until(&self) -> Option<Time> {
        let in_service = self.backends.values().filter(|entry| entry.is_in_service());
        let was_up = in_service.map(|entry| entry.health.was_up.max(self.left_up)).max().flatten();
        was_up.map(|last| last + self.last_resort)
    }

    /// When the rung ends on which requests wait.
    pub(super) fn last_resort_deadline(&self) -> Option<Time> {
        let is_queue = self.published.current().serving.rung == Rung::Queue;
        self.awaited_until().filter(|_| is_queue)
    }

    /// The plan for the probes of a backend. While nobody can serve, one that is in service is looked
    /// for as often as while a verdict is open, and back with its first pass if it was up before:
    /// further ones protect requests from a backend that flaps, and now only from being served.
    pub(super) fn plan_of(&self, id: &BackendId) -> ProbePlan {
        let mut plan = self.plan.clone();
        let entry = self.backends.get(id).filter(|entry| entry.is_in_service());
        if let Some(entry) = entry.filter(|_| !self.can_serve()) {
            plan.interval = plan.transition_interval;
            plan.rise = if entry.health.was_up.is_some() { 1 } else { plan.rise };
        }
        plan
    }

    /// Has those looked for soon who could serve if they were up.
    pub(super) fn hurry_probes(&mut self, now: Time) {
        if self.can_serve() {
            return;
        }
        let Self { backends, plan, .. } = self;
        let in_service = backends.values_mut().filter(|entry| entry.is_in_service());
        in_service.for_each(|entry| entry.health.hurry(plan, now));
    }
}
