//! Who keeps the visitors that it has while it gets no new ones.

use std::time::Duration;

use super::{DRAIN_LOOK, Pool, VISIT_LOOK};
use crate::{
    admin::Admin,
    backend::Found,
    entry::Entry,
    pick::{Snapshot, Tagger},
    tier::Serving,
    time::Time,
};

impl Pool {
    /// Has requests go back to the backend that they had before, if they tell its tag. `tag` makes it
    /// of what discovery says of a backend that arrives.
    #[must_use]
    pub fn with_tags(mut self, tag: impl Fn(&Found) -> u128 + Send + 'static) -> Self {
        self.tagger = Some(Tagger(Box::new(tag)));
        self
    }

    /// Has a drain wait for visitors until none has come for this long. Without, it does not wait.
    #[must_use]
    pub fn with_visitor_idle(mut self, idle: Duration) -> Self {
        self.visitor_idle = idle;
        self
    }

    /// Until when the drain of a backend waits for visitors, if none comes any more.
    pub(super) fn visitors_until(&self, entry: &Entry) -> Option<Time> {
        self.tagger.as_ref().and_then(|_| entry.visitors_until(self.visitor_idle, self.now))
    }

    /// When to look at a backend for the end of its drain, or for visitors who have come after it.
    pub(super) fn drain_look(&self, entry: &Entry, now: Time) -> Option<Time> {
        let is_draining = entry.intent.admin() == Admin::Drain || entry.weight() == 0;
        let may_come = self.tagger.is_some() && entry.is_left_to_visitors(now);
        match self.visitors_until(entry) {
            Some(until) => Some(until.max(now + DRAIN_LOOK)),
            None if is_draining && !entry.drained_told => Some(now + DRAIN_LOOK),
            None => may_come.then(|| now + VISIT_LOOK),
        }
    }

    /// Those who get nothing but visits while others serve.
    pub(super) fn only_visited(&self, serving: Serving, now: Time) -> Vec<&Entry> {
        let has_tags = self.tagger.is_some();
        let all = self.backends.values().filter(|_| has_tags);
        all.filter(|entry| entry.keeps_visitors(serving, now)).collect()
    }

    pub(super) fn check_visited(&self, snapshot: &Snapshot, now: Time) {
        let only = self.only_visited(snapshot.serving, now);
        let ids = only.iter().map(|entry| entry.member.generation());
        let published = snapshot.visited.only.iter().map(|member| member.generation());
        assert!(ids.eq(published), "visits to {:?}, not {only:?}", snapshot.visited.only);
        for entry in only {
            let id = &entry.found.id;
            assert!(!entry.is_member(snapshot.serving), "{id} is a member, too");
            assert!(entry.intent.admin() != Admin::Maint && entry.is_usable_by_health(), "{id}");
        }
    }
}
