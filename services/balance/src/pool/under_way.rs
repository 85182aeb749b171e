//! What is still under way at backends that have left the pool.
//!
//! A source may not name a backend for a moment, such as a pod that is not ready or a record that is
//! missing from one answer, while its requests and tunnels go on. When it is back it is judged as a new
//! one, but what is under way is its own: a drain waits for that, and ends it at its deadline. For those
//! that do not come back, the deadline holds all the same.

use std::sync::Arc;

use super::Pool;
use crate::{
    backend::{BackendId, Found, Member},
    entry::{Entry, is_same_instance},
    events::Effect,
    time::Time,
};

/// One that left.
#[derive(Debug)]
pub(super) struct UnderWay {
    found: Found,
    members: Vec<Arc<Member>>,
    /// When its drain ends what can be ended.
    deadline: Option<Time>,
}

impl UnderWay {
    fn is_due(&self, now: Time) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn set_must_end_tunnels(&self, must: bool) -> bool {
        self.members.iter().filter(|one| one.set_must_end_tunnels(must)).count() > 0
    }
}

impl Pool {
    /// One leaves.
    pub(super) fn keep_under_way(&mut self, entry: &Entry) {
        let members = entry.all_members().map(Arc::clone).collect();
        let deadline = entry.intent.stated().deadline;
        self.under_way.push(UnderWay { found: entry.found.clone(), members, deadline });
    }

    /// What is under way at one that comes back.
    pub(super) fn take_under_way(&mut self, found: &Found) -> Vec<Arc<Member>> {
        let is_own =
            |one: &mut UnderWay| one.found.id == found.id && is_same_instance(&one.found, found);
        self.under_way.extract_if(.., is_own).flat_map(|one| one.members).collect()
    }

    /// Forgets what has ended. Those that left and serve for a while may get something yet, also where
    /// their name is back.
    pub(super) fn forget_ended(&mut self) {
        let Self { under_way, backends, leaving, .. } = self;
        let may_have_some = |member: &Arc<Member>| {
            member.in_flight() > 0 || leaving.contains_key(&member.generation())
        };
        under_way.retain_mut(|one| {
            one.members.retain(may_have_some);
            !one.members.is_empty()
        });
        backends.values_mut().for_each(|entry| entry.before.retain(may_have_some));
    }

    /// Operators want another deadline of a name, or none.
    pub(super) fn follow_deadline(&mut self, id: &BackendId, deadline: Option<Time>, now: Time) {
        for one in self.under_way.iter_mut().filter(|one| one.found.id == *id) {
            one.deadline = deadline;
            if !one.is_due(now) {
                one.set_must_end_tunnels(false);
            }
        }
    }

    /// Has those tunnels ended whose deadline has passed.
    pub(super) fn end_under_way(&mut self, now: Time) {
        let due = self.under_way.iter().filter(|one| one.is_due(now));
        if due.filter(|one| one.set_must_end_tunnels(true)).count() > 0 {
            self.effects.push(Effect::EndTunnels);
        }
    }

    /// When the next of them is due.
    pub(super) fn under_way_deadline(&self) -> Option<Time> {
        let is_open = |one: &&UnderWay| one.members.iter().any(|one| !one.must_end_tunnels());
        self.under_way.iter().filter(is_open).filter_map(|one| one.deadline).min()
    }
}
