//! One backend: what it is, what it did in the last hour, what was probed, and the controls with
//! what they would do.

use std::{net::SocketAddr, time::SystemTime};

use axum::{
    extract::{ConnectInfo, Path, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, StatusCode, Uri};
use maud::{Markup, html};
use serde::Deserialize;

use crate::{
    App,
    address::Shown,
    clocks::ahead_of,
    closeup::CloseUp,
    decision, events,
    frame::Frame,
    hash::hash,
    headline::{self, capital},
    icons::icon,
    model::{Admin, Backend, Opinion, Pool},
    numbers, overrides,
    page::{self, Looks, Subject},
    panels::{self, Charts},
    poll::View,
    probes::Seen,
    share, table,
    words::{clock, count, millis, moment, plain, since},
};

/// What the address says.
#[derive(Default, Deserialize)]
pub(crate) struct DetailQuery {
    window: Option<String>,
    still: Option<String>,
    result: Option<String>,
}

/// The address of a backend's page.
pub(crate) fn path(pool: &str, id: &str) -> String {
    table::path(pool, id, None)
}

/// `GET /backends/{pool}/{id}`
pub(crate) async fn show(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((pool, id)): Path<(String, String)>,
    Query(query): Query<DetailQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Some(address) = Shown::stay(&uri, &headers) {
        return Redirect::to(&address).into_response();
    }
    let view = app.views.newest();
    let known = view.picture.as_ref().and_then(|picture| picture.answer.backend(&pool, &id));
    if known.is_none() {
        let sentence = format!("There is no backend {id} in the pool {pool} (any more).");
        return page::sorry(StatusCode::NOT_FOUND, &sentence);
    }
    let visitor = app.visitor(peer, &headers);
    let shown = Shown::parse(query.window.as_deref(), None, query.still.as_deref());
    let closeup = app.closeups.first(&view, &pool, &id).await;
    let looks = Looks {
        subject: Subject::Backend(pool, id),
        window: shown.window,
        may_change: visitor.may_change,
    };
    let frame = page::frame(&app.views.newest(), &app.url, &looks, closeup.as_deref());
    let flash = query.result.and_then(|result| app.flashes.find(&result));
    page::backend_page(&frame, &looks.subject, shown, visitor, flash.as_ref()).into_response()
}

/// The moving parts of a backend's page.
pub(crate) fn frame(
    view: &View,
    looks: &Looks,
    (pool_name, id): (&str, &str),
    closeup: Option<&CloseUp>,
) -> Frame {
    let picture = view.picture.as_ref();
    let found = picture.and_then(|picture| {
        let pool = picture.answer.pools.iter().find(|pool| pool.name == pool_name)?;
        Some((pool, picture.answer.backend(pool_name, id)?))
    });
    let part = |id, markup: Markup| (id, markup.into_string());
    let stale = view.trouble.is_some();
    let freshness = html! { div id="freshness" hidden data-stale=(stale) data-total="1" {} };
    let notice = part("notice", headline::notice(view));
    let Some((pool, backend)) = found else {
        let gone = html! { h1 id="headline" class="idle" data-title="gone · Evenkeel" { span.badge { (icon("cross")) } span { (id) " has left its pool" } } };
        return Frame {
            parts: vec![part("headline", gone), notice, part("freshness", freshness)],
            pools: Vec::new(),
            window: looks.window,
        };
    };
    let marks = events::marks(view, Some(id));
    let predictions = closeup.map_or(&[][..], |closeup| &closeup.predictions);
    let told = closeup.and_then(|closeup| closeup.window(view, looks.window));
    let own = || view.history().backend_window(pool_name, id, looks.window);
    let window = told.unwrap_or_else(own);
    let charts = Charts::new(&backend.traffic, backend.in_flight, &window, looks.window, &marks);
    Frame {
        parts: vec![
            part("headline", title(backend)),
            part("subline", subline(pool, backend)),
            notice,
            part("freshness", freshness),
            part("controls", controls(pool, backend, predictions, (view.now(), looks.may_change))),
            part("numbers", numbers(pool, backend, looks.may_change)),
            part("panel-rate", charts.rate()),
            part("panel-errors", charts.errors()),
            part("panel-latency", charts.latency()),
            part("panel-flight", charts.flight()),
            part("facts", facts(view, pool, backend)),
            part("opinions", opinions(backend, view.proxies.len() > 1, view.now())),
            part("probes", probes(&view.probes().of(pool_name, id), view.proxies.len() > 1)),
            part("decisions", decisions(closeup, id, view.proxies.len() > 1)),
            part("events", events::list(view, Some(id))),
        ],
        pools: Vec::new(),
        window: looks.window,
    }
}

pub(crate) fn title(backend: &Backend) -> Markup {
    let (word, tone, shape) = backend.show();
    let tab = format!("{word} · {}", backend.id);
    html! {
        h1 id="headline" class=(tone.class()) data-title=(tab) {
            span.badge { (icon(shape)) }
            span { span.mono { (backend.id) } " " (crate::words::predicate(backend)) }
        }
    }
}

pub(crate) fn subline(pool: &Pool, backend: &Backend) -> Markup {
    let share = share::of(pool, backend).unwrap_or_default();
    let reasons = backend.reasons.join("; ");
    html! {
        p.one id="subline" {
            span { "pool " (pool.name) ", " (plain(&pool.policy)) }
            span.share { (share::text(share)) " of the requests" }
            // A line of its own, there before anything is said on it.
            span.why title=[(!reasons.is_empty()).then_some(&reasons)] { (reasons) }
        }
    }
}

/// What is set as a number, apart from what moves each second: a number that is being typed must not
/// be taken away.
fn numbers(pool: &Pool, backend: &Backend, may_change: bool) -> Markup {
    html! {
        div id="numbers" {
            (numbers::weight(pool, backend, may_change))
            (numbers::limit(pool, backend, may_change))
        }
    }
}

/// The controls, each with what it would do.
fn controls(
    pool: &Pool,
    backend: &Backend,
    predictions: &[(Admin, String)],
    (now, may_change): (SystemTime, bool),
) -> Markup {
    html! {
        div id="controls" {
            (table::controls(pool, backend, may_change))
            // As high whatever is told, since what is below must not move; keyboards reach what scrolls
            // only if it takes the focus.
            div.told tabindex="0" role="group" aria-label="What a change would do, and what is set" {
                dl.predictions {
                    @for (state, effect) in predictions.iter().filter(|(state, _)| *state != backend.admin) {
                        dt { (state.word()) }
                        dd { (effect) }
                    }
                }
                @if backend.is_weighted() { p.quiet { (overrides::weight(backend, now)) } }
                @if let Some(others) = table::weights(backend) { p.quiet { "Not the same everywhere: " (others) "." } }
                @if backend.is_limited() { p.quiet { (overrides::limit(backend, now)) } }
                @if let Some(others) = numbers::other_limits(backend) { p.quiet { "Not the same everywhere: " (others) "." } }
                @if backend.is_overridden() { p.quiet { (overrides::intent(backend, now)) } }
            }
            @if !may_change { p { a href="/login" { "Sign in to change" } } }
        }
    }
}

pub(crate) fn facts(view: &View, pool: &Pool, backend: &Backend) -> Markup {
    let now = ahead_of(view.now(), backend.ahead.health);
    let (health, tone, shape) = backend.health.show();
    let traffic = &backend.traffic;
    let limit = backend.max_in_flight;
    let rows: [(&str, Markup); 9] = [
        (
            "Health",
            html! {
                strong.(tone.class()) { (icon(shape)) " " (health) }
                @if let Some(since) = since(backend.health_since.as_deref(), now) { " for " (since) }
                @if !backend.health_reason.is_empty() { ": " (backend.health_reason) }
            },
        ),
        (
            "Intent",
            // Who set it and why is beside it, at the controls.
            html! { (backend.admin.word()) },
        ),
        ("URL", html! { span.mono { (backend.url) } }),
        (
            "Addresses",
            html! { span.mono { @if backend.addresses.is_empty() { "–" } @else { (backend.addresses.join(", ")) } } },
        ),
        (
            "Weight",
            html! { (backend.weight) @if let Some(usual) = backend.usual_weight() { " instead of " (usual) } @if backend.tier > 0 { ", in tier " (backend.tier) } },
        ),
        (
            "Limit",
            html! { (capital(&numbers::limit_words(limit))) @if limit != backend.configured_max_in_flight { " instead of " (numbers::limit_words(backend.configured_max_in_flight)) } },
        ),
        (
            "Requests",
            html! { (traffic.requests_total) " since the start, " (traffic.failures_total) " failed" },
        ),
        ("Probes", html! { (table::probing(pool)) }),
        ("Found by", html! { span.mono { (pool.source.text) } }),
    ];
    html! {
        dl.facts id="facts" { @for (name, value) in rows { dt { (name) } dd { (value) } } }
    }
}

/// What each proxy says of it. Where there are several it stands in its place while they agree, too:
/// one that comes to see it otherwise must not move what is below.
pub(crate) fn opinions(backend: &Backend, several: bool, now: SystemTime) -> Markup {
    let agree = backend.is_agreed();
    html! {
        div id="opinions" {
            @if several || !agree {
                section.card aria-label="What each proxy says" {
                    h2 { "Proxies " (if agree { "agree" } else { "disagree" }) }
                    @if agree { p.quiet { "Each that answers says the same." } } @else {
                        ul.log tabindex="0" aria-label="What each proxy says" {
                            @for one in &backend.opinions { (opinion(one, backend)) }
                            (set_elsewhere(backend, now))
                        }
                    }
                }
            }
        }
    }
}

fn opinion(one: &Opinion, backend: &Backend) -> Markup {
    let (word, tone, shape) = one.effective.show();
    html! {
        li {
            span.mono { (one.replica) }
            @if one.known { strong.(tone.class()) { (icon(shape)) " " (word) } } @else { strong.idle { "Unknown there" } }
            span { (one.reason) @if one.admin != backend.admin { " (its intent is " (one.admin.word().to_lowercase()) ")" } }
        }
    }
}

/// What operators have set on some of the proxies only, or for another time there.
fn set_elsewhere(backend: &Backend, now: SystemTime) -> Markup {
    let line = |name: &str, what: &str, text: String| html! { li { span.mono { (name) } strong { (what) } span { (text) } } };
    let limit = numbers::limit_words;
    html! {
        @for (name, weight) in &backend.other_weights {
            (line(name, "Weight", format!("{weight}, elsewhere {}", backend.weight)))
        }
        @for (name, other) in &backend.other_limits {
            (line(name, "Limit", format!("{}, elsewhere {}", limit(*other), limit(backend.max_in_flight))))
        }
        @for end in &backend.other_ends {
            @let then = end.then.as_ref().map(|then| format!(", then {then}")).unwrap_or_default();
            @let at = end.at.as_deref().map_or_else(|| "none".to_owned(), |at| moment(at, now));
            (line(&end.replica, "End", format!("of the {}: {at}{then}", end.what)))
        }
    }
}

fn probes(all: &[Seen], several: bool) -> Markup {
    html! {
        section.card id="probes" aria-label="Probes" {
            header { h2 { "Probes" } p.meta { span { (count(all.len(), "probe")) " seen, newest first" } } }
            @if all.is_empty() { p.empty { "No probe has been seen yet." } } @else {
                ol.log tabindex="0" aria-label="Probes, newest first" {
                    @for seen in all {
                        @let probe = &seen.probe;
                        @let (word, tone, shape) = if probe.passed { ("passed", "good", "check") } else { ("failed", "bad", "cross") };
                        @let at = probe.at.as_deref().unwrap_or_default();
                        // Found again by its name when the list grows at its head; and nothing in it
                        // counts the seconds, or the whole log would be sent with each update.
                        li id={ "q" (hash(&[&seen.proxy, at])) } {
                            @if !at.is_empty() { time datetime=(at) title=(at) { (clock(at)) } }
                            strong.(tone) { (icon(shape)) " " (word) }
                            span { (probe.detail)
                                // The words of one that passed tell the time, those of one that failed the body.
                                @if !probe.passed { span.quiet { " · after " (millis(Some(probe.duration_ms))) } }
                                @else if let Some(body) = probe.first_bytes.as_deref().filter(|body| !body.is_empty()) {
                                    span.quiet { " · " code { (body) } }
                                }
                                @if several { span.quiet { " · by " (seen.proxy) } } }
                        }
                    }
                }
            }
        }
    }
}

fn decisions(closeup: Option<&CloseUp>, id: &str, several: bool) -> Markup {
    let told = closeup.and_then(|closeup| closeup.decisions.as_deref());
    decision::list(told, closeup.map_or(0.0, |closeup| closeup.sampled_share), id, several)
}

/// The parts of the page around the moving ones.
pub(crate) fn body(frame: &Frame, shown: Shown, path: &str) -> Markup {
    html! {
        p.crumbs { a href=(shown.address("/")) { "← All backends" } }
        div.hero { div role="status" aria-live="polite" { (frame.part("headline")) } (frame.part("subline")) }
        (frame.part("notice"))
        (frame.part("freshness"))
        div.columns {
            section.controls-box aria-label="Controls" {
                h2 { "Operator" }
                (frame.part("controls"))
                (frame.part("numbers"))
            }
            section.card aria-label="Facts" { h2 { "Facts" } (frame.part("facts")) }
        }
        (panels::windows(path, shown))
        (page::panel_row(frame))
        (frame.part("opinions"))
        (frame.part("decisions"))
        div.columns {
            (frame.part("probes"))
            section.events aria-label="Events" { header { h2 { "Events" } p.meta { span { "times in UTC" } } } (frame.part("events")) }
        }
    }
}
