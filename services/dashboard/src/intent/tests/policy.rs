//! Of a pool's policy.

use super::*;
use crate::wish::Plan;

/// A policy by its name, when it was said, and, if it ends, when.
type Said<'a> = (Option<&'a str>, Option<u64>, Option<u64>);

/// What a proxy says of its policy, of which round robin is configured: what stands, what lies on top
/// of it, and when the newest word was said.
fn policy(at: u64, standing: Said<'_>, on_top: Option<Said<'_>>, latest: Option<u64>) -> Answer {
    let (now, said, until) = on_top.unwrap_or(standing);
    let time = |seconds: u64| wall::text((1_000_000 + seconds) * 1_000);
    let mut answer = knows_nothing(at);
    let pool = &mut answer.pools[0];
    pool.policy_configured = "round_robin".to_owned();
    pool.hash_key_configured = "path".to_owned();
    pool.policy = now.unwrap_or("round_robin").to_owned();
    pool.hash_key = "path".to_owned();
    pool.policy_wanted = now.map(str::to_owned);
    pool.policy_actor = said.map(|_| "ann".to_owned());
    pool.policy_expires_at = until.map(time);
    pool.policy_said_at = Some(latest.map(time));
    pool.policy_standing_said_at = standing.1.map(time);
    if on_top.is_some() {
        pool.policy_reverts_to = Some(standing.0.unwrap_or("round_robin").to_owned());
        pool.hash_key_reverts_to = Some("path".to_owned());
    }
    answer
}

fn of(name: &str, wanted: Option<&str>, ends: bool) -> (String, Wish, bool) {
    let plan = |policy: &str| Plan::new(policy, "path");
    (name.to_owned(), Wish::Policy(wanted.map(plan)), ends)
}

/// What is told in the end if `said` stays as it is.
fn told_of(said: impl Fn(u64) -> [(&'static str, Answer); 2]) -> Vec<(String, Wish, bool)> {
    let mut book = Book::default();
    assert!(told(&mut book, 50.0, &said(50)).is_empty(), "it settles");
    told(&mut book, 53.0, &said(53))
}

const NOTHING: Said<'_> = (None, None, None);

#[test]
fn a_proxy_that_was_away_hears_of_the_policy_of_the_pool_and_of_what_it_lies_on() {
    let stands = (Some("hash"), Some(10), None);
    let for_good =
        |at| [("a", policy(at, stands, None, Some(10))), ("b", policy(at, NOTHING, None, None))];
    assert_eq!(told_of(for_good), [of("b", Some("hash"), false)]);
    let on_top = Some((Some("first"), Some(20), Some(900)));
    let both =
        |at| [("a", policy(at, stands, on_top, Some(20))), ("b", policy(at, NOTHING, None, None))];
    assert_eq!(told_of(both), [of("b", Some("first"), true), of("b", Some("hash"), false)]);
    let both =
        |at| [("a", policy(at, NOTHING, on_top, Some(20))), ("b", policy(at, NOTHING, None, None))];
    assert_eq!(told_of(both), [of("b", Some("first"), true)], "nobody said what it lies on");
}

#[test]
fn that_the_configured_policy_is_wanted_again_is_told_where_the_other_still_holds() {
    let said = |at| {
        let taken_back = policy(at, (None, Some(15), None), None, Some(15));
        [("a", taken_back), ("b", policy(at, (Some("hash"), Some(10), None), None, Some(10)))]
    };
    assert_eq!(told_of(said), [of("b", None, false)]);
    // Where an override has ended, it ends.
    let said = |at| {
        let on_top = Some((Some("first"), Some(10), Some(900)));
        let ended = policy(at, NOTHING, None, Some(20));
        [("a", ended), ("b", policy(at, NOTHING, on_top, Some(10)))]
    };
    assert_eq!(told_of(said), [of("b", None, true)]);
}

#[test]
fn a_proxy_that_tells_no_times_of_its_policy_is_told_none() {
    let said = |at| {
        let stands = (Some("hash"), Some(10), None);
        [("a", policy(at, stands, None, Some(10))), ("b", knows_nothing(at))]
    };
    assert_eq!(told_of(said), []);
}

/// The same with another key, such as a `hash` of before or the settings have left there.
fn with_key(mut answer: Answer, key: &str) -> Answer {
    let pool = &mut answer.pools[0];
    pool.hash_key = key.to_owned();
    pool.hash_key_configured = key.to_owned();
    pool.hash_key_reverts_to = pool.hash_key_reverts_to.as_ref().map(|_| key.to_owned());
    answer
}

#[test]
fn a_key_that_no_policy_goes_by_is_no_difference() {
    let stands = (Some("random"), Some(10), None);
    let on_top = Some((Some("first"), Some(20), Some(900)));
    let usual_again = Some((None, Some(20), Some(900)));
    for (on_top, latest) in [(None, 10), (on_top, 20), (usual_again, 20)] {
        // Whichever of the keys is the greater.
        for keys in [["path", "client_address"], ["client_address", "path"]] {
            let same = |at, key| with_key(policy(at, stands, on_top, Some(latest)), key);
            let said = |at| [("a", same(at, keys[0])), ("b", same(at, keys[1]))];
            assert_eq!(told_of(said), [], "{keys:?}");
        }
    }
    // What an operator has said of `hash` is another thing.
    let stands = (Some("hash"), Some(10), None);
    let same = |at, key| with_key(policy(at, stands, None, Some(10)), key);
    let said = |at| [("a", same(at, "client_address")), ("b", same(at, "path"))];
    assert_eq!(told_of(said), [of("a", Some("hash"), false)]);
}
