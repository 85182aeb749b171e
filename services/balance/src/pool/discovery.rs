//! What look-ups say: who is in the pool from now on, who came and who left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{INTENT_KEPT, Pool, slow_start};
use crate::{
    backend::{BackendId, Found, Member},
    ejection::Ejection,
    entry::{Entry, is_same_instance},
    events::EventKind,
    health::HealthState,
    intent::Intent,
    outcome::Counts,
    pick::Tagger,
    time::Time,
};

/// For how long it is kept how requests fared at one that a look-up does not name: name servers that
/// answer with a part of the set name it again in one of the next answers. One that was made anew takes
/// longer, and is not judged by what was before it.
const ABSENCE: Duration = Duration::from_secs(5);

/// One that a look-up did not name.
#[derive(Debug)]
pub(super) struct Absent {
    found: Found,
    ejection: Ejection,
    since: Time,
}

impl Pool {
    /// The backends as a look-up found them: exactly these are in the pool from now on.
    ///
    /// Health and intent of those that stay are kept. One whose addresses all changed is another
    /// instance under the same name and starts anew. An empty answer is taken for trouble of the
    /// look-up, like [`Self::discovery_failed`]: it must never empty a pool; and so is one by which all
    /// who can serve would leave, for none that ever could. While nobody of them can yet, those that they
    /// replace do ([`crate::Rung::Terminating`]), for a time that is bounded.
    pub fn discovered(&mut self, found: Vec<Found>, now: Time) {
        if let Some(why) = self.trouble(&found) {
            return self.discovery_failed(&why, now);
        }
        self.keep_departed_on(now);
        self.forget_ended();
        self.absent.retain(|_, absent| now.since(absent.since) <= ABSENCE);
        if self.discovery_error.take().is_some() {
            self.tell(now, EventKind::Discovery, None, "backends are looked up again");
        }
        self.discovered = Some(now);
        let places: BTreeMap<BackendId, usize> =
            found.iter().enumerate().map(|(place, found)| (found.id.clone(), place)).collect();
        let mut before = std::mem::take(&mut self.backends);
        // Those that stay first, so that those that arrive take slots that are really free.
        let mut arriving = Vec::new();
        for found in found {
            match before.remove(&found.id) {
                Some(known) if is_same_instance(&known.found, &found) => {
                    self.backends.insert(found.id.clone(), known.updated(found));
                }
                Some(replaced) => {
                    before.insert(found.id.clone(), replaced);
                    arriving.push(found);
                }
                None => arriving.push(found),
            }
        }
        let mut left = Vec::new();
        for (id, backend) in before {
            if backend.is_in_service() {
                self.left_up = self.left_up.max(backend.health.last_up(now));
            }
            left.push(self.depart(id, backend, now));
        }
        if self.plan.enabled && !self.can_serve() && self.others_come(&arriving) {
            left.into_iter().for_each(|entry| self.keep_leaving(entry, now));
        }
        for found in arriving {
            self.arrive(found, now);
        }
        for (id, backend) in &mut self.backends {
            backend.place = places.get(id).copied().unwrap_or_default();
        }
        self.settle(now);
    }

    /// Why an answer cannot be taken for what is the case, if it cannot. A source that tells instances
    /// apart knows who is gone.
    fn trouble(&self, found: &[Found]) -> Option<String> {
        if self.backends.is_empty() {
            return None;
        }
        let Some(first) = found.first() else {
            return Some("the look-up found no backends".to_owned());
        };
        let can_stay = |entry: &Entry| {
            let is_it =
                |one: &Found| one.id == entry.found.id && is_same_instance(&entry.found, one);
            entry.rung().is_some() && found.iter().any(is_it)
        };
        // Only probes tell who is gone all the same.
        let would_be_lost = self.plan.enabled
            && first.instance.is_none()
            && self.can_serve()
            && !found.iter().any(|one| self.may_serve(one))
            && !self.backends.values().any(can_stay);
        would_be_lost.then(|| match found.iter().find_map(|one| one.addresses.as_ref().err()) {
            Some(error) => format!("the look-up found nobody else: {error}"),
            None => "the look-up found only backends that are out of traffic".to_owned(),
        })
    }

    /// A look-up failed: the backends of the last good one stay.
    pub fn discovery_failed(&mut self, why: &str, now: Time) {
        if self.discovery_error.as_deref() != Some(why) {
            let kept = self.backends.len();
            self.tell(now, EventKind::Discovery, None, &format!("{why}; keeping {kept} backends"));
            self.discovery_error = Some(why.to_owned());
        }
        self.blind_since.get_or_insert(now);
        self.settle(now);
    }

    fn arrive(&mut self, found: Found, now: Time) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let id = found.id.clone();
        let addresses = found.addresses.clone().unwrap_or_default();
        let ejection = match self.absent.remove(&id) {
            Some(absent) if is_same_instance(&absent.found, &found) => {
                absent.ejection.carried_over(Counts::default(), now)
            }
            _ => Ejection::new(Counts::default(), now),
        };
        let (slot, streak_limit) = (self.free_slot(), ejection.streak_limit(&self.ejection));
        let queue = Arc::clone(self.published.queue());
        let tag = self.tagger.as_ref().map(|Tagger(tag)| tag(&found));
        let member =
            Member::new(id.clone(), generation, slot, addresses, streak_limit, queue).with_tag(tag);
        let kept = self.departed.remove(&id).map(|(intent, _)| intent);
        let intent = kept.unwrap_or_else(|| Intent::none(now));
        // A deadline that had passed before it came has been told, and ends nothing any more.
        let is_past = intent.stated().deadline.is_some_and(|deadline| deadline <= now);
        member.set_must_end_tunnels(is_past);
        let before = self.take_under_way(&found);
        match &found.addresses {
            Ok(_) => self.tell(now, EventKind::Discovery, Some(&id), "joined the pool"),
            Err(error) => self.tell(now, EventKind::Discovery, Some(&id), error),
        }
        let health = HealthState::new(&self.plan, now);
        let backend = Entry {
            found,
            place: 0,
            member: Arc::new(member),
            before,
            arrived: now,
            intent,
            health,
            ejection,
            degraded: None,
            up_since: None,
            climbed: slow_start::STEPS,
            drained_told: false,
        };
        self.backends.insert(id, backend);
    }

    fn depart(&mut self, id: BackendId, backend: Entry, now: Time) -> Entry {
        self.tell(now, EventKind::Discovery, Some(&id), "left the pool");
        self.keep_under_way(&backend);
        // It may only be missing from one answer.
        let (found, ejection) = (backend.found.clone(), backend.ejection.clone());
        self.absent.insert(id.clone(), Absent { found, ejection, since: now });
        if backend.intent.is_special() {
            self.departed.insert(id, (backend.intent.clone(), now + INTENT_KEPT));
        }
        backend
    }

    /// The smallest number that nobody has who is present or leaving.
    fn free_slot(&self) -> usize {
        let mut taken: Vec<usize> = self.everybody().map(|b| b.member.slot()).collect();
        taken.sort_unstable();
        (0..taken.len()).find(|slot| taken[*slot] != *slot).unwrap_or(taken.len())
    }
}
