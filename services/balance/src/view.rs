//! A pool as people see it: everything that is known, and why a backend gets no traffic.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use crate::{
    admin::Admin,
    backend::{BackendId, Member},
    ejection::{EjectReason, Withheld},
    health::{Health, ProbeResult},
    intent::{Overridable, SetBy, Stated},
    plan::{PolicyPlan, WantedPlan},
    rung::Rung,
    said::Said,
    time::Time,
};

/// A pool at one moment.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// How its backends are chosen.
    pub plan: PolicyPlan,
    /// How they are where no operator wants it otherwise.
    pub configured_plan: PolicyPlan,
    /// What operators want instead.
    pub wanted_plan: Overridable<WantedPlan>,
    /// When the last look-up succeeded.
    pub discovered: Option<Time>,
    /// Why the latest look-up failed, if it did; the backends are then those of the last good one.
    pub discovery_error: Option<String>,
    /// The rung of the ladder that requests are served from.
    pub rung: Rung,
    /// The lowest tier among those that serve.
    pub tier: u16,
    /// Since when it is this rung.
    pub rung_since: Time,
    /// Requests that wait for a backend with room, or for any to come back.
    pub waiting: usize,
    /// First picks so far, by the rung.
    pub picks: BTreeMap<Rung, u64>,
    /// Ejections so far, by reason.
    pub ejections: BTreeMap<EjectReason, u64>,
    /// Ejections that the pool could not afford so far, by reason.
    pub withheld: BTreeMap<Withheld, u64>,
    /// Its backends, by name.
    pub backends: Vec<BackendView>,
    /// Those that left it and serve until one of `backends` can. Their names may be others' by now.
    pub leaving: Vec<BackendView>,
}

impl PoolView {
    /// Backends that may get requests.
    #[must_use]
    pub fn eligible(&self) -> usize {
        self.backends.iter().chain(&self.leaving).filter(|backend| backend.eligible).count()
    }

    /// Its backends, and those that left and serve still, unless their name is another's by now.
    pub fn everybody(&self) -> impl Iterator<Item = &BackendView> {
        let is_known = |id: &BackendId| self.backends.iter().any(|backend| backend.id == *id);
        let leaving = self.leaving.iter().filter(move |backend| !is_known(&backend.id));
        self.backends.iter().chain(leaving)
    }
}

/// A backend at one moment.
#[derive(Clone, Debug)]
pub struct BackendView {
    /// Its name.
    pub id: BackendId,
    /// What workers share of it: its generation, above all.
    pub member: Arc<Member>,
    /// Requests in flight, with those from before it left and came back.
    pub in_flight: u32,
    /// Of those, upgraded connections and the like.
    pub tunnels: u32,
    /// Where to connect.
    pub addresses: Vec<SocketAddr>,
    /// The weight in force.
    pub weight: u32,
    /// How much it is wanted, 0 most.
    pub tier: u16,
    /// The most requests in flight at a time, if there is a limit.
    pub max_in_flight: Option<u32>,
    /// The usual limit.
    pub configured_max_in_flight: Option<u32>,
    /// Who set another one.
    pub max_in_flight_set: Option<SetBy>,
    /// The operator's limit, of which 0 is none; none if the configured one is in force.
    pub max_in_flight_wanted: Option<u32>,
    /// When an operator's limit reverts by itself.
    pub max_in_flight_expires: Option<Time>,
    /// To which; none is no limit.
    pub max_in_flight_reverts_to: Option<u32>,
    /// When an operator's limit was said.
    pub max_in_flight_said: Said,
    /// The share of its weight that slow start has let it climb to, in per cent.
    pub climbed_percent: u32,
    /// The operator's intent.
    pub admin: Admin,
    /// Since when.
    pub admin_since: Time,
    /// Why, in the operator's words.
    pub admin_reason: Option<String>,
    /// Who, as far as we know.
    pub admin_actor: Option<String>,
    /// Whether it was to be done even if too few backends are left.
    pub admin_forced: bool,
    /// When the intent reverts by itself.
    pub admin_expires: Option<Time>,
    /// To what; present if it does.
    pub admin_reverts_to: Option<Stated>,
    /// When it was said.
    pub admin_said: Said,
    /// When its upgraded connections are to end, and the visits that a drain leaves.
    pub deadline: Option<Time>,
    /// Until when its drain waits for visitors, if none comes any more; none if it does not.
    pub visitors_until: Option<Time>,
    /// The usual weight.
    pub configured_weight: u32,
    /// Who set another one.
    pub weight_set: Option<SetBy>,
    /// The operator's weight; none if the configured one is in force.
    pub weight_wanted: Option<u32>,
    /// When an operator's weight reverts by itself.
    pub weight_expires: Option<Time>,
    /// To which; present if it does.
    pub weight_reverts_to: Option<u32>,
    /// When it was said.
    pub weight_said: Said,
    /// The observed health.
    pub health: Health,
    /// Since when.
    pub health_since: Time,
    /// Until when, if that is known: the end of an ejection, or of being degraded unless the
    /// backend says so again.
    pub health_until: Option<Time>,
    /// Why, in words.
    pub health_reason: String,
    /// Whether its source says that it is going away.
    pub is_terminating: bool,
    /// What its source tells instances by, such as a pod's UID.
    pub instance: Option<String>,
    /// What comes of it all.
    pub effective: Effective,
    /// Whether it may get requests.
    pub eligible: bool,
    /// Why it gets no requests, or only as a last resort, in words; empty if it does.
    pub reasons: Vec<String>,
    /// The latest probe.
    pub last_probe: Option<LastProbe>,
}

/// The latest probe of a backend.
#[derive(Clone, Debug)]
pub struct LastProbe {
    /// When it ended.
    pub at: Time,
    /// What it found.
    pub result: ProbeResult,
    /// Results like this one in a row.
    pub streak: u32,
}

/// What comes of intent, health and the other backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effective {
    /// Gets its share of the requests.
    Serving,
    /// Waits for its first passing probe.
    Checking,
    /// Fails its probes.
    Down,
    /// Asks to be spared, and others serve.
    Degraded,
    /// Is a backup, and those above have enough.
    Standby,
    /// Is going away, and others serve.
    Terminating,
    /// Is out for a while because requests fail.
    Ejected,
    /// Gets no new requests but of its visitors; has some in flight, or visitors may come.
    Draining,
    /// Gets no new requests; has none in flight, and no visitors as far as one can know.
    Drained,
    /// Out of service.
    Maint,
}

impl Effective {
    /// The name in JSON and on the page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Checking => "checking",
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Standby => "standby",
            Self::Terminating => "terminating",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Maint => "maint",
        }
    }
}
