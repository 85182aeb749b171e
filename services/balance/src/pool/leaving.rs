//! Backends that left their name and serve until one of those that came instead is up.
//!
//! A name may move to other addresses at once: blue and green behind DNS, or a single container
//! that was made anew. Those that came wait for their first probe, and those that left serve well,
//! more often than not. So while nobody of the pool can serve, these stay on the rung of those that
//! are going away. They get no probes, as their name is somebody else's by now; instead the first
//! failure sends them off, and so does time: an address that is nobody's any more may be given to
//! somebody else. A source that knows instances apart (Kubernetes) says itself who is going away
//! and serves still; of those, whoever is no longer named is gone.
//!
//! Rejected: asking the new ones at once, before anybody knows that they serve; and waiting for
//! them with the old ones in the list of backends, where each rule would have to except them.

use std::time::Duration;

use super::Pool;
use crate::{
    backend::Found,
    entry::Entry,
    events::EventKind,
    health::{Health, ProbePlan},
    tier::Serving,
    time::Time,
    view::{BackendView, Effective},
};

/// One that left, and until when it may serve.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) entry: Entry,
    pub(crate) until: Time,
}

impl Leaving {
    /// As people see it.
    pub(crate) fn view(&self, serving: Serving, max_in_flight: Option<u32>) -> BackendView {
        let mut view = self.entry.view(serving, max_in_flight, None);
        view.effective = Effective::Terminating;
        view.reasons = vec!["left its name; serves until a new one is up".to_owned()];
        view
    }
}

impl Pool {
    /// Whether others come for those that leave, in this look-up or in one before: nobody has judged
    /// them yet, or they are down and may come back, and operators let them serve.
    pub(super) fn others_come(&self, arriving: &[Found]) -> bool {
        let may_come = |entry: &Entry| {
            matches!(entry.health.health, Health::Checking | Health::Down) && entry.is_in_service()
        };
        self.backends.values().any(may_come) || arriving.iter().any(|one| self.may_serve(one))
    }

    /// Whether one that was found can serve once it has passed its probes, as far as it is known and
    /// operators let it.
    pub(super) fn may_serve(&self, found: &Found) -> bool {
        let present = self.backends.get(&found.id).map(|entry| &entry.intent);
        let kept = || self.departed.get(&found.id).map(|(intent, _)| intent);
        let intent = present.or_else(kept);
        let is_wanted =
            intent.map_or(found.weight > 0, |intent| intent.wants_traffic(found.weight));
        is_wanted && found.addresses.is_ok()
    }

    /// Keeps one that left and can serve while nobody of the pool can.
    pub(super) fn keep_leaving(&mut self, mut entry: Entry, now: Time) {
        if entry.rung().is_none() || entry.found.instance.is_some() {
            return;
        }
        entry.found.is_terminating = true;
        // From now on each failure is told.
        entry.member.set_streak_limit(1);
        let until = now + longest_verdict(&self.plan);
        self.leaving.insert(entry.member.generation(), Leaving { entry, until });
    }

    /// Sends off those whose time is over, those whose name operators want out of traffic, and all
    /// of them once somebody of the pool can serve.
    pub(super) fn end_leaving(&mut self, now: Time) {
        let can_serve = self.can_serve();
        let over = |(generation, leaving): (&u64, &Leaving)| {
            let why = match self.backends.get(&leaving.entry.found.id) {
                _ if can_serve => "gone: others serve",
                _ if leaving.until <= now => "gone: its time is over",
                Some(named) if !named.is_wanted() => "gone: its name is out of traffic",
                _ => return None,
            };
            Some((*generation, why))
        };
        let gone: Vec<(u64, &str)> = self.leaving.iter().filter_map(over).collect();
        for (generation, why) in gone {
            self.send_off(generation, why, now);
        }
    }

    /// Whether somebody of the pool can.
    pub(super) fn can_serve(&self) -> bool {
        self.backends.values().any(|entry| entry.rung().is_some())
    }

    /// Sends off whoever left with this generation, if somebody did.
    pub(super) fn send_off(&mut self, generation: u64, why: &str, now: Time) {
        if let Some(leaving) = self.leaving.remove(&generation) {
            self.left_up = Some(now);
            self.tell(now, EventKind::Discovery, Some(&leaving.entry.found.id), why);
        }
    }

    /// All that may be picked from.
    pub(super) fn everybody(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.backends.values().chain(self.leaving.values().map(|leaving| &leaving.entry))
    }

    /// When the first of them must go.
    pub(super) fn leaving_deadline(&self) -> Option<Time> {
        self.leaving.values().map(|leaving| leaving.until).min()
    }
}

/// How long the verdict on a new backend may take: as many probes as take one down, each as slow
/// as may be. Whoever is not up by then has failed.
fn longest_verdict(plan: &ProbePlan) -> Duration {
    (plan.transition_interval + plan.give_up) * plan.fall
}
