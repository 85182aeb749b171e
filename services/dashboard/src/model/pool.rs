//! A pool, as a proxy tells of it.

use serde::{Deserialize, Serialize};

use super::{
    backend::Backend,
    is_zero,
    states::{Effective, End},
    told,
};
use crate::latency::Latency;

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
