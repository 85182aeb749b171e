//! The list of what happened.

use maud::{Markup, html};

use crate::{icons::icon, model::Event, poll::View, words::clock};

/// Shown at first; the list scrolls within its own box.
const SHOWN: usize = 60;

/// The list, newest first.
pub(crate) fn list(view: &View) -> Markup {
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
                    @for (run, event) in view.events.iter().take(SHOWN) { (item(*run, event)) }
                }
            }
        }
    }
}

fn item(run: u32, event: &Event) -> Markup {
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
        li id={ "e" (run) "-" (event.id) } class=(shape) {
            time datetime=(event.at) title=(event.at) { (clock(&event.at)) }
            span.kind { (icon(shape)) (kind) }
            span.what {
                @if let Some(backend) = event.backend.as_ref().filter(|id| !event.message.contains(id.as_str())) {
                    span.mono { (backend) } " "
                }
                (event.message)
                @if let Some(actor) = &event.actor { " " span.quiet { "by " (actor) } }
            }
        }
    }
}
