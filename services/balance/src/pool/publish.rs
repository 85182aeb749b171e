//! What workers pick from: the backends of the best rung, published in one swap when they change;
//! and the invariants, which debug builds sweep after every event.

use std::sync::Arc;

use super::Pool;
use crate::{
    entry::Entry, events::EventKind, pick::Snapshot, rung::Rung, schedule::schedule, time::Time,
};

impl Pool {
    /// Publishes the backends of the best rung that has any if they or their weights changed, and
    /// sweeps the invariants.
    pub(super) fn settle(&mut self, now: Time) {
        self.end_excess_ejections(now);
        self.note_climbs(now);
        self.set_limits();
        let rung = self.best_rung();
        let mut eligible: Vec<&Entry> =
            self.backends.values().filter(|backend| backend.rung() == Some(rung)).collect();
        eligible.sort_unstable_by_key(|backend| backend.place);
        let weights = Self::published_weights(&eligible);
        let current = self.published.current();
        let same = current.weights == weights
            && current.plan == *self.plan()
            && current.rung == rung
            && current.members.iter().zip(&eligible).all(|(a, b)| Arc::ptr_eq(a, &b.member));
        if !same {
            self.published.publish(Snapshot {
                version: current.version + 1,
                plan: self.plan().clone(),
                rung,
                members: eligible.iter().map(|backend| Arc::clone(&backend.member)).collect(),
                schedule: schedule(&weights),
                weights,
            });
            self.tell_rung(current.rung, rung, now);
        }
        if cfg!(debug_assertions) {
            self.check_invariants(now);
        }
    }

    fn best_rung(&self) -> Rung {
        self.backends.values().filter_map(Entry::rung).min().unwrap_or_default()
    }

    /// Counts the picks of the rung before, and tells of a change for the worse and back.
    fn tell_rung(&mut self, before: Rung, rung: Rung, now: Time) {
        self.rung_picks.count(before, self.published.picks());
        if before == rung {
            return;
        }
        self.rung_since = now;
        let message = match rung {
            Rung::Up => "requests are served by backends that are up",
            Rung::Degraded => "no backend is up: those that ask to be spared serve",
            Rung::Ejected => "last resort: ejected backends that pass their probes serve",
            Rung::Terminating => "last resort: backends that are going away serve",
            Rung::Nobody => "nobody can serve: requests are refused",
        };
        self.tell(now, EventKind::Health, None, message);
    }

    fn check_invariants(&self, now: Time) {
        let snapshot = self.published.current();
        assert_eq!(snapshot.plan, *self.plan(), "backends are chosen in a wrong way");
        assert_eq!(snapshot.rung, self.best_rung(), "requests are served from a wrong rung");
        for member in &snapshot.members {
            let backend = self.backends.get(member.id()).expect("published backends are present");
            assert!(Arc::ptr_eq(&backend.member, member), "{} is stale", member.id());
            assert_eq!(backend.rung(), Some(snapshot.rung), "{} is published", member.id());
        }
        let on_rung = |backend: &&Entry| backend.rung() == Some(snapshot.rung);
        let eligible = self.backends.values().filter(on_rung).count();
        assert_eq!(eligible, snapshot.members.len(), "an eligible backend is not published");
        let mut slots: Vec<usize> = self.backends.values().map(|b| b.member.slot()).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), self.backends.len(), "two backends share a slot");
        self.check_ejections();
        if let Some(deadline) = self.deadline(now) {
            let probes = self.backends.values().filter(|backend| backend.is_probed());
            let earliest = probes.filter_map(|b| b.health.deadline(&self.plan)).min();
            assert!(earliest.is_none_or(|time| deadline <= time), "a probe would be late");
        }
    }
}
