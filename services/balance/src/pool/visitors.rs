//! Who keeps the visitors that it has while it gets no new ones.

use super::Pool;
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
