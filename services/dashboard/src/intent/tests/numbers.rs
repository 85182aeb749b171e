//! Of weights and limits of requests in flight, which are told as numbers.

use super::*;

/// What a proxy says of the weight of a backend that is ready.
fn weighs(at: u64, weight: Option<u32>, since: Option<u64>, over: Option<(u64, u32)>) -> Answer {
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
    let said =
        |at| [("a", weighs(at, None, Some(15), None)), ("b", weighs(at, Some(3), Some(10), None))];
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

/// A proxy tells what a weight goes back to, not whether somebody said it.
#[test]
fn a_weight_that_is_said_as_it_is_configured_is_told_once() {
    let time = |seconds: u64| Some(wall::text((1_000_000 + seconds) * 1_000));
    let exact = |at, weight, over: Option<(u64, u32)>, latest| {
        let mut answer = weighs(at, Some(weight), Some(10), over);
        let backend = &mut answer.pools[0].backends[0];
        backend.admin_said_at = Some(None);
        (backend.weight_standing_said_at, backend.weight_said_at) = (time(10), time(latest));
        answer
    };
    let mut book = Book::default();
    assert!(told(&mut book, 12.0, &[("a", exact(12, 1, None, 10))]).is_empty());
    for at in [30, 33, 43] {
        let said = [("a", exact(at, 5, Some((900, 1)), 20))];
        assert!(told(&mut book, at as f64, &said).is_empty(), "{at}");
    }
}

/// What a proxy says of the limit of a backend, of which 40 is configured: what an operator wants,
/// when that was said and until when, what it goes back to, and when what stands was said.
fn limits(
    at: u64,
    wanted: Option<u32>,
    said: Option<u64>,
    over: Option<(u64, Option<u32>)>,
    standing_said: Option<u64>,
) -> Answer {
    let mut answer = knows_nothing(at);
    let time = |seconds: u64| wall::text((1_000_000 + seconds) * 1_000);
    let backend = &mut answer.pools[0].backends[0];
    backend.configured_max_in_flight = Some(40);
    backend.max_in_flight_wanted = Some(wanted);
    backend.max_in_flight_actor = said.map(|_| "ann".to_owned());
    backend.max_in_flight_reason = said.map(|_| "it swaps".to_owned());
    backend.max_in_flight_said_at = said.map(time);
    backend.max_in_flight_standing_said_at = standing_said.map(time);
    backend.max_in_flight_expires_at = over.map(|(until, _)| time(until));
    backend.max_in_flight_reverts_to = over.and_then(|(_, then)| then);
    answer
}

#[test]
fn a_limit_is_carried_over_with_its_words_its_time_and_its_end() {
    let mut book = Book::default();
    let b = |at| limits(at, None, None, None, None);
    let for_good = |at| [("a", limits(at, Some(9), Some(10), None, Some(10))), ("b", b(at))];
    assert!(told(&mut book, 20.0, &for_good(20)).is_empty(), "it settles");
    let (a, b_now) = (limits(23, Some(9), Some(10), None, Some(10)), b(23));
    let orders = book.note(23.0, &[("a", &a), ("b", &b_now)]);
    let [change] = &orders[0].changes[..] else { panic!("{orders:?}") };
    assert_eq!((orders[0].replica.as_str(), &change.wish), ("b", &Wish::Limit(Some(9))));
    assert_eq!(change.said_at, Some(1_000_010_000));
    assert_eq!(change.reason.as_deref(), Some("it swaps"));
    assert_eq!(change.actor, "ann, carried over by the dashboard");
    // For a while, on top of that.
    let over = Some((100, Some(9)));
    let both = |at| [("a", limits(at, Some(0), Some(30), over, Some(10))), ("b", b(at))];
    assert!(told(&mut book, 31.0, &both(31)).is_empty(), "it was told just now");
    let of = |limit, ends| ("b".to_owned(), Wish::Limit(Some(limit)), ends);
    assert_eq!(told(&mut book, 34.0, &both(34)), [of(0, true), of(9, false)]);
}

#[test]
fn what_a_limit_goes_back_to_is_nobodys_word_where_it_is_as_configured() {
    // No limit is a number as well: 0, as somebody may have said it.
    for (then, standing_said) in [(Some(40), None), (None, Some(10)), (Some(7), Some(10))] {
        let mut book = Book::default();
        let one = |at| limits(at, Some(3), Some(20), Some((900, then)), standing_said);
        for at in [30, 33, 43] {
            let said = [("a", one(at)), ("b", one(at))];
            assert!(told(&mut book, at as f64, &said).is_empty(), "{at}, {then:?}");
        }
        let b = |at| limits(at, None, None, None, None);
        told(&mut book, 50.0, &[("a", one(50)), ("b", b(50))]);
        let orders = told(&mut book, 53.0, &[("a", one(53)), ("b", b(53))]);
        let of = |limit, ends| ("b".to_owned(), Wish::Limit(Some(limit)), ends);
        let below = (then != Some(40)).then(|| of(then.unwrap_or(0), false));
        let expected: Vec<_> = [of(3, true)].into_iter().chain(below).collect();
        assert_eq!(orders, expected, "{then:?}");
    }
}

#[test]
fn a_limit_that_was_taken_back_is_taken_back_where_it_still_holds() {
    let mut book = Book::default();
    let said = |at| {
        let taken_back = limits(at, None, Some(15), None, Some(15));
        [("a", taken_back), ("b", limits(at, Some(3), Some(10), None, Some(10)))]
    };
    told(&mut book, 20.0, &said(20));
    let expected = [("b".to_owned(), Wish::Limit(None), false)];
    assert_eq!(told(&mut book, 23.0, &said(23)), expected);
}

#[test]
fn a_proxy_that_does_not_tell_whose_limit_it_is_is_told_none() {
    let mut book = Book::default();
    for at in [20, 23, 40] {
        let said = [("a", limits(at, Some(3), Some(10), None, Some(10))), ("b", knows_nothing(at))];
        assert!(told(&mut book, at as f64, &said).is_empty());
    }
}
