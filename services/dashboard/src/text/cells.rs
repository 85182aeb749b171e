//! What is told of a backend in a terminal.

use super::{columns::Row, set};
use crate::{
    clocks::ahead_of,
    model::{Health, Opinion, Traffic},
    numbers, share, table,
    words::{ago, number, percent, since},
};

pub(super) fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// Of no requests, no share fails.
pub(super) fn errors(traffic: &Traffic) -> String {
    if traffic.requests_per_second > 0.0 { percent(traffic.error_share) } else { "-".to_owned() }
}

pub(super) fn share_of(row: &Row<'_>) -> String {
    share::of(row.pool, row.backend).map_or_else(|| "-".to_owned(), share::text)
}

pub(super) fn health(row: &Row<'_>) -> String {
    let now = ahead_of(row.now, row.backend.ahead.health);
    let since = since(row.backend.health_since.as_deref(), now);
    let since = since.map(|since| format!(" for {since}")).unwrap_or_default();
    format!("{}{since}", row.backend.health.show().0)
}

pub(super) fn last_probe(row: &Row<'_>) -> String {
    let Some(probe) = &row.backend.last_probe else { return "-".to_owned() };
    let now = ahead_of(row.now, row.backend.ahead.health);
    let ago = since(probe.at.as_deref(), now).map(|since| format!(" {}", ago(&since)));
    let word = if probe.passed { "passed" } else { "failed" };
    format!("{word}{}", ago.unwrap_or_default())
}

/// What is seen of it and who sees it otherwise, then what operators have set: a weight is no reason to
/// be down. Of one that is up everywhere only what is set is any reason.
pub(super) fn why(row: &Row<'_>) -> String {
    let backend = row.backend;
    let dissent: Vec<String> =
        backend.opinions.iter().filter(|one| !one.serves()).map(dissent).collect();
    let seen = match &dissent[..] {
        [] => backend.health_reason.clone(),
        some => some.join("; "),
    };
    let is_up = backend.health == Health::Up && dissent.is_empty();
    let set = set(backend);
    let is_no_reason = seen.is_empty() || (is_up && set.is_some());
    let seen = (!is_no_reason).then_some(seen);
    let elsewhere = [
        table::weights(backend).map(|weights| format!("weight {weights}")),
        numbers::other_limits(backend),
    ];
    let all = [seen].into_iter().chain(elsewhere).chain([set]).flatten();
    all.collect::<Vec<_>>().join("; ")
}

fn dissent(one: &Opinion) -> String {
    let Opinion { replica, reason, .. } = one;
    if !one.known {
        return format!("{replica}: {reason}");
    }
    let state = one.effective.show().0.to_lowercase();
    if reason.is_empty() {
        format!("{replica}: {state}")
    } else {
        format!("{replica}: {state}, {reason}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{model::Pool, text::columns::layout};

    #[test]
    fn why_is_first_what_is_seen_then_what_is_set() {
        let told = |more: serde_json::Value| {
            let mut backend = serde_json::json!({"id": "a", "health": "down", "effective": "down",
                "health_reason": "connection refused"});
            backend.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let pool = serde_json::json!({"name": "p", "backends": [backend]});
            let pool: Pool = serde_json::from_value(pool).unwrap();
            let (_, rows) = layout(std::slice::from_ref(&pool), SystemTime::now(), 200);
            why(&rows[0])
        };
        use serde_json::json;
        assert_eq!(told(json!({})), "connection refused");
        let weight = json!({"weight": 3, "weight_wanted": 3, "weight_actor": "ann"});
        assert_eq!(told(weight.clone()), "connection refused; weight 3 by ann");
        let with = |more: serde_json::Value| {
            let mut all = weight.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            told(all)
        };
        assert_eq!(with(json!({"health": "up", "health_reason": "connected"})), "weight 3 by ann");
        let opinion = |name: &str, known: bool, effective: &str, reason: &str| {
            json!({"replica": name, "known": known, "effective": effective, "health": "up",
                "admin": "ready", "reason": reason})
        };
        let opinions = json!({"health": "up", "opinions": [
            opinion("edge-1", true, "serving", "connected"),
            opinion("edge-2", true, "down", "timeout"),
            opinion("edge-3", false, "unknown", "is not in its pool"),
        ]});
        let both = "edge-2: down, timeout; edge-3: is not in its pool; weight 3 by ann";
        assert_eq!(with(opinions), both);
    }

    #[test]
    fn an_idle_backend_has_no_share_of_errors() {
        let told = |rate: f64, share: f64| {
            let traffic =
                Traffic { requests_per_second: rate, error_share: share, ..Traffic::default() };
            errors(&traffic)
        };
        assert_eq!(told(0.0, 0.0), "-");
        assert_eq!(told(2.0, 0.0), "0%");
        assert_eq!(told(2.0, 0.25), "25%");
    }
}
