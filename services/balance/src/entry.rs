//! A backend as the pool keeps it: what discovery found, what an operator wants, what we observe,
//! and what comes of the three.

use std::sync::Arc;

use crate::{
    admin::{Admin, Intent},
    backend::{Found, Member},
    ejection::Ejection,
    health::{Health, HealthState},
    time::Time,
    view::{BackendView, Effective, LastProbe},
};

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) found: Found,
    /// Its place in the list that discovery gave.
    pub(crate) place: usize,
    pub(crate) member: Arc<Member>,
    pub(crate) intent: Intent,
    /// What probes say.
    pub(crate) health: HealthState,
    /// What requests say.
    pub(crate) ejection: Ejection,
    pub(crate) drained_told: bool,
}

impl Entry {
    pub(crate) fn weight(&self) -> u32 {
        self.intent.weight.unwrap_or(self.found.weight)
    }

    /// Whether it may get requests as far as operators and discovery are concerned.
    pub(crate) fn is_in_service(&self) -> bool {
        self.intent.state == Admin::Ready && self.found.addresses.is_ok() && self.weight() > 0
    }

    pub(crate) fn is_eligible(&self) -> bool {
        self.is_in_service() && self.observed() == Health::Up
    }

    /// What comes of probes and requests together.
    pub(crate) fn observed(&self) -> Health {
        match self.health.health {
            _ if self.found.addresses.is_err() => Health::Down,
            Health::Up if self.ejection.is_out() => Health::Ejected,
            health => health,
        }
    }

    pub(crate) fn is_probed(&self) -> bool {
        self.intent.state != Admin::Maint && self.found.addresses.is_ok()
    }

    pub(crate) fn effective(&self) -> Effective {
        match (self.intent.state, self.observed()) {
            (Admin::Maint, _) => Effective::Maint,
            (Admin::Drain, _) if self.member.in_flight() > 0 => Effective::Draining,
            (Admin::Drain, _) => Effective::Drained,
            (Admin::Ready, Health::Checking) => Effective::Checking,
            (Admin::Ready, Health::Down) => Effective::Down,
            (Admin::Ready, Health::Ejected) => Effective::Ejected,
            (Admin::Ready, Health::Up) if self.weight() > 0 => Effective::Serving,
            (Admin::Ready, Health::Up) if self.member.in_flight() > 0 => Effective::Draining,
            (Admin::Ready, Health::Up) => Effective::Drained,
        }
    }

    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.intent.state != Admin::Ready {
            let who = self.intent.actor.as_deref().map(|a| format!(" by {a}")).unwrap_or_default();
            let why = self.intent.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
            reasons.push(format!("set to {}{who}{why}", self.intent.state.as_str()));
        }
        let health = self.observed();
        if let Err(error) = &self.found.addresses {
            reasons.push(error.clone());
        } else if self.intent.state != Admin::Maint && health != Health::Up {
            reasons.push(format!("{}: {}", health.as_str(), self.health_reason()));
        }
        if self.weight() == 0 {
            reasons.push("its weight is 0".to_owned());
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
            (Ok(_), None) if self.ejection.is_on_probation() => {
                format!("{}; on probation after an ejection", self.health.reason)
            }
            (Ok(_), _) => self.health.reason.clone(),
        }
    }

    /// Whether a look-up's finding is the backend that we know: its name is, and at least one address,
    /// unless one of the two look-ups told none.
    pub(crate) fn is_same_instance(&self, found: &Found) -> bool {
        match (&self.found.addresses, &found.addresses) {
            (Ok(before), Ok(now)) => now.iter().any(|address| before.contains(address)),
            (Err(_), _) | (_, Err(_)) => true,
        }
    }

    /// A backend that stays. If its name stopped resolving, the last good addresses stay too.
    pub(crate) fn updated(mut self, found: Found) -> Self {
        match (&found.addresses, &self.found.addresses) {
            (Err(_), Ok(_)) => self.found.weight = found.weight,
            (addresses, _) => {
                self.member.set_addresses(addresses.clone().unwrap_or_default());
                self.found = found;
            }
        }
        self
    }

    /// The backend as people see it.
    pub(crate) fn view(&self) -> BackendView {
        let Self { found, member, intent, health, .. } = self;
        let observed = self.observed();
        let out = self.ejection.out().filter(|_| observed == Health::Ejected);
        BackendView {
            id: found.id.clone(),
            member: Arc::clone(member),
            addresses: member.addresses(),
            weight: self.weight(),
            admin: intent.state,
            admin_since: intent.since,
            admin_reason: intent.reason.clone(),
            admin_actor: intent.actor.clone(),
            admin_expires: intent.expires,
            weight_expires: intent.weight_expires,
            health: observed,
            health_since: out.map_or(health.since, |(since, ..)| since),
            health_until: out.map(|(_, until, _)| until),
            health_reason: self.health_reason(),
            effective: self.effective(),
            eligible: self.is_eligible(),
            reasons: self.reasons(),
            last_probe: health.last.as_ref().map(|(at, result)| LastProbe {
                at: *at,
                result: result.clone(),
                streak: health.passes.max(health.failures),
            }),
        }
    }
}
