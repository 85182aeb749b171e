//! The page: its frame, and the small pages around it.

use std::sync::{Arc, PoisonError};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use maud::{DOCTYPE, Markup, html};

use crate::{
    address::Shown,
    assets,
    charts::Window,
    closeup::CloseUp,
    detail, events,
    frame::Frame,
    headline::{self, Headline},
    icons::mark,
    map,
    model::Admin,
    overrides,
    panels::{self, Charts},
    poll::View,
    proxies,
    table::{self, Hands},
    try_it,
    wish::Wish,
};

/// From this many backends a filter helps more than it costs room.
pub(crate) const FILTER_FROM: usize = 9;
/// How often the page reloads where JavaScript is off.
const RELOAD_SECONDS: u32 = 5;

/// Who looks at the page, as far as the page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// Controls are shown as usable.
    pub(crate) may_change: bool,
    /// There is a session to sign out of.
    pub(crate) signed_in: bool,
}

/// What a page is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Everything.
    All,
    /// One backend, by its pool and its id.
    Backend(String, String),
}

/// All that makes the moving parts of two pages differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Looks {
    pub(crate) subject: Subject,
    pub(crate) window: Window,
    pub(crate) may_change: bool,
}

/// Kinds of pages kept for one view; a view lasts for half a second.
const FRAMES_MOST: usize = 256;

/// The moving parts of `view`, made once for all visitors of the same kind.
/// `closeup` is what is known of the one backend that a page is about.
pub(crate) fn frame(
    view: &View,
    url: &str,
    looks: &Looks,
    closeup: Option<&CloseUp>,
) -> Arc<Frame> {
    // Held while the frame is made: who wants the same one at the same moment waits for it.
    let mut frames = view.frames.lock().unwrap_or_else(PoisonError::into_inner);
    if frames.len() >= FRAMES_MOST {
        frames.clear();
    }
    let made = frames.entry(looks.clone()).or_insert_with(|| {
        Arc::new(match &looks.subject {
            Subject::All => make_frame(view, url, looks),
            Subject::Backend(pool, id) => detail::frame(view, looks, (pool, id), closeup),
        })
    });
    Arc::clone(made)
}

fn make_frame(view: &View, url: &str, looks: &Looks) -> Frame {
    let answer = view.picture.as_ref().map(|picture| &picture.answer);
    let traffic = answer.map(|answer| answer.traffic()).unwrap_or_default();
    let pools = answer.map(|answer| &answer.pools[..]).unwrap_or_default();
    let in_flight: u64 = pools.iter().map(|pool| pool.in_flight()).sum();
    let total: usize = pools.iter().map(|pool| pool.backends.len()).sum();
    let serving: usize = pools.iter().map(|pool| pool.serving()).sum();
    let marks = events::marks(view, None);
    let totals = view.totals(looks.window);
    let charts = Charts::new(&traffic, in_flight, &totals, looks.window, &marks);
    let history = view.history();
    let stale = view.trouble.is_some();
    let part = |id, markup: Markup| (id, markup.into_string());
    let several = pools.len() > 1;
    let hands = match (view.is_saved, looks.may_change) {
        (true, _) => Hands::None,
        (false, true) => Hands::Free,
        (false, false) => Hands::Tied,
    };
    Frame {
        parts: vec![
            part("headline", Headline::of(view).html(view)),
            part("subline", headline::subline(view, url)),
            part("notice", headline::notice(view)),
            part(
                "freshness",
                html! { div id="freshness" hidden data-stale=(stale) data-total=(total) {} },
            ),
            part("overrides", overrides::list(pools, view.now(), view.is_saved)),
            part("overridden", overrides::overridden(pools)),
            part("map", map::picture(view)),
            part("map-tiles", map::tiles(pools, view.is_saved)),
            part("proxies", proxies::list(view)),
            part("panel-rate", charts.rate()),
            part("panel-errors", charts.errors()),
            part("panel-latency", charts.latency()),
            part("panel-flight", charts.flight()),
            part("counts", table::counts(total, serving)),
            part("events", events::list(view, None)),
        ],
        pools: pools
            .iter()
            .map(|pool| table::pool(pool, &history, view.now(), hands, several))
            .collect(),
        window: looks.window,
    }
}

/// The four charts side by side.
pub(crate) fn panel_row(frame: &Frame) -> Markup {
    html! {
        div.panels role="group" aria-label="Traffic over time" tabindex="0" {
            (frame.part("panel-rate"))
            (frame.part("panel-errors"))
            (frame.part("panel-latency"))
            (frame.part("panel-flight"))
        }
        p.readout id="readout" { "Point at a chart, or move along it with the arrow keys, to read its values." }
        // Announced once for each key and each tap: the line itself changes by the second.
        p.spoken id="readout-aloud" role="status" aria-live="polite" {}
    }
}

/// The main page.
pub(crate) fn main_page(
    frame: &Frame,
    shown: Shown,
    visitor: Visitor,
    pools: &Markup,
    (flash, url): (Option<&Flash>, &str),
) -> Markup {
    let body = html! {
        main id="main" tabindex="-1" data-feed={ "/live?window=" (shown.window.key()) } {
            div.hero {
                div role="status" aria-live="polite" { (frame.part("headline")) }
                (frame.part("subline"))
            }
            (frame.part("notice"))
            (frame.part("freshness"))
            section.traffic aria-label="Traffic" { (frame.part("map")) (frame.part("map-tiles")) }
            div.above-panels { (frame.part("overridden")) (panels::windows("/", shown)) }
            (panel_row(frame))
            (table_and_filter(frame, pools))
            (frame.part("proxies"))
            (logs(frame))
            (try_it::form(visitor.may_change, url))
        }
        (dialog())
    };
    shell("Evenkeel", reload(shown), body, Some((visitor, reloading(shown, "/"))), flash)
}

/// The table below what it is filtered by.
pub(crate) fn table_and_filter(frame: &Frame, pools: &Markup) -> Markup {
    html! {
        div.tools id="tools" data-from=(FILTER_FROM) role="search" hidden {
            label for="filter" { "Filter" }
            input id="filter" type="search" placeholder="id, state or reason" autocomplete="off";
            label.check { input id="troubled" type="checkbox"; " only those that do not serve well" }
            (frame.part("counts"))
        }
        (pools)
        p.empty id="no-match" hidden { "No backend matches the filter." }
    }
}

/// What happened beside what is set: both grow and shrink within a height that stays.
pub(crate) fn logs(frame: &Frame) -> Markup {
    html! {
        div.logs {
            section.events aria-label="Events" {
                header { h2 { "Events" } p.meta { span { "times in UTC" } } }
                (frame.part("events"))
            }
            (frame.part("overrides"))
        }
    }
}

/// The page of one backend.
pub(crate) fn backend_page(
    frame: &Frame,
    subject: &Subject,
    shown: Shown,
    visitor: Visitor,
    flash: Option<&Flash>,
) -> Markup {
    let Subject::Backend(pool, id) = subject else { return html! {} };
    let path = detail::path(pool, id);
    let feed = url::form_urlencoded::Serializer::new("/live?".to_owned())
        .extend_pairs([("window", shown.window.key()), ("pool", pool), ("id", id)])
        .finish();
    let feed = feed.replacen("?&", "?", 1);
    let body = html! {
        main id="main" tabindex="-1" data-feed=(feed) { (detail::body(frame, shown, &path)) }
        (dialog())
    };
    let top = Some((visitor, reloading(shown, &path)));
    shell(&format!("{id} · Evenkeel"), reload(shown), body, top, flash)
}

fn reload(shown: Shown) -> Markup {
    html! { @if !shown.still { noscript { meta http-equiv="refresh" content=(RELOAD_SECONDS); } } }
}

/// Whether a page reloads itself, and the way to the other. Each reload takes the focus back to where
/// the page begins, so it is there that whoever uses the keyboard must find how to stop it.
fn reloading(shown: Shown, path: &str) -> Markup {
    let other = shown.turned(path);
    html! {
        noscript {
            @if shown.still { "Stands still · " a href=(other) { "Reload every " (RELOAD_SECONDS) " s" } }
            @else { "Reloads every " (RELOAD_SECONDS) " s · " a href=(other) { "Stop reloading" } }
        }
    }
}

/// The question "sure?" with JavaScript; filled in by the script.
fn dialog() -> Markup {
    html! {
        dialog id="confirm" aria-labelledby="confirm-title" {
            form method="post" {
                h2 id="confirm-title" {}
                @for state in [Admin::Ready, Admin::Drain, Admin::Maint] {
                    p.explain data-explains=(state.key()) hidden { (explain(&Wish::State(state))) }
                }
                p.explain data-explains="weight" hidden { (explain(&Wish::Weight(None))) }
                p.explain data-explains="max_in_flight" hidden { (explain(&Wish::Limit(None))) }
                input type="hidden" name="state";
                input type="hidden" name="weight";
                input type="hidden" name="max_in_flight";
                input type="hidden" name="seen";
                p.explain id="confirm-effect" aria-live="polite" {}
                (reason_field())
                p.banner.bad id="confirm-error" role="alert" hidden {}
                div.actions {
                    button type="button" id="confirm-cancel" { "Cancel" }
                    button.primary type="submit" id="confirm-do" {}
                    button.danger type="submit" id="confirm-force" name="force" value="true" hidden { "Do it anyway" }
                }
            }
        }
    }
}

/// How long a change may hold, as proxies take it and in words; three days are a long weekend.
const LENGTHS: [(&str, &str); 5] = [
    ("10m", "10 minutes"),
    ("1h", "1 hour"),
    ("8h", "8 hours"),
    ("24h", "1 day"),
    ("72h", "3 days"),
];

pub(crate) fn reason_field() -> Markup {
    html! {
        label for="reason" { "Reason " span.quiet { "(optional, shown to others)" } }
        input id="reason" name="reason" maxlength=(crate::change::REASON_MOST) autocomplete="off";
        label for="ttl" { "For how long " span.quiet { "(then what was set for good holds again)" } }
        select id="ttl" name="ttl" {
            option value="" { "until somebody changes it" }
            @for (value, text) in LENGTHS {
                option value=(value) { (text) }
            }
        }
    }
}

/// What a change will do.
pub(crate) fn explain(wish: &Wish) -> &'static str {
    match wish {
        Wish::State(Admin::Ready) => "It takes new requests as soon as its probes pass.",
        Wish::State(Admin::Drain) => {
            "It gets no new requests, unless a sticky cookie keeps visitors on it; those in flight end normally."
        }
        Wish::State(_) => "It is taken out of service, and stays out until it is set ready again.",
        Wish::Weight(_) => {
            "A backend of weight 2 gets twice the requests of one of weight 1; one of weight 0 gets none."
        }
        Wish::Limit(_) => {
            "Each proxy sends it no more requests at a time than that, 0 being any number. Those that find it full go to others or wait in line."
        }
        Wish::Policy(_) => "Whoever can serve goes on to serve, chosen in another way.",
    }
}

/// A result that is shown once, after a form was sent without JavaScript.
#[derive(Clone, Debug)]
pub(crate) struct Flash {
    pub(crate) good: bool,
    pub(crate) message: String,
}

/// A small page with one thing on it.
pub(crate) fn small_page(status: StatusCode, title: &str, body: Markup) -> Response {
    let body = html! { main.small id="main" tabindex="-1" { h1 { (title) } (body) } };
    (status, shell(title, html! {}, body, None, None)).into_response()
}

/// A page that says why something cannot be done, and offers a way on.
pub(crate) fn sorry(status: StatusCode, sentence: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let sign_in = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    small_page(
        status,
        title,
        html! {
            p { (sentence) }
            p.actions {
                a.button href="/" { "Back to the backends" }
                @if sign_in { a.button href="/login" { "Sign in" } }
            }
        },
    )
}

pub(crate) fn shell(
    title: &str,
    head: Markup,
    body: Markup,
    top: Option<(Visitor, Markup)>,
    flash: Option<&Flash>,
) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" type="image/svg+xml" href=(assets::FAVICON.url());
                link rel="stylesheet" href=(assets::STYLE.url());
                script src=(assets::SCRIPT.url()) defer {}
                (head)
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href="/" { (mark()) "Evenkeel" }
                    @if let Some((visitor, live)) = top {
                        span.live id="live" data-state="off" role="status" { (live) }
                        (account(visitor))
                    }
                }
                div id="toasts" role="status" aria-live="polite" {
                    @if let Some(flash) = flash {
                        p class={ "toast " (if flash.good { "good" } else { "bad" }) } { (flash.message) }
                    }
                }
                (body)
                footer { "Evenkeel " (env!("CARGO_PKG_VERSION")) " · " a href="/api/state" { "this page as JSON" } " · " a href="/api/export" download { "the hour as a file" } " · " a href=(crate::open::PATH) { "open such a file" } " · " a href="/metrics" { "metrics" } }
            }
        }
    }
}

fn account(visitor: Visitor) -> Markup {
    html! {
        @if visitor.signed_in {
            form.account method="post" action="/logout" {
                @if !visitor.may_change { span.quiet { "View only " } }
                button type="submit" { "Sign out" }
            }
        } @else if !visitor.may_change {
            span.account { span.quiet { "View only" } a.button href="/login" { "Sign in" } }
        }
    }
}
