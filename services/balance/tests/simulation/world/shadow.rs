//! What the model knows the pool was told, and its own reading of it.

use std::{collections::VecDeque, time::Duration};

use super::{World, balance::*};

/// Of one generation of a name.
#[derive(Clone, Default)]
pub(crate) struct Shadow {
    passes: u32,
    failures: u32,
    pub(crate) is_up: bool,
    has_verdict: bool,
    /// Failed attempts, the last of them.
    pub(crate) failed: VecDeque<Time>,
    /// Failed attempts since the last that succeeded, and since when.
    pub(crate) streak: u32,
    pub(crate) streak_since: Time,
    /// When it last asked to be spared.
    pub(crate) asked: Option<Time>,
    /// When the pool heard of it at the latest.
    pub(crate) asked_latest: Time,
    /// Times at which all that was picked before ceased to say anything: ejections above all.
    pub(crate) ejections: u32,
}

/// What the model knows an operator wants of a name. It outlives the instance.
#[derive(Clone, Default)]
pub(crate) struct Intent {
    pub(crate) admin: Admin,
    pub(crate) expires: Option<Time>,
    pub(crate) weight: Option<u32>,
    pub(crate) weight_since: Option<Time>,
    pub(crate) weight_expires: Option<Time>,
}

/// How long the pool keeps what operators want of a backend that left.
const INTENT_KEPT: Duration = Duration::from_secs(60 * 60);

/// More failures than that are of no more interest.
const FAILED_MOST: usize = 64;

impl Shadow {
    /// Takes in the end of an attempt.
    pub(crate) fn note(&mut self, outcome: Outcome, now: Time) {
        match outcome {
            Outcome::Success => self.streak = 0,
            Outcome::Failure => {
                if self.streak == 0 {
                    self.streak_since = now;
                }
                self.streak += 1;
                self.failed.push_back(now);
                if self.failed.len() > FAILED_MOST {
                    self.failed.pop_front();
                }
            }
            Outcome::Unknown => {}
        }
    }

    pub(crate) fn failed_within(&self, span: Duration, now: Time) -> bool {
        self.failed.back().is_some_and(|last| now.since(*last) <= span)
    }
}

impl World {
    /// The model's own reading of rise and fall.
    pub(crate) fn count(&mut self, name: &str, generation: u64, passed: bool) {
        if self.intents.get(name).is_some_and(|intent| intent.admin == Admin::Maint) {
            return;
        }
        let Some(shadow) = self.shadow.get_mut(&(name.to_owned(), generation)) else { return };
        if passed {
            (shadow.passes, shadow.failures) = (shadow.passes + 1, 0);
        } else {
            (shadow.passes, shadow.failures) = (0, shadow.failures + 1);
        }
        let event = if shadow.is_up && shadow.failures >= self.plan.fall {
            (shadow.is_up, shadow.has_verdict) = (false, true);
            Some("down")
        } else if !shadow.has_verdict && shadow.passes >= 1 {
            (shadow.is_up, shadow.has_verdict) = (true, true);
            Some("first up")
        } else if !shadow.has_verdict && shadow.failures >= self.plan.fall {
            shadow.has_verdict = true;
            Some("never up")
        } else if shadow.has_verdict && !shadow.is_up && shadow.passes >= self.plan.rise {
            // It may be another process: what failed before says nothing of it.
            (shadow.is_up, shadow.streak) = (true, 0);
            shadow.ejections += 1;
            Some("up again")
        } else {
            None
        };
        event.into_iter().for_each(|event| self.coverage.see(event));
    }

    /// It has to pass anew, and what was asked or failed before does not count.
    pub(crate) fn begin_anew(&mut self, name: &str, generation: u64) {
        self.probes.retain(|probe| probe.order.id.as_str() != name);
        let key = (name.to_owned(), generation);
        let ejections = self.shadow.get(&key).map_or(0, |shadow| shadow.ejections + 1);
        let before = self.shadow.get(&key).cloned().unwrap_or_default();
        let Shadow { asked, asked_latest, .. } = before;
        self.shadow.insert(key, Shadow { ejections, asked, asked_latest, ..Shadow::default() });
    }

    /// What operators wanted for a while is over, or for a backend that is gone for good.
    pub(crate) fn expire_intents(&mut self) {
        let gone = &mut self.gone;
        gone.retain(|_, since| self.now.since(*since) < INTENT_KEPT);
        let (told, gone) = (&self.told, &self.gone);
        self.intents.retain(|name, _| told.contains_key(name) || gone.contains_key(name));
        let over = |end: Option<Time>| end.is_some_and(|end| end <= self.now);
        if self.wanted.is_some_and(|(_, end)| over(end)) {
            self.wanted = None;
            self.coverage.see("expiry of a policy");
        }
        let mut returned = Vec::new();
        for name in self.told.keys() {
            let Some(intent) = self.intents.get_mut(name) else { continue };
            if over(intent.weight_expires) {
                (intent.weight, intent.weight_since, intent.weight_expires) = (None, None, None);
                self.coverage.see("expiry of a weight");
            }
            if over(intent.expires) {
                if intent.admin == Admin::Maint {
                    returned.push(name.clone());
                }
                (intent.admin, intent.expires) = (Admin::Ready, None);
                self.coverage.see("expiry of a state");
            }
        }
        for name in returned {
            let generation = self.generation(&name).unwrap();
            self.begin_anew(&name, generation);
        }
    }
}
