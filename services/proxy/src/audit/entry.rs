//! What stands in the log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::POOL;

/// An entry.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Entry {
    /// When, RFC 3339
    pub(crate) at: String,
    /// `changed`, `refused` or `expired`
    pub(crate) action: String,
    /// Who, as far as the caller told; its address otherwise
    pub(crate) actor: String,
    /// The caller's address
    pub(crate) from: Option<String>,
    /// By what right: `admin` (with the token), `local`, `read` or `none`
    pub(crate) role: String,
    /// What was asked for
    pub(crate) path: String,
    /// The status that it was answered with
    pub(crate) status: u16,
    /// The operator's words
    pub(crate) reason: Option<String>,
    /// Whether it was to be done even if too few backends are left; only with `changed`
    #[serde(default)]
    pub(crate) forced: bool,
    /// What operators wanted before; only with `changed`
    pub(crate) before: Option<Wanted>,
    /// And after
    pub(crate) after: Option<Wanted>,
    /// Why it was refused; of a change, why it was not saved
    pub(crate) detail: Option<String>,
}

/// What operators want.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Wanted {
    Backend(Intent),
    Pool(PolicyIntent),
}

/// How a pool is to choose its backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PolicyIntent {
    pub(crate) policy: String,
    pub(crate) hash_key: String,
    /// Whether that is as configured
    pub(crate) configured: bool,
    pub(crate) reason: Option<String>,
    pub(crate) expires_at: Option<String>,
}

/// What operators want of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Intent {
    pub(crate) state: String,
    pub(crate) weight: u32,
    pub(crate) max_in_flight: Option<u32>,
    pub(crate) reason: Option<String>,
    pub(crate) expires_at: Option<String>,
    /// The state that is in force then
    #[serde(default)]
    pub(crate) reverts_to: Option<String>,
    /// When what never ends by itself is ended
    #[serde(default)]
    pub(crate) deadline_at: Option<String>,
    pub(crate) weight_expires_at: Option<String>,
    /// The weight that is in force then
    #[serde(default)]
    pub(crate) weight_reverts_to: Option<u32>,
    #[serde(default)]
    pub(crate) max_in_flight_expires_at: Option<String>,
    /// The limit that is in force then; none is no limit
    #[serde(default)]
    pub(crate) max_in_flight_reverts_to: Option<u32>,
}

/// The entry of what has ended by itself.
pub(super) fn expired(at: String, backend: Option<String>, detail: String) -> Entry {
    Entry {
        at,
        action: "expired".to_owned(),
        actor: "the proxy".to_owned(),
        from: None,
        role: "none".to_owned(),
        path: match backend {
            Some(backend) => format!("/v1/pools/{POOL}/backends/{backend}"),
            None => format!("/v1/pools/{POOL}"),
        },
        status: 200,
        reason: None,
        forced: false,
        before: None,
        after: None,
        detail: Some(detail),
    }
}
