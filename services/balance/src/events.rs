//! What the core tells the shell.

use std::net::SocketAddr;

use crate::{backend::BackendId, time::Time};

/// Something the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Probe a backend and report with [`crate::Pool::probe_finished`].
    Probe(ProbeOrder),
    /// Look the backends up now rather than at the next turn.
    Discover,
    /// Keep [`crate::Pool::standing_intents`] where they survive the process.
    KeepIntents,
    /// Have whoever holds a [`crate::Tunnel`] look whether it must end.
    EndTunnels,
    /// Tell the timeline.
    Event(Event),
}

/// A probe to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOrder {
    /// The backend.
    pub id: BackendId,
    /// The generation that it has now.
    pub generation: u64,
    /// Tells this probe from all others, so that a late report is not taken for another's.
    pub sequence: u64,
    /// Where to connect, best first.
    pub addresses: Vec<SocketAddr>,
}

/// Something that happened, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Time,
    /// Which part of the pool it concerns.
    pub kind: EventKind,
    /// The backend it concerns, if it is one.
    pub backend: Option<BackendId>,
    /// What happened, as a sentence without a full stop.
    pub message: String,
    /// Who did it, if somebody did.
    pub actor: Option<String>,
}

/// The kind of an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A backend's health changed.
    Health,
    /// An operator changed something, or a change expired.
    Admin,
    /// Backends came, left, or could not be looked up.
    Discovery,
}

impl EventKind {
    /// The name in JSON and on the page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Admin => "admin",
            Self::Discovery => "discovery",
        }
    }
}
