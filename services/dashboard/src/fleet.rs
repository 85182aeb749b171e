//! Several proxies as one picture: sums of what can be added up, and who disagrees about the rest.
//!
//! Rates, counts and requests in flight are sums; percentiles come from the sum of the histograms.
//! What proxies observe by themselves, such as health, need not be the same everywhere: a backend
//! that one of three cannot reach is a finding, not noise, and is told with names. Times stay as they
//! were told, beside how far the clock of whoever told them is ahead of the picture's.

use std::collections::HashMap;

use crate::{
    clocks::{Ahead, Clocks},
    ends, latency,
    model::{Admin, Answer, Backend, Effective, Opinion, Pool, Traffic},
    wish::Plan,
    word::{self, What},
};

/// All answers as one; `None` of none. The first answer's order of pools and backends is kept.
pub(crate) fn merge(answers: &[(&str, &Answer)]) -> Option<Answer> {
    let (_, first) = answers.first()?;
    if answers.len() == 1 {
        return Some((*first).clone());
    }
    let mut pools: Vec<(&str, Vec<(&str, &Pool)>)> = Vec::new();
    for (name, answer) in answers {
        for pool in &answer.pools {
            match pools.iter_mut().find(|(known, _)| *known == pool.name) {
                Some((_, said)) => said.push((name, pool)),
                None => pools.push((&pool.name, vec![(name, pool)])),
            }
        }
    }
    let mut proxy = first.proxy.clone();
    proxy.ready = answers.iter().all(|(_, answer)| answer.proxy.ready);
    proxy.stopping = answers.iter().all(|(_, answer)| answer.proxy.stopping);
    let unready = answers.iter().filter(|(_, answer)| answer.proxy.is_unready());
    let named = |(name, answer): &(&str, &Answer)| {
        format!("{name}: {}", answer.proxy.not_ready_reasons.join(", "))
    };
    proxy.not_ready_reasons = unready.map(named).collect();
    proxy.not_saved_reason = answers.iter().find_map(|(name, answer)| {
        Some(format!("{name}: {}", answer.proxy.not_saved_reason.as_ref()?))
    });
    let clocks: Clocks<'_> = answers.iter().map(|(name, answer)| (*name, &answer.proxy)).collect();
    let pools = pools.into_iter().filter_map(|(_, said)| merge_pools(&said, &clocks)).collect();
    Some(Answer { proxy, pools })
}

fn merge_pools(said: &[(&str, &Pool)], clocks: &Clocks<'_>) -> Option<Pool> {
    let mut order: Vec<&str> = Vec::new();
    let mut by_id: HashMap<&str, Vec<(&str, &Backend)>> = HashMap::new();
    for (name, pool) in said {
        for backend in &pool.backends {
            let opinions = by_id.entry(&backend.id).or_default();
            if opinions.is_empty() {
                order.push(&backend.id);
            }
            opinions.push((name, backend));
        }
    }
    let backends = order.iter().filter_map(|id| {
        let known = by_id.get(id)?;
        let missing = said
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| known.iter().all(|(who, _)| who != name));
        merge_backends(known, missing, clocks)
    });
    let (_, first) = said.first()?;
    let policy_said = |pool: &Pool| word::of_policy(pool)?.in_force_said();
    let told = newest(said, Pool::has_policy, policy_said);
    let (teller, with_override) = told.or(said.first().copied())?;
    let error = said
        .iter()
        .find_map(|(name, pool)| Some(format!("{name}: {}", pool.source.error.as_ref()?)));
    let mut source = first.source.clone();
    source.error = error;
    Some(Pool {
        name: first.name.clone(),
        policy: policies(said),
        hash_key: with_override.hash_key.clone(),
        policy_configured: first.policy_configured.clone(),
        hash_key_configured: first.hash_key_configured.clone(),
        policy_wanted: with_override.policy_wanted.clone(),
        policy_since: with_override.policy_since.clone(),
        policy_reason: with_override.policy_reason.clone(),
        policy_actor: with_override.policy_actor.clone(),
        policy_expires_at: with_override.policy_expires_at.clone(),
        policy_reverts_to: with_override.policy_reverts_to.clone(),
        hash_key_reverts_to: with_override.hash_key_reverts_to.clone(),
        policy_said_at: with_override.policy_said_at.clone(),
        policy_standing_said_at: with_override.policy_standing_said_at.clone(),
        policy_ahead: clocks.ahead(teller),
        other_ends: ends::of_policy(said, with_override, clocks),
        source,
        rung: rung(said),
        probe: first.probe.clone(),
        traffic: add(said.iter().map(|(_, pool)| &pool.traffic)),
        backends: backends.collect(),
    })
}

/// The one that has heard the newest word, be it that all is as usual again, rather than one to which
/// that is yet to be told; where nobody tells of a word, one on which something is set. Of several the
/// first.
fn newest<'a, T>(
    all: &[(&'a str, &'a T)],
    is_set: impl Fn(&T) -> bool,
    said: impl Fn(&T) -> Option<u64>,
) -> Option<(&'a str, &'a T)> {
    let heard = all.iter().rev().filter(|(_, one)| said(one).is_some());
    let heard = heard.max_by_key(|(_, one)| said(one));
    heard.or_else(|| all.iter().find(|(_, one)| is_set(one))).copied()
}

fn newest_of<'a>(
    all: &[(&'a str, &'a Backend)],
    what: What,
    is_set: fn(&Backend) -> bool,
) -> Option<(&'a str, &'a Backend)> {
    newest(all, is_set, |backend| what.heard(backend)?.in_force_said())
}

/// The lowest rung that any of the proxies serves from.
fn rung(said: &[(&str, &Pool)]) -> String {
    const LADDER: [&str; 6] = ["up", "degraded", "ejected", "terminating", "queue", "nobody"];
    let rungs = said.iter().map(|(_, pool)| pool.rung.as_str());
    let lowest = rungs.max_by_key(|rung| LADDER.iter().position(|known| known == rung));
    lowest.unwrap_or_default().to_owned()
}

/// The policy; all of them, in words, where the proxies differ, be it by what hash goes by.
fn policies(said: &[(&str, &Pool)]) -> String {
    let plan = |pool: &Pool| Plan::new(&pool.policy, &pool.hash_key);
    let mut plans: Vec<Plan> = said.iter().map(|(_, pool)| plan(pool)).collect();
    plans.sort_unstable();
    plans.dedup();
    match &plans[..] {
        [one] => one.policy.clone(),
        more => more.iter().map(Plan::words).collect::<Vec<_>>().join(" / "),
    }
}

fn merge_backends<'a>(
    said: &[(&str, &Backend)],
    missing: impl Iterator<Item = &'a str>,
    clocks: &Clocks<'_>,
) -> Option<Backend> {
    let worst = |(_, backend): &&(&str, &Backend)| rank(backend.effective);
    let model = *said.iter().max_by_key(worst)?;
    let mut merged = model.1.clone();
    merged.ahead = Ahead::all(clocks.ahead(model.0));
    merged.last_said = What::OF_BACKENDS
        .map(|what| said.iter().filter_map(|(_, backend)| what.heard(backend)?.latest).max());
    let absent = missing.map(|name| Opinion {
        replica: name.to_owned(),
        known: false,
        effective: Effective::Unknown,
        health: model.1.health,
        admin: model.1.admin,
        reason: "is not in its pool".to_owned(),
    });
    let opinions: Vec<Opinion> =
        said.iter().map(|(name, backend)| opinion(name, backend)).chain(absent).collect();
    // Draining and drained differ by a request in flight or a visitor, which is no disagreement. Nor
    // is what each knows of the health in a maintenance: nobody probes meanwhile.
    let health = |one: &Opinion| (one.admin != Admin::Maint).then_some(one.health);
    let view = |one: &Opinion| (one.known, one.effective.settled(), health(one), one.admin);
    if opinions.windows(2).any(|pair| view(&pair[0]) != view(&pair[1])) {
        merged.opinions = opinions;
    }
    let (name, told) = of_state(said, model);
    merged.ahead.state = clocks.ahead(name);
    merged.admin = told.admin;
    merged.admin_since.clone_from(&told.admin_since);
    merged.admin_reason.clone_from(&told.admin_reason);
    merged.admin_actor.clone_from(&told.admin_actor);
    merged.admin_forced = told.admin_forced;
    merged.admin_expires_at.clone_from(&told.admin_expires_at);
    merged.admin_reverts_to.clone_from(&told.admin_reverts_to);
    merged.admin_said_at.clone_from(&told.admin_said_at);
    merged.admin_standing_said_at.clone_from(&told.admin_standing_said_at);
    merged.deadline_at.clone_from(&told.deadline_at);
    if let Some((name, told)) = newest_of(said, What::Weight, Backend::is_weighted) {
        merged.ahead.weight = clocks.ahead(name);
        merged.weight = told.weight;
        merged.configured_weight = told.configured_weight;
        merged.weight_wanted = told.weight_wanted;
        merged.weight_since.clone_from(&told.weight_since);
        merged.weight_reason.clone_from(&told.weight_reason);
        merged.weight_actor.clone_from(&told.weight_actor);
        merged.weight_forced = told.weight_forced;
        merged.weight_expires_at.clone_from(&told.weight_expires_at);
        merged.weight_reverts_to = told.weight_reverts_to;
        merged.weight_said_at.clone_from(&told.weight_said_at);
        merged.weight_standing_said_at.clone_from(&told.weight_standing_said_at);
    }
    if let Some((name, told)) = newest_of(said, What::Limit, Backend::is_limited) {
        merged.ahead.limit = clocks.ahead(name);
        merged.max_in_flight = told.max_in_flight;
        merged.configured_max_in_flight = told.configured_max_in_flight;
        merged.max_in_flight_wanted = told.max_in_flight_wanted;
        merged.max_in_flight_since.clone_from(&told.max_in_flight_since);
        merged.max_in_flight_reason.clone_from(&told.max_in_flight_reason);
        merged.max_in_flight_actor.clone_from(&told.max_in_flight_actor);
        merged.max_in_flight_expires_at.clone_from(&told.max_in_flight_expires_at);
        merged.max_in_flight_reverts_to = told.max_in_flight_reverts_to;
        merged.max_in_flight_said_at.clone_from(&told.max_in_flight_said_at);
        merged.max_in_flight_standing_said_at.clone_from(&told.max_in_flight_standing_said_at);
    }
    let others = said.iter().filter(|(_, backend)| backend.max_in_flight != merged.max_in_flight);
    merged.other_limits =
        others.map(|(name, one)| ((*name).to_owned(), one.max_in_flight)).collect();
    let others = said.iter().filter(|(_, backend)| backend.weight != merged.weight);
    merged.other_weights = others.map(|(name, one)| ((*name).to_owned(), one.weight)).collect();
    merged.other_ends = ends::differing(said, &merged, clocks);
    merged.in_flight = said.iter().map(|(_, backend)| backend.in_flight).sum();
    merged.traffic = add(said.iter().map(|(_, backend)| &backend.traffic));
    Some(merged)
}

/// Whose words on the state are shown: an operator's, rather than those of a proxy that has not heard
/// them, and whatever `model` says if there are none.
fn of_state<'a>(
    said: &[(&'a str, &'a Backend)],
    model: (&'a str, &'a Backend),
) -> (&'a str, &'a Backend) {
    let told = newest_of(said, What::State, Backend::is_overridden).unwrap_or(model);
    if ends::deadline_then(told.1).is_some() {
        return told;
    }
    // An older proxy does not tell the deadline of what comes then; another one may.
    let same = |one: &Backend| {
        one.admin == told.1.admin && ends::state_then(one) == ends::state_then(told.1)
    };
    let more = said.iter().find(|(_, one)| same(one) && ends::deadline_then(one).is_some());
    more.copied().unwrap_or(told)
}

fn opinion(name: &str, backend: &Backend) -> Opinion {
    let reason = if backend.reasons.is_empty() {
        backend.health_reason.clone()
    } else {
        backend.reasons.join("; ")
    };
    Opinion {
        replica: name.to_owned(),
        known: true,
        effective: if backend.serves() { Effective::Serving } else { backend.effective },
        health: backend.health,
        admin: backend.admin,
        reason,
    }
}

/// How bad it is; the merged row shows the reasons of the worst.
fn rank(effective: Effective) -> u8 {
    match effective {
        Effective::Serving | Effective::Standby => 0,
        Effective::Degraded => 1,
        Effective::Checking | Effective::Unknown => 2,
        Effective::Draining | Effective::Drained | Effective::Terminating => 3,
        Effective::Maint => 4,
        Effective::Ejected => 5,
        Effective::Down => 6,
    }
}

/// Traffic of several proxies or pools together.
pub(crate) fn add<'a>(all: impl Iterator<Item = &'a Traffic> + Clone) -> Traffic {
    let mut sum = Traffic::default();
    let mut failures_per_second = 0.0;
    let mut count = 0;
    for traffic in all.clone() {
        count += 1;
        sum.requests_total += traffic.requests_total;
        sum.failures_total += traffic.failures_total;
        sum.requests_per_second += traffic.requests_per_second;
        failures_per_second += traffic.error_share * traffic.requests_per_second;
        // Of proxies without histograms, the worst: never better than the truth.
        sum.p50_ms = worst(sum.p50_ms, traffic.p50_ms);
        sum.p95_ms = worst(sum.p95_ms, traffic.p95_ms);
        sum.p99_ms = worst(sum.p99_ms, traffic.p99_ms);
    }
    if sum.requests_per_second > 0.0 {
        sum.error_share = failures_per_second / sum.requests_per_second;
    }
    if count == 1 {
        return all.into_iter().next().cloned().unwrap_or_default();
    }
    if let Some(latency) = latency::sum(all.map(|traffic| traffic.latency.as_ref())) {
        (sum.p50_ms, sum.p95_ms, sum.p99_ms) =
            (latency.percentile_ms(0.5), latency.percentile_ms(0.95), latency.percentile_ms(0.99));
        sum.latency = Some(latency);
    }
    sum
}

fn worst(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

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
        let told: Vec<_> =
            x.opinions.iter().map(|one| (one.replica.as_str(), one.effective)).collect();
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
            one.as_object_mut()
                .unwrap()
                .extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
            let mut answer = answer(&[one]);
            (answer.proxy.started_at, answer.proxy.uptime_seconds) = (started.to_owned(), 60.0);
            answer
        };
        let first = of("2026-01-01T10:00:00Z", &[]);
        // An hour ahead, and one behind.
        let ahead = of("2026-01-01T11:00:00Z", &[("weight_wanted", json!(3))]);
        let drain = [
            ("admin", json!("drain")),
            ("admin_actor", json!("ann")),
            ("effective", json!("drained")),
        ];
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
        (two["max_in_flight_since"], two["max_in_flight_expires_at"]) =
            (json!("then"), json!("later"));
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
        assert!(
            merge(&[("a", &a), ("b", &b)]).unwrap().backend("p", "x").unwrap().opinions.is_empty()
        );
    }
}
