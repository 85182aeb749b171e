//! How a pool chooses backends: as configured, or as an operator wants it for the time being.
//!
//! The two stay apart, as with backends: an operator's plan is intent with a reason and perhaps an
//! end ([`crate::Overridable`]), and what stood before it, another plan without an end or the
//! configured one, comes back when it is over. A plan is part of what is published, so that a pick
//! never goes by one policy and by another's backends or key.

use std::{sync::Arc, time::Duration};

use crate::{intent::SetBy, policy::Policy, said::SaidAt};

/// How backends are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyPlan {
    /// The policy.
    pub policy: Policy,
    /// What [`Policy::Hash`] goes by, in the words of whoever makes keys of requests; the pool only
    /// hands it on. Kept by the others too: it holds as soon as the policy is hash.
    pub hash_key: Arc<str>,
}

impl PolicyPlan {
    /// The plan in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.policy {
            Policy::Hash if !self.hash_key.is_empty() => format!("hash by {}", self.hash_key),
            policy => policy.as_str().to_owned(),
        }
    }
}

/// Another plan that an operator asks for.
#[derive(Clone, Debug, Default)]
pub struct PolicyChange {
    /// The plan; `None` is the configured one.
    pub plan: Option<PolicyPlan>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who, as far as we know.
    pub actor: Option<String>,
    /// What stands without it comes back by itself after this long.
    pub ttl: Option<Duration>,
    /// When it was said; `None` is now, after all that was said before.
    pub said_at: Option<SaidAt>,
}

/// A plan, and the words of whoever wanted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedPlan {
    /// A plan instead of the configured one.
    pub plan: Option<PolicyPlan>,
    /// Who wanted it, be it the configured one again; none if nobody did.
    pub set: Option<SetBy>,
}
