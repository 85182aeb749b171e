//! What operators set for a while, and the deadlines of drains, where that does not end everywhere at
//! the same time, or goes back to something else.
//!
//! Proxies are told how long it lasts, not until when, and each counts by its own clock. So what
//! is left is compared, by the clock of whoever tells it, and not the times.

use crate::{
    clocks::Clocks,
    model::{Admin, Backend, End, Pool},
    numbers,
    wish::Plan,
};

/// Seconds that ends may lie apart and still be one: proxies are told one after the other, and a
/// slow one later.
const APART: f64 = 10.0;

/// All ends of what is the same everywhere, as `merged` has it, but does not end at the same time.
pub(crate) fn differing(
    said: &[(&str, &Backend)],
    merged: &Backend,
    clocks: &Clocks<'_>,
) -> Vec<End> {
    type Same = fn(&Backend, &Backend) -> bool;
    type Until = fn(&Backend) -> (&Option<String>, Option<String>);
    let kinds: [(&str, Same, Until); 5] = [
        (
            "state",
            |a, b| a.admin == b.admin,
            |one| {
                let then = state_then(one).map(|state| state.word().to_lowercase());
                (&one.admin_expires_at, then)
            },
        ),
        ("deadline", |a, b| a.admin == b.admin, |one| (&one.deadline_at, None)),
        (
            "deadline that comes then",
            // An older proxy does not tell whether there is one.
            |a, b| {
                a.admin == b.admin && state_then(a) == state_then(b) && deadline_then(a).is_some()
            },
            |one| (deadline_then(one).unwrap_or(&None), None),
        ),
        (
            "weight",
            |a, b| a.weight == b.weight,
            |one| (&one.weight_expires_at, one.weight_reverts_to.map(|then| then.to_string())),
        ),
        (
            "limit",
            |a, b| a.max_in_flight == b.max_in_flight,
            |one| {
                let then = one.max_in_flight_expires_at.as_ref();
                let then = then.map(|_| numbers::limit_words(one.max_in_flight_reverts_to));
                (&one.max_in_flight_expires_at, then)
            },
        ),
    ];
    let mut all = Vec::new();
    for (what, same, until) in kinds {
        // Who has another value differs in more than the end, and is told as that.
        let with_it = said.iter().filter(|(_, backend)| same(backend, merged));
        let ends = with_it.map(|(name, backend)| end(what, name, until(backend)));
        all.extend(apart(ends.collect(), clocks));
    }
    all
}

/// The same of the policy of a pool, of those that have the one of `model`.
pub(crate) fn of_policy(said: &[(&str, &Pool)], model: &Pool, clocks: &Clocks<'_>) -> Vec<End> {
    let plan = |pool: &Pool| Plan::new(&pool.policy, &pool.hash_key);
    let same = |pool: &Pool| plan(pool) == plan(model);
    let with_it = said.iter().filter(|(_, pool)| same(pool));
    let then = |pool: &Pool| {
        let key = pool.hash_key_reverts_to.as_deref().unwrap_or_default();
        pool.policy_reverts_to.as_deref().map(|policy| Plan::new(policy, key).words())
    };
    let ends =
        with_it.map(|(name, pool)| end("policy", name, (&pool.policy_expires_at, then(pool))));
    apart(ends.collect(), clocks)
}

/// The state that holds again when an override has ended.
pub(crate) fn state_then(backend: &Backend) -> Option<Admin> {
    backend.admin_reverts_to.as_ref().map(|then| then.state)
}

/// Its deadline, if the proxy tells that.
pub(crate) fn deadline_then(backend: &Backend) -> Option<&Option<String>> {
    backend.admin_reverts_to.as_ref()?.deadline_at.as_ref()
}

fn end(what: &str, name: &str, (at, then): (&Option<String>, Option<String>)) -> End {
    End { replica: name.to_owned(), what: what.to_owned(), at: at.clone(), then }
}

/// All of these ends if any two of them are not the same.
fn apart(ends: Vec<End>, clocks: &Clocks<'_>) -> Vec<End> {
    let left = |end: &End| {
        let at = end.at.as_deref()?;
        Some(clocks.age(&end.replica, at).map(|age| -age))
    };
    let is_same = |one: &End, other: &End| {
        // An older proxy does not tell what comes then.
        let then = one.then.as_ref().zip(other.then.as_ref());
        agree(left(one), left(other)) && then.is_none_or(|(one, other)| one == other)
    };
    let all_same = ends.iter().all(|one| ends.iter().all(|other| is_same(one, other)));
    if all_same { Vec::new() } else { ends }
}

/// Whether two proxies tell the same end, or both none, by the seconds that are left. What is over is
/// over, whenever that was. A clock that nobody knows agrees with all.
fn agree(one: Option<Option<f64>>, other: Option<Option<f64>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            let left = one.zip(other).map(|(one, other)| (one.max(0.0), other.max(0.0)));
            left.is_none_or(|(one, other)| (one - other).abs() <= APART)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Proxy;

    /// What is told of two proxies, of which the second's clock is an hour ahead, and of the policy
    /// of their pools.
    fn told(one: Option<&str>, other: Option<&str>) -> Vec<(String, Option<String>)> {
        let clock = |started: &str| -> Proxy {
            serde_json::from_value(json!({"started_at": started, "uptime_seconds": 60})).unwrap()
        };
        let (first, second) = (clock("2026-01-01T10:00:00Z"), clock("2026-01-01T11:00:00Z"));
        let clocks = Clocks::from_iter([("a", &first), ("b", &second)]);
        let backend = |until: Option<&str>| -> Backend {
            let drain = json!({"id": "x", "admin": "drain", "admin_expires_at": until});
            serde_json::from_value(drain).unwrap()
        };
        let pool = |until: Option<&str>| -> Pool {
            let random = json!({"name": "p", "policy": "random", "policy_expires_at": until, "backends": []});
            serde_json::from_value(random).unwrap()
        };
        let of_pools = {
            let (one, other) = (pool(one), pool(other));
            of_policy(&[("a", &one), ("b", &other)], &one, &clocks)
        };
        let (one, other) = (backend(one), backend(other));
        let ends = differing(&[("a", &one), ("b", &other)], &one, &clocks);
        let of_pools: Vec<_> = of_pools.into_iter().map(|end| (end.replica, end.at)).collect();
        let ends: Vec<_> = ends.into_iter().map(|end| (end.replica, end.at)).collect();
        assert_eq!(of_pools, ends, "the same goes for the policy");
        ends
    }

    #[test]
    fn ends_are_compared_by_the_clock_of_whoever_tells_them() {
        let (early, late) = (Some("2026-01-01T10:30:00Z"), Some("2026-01-01T11:30:03Z"));
        assert!(told(early, late).is_empty(), "the same but for the time it took to tell");
        assert!(told(None, None).is_empty());
        let both = [("a".to_owned(), early.map(str::to_owned)), ("b".to_owned(), None)];
        assert_eq!(told(early, None), both);
        assert_eq!(told(early, early).len(), 2, "an hour apart");
    }

    #[test]
    fn a_key_that_no_policy_goes_by_does_not_keep_ends_from_being_compared() {
        let clock: Proxy =
            serde_json::from_value(json!({"started_at": "2026-01-01T10:00:00Z"})).unwrap();
        let clocks = Clocks::from_iter([("a", &clock), ("b", &clock)]);
        let pool = |policy: &str, key: &str, until: Option<&str>| -> Pool {
            let pool = json!({"name": "p", "policy": policy, "hash_key": key, "policy_expires_at": until, "backends": []});
            serde_json::from_value(pool).unwrap()
        };
        let told = |policy| {
            let one = pool(policy, "path", Some("2026-01-01T11:00:00Z"));
            let other = pool(policy, "client_address", None);
            of_policy(&[("a", &one), ("b", &other)], &one, &clocks).len()
        };
        assert_eq!(told("random"), 2);
        assert_eq!(told("hash"), 0, "another key is another policy, which is told as that");
    }

    #[test]
    fn what_goes_back_to_something_else_is_told_though_it_ends_at_the_same_time() {
        let clock: Proxy =
            serde_json::from_value(json!({"started_at": "2026-01-01T10:00:00Z"})).unwrap();
        let clocks = Clocks::from_iter([("a", &clock), ("b", &clock)]);
        let backend = |then: serde_json::Value| -> Backend {
            let ready = json!({"id": "x", "admin": "ready", "admin_expires_at": "2026-01-01T11:00:00Z",
                "admin_reverts_to": then});
            serde_json::from_value(ready).unwrap()
        };
        let told = |one, other| -> Vec<Option<String>> {
            let (one, other) = (backend(one), backend(other));
            let ends = differing(&[("a", &one), ("b", &other)], &one, &clocks);
            ends.into_iter().map(|end| end.then).collect()
        };
        let (ready, drain) = (json!({"state": "ready"}), json!({"state": "drain"}));
        let both = ["ready", "drain"].map(|word| Some(word.to_owned()));
        assert_eq!(told(ready.clone(), drain), both);
        assert!(told(ready.clone(), ready.clone()).is_empty());
        assert!(told(ready, json!(null)).is_empty(), "one of before does not tell");
    }

    #[test]
    fn what_goes_back_to_a_drain_is_told_if_its_deadline_is_not_the_same() {
        let clock = |started: &str| -> Proxy {
            serde_json::from_value(json!({"started_at": started, "uptime_seconds": 60})).unwrap()
        };
        // The second's is an hour ahead.
        let (first, second) = (clock("2026-01-01T10:00:00Z"), clock("2026-01-01T11:00:00Z"));
        let clocks = Clocks::from_iter([("a", &first), ("b", &second)]);
        let backend = |hour: u32, state: &str, deadline: Option<&str>| -> Backend {
            let until = format!("2026-01-01T{hour}:30:00Z");
            let ready = json!({"id": "x", "admin": "ready", "admin_expires_at": until,
                "admin_reverts_to": {"state": state, "deadline_at": deadline}});
            serde_json::from_value(ready).unwrap()
        };
        let compare = |one: &Backend, other: &Backend| -> Vec<(String, Option<String>)> {
            let ends = differing(&[("a", one), ("b", other)], one, &clocks);
            ends.into_iter().map(|end| (end.what, end.at)).collect()
        };
        let told = |one: Option<&str>, state: &str, other: Option<&str>| {
            compare(&backend(10, "drain", one), &backend(11, state, other))
        };
        let (early, late) = (Some("2026-01-01T10:45:00Z"), Some("2026-01-01T11:45:03Z"));
        assert_eq!(told(early, "drain", late), [], "the same by the clock of whoever tells it");
        assert_eq!(told(None, "drain", None), []);
        let what = || "deadline that comes then".to_owned();
        assert_eq!(
            told(early, "drain", None),
            [(what(), early.map(str::to_owned)), (what(), None)]
        );
        assert_eq!(told(early, "drain", early).len(), 2, "an hour apart");
        let mut older = backend(11, "drain", None);
        older.admin_reverts_to.as_mut().unwrap().deadline_at = None;
        assert_eq!(
            compare(&backend(10, "drain", early), &older),
            [],
            "one of before does not tell"
        );
        let states = told(early, "maint", None);
        assert!(states.iter().all(|(what, _)| what == "state"), "{states:?}");
    }

    #[test]
    fn deadlines_that_are_over_everywhere_are_the_same() {
        let clock: Proxy = serde_json::from_value(
            json!({"started_at": "2026-01-01T10:00:00Z", "uptime_seconds": 3600}),
        )
        .unwrap();
        let clocks = Clocks::from_iter([("a", &clock), ("b", &clock)]);
        let drained = |deadline: &str| -> Backend {
            let drain = json!({"id": "x", "admin": "drain", "deadline_at": deadline});
            serde_json::from_value(drain).unwrap()
        };
        let beneath = |deadline: &str| -> Backend {
            let then = json!({"state": "drain", "deadline_at": deadline});
            let ready = json!({"id": "x", "admin": "ready", "admin_reverts_to": then,
                "admin_expires_at": "2026-01-01T12:00:00Z"});
            serde_json::from_value(ready).unwrap()
        };
        let told = |one: &Backend, other: &Backend| -> usize {
            differing(&[("a", one), ("b", other)], one, &clocks).len()
        };
        let (long_ago, over, to_come) =
            ("2026-01-01T10:20:00Z", "2026-01-01T10:50:00Z", "2026-01-01T11:20:00Z");
        assert_eq!(told(&drained(long_ago), &drained(over)), 0);
        assert_eq!(told(&drained(over), &drained(to_come)), 2);
        assert_eq!(told(&beneath(long_ago), &beneath(over)), 0);
        assert_eq!(told(&beneath(over), &beneath(to_come)), 2);
    }

    #[test]
    fn a_policy_that_goes_back_to_hash_by_another_key_is_told_with_the_keys() {
        let clock: Proxy =
            serde_json::from_value(json!({"started_at": "2026-01-01T10:00:00Z"})).unwrap();
        let clocks = Clocks::from_iter([("a", &clock), ("b", &clock)]);
        let told = |policy: &str| -> Vec<String> {
            let pool = |key: &str| -> Pool {
                let random = json!({"name": "p", "policy": "random", "backends": [],
                    "policy_expires_at": "2026-01-01T11:00:00Z", "policy_reverts_to": policy,
                    "hash_key_reverts_to": key});
                serde_json::from_value(random).unwrap()
            };
            let (one, other) = (pool("path"), pool("cookie:a_b"));
            let ends = of_policy(&[("a", &one), ("b", &other)], &one, &clocks);
            ends.into_iter().filter_map(|end| end.then).collect()
        };
        assert_eq!(told("hash"), ["hash by path", "hash by cookie:a_b"]);
        assert!(told("least_request").is_empty(), "it goes by no key");
    }
}
