//! The pool's plan for choosing backends: changed by operators, and back by itself when its time is
//! over. Requests notice nothing but where they go: the new plan is published like any other change.

use super::{EXPIRED, Pool};
use crate::{
    events::{Effect, Event, EventKind},
    plan::{PolicyChange, PolicyPlan, StandingPolicy},
    time::Time,
};

impl Pool {
    /// Sets what [`crate::Policy::Hash`] goes by where no operator wants something else.
    #[must_use]
    pub fn with_hash_key(mut self, key: &str) -> Self {
        self.configured.hash_key = key.into();
        self.settle(Time::START);
        self
    }

    /// An operator wants backends to be chosen in another way, or as configured again. It cannot be
    /// refused: whatever the policy, whoever can serve serves.
    pub fn change_policy(&mut self, change: PolicyChange, now: Time) {
        let PolicyChange { plan, reason, actor, ttl } = change;
        let before = self.plan().clone();
        let since = |standing: &StandingPolicy| {
            if plan.as_ref() == Some(&standing.plan) { standing.since } else { now }
        };
        let since = self.wanted.as_ref().map_or(now, since);
        let why = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let by = actor.clone();
        let is_configured = plan.is_none();
        let expires = ttl.map(|ttl| now + ttl);
        let below = None;
        let wanted = plan.map(|plan| StandingPolicy { plan, since, reason, actor, expires, below });
        self.wanted = wanted.map(|wanted| wanted.instead_of(self.wanted.take()));
        let which = if is_configured { "the configured policy" } else { "policy" };
        let after = self.plan().describe();
        let text = match self.plan() == &before {
            true => format!("still {which} {after}{why}"),
            false => format!("{which} {after} (was {}){why}", before.describe()),
        };
        self.tell_policy(now, text, by);
        self.effects.push(Effect::KeepIntents);
        self.settle(now);
    }

    /// The plan that operators want instead of the configured one, if they do.
    #[must_use]
    pub fn standing_policy(&self) -> Option<&StandingPolicy> {
        self.wanted.as_ref()
    }

    /// Takes up what operators wanted before the process was restarted.
    pub fn restore_policy(&mut self, standing: StandingPolicy, now: Time) {
        self.wanted = Some(standing);
        self.settle(now);
    }

    /// The plan in force.
    pub(super) fn plan(&self) -> &PolicyPlan {
        self.wanted.as_ref().map_or(&self.configured, |wanted| &wanted.plan)
    }

    pub(super) fn expire_policy(&mut self, now: Time) {
        let before = self.wanted.take();
        let had_end = before.as_ref().is_some_and(|wanted| wanted.expires.is_some());
        self.wanted = before.and_then(|wanted| wanted.after_its_end(now));
        let has_end = self.wanted.as_ref().is_some_and(|wanted| wanted.expires.is_some());
        if had_end && !has_end {
            let which = if self.wanted.is_some() { "policy" } else { "the configured policy" };
            let text = format!("{which} {} again: {EXPIRED}", self.plan().describe());
            self.tell_policy(now, text, None);
            self.effects.push(Effect::KeepIntents);
        }
    }

    fn tell_policy(&mut self, at: Time, message: String, actor: Option<String>) {
        let kind = EventKind::Admin;
        self.effects.push(Effect::Event(Event { at, kind, backend: None, message, actor }));
    }
}
