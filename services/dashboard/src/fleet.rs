//! Several proxies as one picture: sums of what can be added up, and who disagrees about the rest.
//!
//! Rates, counts and requests in flight are sums; percentiles come from the sum of the histograms.
//! What proxies observe by themselves, such as health, need not be the same everywhere: a backend
//! that one of three cannot reach is a finding, not noise, and is told with names. Times stay as they
//! were told, beside how far the clock of whoever told them is ahead of the picture's.

mod backend;

use std::collections::HashMap;

use self::backend::merge_backends;
use crate::{
    clocks::Clocks,
    ends, latency,
    model::{Answer, Backend, Pool, Traffic},
    wish::Plan,
    word,
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
mod tests;
