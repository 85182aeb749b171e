//! One server instance, as a proxy tells of it.

use serde::{Deserialize, Serialize};

use super::{
    known,
    pool::Traffic,
    states::{Admin, Effective, End, Health, Opinion},
    told,
};
use crate::clocks::Ahead;

/// One server instance.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Backend {
    /// Its id within the pool.
    pub(crate) id: String,
    /// Stands for what operators want of it on its proxy; nothing of an older one.
    #[serde(default, skip_serializing)]
    pub(crate) etag: Option<String>,
    /// When the newest word on each of its things was said, if it is what several proxies say.
    #[serde(skip)]
    pub(crate) last_said: [Option<u64>; 3],
    /// Its address.
    #[serde(default)]
    pub(crate) url: String,
    /// Where to connect, by all its addresses.
    #[serde(default)]
    pub(crate) addresses: Vec<String>,
    /// Its weight.
    #[serde(default)]
    pub(crate) weight: u32,
    /// The usual weight; none of an older proxy.
    #[serde(default)]
    pub(crate) configured_weight: Option<u32>,
    /// An operator's weight; none if it is as configured.
    #[serde(default)]
    pub(crate) weight_wanted: Option<u32>,
    /// Since when it is so by an operator's word.
    #[serde(default)]
    pub(crate) weight_since: Option<String>,
    /// Why.
    #[serde(default)]
    pub(crate) weight_reason: Option<String>,
    /// Who said so.
    #[serde(default)]
    pub(crate) weight_actor: Option<String>,
    /// Whether it was to be done even if too few backends are left.
    #[serde(default)]
    pub(crate) weight_forced: bool,
    /// Proxies where it has another weight, and which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) other_weights: Vec<(String, u32)>,
    /// How much it is wanted, 0 most.
    #[serde(default)]
    pub(crate) tier: u16,
    /// When an operator's weight ends by itself.
    #[serde(default)]
    pub(crate) weight_expires_at: Option<String>,
    /// The weight that holds again then.
    #[serde(default)]
    pub(crate) weight_reverts_to: Option<u32>,
    /// When the newest word on the weight was said, and the one that stands.
    #[serde(default)]
    pub(crate) weight_said_at: Option<String>,
    #[serde(default)]
    pub(crate) weight_standing_said_at: Option<String>,
    /// The operator's intent.
    #[serde(default, deserialize_with = "known")]
    pub(crate) admin: Admin,
    /// Since when.
    #[serde(default)]
    pub(crate) admin_since: Option<String>,
    /// Why, in the operator's words.
    #[serde(default)]
    pub(crate) admin_reason: Option<String>,
    /// Who said so.
    #[serde(default)]
    pub(crate) admin_actor: Option<String>,
    /// Whether it was to be done even if too few backends are left.
    #[serde(default)]
    pub(crate) admin_forced: bool,
    /// When the intent ends by itself.
    #[serde(default)]
    pub(crate) admin_expires_at: Option<String>,
    /// What holds again then.
    #[serde(default)]
    pub(crate) admin_reverts_to: Option<Stated>,
    /// The same of the state; nothing of an older proxy, which tells no such times.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub(crate) admin_said_at: Option<Option<String>>,
    #[serde(default)]
    pub(crate) admin_standing_said_at: Option<String>,
    /// When what never ends by itself is ended, if it is drained or in maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline_at: Option<String>,
    /// What the proxy observed.
    #[serde(default, deserialize_with = "known")]
    pub(crate) health: Health,
    /// Since when.
    #[serde(default)]
    pub(crate) health_since: Option<String>,
    /// Why.
    #[serde(default)]
    pub(crate) health_reason: String,
    /// What follows from both.
    #[serde(default, deserialize_with = "known")]
    pub(crate) effective: Effective,
    /// Whether it may get requests.
    #[serde(default)]
    pub(crate) eligible: Option<bool>,
    /// Why, in sentences.
    #[serde(default)]
    pub(crate) reasons: Vec<String>,
    /// The last probe.
    #[serde(default)]
    pub(crate) last_probe: Option<Probe>,
    /// Requests that are being answered.
    #[serde(default)]
    pub(crate) in_flight: u64,
    /// At most so many; none is no limit. Of several proxies, each of them.
    #[serde(default)]
    pub(crate) max_in_flight: Option<u32>,
    /// The usual limit.
    #[serde(default)]
    pub(crate) configured_max_in_flight: Option<u32>,
    /// An operator's limit, of which 0 is none; none if it is as configured, and nothing of an older
    /// proxy, which does not tell whose it is.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub(crate) max_in_flight_wanted: Option<Option<u32>>,
    /// Since when it is so by an operator's word, why, and by whom.
    #[serde(default)]
    pub(crate) max_in_flight_since: Option<String>,
    #[serde(default)]
    pub(crate) max_in_flight_reason: Option<String>,
    #[serde(default)]
    pub(crate) max_in_flight_actor: Option<String>,
    /// When it ends by itself, and the limit that holds again then.
    #[serde(default)]
    pub(crate) max_in_flight_expires_at: Option<String>,
    #[serde(default)]
    pub(crate) max_in_flight_reverts_to: Option<u32>,
    /// When the newest word on it was said, and the one that stands.
    #[serde(default)]
    pub(crate) max_in_flight_said_at: Option<String>,
    #[serde(default)]
    pub(crate) max_in_flight_standing_said_at: Option<String>,
    /// Proxies where it has another limit, and which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) other_limits: Vec<(String, Option<u32>)>,
    /// Ends of what is set, if proxies have different ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) other_ends: Vec<End>,
    /// By whose clock its times are, of several proxies.
    #[serde(default, skip_serializing_if = "Ahead::is_none")]
    pub(crate) ahead: Ahead,
    /// Its traffic.
    #[serde(default)]
    pub(crate) traffic: Traffic,
    /// What each proxy says of it, if they do not agree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) opinions: Vec<Opinion>,
}

/// A state that an operator wants, and why.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Stated {
    /// The state.
    #[serde(default, deserialize_with = "known")]
    pub(crate) state: Admin,
    /// Since when.
    #[serde(default)]
    pub(crate) since: Option<String>,
    /// Why, in the operator's words.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// Who said so.
    #[serde(default)]
    pub(crate) actor: Option<String>,
    /// Whether it was to be done even if too few backends are left.
    #[serde(default)]
    pub(crate) forced: bool,
    /// Its deadline; nothing of an older proxy, which does not tell whether it has one.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub(crate) deadline_at: Option<Option<String>>,
}

/// The outcome of one probe.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Probe {
    /// When.
    #[serde(default)]
    pub(crate) at: Option<String>,
    /// Whether it passed.
    pub(crate) passed: bool,
    /// In words.
    #[serde(default)]
    pub(crate) detail: String,
    /// How long it took.
    #[serde(default)]
    pub(crate) duration_ms: f64,
    /// The first of the answer's body, if it was one of HTTP.
    #[serde(default)]
    pub(crate) first_bytes: Option<String>,
    /// How many in a row had this outcome.
    #[serde(default)]
    pub(crate) streak: u64,
}

impl Backend {
    /// Whether its proxy tells when things were said.
    #[must_use]
    pub(crate) fn tells_said(&self) -> bool {
        self.admin_said_at.is_some()
    }

    /// Whether an operator wants anything but the usual of it, be it for a while.
    #[must_use]
    pub(crate) fn is_overridden(&self) -> bool {
        match self.admin {
            Admin::Ready => self.admin_expires_at.is_some(),
            Admin::Drain | Admin::Maint => true,
            Admin::Unknown => false,
        }
    }

    /// Whether an operator wants another weight of it, or the usual one for a while.
    #[must_use]
    pub(crate) fn is_weighted(&self) -> bool {
        self.weight_wanted.is_some() || self.weight_expires_at.is_some()
    }

    /// The same of the limit of requests in flight.
    #[must_use]
    pub(crate) fn is_limited(&self) -> bool {
        self.max_in_flight_wanted.flatten().is_some() || self.max_in_flight_expires_at.is_some()
    }

    /// The usual weight, where another one is in force.
    #[must_use]
    pub(crate) fn usual_weight(&self) -> Option<u32> {
        self.configured_weight.filter(|usual| *usual != self.weight)
    }

    /// Whether all proxies that answer say the same of it.
    #[must_use]
    pub(crate) fn is_agreed(&self) -> bool {
        self.opinions.is_empty()
            && self.other_weights.is_empty()
            && self.other_limits.is_empty()
            && self.other_ends.is_empty()
    }

    /// Whether it takes traffic, of any proxy.
    #[must_use]
    pub(crate) fn serves(&self) -> bool {
        if !self.opinions.is_empty() {
            return self.opinions.iter().any(Opinion::serves);
        }
        self.effective.serves(self.eligible)
    }

    /// Whether it takes traffic although something is wrong with it: for want of a better one.
    #[must_use]
    pub(crate) fn is_degraded(&self) -> bool {
        self.serves()
            && self.opinions.is_empty()
            && matches!(self.health, Health::Degraded | Health::Ejected)
    }
}
