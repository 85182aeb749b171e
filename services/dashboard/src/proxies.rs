//! The proxies by themselves, where there are several: each one's own state.

use maud::{Markup, html};

use crate::{
    icons::icon,
    poll::View,
    standing::Standing,
    words::{Tone, count, number, span},
};

/// The list; empty for a single proxy, whose state is that of the page.
pub(crate) fn list(view: &View) -> Markup {
    html! {
        div id="proxies" {
            @if view.is_of_several() {
                section.proxies aria-label="Proxies" {
                    header {
                        h2 { "Proxies" }
                        @if !view.is_saved {
                            p.meta { span { "changes go to all of them; one that was away is told when it returns" } }
                        }
                    }
                    ul { @for standing in &view.standings { (item(standing)) } }
                }
            }
        }
    }
}

fn item(proxy: &Standing) -> Markup {
    let (word, tone, shape) = match proxy.answer() {
        None => ("Away", Tone::Bad, "cross"),
        Some(answer) if answer.stopping => ("Stopping", Tone::Busy, "drain"),
        Some(answer) if !answer.ready => ("Not ready", Tone::Busy, "warn"),
        Some(_) => ("Answers", Tone::Good, "check"),
    };
    html! {
        li {
            p.name { span.mono { (proxy.name) } span.pill.(tone.class()) { (icon(shape)) (word) } }
            @if let Some(answer) = proxy.answer() {
                p { strong { (number(answer.rate)) } " requests/s, " (answer.in_flight) " in flight" }
                p.quiet { (answer.serving) " of " (count(answer.backends, "backend")) " serving · up " (span(answer.uptime)) }
            }
            @if let Some(last) = &proxy.last {
                @if !last.not_ready_reasons.is_empty() { p.quiet { (last.not_ready_reasons.join("; ")) } }
                @if let Some(why) = &last.not_saved_reason { p.quiet { "Changes are not saved: " (why) } }
                @if !proxy.answers() { p { "last heard " (span(last.age)) " ago" } }
            }
            @if let Some(fault) = &proxy.fault { p.quiet { (fault) } }
        }
    }
}
