//! The states of a backend, by the words of the admin API, and what each proxy says of them.

use serde::{Deserialize, Serialize};

/// The operator's intent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Admin {
    /// Takes traffic if healthy.
    Ready,
    /// No new requests; those in flight end.
    Drain,
    /// Out of service; "not ready" on the page.
    Maint,
    /// A word of a newer proxy.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What the proxy observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    /// Not probed often enough yet.
    Checking,
    /// Passes its probes.
    Up,
    /// Passes, but fails some.
    Degraded,
    /// Fails its probes.
    Down,
    /// Taken out for bad answers.
    Ejected,
    /// A word of a newer proxy.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Whether a backend takes traffic, from admin state and health together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effective {
    /// Takes traffic.
    Serving,
    /// Would take traffic for want of a better one, and gets none while there is one.
    Degraded,
    /// Waits for its first probes.
    Checking,
    /// Failed.
    Down,
    /// Finishes what is in flight.
    Draining,
    /// Drained and idle.
    Drained,
    /// Out of service by an operator.
    Maint,
    /// Taken out for bad answers.
    Ejected,
    /// A backup, for when those above have too little.
    Standby,
    /// On its way out by its source's word; takes traffic only for want of any other.
    Terminating,
    /// A word of a newer proxy.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Effective {
    /// Whether it takes traffic, by the word of one proxy. A state that we do not know is explained by
    /// the flag beside it.
    #[must_use]
    pub(crate) fn serves(self, eligible: Option<bool>) -> bool {
        match self {
            Self::Serving => true,
            Self::Unknown => eligible == Some(true),
            _ => false,
        }
    }

    /// Draining and drained differ only by what is in flight, or who may still come.
    #[must_use]
    pub(crate) fn settled(self) -> Self {
        if self == Self::Draining { Self::Drained } else { self }
    }
}

/// What one proxy says of a backend.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Opinion {
    /// The proxy.
    pub(crate) replica: String,
    /// Whether the backend is in its pool.
    pub(crate) known: bool,
    /// Serving, or what keeps it from that.
    pub(crate) effective: Effective,
    /// What it observed.
    pub(crate) health: Health,
    /// The operator's intent as it knows it.
    pub(crate) admin: Admin,
    /// Why.
    pub(crate) reason: String,
}

/// When what an operator set ends on one proxy, where it does not end everywhere at the same time.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct End {
    /// The proxy.
    pub(crate) replica: String,
    /// What ends: `state`, `weight` or `limit`, the `deadline` of a drain or `deadline that comes
    /// then`, of the drain that a state goes back to, or the `policy` of a pool.
    pub(crate) what: String,
    /// By that proxy's clock; none if it does not end there.
    pub(crate) at: Option<String>,
    /// What holds again then, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) then: Option<String>,
}

impl Opinion {
    /// Whether this proxy sends requests to it.
    #[must_use]
    pub(crate) fn serves(&self) -> bool {
        self.known && self.effective == Effective::Serving
    }
}
