//! What operators want: changes and their refusal, what ends by itself, and how a drain ends.

use std::{collections::BTreeMap, time::Duration};

use super::{INTENT_KEPT, Pool};
use crate::{
    admin::{Admin, Change, Refused},
    backend::BackendId,
    entry::Entry,
    events::{Effect, EventKind},
    health::HealthState,
    intent::{Intent, StandingIntent},
    time::Time,
    view::Effective,
};

/// How the message of an event ends that tells of a change whose time is over.
pub const EXPIRED: &str = "the time set for a change is over";

impl Pool {
    /// An operator changes a backend.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn change(&mut self, id: &BackendId, change: &Change, now: Time) -> Result<(), Refused> {
        let (intent, before) = self.changed_intent(id, change, now)?;
        let text = intent.describe_change(&before, change);
        self.set_intent(id, intent, now);
        self.tell_by(now, id, &text, change.actor.clone());
        self.settle(now);
        Ok(())
    }

    /// Whether a change would be refused, without making it.
    ///
    /// # Errors
    /// [`Refused`], as [`Self::change`] would.
    pub fn check_change(&self, id: &BackendId, change: &Change, now: Time) -> Result<(), Refused> {
        self.changed_intent(id, change, now).map(drop)
    }

    /// How many requests a backend may have in flight after a change, without making it; none is any
    /// number.
    #[must_use]
    pub fn limit_after(&self, id: &BackendId, change: &Change, now: Time) -> Option<u32> {
        self.backends.get(id)?.intent.changed(change, now).limit(self.max_in_flight)
    }

    /// The intent after a change and the one before.
    fn changed_intent(
        &self,
        id: &BackendId,
        change: &Change,
        now: Time,
    ) -> Result<(Intent, Intent), Refused> {
        let backend = self.backends.get(id).ok_or(Refused::Unknown)?;
        if let Some(by) = backend.intent.newer(change) {
            return Err(Refused::Superseded { by });
        }
        let intent = backend.intent.changed(change, now);
        if !change.force {
            self.guard(backend, &intent, change.floor, now)?;
        }
        Ok((intent, backend.intent.clone()))
    }

    /// Refuses to take a backend out where too few are left: now, or when something ends that was set
    /// for a time. One that is only in service for a while is nobody to rely on for longer.
    fn guard(
        &self,
        backend: &Entry,
        intent: &Intent,
        floor: usize,
        now: Time,
    ) -> Result<(), Refused> {
        if self.is_last(backend) && !intent.wants_traffic(backend.found.weight) {
            let total = self.backends.len();
            return Err(Refused::LastUsable { total, after: Duration::ZERO });
        }
        // How many more, or fewer, of the others there are from when on.
        let mut steps: BTreeMap<Time, isize> = BTreeMap::new();
        for other in self.backends.values().filter(|other| other.found.id != backend.found.id) {
            let mut was_usable = false;
            for time in other.intent.turns(now) {
                let is_usable = other.would_be_usable(&other.intent, time);
                *steps.entry(time).or_default() += isize::from(is_usable) - isize::from(was_usable);
                was_usable = is_usable;
            }
        }
        for time in intent.turns(now).chain(backend.intent.turns(now)) {
            steps.entry(time).or_default();
        }
        let (total, mut left) = (self.backends.len(), 0_usize);
        for (time, step) in steps {
            left = left.saturating_add_signed(step);
            let is_taken_out = backend.would_be_usable(&backend.intent, time)
                && !backend.would_be_usable(intent, time);
            let after = time.since(now);
            match left {
                0 if is_taken_out => return Err(Refused::LastUsable { total, after }),
                left if is_taken_out && left < floor => {
                    return Err(Refused::BelowFloor { total, left, floor, after });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it alone serves, be it as the last resort, and the others could not.
    fn is_last(&self, backend: &Entry) -> bool {
        let mut able = self.everybody().filter(|entry| entry.rung().is_some()).peekable();
        able.peek().is_some() && able.all(|entry| entry.found.id == backend.found.id)
    }

    /// What operators want of backends, those that are gone for the moment included.
    #[must_use]
    pub fn standing_intents(&self) -> Vec<StandingIntent> {
        let present = self.backends.values().map(|entry| (&entry.found.id, &entry.intent));
        let departed = self.departed.iter().map(|(id, (intent, _))| (id, intent));
        let all = present.chain(departed).filter(|(_, intent)| intent.is_special());
        all.map(|(id, intent)| intent.kept(id)).collect()
    }

    /// Takes up what operators wanted before the process was restarted. To be called before the
    /// first look-up: it holds for backends that arrive.
    pub fn restore(&mut self, intents: Vec<StandingIntent>, now: Time) {
        let until = now + INTENT_KEPT;
        let kept = intents.into_iter().map(|intent| (intent.id.clone(), (intent.into(), until)));
        self.departed.extend(kept);
        // The first look-up has yet to say who is there.
        self.blind_since.get_or_insert(now);
        self.settle(now);
    }

    /// Whether a backend was taken out and still has requests in flight, or visitors may come.
    #[must_use]
    pub fn is_draining(&self, id: &BackendId) -> bool {
        self.backends.get(id).is_some_and(|backend| {
            let is_busy = backend.in_flight() > 0 || self.visitors_until(backend).is_some();
            !backend.is_wanted() && is_busy
        })
    }

    pub(super) fn expire_intents(&mut self, now: Time) {
        let ended: Vec<(BackendId, Intent)> = self
            .backends
            .values()
            .filter(|backend| backend.intent.next_end().is_some_and(|end| end <= now))
            .map(|backend| (backend.found.id.clone(), backend.intent.ended(now)))
            .collect();
        for (id, intent) in ended {
            let text = intent.describe();
            self.set_intent(&id, intent, now);
            self.tell_by(now, &id, &format!("{text}: {EXPIRED}"), None);
        }
    }

    fn set_intent(&mut self, id: &BackendId, intent: Intent, now: Time) {
        let Self { backends, plan, ejection, .. } = self;
        let Some(backend) = backends.get_mut(id) else { return };
        if backend.intent.admin() == Admin::Maint && intent.admin() != Admin::Maint {
            // Nobody probed it meanwhile: it has to pass anew.
            backend.health = HealthState::new(plan, now);
            backend.forget_outcomes(ejection.consecutive, now);
        }
        backend.drained_told = false;
        let deadline = intent.stated().deadline;
        if deadline.is_none_or(|deadline| deadline > now) {
            backend.set_must_end_tunnels(false);
        }
        backend.intent = intent;
        self.follow_deadline(id, deadline, now);
        self.effects.push(Effect::KeepIntents);
    }

    /// Look-ups say again who is there: while they did not, nobody could know who was away.
    pub(super) fn keep_departed_on(&mut self, now: Time) {
        if let Some(since) = self.blind_since.take() {
            let blind = now.since(since);
            self.departed.values_mut().for_each(|(_, until)| *until = *until + blind);
        }
    }

    /// Forgets what was wanted of those that have been away for too long; in the file, too, or it
    /// would come back with a restart.
    pub(super) fn forget_departed(&mut self, now: Time) {
        if self.blind_since.is_some() {
            return;
        }
        let before = self.departed.len();
        self.departed.retain(|_, (_, until)| *until > now);
        if self.departed.len() < before {
            self.effects.push(Effect::KeepIntents);
        }
    }

    /// Has the tunnels ended whose deadline has passed.
    pub(super) fn end_tunnels(&mut self, now: Time) {
        self.end_under_way(now);
        let due = self.backends.values().filter(|backend| {
            let is_due = backend.intent.stated().deadline.is_some_and(|deadline| deadline <= now);
            is_due && backend.set_must_end_tunnels(true)
        });
        let due: Vec<(BackendId, u32)> =
            due.map(|backend| (backend.found.id.clone(), backend.tunnels())).collect();
        for (id, count) in due {
            self.effects.push(Effect::EndTunnels);
            let text = format!("the deadline is over: ending {count} upgraded connections");
            self.tell(now, EventKind::Admin, Some(&id), &text);
        }
    }

    pub(super) fn tell_drained(&mut self, now: Time) {
        let serving = self.published.current().serving;
        let news = self.backends.values().filter_map(|backend| {
            let is_awaited = self.visitors_until(backend).is_some();
            let is_drained = backend.effective(serving, is_awaited) == Effective::Drained;
            // A visitor may come to one that is drained all the same: then it is told again.
            let is_over = backend.drained_told && is_awaited;
            let is_news = if is_drained { !backend.drained_told } else { is_over };
            is_news.then(|| (backend.found.id.clone(), is_drained))
        });
        let news: Vec<(BackendId, bool)> = news.collect();
        for (id, is_drained) in news {
            if let Some(backend) = self.backends.get_mut(&id) {
                backend.drained_told = is_drained;
            }
            if is_drained {
                self.tell(now, EventKind::Admin, Some(&id), &self.describe_drained(&id, now));
            }
        }
    }

    fn describe_drained(&self, id: &BackendId, now: Time) -> String {
        let waited = self.tagger.is_some()
            && !self.visitor_idle.is_zero()
            && self.backends.get(id).is_some_and(|backend| backend.may_be_visited(now));
        match waited {
            true => {
                let idle = self.visitor_idle.as_secs_f64();
                format!("drained: no request is in flight, and no visitor has come for {idle} s")
            }
            false => "drained: no request is in flight".to_owned(),
        }
    }
}
