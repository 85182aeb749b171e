//! What workers pick from: the backends of the best rung, published in one swap when they change;
//! and the invariants, which debug builds sweep after every event.

use std::{collections::BTreeMap, sync::Arc};

use super::{Pool, leaving::Leaving};
use crate::{
    admin::Change,
    backend::{BackendId, Member},
    entry::Entry,
    events::EventKind,
    pick::{Snapshot, Visited},
    rung::Rung,
    schedule::schedule,
    tier::{Serving, Stand},
    time::Time,
};

impl Pool {
    /// Publishes who serves and who could if that or their weights changed, and sweeps the invariants.
    pub(super) fn settle(&mut self, now: Time) {
        self.now = now;
        self.rung_since.get_or_insert(now);
        self.end_excess_ejections(now);
        self.end_leaving(now);
        self.note_climbs(now);
        let serving = self.serving(now);
        self.set_limits(serving);
        let (eligible, rest) = self.able(serving);
        let rest: Vec<&[&Entry]> = rest.chunk_by(|a, b| stand(a) == stand(b)).collect();
        let only_visited = self.only_visited(serving, now);
        let weights = Self::published_weights(&eligible);
        let current = self.published.current();
        let same = current.weights == weights
            && current.plan == *self.plan()
            && current.serving == serving
            && is_same(&current.members, &eligible)
            && is_same(&current.visited.only, &only_visited)
            && current.rest.len() == rest.len()
            && current.rest.iter().zip(&rest).all(|(a, b)| is_same(a, b));
        if !same {
            let members = members_of(&eligible);
            let able = by_slot(eligible.iter().chain(rest.iter().copied().flatten()));
            self.published.publish(Snapshot {
                version: current.version + 1,
                plan: self.plan().clone(),
                serving,
                visited: Visited::new(&members, members_of(&only_visited)),
                members,
                rest: rest.into_iter().map(members_of).collect(),
                able,
                schedule: schedule(&weights),
                weights,
            });
            self.tell_rung(current.serving.rung, serving.rung, now);
            self.tell_tier(current.serving, serving, now);
        }
        self.hurry_probes(now);
        if cfg!(debug_assertions) {
            self.check_invariants(now);
        }
    }

    /// Who serves, and who else could, both in order. This runs after each event of each backend, so
    /// that everybody is asked for a rung once: with hundreds, asking while sorting was most of what
    /// the control side did.
    fn able(&self, serving: Serving) -> (Vec<&Entry>, Vec<&Entry>) {
        let able = self.everybody().filter_map(|entry| {
            let (rung, tier) = (entry.rung()?, entry.found.tier);
            let place = entry.place;
            Some(match serving.includes(Some(rung), tier) {
                true => ((None, 0, place), entry),
                false => ((Some(rung), tier, place), entry),
            })
        });
        let mut able: Vec<_> = able.collect();
        able.sort_unstable_by_key(|(order, _)| *order);
        let split = able.partition_point(|((rung, ..), _)| rung.is_none());
        let rest = able.split_off(split).into_iter().map(|(_, entry)| entry).collect();
        (able.into_iter().map(|(_, entry)| entry).collect(), rest)
    }

    /// Who would serve after a change, with their weights.
    #[must_use]
    pub fn would_serve(
        &self,
        id: &BackendId,
        change: &Change,
        now: Time,
    ) -> BTreeMap<BackendId, u32> {
        let after = |entry: &Entry| match entry.found.id == *id {
            true => {
                let intent = entry.intent.changed(change, now);
                (entry.stand_with(&intent), intent.weight(entry.found.weight))
            }
            false => (entry.stand(), entry.weight()),
        };
        let all: Vec<(&BackendId, (Stand, u32))> =
            self.everybody().map(|entry| (&entry.found.id, after(entry))).collect();
        let serving = Serving::of(all.iter().map(|(_, (stand, _))| *stand), self.tier_least);
        all.into_iter()
            .filter(|(_, (stand, _))| serving.includes(stand.rung, stand.tier))
            .map(|(id, (_, weight))| (id.clone(), weight))
            .collect()
    }

    /// Tells when backups begin to serve and when they may rest.
    fn tell_tier(&mut self, before: Serving, serving: Serving, now: Time) {
        if before.tier == serving.tier || serving.rung >= Rung::Queue {
            return;
        }
        let first = self.backends.values().map(|backend| backend.found.tier).min();
        let message = match serving.tier {
            tier if Some(tier) != first => {
                format!("backups serve, down to tier {tier}: those above have too little")
            }
            // They serve because the backups have failed, too, or nobody has served before.
            _ if serving.rung > before.rung || before.rung >= Rung::Queue => return,
            tier => format!("tier {tier} has enough again: backups stand by"),
        };
        self.tell(now, EventKind::Health, None, &message);
    }

    /// Counts the picks of the rung before, and tells of a change for the worse and back.
    fn tell_rung(&mut self, before: Rung, rung: Rung, now: Time) {
        self.rung_picks.count(before, self.published.picks());
        if before == rung {
            return;
        }
        self.rung_since = Some(now);
        let message = match rung {
            Rung::Up => "requests are served by backends that are up",
            Rung::Degraded => "no backend is up: those that ask to be spared serve",
            Rung::Ejected => "last resort: ejected backends that pass their probes serve",
            Rung::Terminating => "last resort: backends that are going away serve",
            Rung::Queue => "nobody can serve: requests wait for a backend to come back",
            Rung::Nobody => "nobody can serve: requests are refused",
        };
        self.tell(now, EventKind::Health, None, message);
    }

    fn check_invariants(&self, now: Time) {
        let snapshot = self.published.current();
        assert_eq!(snapshot.plan, *self.plan(), "backends are chosen in a wrong way");
        let serving = self.serving(now);
        assert_eq!(snapshot.serving, serving, "requests are served from a wrong rung or tier");
        for member in &snapshot.members {
            let backend = self.everybody().find(|entry| Arc::ptr_eq(&entry.member, member));
            let backend = backend.unwrap_or_else(|| panic!("{} is stale", member.id()));
            assert!(backend.is_member(serving), "{} is published", member.id());
        }
        let eligible = self.everybody().filter(|backend| backend.is_member(serving)).count();
        assert_eq!(eligible, snapshot.members.len(), "an eligible backend is not published");
        let able = self.everybody().filter(|backend| backend.rung().is_some()).count();
        let rest: usize = snapshot.rest.iter().map(Vec::len).sum();
        assert_eq!(able, eligible + rest, "one that could serve is not published");
        let mut slots: Vec<usize> = self.everybody().map(|b| b.member.slot()).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), self.everybody().count(), "two backends share a slot");
        for Leaving { entry, until } in self.leaving.values() {
            assert_eq!(entry.rung(), Some(Rung::Terminating), "{} left", entry.found.id);
            assert!(!self.can_serve() && *until > now, "{} left, and is there", entry.found.id);
        }
        self.check_visited(&snapshot, now);
        self.check_ejections();
        if let Some(deadline) = self.deadline(now) {
            let probes = self.backends.values().filter(|backend| backend.is_probed());
            let earliest = probes.filter_map(|b| b.health.deadline(&self.plan)).min();
            assert!(earliest.is_none_or(|time| deadline <= time), "a probe would be late");
        }
    }
}

fn stand(entry: &Entry) -> (Option<Rung>, u16) {
    (entry.rung(), entry.found.tier)
}

fn members_of(entries: &[&Entry]) -> Vec<Arc<Member>> {
    entries.iter().map(|entry| Arc::clone(&entry.member)).collect()
}

fn by_slot<'a>(entries: impl Iterator<Item = &'a &'a Entry>) -> Vec<u64> {
    let mut generations = Vec::new();
    for member in entries.map(|entry| &entry.member) {
        if generations.len() <= member.slot() {
            generations.resize(member.slot() + 1, 0);
        }
        generations[member.slot()] = member.generation();
    }
    generations
}

fn is_same(members: &[Arc<Member>], entries: &[&Entry]) -> bool {
    members.len() == entries.len()
        && members.iter().zip(entries).all(|(member, entry)| Arc::ptr_eq(member, &entry.member))
}
