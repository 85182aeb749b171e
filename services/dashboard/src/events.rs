//! The list of what happened.

use std::time::SystemTime;

use maud::{Markup, html};

use crate::{charts::Mark, icons::icon, poll::View, timeline::Seen, words::moment};

/// Shown at first; the list scrolls within its own box.
const SHOWN: usize = 60;

/// What happened, for the time axes of charts; of one backend, or of all.
pub(crate) fn marks(view: &View, id: Option<&str>) -> Vec<Mark> {
    let concerns = |seen: &&Seen| id.is_none() || seen.event.backend.as_deref() == id;
    let mark = |seen: &Seen| {
        let at = humantime::parse_rfc3339(&seen.event.at).ok()?;
        let kind = match seen.event.kind.as_str() {
            "health" => "health",
            "admin" => "admin",
            "proxy" => "proxy",
            // Who joins and leaves is told by health, too.
            _ => return None,
        };
        let backend = seen.event.backend.as_deref().unwrap_or_default();
        let now = now(view, seen);
        let title = format!("{} UTC {backend} {}", moment(&seen.event.at, now), seen.event.message);
        let ago = now.duration_since(at).unwrap_or_default().as_secs_f64();
        Some(Mark { ago, kind, title })
    };
    view.events.iter().filter(concerns).filter_map(mark).collect()
}

/// What the clock says that the time of an event is by: that of whoever told it first.
fn now(view: &View, seen: &Seen) -> SystemTime {
    seen.proxies.first().map_or_else(|| view.now(), |proxy| view.now_of(proxy))
}

/// The list, newest first; of one backend, or of all.
pub(crate) fn list(view: &View, id: Option<&str>) -> Markup {
    let concerns = |seen: &&Seen| id.is_none() || seen.event.backend.as_deref() == id;
    let shown: Vec<&Seen> = view.events.iter().filter(concerns).take(SHOWN).collect();
    let several = view.is_of_several();
    html! {
        div id="events" {
            @if let Some(error) = &view.events_error {
                p.banner.busy { (icon("warn")) span { "Events cannot be read. " (error) } }
            }
            @if shown.is_empty() {
                p.empty { "Nothing has happened yet. Health changes and operator actions appear here." }
            } @else {
                // Keyboards reach what scrolls only if it takes the focus.
                ol tabindex="0" aria-label="Events, newest first" {
                    @for seen in shown { (item(seen, now(view, seen), several)) }
                }
            }
        }
    }
}

fn item(seen: &Seen, now: SystemTime, several: bool) -> Markup {
    let event = &seen.event;
    let shape = match event.kind.as_str() {
        "health" => "health",
        "admin" => "person",
        "discovery" => "compass",
        "proxy" => "proxy",
        _ => "other",
    };
    let kind = match event.kind.as_str() {
        "admin" => "operator",
        other => other,
    };
    html! {
        li id={ "e" (seen.number) } class=(shape) {
            time datetime=(event.at) title=(event.at) { (moment(&event.at, now)) }
            span.kind { (icon(shape)) (kind) }
            span.what {
                @if let Some(backend) = event.backend.as_ref().filter(|id| !event.message.contains(id.as_str())) {
                    span.mono { (backend) } " "
                }
                (event.message)
                @if let Some(actor) = &event.actor { " " span.quiet { "by " (actor) } }
                @if several { " " span.quiet { "on " (seen.proxies.join(", ")) } }
            }
        }
    }
}
