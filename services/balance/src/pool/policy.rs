//! The pool's plan for choosing backends: changed by operators, and back by itself when its time is
//! over. Requests notice nothing but where they go: the new plan is published like any other change.

use super::{EXPIRED, Pool};
use crate::{
    admin::Refused,
    events::{Effect, Event, EventKind},
    intent::{Overridable, SetBy},
    plan::{PolicyChange, PolicyPlan, WantedPlan},
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

    /// An operator wants backends to be chosen in another way, or as configured again. Whatever the
    /// policy, whoever can serve serves: it needs no guard.
    ///
    /// # Errors
    /// What it would replace was said after it; nothing has changed then.
    pub fn change_policy(&mut self, change: PolicyChange, now: Time) -> Result<(), Refused> {
        let why = change.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let by = change.actor.clone();
        let is_configured = change.plan.is_none();
        let before = self.plan().clone();
        self.wanted = self.wanted_after(change, now)?;
        let which = if is_configured { "the configured policy" } else { "policy" };
        let after = self.plan().describe();
        let text = match self.plan() == &before {
            true => format!("still {which} {after}{why}"),
            false => format!("{which} {after} (was {}){why}", before.describe()),
        };
        self.tell_policy(now, text, by);
        self.effects.push(Effect::KeepIntents);
        self.settle(now);
        Ok(())
    }

    /// The plan that would be in force after a change, without making it: not that of the change, if
    /// what lies on top was said after it.
    ///
    /// # Errors
    /// As [`Self::change_policy`].
    pub fn plan_after(&self, change: PolicyChange, now: Time) -> Result<PolicyPlan, Refused> {
        let wanted = self.wanted_after(change, now)?;
        Ok(wanted.current().plan.as_ref().unwrap_or(&self.configured).clone())
    }

    fn wanted_after(
        &self,
        change: PolicyChange,
        now: Time,
    ) -> Result<Overridable<WantedPlan>, Refused> {
        let PolicyChange { plan, reason, actor, ttl, said_at } = change;
        let newer = said_at.and_then(|said_at| self.wanted.said.newer(said_at, ttl.is_some()));
        if let Some(by) = newer {
            return Err(Refused::Superseded { by });
        }
        let mut wanted = self.wanted.clone();
        let is_same = wanted.current().plan == plan;
        let since = wanted.current().set.as_ref().filter(|_| is_same);
        let since = since.map_or(now, |set| set.since);
        let word = WantedPlan { plan, set: Some(SetBy { since, reason, actor, forced: false }) };
        wanted.set(word, ttl.map(|ttl| now + ttl), said_at);
        Ok(wanted)
    }

    /// The plan that operators want instead of the configured one, if they do.
    #[must_use]
    pub fn standing_policy(&self) -> &Overridable<WantedPlan> {
        &self.wanted
    }

    /// Takes up what operators wanted before the process was restarted.
    pub fn restore_policy(&mut self, standing: Overridable<WantedPlan>, now: Time) {
        self.wanted = standing;
        self.settle(now);
    }

    /// The plan in force.
    pub(super) fn plan(&self) -> &PolicyPlan {
        self.wanted.current().plan.as_ref().unwrap_or(&self.configured)
    }

    pub(super) fn expire_policy(&mut self, now: Time) {
        let had_end = self.wanted.expires().is_some();
        self.wanted.end(now);
        if had_end && self.wanted.expires().is_none() {
            let is_configured = self.wanted.current().plan.is_none();
            let which = if is_configured { "the configured policy" } else { "policy" };
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
