//! The table of backends: one row each, cell by cell, with the controls.

use std::time::SystemTime;

use maud::{Markup, html};
use url::Url;

use crate::{
    charts::{bar, sparkline},
    clocks::ahead_of,
    columns::COLUMNS,
    frame::{PoolPart, Row},
    hash::hash,
    headline::error_tone,
    history::History,
    icons::icon,
    model::{Admin, Backend, Pool},
    numbers, overrides, said, saved, share,
    sort::Sort,
    text,
    word::What,
    words::{Tone, ago, count, number, percent, since},
};

/// From this many rows each is low, and what is only decoration moves less often.
const DENSE_FROM: usize = 21;
/// Seconds between two drawings of a sparkline in a dense table; each row has its own turn.
const DENSE_TURN: usize = 5;

/// What whoever looks at a table can do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hands {
    /// Change what is shown.
    Free,
    /// That, after signing in.
    Tied,
    /// Nothing: it is from a file.
    None,
}

/// The ids of a pool's rows in another order.
pub(crate) fn order(pool: &Pool, sort: Sort) -> Vec<String> {
    let mut backends: Vec<&Backend> = pool.backends.iter().collect();
    backends.sort_by(|a, b| sort.compare(a, b));
    backends.into_iter().map(|backend| row_id(pool, backend)).collect()
}

/// Hashes, because a backend's id may hold what an element's may not.
pub(crate) fn row_id(pool: &Pool, backend: &Backend) -> String {
    format!("b{}", hash(&[&pool.name, &backend.id]))
}

/// A pool's section.
pub(crate) fn pool(
    pool: &Pool,
    history: &History,
    now: SystemTime,
    hands: Hands,
    several: bool,
) -> PoolPart {
    let id = format!("p{}", hash(&[&pool.name]));
    let dense = pool.backends.len() >= DENSE_FROM;
    let rows = pool
        .backends
        .iter()
        .enumerate()
        .map(|(index, backend)| {
            let turn = if dense { history.turn(index, DENSE_TURN) } else { 0 };
            let row = row_id(pool, backend);
            Row { cells: cells(pool, backend, history, (now, turn, dense, hands), &row), id: row }
        })
        .collect();
    let head_id = format!("{id}-head");
    let head = head(pool, &head_id, several).into_string();
    PoolPart { id, head: (head_id, head), rows, dense, is_saved: hands == Hands::None }
}

fn head(pool: &Pool, id: &str, several: bool) -> Markup {
    html! {
        header id=(id) {
            h2 { "Backends" @if several { " of " (pool.name) } }
            p.meta {
                span { (probing(pool)) }
                @if !pool.source.text.is_empty() {
                    span { "from " span.mono { (short(&pool.source.text)) } }
                }
            }
            @if pool.backends.is_empty() {
                p.empty {
                    "No backend was found"
                    @if !pool.source.text.is_empty() { " in " span.mono { (pool.source.text) } }
                    ". They appear here by themselves when the proxy finds them. "
                    "Where it looks is set with PROXY_BACKENDS."
                }
            }
        }
    }
}

/// A static list may name 500 backends; the page lists them anyway.
fn short(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

pub(crate) fn probing(pool: &Pool) -> String {
    let probe = &pool.probe;
    let seconds = number(probe.interval_ms / 1_000.0);
    match (probe.kind.as_str(), &probe.path) {
        ("tcp", _) => format!("TCP probe every {seconds} s"),
        ("http", Some(path)) => format!("HTTP probe of {path} every {seconds} s"),
        ("off" | "", _) => "no probes".to_owned(),
        (other, _) => format!("{other} probe every {seconds} s"),
    }
}

fn cells(
    pool: &Pool,
    backend: &Backend,
    history: &History,
    (now, turn, dense, hands): (SystemTime, usize, bool, Hands),
    row: &str,
) -> Vec<(String, String)> {
    let traffic = &backend.traffic;
    let recent = history.recent(&pool.name, &backend.id, turn);
    let idle = traffic.requests_per_second <= 0.0;
    let contents = [
        name(pool, backend, hands, row),
        state(backend),
        health(backend, now, dense),
        probe(backend, now, dense),
        html! {
            span.value { (number(traffic.requests_per_second)) }
            (sparkline("rate", &recent.values(|slot| slot.rate)))
        },
        share_cell(pool, backend, dense),
        html! { (backend.in_flight) },
        html! {
            @if idle { span.quiet { "–" } }
            @else if traffic.error_share > 0.0 {
                strong.(error_tone(traffic.error_share)) { (percent(traffic.error_share)) }
            }
            @else { "0%" }
        },
        html! {
            (milliseconds(traffic.p50_ms))
            @if !dense { (sparkline("p50", &recent.values(|slot| slot.p50_ms))) }
        },
        html! {
            (milliseconds(traffic.p95_ms))
            @if !dense { (sparkline("p95", &recent.values(|slot| slot.p95_ms))) }
        },
        // Of hundreds the slowest requests tell most; three lines each would be most of what is sent.
        html! {
            (milliseconds(traffic.p99_ms))
            (sparkline("p99", &recent.values(|slot| slot.p99_ms)))
        },
        weight(backend),
        operator(pool, backend, now, hands),
    ];
    contents
        .into_iter()
        .zip(COLUMNS)
        .enumerate()
        .map(|(index, (content, (column, class, _)))| {
            let id = format!("{row}-{index}");
            let html = html! {
                @if index == 0 {
                    th id=(id) scope="row" role="rowheader" class=(class) { (content) }
                } @else {
                    td id=(id) role="cell" class=(class) data-label=(column) { (content) }
                }
            };
            (id, html.into_string())
        })
        .collect()
}

/// Ids up to an IPv4 address with its port stay on one line; longer ones may break anywhere.
const LONG: usize = "255.255.255.255:65535".len();

fn name(pool: &Pool, backend: &Backend, hands: Hands, row: &str) -> Markup {
    let is_long = backend.id.len() > LONG;
    html! {
        @if hands == Hands::None {
            button.link.mono.long[is_long] form=(saved::FORM) name="backend" value=(row) title=(backend.url) { (backend.id) }
        } @else {
            a.mono.long[is_long] href=(path(&pool.name, &backend.id, None)) title=(backend.url) { (backend.id) }
        }
        @match (weights(backend), numbers::other_limits(backend)) {
            (Some(weights), Some(limits)) => small title={ (weights) "; " (limits) } { "weight, limit differ" },
            (Some(weights), None) => small title=(weights) { "weight not everywhere" },
            (None, Some(limits)) => small title=(limits) { "limit not everywhere" },
            (None, None) => {}
        }
        @if backend.tier > 0 { small { "tier " (backend.tier) } }
    }
}

/// What part of the pool's requests it gets. A bar for each of hundreds would show nothing.
fn share_cell(pool: &Pool, backend: &Backend, dense: bool) -> Markup {
    html! {
        @match share::of(pool, backend) {
            Some(share) => { span.value { (share::text(share)) } @if !dense { (bar(share)) } }
            None => span.quiet { "–" },
        }
    }
}

fn weight(backend: &Backend) -> Markup {
    html! {
        span.value { (backend.weight) }
        @if let Some(usual) = backend.usual_weight() { small { "not " (usual) } }
    }
}

/// Where it has another weight.
pub(crate) fn weights(backend: &Backend) -> Option<String> {
    let others = backend.other_weights.iter().map(|(name, weight)| format!("{weight} on {name}"));
    let others: Vec<String> = others.collect();
    (!others.is_empty()).then(|| others.join(", "))
}

fn state(backend: &Backend) -> Markup {
    if !backend.opinions.is_empty() {
        return disputed(backend);
    }
    let (word, tone, shape) = backend.show();
    html! {
        span.pill.(tone.class()) data-rank=(tone.rank()) title=(backend.reasons.join("; ")) { (icon(shape)) (word) }
    }
}

/// Where proxies disagree: how many send to it, and what each of the others says.
fn disputed(backend: &Backend) -> Markup {
    let all = backend.opinions.len();
    let serving = backend.opinions.iter().filter(|one| one.serves()).count();
    let (tone, shape) = if serving > 0 { (Tone::Busy, "split") } else { (Tone::Bad, "cross") };
    html! {
        span.pill.(tone.class()) data-rank=(tone.rank()) { (icon(shape)) (serving) " of " (all) " serve" }
        @for one in backend.opinions.iter().filter(|one| !one.serves()) {
            small.opinion title=(one.reason) {
                span.mono { (one.replica) } ": "
                @if one.known { (one.effective.show().0.to_lowercase()) } @else { "unknown there" }
            }
        }
    }
}

fn health(backend: &Backend, now: SystemTime, dense: bool) -> Markup {
    let (word, tone, shape) = backend.health.show();
    let since = since(backend.health_since.as_deref(), ahead_of(now, backend.ahead.health));
    // Of hundreds, what counts the seconds or is measured anew by each probe would be half of all
    // that is sent.
    let since = since
        .map(|since| if dense && since.ends_with(" s") { "under 1 min".to_owned() } else { since });
    let reason = match &*backend.health_reason {
        reason if dense => without_time(reason),
        reason => reason,
    };
    html! {
        span {
            strong.(tone.class()) data-rank=(tone.rank()) { (icon(shape)) (word) }
            @if let (Some(since), Some(at)) = (since, &backend.health_since) {
                " " time.quiet datetime=(at) title=(at) { "for " (since) }
            }
        }
        @if !reason.is_empty() { small.calm[tone == Tone::Good] title=(reason) { (reason) } }
    }
}

/// What a probe saw without how long it took: `connected` of `connected, 0.2 ms`.
fn without_time(reason: &str) -> &str {
    match reason.rsplit_once(", ") {
        Some((seen, time))
            if time.strip_suffix(" ms").is_some_and(|time| time.parse::<f64>().is_ok()) =>
        {
            seen
        }
        _ => reason,
    }
}

fn probe(backend: &Backend, now: SystemTime, dense: bool) -> Markup {
    let Some(probe) = &backend.last_probe else {
        return html! { span.quiet { "–" } };
    };
    let (word, tone, shape) =
        if probe.passed { ("passed", "good", "check") } else { ("failed", "bad", "cross") };
    let now = ahead_of(now, backend.ahead.health);
    html! {
        span {
            strong.(tone) { (icon(shape)) span.spoken { (word) } }
            @if let (Some(since), Some(at)) = (since(probe.at.as_deref(), now), &probe.at) {
                // Of hundreds, an age that counts the seconds would be most of what is sent.
                @let since = if dense && since.ends_with(" s") { "0 s".to_owned() } else { since };
                " " time.quiet datetime=[(!dense).then_some(at)] title=[(!dense).then(|| format!("{at}, {} in a row", probe.streak))] { (ago(&since)) }
            }
        }
        @if !dense { small title=(probe.detail) { (probe.detail) } }
    }
}

fn milliseconds(value: Option<f64>) -> Markup {
    html! {
        @match value {
            Some(value) => { (number(value)) }
            None => span.quiet { "–" }
        }
    }
}

/// The controls, which also show the operator's present intent. They are one small form that
/// leads to the question "sure?": with JavaScript a dialog, without it a page.
pub(crate) fn controls(pool: &Pool, backend: &Backend, may_change: bool) -> Markup {
    let action = path(&pool.name, &backend.id, Some("change"));
    html! {
        form.controls method="get" action=(action) aria-label={ "Change " (backend.id) }
            data-change data-id=(backend.id) data-action=(path(&pool.name, &backend.id, None)) {
            @for state in [Admin::Ready, Admin::Drain, Admin::Maint] {
                button name="state" value=(state.key()) disabled[!may_change]
                    aria-pressed=(if backend.admin == state { "true" } else { "false" }) { (state.word()) }
            }
            (seen_field(said::seen(backend, What::State)))
        }
    }
}

/// Until when whoever sends the form has seen what others said.
pub(crate) fn seen_field(seen: u64) -> Markup {
    html! { input type="hidden" name="seen" value=(seen); }
}

fn operator(pool: &Pool, backend: &Backend, now: SystemTime, hands: Hands) -> Markup {
    let told = overrides::brief(backend, now);
    html! {
        @if hands == Hands::None { span.set { (backend.admin.word()) } }
        @else { (controls(pool, backend, hands == Hands::Free)) }
        // There in any case, so that the row is as high before as after.
        small title=[text::set(backend)] {
            @if hands == Hands::Tied {
                a href="/login" { "Sign in to change" }
                @if told.is_some() { " · " }
            }
            @if let Some(told) = told { span.intent { (told) } }
        }
    }
}

/// The path of a backend on this page's server, with what ids may contain encoded.
pub(crate) fn path(pool: &str, id: &str, last: Option<&str>) -> String {
    let Ok(mut url) = Url::parse("http://x/backends") else { return String::new() };
    if let Ok(mut path) = url.path_segments_mut() {
        path.push(pool).push(id).extend(last);
    }
    url.path().to_owned()
}

/// How many backends the filter offers to show: all, those that serve, the others.
pub(crate) fn counts(total: usize, serving: usize) -> Markup {
    html! {
        p id="counts" { (count(total, "backend")) ", " (serving) " serving, " (total - serving) " not" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_healthy_rows_stand_still_while_probes_go_on() {
        let backend = |seconds: u32, reason: &str| -> Backend {
            serde_json::from_value(serde_json::json!({
                "id": "x", "health": "up", "health_since": "2026-01-01T00:00:00Z",
                "health_reason": reason, "seconds": seconds,
            }))
            .unwrap()
        };
        let at = |second: u64| {
            SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_600 + second)
        };
        let (one, two) = (backend(1, "200 OK, 0.2 ms"), backend(3, "200 OK, 0.7 ms"));
        let shown =
            |backend: &Backend, second, dense| health(backend, at(second), dense).into_string();
        assert_eq!(shown(&one, 1, true), shown(&two, 59, true));
        assert!(shown(&one, 1, true).contains("200 OK"));
        assert_ne!(shown(&two, 59, true), shown(&two, 60, true), "a minute is told");
        assert!(shown(&one, 1, false).contains("for 1 s"), "of a few, all is told");
        assert!(shown(&one, 1, false).contains("200 OK, 0.2 ms"));
        assert_eq!(without_time("no answer, 2 in a row"), "no answer, 2 in a row");
        assert_eq!(without_time("refused, see ms"), "refused, see ms");
    }

    #[test]
    fn a_path_holds_any_id_in_its_own_segment() {
        assert_eq!(path("default", "127.0.0.1:8081", None), "/backends/default/127.0.0.1:8081");
        assert_eq!(
            path("default", "[::1]/a?b#c%d\"<", Some("change")),
            "/backends/default/[::1]%2Fa%3Fb%23c%25d%22%3C/change"
        );
    }
}
