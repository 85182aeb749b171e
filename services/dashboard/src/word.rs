//! What somebody wants of a backend, and how a proxy that has not heard it is told. The state, the
//! weight and the limit of requests in flight are three things, each with words of its own; so is the
//! policy of a pool.

use std::time::Duration;

use chassis::wall;

use crate::{
    model::{Admin, Backend, Pool, Stated},
    wish::{Plan, Wish},
};

/// The end of an actor's name that says that the change was carried over.
pub(crate) const CARRIED: &str = ", carried over by the dashboard";

/// How a limit of requests in flight is asked for that is none.
const NO_LIMIT: Option<u32> = Some(0);

/// What a word is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum What {
    State,
    Weight,
    Limit,
    /// Of a pool.
    Policy,
}

/// A pool, a backend, which is empty where the pool itself is meant, and what of it.
pub(crate) type Key = (String, String, What);

/// What somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) wish: Wish,
    pub(crate) reason: Option<String>,
    pub(crate) actor: Option<String>,
    /// Whether it was to be done even if too few backends are left.
    pub(crate) forced: bool,
    pub(crate) deadline: Deadline,
}

/// When what never ends by itself is ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Deadline {
    Never,
    /// By our clock; also once that is over.
    At(f64),
    /// Of an older proxy, which does not tell it of what lies beneath an override. It is no other
    /// deadline than any.
    Unknown,
}

/// What a proxy has heard, as it tells it. Times are milliseconds since 1970.
pub(crate) struct Heard<'a> {
    /// What stands.
    pub(crate) standing: Word,
    /// What it may as well be: what a number goes back to is told as a number, be it somebody's wish
    /// or what is configured.
    pub(crate) or_standing: Option<Wish>,
    /// When that was said; none if nobody has said anything.
    pub(crate) standing_said: Option<u64>,
    /// What lies on top of it, and until when by the proxy's clock.
    pub(crate) on_top: Option<(Word, &'a str)>,
    /// The deadline of what is in force, by that clock too.
    pub(crate) deadline: Option<&'a str>,
    /// And of what stands below it; nothing of an older proxy, which does not tell whether it has one.
    pub(crate) deadline_below: Option<Option<&'a str>>,
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
    /// As of the word: nobody else decides that.
    pub(crate) force: bool,
    pub(crate) ttl: Option<Duration>,
    /// What is left of it.
    pub(crate) deadline: Option<Duration>,
    /// None for a proxy that takes no such time.
    pub(crate) said_at: Option<u64>,
}

impl Telling {
    /// Whether it is an override of which the proxy knows by its time what it lies on. One that knows no
    /// such times takes it to lie on what it was told before.
    pub(crate) fn lies_on_top(&self) -> bool {
        self.ttl.is_some() && self.said_at.is_some()
    }
}

/// What a proxy tells of a thing.
struct Told<'a> {
    wish: Wish,
    reason: &'a Option<String>,
    actor: &'a Option<String>,
    forced: bool,
    since: &'a Option<String>,
    expires: &'a Option<String>,
    deadline: Option<&'a String>,
    deadline_below: Option<Option<&'a String>>,
    said: Option<&'a String>,
    standing_said: &'a Option<String>,
}

impl What {
    pub(crate) const OF_BACKENDS: [Self; 3] = [Self::State, Self::Weight, Self::Limit];

    /// What a proxy has heard of it; nothing if it tells too little.
    pub(crate) fn heard(self, backend: &Backend) -> Option<Heard<'_>> {
        let (told, after) = (self.told(backend)?, self.after(backend));
        Some(self.heard_as(told, after, self.usual_as_number(backend), backend.tells_said()))
    }

    fn heard_as<'a>(
        self,
        told: Told<'a>,
        after: Word,
        usual: Option<Wish>,
        is_exact: bool,
    ) -> Heard<'a> {
        let (standing_said, latest) = self.said(&told, is_exact);
        let (reason, actor) = (told.reason.clone(), told.actor.clone());
        let now =
            Word { wish: told.wish, reason, actor, forced: told.forced, deadline: Deadline::Never };
        let (standing, on_top) = match told.expires {
            Some(expires) => (after, Some((now, expires.as_str()))),
            None => (now, None),
        };
        let is_usual = on_top.is_some() && standing.wish == self.usual();
        let or_standing = usual.filter(|_| is_usual);
        let deadline = told.deadline.map(String::as_str);
        let deadline_below = told.deadline_below.map(|below| below.map(String::as_str));
        Heard {
            standing,
            or_standing,
            standing_said,
            on_top,
            deadline,
            deadline_below,
            latest,
            is_exact,
        }
    }

    fn told(self, backend: &Backend) -> Option<Told<'_>> {
        Some(match self {
            Self::State if backend.admin == Admin::Unknown => return None,
            Self::State => Told {
                wish: Wish::State(backend.admin),
                reason: &backend.admin_reason,
                actor: &backend.admin_actor,
                forced: backend.admin_forced,
                since: &backend.admin_since,
                expires: &backend.admin_expires_at,
                deadline: backend.deadline_at.as_ref(),
                deadline_below: backend
                    .admin_reverts_to
                    .as_ref()
                    .and_then(|then| then.deadline_at.as_ref().map(Option::as_ref)),
                said: backend.admin_said_at.as_ref().and_then(Option::as_ref),
                standing_said: &backend.admin_standing_said_at,
            },
            Self::Weight if backend.configured_weight.is_none() => return None,
            Self::Weight => Told {
                wish: Wish::Weight(backend.weight_wanted),
                reason: &backend.weight_reason,
                actor: &backend.weight_actor,
                forced: backend.weight_forced,
                since: &backend.weight_since,
                expires: &backend.weight_expires_at,
                deadline: None,
                deadline_below: None,
                said: backend.weight_said_at.as_ref(),
                standing_said: &backend.weight_standing_said_at,
            },
            Self::Limit => Told {
                wish: Wish::Limit(backend.max_in_flight_wanted?),
                reason: &backend.max_in_flight_reason,
                actor: &backend.max_in_flight_actor,
                forced: false,
                since: &backend.max_in_flight_since,
                expires: &backend.max_in_flight_expires_at,
                deadline: None,
                deadline_below: None,
                said: backend.max_in_flight_said_at.as_ref(),
                standing_said: &backend.max_in_flight_standing_said_at,
            },
            Self::Policy => return None,
        })
    }

    /// When what stands was said, and the newest word.
    fn said(self, told: &Told<'_>, is_exact: bool) -> (Option<u64>, Option<u64>) {
        let parse = |text: Option<&String>| text.and_then(|text| wall::parse(text));
        if is_exact {
            return (parse(told.standing_said.as_ref()), parse(told.said));
        }
        // A proxy of before these times tells since when it holds. What was carried over is no new
        // word there: it would outrank what an operator said while it was on its way.
        let is_somebodys = told.actor.is_some() || told.wish != self.usual();
        let is_own = is_somebodys && !told.actor.as_ref().is_some_and(|by| by.contains(CARRIED));
        let since = parse(told.since.as_ref()).filter(|_| is_own);
        // What lies below such a word was there when it was said.
        (since, since)
    }

    /// What is left when nobody wants anything.
    pub(crate) fn nobodys(self) -> Word {
        let deadline = Deadline::Never;
        Word { wish: self.usual(), reason: None, actor: None, forced: false, deadline }
    }

    /// What a proxy begins with.
    pub(crate) fn usual(self) -> Wish {
        match self {
            Self::State => Wish::State(Admin::Ready),
            Self::Weight => Wish::Weight(None),
            Self::Limit => Wish::Limit(None),
            Self::Policy => Wish::Policy(None),
        }
    }

    /// The number that this is, as somebody may have set it.
    fn usual_as_number(self, backend: &Backend) -> Option<Wish> {
        match self {
            Self::State | Self::Policy => None,
            Self::Weight => Some(Wish::Weight(backend.configured_weight)),
            Self::Limit => Some(Wish::Limit(backend.configured_max_in_flight.or(NO_LIMIT))),
        }
    }

    /// What holds of a backend when its override has ended.
    fn after(self, backend: &Backend) -> Word {
        if let (Self::State, Some(then)) = (self, backend.admin_reverts_to.clone()) {
            let (wish, deadline) = (Wish::State(then.state), Deadline::Never);
            let Stated { reason, actor, forced, .. } = then;
            return Word { wish, reason, actor, forced, deadline };
        }
        let then = match self {
            Self::State | Self::Policy => return self.nobodys(),
            Self::Weight => Wish::Weight(backend.weight_reverts_to),
            Self::Limit => Wish::Limit(backend.max_in_flight_reverts_to.or(NO_LIMIT)),
        };
        let is_usual = Some(&then) == self.usual_as_number(backend).as_ref();
        Word { wish: if is_usual { self.usual() } else { then }, ..self.nobodys() }
    }
}

/// What a proxy has heard of a pool's policy; nothing if it tells no times of it, as those that have
/// no way to be told the time of a word.
pub(crate) fn of_policy(pool: &Pool) -> Option<Heard<'_>> {
    let said = pool.policy_said_at.as_ref()?.as_ref();
    let told = Told {
        wish: Wish::Policy(pool.policy_wanted.as_deref().map(|it| Plan::new(it, &pool.hash_key))),
        reason: &pool.policy_reason,
        actor: &pool.policy_actor,
        forced: false,
        since: &pool.policy_since,
        expires: &pool.policy_expires_at,
        deadline: None,
        deadline_below: None,
        said,
        standing_said: &pool.policy_standing_said_at,
    };
    let usual = Plan::new(&pool.policy_configured, &pool.hash_key_configured);
    let then = pool.policy_reverts_to.as_deref();
    let then =
        then.map(|it| Plan::new(it, pool.hash_key_reverts_to.as_deref().unwrap_or_default()));
    let then = then.filter(|then| *then != usual);
    let after = Word { wish: Wish::Policy(then), ..What::Policy.nobodys() };
    Some(What::Policy.heard_as(told, after, Some(Wish::Policy(Some(usual))), true))
}

/// Whose words were carried.
fn uncarried(actor: &str) -> &str {
    actor.split(CARRIED).next().unwrap_or_default()
}

/// The same without the address that a proxy adds, which is another one for one that is elsewhere.
fn by_whom(actor: &str) -> &str {
    let actor = uncarried(actor);
    actor.split(" (from ").next().unwrap_or(actor)
}

impl Heard<'_> {
    /// What is in force.
    pub(crate) fn in_force(self) -> Word {
        self.on_top.map_or(self.standing, |(word, _)| word)
    }

    /// When what is in force was said.
    pub(crate) fn in_force_said(&self) -> Option<u64> {
        if self.on_top.is_some() { self.latest } else { self.standing_said }
    }

    /// Gives its words their deadlines, of which `date` makes times by our clock.
    pub(crate) fn date_deadlines(&mut self, date: impl Fn(&str) -> Option<f64>) {
        let told = |deadline: Option<&str>| {
            deadline.map_or(Deadline::Never, |at| date(at).map_or(Deadline::Unknown, Deadline::At))
        };
        let in_force = told(self.deadline);
        let below = self.deadline_below.map_or(Deadline::Unknown, told);
        self.standing.deadline = match &mut self.on_top {
            Some((word, _)) => {
                word.deadline = in_force;
                below
            }
            None => in_force,
        };
    }
}

impl Word {
    /// Whether it is said for the same reason by the same person as another one. That it was carried is
    /// no part of that, nor from where. Of a word that is told without an actor nothing is known, and
    /// of what is usual nobody need know who said it.
    pub(crate) fn is_told_as(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.actor.as_deref(), other.actor.as_deref());
        let is_usual = self.wish == self.wish.what().usual();
        let is_same_person = ours.map(by_whom) == theirs.map(by_whom);
        ours.is_none()
            || (is_usual && theirs.is_none())
            || (is_same_person && self.reason == other.reason)
    }

    /// Takes the deadline of the same word as another proxy has heard it, if this one had none.
    pub(crate) fn add_deadline(&mut self, same: &Self) {
        if self.deadline == Deadline::Never && same.deadline != Deadline::Unknown {
            self.deadline = same.deadline;
        }
        self.learn_deadline(same);
    }

    /// Takes the deadline of what was wished at another time, if nobody told that of this word and it
    /// is the same wish.
    pub(crate) fn learn_deadline(&mut self, other: &Self) {
        if self.deadline == Deadline::Unknown && self.wish == other.wish {
            self.deadline = other.deadline;
        }
    }

    /// That the same word was forced, which a proxy of before that is told does not tell.
    pub(crate) fn add_force(&mut self, same: &Self) {
        self.forced |= same.forced;
    }

    /// Whether a drain has the same deadline with both, as far as two clocks agree. What is over at
    /// `now` is over, whenever that was.
    pub(crate) fn ends_drain_as(&self, other: &Self, now: f64) -> bool {
        match (self.deadline, other.deadline) {
            (Deadline::At(one), Deadline::At(other)) => {
                (one.max(now) - other.max(now)).abs() < crate::intent::SAME_END
            }
            (Deadline::Unknown, _) | (_, Deadline::Unknown) => true,
            (one, other) => one == other,
        }
    }

    /// How a proxy is told of it at `now`.
    pub(crate) fn telling(&self, ttl: Option<Duration>, said_at: Option<u64>, now: f64) -> Telling {
        let left = match self.deadline {
            Deadline::At(deadline) => Duration::try_from_secs_f64((deadline - now).max(0.0)).ok(),
            Deadline::Never | Deadline::Unknown => None,
        };
        let actor = uncarried(self.actor.as_deref().unwrap_or("expired"));
        Telling {
            wish: self.wish.clone(),
            reason: self.reason.clone(),
            actor: format!("{actor}{CARRIED}"),
            force: self.forced,
            ttl,
            // A proxy of before these times may know no deadline, and would refuse the rest.
            deadline: left.filter(|_| said_at.is_some()),
            said_at,
        }
    }
}
