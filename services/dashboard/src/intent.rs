//! What operators want of each backend, over all proxies, and which proxy has yet to hear of it.
//! The state, the weight and the limit are three things, each with words of its own, and so is the
//! policy of a pool.
//!
//! Each proxy keeps the operators' intent by itself. One that was away while something was changed
//! comes back with an old intent or, without its state file, with none; nothing else would ever
//! tell it. So the newest word stands, and whoever has not heard it for longer than a change needs
//! to reach everybody is told.
//!
//! Each word has the time at which it was said, which it keeps wherever it is carried (`said`), and
//! two of a thing are in force: the newest without an end stands, and the newest of all may lie on
//! top of it until its end. A proxy knows both times, that of a word which has ended included, so
//! that nothing that is over is brought back, and nothing older is carried over something newer; a
//! proxy refuses that too. Being ready, or of the configured weight, with nobody who said so is no
//! word: it is what a proxy begins with. What an operator has forced is carried with force, and
//! nothing else is: a proxy that refuses is asked again later.
//!
//! What nobody needs any more is forgotten: words about a backend that has been gone for as long as
//! proxies themselves remember, since whoever comes back later is somebody else, and overrides that
//! have ended and that no proxy tells of any more.

use std::{cmp::Ordering, collections::HashMap, time::Duration};

use crate::{
    model::{Admin, Answer, Pool},
    wish::Wish,
    word::{self, Heard, Key, Order, Telling, What, Word},
};

/// A change reaches all proxies within this time, or not at all.
const SETTLE: f64 = 2.0;
/// Between the first two attempts to tell the same proxy the same thing; twice as long each time, since
/// a proxy that refuses it goes on to for as long as its guard has to.
const AGAIN: f64 = 10.0;
/// And no longer than this.
const AGAIN_MOST: f64 = 300.0;
/// Overrides that end so many seconds apart end at the same time, as far as anybody meant it.
pub(crate) const SAME_END: f64 = 5.0;
/// How long an override is to hold of which a proxy is told only that it has ended.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Seconds for which words are kept that nobody needs. Proxies keep the intent for a backend that is
/// gone for an hour; a little less, so that none is told anew what all of them have just forgotten.
const KEPT: f64 = 3_600.0 - SETTLE;
/// Things that words are kept of, each with two words of a kilobyte at most: the state, the weight and
/// the limit of 3000 backends, six times as many as the page is made for. Nobody says so much; an
/// admin API that makes up its backends must not fill the memory all the same.
const THINGS_MOST: usize = 9_000;

/// The newest words of one thing, each with when it was said.
#[derive(Debug, Default)]
struct Newest {
    standing: Option<(u64, Word)>,
    /// Of all; its word, and until when by our clock, unless it has ended or has no end.
    latest: Option<(u64, Option<(Word, f64)>)>,
    /// When it was needed last, in seconds for which somebody has answered.
    needed: f64,
}

impl Newest {
    /// Notes what a proxy says. Of two words of the same time, the one that has ended counts, and
    /// else the greater wish, at each dashboard alike. When they end is no part of that order: even
    /// the same word ends at a slightly other time on each proxy.
    fn hear(&mut self, mut heard: Heard<'_>, answer: &Answer, now: f64) {
        let left = left(answer, &heard);
        date_deadlines(&mut heard, answer, now);
        if let Some(said) = heard.standing_said {
            let known = self.standing.as_ref().map(|(said, word)| (*said, &word.wish));
            match (known.cmp(&Some((said, &heard.standing.wish))), &mut self.standing) {
                (Ordering::Equal, Some((_, word))) => {
                    word.add_deadline(&heard.standing);
                    word.add_force(&heard.standing);
                }
                (Ordering::Greater, Some((_, word))) => word.learn_deadline(&heard.standing),
                (Ordering::Less, standing) => {
                    if let Some((_, word)) = standing {
                        heard.standing.learn_deadline(word);
                    }
                    *standing = Some((said, heard.standing));
                }
                (_, None) => {}
            }
        }
        if let Some(said) = heard.latest {
            let on_top = heard.on_top.zip(left).map(|((word, _), left)| (word, now + left));
            let known = self.latest.as_ref().map(|(said, on_top)| rank(*said, on_top));
            match (known.cmp(&Some(rank(said, &on_top))), &mut self.latest, on_top) {
                (Ordering::Equal, Some((_, Some((word, _)))), Some((same, _))) => {
                    word.add_deadline(&same);
                    word.add_force(&same);
                }
                (Ordering::Less, latest, on_top) => *latest = Some((said, on_top)),
                _ => {}
            }
        }
    }

    /// Whether a proxy may yet have to be told of it.
    fn is_in_force(&self) -> bool {
        self.standing.is_some() || matches!(self.latest, Some((_, Some(_))))
    }

    /// When the last word of it was said.
    fn last_said(&self) -> Option<u64> {
        let standing = self.standing.as_ref().map(|(said, _)| *said);
        standing.max(self.latest.as_ref().map(|(said, _)| *said))
    }

    fn end(&mut self, now: f64) {
        if let Some((_, on_top)) = &mut self.latest {
            on_top.take_if(|(_, until)| *until <= now);
        }
    }

    /// What lies on top, when it was said, and for how long it holds.
    fn on_top(&self, now: f64) -> Option<(u64, &Word, Duration)> {
        let (said, on_top) = self.latest.as_ref()?;
        let (word, until) = on_top.as_ref()?;
        Some((*said, word, Duration::try_from_secs_f64(until - now).ok()?))
    }

    /// What a proxy must be told that has heard this much, and whose override has so many seconds
    /// left. One that has heard the same another time, such as from a script that tells proxies one
    /// after the other, knows enough; the same with another reason, or by somebody else, is not.
    fn missed(
        &self,
        there: &Heard<'_>,
        left_there: Option<f64>,
        what: What,
        now: f64,
    ) -> Vec<Telling> {
        if !there.is_exact {
            return self.missed_by_guess(there, what, now);
        }
        let mut tellings = Vec::new();
        if let Some((said, word, left)) = self.on_top(now) {
            let known = there.on_top.as_ref().map(|(word, _)| word);
            // At the same time without anything on top, it has ended there.
            let is_other = known.is_some_and(|it| it.wish < word.wish);
            let is_other = there.latest == Some(said) && is_other;
            let ends_then =
                left_there.is_some_and(|there| (there - left.as_secs_f64()).abs() < SAME_END);
            let is_same = ends_then
                && known.is_some_and(|known| word.wish == known.wish && word.is_told_as(known));
            if (there.latest < Some(said) || is_other) && !is_same {
                tellings.push(word.telling(Some(left), Some(said), now));
            }
        }
        // The proxy puts it beneath what was said after it.
        if let Some((said, word)) = &self.standing {
            let either = [Some(&there.standing.wish), there.or_standing.as_ref()];
            let is_wish =
                either.contains(&Some(&word.wish)) && word.ends_drain_as(&there.standing, now);
            // Not all of what lies beneath is told with its words; who has heard this one has them.
            let is_wish =
                is_wish && (there.standing_said >= Some(*said) || word.is_told_as(&there.standing));
            // Else it has an override that this word has replaced.
            let is_same = is_wish && (there.on_top.is_none() || there.latest >= Some(*said));
            let known = there.standing_said.map(|said| (said, &there.standing.wish));
            if known < Some((*said, &word.wish)) && !is_same {
                tellings.push(word.telling(None, Some(*said), now));
            }
        }
        if let (Some((said, None)), true) = (&self.latest, there.on_top.is_some()) {
            let is_replaced = tellings.iter().any(|telling| telling.said_at >= there.latest);
            if there.latest < Some(*said) && !is_replaced {
                let word = self.standing.as_ref().map(|(_, word)| word.clone());
                let word = word.unwrap_or_else(|| what.nobodys());
                tellings.push(word.telling(Some(AT_ONCE), Some(*said), now));
            }
        }
        tellings
    }

    /// The same of a proxy that knows no such times: it has heard what is in force there.
    fn missed_by_guess(&self, there: &Heard<'_>, what: What, now: f64) -> Vec<Telling> {
        if self.standing.is_none() && self.latest.is_none() {
            return Vec::new();
        }
        let nobodys = what.nobodys();
        let standing = self.standing.as_ref().map_or(&nobodys, |(_, word)| word);
        let on_top = self.on_top(now);
        let (word, ttl) = on_top.map_or((standing, None), |(_, word, left)| (word, Some(left)));
        let in_force = there.on_top.as_ref().map_or(&there.standing, |(word, _)| word);
        let ends_too = ttl.is_none() || there.on_top.is_some() || standing.wish == word.wish;
        if in_force.wish == word.wish && ends_too {
            return Vec::new();
        }
        // What is usual is where a proxy goes back to by itself, and nothing to begin with: being
        // ready would let requests through to what is about to be taken out.
        let usual = [what.usual(), Wish::State(Admin::Unknown)];
        let below = ttl.is_some() && !usual.contains(&standing.wish);
        let below = below.then(|| standing.telling(None, None, now));
        below.into_iter().chain([word.telling(ttl, None, now)]).collect()
    }
}

/// What makes one newest word more than another of the same time.
fn rank(said: u64, on_top: &Option<(Word, f64)>) -> (u64, bool, Option<&Wish>) {
    (said, on_top.is_none(), on_top.as_ref().map(|(word, _)| &word.wish))
}

/// What a proxy has missed.
#[derive(Debug)]
struct Differing {
    since: f64,
    /// When it was told last.
    told: Option<f64>,
    /// How often it was told the same.
    times: u32,
    /// What it has to be told. Not for how long, which is another time each second.
    what: Vec<(Wish, Option<u64>)>,
}

impl Differing {
    fn begin(now: f64) -> Self {
        Self { since: now, told: None, times: 0, what: Vec::new() }
    }

    /// Whether to tell these changes now; something else than before need not wait as long.
    fn is_due(&mut self, now: f64, changes: &[Telling]) -> bool {
        let what: Vec<_> = changes.iter().map(|it| (it.wish.clone(), it.said_at)).collect();
        if self.what != what {
            (self.times, self.what) = (0, what);
        }
        let doublings = self.times.saturating_sub(1).min(16);
        let wait = (AGAIN * f64::from(1_u32 << doublings)).min(AGAIN_MOST);
        let is_due = now - self.since >= SETTLE && self.told.is_none_or(|told| now - told >= wait);
        if is_due {
            (self.told, self.times) = (Some(now), self.times.saturating_add(1));
        }
        is_due
    }
}

/// The newest words of all things, and who has missed some since when.
#[derive(Debug, Default)]
pub(crate) struct Book {
    newest: HashMap<Key, Newest>,
    /// By proxy and thing.
    differing: HashMap<(String, Key), Differing>,
    /// Seconds for which somebody has answered: while nobody does, no backend is known to be gone.
    answered: f64,
    /// When that was counted last.
    last: f64,
    /// Whether there was too much to keep.
    is_full: bool,
}

impl Book {
    /// Notes what the proxies that answer say at `now`, in seconds, and gives what to tell whom.
    pub(crate) fn note(&mut self, now: f64, said: &[(&str, &Answer)]) -> Vec<Order> {
        if !said.is_empty() {
            self.answered += now - self.last;
        }
        self.last = now;
        for (_, answer) in said {
            for (key, heard) in heard(answer) {
                self.hear(key, heard, answer, now);
            }
        }
        for newest in self.newest.values_mut() {
            newest.end(now);
        }
        self.forget();
        self.orders(now, said)
    }

    fn hear(&mut self, key: Key, heard: Heard<'_>, answer: &Answer, now: f64) {
        if heard.latest.is_some() {
            let newest = self.newest.entry(key).or_default();
            newest.hear(heard, answer, now);
            newest.needed = self.answered;
        } else if let Some(newest) = self.newest.get_mut(&key).filter(|it| it.is_in_force()) {
            newest.needed = self.answered;
        }
    }

    /// Leaves out what nobody needs any more. Where there is too much all the same, what has not been
    /// needed for longest goes first, and of that what was said first.
    fn forget(&mut self) {
        self.newest.retain(|_, newest| self.answered - newest.needed <= KEPT);
        let surplus = self.newest.len().saturating_sub(THINGS_MOST);
        if surplus > 0 && !self.is_full {
            tracing::warn!(
                most = THINGS_MOST,
                "operators' words on too many things: some are not carried"
            );
        }
        self.is_full = surplus > 0;
        if surplus == 0 {
            return;
        }
        let all = self.newest.iter();
        let mut all: Vec<_> =
            all.map(|(key, newest)| (newest.needed, newest.last_said(), key.clone())).collect();
        all.sort_unstable_by(|(needed, said, key), (other_needed, other_said, other_key)| {
            let by_need = needed.total_cmp(other_needed);
            by_need.then_with(|| (said, key).cmp(&(other_said, other_key)))
        });
        for (.., key) in all.into_iter().take(surplus) {
            self.newest.remove(&key);
        }
    }

    fn orders(&mut self, now: f64, said: &[(&str, &Answer)]) -> Vec<Order> {
        let mut before = std::mem::take(&mut self.differing);
        let mut orders = Vec::new();
        for (replica, answer) in said {
            for (key, mut there) in heard(answer) {
                let Some(newest) = self.newest.get(&key) else { continue };
                date_deadlines(&mut there, answer, now);
                let changes = newest.missed(&there, left(answer, &there), key.2, now);
                if changes.is_empty() {
                    continue;
                }
                let entry = ((*replica).to_owned(), key);
                let mut differing = before.remove(&entry).unwrap_or_else(|| Differing::begin(now));
                if differing.is_due(now, &changes) {
                    let (replica, (pool, id, _)) = entry.clone();
                    orders.push(Order { replica, pool, id, changes });
                }
                self.differing.insert(entry, differing);
            }
        }
        orders
    }
}

/// Dates the deadlines of what a proxy has heard, by our clock.
fn date_deadlines(heard: &mut Heard<'_>, answer: &Answer, now: f64) {
    heard.date_deadlines(|at| answer.proxy.age(Some(at)).map(|age| now - age));
}

/// The seconds that an override has left.
fn left(answer: &Answer, heard: &Heard<'_>) -> Option<f64> {
    let (_, expires) = heard.on_top.as_ref()?;
    answer.proxy.age(Some(expires)).map(|age| -age)
}

/// What a proxy has heard of each pool, and of each backend once for each thing that can be wanted of
/// it.
fn heard(answer: &Answer) -> impl Iterator<Item = (Key, Heard<'_>)> {
    let of_pool = |pool: &Pool| (pool.name.clone(), String::new(), What::Policy);
    let pools = answer.pools.iter();
    let pools = pools.filter_map(move |pool| Some((of_pool(pool), word::of_policy(pool)?)));
    let backends = answer.pools.iter().flat_map(|pool| {
        pool.backends.iter().flat_map(move |backend| {
            let key = |what| (pool.name.clone(), backend.id.clone(), what);
            What::OF_BACKENDS
                .into_iter()
                .filter_map(move |what| Some((key(what), what.heard(backend)?)))
        })
    });
    pools.chain(backends)
}

#[cfg(test)]
mod tests;
