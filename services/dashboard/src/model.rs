//! The admin API's answers, as far as the page needs them.
//!
//! Reading is tolerant: a proxy that is a little older or newer leaves out a field or invents a
//! state, and the page still shows the rest. Only what tells the admin API from any other server,
//! `proxy` and `pools`, must be there.

mod event;
mod states;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

pub(crate) use self::{
    event::{Event, EventsAnswer},
    states::{Admin, Effective, End, Health, Opinion},
};
use crate::{clocks::Ahead, fleet, latency::Latency};

/// The answer of `GET /v1/pools`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Answer {
    /// The proxy itself.
    pub(crate) proxy: Proxy,
    /// Its pools.
    pub(crate) pools: Vec<Pool>,
}

/// The proxy itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Proxy {
    /// Its host's name.
    #[serde(default)]
    pub(crate) name: String,
    /// Its version.
    #[serde(default)]
    pub(crate) version: String,
    /// When it started; another value means another process, whose counters begin at zero.
    pub(crate) started_at: String,
    /// How long it has run.
    #[serde(default)]
    pub(crate) uptime_seconds: f64,
    /// Whether it takes traffic.
    #[serde(default = "yes")]
    pub(crate) ready: bool,
    /// Why not.
    #[serde(default)]
    pub(crate) not_ready_reasons: Vec<String>,
    /// Why changes are not on its disk, and would be lost with it.
    #[serde(default)]
    pub(crate) not_saved_reason: Option<String>,
    /// Whether it is stopping.
    #[serde(default)]
    pub(crate) stopping: bool,
    /// Worker threads.
    #[serde(default)]
    pub(crate) workers: u32,
}

/// A pool.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Pool {
    /// Its name.
    pub(crate) name: String,
    /// How a backend is chosen.
    #[serde(default)]
    pub(crate) policy: String,
    /// What the policy hash goes by.
    #[serde(default)]
    pub(crate) hash_key: String,
    /// What the policy is where no operator wants it otherwise.
    #[serde(default)]
    pub(crate) policy_configured: String,
    /// And the key of that policy.
    #[serde(default)]
    pub(crate) hash_key_configured: String,
    /// An operator's policy; none if it is as configured.
    #[serde(default)]
    pub(crate) policy_wanted: Option<String>,
    /// Since when it is so by an operator's word.
    #[serde(default)]
    pub(crate) policy_since: Option<String>,
    /// Why.
    #[serde(default)]
    pub(crate) policy_reason: Option<String>,
    /// Who said so.
    #[serde(default)]
    pub(crate) policy_actor: Option<String>,
    /// When it ends by itself.
    #[serde(default)]
    pub(crate) policy_expires_at: Option<String>,
    /// And what holds again then.
    #[serde(default)]
    pub(crate) policy_reverts_to: Option<String>,
    #[serde(default)]
    pub(crate) hash_key_reverts_to: Option<String>,
    /// When the newest word on it was said; nothing of an older proxy, which tells no such times.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub(crate) policy_said_at: Option<Option<String>>,
    /// And the one that stands.
    #[serde(default)]
    pub(crate) policy_standing_said_at: Option<String>,
    /// Seconds by which the clock of these times is ahead of the picture's, of several proxies.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) policy_ahead: f64,
    /// When the policy ends by itself, if proxies have different times for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) other_ends: Vec<End>,
    /// Where its backends come from.
    #[serde(default)]
    pub(crate) source: Source,
    /// The rung of the last-resort ladder that requests are served from.
    #[serde(default)]
    pub(crate) rung: String,
    /// How they are probed.
    #[serde(default)]
    pub(crate) probe: ProbeRules,
    /// Traffic of the whole pool.
    #[serde(default)]
    pub(crate) traffic: Traffic,
    /// The backends, in the proxy's order.
    pub(crate) backends: Vec<Backend>,
}

/// Where a pool's backends come from.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Source {
    /// `static`, `dns`, …
    pub(crate) kind: String,
    /// As it was set.
    pub(crate) text: String,
    /// Why the last look-up failed.
    pub(crate) error: Option<String>,
}

/// How backends are probed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ProbeRules {
    /// `tcp`, `http` or `off`.
    pub(crate) kind: String,
    /// The path asked for by HTTP probes.
    pub(crate) path: Option<String>,
    /// Time between probes.
    pub(crate) interval_ms: f64,
    /// Time a probe may take.
    pub(crate) timeout_ms: f64,
    /// Failures in a row until down.
    pub(crate) fall: u32,
    /// Passes in a row until up.
    pub(crate) rise: u32,
}

/// What went through, mostly over the last seconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Traffic {
    /// Requests since the proxy started.
    pub(crate) requests_total: u64,
    /// Failures since the proxy started.
    pub(crate) failures_total: u64,
    /// Requests per second.
    pub(crate) requests_per_second: f64,
    /// Share of failures, 0 to 1.
    pub(crate) error_share: f64,
    /// Median time to answer.
    pub(crate) p50_ms: Option<f64>,
    /// Nineteen of twenty are faster.
    pub(crate) p95_ms: Option<f64>,
    /// Ninety-nine of a hundred are faster.
    pub(crate) p99_ms: Option<f64>,
    /// What the percentiles were read from.
    #[serde(skip_serializing)]
    pub(crate) latency: Option<Latency>,
}

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

impl Proxy {
    /// Whether it is not ready and should be: one that stops is not either.
    #[must_use]
    pub(crate) fn is_unready(&self) -> bool {
        !self.ready && !self.stopping
    }

    /// The time by its own clock when it answered.
    #[must_use]
    pub(crate) fn now(&self) -> Option<SystemTime> {
        let started = humantime::parse_rfc3339(&self.started_at).ok()?;
        started.checked_add(Duration::try_from_secs_f64(self.uptime_seconds).ok()?)
    }

    /// How many seconds before its answer a time of its clock was; negative for one to come.
    #[must_use]
    pub(crate) fn age(&self, time: Option<&str>) -> Option<f64> {
        let (now, time) = (self.now()?, humantime::parse_rfc3339(time?).ok()?);
        Some(match now.duration_since(time) {
            Ok(age) => age.as_secs_f64(),
            Err(ahead) => -ahead.duration().as_secs_f64(),
        })
    }
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

fn yes() -> bool {
    true
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// A state that we know, or the unknown one for anything else, whatever its type: one field of
/// one backend must not take the page away.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(from: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// A field that is there, be it null.
fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
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

impl Pool {
    /// Requests that are being answered by its backends.
    #[must_use]
    pub(crate) fn in_flight(&self) -> u64 {
        self.backends.iter().map(|backend| backend.in_flight).sum()
    }

    /// Whether an operator wants another policy of it, or the configured one for a while. An older
    /// proxy tells since when only then.
    #[must_use]
    pub(crate) fn has_policy(&self) -> bool {
        let by_an_older = self.policy_said_at.is_none() && self.policy_since.is_some();
        self.policy_wanted.is_some() || self.policy_expires_at.is_some() || by_an_older
    }

    /// How many backends are to take traffic: not those that stand by for them.
    #[must_use]
    pub(crate) fn wanted(&self) -> usize {
        let stands_by = |backend: &&Backend| backend.effective == Effective::Standby;
        self.backends.len() - self.backends.iter().filter(stands_by).count()
    }

    /// How many backends take traffic.
    #[must_use]
    pub(crate) fn serving(&self) -> usize {
        self.backends.iter().filter(|backend| backend.serves()).count()
    }
}

impl Answer {
    /// A backend by its pool's name and its id.
    #[must_use]
    pub(crate) fn backend(&self, pool: &str, id: &str) -> Option<&Backend> {
        let pool = self.pools.iter().find(|candidate| candidate.name == pool)?;
        pool.backends.iter().find(|backend| backend.id == id)
    }

    /// Traffic of all pools together.
    #[must_use]
    pub(crate) fn traffic(&self) -> Traffic {
        fleet::add(self.pools.iter().map(|pool| &pool.traffic))
    }
}
