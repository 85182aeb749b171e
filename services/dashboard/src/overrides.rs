//! What operators have set, as such: who, why, since when, and until when.

use std::time::SystemTime;

use maud::{Markup, html};

use crate::{
    detail,
    icons::icon,
    model::{Admin, Backend, Pool},
    words::{self, ago, since, span},
};

/// More are in the table, which can be filtered.
const SHOWN: usize = 8;

/// The list; empty if nothing is set.
pub(crate) fn list(pools: &[Pool], now: SystemTime) -> Markup {
    let all: Vec<(&Pool, &Backend)> = pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)))
        .filter(|(_, backend)| backend.admin != Admin::Ready && backend.admin != Admin::Unknown)
        .collect();
    html! {
        div id="overrides" {
            @if !all.is_empty() {
                section.overrides aria-label="Overrides" {
                    h2 { (icon("person")) (words::count(all.len(), "override")) " in force" }
                    ul {
                        @for (pool, backend) in all.iter().take(SHOWN) {
                            li {
                                a.mono href=(detail::path(&pool.name, &backend.id)) { (backend.id) }
                                " " strong { (backend.admin.word().to_lowercase()) } " "
                                (intent(backend, now))
                            }
                        }
                        @if all.len() > SHOWN { li.quiet { "and " (all.len() - SHOWN) " more in the table" } }
                    }
                }
            }
        }
    }
}

/// Who wanted it, since when, why, and until when.
pub(crate) fn intent(backend: &Backend, now: SystemTime) -> Markup {
    html! {
        @if let (Some(since), Some(at)) = (since(backend.admin_since.as_deref(), now), &backend.admin_since) {
            time datetime=(at) title=(at) { (ago(&since)) }
        }
        @if let Some(actor) = &backend.admin_actor { " by " (actor) }
        @if let Some(reason) = &backend.admin_reason { ": " q { (reason) } }
        @if let Some(until) = &backend.admin_expires_at {
            " " span.until { "until " time datetime=(until) title=(until) { (words::clock(until)) " UTC" } (left(until, now)) }
        }
    }
}

fn left(until: &str, now: SystemTime) -> String {
    let until = humantime::parse_rfc3339(until).ok();
    let left = until.and_then(|until| until.duration_since(now).ok());
    left.map(|left| format!(", in {}", span(left))).unwrap_or_default()
}
