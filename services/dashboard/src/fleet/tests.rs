use serde_json::{Value, json};

use super::*;
use crate::{
    clocks::Ahead,
    model::{Admin, Effective},
    word::What,
};

fn answer(backends: &[Value]) -> Answer {
    serde_json::from_value(json!({
        "proxy": {"started_at": ""}, "pools": [{"name": "p", "backends": backends}],
    }))
    .unwrap()
}

fn backend(id: &str, effective: &str, rate: f64, p99: f64) -> Value {
    json!({"id": id, "admin": "ready", "effective": effective, "in_flight": 2, "health_reason": "because",
        "health": if effective == "down" { "down" } else { "up" },
        "traffic": {"requests_total": 10, "requests_per_second": rate, "p99_ms": p99}})
}

#[test]
fn rates_add_up_and_percentiles_without_histograms_are_the_worst() {
    let (a, b) = (
        answer(&[backend("x", "serving", 10.0, 5.0)]),
        answer(&[backend("x", "serving", 1.0, 50.0)]),
    );
    let merged = merge(&[("a", &a), ("b", &b)]).unwrap();
    let x = merged.backend("p", "x").unwrap();
    assert_eq!((x.in_flight, x.traffic.requests_total, x.traffic.p99_ms), (4, 20, Some(50.0)));
    assert!((x.traffic.requests_per_second - 11.0).abs() < 1e-9 && x.opinions.is_empty());
}

#[test]
fn who_disagrees_is_told_by_name() {
    let a = answer(&[backend("x", "serving", 1.0, 1.0), backend("y", "serving", 1.0, 1.0)]);
    let b = answer(&[backend("x", "down", 0.0, 1.0)]);
    let merged = merge(&[("a", &a), ("b", &b)]).unwrap();
    let x = merged.backend("p", "x").unwrap();
    let told: Vec<_> = x.opinions.iter().map(|one| (one.replica.as_str(), one.effective)).collect();
    assert_eq!(told, [("a", Effective::Serving), ("b", Effective::Down)]);
    assert!(x.serves(), "one proxy still sends to it");
    let y = merged.backend("p", "y").unwrap();
    assert!(!y.opinions[1].known && y.opinions[1].replica == "b", "it has not found it");
}

#[test]
fn whoever_is_not_ready_gives_the_reasons_and_not_the_first() {
    let (ready, mut unready) = (answer(&[]), answer(&[]));
    unready.proxy.ready = false;
    unready.proxy.not_ready_reasons = vec!["1 down".to_owned(), "1 drained".to_owned()];
    let mut stopping = unready.clone();
    stopping.proxy.stopping = true;
    let merged = merge(&[("a", &ready), ("b", &unready), ("c", &stopping)]).unwrap();
    assert_eq!(merged.proxy.not_ready_reasons, ["b: 1 down, 1 drained"]);
}

#[test]
fn policies_that_differ_are_told_with_what_hash_goes_by() {
    let of = |policy: &str, key: &str| {
        let mut answer = answer(&[]);
        let pool = &mut answer.pools[0];
        (pool.policy, pool.hash_key) = (policy.to_owned(), key.to_owned());
        answer
    };
    let told = |one: (&str, &str), other: (&str, &str)| {
        let (one, other) = (of(one.0, one.1), of(other.0, other.1));
        let merged = merge(&[("a", &one), ("b", &other)]).unwrap();
        crate::words::plain(&merged.pools[0].policy)
    };
    let random = ("random", "path");
    assert_eq!(told(("round_robin", "path"), ("round_robin", "cookie:x")), "round robin");
    assert_eq!(told(("hash", "path"), ("hash", "path")), "hash");
    let cookie = ("hash", "cookie:a_b");
    assert_eq!(told(("hash", "path"), cookie), "hash by cookie:a_b / hash by path");
    assert_eq!(told(random, ("round_robin", "path")), "random / round robin");
    assert_eq!(told(random, cookie), "hash by cookie:a_b / random");
}

#[test]
fn a_drain_is_told_with_its_deadline_whoever_sees_the_backend_worst() {
    let mut drained = backend("x", "drained", 0.0, 1.0);
    (drained["admin"], drained["admin_actor"]) = (json!("drain"), json!("ann"));
    drained["deadline_at"] = json!("2026-11-23T15:00:00Z");
    let down = backend("x", "down", 0.0, 1.0);
    let merged = merge(&[("a", &answer(&[drained])), ("b", &answer(&[down]))]).unwrap();
    let x = merged.backend("p", "x").unwrap();
    assert_eq!(x.deadline_at.as_deref(), Some("2026-11-23T15:00:00Z"));
}

#[test]
fn the_deadline_of_what_comes_then_is_told_though_an_older_proxy_does_not_know_it() {
    let ready = |then: Value| {
        let mut one = backend("x", "serving", 1.0, 1.0);
        one["admin_expires_at"] = json!("2026-11-23T15:00:00Z");
        one["admin_reverts_to"] = then;
        answer(&[one])
    };
    let deadline = "2026-11-23T16:00:00Z";
    let newer = ready(json!({"state": "drain", "deadline_at": deadline}));
    let older = ready(json!({"state": "drain"}));
    for said in [[("a", &older), ("b", &newer)], [("b", &newer), ("a", &older)]] {
        let merged = merge(&said).unwrap();
        let then = merged.backend("p", "x").unwrap().admin_reverts_to.as_ref().unwrap();
        assert_eq!(then.deadline_at.as_ref().unwrap().as_deref(), Some(deadline));
    }
}

#[test]
fn the_newest_word_is_shown_though_it_takes_back_what_another_proxy_still_has() {
    let of = |state: &str, weight: Option<u32>, at: &str| {
        let mut one = backend("x", "serving", 1.0, 1.0);
        (one["admin"], one["admin_actor"]) = (json!(state), json!("ann"));
        (one["configured_weight"], one["weight_wanted"]) = (json!(1), json!(weight));
        one["weight"] = json!(weight.unwrap_or(1));
        for said in ["admin", "weight"] {
            one[format!("{said}_said_at")] = json!(at);
            one[format!("{said}_standing_said_at")] = json!(at);
        }
        answer(&[one])
    };
    let older = of("drain", Some(3), "2026-01-01T10:00:00.000Z");
    let newer = of("ready", None, "2026-01-01T10:00:01.000Z");
    for said in [[("a", &older), ("b", &newer)], [("b", &newer), ("a", &older)]] {
        let merged = merge(&said).unwrap();
        let x = merged.backend("p", "x").unwrap();
        assert_eq!((x.admin, x.weight, x.weight_wanted), (Admin::Ready, 1, None));
        let told = What::State.heard(x).unwrap().in_force_said();
        assert_eq!(told, x.last_said[0], "what is shown is what counts as seen");
    }
}

#[test]
fn ages_go_by_the_clock_of_the_proxy_that_tells_the_time() {
    let of = |started: &str, more: &[(&str, Value)]| -> Answer {
        let mut one = backend("x", "serving", 1.0, 1.0);
        one.as_object_mut().unwrap().extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        let mut answer = answer(&[one]);
        (answer.proxy.started_at, answer.proxy.uptime_seconds) = (started.to_owned(), 60.0);
        answer
    };
    let first = of("2026-01-01T10:00:00Z", &[]);
    // An hour ahead, and one behind.
    let ahead = of("2026-01-01T11:00:00Z", &[("weight_wanted", json!(3))]);
    let drain =
        [("admin", json!("drain")), ("admin_actor", json!("ann")), ("effective", json!("drained"))];
    let behind = of("2026-01-01T09:00:00Z", &drain);
    let limited = of("2026-01-01T10:00:10Z", &[("max_in_flight_wanted", json!(3))]);
    let said = [("a", &first), ("b", &ahead), ("c", &behind), ("d", &limited)];
    let merged = merge(&said).unwrap();
    let x = merged.backend("p", "x").unwrap();
    let expected = Ahead { health: -3600.0, state: -3600.0, weight: 3600.0, limit: 10.0 };
    assert_eq!(x.ahead, expected);
    let mut random = ahead.clone();
    random.pools[0].policy_wanted = Some("random".to_owned());
    let merged = merge(&[("a", &first), ("b", &random)]).unwrap();
    assert_eq!(merged.pools[0].policy_ahead, 3600.0);
}

#[test]
fn an_operators_weight_is_told_and_who_has_another() {
    let mut one = backend("x", "serving", 1.0, 1.0);
    let mut two = one.clone();
    (one["weight"], two["weight"]) = (json!(1), json!(3));
    (two["weight_wanted"], two["configured_weight"]) = (json!(3), json!(1));
    (two["weight_since"], two["weight_actor"]) = (json!("2026-11-23T15:00:00Z"), json!("ann"));
    let merged = merge(&[("a", &answer(&[one])), ("b", &answer(&[two]))]).unwrap();
    let x = merged.backend("p", "x").unwrap();
    assert_eq!((x.weight, x.weight_wanted), (3, Some(3)));
    assert_eq!((x.configured_weight, x.weight_actor.as_deref()), (Some(1), Some("ann")));
    assert_eq!(x.other_weights, [("a".to_owned(), 1)]);
    assert!(x.opinions.is_empty(), "it serves on both");
}

#[test]
fn an_operators_limit_is_told_and_who_has_another() {
    let mut one = backend("x", "serving", 1.0, 1.0);
    let mut two = one.clone();
    one["max_in_flight_wanted"] = json!(null);
    (two["max_in_flight"], two["max_in_flight_wanted"]) = (json!(3), json!(3));
    (two["max_in_flight_actor"], two["max_in_flight_reason"]) = (json!("ann"), json!("small"));
    (two["max_in_flight_since"], two["max_in_flight_expires_at"]) = (json!("then"), json!("later"));
    two["max_in_flight_reverts_to"] = json!(9);
    // The one without comes last, which is the one that the row is made of.
    let merged = merge(&[("b", &answer(&[two])), ("a", &answer(&[one]))]).unwrap();
    let x = merged.backend("p", "x").unwrap();
    assert_eq!((x.max_in_flight, x.max_in_flight_wanted), (Some(3), Some(Some(3))));
    assert_eq!(x.max_in_flight_actor.as_deref(), Some("ann"));
    assert_eq!(x.max_in_flight_reason.as_deref(), Some("small"));
    assert_eq!(x.max_in_flight_since.as_deref(), Some("then"));
    assert_eq!(x.max_in_flight_expires_at.as_deref(), Some("later"));
    assert_eq!(x.max_in_flight_reverts_to, Some(9));
    assert_eq!(x.other_limits, [("a".to_owned(), None)]);
    assert!(x.opinions.is_empty(), "it serves on both");
}

#[test]
fn of_several_words_the_newest_is_told_whoever_has_heard_it() {
    let said = |at: u32| {
        let time = format!("2026-11-23T15:00:{at}Z");
        let (reason, number) = (format!("said at {at}"), at);
        let mut one = backend("x", "maint", 0.0, 1.0);
        (one["admin"], one["admin_actor"]) = (json!("maint"), json!("ann"));
        (one["weight_wanted"], one["configured_weight"]) = (json!(number), json!(1));
        one["max_in_flight_wanted"] = json!(number);
        for what in ["admin", "weight", "max_in_flight"] {
            one[format!("{what}_reason")] = json!(reason);
            one[format!("{what}_said_at")] = json!(time);
            one[format!("{what}_standing_said_at")] = json!(time);
        }
        let mut answer = answer(&[one]);
        let pool = &mut answer.pools[0];
        (pool.policy_wanted, pool.policy_reason) = (Some("first".to_owned()), Some(reason));
        (pool.policy_said_at, pool.policy_standing_said_at) =
            (Some(Some(time.clone())), Some(time));
        answer
    };
    let (old, new) = (said(10), said(20));
    for both in [[("a", &old), ("b", &new)], [("b", &new), ("a", &old)]] {
        let merged = merge(&both).unwrap();
        let (pool, x) = (&merged.pools[0], merged.backend("p", "x").unwrap());
        for (reason, at) in [
            (&x.admin_reason, x.admin_said_at.as_ref().unwrap()),
            (&x.weight_reason, &x.weight_said_at),
            (&x.max_in_flight_reason, &x.max_in_flight_said_at),
            (&pool.policy_reason, pool.policy_said_at.as_ref().unwrap()),
        ] {
            assert_eq!(reason.as_deref(), Some("said at 20"));
            assert_eq!(at.as_deref(), Some("2026-11-23T15:00:20Z"));
        }
    }
}

/// A proxy that was restarted meanwhile has never probed it.
#[test]
fn what_is_known_of_the_health_in_a_maintenance_is_no_disagreement() {
    let told = |admin: &str, effective: [&str; 2], health: [&str; 2]| {
        let answers = [0, 1].map(|index| {
            let mut one = backend("x", effective[index], 0.0, 1.0);
            (one["admin"], one["health"]) = (json!(admin), json!(health[index]));
            answer(&[one])
        });
        let merged = merge(&[("a", &answers[0]), ("b", &answers[1])]).unwrap();
        merged.backend("p", "x").unwrap().opinions.len()
    };
    for health in [["up", "checking"], ["down", "up"]] {
        assert_eq!(told("maint", ["maint", "maint"], health), 0, "{health:?}");
        assert_eq!(told("drain", ["drained", "drained"], health), 2, "{health:?}");
    }
    // What it is to them counts, whatever is wanted of it.
    assert_eq!(told("maint", ["maint", "serving"], ["up", "up"]), 2);
}

#[test]
fn a_request_in_flight_is_no_disagreement() {
    let (a, b) = (
        answer(&[backend("x", "draining", 0.0, 1.0)]),
        answer(&[backend("x", "drained", 0.0, 1.0)]),
    );
    assert!(merge(&[("a", &a), ("b", &b)]).unwrap().backend("p", "x").unwrap().opinions.is_empty());
}
