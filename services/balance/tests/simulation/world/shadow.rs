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
    /// When it ceased to be up, the last time since it was new or back from maintenance.
    pub(crate) was_up: Option<Time>,
    /// Failed attempts, the last of them.
    pub(crate) failed: VecDeque<Time>,
    /// Failed attempts since the last that succeeded, and since when.
    pub(crate) streak: u32,
    /// When there were last so many in a row as eject.
    pub(crate) tripped: Option<Time>,
    /// When it was ejected last, and when it came back.
    pub(crate) out_since: Option<Time>,
    pub(crate) back: Option<Time>,
    /// Until when it was ejected when a look-up did not name it.
    pub(crate) out_until: Option<Time>,
    /// Ejections that time has not forgiven.
    pub(crate) unforgiven: u32,
    /// Since when it has been up and not ejected, and whether that is quite sure.
    pub(crate) warm_since: Option<(Time, bool)>,
    /// When an attempt last failed, also if nobody got any time since.
    pub(crate) latest_failure: Time,
    pub(crate) streak_since: Time,
    /// Successes that count for the end of a probation: since some time after the last failure.
    proven: u32,
    /// From when on they count.
    pub(crate) proves_from: Time,
    /// When the latest of them was that were too few.
    unproven: Time,
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
    /// Of the state.
    pub(crate) deadline: Layers<Option<Time>>,
    /// With the time since when, and so has the limit.
    pub(crate) weight: Layers<Option<(u32, Time)>>,
    pub(crate) limit: Layers<Option<(u32, Time)>>,
}

/// All that was ever said of a thing, in the order in which it was heard.
#[derive(Clone, Default)]
pub(crate) struct Layers<T> {
    words: Vec<Word<T>>,
}

#[derive(Clone, Copy)]
struct Word<T> {
    value: T,
    until: Option<Time>,
    said_at: SaidAt,
    is_over: bool,
}

impl<T: Copy + Default> Layers<T> {
    pub(crate) fn say(&mut self, value: T, until: Option<Time>, said_at: SaidAt) {
        self.words.push(Word { value, until, said_at, is_over: false });
    }

    /// Whether a word is older than the one that it would replace.
    pub(crate) fn is_late(&self, has_end: bool, said_at: SaidAt) -> bool {
        let replaced = if has_end { self.latest() } else { self.stands() };
        replaced.is_some_and(|replaced| replaced.said_at > said_at)
    }

    /// The one that was said last, which need not be the one that was heard last.
    fn latest(&self) -> Option<&Word<T>> {
        self.words.iter().max_by_key(|word| word.said_at)
    }

    fn stands(&self) -> Option<&Word<T>> {
        let lasting = self.words.iter().filter(|word| word.until.is_none());
        lasting.max_by_key(|word| word.said_at)
    }

    /// Of several for a while, only the last counts: not even what it cut short comes back.
    fn on_top(&self) -> Option<(T, Time)> {
        let latest = self.latest().filter(|word| !word.is_over)?;
        Some((latest.value, latest.until?))
    }

    /// Whether something has ended.
    pub(crate) fn end(&mut self, now: Time) -> bool {
        let ends = self.on_top().is_some_and(|(_, until)| until <= now);
        if let Some(latest) = self.words.iter_mut().max_by_key(|word| word.said_at) {
            latest.is_over |= ends;
        }
        ends
    }

    pub(crate) fn now(&self) -> T {
        let stands = self.stands().map(|word| word.value).unwrap_or_default();
        self.on_top().map_or(stands, |(value, _)| value)
    }

    /// What will be in force at a time, if nobody says anything until then.
    pub(crate) fn at(&self, time: Time) -> T {
        let on_top = self.on_top().filter(|(_, until)| *until > time);
        on_top.map_or(self.stands().map(|word| word.value).unwrap_or_default(), |(value, _)| value)
    }

    /// What it goes back to, if it does, and when.
    pub(crate) fn then(&self) -> Option<(T, Time)> {
        let (_, until) = self.on_top()?;
        Some((self.stands().map(|word| word.value).unwrap_or_default(), until))
    }

    /// When what stands was said, and the latest word of all.
    pub(crate) fn said(&self) -> Said {
        let at = |word: &Word<T>| word.said_at;
        Said { standing: self.stands().map(at), latest: self.latest().map(at) }
    }
}

impl Intent {
    /// Takes in a change that was not refused.
    pub(crate) fn hear(&mut self, change: &Change, now: Time) {
        let (until, said_at) = (change.ttl.map(|ttl| now + ttl), change.said_at.unwrap());
        if let Some(state) = change.state {
            self.admin.say(state, until, said_at);
            let deadline = change.deadline.filter(|_| state != Admin::Ready);
            self.deadline.say(deadline.map(|deadline| now + deadline), until, said_at);
        }
        if let Some(weight) = change.weight {
            self.weight.say(Some((weight, now)), until, said_at);
        }
        if let Some(limit) = change.max_in_flight {
            self.limit.say(Some((limit, now)), until, said_at);
        }
    }

    /// When its state or weight goes back to what stands.
    fn ends(&self) -> impl Iterator<Item = Time> {
        let state = self.admin.then().map(|(_, end)| end);
        state.into_iter().chain(self.weight.then().map(|(_, end)| end))
    }

    /// Whether it is kept for a backend that left: an older word may still come.
    pub(crate) fn is_kept(&self) -> bool {
        let Self { admin, weight, limit, .. } = self;
        [admin.said(), weight.said(), limit.said()].iter().any(|said| said.latest.is_some())
    }
}

/// How long the pool keeps what operators want of a backend that left.
const INTENT_KEPT: Duration = Duration::from_secs(60 * 60);

/// More failures than that are of no more interest.
const FAILED_MOST: usize = 64;

/// The part of a window after which a failure holds up no probation any more: all of it, if its share
/// speaks against the backend and the pool cannot do without that, and two samples.
const HELD_UP: f64 = 1.25;

impl Shadow {
    /// What is kept of one that was missing from a look-up: how it was ejected.
    pub(crate) fn after_absence(self, plan: &EjectionPlan, now: Time) -> Self {
        let Self { out_since, out_until, back, unforgiven, .. } = self;
        let mut new = Self { out_since, out_until, back, unforgiven, ..Self::default() };
        new.prove_anew(plan, now);
        new
    }

    /// Takes in what counts for the end of a probation, which so many successes bring.
    pub(crate) fn prove(&mut self, outcome: Outcome, plan: &EjectionPlan, now: Time) {
        let needed = if plan.consecutive > 0 { plan.consecutive } else { 5 };
        match outcome {
            Outcome::Success if now >= self.proves_from => self.proven += 1,
            Outcome::Failure => self.prove_anew(plan, now),
            Outcome::Success | Outcome::Unknown => {}
        }
        if self.proven <= needed {
            self.unproven = now;
        }
    }

    /// What succeeded so far does not count.
    pub(crate) fn prove_anew(&mut self, plan: &EjectionPlan, now: Time) {
        (self.proven, self.proves_from) = (0, now + plan.window.mul_f64(HELD_UP));
    }

    /// Whether a probation must be over.
    pub(crate) fn is_proven(&self, plan: &EjectionPlan, now: Time) -> bool {
        let needed = if plan.consecutive > 0 { plan.consecutive } else { 5 };
        let is_sampled = now.since(self.unproven) > plan.window / 5;
        self.proven > needed && is_sampled
    }

    /// Takes in the end of an attempt.
    pub(crate) fn note(&mut self, outcome: Outcome, now: Time) {
        match outcome {
            Outcome::Success => self.streak = 0,
            Outcome::Failure => {
                if self.streak == 0 {
                    self.streak_since = now;
                }
                self.streak += 1;
                self.latest_failure = now;
                self.failed.push_back(now);
                if self.failed.len() > FAILED_MOST {
                    self.failed.pop_front();
                }
            }
            Outcome::Unknown => {}
        }
    }
}

impl World {
    /// Whether nobody whom operators have left in service is well any more from some time on, because
    /// of what is wanted of one in place of what was.
    pub(crate) fn leaves_nobody(&self, name: &str, before: &Intent, after: &Intent) -> bool {
        let view = self.pool.view();
        let none = Intent::default();
        let of = |backend: &BackendView| self.intents.get(backend.id.as_str()).unwrap_or(&none);
        let is_well = |backend: &&BackendView| {
            let shadow = &self.shadow[&(backend.id.to_string(), backend.member.generation())];
            let is_usable = matches!(backend.health, Health::Up | Health::Degraded);
            let is_known = of(backend).admin.now() != Admin::Maint && shadow.is_up;
            is_usable && is_known && !self.told[backend.id.as_str()].is_terminating
        };
        let well: Vec<&BackendView> = view.backends.iter().filter(is_well).collect();
        let serves = |backend: &BackendView, intent: &Intent, time| {
            let usual = self.told[backend.id.as_str()].weight;
            let weight = intent.weight.at(time).map_or(usual, |(weight, _)| weight);
            intent.admin.at(time) == Admin::Ready && weight > 0
        };
        let able = self.able();
        let serving = || able.values().chain(self.leaving.values().map(|(name, _)| name));
        let weight = after.weight.now().map_or(self.told[name].weight, |(weight, _)| weight);
        let goes = after.admin.now() != Admin::Ready || weight == 0;
        if goes && serving().next().is_some() && serving().all(|other| other == name) {
            return true;
        }
        let Some(own) = well.iter().find(|backend| backend.id.as_str() == name) else {
            return false;
        };
        let others = || well.iter().filter(|backend| backend.id != own.id);
        let ends = others().flat_map(|backend| of(backend).ends());
        let mut times = ends.chain(before.ends()).chain(after.ends()).chain([self.now]);
        times.any(|time| {
            let goes = serves(own, before, time) && !serves(own, after, time);
            goes && !others().any(|backend| serves(backend, of(backend), time))
        })
    }

    /// The model's own reading of rise and fall.
    pub(crate) fn count(&mut self, name: &str, generation: u64, passed: bool) {
        if self.intents.get(name).is_some_and(|intent| intent.admin.now() == Admin::Maint) {
            return;
        }
        // Where nobody can serve, the first pass brings back who was up before.
        let is_needed = self.able().is_empty() && !self.is_unwanted(name);
        let now = self.now;
        let Some(shadow) = self.shadow.get_mut(&(name.to_owned(), generation)) else { return };
        let is_back_at_once = is_needed && shadow.was_up.is_some();
        let rise = if is_back_at_once { 1 } else { self.plan.rise };
        if passed {
            (shadow.passes, shadow.failures) = (shadow.passes + 1, 0);
        } else {
            (shadow.passes, shadow.failures) = (0, shadow.failures + 1);
        }
        let event = if shadow.is_up && shadow.failures >= self.plan.fall {
            (shadow.is_up, shadow.has_verdict, shadow.was_up) = (false, true, Some(now));
            shadow.warm_since = None;
            Some("down")
        } else if !shadow.has_verdict && shadow.passes >= 1 {
            (shadow.is_up, shadow.has_verdict) = (true, true);
            shadow.warm_since = Some((now, true));
            Some("first up")
        } else if !shadow.has_verdict && shadow.failures >= self.plan.fall {
            shadow.has_verdict = true;
            Some("never up")
        } else if shadow.has_verdict && !shadow.is_up && shadow.passes >= rise {
            // It may be another process: what failed before says nothing of it.
            (shadow.is_up, shadow.streak, shadow.tripped) = (true, 0, None);
            shadow.warm_since = Some((now, true));
            shadow.prove_anew(&self.ejection, now);
            shadow.ejections += 1;
            Some(if is_back_at_once { "up at the first pass" } else { "up again" })
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
        let is_blind = self.blind_since.is_some();
        gone.retain(|_, since| is_blind || self.now.since(*since) < INTENT_KEPT);
        let (told, gone) = (&self.told, &self.gone);
        self.intents.retain(|name, _| told.contains_key(name) || gone.contains_key(name));
        if self.wanted.end(self.now) {
            self.coverage.see(match self.wanted.now() {
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
            intent.deadline.end(self.now);
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
