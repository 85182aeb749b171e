//! What somebody wants of a backend, and how a proxy that has not heard it is told. The state and
//! the weight are two things, each with words of its own.

use std::time::Duration;

use chassis::wall;

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

/// A pool, a backend, and what of it is meant.
pub(crate) type Key = (String, String, What);

/// What somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) wish: Wish,
    pub(crate) reason: Option<String>,
    pub(crate) actor: Option<String>,
}

/// What a proxy has heard, as it tells it. Times are milliseconds since 1970.
pub(crate) struct Heard<'a> {
    /// What stands.
    pub(crate) standing: Word,
    /// What it may as well be: what a weight goes back to is told as a number, be it somebody's wish
    /// or what is configured.
    pub(crate) or_standing: Option<Wish>,
    /// When that was said; none if nobody has said anything.
    pub(crate) standing_said: Option<u64>,
    /// What lies on top of it, and until when by the proxy's clock.
    pub(crate) on_top: Option<(Word, &'a str)>,
    /// When the newest word was said, be it one that has ended since.
    pub(crate) latest: Option<u64>,
    /// Whether the proxy takes and tells such times. Of one that does not, they are guesses.
    pub(crate) is_exact: bool,
}

/// What one proxy must be told of a backend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order {
    /// The proxy.
    pub(crate) replica: String,
    pub(crate) pool: String,
    pub(crate) id: String,
    /// One after the other: an override comes before what it lies on, so that there is no moment of
    /// the latter.
    pub(crate) changes: Vec<Telling>,
}

/// One change of an order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Telling {
    pub(crate) wish: Wish,
    pub(crate) reason: Option<String>,
    pub(crate) actor: String,
    pub(crate) ttl: Option<Duration>,
    /// None for a proxy that takes no such time.
    pub(crate) said_at: Option<u64>,
}

impl What {
    pub(crate) const ALL: [Self; 2] = [Self::State, Self::Weight];

    /// What a proxy has heard of it; nothing if it tells too little.
    pub(crate) fn heard(self, backend: &Backend) -> Option<Heard<'_>> {
        let wish = match self {
            Self::State if backend.admin == Admin::Unknown => return None,
            Self::State => Wish::State(backend.admin),
            Self::Weight => {
                backend.configured_weight?;
                Wish::Weight(backend.weight_wanted)
            }
        };
        let (reason, actor, expires) = match self {
            Self::State => (&backend.admin_reason, &backend.admin_actor, &backend.admin_expires_at),
            Self::Weight => {
                (&backend.weight_reason, &backend.weight_actor, &backend.weight_expires_at)
            }
        };
        let now = Word { wish, reason: reason.clone(), actor: actor.clone() };
        let (standing_said, latest) = self.said(backend, &now);
        let (standing, on_top) = match expires {
            Some(expires) => (self.after(backend), Some((now, expires.as_str()))),
            None => (now, None),
        };
        let is_exact = backend.tells_said();
        let or_standing = (on_top.is_some() && standing.wish == Wish::Weight(None))
            .then_some(Wish::Weight(backend.configured_weight));
        Some(Heard { standing, or_standing, standing_said, on_top, latest, is_exact })
    }

    /// When what stands was said, and the newest word.
    fn said(self, backend: &Backend, now: &Word) -> (Option<u64>, Option<u64>) {
        let parse = |text: &Option<String>| text.as_deref().and_then(wall::parse);
        match (self, &backend.admin_said_at) {
            (Self::State, Some(said_at)) => {
                return (parse(&backend.admin_standing_said_at), parse(said_at));
            }
            (Self::Weight, Some(_)) => {
                return (parse(&backend.weight_standing_said_at), parse(&backend.weight_said_at));
            }
            (_, None) => {}
        }
        // A proxy of before these times tells since when it holds. What was carried over is no new
        // word there: it would outrank what an operator said while it was on its way.
        let is_somebodys = now.actor.is_some() || now.wish != self.usual();
        let is_own = is_somebodys && !now.actor.as_ref().is_some_and(|by| by.contains(CARRIED));
        let since = match self {
            Self::State => parse(&backend.admin_since),
            Self::Weight => parse(&backend.weight_since),
        };
        let since = since.filter(|_| is_own);
        // What lies below such a word was there when it was said.
        (since, since)
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
    pub(crate) fn telling(&self, ttl: Option<Duration>, said_at: Option<u64>) -> Telling {
        let actor = self.actor.as_deref().unwrap_or("expired");
        let actor = actor.split(CARRIED).next().unwrap_or_default();
        Telling {
            wish: self.wish,
            reason: self.reason.clone(),
            actor: format!("{actor}{CARRIED}"),
            ttl,
            said_at,
        }
    }
}
