//! What operators want of one backend: what stands, and what lies on top of it for a while.
//!
//! A change without an end is the standing one. A change with an end is an override: it leaves
//! what stands as it is, and at its end that is in force again, so that a drain of ten minutes does
//! not bring a backend back from maintenance. One that is changed again before its end has only the
//! new override; a change without an end replaces both. State, weight and limit are apart in all of
//! this: a weight for ten minutes ends by itself and has no say in the state.

use crate::{
    admin::{Admin, Change},
    backend::BackendId,
    said::{Said, SaidAt},
    time::Time,
};

/// A thing that stands, and another one on top of it until a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overridable<T> {
    /// What stands.
    pub standing: T,
    /// What is in force instead, and until when.
    pub on_top: Option<(T, Time)>,
    /// When both were said.
    pub said: Said,
}

/// A state, and the words of whoever wanted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// The state.
    pub state: Admin,
    /// Since when it is wanted.
    pub since: Time,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who, as far as we know.
    pub actor: Option<String>,
    /// Whether it was to be done even if too few backends are left: so whoever is told of it later has
    /// to do it, too.
    pub forced: bool,
    /// When upgraded connections are to end, and the visits that a drain leaves. Those go on after a
    /// restart, so that it outlives one.
    pub deadline: Option<Time>,
}

/// A weight or a limit, and the words of whoever wanted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbered {
    /// A number instead of the configured one.
    pub number: Option<u32>,
    /// Who set it, be it back to the configured one; none if nobody did, or if an earlier version
    /// wrote it down.
    pub set: Option<SetBy>,
}

/// Who set something, why, and since when. Who shows several proxies needs it to tell the newest word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetBy {
    /// Since when.
    pub since: Time,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who, as far as we know.
    pub actor: Option<String>,
    /// As of a state; never of what takes nobody out.
    pub forced: bool,
}

/// The intent for one backend, as it is kept over a restart of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingIntent {
    /// The backend.
    pub id: BackendId,
    /// The state.
    pub state: Overridable<Stated>,
    /// The weight.
    pub weight: Overridable<Numbered>,
    /// The limit of requests in flight; 0 is none.
    pub max_in_flight: Overridable<Numbered>,
}

/// The same, as the pool keeps it with the backend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intent {
    pub(crate) state: Overridable<Stated>,
    pub(crate) weight: Overridable<Numbered>,
    pub(crate) max_in_flight: Overridable<Numbered>,
}

impl<T> Overridable<T> {
    /// What is in force.
    #[must_use]
    pub fn current(&self) -> &T {
        self.on_top.as_ref().map_or(&self.standing, |(value, _)| value)
    }

    /// What will be in force at a time, if nobody says anything until then.
    pub(crate) fn at(&self, time: Time) -> &T {
        match &self.on_top {
            Some((value, until)) if *until > time => value,
            _ => &self.standing,
        }
    }

    /// When what stands is in force again, if it is not.
    #[must_use]
    pub fn expires(&self) -> Option<Time> {
        self.on_top.as_ref().map(|(_, until)| *until)
    }

    /// What will be in force then.
    #[must_use]
    pub fn reverts_to(&self) -> Option<&T> {
        self.on_top.as_ref().map(|_| &self.standing)
    }

    /// Puts a value on top, or, without an end, in place of both; but not in place of what lies on
    /// top and was said after it.
    pub(crate) fn set(&mut self, value: T, until: Option<Time>, said_at: Option<SaidAt>) {
        match until {
            Some(until) => self.on_top = Some((value, until)),
            None if self.said.is_before(said_at) => (self.standing, self.on_top) = (value, None),
            None => self.standing = value,
        }
        self.said.hear(said_at, until.is_some());
    }

    pub(crate) fn end(&mut self, now: Time) {
        self.on_top.take_if(|(_, until)| *until <= now);
    }
}

impl Intent {
    /// The intent of a backend of which nobody has wanted anything.
    pub(crate) fn none(now: Time) -> Self {
        let mut intent = Self::default();
        intent.state.standing.since = now;
        intent
    }

    pub(crate) fn kept(&self, id: &BackendId) -> StandingIntent {
        let Self { state, weight, max_in_flight } = self.clone();
        StandingIntent { id: id.clone(), state, weight, max_in_flight }
    }

    /// The state in force, and whose it is.
    pub(crate) fn stated(&self) -> &Stated {
        self.state.current()
    }

    /// The state in force.
    pub(crate) fn admin(&self) -> Admin {
        self.stated().state
    }

    /// The weight in force where `configured` is the usual one.
    pub(crate) fn weight(&self, configured: u32) -> u32 {
        self.weight.current().number.unwrap_or(configured)
    }

    /// Whether it lets the backend get requests, where `configured` is the usual weight.
    pub(crate) fn wants_traffic(&self, configured: u32) -> bool {
        self.admin() == Admin::Ready && self.weight(configured) > 0
    }

    /// Whether it will let it at a time, if nobody says anything until then.
    pub(crate) fn wants_traffic_at(&self, configured: u32, time: Time) -> bool {
        let weight = self.weight.at(time).number.unwrap_or(configured);
        self.state.at(time).state == Admin::Ready && weight > 0
    }

    /// From when on that may be another answer, in order: now, and when parts of it end.
    pub(crate) fn turns(&self, now: Time) -> impl Iterator<Item = Time> + use<> {
        let ends = [self.state.expires(), self.weight.expires()];
        let mut turns = [Some(now), ends[0].max(Some(now)), ends[1].max(Some(now))];
        turns.sort_unstable();
        turns.into_iter().flatten()
    }

    /// The limit of requests in flight in force where `configured` is the usual one.
    pub(crate) fn limit(&self, configured: Option<u32>) -> Option<u32> {
        limit(self.max_in_flight.current().number, configured)
    }

    /// The intent after a change.
    pub(crate) fn changed(&self, change: &Change, now: Time) -> Self {
        let mut intent = self.clone();
        let until = change.ttl.map(|ttl| now + ttl);
        if let Some(state) = change.state {
            let before = self.stated();
            let deadline = change.deadline.filter(|_| state != Admin::Ready);
            let stated = Stated {
                state,
                since: if state == before.state { before.since } else { now },
                reason: change.reason.clone(),
                actor: change.actor.clone(),
                forced: change.force,
                deadline: deadline.map(|deadline| now + deadline),
            };
            intent.state.set(stated, until, change.said_at);
        }
        let numbered = |number, forced| {
            let Change { reason, actor, .. } = change.clone();
            Numbered { number, set: Some(SetBy { since: now, reason, actor, forced }) }
        };
        if let Some(weight) = change.weighs() {
            intent.weight.set(numbered(weight, change.force), until, change.said_at);
        }
        if let Some(limit) = change.limits() {
            intent.max_in_flight.set(numbered(limit, false), until, change.said_at);
        }
        intent
    }

    /// When the newest word was said that a change is too old to replace.
    pub(crate) fn newer(&self, change: &Change) -> Option<SaidAt> {
        let (said_at, has_end) = (change.said_at?, change.ttl.is_some());
        let replaced = [
            change.state.map(|_| self.state.said),
            change.weighs().map(|_| self.weight.said),
            change.limits().map(|_| self.max_in_flight.said),
        ];
        replaced.into_iter().flatten().filter_map(|said| said.newer(said_at, has_end)).max()
    }

    /// When the next part of it ends.
    pub(crate) fn next_end(&self) -> Option<Time> {
        let ends = [self.state.expires(), self.weight.expires(), self.max_in_flight.expires()];
        ends.into_iter().flatten().min()
    }

    /// The intent without the parts that have ended.
    pub(crate) fn ended(&self, now: Time) -> Self {
        let mut intent = self.clone();
        intent.state.end(now);
        intent.weight.end(now);
        intent.max_in_flight.end(now);
        intent
    }

    /// Whether there is anything to keep over a restart, or for a backend that is gone. That somebody
    /// wants the usual is something too: an older word to the contrary may still come.
    pub(crate) fn is_special(&self) -> bool {
        let Self { state, weight, max_in_flight } = self;
        let said = [state.said, weight.said, max_in_flight.said];
        said.iter().any(|said| said.latest.is_some())
            || self.next_end().is_some()
            || state.standing.state != Admin::Ready
            || weight.standing.number.is_some()
            || max_in_flight.standing.number.is_some()
    }

    /// All that is in force, in words.
    pub(crate) fn describe(&self) -> String {
        let mut parts =
            vec![self.admin().as_str().to_owned(), describe_weight(self.weight.current().number)];
        let limit = self.max_in_flight.current().number;
        parts.extend(limit.map(|limit| describe_limit(Some(limit))));
        parts.join(", ")
    }

    /// What a change made of the intent `before` it, in words.
    pub(crate) fn describe_change(&self, before: &Self, change: &Change) -> String {
        let (state, was) = (self.admin().as_str(), before.admin().as_str());
        let (weight, limit) = (self.weight.current().number, self.max_in_flight.current().number);
        let mut parts = Vec::new();
        if state != was {
            parts.push(format!("{state} (was {was})"));
        }
        if weight != before.weight.current().number {
            parts.push(describe_weight(weight));
        }
        if limit != before.max_in_flight.current().number {
            parts.push(describe_limit(limit));
        }
        if parts.is_empty() {
            parts.push(format!("still {state}"));
        }
        let mut text = parts.join(", ");
        if let Some(ttl) = change.ttl {
            let mut then = Vec::new();
            then.extend(change.state.map(|_| self.state.standing.state.as_str().to_owned()));
            then.extend(change.weighs().map(|_| describe_weight(self.weight.standing.number)));
            let standing = self.max_in_flight.standing.number;
            then.extend(change.limits().map(|_| describe_limit(standing)));
            text.push_str(&format!(" for {} s, then {}", ttl.as_secs_f64(), then.join(", ")));
        }
        if let Some(reason) = &change.reason {
            text.push_str(&format!(": {reason}"));
        }
        text
    }
}

/// The limit in force where an operator `wanted` this and `configured` is the usual one.
pub(crate) fn limit(wanted: Option<u32>, configured: Option<u32>) -> Option<u32> {
    match wanted {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => configured,
    }
}

fn describe_weight(weight: Option<u32>) -> String {
    weight.map_or("configured weight".to_owned(), |weight| format!("weight {weight}"))
}

fn describe_limit(limit: Option<u32>) -> String {
    match limit {
        None => "configured limit".to_owned(),
        Some(0) => "no limit of requests in flight".to_owned(),
        Some(limit) => format!("at most {limit} in flight"),
    }
}

impl From<StandingIntent> for Intent {
    fn from(kept: StandingIntent) -> Self {
        let StandingIntent { id: _, state, weight, max_in_flight } = kept;
        Self { state, weight, max_in_flight }
    }
}
