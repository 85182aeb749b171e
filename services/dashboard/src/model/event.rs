//! What happened, as the admin API tells it.

use serde::{Deserialize, Serialize};

/// The answer of `GET /v1/events`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EventsAnswer {
    /// Those after the id that was asked for.
    pub(crate) events: Vec<Event>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Event {
    /// Counts from 1 in each run of the proxy.
    pub(crate) id: u64,
    /// When.
    #[serde(default)]
    pub(crate) at: String,
    /// `health`, `admin`, `discovery`, `proxy` or a newer word.
    #[serde(default)]
    pub(crate) kind: String,
    /// Which backend it concerns.
    #[serde(default)]
    pub(crate) backend: Option<String>,
    /// A sentence.
    #[serde(default)]
    pub(crate) message: String,
    /// Who did it.
    #[serde(default)]
    pub(crate) actor: Option<String>,
}
