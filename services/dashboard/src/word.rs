//! What somebody wants of a backend, and how a proxy that has not heard it is told. The state and
//! the weight are two things, each with words of its own.

use std::time::Duration;

use crate::{
    model::{Admin, Backend, Stated},
    wish::Wish,
};

/// The end of an actor's name that says that the change was carried over.
pub(crate) const CARRIED: &str = ", carried over by the dashboard";

/// What a word is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    State,
    Weight,
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) wish: Wish,
    pub(crate) reason: Option<String>,
    pub(crate) actor: Option<String>,
}

/// A word as a proxy tells it, by the proxy's clock.
pub(crate) struct Spoken<'a> {
    pub(crate) word: Word,
    pub(crate) since: Option<&'a str>,
    pub(crate) expires: Option<&'a str>,
    /// What holds again then.
    pub(crate) then: Word,
    /// Whether it is what the dashboard told its proxy, rather than somebody's own word.
    pub(crate) is_carried: bool,
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
    pub(crate) wish: Wish,
    pub(crate) reason: Option<String>,
    pub(crate) actor: String,
    pub(crate) ttl: Option<Duration>,
}

impl What {
    pub(crate) const ALL: [Self; 2] = [Self::State, Self::Weight];

    /// What holds on a proxy; nothing if it tells too little.
    pub(crate) fn now(self, backend: &Backend) -> Option<Wish> {
        match self {
            Self::State => (backend.admin != Admin::Unknown).then_some(Wish::State(backend.admin)),
            Self::Weight => backend.configured_weight.map(|_| Wish::Weight(backend.weight_wanted)),
        }
    }

    /// Whether that ends by itself.
    pub(crate) fn ends(self, backend: &Backend) -> bool {
        match self {
            Self::State => backend.admin_expires_at.is_some(),
            Self::Weight => backend.weight_expires_at.is_some(),
        }
    }

    /// What somebody wants of a backend, as far as its proxy knows.
    pub(crate) fn spoken(self, backend: &Backend) -> Option<Spoken<'_>> {
        let wish = self.now(backend)?;
        let (since, reason, actor, expires) = match self {
            Self::State => {
                let Backend { admin_since, admin_reason, admin_actor, .. } = backend;
                (admin_since, admin_reason, admin_actor, &backend.admin_expires_at)
            }
            Self::Weight => {
                let Backend { weight_since, weight_reason, weight_actor, .. } = backend;
                (weight_since, weight_reason, weight_actor, &backend.weight_expires_at)
            }
        };
        if actor.is_none() && wish == self.usual() {
            return None;
        }
        Some(Spoken {
            word: Word { wish, reason: reason.clone(), actor: actor.clone() },
            since: since.as_deref(),
            expires: expires.as_deref(),
            then: self.after(backend),
            is_carried: actor.as_ref().is_some_and(|actor| actor.contains(CARRIED)),
        })
    }

    /// What is left when nobody wants anything.
    pub(crate) fn nobodys(self) -> Word {
        Word { wish: self.usual(), reason: None, actor: None }
    }

    /// What a proxy begins with.
    pub(crate) fn usual(self) -> Wish {
        match self {
            Self::State => Wish::State(Admin::Ready),
            Self::Weight => Wish::Weight(None),
        }
    }

    /// What holds of a backend when its override has ended.
    fn after(self, backend: &Backend) -> Word {
        match (self, backend.admin_reverts_to.clone()) {
            (Self::State, Some(Stated { state, reason, actor, .. })) => {
                Word { wish: Wish::State(state), reason, actor }
            }
            (Self::State, None) => self.nobodys(),
            (Self::Weight, _) => {
                let then = backend.weight_reverts_to;
                let then = then.filter(|then| Some(*then) != backend.configured_weight);
                Word { wish: Wish::Weight(then), ..self.nobodys() }
            }
        }
    }
}

impl Word {
    pub(crate) fn telling(&self, ttl: Option<Duration>) -> Telling {
        let actor = self.actor.as_deref().unwrap_or("expired");
        let actor = actor.split(CARRIED).next().unwrap_or_default();
        Telling {
            wish: self.wish,
            reason: self.reason.clone(),
            actor: format!("{actor}{CARRIED}"),
            ttl,
        }
    }
}
