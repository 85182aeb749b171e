//! What operators want of each backend, over all proxies, and which proxy has yet to hear of it.
//! The state and the weight are two things, each with words of its own.
//!
//! Each proxy keeps the operators' intent by itself. One that was away while something was changed
//! comes back with an old intent or, without its state file, with none; nothing else would ever
//! tell it. So the newest intent stands, and whoever says otherwise for longer than a change needs
//! to reach everybody is told.
//!
//! *Newest* is what one proxy says later by its own clock, to the millisecond: an operator may well
//! change something and change it back at once. Of two proxies it is the youngest by its age where
//! it is told: clocks of different machines disagree, but each knows how long ago something
//! happened. Being ready, or of the configured weight, with nobody who said so is no intent, however
//! young: it is what a proxy begins with. What was carried over is no new word either: it would
//! outrank what an operator said while it was on its way.
//!
//! An intent with an end lies on top of another one, which holds again afterwards: a proxy that has
//! missed both is told both. Nothing is ever forced: one that refuses is asked again later.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use crate::{
    model::{Admin, Answer, Backend},
    wish::Wish,
    word::{Order, Spoken, What, Word},
};

/// A change reaches all proxies within this time, or not at all.
const SETTLE: f64 = 2.0;
/// Between two attempts to tell the same proxy the same thing.
const AGAIN: f64 = 10.0;
/// How far two tellings of the same moment may lie apart: an answer's own time on the way.
const BLUR: f64 = 0.5;

/// A pool, a backend, and what of it is meant.
type Key = (String, String, What);

/// The standing intent for one backend.
#[derive(Clone, Debug, PartialEq)]
struct Standing {
    word: Word,
    /// Seconds on the dashboard's own clock.
    at: f64,
    until: Option<f64>,
    /// What holds again then.
    then: Word,
    /// Who said it.
    source: Source,
    /// When it was said, by the clock of the source.
    since: SystemTime,
    /// When it ends by itself, by the same clock.
    expires: Option<SystemTime>,
}

impl Standing {
    /// Whether it was said after another.
    fn is_newer(&self, known: &Self) -> bool {
        if self.source == known.source {
            self.since > known.since
        } else {
            self.at > known.at + BLUR
        }
    }

    /// Whether a proxy of which this holds knows what is wanted, now and afterwards.
    fn is_followed(&self, now: Wish, ends_there: bool) -> bool {
        let stays = self.until.is_none() || ends_there || self.then.wish == self.word.wish;
        self.word.wish == now && stays
    }
}

/// One run of a proxy, which has one clock.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    replica: String,
    started_at: String,
}

/// All standing intents, and who differs from them since when.
#[derive(Debug, Default)]
pub(crate) struct Book {
    standing: HashMap<Key, Standing>,
    /// By proxy and backend: since when, and when it was told last.
    differing: HashMap<(String, Key), (f64, Option<f64>)>,
}

impl Book {
    /// Notes what the proxies that answer say at `now`, in seconds, and gives what to tell whom.
    pub(crate) fn note(&mut self, now: f64, said: &[(&str, &Answer)]) -> Vec<Order> {
        for (replica, answer) in said {
            for (key, spoken) in words(answer) {
                self.hear(now, (replica, answer), key, spoken);
            }
        }
        self.hear_ends(now, said);
        for ((_, _, what), standing) in &mut self.standing {
            if let Some(until) = standing.until.filter(|until| *until <= now) {
                standing.word = std::mem::replace(&mut standing.then, what.nobodys());
                standing.at = until;
                standing.since = standing.expires.take().unwrap_or(standing.since);
                standing.until = None;
            }
        }
        self.orders(now, said)
    }

    fn hear(&mut self, now: f64, (replica, answer): (&str, &Answer), key: Key, spoken: Spoken<'_>) {
        let (age, since) = (answer.proxy.age(spoken.since), time(spoken.since));
        let (Some(age), Some(since)) = (age, since) else { return };
        let left = answer.proxy.age(spoken.expires);
        let said = Standing {
            word: spoken.word,
            at: now - age,
            until: left.map(|left| now - left),
            then: spoken.then,
            source: Source {
                replica: replica.to_owned(),
                started_at: answer.proxy.started_at.clone(),
            },
            since,
            expires: time(spoken.expires),
        };
        let known = self.standing.get(&key);
        if known.is_none_or(|known| !spoken.is_carried && said.is_newer(known)) {
            self.standing.insert(key, said);
        }
    }

    /// The same state can be wanted for longer, or for good by now, since the same time. The latest
    /// end that a proxy tells holds: one that has missed the change would end it too early.
    fn hear_ends(&mut self, now: f64, said: &[(&str, &Answer)]) {
        let mut ends: HashMap<Key, (f64, &str, Spoken<'_>)> = HashMap::new();
        for (replica, answer) in said {
            for (key, spoken) in words(answer).filter(|(_, spoken)| !spoken.is_carried) {
                let Some(standing) = self.standing.get(&key) else { continue };
                let age = answer.proxy.age(spoken.since);
                let is_older = age.is_none_or(|age| now - age < standing.at - BLUR);
                if is_older || spoken.word.wish != standing.word.wish {
                    continue;
                }
                let left = answer.proxy.age(spoken.expires);
                let end = left.map_or(f64::INFINITY, |left| now - left);
                if ends.get(&key).is_none_or(|latest| end > latest.0) {
                    ends.insert(key, (end, replica, spoken));
                }
            }
        }
        for (key, (end, replica, spoken)) in ends {
            let Some(standing) = self.standing.get_mut(&key) else { continue };
            standing.until = Some(end).filter(|end| end.is_finite());
            let is_source = standing.source.replica == replica;
            standing.expires = time(spoken.expires).filter(|_| is_source);
            standing.then = spoken.then;
        }
    }

    fn orders(&mut self, now: f64, said: &[(&str, &Answer)]) -> Vec<Order> {
        let mut before = std::mem::take(&mut self.differing);
        let mut orders = Vec::new();
        for (replica, answer) in said {
            for (key, backend) in backends(answer) {
                let what = key.2;
                let Some(standing) = self.standing.get(&key) else { continue };
                let Some(there) = what.now(backend) else { continue };
                if standing.is_followed(there, what.ends(backend)) {
                    continue;
                }
                let entry = ((*replica).to_owned(), key);
                let (since, told) = before.remove(&entry).unwrap_or((now, None));
                let due = now - since >= SETTLE && told.is_none_or(|told| now - told >= AGAIN);
                if due {
                    orders.push(order(replica, &entry.1, standing, now));
                }
                self.differing.insert(entry, (since, if due { Some(now) } else { told }));
            }
        }
        orders
    }
}

fn order(replica: &str, (pool, id, what): &Key, standing: &Standing, now: f64) -> Order {
    let ttl = standing.until.and_then(|until| Duration::try_from_secs_f64(until - now).ok());
    let mut changes = Vec::new();
    // What is usual is where a proxy goes back to by itself, and nothing to begin with: being ready
    // would let requests through to what is about to be taken out.
    let unknown = Wish::State(Admin::Unknown);
    if ttl.is_some() && ![what.usual(), unknown].contains(&standing.then.wish) {
        changes.push(standing.then.telling(None));
    }
    changes.push(standing.word.telling(ttl));
    Order { replica: replica.to_owned(), pool: pool.clone(), id: id.clone(), changes }
}

fn time(text: Option<&str>) -> Option<SystemTime> {
    humantime::parse_rfc3339(text?).ok()
}

/// Each backend, once for each thing that can be wanted of it.
fn backends(answer: &Answer) -> impl Iterator<Item = (Key, &Backend)> {
    answer.pools.iter().flat_map(|pool| {
        pool.backends.iter().flat_map(move |backend| {
            What::ALL.map(|what| ((pool.name.clone(), backend.id.clone(), what), backend))
        })
    })
}

/// What somebody wants of each.
fn words(answer: &Answer) -> impl Iterator<Item = (Key, Spoken<'_>)> {
    backends(answer).filter_map(|(key, backend)| {
        let spoken = key.2.spoken(backend)?;
        Some((key, spoken))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word::CARRIED;
    use serde_json::{Value, json};

    /// What a proxy says of backend `b`, `seconds` after a start, by a clock that is `skew` off.
    fn says(
        seconds: u64,
        skew: u64,
        admin: &str,
        since: u64,
        actor: Option<&str>,
        expires: Option<u64>,
    ) -> Answer {
        let time = |seconds: u64| {
            let at = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000 + skew + seconds);
            Value::from(humantime::format_rfc3339_millis(at).to_string())
        };
        serde_json::from_value(json!({
            "proxy": {"started_at": time(0), "uptime_seconds": seconds},
            "pools": [{"name": "p", "backends": [{"id": "b", "admin": admin, "health": "up",
                "effective": "serving", "admin_since": time(since), "admin_actor": actor,
                "admin_reason": "why", "admin_expires_at": expires.map(time)}]}],
        }))
        .unwrap()
    }

    fn run(book: &mut Book, now: f64, said: &[(&str, Answer)]) -> Vec<(String, Admin)> {
        let said: Vec<(&str, &Answer)> =
            said.iter().map(|(name, answer)| (*name, answer)).collect();
        let orders = book.note(now, &said).into_iter();
        orders
            .flat_map(|order| {
                order.changes.into_iter().map(move |c| match c.wish {
                    Wish::State(state) => (order.replica.clone(), state),
                    Wish::Weight(_) => panic!("nobody spoke of weights"),
                })
            })
            .collect()
    }

    #[test]
    fn a_proxy_that_comes_back_without_memory_gets_the_standing_intent() {
        let mut book = Book::default();
        let drained = |at| says(at, 0, "drain", 10, Some("ann"), None);
        assert!(run(&mut book, 20.0, &[("a", drained(20)), ("b", drained(20))]).is_empty());
        // Its own "ready" is younger than the drain, but nobody said it.
        let fresh = |at| says(at, 0, "ready", 59, None, None);
        assert!(
            run(&mut book, 60.0, &[("a", drained(60)), ("b", fresh(60))]).is_empty(),
            "it settles"
        );
        let orders = run(&mut book, 63.0, &[("a", drained(63)), ("b", fresh(63))]);
        assert_eq!(orders, [("b".to_owned(), Admin::Drain)]);
        assert!(
            run(&mut book, 64.0, &[("a", drained(64)), ("b", fresh(64))]).is_empty(),
            "not each second"
        );
        assert_eq!(
            run(&mut book, 74.0, &[("a", drained(74)), ("b", fresh(74))]).len(),
            1,
            "but again"
        );
    }

    #[test]
    fn the_newest_word_stands_whatever_the_clocks_say() {
        let mut book = Book::default();
        // The clock of `a` is an hour ahead; its drain is the older word all the same.
        let said = |at| {
            [
                ("a", says(at, 3_600, "drain", 10, Some("ann"), None)),
                ("b", says(at, 0, "ready", 40, Some("bob"), None)),
            ]
        };
        run(&mut book, 50.0, &said(50));
        assert_eq!(run(&mut book, 53.0, &said(53)), [("a".to_owned(), Admin::Ready)]);
    }

    #[test]
    fn what_expired_is_not_brought_back() {
        let mut book = Book::default();
        let drained = |at| says(at, 0, "drain", 10, Some("ann"), Some(30));
        run(&mut book, 20.0, &[("a", drained(20))]);
        let ready = |at| says(at, 0, "ready", 30, None, None);
        assert!(run(&mut book, 35.0, &[("a", ready(35))]).is_empty());
        assert!(run(&mut book, 40.0, &[("a", ready(40))]).is_empty());
        // One that missed the end is told of it.
        let late = says(50, 0, "drain", 10, Some("ann"), None);
        run(&mut book, 50.0, &[("a", ready(50)), ("b", late.clone())]);
        assert_eq!(
            run(&mut book, 53.0, &[("a", ready(53)), ("b", late)]),
            [("b".to_owned(), Admin::Ready)]
        );
    }

    #[test]
    fn an_order_carries_reason_actor_and_the_time_that_is_left() {
        let mut book = Book::default();
        let drained = |at| says(at, 0, "drain", 10, Some("ann"), Some(100));
        let fresh = |at| says(at, 0, "ready", 59, None, None);
        book.note(60.0, &[("a", &drained(60)), ("b", &fresh(60))]);
        let orders = book.note(63.0, &[("a", &drained(63)), ("b", &fresh(63))]);
        let [change] = &orders[0].changes[..] else { panic!("{orders:?}") };
        assert_eq!(change.actor, "ann, carried over by the dashboard");
        assert_eq!(change.reason.as_deref(), Some("why"));
        assert!((change.ttl.unwrap().as_secs_f64() - 37.0).abs() < 0.1);
    }

    /// What a proxy says that has an override on top of a `maint` of Bob's.
    fn says_over_maint(at: u64, admin: &str, expires: u64) -> Answer {
        let mut answer = says(at, 0, admin, 10, Some("ann"), Some(expires));
        let maint = json!({"state": "maint", "since": null, "reason": "disk", "actor": "bob"});
        answer.pools[0].backends[0].admin_reverts_to = serde_json::from_value(maint).unwrap();
        answer
    }

    #[test]
    fn a_proxy_that_missed_both_is_told_what_an_override_lies_on_and_then_the_override() {
        for (admin, state) in [("drain", Admin::Drain), ("ready", Admin::Ready)] {
            let mut book = Book::default();
            let over = |at| says_over_maint(at, admin, 100);
            let fresh = |at| says(at, 0, "ready", 59, None, None);
            run(&mut book, 60.0, &[("a", over(60)), ("b", fresh(60))]);
            let orders = book.note(63.0, &[("a", &over(63)), ("b", &fresh(63))]);
            let [below, on_top] = &orders[0].changes[..] else { panic!("{orders:?}") };
            assert_eq!((below.wish, below.ttl), (Wish::State(Admin::Maint), None));
            assert_eq!(below.actor, "bob, carried over by the dashboard");
            assert_eq!((on_top.wish, on_top.ttl.is_some()), (Wish::State(state), true));
            assert!(run(&mut book, 80.0, &[("a", over(80)), ("b", over(80))]).is_empty());
        }
    }

    #[test]
    fn what_an_override_lay_on_stands_when_it_has_ended() {
        let mut book = Book::default();
        run(&mut book, 20.0, &[("a", says_over_maint(20, "drain", 30))]);
        let maint = |at| says(at, 0, "maint", 5, Some("bob"), None);
        assert!(run(&mut book, 31.0, &[("a", maint(31))]).is_empty());
        assert!(run(&mut book, 40.0, &[("a", maint(40))]).is_empty(), "that is what stands");
        let fresh = |at| says(at, 0, "ready", 35, None, None);
        run(&mut book, 41.0, &[("a", maint(41)), ("b", fresh(41))]);
        let orders = run(&mut book, 44.0, &[("a", maint(44)), ("b", fresh(44))]);
        assert_eq!(orders, [("b".to_owned(), Admin::Maint)]);
    }

    #[test]
    fn what_was_made_to_last_does_not_end_where_it_once_would_have() {
        let mut book = Book::default();
        let drained = |at, expires| says(at, 0, "drain", 10, Some("ann"), expires);
        run(&mut book, 20.0, &[("a", drained(20, Some(30)))]);
        for at in [29, 31, 34, 45] {
            assert!(run(&mut book, at as f64, &[("a", drained(at, None))]).is_empty(), "{at}");
        }
        // One that missed that has gone back by itself, and is told.
        let ready = |at| says(at, 0, "ready", 30, None, None);
        run(&mut book, 46.0, &[("a", drained(46, None)), ("b", ready(46))]);
        let orders = run(&mut book, 49.0, &[("a", drained(49, None)), ("b", ready(49))]);
        assert_eq!(orders, [("b".to_owned(), Admin::Drain)]);
    }

    /// The same as another time, a fraction of a second later.
    fn a_moment_later(answer: &Answer, admin: &str) -> Answer {
        let mut answer = answer.clone();
        let backend = &mut answer.pools[0].backends[0];
        let since = humantime::parse_rfc3339(backend.admin_since.as_deref().unwrap()).unwrap();
        let since = humantime::format_rfc3339_millis(since + Duration::from_millis(100));
        backend.admin_since = Some(since.to_string());
        backend.admin = serde_json::from_value(admin.into()).unwrap();
        answer
    }

    #[test]
    fn what_is_changed_back_at_once_is_not_brought_back() {
        let mut book = Book::default();
        let drained = says(20, 0, "drain", 19, Some("ann"), None);
        run(&mut book, 20.0, &[("a", drained.clone())]);
        let ready = a_moment_later(&drained, "ready");
        for at in 21..40 {
            assert!(run(&mut book, at as f64, &[("a", ready.clone())]).is_empty());
        }
    }

    #[test]
    fn an_override_without_an_end_outlives_the_one_that_it_replaces() {
        let mut book = Book::default();
        run(&mut book, 20.0, &[("a", says(20, 0, "drain", 10, Some("ann"), Some(30)))]);
        for at in [25, 31, 34, 50] {
            let forever = says(at, 0, "drain", 22, Some("ann"), None);
            assert!(run(&mut book, at as f64, &[("a", forever)]).is_empty());
        }
    }

    #[test]
    fn an_override_with_an_end_that_replaces_one_without_ends() {
        let mut book = Book::default();
        run(&mut book, 20.0, &[("a", says(20, 0, "drain", 10, Some("ann"), None))]);
        run(&mut book, 25.0, &[("a", says(25, 0, "drain", 22, Some("ann"), Some(30)))]);
        for at in [31, 34, 50] {
            assert!(
                run(&mut book, at as f64, &[("a", says(at, 0, "ready", 30, None, None))])
                    .is_empty()
            );
        }
        // And whatever is said right after the end holds.
        run(&mut book, 51.0, &[("a", says(51, 0, "drain", 31, Some("bob"), None))]);
        assert!(
            run(&mut book, 60.0, &[("a", says(60, 0, "drain", 31, Some("bob"), None))]).is_empty()
        );
    }

    #[test]
    fn what_is_carried_over_late_does_not_outrank_an_operator() {
        let mut book = Book::default();
        let drained = |at| says(at, 0, "drain", 10, Some("ann"), None);
        run(&mut book, 20.0, &[("a", drained(20))]);
        let ready = |at| says(at, 0, "ready", 22, Some("ann"), None);
        let carried = format!("ann{CARRIED} (from 127.0.0.1)");
        let late = |at| says(at, 0, "drain", 23, Some(&carried), None);
        run(&mut book, 25.0, &[("a", ready(25)), ("b", late(25))]);
        let orders = run(&mut book, 28.0, &[("a", ready(28)), ("b", late(28))]);
        assert_eq!(orders, [("b".to_owned(), Admin::Ready)]);
    }

    /// What a proxy says of the weight of a backend that is ready.
    fn weighs(
        at: u64,
        weight: Option<u32>,
        since: Option<u64>,
        over: Option<(u64, u32)>,
    ) -> Answer {
        let mut answer = says(at, 0, "ready", 1, None, None);
        let time = |seconds: u64| {
            let at = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
            humantime::format_rfc3339_millis(at).to_string()
        };
        let backend = &mut answer.pools[0].backends[0];
        (backend.configured_weight, backend.weight_wanted) = (Some(1), weight);
        backend.weight_since = since.map(time);
        backend.weight_actor = since.map(|_| "ann".to_owned());
        backend.weight_expires_at = over.map(|(until, _)| time(until));
        backend.weight_reverts_to = over.map(|(_, then)| then);
        answer
    }

    fn told(book: &mut Book, now: f64, said: &[(&str, Answer)]) -> Vec<(String, Wish, bool)> {
        let said: Vec<(&str, &Answer)> =
            said.iter().map(|(name, answer)| (*name, answer)).collect();
        let orders = book.note(now, &said).into_iter();
        let changes = |order: Order| {
            let replica = order.replica;
            order.changes.into_iter().map(move |c| (replica.clone(), c.wish, c.ttl.is_some()))
        };
        orders.flat_map(changes).collect()
    }

    #[test]
    fn a_weight_is_carried_over_and_so_is_its_end_and_what_it_lies_on() {
        let mut book = Book::default();
        let both =
            |at| [("a", weighs(at, Some(3), Some(10), None)), ("b", weighs(at, None, None, None))];
        assert!(told(&mut book, 20.0, &both(20)).is_empty(), "it settles");
        let expected = ("b".to_owned(), Wish::Weight(Some(3)), false);
        assert_eq!(told(&mut book, 23.0, &both(23)), std::slice::from_ref(&expected));
        // For a while, on top of that.
        let over = Some((100, 3));
        let both =
            |at| [("a", weighs(at, Some(0), Some(30), over)), ("b", weighs(at, None, None, None))];
        assert!(told(&mut book, 31.0, &both(31)).is_empty(), "it was told just now");
        let orders = told(&mut book, 34.0, &both(34));
        assert_eq!(orders, [expected, ("b".to_owned(), Wish::Weight(Some(0)), true)]);
    }

    #[test]
    fn a_weight_that_was_taken_back_is_taken_back_where_it_still_holds() {
        let mut book = Book::default();
        let said = |at| {
            [("a", weighs(at, None, Some(15), None)), ("b", weighs(at, Some(3), Some(10), None))]
        };
        told(&mut book, 20.0, &said(20));
        let expected = [("b".to_owned(), Wish::Weight(None), false)];
        assert_eq!(told(&mut book, 23.0, &said(23)), expected);
        // One that forgot who took it back is right all the same.
        let fresh = |at| [("b", weighs(at, None, None, None))];
        assert!(told(&mut book, 40.0, &fresh(40)).is_empty());
        assert!(told(&mut book, 50.0, &fresh(50)).is_empty());
    }

    #[test]
    fn a_proxy_that_does_not_tell_weights_is_told_none() {
        let mut book = Book::default();
        let old = |at| says(at, 0, "ready", 1, None, None);
        for at in [20, 23, 40] {
            let said = [("a", weighs(at, Some(3), Some(10), None)), ("b", old(at))];
            assert!(told(&mut book, at as f64, &said).is_empty());
        }
    }

    #[test]
    fn nobody_is_told_what_nobody_said() {
        let mut book = Book::default();
        for at in [10, 20, 30] {
            let said = [
                ("a", says(at, 0, "ready", 1, None, None)),
                ("b", says(at, 0, "sleepy", 1, None, None)),
            ];
            assert!(run(&mut book, at as f64, &said).is_empty());
        }
    }
}
