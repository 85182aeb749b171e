//! A backend as the pool keeps it: what discovery found, what an operator wants, what we observe,
//! and what comes of the three.

use std::sync::Arc;

use crate::{
    admin::{Admin, Intent},
    backend::{Found, Member},
    health::{Health, HealthState},
    view::{BackendView, Effective, LastProbe},
};

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) found: Found,
    /// Its place in the list that discovery gave.
    pub(crate) place: usize,
    pub(crate) member: Arc<Member>,
    pub(crate) intent: Intent,
    pub(crate) health: HealthState,
    pub(crate) drained_told: bool,
}

impl Entry {
    pub(crate) fn weight(&self) -> u32 {
        self.intent.weight.unwrap_or(self.found.weight)
    }

    pub(crate) fn is_eligible(&self) -> bool {
        self.intent.state == Admin::Ready
            && self.health.health == Health::Up
            && self.found.addresses.is_ok()
            && self.weight() > 0
    }

    pub(crate) fn is_probed(&self) -> bool {
        self.intent.state != Admin::Maint && self.found.addresses.is_ok()
    }

    pub(crate) fn effective(&self) -> Effective {
        match (self.intent.state, self.health.health) {
            (Admin::Maint, _) => Effective::Maint,
            (Admin::Drain, _) if self.member.in_flight() > 0 => Effective::Draining,
            (Admin::Drain, _) => Effective::Drained,
            (Admin::Ready, _) if self.found.addresses.is_err() => Effective::Down,
            (Admin::Ready, Health::Checking) => Effective::Checking,
            (Admin::Ready, Health::Down) => Effective::Down,
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
        if let Err(error) = &self.found.addresses {
            reasons.push(error.clone());
        } else if self.intent.state != Admin::Maint && self.health.health != Health::Up {
            reasons.push(format!("{}: {}", self.health.health.as_str(), self.health.reason));
        }
        if self.weight() == 0 {
            reasons.push("its weight is 0".to_owned());
        }
        reasons
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
            health: if found.addresses.is_ok() { health.health } else { Health::Down },
            health_since: health.since,
            health_reason: match &found.addresses {
                Ok(_) => health.reason.clone(),
                Err(error) => error.clone(),
            },
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
