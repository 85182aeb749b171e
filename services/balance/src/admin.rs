//! What an operator wants of a backend. Never mixed with what we observe of it.

use std::{fmt, time::Duration};

use crate::time::Time;

/// The largest weight. More would make the schedule long for no finer share than 0.4 %.
pub const WEIGHT_MAX: u32 = 256;

/// The operator's intent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// May get traffic.
    #[default]
    Ready,
    /// No new requests; those in flight end; probes go on.
    Drain,
    /// Out of service: no requests, no probes. "Not ready" on the page.
    Maint,
}

impl Admin {
    /// The name in JSON, metrics and on the page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

/// A change that an operator asks for; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The new intent.
    pub state: Option<Admin>,
    /// A weight instead of the configured one.
    pub weight: Option<u32>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who, as far as we know.
    pub actor: Option<String>,
    /// Goes back to ready and the configured weight after this long.
    pub ttl: Option<Duration>,
    /// Do it even if no backend is left to serve.
    pub force: bool,
}

/// Why a change was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pool has no backend of this name.
    Unknown,
    /// It is the only backend that can take traffic, of this many.
    LastUsable {
        /// Backends in the pool.
        total: usize,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => formatter.write_str("the pool has no backend of this name"),
            Self::LastUsable { total } => write!(
                formatter,
                "it is the only one of {total} backends that can take traffic: without it every \
                 request would fail; bring another one back first, or force it"
            ),
        }
    }
}

/// The standing intent for one backend, with who, why, since when and until when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intent {
    pub(crate) state: Admin,
    pub(crate) weight: Option<u32>,
    pub(crate) reason: Option<String>,
    pub(crate) actor: Option<String>,
    pub(crate) since: Time,
    pub(crate) expires: Option<Time>,
}

impl Intent {
    /// The intent after a change. Reason, actor and expiry always belong to the latest change.
    pub(crate) fn changed(&self, change: &Change, now: Time) -> Self {
        let state = change.state.unwrap_or(self.state);
        Self {
            state,
            weight: change.weight.or(self.weight),
            reason: change.reason.clone(),
            actor: change.actor.clone(),
            since: if state == self.state { self.since } else { now },
            expires: change.ttl.map(|ttl| now + ttl),
        }
    }
}
