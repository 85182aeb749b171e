use super::*;
use crate::{model::Backend, word::CARRIED};
use chassis::wall;
use serde_json::{Value, json};

mod deadline;
mod forced;
mod forgetting;
mod numbers;
mod policy;
mod reason;

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
    let said: Vec<(&str, &Answer)> = said.iter().map(|(name, answer)| (*name, answer)).collect();
    let orders = book.note(now, &said).into_iter();
    orders
        .flat_map(|order| {
            order.changes.into_iter().map(move |c| match c.wish {
                Wish::State(state) => (order.replica.clone(), state),
                other => panic!("nobody spoke of {other:?}"),
            })
        })
        .collect()
}

/// To whom what is told, and whether it has an end.
fn told(book: &mut Book, now: f64, said: &[(&str, Answer)]) -> Vec<(String, Wish, bool)> {
    let said: Vec<(&str, &Answer)> = said.iter().map(|(name, answer)| (*name, answer)).collect();
    let orders = book.note(now, &said).into_iter();
    let changes = |order: Order| {
        let replica = order.replica;
        order.changes.into_iter().map(move |c| (replica.clone(), c.wish, c.ttl.is_some()))
    };
    orders.flat_map(changes).collect()
}

#[test]
fn a_proxy_that_comes_back_without_memory_gets_the_standing_intent() {
    let mut book = Book::default();
    let drained = |at| says(at, 0, "drain", 10, Some("ann"), None);
    assert!(run(&mut book, 20.0, &[("a", drained(20)), ("b", drained(20))]).is_empty());
    // Its own "ready" is younger than the drain, but nobody said it.
    let fresh = |at| says(at, 0, "ready", 59, None, None);
    assert!(run(&mut book, 60.0, &[("a", drained(60)), ("b", fresh(60))]).is_empty(), "it settles");
    let orders = run(&mut book, 63.0, &[("a", drained(63)), ("b", fresh(63))]);
    assert_eq!(orders, [("b".to_owned(), Admin::Drain)]);
    assert!(
        run(&mut book, 64.0, &[("a", drained(64)), ("b", fresh(64))]).is_empty(),
        "not each second"
    );
    assert_eq!(run(&mut book, 74.0, &[("a", drained(74)), ("b", fresh(74))]).len(), 1, "but again");
}

#[test]
fn a_proxy_that_goes_on_refusing_is_asked_less_and_less_until_there_is_something_else_to_tell() {
    let mut book = Book::default();
    let mut asked = Vec::new();
    for second in 60..1_200_u32 {
        let at = u64::from(second);
        // Something else is said at 1000.
        let (state, since) = if second < 1_000 { ("drain", 10) } else { ("maint", 1_000) };
        let wanted = says(at, 0, state, since, Some("ann"), None);
        let fresh = says(at, 0, "ready", 59, None, None);
        if !run(&mut book, f64::from(second), &[("a", wanted), ("b", fresh)]).is_empty() {
            asked.push(second);
        }
    }
    let before = [62, 72, 92, 132, 212, 372, 672, 972];
    assert_eq!(asked, [&before[..], &[1_000, 1_010, 1_030, 1_070, 1_150]].concat());
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
    let late = says(50, 0, "drain", 5, Some("ann"), None);
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
        assert_eq!((&below.wish, below.ttl), (&Wish::State(Admin::Maint), None));
        assert_eq!(below.actor, "bob, carried over by the dashboard");
        assert_eq!((&on_top.wish, on_top.ttl.is_some()), (&Wish::State(state), true));
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
            run(&mut book, at as f64, &[("a", says(at, 0, "ready", 30, None, None))]).is_empty()
        );
    }
    // And whatever is said right after the end holds.
    run(&mut book, 51.0, &[("a", says(51, 0, "drain", 31, Some("bob"), None))]);
    assert!(run(&mut book, 60.0, &[("a", says(60, 0, "drain", 31, Some("bob"), None))]).is_empty());
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

/// A word for the state: the state, when it was said, and, if it ends, when.
type Said<'a> = (&'a str, u64, Option<u64>);

/// What a proxy that tells such times has heard: what stands, what lies on top, and when the newest
/// word was said; times are seconds, of words by whatever clocks.
fn knows(at: u64, standing: Said<'_>, on_top: Option<Said<'_>>, latest: u64) -> Answer {
    let (state, said, expires) = on_top.unwrap_or(standing);
    let mut answer = says(at, 0, state, said, Some("ann"), expires);
    let backend = &mut answer.pools[0].backends[0];
    let text = |said: u64| Some(wall::text(said * 1_000));
    backend.admin_said_at = Some(text(latest));
    backend.admin_standing_said_at = text(standing.1);
    if on_top.is_some() {
        let below = json!({"state": standing.0, "actor": "bob", "deadline_at": null});
        backend.admin_reverts_to = serde_json::from_value(below).unwrap();
    }
    answer
}

/// A proxy that has heard nothing yet.
fn knows_nothing(at: u64) -> Answer {
    let mut answer = says(at, 0, "ready", at - 1, None, None);
    answer.pools[0].backends[0].admin_said_at = Some(None);
    answer
}

/// All that `c` is told in the end, which has heard nothing, when others say this.
fn tellings_to_c(said: impl Fn(u64) -> Vec<(&'static str, Answer)>) -> Vec<Telling> {
    let mut book = Book::default();
    let mut orders = Vec::new();
    for at in [60, 63] {
        let mut said = said(at);
        said.push(("c", knows_nothing(at)));
        let said: Vec<_> = said.iter().map(|(name, answer)| (*name, answer)).collect();
        orders = book.note(at as f64, &said);
    }
    orders.retain(|order| order.replica == "c");
    orders.into_iter().flat_map(|order| order.changes).collect()
}

/// What is told in the end if `said` stays as it is: to whom, the state, when that was said, and
/// whether it has an end.
fn told_of(
    said: impl Fn(u64) -> Vec<(&'static str, Answer)>,
) -> Vec<(String, Wish, Option<u64>, bool)> {
    let mut book = Book::default();
    let told = |book: &mut Book, at: u64| {
        let said = said(at);
        let said: Vec<(&str, &Answer)> =
            said.iter().map(|(name, answer)| (*name, answer)).collect();
        book.note(at as f64, &said)
    };
    assert!(told(&mut book, 50).is_empty(), "it settles");
    let orders = told(&mut book, 53).into_iter();
    let changes = orders.flat_map(|order| {
        let said = |change: &Telling| change.said_at.map(|at| at / 1_000);
        let name = order.replica;
        let changes = order.changes.into_iter();
        changes.map(move |it| (name.clone(), it.wish.clone(), said(&it), it.ttl.is_some()))
    });
    changes.collect()
}

fn order(name: &str, state: Admin, said: u64, ends: bool) -> (String, Wish, Option<u64>, bool) {
    (name.to_owned(), Wish::State(state), Some(said), ends)
}

#[test]
fn an_older_word_that_was_carried_late_loses_and_a_carried_word_keeps_its_time() {
    // By the clock of `b` the drain began to hold just now.
    let said = |at| {
        let mut late = knows(at, ("drain", 10, None), None, 10);
        let backend = &mut late.pools[0].backends[0];
        backend.admin_since =
            says(at, 0, "drain", at, None, None).pools[0].backends[0].admin_since.clone();
        backend.admin_actor = Some(format!("ann{CARRIED}"));
        vec![("a", knows(at, ("ready", 20, None), None, 20)), ("b", late)]
    };
    assert_eq!(told_of(said), [order("b", Admin::Ready, 20, false)]);
    let said = |at| vec![("a", knows(at, ("drain", 10, None), None, 10)), ("b", knows_nothing(at))];
    assert_eq!(told_of(said), [order("b", Admin::Drain, 10, false)]);
}

#[test]
fn only_the_time_of_a_word_counts_whatever_the_clocks_of_proxies_say() {
    // The clock of `a` is an hour ahead: what it heard alone was said then, and later words after.
    let said = |at| {
        let ahead = says(at, 3_600, "drain", 10, Some("ann"), None);
        let mut a = knows(at, ("drain", 3_610, None), None, 3_610);
        (a.proxy, a.pools[0].backends[0].admin_since) =
            (ahead.proxy, ahead.pools[0].backends[0].admin_since.clone());
        vec![("a", a), ("b", knows(at, ("ready", 3_611, None), None, 3_611))]
    };
    assert_eq!(told_of(said), [order("a", Admin::Ready, 3_611, false)]);
}

#[test]
fn nobody_is_told_what_it_has_heard_and_of_two_words_at_once_the_greater_holds() {
    let said = |at| {
        let one = |expires| knows(at, ("ready", 5, None), Some(("drain", 10, Some(expires))), 10);
        vec![("a", one(100)), ("b", one(102))]
    };
    assert_eq!(told_of(said), [], "their ends are a little apart");
    let said = |at| {
        vec![
            ("a", knows(at, ("drain", 10, None), None, 10)),
            ("b", knows(at, ("maint", 10, None), None, 10)),
        ]
    };
    assert_eq!(told_of(said), [order("a", Admin::Maint, 10, false)]);
}

/// Two dashboards may say something in the same millisecond, and each proxy keeps what it heard last.
#[test]
fn of_two_words_at_once_each_dashboard_takes_the_same_whichever_it_hears_first() {
    let on_top = |at, state| knows(at, ("ready", 5, None), Some((state, 10, Some(90))), 10);
    let stands = |at, state| knows(at, (state, 10, None), None, 10);
    for ends in [false, true] {
        let knows = |at, state| if ends { on_top(at, state) } else { stands(at, state) };
        for lesser in ["ready", "drain"] {
            let expected = [order("a", Admin::Maint, 10, ends)];
            let said = |at| vec![("a", knows(at, lesser)), ("b", knows(at, "maint"))];
            assert_eq!(told_of(said), expected, "{lesser}, {ends}");
            let said = |at| vec![("b", knows(at, "maint")), ("a", knows(at, lesser))];
            assert_eq!(told_of(said), expected, "{lesser}, {ends}, the other way round");
        }
    }
}

#[test]
fn who_has_heard_the_same_at_another_time_is_not_told_again() {
    let said = |at| {
        vec![
            ("a", knows(at, ("drain", 10, None), None, 10)),
            ("b", knows(at, ("drain", 11, None), None, 11)),
        ]
    };
    assert_eq!(told_of(said), []);
    let for_a_while =
        |at, said, until| knows(at, ("ready", 5, None), Some(("drain", said, Some(until))), said);
    let said = |at| vec![("a", for_a_while(at, 10, 310)), ("b", for_a_while(at, 11, 311))];
    assert_eq!(told_of(said), []);
    let said = |at| vec![("a", for_a_while(at, 10, 310)), ("b", for_a_while(at, 11, 611))];
    assert_eq!(told_of(said), [order("a", Admin::Drain, 11, true)], "it is to last longer");
    // What stands is the same, but for one it is what an override has been replaced by.
    let said =
        |at| vec![("a", for_a_while(at, 10, 310)), ("b", knows(at, ("ready", 11, None), None, 11))];
    assert_eq!(told_of(said), [order("a", Admin::Ready, 11, false)]);
}

#[test]
fn an_override_that_has_ended_on_one_proxy_is_not_revived_there_nor_cut_short_elsewhere() {
    let said = |at| {
        let ended = knows(at, ("ready", 5, None), None, 10);
        let late = knows(at, ("ready", 5, None), Some(("maint", 10, Some(90))), 10);
        vec![("a", ended), ("b", late), ("c", knows_nothing(at))]
    };
    assert_eq!(told_of(said), [], "and nobody who comes is told of it");
    // What it lies on is another matter.
    let said = |at| {
        let ended = knows(at, ("drain", 7, None), None, 10);
        let late = knows(at, ("ready", 5, None), Some(("maint", 10, Some(90))), 10);
        vec![("a", ended), ("b", late), ("c", knows_nothing(at))]
    };
    let expected = [order("b", Admin::Drain, 7, false), order("c", Admin::Drain, 7, false)];
    assert_eq!(told_of(said), expected);
}

#[test]
fn an_override_comes_first_and_what_it_lies_on_is_put_beneath_it() {
    let said = |at| {
        let over = knows(at, ("ready", 8, None), Some(("drain", 10, Some(90))), 10);
        vec![("a", over), ("b", knows(at, ("maint", 5, None), None, 5))]
    };
    let expected = [order("b", Admin::Drain, 10, true), order("b", Admin::Ready, 8, false)];
    assert_eq!(told_of(said), expected);
}

#[test]
fn an_older_override_ends_where_the_one_that_replaced_it_is_over_already() {
    let said = |at| {
        let ended = knows(at, ("ready", 5, None), None, 10);
        vec![("a", ended), ("b", knows(at, ("ready", 5, None), Some(("maint", 8, Some(90))), 8))]
    };
    assert_eq!(told_of(said), [order("b", Admin::Ready, 10, true)]);
    // A newer word that stands does the same by itself.
    let said = |at| {
        let b = knows(at, ("ready", 5, None), Some(("maint", 8, Some(90))), 8);
        vec![("a", knows(at, ("ready", 10, None), None, 10)), ("b", b)]
    };
    assert_eq!(told_of(said), [order("b", Admin::Ready, 10, false)]);
}

#[test]
fn proxies_of_before_such_times_tell_and_are_told_as_ever() {
    let old = |at, admin, since| says(at, 0, admin, since, Some("ann"), None);
    // In milliseconds since 1970, as those that know such times count too.
    let since = |seconds: u64| 1_000_000 + seconds;
    let said = |at| {
        let new = knows(at, ("ready", since(10), None), None, since(10));
        vec![("a", old(at, "drain", 20)), ("b", new)]
    };
    assert_eq!(told_of(said), [order("b", Admin::Drain, since(20), false)]);
    let said = |at| {
        let new = knows(at, ("ready", since(30), None), None, since(30));
        vec![("a", old(at, "drain", 20)), ("b", new)]
    };
    let expected = ("a".to_owned(), Wish::State(Admin::Ready), None, false);
    assert_eq!(told_of(said), [expected], "without a time, which it would refuse");
}

#[test]
fn who_refused_a_word_is_told_it_no_more_when_it_is_taken_back() {
    for has_heard in [true, false] {
        let mut book = Book::default();
        let mut asked = Vec::new();
        for at in 50..2_000 {
            let is_back = at >= 100;
            let back = knows(at, ("ready", 100, None), None, 100);
            let refuses = if is_back && has_heard { back.clone() } else { knows_nothing(at) };
            let a = if is_back { back } else { knows(at, ("drain", 10, None), None, 10) };
            if !run(&mut book, at as f64, &[("a", a), ("b", refuses)]).is_empty() {
                asked.push(at);
            }
        }
        assert_eq!(asked, [52, 62, 82], "{has_heard}");
    }
}
