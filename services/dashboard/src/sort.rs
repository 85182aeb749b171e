//! The order of the table's rows, by any column.

use std::cmp::Ordering;

use crate::model::Backend;

/// A column and a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) column: &'static str,
    pub(crate) down: bool,
}

/// Columns that can be sorted by, and whether the interesting end is the highest.
const COLUMNS: [(&str, bool); 8] = [
    ("name", false),
    ("state", true),
    ("rate", true),
    ("flight", true),
    ("errors", true),
    ("p50", true),
    ("p95", true),
    ("p99", true),
];

impl Sort {
    /// What a query asks for: a column, or one with `-turned` for the other direction.
    pub(crate) fn parse(text: Option<&str>) -> Option<Self> {
        let text = text?;
        let (name, turned) =
            text.strip_suffix("-turned").map_or((text, false), |name| (name, true));
        let (column, down) = COLUMNS.into_iter().find(|(column, _)| *column == name)?;
        Some(Self { column, down: down != turned })
    }

    /// The query that a click on a column's head leads to.
    pub(crate) fn next(now: Option<Self>, column: &str) -> String {
        let first =
            COLUMNS.into_iter().find(|(known, _)| *known == column).is_some_and(|(_, down)| down);
        match now {
            Some(now) if now.column == column && now.down == first => format!("{column}-turned"),
            _ => column.to_owned(),
        }
    }

    /// The order of two backends.
    pub(crate) fn compare(self, a: &Backend, b: &Backend) -> Ordering {
        let traffic = |value: fn(&Backend) -> f64| value(a).total_cmp(&value(b));
        let order = match self.column {
            "state" => a.show().1.rank().cmp(&b.show().1.rank()),
            "rate" => traffic(|one| one.traffic.requests_per_second),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_click_turns_the_order() {
        assert_eq!(Sort::parse(Some("rate")), Some(Sort { column: "rate", down: true }));
        assert_eq!(Sort::parse(Some("rate-turned")), Some(Sort { column: "rate", down: false }));
        assert_eq!(Sort::parse(Some("name")), Some(Sort { column: "name", down: false }));
        assert_eq!(Sort::parse(Some("shoe")), None);
        assert_eq!(Sort::next(None, "rate"), "rate");
        assert_eq!(Sort::next(Sort::parse(Some("rate")), "rate"), "rate-turned");
        assert_eq!(Sort::next(Sort::parse(Some("rate-turned")), "rate"), "rate");
        assert_eq!(Sort::next(Sort::parse(Some("rate")), "name"), "name");
    }
}
