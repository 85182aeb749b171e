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
    pub(crate) admin: Layers<Admin>,
    /// With the time since when.
    pub(crate) weight: Layers<Option<(u32, Time)>>,
    pub(crate) limit: Layers<Option<u32>>,
}

/// What was wanted for good, and what was wanted since for a while: a history that is cut off at
/// the last word for good.
#[derive(Clone, Default)]
pub(crate) struct Layers<T> {
    said: Vec<(T, Option<Time>)>,
}

impl<T: Copy + Default> Layers<T> {
    pub(crate) fn say(&mut self, value: T, until: Option<Time>) {
        if until.is_none() {
            self.said.clear();
        }
        // Of several for a while, only the last counts: not even what it cut short comes back.
        self.said.retain(|(_, until)| until.is_none());
        self.said.push((value, until));
    }

    /// Whether something has ended.
    fn end(&mut self, now: Time) -> bool {
        let before = self.said.len();
        self.said.retain(|(_, until)| until.is_none_or(|until| until > now));
        self.said.len() < before
    }

    pub(crate) fn now(&self) -> T {
        self.said.last().map(|(value, _)| *value).unwrap_or_default()
    }

    /// What it goes back to, if it does, and when.
    pub(crate) fn then(&self) -> Option<(T, Time)> {
        let until = self.said.last()?.1?;
        let stands = self.said.iter().find(|(_, until)| until.is_none());
        Some((stands.map(|(value, _)| *value).unwrap_or_default(), until))
    }
}

impl Intent {
    /// Whether it is kept for a backend that left.
    pub(crate) fn is_kept(&self) -> bool {
        let Self { admin, weight, limit } = self;
        let ends = admin.then().is_some() || weight.then().is_some() || limit.then().is_some();
        ends || admin.now() != Admin::Ready || weight.now().is_some() || limit.now().is_some()
    }
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
        if self.intents.get(name).is_some_and(|intent| intent.admin.now() == Admin::Maint) {
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
        if self.wanted.is_some_and(|(_, end)| end.is_some_and(|end| end <= self.now)) {
            self.wanted = self.wanted_below.take().map(|policy| (policy, None));
            self.coverage.see(match self.wanted {
                Some(_) => "expiry of a policy on top of another",
                None => "expiry of a policy",
            });
        }
        let mut returned = Vec::new();
        for name in self.told.keys() {
            let Some(intent) = self.intents.get_mut(name) else { continue };
            if intent.weight.end(self.now) {
                self.coverage.see("expiry of a weight");
            }
            if intent.limit.end(self.now) {
                self.coverage.see("expiry of a limit");
            }
            let was = intent.admin.now();
            if intent.admin.end(self.now) {
                self.coverage.see("expiry of a state");
                match (was, intent.admin.now()) {
                    (Admin::Maint, Admin::Ready | Admin::Drain) => returned.push(name.clone()),
                    (_, Admin::Maint) => {
                        // Nobody is probed there.
                        self.probed.insert(name.clone(), self.now);
                        self.coverage.see("back to maintenance");
                    }
                    (_, Admin::Ready | Admin::Drain) => {}
                }
            }
        }
        for name in returned {
            let generation = self.generation(&name).unwrap();
            self.begin_anew(&name, generation);
        }
    }
}
