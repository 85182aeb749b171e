//! What somebody wants of a backend, and how a proxy that has not heard it is told.

use std::time::Duration;

use crate::model::{Admin, Backend, Stated};

/// The end of an actor's name that says that the change was carried over.
pub(crate) const CARRIED: &str = ", carried over by the dashboard";

/// What somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) state: Admin,
    pub(crate) reason: Option<String>,
    pub(crate) actor: Option<String>,
}

/// What one proxy must be told of a backend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order {
    /// The proxy.
    pub(crate) replica: String,
    pub(crate) pool: String,
    pub(crate) id: String,
    /// One after the other: what an override lies on comes before it.
    pub(crate) changes: Vec<Telling>,
}

/// One change of an order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Telling {
    pub(crate) state: Admin,
    pub(crate) reason: Option<String>,
    pub(crate) actor: String,
    pub(crate) ttl: Option<Duration>,
}

impl Word {
    /// What is left when nobody wants anything.
    pub(crate) fn nobodys() -> Self {
        Self { state: Admin::Ready, reason: None, actor: None }
    }

    /// What holds of a backend when its override has ended.
    pub(crate) fn after(backend: &Backend) -> Self {
        let Some(Stated { state, reason, actor, .. }) = backend.admin_reverts_to.clone() else {
            return Self::nobodys();
        };
        Self { state, reason, actor }
    }

    pub(crate) fn telling(&self, ttl: Option<Duration>) -> Telling {
        let actor = self.actor.as_deref().unwrap_or("expired");
        let actor = actor.split(CARRIED).next().unwrap_or_default();
        Telling {
            state: self.state,
            reason: self.reason.clone(),
            actor: format!("{actor}{CARRIED}"),
            ttl,
        }
    }
}

/// Whether somebody wants this of a backend, as far as its proxy knows.
pub(crate) fn is_word(backend: &Backend) -> bool {
    match backend.admin {
        Admin::Unknown => false,
        Admin::Ready => backend.admin_actor.is_some(),
        Admin::Drain | Admin::Maint => true,
    }
}

/// Whether it is what the dashboard told its proxy, rather than somebody's own word.
pub(crate) fn is_carried(backend: &Backend) -> bool {
    backend.admin_actor.as_ref().is_some_and(|actor| actor.contains(CARRIED))
}
