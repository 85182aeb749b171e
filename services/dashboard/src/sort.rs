//! The order of the table's rows, by any column.
//!
//! The script sorts what it sees in the same way (`worth` in `page.js`), so that a click needs no
//! answer of ours; a page without it asks for the order.

use std::{
    cmp::{Ordering, Reverse},
    time::SystemTime,
};

use crate::{clocks::ahead_of, columns::COLUMNS, model::Backend, words::Tone};

/// A column and a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) column: &'static str,
    pub(crate) down: bool,
}

/// Of all columns but names the interesting end is the highest.
fn first_is_down(column: &str) -> bool {
    column != "name"
}

impl Sort {
    /// What a query asks for: a column, or one with `-turned` for the other direction.
    pub(crate) fn parse(text: Option<&str>) -> Option<Self> {
        let text = text?;
        let (name, turned) =
            text.strip_suffix("-turned").map_or((text, false), |name| (name, true));
        let (.., column) = COLUMNS.into_iter().find(|(.., column)| *column == name)?;
        Some(Self { column, down: first_is_down(column) != turned })
    }

    /// What a query says of it.
    pub(crate) fn text(self) -> String {
        let turned = if self.down == first_is_down(self.column) { "" } else { "-turned" };
        format!("{}{turned}", self.column)
    }

    /// The order that a click on a column's head leads to.
    pub(crate) fn next(now: Option<Self>, column: &'static str) -> Self {
        let first = Self { column, down: first_is_down(column) };
        if now == Some(first) { Self { down: !first.down, ..first } } else { first }
    }

    /// The order of two backends.
    pub(crate) fn compare(self, a: &Backend, b: &Backend) -> Ordering {
        let traffic = |value: fn(&Backend) -> f64| value(a).total_cmp(&value(b));
        let order = match self.column {
            "state" => ranked(a.show()).cmp(&ranked(b.show())),
            "health" => ranked(a.health.show()).cmp(&ranked(b.health.show())),
            "probe" => probe(a).cmp(&probe(b)),
            "weight" => a.weight.cmp(&b.weight),
            "operator" => is_set(a).cmp(&is_set(b)),
            // The pool has one total: who has more has the greater share.
            "rate" | "share" => traffic(|one| one.traffic.requests_per_second),
            "flight" => a.in_flight.cmp(&b.in_flight),
            "errors" => traffic(|one| one.traffic.error_share),
            "p50" => traffic(|one| one.traffic.p50_ms.unwrap_or(-1.0)),
            "p95" => traffic(|one| one.traffic.p95_ms.unwrap_or(-1.0)),
            "p99" => traffic(|one| one.traffic.p99_ms.unwrap_or(-1.0)),
            _ => a.id.cmp(&b.id),
        };
        if self.down { order.reverse() } else { order }
    }
}

fn is_set(backend: &Backend) -> bool {
    backend.is_overridden() || backend.is_weighted() || backend.is_limited()
}

/// What wants most attention comes first, and what is the same stands together.
fn ranked((word, tone, _): (&'static str, Tone, &'static str)) -> (u8, &'static str) {
    (tone.rank(), word)
}

/// A probe that failed before one that passed; of those the older one, by the clocks of the proxies
/// that tell them.
fn probe(backend: &Backend) -> Option<(bool, Reverse<Option<SystemTime>>)> {
    let probe = backend.last_probe.as_ref()?;
    let at = probe.at.as_deref().and_then(|at| humantime::parse_rfc3339(at).ok());
    Some((!probe.passed, Reverse(at.map(|at| ahead_of(at, -backend.ahead.health)))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_column_has_an_order() {
        let backend = |id: &str, health: &str, effective: &str, weight: u32, probe: Value| {
            serde_json::from_value(json!({"id": id, "health": health, "effective": effective,
                "weight": weight, "weight_wanted": (weight > 1).then_some(weight),
                "last_probe": probe, "traffic": {"requests_per_second": weight}}))
            .unwrap()
        };
        let probe = |passed: bool, second: u32| json!({"passed": passed, "at": format!("2026-01-01T00:00:0{second}Z")});
        let all: [Backend; 4] = [
            backend("a", "up", "serving", 1, probe(true, 3)),
            backend("b", "down", "down", 2, probe(false, 9)),
            backend("c", "degraded", "degraded", 4, probe(true, 1)),
            backend("d", "up", "serving", 3, Value::Null),
        ];
        for (.., column) in COLUMNS {
            let sort = Sort::parse(Some(column)).unwrap();
            let mut sorted: Vec<&Backend> = all.iter().collect();
            sorted.sort_by(|a, b| sort.compare(a, b));
            let told: String = sorted.iter().map(|one| one.id.as_str()).collect();
            let expected = match column {
                "state" | "health" | "probe" => "bcad",
                "rate" | "share" | "weight" => "cdba",
                "operator" => "bcda",
                _ => "abcd",
            };
            assert_eq!(told, expected, "{column}");
        }
    }

    #[test]
    fn a_limit_counts_as_set_like_a_state_and_a_weight() {
        let all: [Backend; 4] = [
            json!({"id": "a", "admin": "ready"}),
            json!({"id": "b", "admin": "drain"}),
            json!({"id": "c", "max_in_flight": 7, "max_in_flight_wanted": 7}),
            json!({"id": "d", "weight_wanted": 2}),
        ]
        .map(|one| serde_json::from_value(one).unwrap());
        let mut sorted: Vec<&Backend> = all.iter().collect();
        let sort = Sort::parse(Some("operator")).unwrap();
        sorted.sort_by(|a, b| sort.compare(a, b));
        let told: String = sorted.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(told, "bcda");
    }

    #[test]
    fn a_second_click_turns_the_order() {
        assert_eq!(Sort::parse(Some("rate")), Some(Sort { column: "rate", down: true }));
        assert_eq!(Sort::parse(Some("rate-turned")), Some(Sort { column: "rate", down: false }));
        assert_eq!(Sort::parse(Some("name")), Some(Sort { column: "name", down: false }));
        assert_eq!(Sort::parse(Some("shoe")), None);
        for text in ["rate", "rate-turned", "name", "name-turned"] {
            assert_eq!(Sort::parse(Some(text)).map(Sort::text).as_deref(), Some(text));
        }
        let next = |now, column| Sort::next(Sort::parse(now), column).text();
        assert_eq!(next(None, "rate"), "rate");
        assert_eq!(next(Some("rate"), "rate"), "rate-turned");
        assert_eq!(next(Some("rate-turned"), "rate"), "rate");
        assert_eq!(next(Some("rate"), "name"), "name");
    }
}
