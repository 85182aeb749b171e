//! What operators set as a number: the weight of a backend, and how many requests it may have in
//! flight. Each has a small form that leads to the question "sure?" as the states do, and one that
//! takes an operator's number back.

use maud::{Markup, html};

use crate::{
    model::{Backend, Pool},
    said,
    table::{path, seen_field},
    wish::{CONFIGURED, LIMIT_MOST, WEIGHT_MOST, Wish},
};

/// The weight, to be set.
pub(crate) fn weight(pool: &Pool, backend: &Backend, may_change: bool) -> Markup {
    let number = Number {
        name: "weight",
        label: "Weight",
        button: "Set weight",
        most: WEIGHT_MOST,
        now: backend.weight,
        is_set: backend.is_weighted(),
        usual: "Back to the configured weight",
        configured: backend.configured_weight.map(|weight| weight.to_string()),
        wish: Wish::Weight(None),
    };
    number.forms(pool, backend, may_change)
}

/// The limit of requests in flight, to be set.
pub(crate) fn limit(pool: &Pool, backend: &Backend, may_change: bool) -> Markup {
    let configured = backend.configured_max_in_flight;
    let number = Number {
        name: "max_in_flight",
        label: "In flight at most",
        button: "Set limit",
        most: LIMIT_MOST,
        now: backend.max_in_flight.unwrap_or(0),
        is_set: backend.is_limited(),
        usual: "Back to the configured limit",
        configured: Some(configured.map_or("none".to_owned(), |limit| limit.to_string())),
        wish: Wish::Limit(None),
    };
    number.forms(pool, backend, may_change)
}

/// A limit in words.
pub(crate) fn limit_words(limit: Option<u32>) -> String {
    limit.map_or("no limit".to_owned(), |limit| format!("at most {limit} in flight"))
}

/// Where a backend has another limit.
pub(crate) fn other_limits(backend: &Backend) -> Option<String> {
    let others = backend.other_limits.iter();
    let others = others.map(|(name, limit)| format!("{} on {name}", limit_words(*limit)));
    let others: Vec<String> = others.collect();
    (!others.is_empty()).then(|| others.join(", "))
}

struct Number {
    /// Of the field.
    name: &'static str,
    label: &'static str,
    button: &'static str,
    most: u32,
    now: u32,
    /// An operator's.
    is_set: bool,
    /// What takes an operator's number back; it stands there in any case, so that nothing moves.
    usual: &'static str,
    configured: Option<String>,
    /// To have it as configured.
    wish: Wish,
}

impl Number {
    fn forms(&self, pool: &Pool, backend: &Backend, may_change: bool) -> Markup {
        let action = path(&pool.name, &backend.id, Some("change"));
        let own = path(&pool.name, &backend.id, None);
        let seen_until = said::seen(backend, self.wish.what());
        let seen = seen_field(seen_until);
        html! {
            form.number method="get" action=(action) data-change data-id=(backend.id) data-action=(own) {
                label for=(self.name) { (self.label) }
                input id=(self.name) type="number" name=(self.name) min="0" max=(self.most) step="1" required
                    inputmode="numeric" value=(self.now) disabled[!may_change];
                (seen)
                button disabled[!may_change] { (self.button) }
            }
            form.number method="get" action=(action) data-change data-id=(backend.id) data-action=(own) {
                (seen)
                button name=(self.name) value=(CONFIGURED) data-words=(self.wish.words()) disabled[!may_change || !self.is_set] {
                    (self.usual)
                    @if let Some(configured) = &self.configured { ", " (configured) }
                }
            }
            @if may_change {
                noscript { p { a href={ (action) "?" (self.name) "=&seen=" (seen_until) } { (self.button) " on a page that does not reload" } } }
            }
        }
    }
}
