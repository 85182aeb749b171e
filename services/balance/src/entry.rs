//! A backend as the pool keeps it: what discovery found, what an operator wants, what we observe,
//! and what comes of the three.

use std::{sync::Arc, time::Duration};

use crate::{
    admin::Admin,
    backend::{Found, Member},
    degraded::Degraded,
    ejection::Ejection,
    health::{Health, HealthState},
    intent::{self, Intent},
    pool::STEPS,
    rung::Rung,
    tier::{Serving, Stand},
    time::Time,
    view::{BackendView, Effective, LastProbe},
};

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) found: Found,
    /// Its place in the list that discovery gave.
    pub(crate) place: usize,
    pub(crate) member: Arc<Member>,
    /// What of it is still under way from before it left and came back.
    pub(crate) before: Vec<Arc<Member>>,
    pub(crate) arrived: Time,
    pub(crate) intent: Intent,
    /// What probes say.
    pub(crate) health: HealthState,
    /// What requests say.
    pub(crate) ejection: Ejection,
    /// What it says of itself.
    pub(crate) degraded: Option<Degraded>,
    /// Since when it is up or degraded without a break, as far as slow start is concerned.
    pub(crate) up_since: Option<Time>,
    /// The tenths of its weight that it has climbed to.
    pub(crate) climbed: u32,
    pub(crate) drained_told: bool,
}

impl Entry {
    /// Requests in flight, with those from before it came back.
    pub(crate) fn in_flight(&self) -> u32 {
        self.all_members().map(|member| member.in_flight()).sum()
    }

    /// Upgraded connections and the like, with those from before it came back.
    pub(crate) fn tunnels(&self) -> u32 {
        self.all_members().map(|member| member.tunnels()).sum()
    }

    /// Has its tunnels ended, or not. True if that is news for some of them.
    pub(crate) fn set_must_end_tunnels(&self, must: bool) -> bool {
        self.all_members().filter(|one| one.set_must_end_tunnels(must)).count() > 0
    }

    pub(crate) fn must_end_tunnels(&self) -> bool {
        self.all_members().all(|member| member.must_end_tunnels())
    }

    pub(crate) fn all_members(&self) -> impl Iterator<Item = &Arc<Member>> {
        std::iter::once(&self.member).chain(&self.before)
    }

    pub(crate) fn weight(&self) -> u32 {
        self.intent.weight(self.found.weight)
    }

    /// Whether it may get requests as far as operators and discovery are concerned.
    pub(crate) fn is_in_service(&self) -> bool {
        self.is_wanted() && self.found.addresses.is_ok()
    }

    /// Whether operators let it get requests, however it is doing.
    pub(crate) fn is_wanted(&self) -> bool {
        self.intent.wants_traffic(self.found.weight)
    }

    /// Where it stands on the ladder, if it may get requests at all.
    pub(crate) fn rung(&self) -> Option<Rung> {
        self.rung_by_health().filter(|_| self.is_in_service())
    }

    fn rung_by_health(&self) -> Option<Rung> {
        match self.observed() {
            Health::Checking | Health::Down => None,
            _ if self.found.is_terminating => Some(Rung::Terminating),
            Health::Up => Some(Rung::Up),
            Health::Degraded => Some(Rung::Degraded),
            Health::Ejected => Some(Rung::Ejected),
        }
    }

    /// Where it stands, for finding out who serves.
    pub(crate) fn stand(&self) -> Stand {
        Stand {
            rung: self.rung(),
            tier: self.found.tier,
            weight: capacity(self.weight(), &self.found),
            climbed: self.climbed,
        }
    }

    /// Where it would stand with another intent. Coming back from maintenance it would have to pass
    /// its probes first; what is asked about is the time when it has.
    pub(crate) fn stand_with(&self, intent: &Intent) -> Stand {
        let may_serve = intent.wants_traffic(self.found.weight) && self.found.addresses.is_ok();
        let rung = match self.intent.admin() {
            Admin::Maint if self.found.is_terminating => Some(Rung::Terminating),
            Admin::Maint => Some(Rung::Up),
            Admin::Ready | Admin::Drain => self.rung_by_health(),
        };
        Stand {
            rung: rung.filter(|_| may_serve),
            tier: self.found.tier,
            weight: capacity(intent.weight(self.found.weight), &self.found),
            climbed: STEPS,
        }
    }

    /// Whether it keeps the visitors that it has while it gets no new ones: it can serve, and is being
    /// drained, until the deadline of that, or it asks to be spared.
    pub(crate) fn keeps_visitors(&self, serving: Serving, now: Time) -> bool {
        let is_spared = self.found.tier <= serving.tier && !self.is_member(serving);
        let is_kept = self.is_left_to_visitors(now) || (self.is_wanted() && is_spared);
        is_kept && self.is_usable_by_health()
    }

    /// Whether operators have taken it out and leave it the visitors that it has.
    pub(crate) fn is_left_to_visitors(&self, now: Time) -> bool {
        match self.intent.admin() {
            Admin::Maint => false,
            Admin::Drain => self.intent.stated().deadline.is_none_or(|deadline| deadline > now),
            Admin::Ready => self.weight() == 0,
        }
    }

    /// Until when its drain waits for visitors, if none comes any more: until none has come for as
    /// long as `idle`, or until the deadline. None if it does not wait.
    pub(crate) fn visitors_until(&self, idle: Duration, now: Time) -> Option<Time> {
        let until = self.quiet_since() + idle;
        let until = self.intent.stated().deadline.map_or(until, |deadline| until.min(deadline));
        (self.may_be_visited(now) && until > now).then_some(until)
    }

    /// Whether it is left to visitors, and they can come, for all that is known of it: before its first
    /// probe that is nothing.
    pub(crate) fn may_be_visited(&self, now: Time) -> bool {
        let is_able = self.is_usable_by_health() || self.observed() == Health::Checking;
        is_able && self.is_left_to_visitors(now)
    }

    /// Since when no visitor has come, as far as one can know. Whoever came to it for the first time
    /// before it was taken out, or before we knew it, may not have come back yet.
    fn quiet_since(&self) -> Time {
        let taken_out = match self.intent.admin() {
            Admin::Ready => self.intent.weight.current().set.as_ref().map(|set| set.since),
            Admin::Drain | Admin::Maint => Some(self.intent.stated().since),
        };
        let latest = taken_out.max(self.member.last_visit());
        latest.map_or(self.arrived, |latest| latest.max(self.arrived))
    }

    /// Whether it could serve without being the last resort, if operators let it.
    pub(crate) fn is_usable_by_health(&self) -> bool {
        self.rung_by_health().is_some_and(|rung| rung <= Rung::Degraded)
    }

    /// Whether it can serve without being the last resort.
    pub(crate) fn is_usable(&self) -> bool {
        self.rung().is_some_and(|rung| rung <= Rung::Degraded)
    }

    /// Whether it can serve at a time, without being the last resort, with such an intent and if it
    /// stays as well as it is. How well one is that is in maintenance nobody knows.
    pub(crate) fn would_be_usable(&self, intent: &Intent, time: Time) -> bool {
        self.intent.admin() != Admin::Maint
            && self.is_usable_by_health()
            && intent.wants_traffic_at(self.found.weight, time)
    }

    /// What comes of probes and requests together.
    pub(crate) fn observed(&self) -> Health {
        match self.health.health {
            _ if self.found.addresses.is_err() => Health::Down,
            Health::Up if self.ejection.is_out() => Health::Ejected,
            Health::Up if self.degraded.is_some() => Health::Degraded,
            health => health,
        }
    }

    pub(crate) fn is_probed(&self) -> bool {
        self.intent.admin() != Admin::Maint && self.found.addresses.is_ok()
    }

    /// Whether it serves.
    pub(crate) fn is_member(&self, serving: Serving) -> bool {
        serving.includes(self.rung(), self.found.tier)
    }

    /// What comes of it while those serve, where `is_awaited` if its drain waits for visitors.
    pub(crate) fn effective(&self, serving: Serving, is_awaited: bool) -> Effective {
        let is_done = self.in_flight() == 0 && !is_awaited;
        match (self.intent.admin(), self.observed()) {
            (Admin::Maint, _) => Effective::Maint,
            (Admin::Drain, _) if is_done => Effective::Drained,
            (Admin::Drain, _) => Effective::Draining,
            (Admin::Ready, _) if self.is_member(serving) => Effective::Serving,
            (Admin::Ready, Health::Checking) => Effective::Checking,
            (Admin::Ready, Health::Down) => Effective::Down,
            (Admin::Ready, Health::Ejected) => Effective::Ejected,
            (Admin::Ready, _) if self.weight() == 0 && is_done => Effective::Drained,
            (Admin::Ready, _) if self.weight() == 0 => Effective::Draining,
            (Admin::Ready, _) if self.found.is_terminating => Effective::Terminating,
            (Admin::Ready, Health::Degraded) => Effective::Degraded,
            (Admin::Ready, Health::Up) => Effective::Standby,
        }
    }

    fn reasons(&self, effective: Effective) -> Vec<String> {
        let mut reasons = Vec::new();
        let stated = self.intent.stated();
        if stated.state != Admin::Ready {
            let who = stated.actor.as_deref().map(|a| format!(" by {a}")).unwrap_or_default();
            let why = stated.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
            reasons.push(format!("set to {}{who}{why}", stated.state.as_str()));
        }
        let health = self.observed();
        if self.found.is_terminating {
            reasons.push("its source says that it is going away".to_owned());
        }
        if let Err(error) = &self.found.addresses {
            reasons.push(error.clone());
        } else if self.intent.admin() != Admin::Maint && health != Health::Up {
            reasons.push(format!("{}: {}", health.as_str(), self.health_reason()));
        }
        if self.weight() == 0 {
            reasons.push("its weight is 0".to_owned());
        }
        if effective == Effective::Standby {
            reasons.push(format!("stands by in tier {}: those above have enough", self.found.tier));
        }
        reasons
    }

    /// What its outcomes said so far says nothing from now on.
    pub(crate) fn forget_outcomes(&mut self, streak_limit: u32, now: Time) {
        self.member.begin_term();
        self.member.set_streak_limit(streak_limit);
        self.ejection = Ejection::new(self.member.counts(), now);
    }

    /// Why it is what it is observed to be, in words.
    fn health_reason(&self) -> String {
        match (&self.found.addresses, self.ejection.out()) {
            (Err(error), _) => error.clone(),
            (Ok(_), Some((since, until, text))) if self.health.health == Health::Up => {
                let seconds = until.since(since).as_secs_f64();
                format!("{text}; out for {seconds:.0} s, then on probation")
            }
            (Ok(_), None) if self.observed() == Health::Degraded => match &self.degraded {
                Some(degraded) => degraded.reason.clone(),
                None => self.health.reason.clone(),
            },
            (Ok(_), None) if self.ejection.is_on_probation() => {
                format!("{}; on probation after an ejection", self.health.reason)
            }
            (Ok(_), _) => self.health.reason.clone(),
        }
    }

    /// A backend that stays. If its name stopped resolving, the last good addresses stay too.
    pub(crate) fn updated(mut self, found: Found) -> Self {
        match (&found.addresses, &self.found.addresses) {
            (Err(_), Ok(_)) => {
                self.found.weight = found.weight;
                self.found.tier = found.tier;
                self.found.is_terminating = found.is_terminating;
                self.found.instance = found.instance;
            }
            (addresses, _) => {
                self.member.set_addresses(addresses.clone().unwrap_or_default());
                self.found = found;
            }
        }
        self
    }

    /// The backend as people see it while those serve, where `max_in_flight` is the usual limit and
    /// its drain waits for visitors until `visitors_until`.
    pub(crate) fn view(
        &self,
        serving: Serving,
        max_in_flight: Option<u32>,
        visitors_until: Option<Time>,
    ) -> BackendView {
        let effective = self.effective(serving, visitors_until.is_some());
        let Self { found, member, intent, health, .. } = self;
        let stated = intent.stated();
        let observed = self.observed();
        let out = self.ejection.out().filter(|_| observed == Health::Ejected);
        let degraded = self.degraded.as_ref().filter(|_| observed == Health::Degraded);
        let span = out
            .map(|(since, until, _)| (since, until))
            .or(degraded.map(|degraded| (degraded.since, degraded.until)));
        BackendView {
            id: found.id.clone(),
            member: Arc::clone(member),
            in_flight: self.in_flight(),
            tunnels: self.tunnels(),
            addresses: member.addresses(),
            weight: self.weight(),
            tier: found.tier,
            max_in_flight: member.limit(),
            configured_max_in_flight: max_in_flight,
            max_in_flight_set: intent.max_in_flight.current().set.clone(),
            max_in_flight_wanted: intent.max_in_flight.current().number,
            max_in_flight_expires: intent.max_in_flight.expires(),
            max_in_flight_reverts_to: intent
                .max_in_flight
                .reverts_to()
                .and_then(|standing| intent::limit(standing.number, max_in_flight)),
            max_in_flight_said: intent.max_in_flight.said,
            climbed_percent: 100 * self.climbed / STEPS,
            admin: stated.state,
            admin_since: stated.since,
            admin_forced: stated.forced,
            admin_reason: stated.reason.clone(),
            admin_actor: stated.actor.clone(),
            admin_expires: intent.state.expires(),
            admin_reverts_to: intent.state.reverts_to().cloned(),
            admin_said: intent.state.said,
            deadline: stated.deadline,
            visitors_until,
            configured_weight: found.weight,
            weight_wanted: intent.weight.current().number,
            weight_set: intent.weight.current().set.clone(),
            weight_expires: intent.weight.expires(),
            weight_reverts_to: intent
                .weight
                .reverts_to()
                .map(|standing| standing.number.unwrap_or(found.weight)),
            weight_said: intent.weight.said,
            health: observed,
            health_since: span.map_or(health.since, |(since, _)| since),
            health_until: span.map(|(_, until)| until),
            health_reason: self.health_reason(),
            is_terminating: found.is_terminating,
            instance: found.instance.clone(),
            effective,
            eligible: self.is_member(serving),
            reasons: self.reasons(effective),
            last_probe: health.last.as_ref().map(|(at, result)| LastProbe {
                at: *at,
                result: result.clone(),
                streak: health.passes.max(health.failures),
            }),
        }
    }
}

/// Whether a look-up's finding is the backend that an earlier one found by this name: its instance is
/// the same, where the source tells instances apart, or at least one address, unless one of the two
/// look-ups told none.
pub(crate) fn is_same_instance(before: &Found, now: &Found) -> bool {
    if let (Some(before), Some(now)) = (&before.instance, &now.instance) {
        return before == now;
    }
    match (&before.addresses, &now.addresses) {
        (Ok(before), Ok(now)) => now.iter().any(|address| before.contains(address)),
        (Err(_), _) | (_, Err(_)) => true,
    }
}

/// What a backend can do when it is well. With weight 0 it is out for the moment, and what it could
/// do is what is configured.
fn capacity(weight: u32, found: &Found) -> u32 {
    if weight > 0 { weight } else { found.weight }
}
