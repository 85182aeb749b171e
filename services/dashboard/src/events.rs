//! The list of what happened.

use maud::{Markup, html};

use crate::{icons::icon, poll::View, timeline::Seen, words::clock};

/// Shown at first; the list scrolls within its own box.
const SHOWN: usize = 60;

/// The list, newest first.
pub(crate) fn list(view: &View) -> Markup {
    let several = view.proxies.len() > 1;
    html! {
        div id="events" {
            @if let Some(error) = &view.events_error {
                p.banner.busy { (icon("warn")) span { "Events cannot be read. " (error) } }
            }
            @if view.events.is_empty() {
                p.empty { "Nothing has happened yet. Health changes and operator actions appear here." }
            } @else {
                // Keyboards reach what scrolls only if it takes the focus.
                ol tabindex="0" aria-label="Events, newest first" {
                    @for seen in view.events.iter().take(SHOWN) { (item(seen, several)) }
                }
            }
        }
    }
}

fn item(seen: &Seen, several: bool) -> Markup {
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
            time datetime=(event.at) title=(event.at) { (clock(&event.at)) }
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
