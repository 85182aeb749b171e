//! What an operator wants of a backend. Never mixed with what we observe of it.

use std::{fmt, time::Duration};

use crate::{backend::BackendId, time::Time};

/// The largest weight. More would make the schedule long for no finer share than 0.4 %.
pub const WEIGHT_MAX: u32 = 256;

/// The largest limit of requests in flight: more than one machine has ports for.
pub const MAX_IN_FLIGHT_MAX: u32 = 1_000_000;

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
    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ready, Self::Drain, Self::Maint].into_iter().find(|state| state.as_str() == name)
    }

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
    /// Another limit of requests in flight than the configured one; 0 is none.
    pub max_in_flight: Option<u32>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who, as far as we know.
    pub actor: Option<String>,
    /// What is changed goes back by itself after this long.
    pub ttl: Option<Duration>,
    /// Upgraded connections are ended this long after the backend was taken out.
    pub deadline: Option<Duration>,
    /// Do it even if too few backends are left to serve.
    pub force: bool,
    /// How many must be left; the last one is kept even if this is 0.
    pub floor: usize,
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
    /// It would leave fewer that can take traffic than there must be.
    BelowFloor {
        /// Backends in the pool.
        total: usize,
        /// Those that would be left to take traffic.
        left: usize,
        /// How many there must be.
        floor: usize,
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
            Self::BelowFloor { total, left, floor } => write!(
                formatter,
                "only {left} of {total} backends could take traffic then, and {floor} must; bring \
                 another one back first, or force it"
            ),
        }
    }
}

/// Who set a weight, why, and since when. Who shows several proxies needs it to tell the newest word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetBy {
    /// Since when.
    pub since: Time,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who, as far as we know.
    pub actor: Option<String>,
}

/// The standing intent for one backend, as it is kept over a restart of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingIntent {
    /// The backend.
    pub id: BackendId,
    /// The state.
    pub state: Admin,
    /// Since when.
    pub since: Time,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who, as far as we know.
    pub actor: Option<String>,
    /// When the state goes back to ready.
    pub expires: Option<Time>,
    /// A weight instead of the configured one.
    pub weight: Option<u32>,
    /// Who set it; none if there is none, or if an earlier version wrote it down.
    pub weight_set: Option<SetBy>,
    /// When that goes back.
    pub weight_expires: Option<Time>,
    /// Another limit of requests in flight than the configured one; 0 is none.
    pub max_in_flight: Option<u32>,
    /// When that goes back.
    pub max_in_flight_expires: Option<Time>,
}

/// The standing intent for one backend: a state with who, why, since when and until when, and a
/// weight and a limit with ends of their own. A change of the one leaves the others as they are,
/// their ends included: a weight for ten minutes must not bring a backend back from maintenance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intent {
    pub(crate) state: Admin,
    pub(crate) since: Time,
    pub(crate) reason: Option<String>,
    pub(crate) actor: Option<String>,
    pub(crate) expires: Option<Time>,
    pub(crate) weight: Option<u32>,
    pub(crate) weight_set: Option<SetBy>,
    pub(crate) weight_expires: Option<Time>,
    pub(crate) max_in_flight: Option<u32>,
    pub(crate) max_in_flight_expires: Option<Time>,
    /// When upgraded connections are to end. Of no use after a restart, which ends them all.
    pub(crate) deadline: Option<Time>,
}

impl Intent {
    /// The intent of a backend of which nobody has wanted anything.
    pub(crate) fn none(now: Time) -> Self {
        Self { since: now, ..Self::default() }
    }

    pub(crate) fn standing(&self, id: &BackendId) -> StandingIntent {
        let intent = self.clone();
        StandingIntent {
            id: id.clone(),
            state: intent.state,
            since: intent.since,
            reason: intent.reason,
            actor: intent.actor,
            expires: intent.expires,
            weight: intent.weight,
            weight_set: intent.weight_set,
            weight_expires: intent.weight_expires,
            max_in_flight: intent.max_in_flight,
            max_in_flight_expires: intent.max_in_flight_expires,
        }
    }

    /// The intent after a change.
    pub(crate) fn changed(&self, change: &Change, now: Time) -> Self {
        let mut intent = self.clone();
        let expires = change.ttl.map(|ttl| now + ttl);
        if let Some(state) = change.state {
            if state != self.state {
                intent.since = now;
            }
            intent.state = state;
            intent.reason.clone_from(&change.reason);
            intent.actor.clone_from(&change.actor);
            intent.expires = expires;
            intent.deadline =
                change.deadline.filter(|_| state != Admin::Ready).map(|deadline| now + deadline);
        }
        if change.weight.is_some() {
            (intent.weight, intent.weight_expires) = (change.weight, expires);
            let Change { reason, actor, .. } = change.clone();
            intent.weight_set = Some(SetBy { since: now, reason, actor });
        }
        if change.max_in_flight.is_some() {
            (intent.max_in_flight, intent.max_in_flight_expires) = (change.max_in_flight, expires);
        }
        intent
    }

    /// When the next part of it ends.
    pub(crate) fn next_end(&self) -> Option<Time> {
        let ends = [self.expires, self.weight_expires, self.max_in_flight_expires];
        ends.into_iter().flatten().min()
    }

    /// The limit of requests in flight that holds where `configured` is the usual one.
    pub(crate) fn limit(&self, configured: Option<u32>) -> Option<u32> {
        match self.max_in_flight {
            Some(0) => None,
            Some(limit) => Some(limit),
            None => configured,
        }
    }

    /// The operator's limit in words.
    pub(crate) fn describe_limit(&self) -> Option<String> {
        self.max_in_flight.map(|limit| match limit {
            0 => "no limit of requests in flight".to_owned(),
            limit => format!("at most {limit} in flight"),
        })
    }

    /// The intent without the parts that have ended.
    pub(crate) fn ended(&self, now: Time) -> Self {
        let is_over = |end: Option<Time>| end.is_some_and(|end| end <= now);
        let mut intent = if is_over(self.expires) {
            Self {
                state: Admin::Ready,
                since: now,
                reason: None,
                actor: None,
                expires: None,
                deadline: None,
                ..self.clone()
            }
        } else {
            self.clone()
        };
        if is_over(intent.weight_expires) {
            (intent.weight, intent.weight_expires, intent.weight_set) = (None, None, None);
        }
        if is_over(intent.max_in_flight_expires) {
            (intent.max_in_flight, intent.max_in_flight_expires) = (None, None);
        }
        intent
    }

    /// Whether there is anything to keep for a backend that is gone.
    pub(crate) fn is_special(&self) -> bool {
        self.state != Admin::Ready || self.weight.is_some() || self.max_in_flight.is_some()
    }

    /// What changed from `before` to this, in words.
    pub(crate) fn describe_since(&self, before: &Self) -> String {
        let mut parts = Vec::new();
        if before.state != self.state {
            parts.push(format!("{} (was {})", self.state.as_str(), before.state.as_str()));
        }
        if before.weight != self.weight {
            parts.extend(self.weight.map(|weight| format!("weight {weight}")));
        }
        if before.max_in_flight != self.max_in_flight {
            parts.extend(self.describe_limit());
        }
        if parts.is_empty() {
            parts.push(format!("still {}", self.state.as_str()));
        }
        // Of the weight alone there may be another reason than of the state.
        let weight_set = self.weight_set.as_ref().filter(|_| self.weight_set != before.weight_set);
        let is_only_weight = (before.state, &before.reason) == (self.state, &self.reason);
        let reason = match weight_set {
            Some(set) if is_only_weight => &set.reason,
            _ => &self.reason,
        };
        let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{}{reason}", parts.join(", "))
    }
}

impl From<StandingIntent> for Intent {
    fn from(standing: StandingIntent) -> Self {
        Self {
            state: standing.state,
            since: standing.since,
            reason: standing.reason,
            actor: standing.actor,
            expires: standing.expires,
            weight: standing.weight,
            weight_set: standing.weight_set,
            weight_expires: standing.weight_expires,
            max_in_flight: standing.max_in_flight,
            max_in_flight_expires: standing.max_in_flight_expires,
            deadline: None,
        }
    }
}
