//! Of deadlines, which a proxy that was away is told as what is left of them.

use super::*;

fn text(deadline: u64) -> Option<String> {
    let at = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000 + deadline);
    Some(humantime::format_rfc3339_millis(at).to_string())
}

fn with_deadline(mut answer: Answer, deadline: u64) -> Answer {
    answer.pools[0].backends[0].deadline_at = text(deadline);
    answer
}

/// The same of what an override lies on.
fn with_deadline_below(answer: Answer, deadline: u64) -> Answer {
    with_below(answer, Some(text(deadline)))
}

/// The same, or none, or nothing that is told, as by a proxy of before.
fn with_below(mut answer: Answer, deadline: Option<Option<String>>) -> Answer {
    let below = answer.pools[0].backends[0].admin_reverts_to.as_mut();
    below.expect("something lies below").deadline_at = deadline;
    answer
}

/// The seconds of the deadline that `c` is told of in the end, of all that it is told.
fn told_to_c(said: impl Fn(u64) -> Vec<(&'static str, Answer)>) -> Vec<Option<f64>> {
    let seconds = |left: Duration| left.as_secs_f64().round();
    tellings_to_c(said).iter().map(|telling| telling.deadline.map(seconds)).collect()
}

#[test]
fn what_is_left_of_a_deadline_is_carried_with_its_drain() {
    let stands = |at| knows(at, ("drain", 10, None), None, 10);
    let said = |at| vec![("a", with_deadline(stands(at), 100))];
    assert_eq!(told_to_c(said), [Some(37.0)]);
    let said = |at| vec![("a", with_deadline(stands(at), 40))];
    assert_eq!(told_to_c(said), [Some(0.0)], "it is over there, too");
    let said = |at| vec![("a", stands(at))];
    assert_eq!(told_to_c(said), [None]);
    let over = |at| knows(at, ("maint", 5, None), Some(("drain", 10, Some(300))), 10);
    let said = |at| vec![("a", with_deadline(over(at), 100))];
    assert_eq!(told_to_c(said), [Some(37.0), None], "what lies below has none");
    let said = |at| vec![("a", with_deadline_below(over(at), 200))];
    assert_eq!(told_to_c(said), [None, Some(137.0)], "that is another one");
    let said = |at| vec![("a", with_deadline_below(with_deadline(over(at), 100), 40))];
    assert_eq!(told_to_c(said), [Some(37.0), Some(0.0)]);
}

#[test]
fn a_deadline_that_some_proxies_were_not_told_of_is_carried_all_the_same() {
    let knows = |at, ends: Option<u64>| match ends {
        None => knows(at, ("drain", 10, None), None, 10),
        Some(_) => knows(at, ("ready", 5, None), Some(("drain", 10, ends)), 10),
    };
    for ends in [None, Some(300)] {
        let said = |at| vec![("a", knows(at, ends)), ("b", with_deadline(knows(at, ends), 100))];
        assert_eq!(told_to_c(said)[0], Some(37.0), "{ends:?}");
    }
}

/// A drain beneath something that ends, of which one was told at another time than the other: by a
/// script that tells proxies one after the other.
fn drained_beneath(at: u64, said: u64) -> Answer {
    knows(at, ("drain", said, None), Some(("ready", 25, Some(300))), 25)
}

#[test]
fn a_deadline_is_not_lost_by_an_older_proxy_that_does_not_tell_it() {
    let newer = |at, said| with_deadline_below(drained_beneath(at, said), 200);
    let older = |at, said| with_below(drained_beneath(at, said), None);
    for (first, then) in [(10, 20), (20, 10), (10, 10)] {
        let said = |at| vec![("a", newer(at, first)), ("b", older(at, then))];
        let told = told_to_c(said);
        assert_eq!(told.last(), Some(&Some(137.0)), "{first} {then}: {told:?}");
        let said = |at| vec![("a", older(at, then)), ("b", newer(at, first))];
        let told = told_to_c(said);
        assert_eq!(told.last(), Some(&Some(137.0)), "{first} {then}: {told:?}");
    }
}

#[test]
fn an_older_proxy_that_does_not_tell_a_deadline_counts_as_having_the_same() {
    let newer = |at, said| with_deadline_below(drained_beneath(at, said), 200);
    let older = |at, said| with_below(drained_beneath(at, said), None);
    for (first, then) in [(10, 20), (20, 10), (10, 10)] {
        let mut book = Book::default();
        for at in [60, 63, 80] {
            let (a, b) = (newer(at, first), older(at, then));
            let orders = book.note(at as f64, &[("a", &a), ("b", &b)]);
            assert!(orders.is_empty(), "{first} {then} at {at}: {orders:?}");
        }
    }
}

#[test]
fn a_proxy_that_takes_no_times_of_words_is_told_no_deadline() {
    let mut book = Book::default();
    let drained = |at| with_deadline(knows(at, ("drain", 10, None), None, 10), 100);
    let fresh = |at| says(at, 0, "ready", 59, None, None);
    book.note(60.0, &[("a", &drained(60)), ("b", &fresh(60))]);
    let orders = book.note(63.0, &[("a", &drained(63)), ("b", &fresh(63))]);
    let [change] = &orders[0].changes[..] else { panic!("{orders:?}") };
    assert_eq!((&change.wish, change.deadline), (&Wish::State(Admin::Drain), None));
}

#[test]
fn a_deadline_that_is_taken_back_moved_or_added_later_is_told_to_those_that_have_the_drain() {
    let drained = |at, said, deadline: Option<u64>| {
        let answer = knows(at, ("drain", said, None), None, said);
        match deadline {
            Some(deadline) => with_deadline(answer, deadline),
            None => answer,
        }
    };
    for (before, now, told) in [
        (Some(100), None, Some(None)),
        (Some(100), Some(200), Some(Some(137.0))),
        (None, Some(100), Some(Some(37.0))),
        (Some(100), Some(102), None),
        (Some(20), Some(50), None),
        (Some(50), Some(70), Some(Some(7.0))),
        (None, None, None),
    ] {
        let mut book = Book::default();
        let mut orders = Vec::new();
        for at in [60, 63] {
            let (a, b) = (drained(at, 20, now), drained(at, 10, before));
            orders = book.note(at as f64, &[("a", &a), ("b", &b)]);
        }
        orders.retain(|order| order.replica == "b");
        let changes = orders.into_iter().flat_map(|order| order.changes);
        let mut left = changes.map(|change| change.deadline.map(|left| left.as_secs_f64().round()));
        assert_eq!(left.next(), told, "{before:?} {now:?}");
    }
}
