//! The pool's plan for choosing backends: changed by operators, and back by itself when its time is
//! over. Requests notice nothing but where they go: the new plan is published like any other change.

use super::{EXPIRED, Pool};
use crate::{
    events::{Effect, Event, EventKind},
    intent::Overridable,
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
        let since = self.wanted.current().as_ref().map_or(now, since);
        let why = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let by = actor.clone();
        let is_configured = plan.is_none();
        // The configured plan is where all others end, and has no end itself.
        let until = ttl.filter(|_| !is_configured).map(|ttl| now + ttl);
        let wanted = plan.map(|plan| StandingPolicy { plan, since, reason, actor });
        self.wanted.set(wanted, until, None);
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
    pub fn standing_policy(&self) -> &Overridable<Option<StandingPolicy>> {
        &self.wanted
    }

    /// Takes up what operators wanted before the process was restarted.
    pub fn restore_policy(&mut self, standing: Overridable<Option<StandingPolicy>>, now: Time) {
        self.wanted = standing;
        self.settle(now);
    }

    /// The plan in force.
    pub(super) fn plan(&self) -> &PolicyPlan {
        self.wanted.current().as_ref().map_or(&self.configured, |wanted| &wanted.plan)
    }

    pub(super) fn expire_policy(&mut self, now: Time) {
        let had_end = self.wanted.expires().is_some();
        self.wanted.end(now);
        if had_end && self.wanted.expires().is_none() {
            let which =
                if self.wanted.current().is_some() { "policy" } else { "the configured policy" };
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
