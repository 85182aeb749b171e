//! What an operator wants of a backend. Never mixed with what we observe of it.

use std::{fmt, time::Duration};

use crate::said::SaidAt;

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
    /// No new requests but of its visitors; those in flight end; probes go on.
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
    /// What is to be as configured; a number for the same thing has no effect beside it.
    pub reset: Reset,
    /// When it was said; `None` is now, after all that was said before.
    pub said_at: Option<SaidAt>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who, as far as we know.
    pub actor: Option<String>,
    /// What is changed lies on top of what stands for this long; without it, it is what stands.
    pub ttl: Option<Duration>,
    /// Upgraded connections are ended this long after the backend was taken out, and visits.
    pub deadline: Option<Duration>,
    /// Do it even if too few backends are left to serve.
    pub force: bool,
    /// How many must be left; the last one is kept even if this is 0.
    pub floor: usize,
}

/// What a change sets back to what is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// The weight.
    pub weight: bool,
    /// The limit of requests in flight.
    pub max_in_flight: bool,
}

/// Why a change was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pool has no backend of this name.
    Unknown,
    /// What it would replace was said after it.
    Superseded {
        /// When.
        by: SaidAt,
    },
    /// It is the only backend that can take traffic, of this many.
    LastUsable {
        /// Backends in the pool.
        total: usize,
        /// In how long: zero is now, and otherwise something ends then that was set for a time.
        after: Duration,
    },
    /// It would leave fewer that can take traffic than there must be.
    BelowFloor {
        /// Backends in the pool.
        total: usize,
        /// Those that would be left to take traffic.
        left: usize,
        /// How many there must be.
        floor: usize,
        /// In how long, as above.
        after: Duration,
    },
}

impl Change {
    /// Whether it says anything of the weight, and which then; none is the configured one.
    #[must_use]
    pub fn weighs(&self) -> Option<Option<u32>> {
        if self.reset.weight { Some(None) } else { self.weight.map(Some) }
    }

    /// The same of the limit of requests in flight.
    #[must_use]
    pub fn limits(&self) -> Option<Option<u32>> {
        if self.reset.max_in_flight { Some(None) } else { self.max_in_flight.map(Some) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => formatter.write_str("the pool has no backend of this name"),
            Self::Superseded { .. } => {
                formatter.write_str("what it would replace was said after it")
            }
            Self::LastUsable { total, after } if after.is_zero() => write!(
                formatter,
                "it is the only one of {total} backends that can take traffic: without it every \
                 request would fail; bring another one back first, or force it"
            ),
            Self::LastUsable { total, after } => write!(
                formatter,
                "it will be the only one of {total} backends that can take traffic {}: without it \
                 every request would fail then; bring another one back for good first, or force it",
                Self::when(*after)
            ),
            Self::BelowFloor { total, left, floor, after } => write!(
                formatter,
                "only {left} of {total} backends could take traffic {}, and {floor} must; bring \
                 another one back first, or force it",
                if after.is_zero() { "then".to_owned() } else { Self::when(*after) }
            ),
        }
    }
}

impl Refused {
    fn when(after: Duration) -> String {
        format!("in {:.0} s, when something ends that was set for a time", after.as_secs_f64())
    }
}
