//! The proxies by themselves, where there are several: each one's own state.

use maud::{Markup, html};

use crate::{
    icons::icon,
    poll::View,
    replica::Proxy,
    words::{Tone, count, number, span},
};

/// The list; empty for a single proxy, whose state is that of the page.
pub(crate) fn list(view: &View) -> Markup {
    html! {
        div id="proxies" {
            @if view.proxies.len() > 1 {
                section.proxies aria-label="Proxies" {
                    header {
                        h2 { "Proxies" }
                        p.meta { span { "changes go to all of them; one that was away is told when it returns" } }
                    }
                    ul { @for proxy in &view.proxies { (item(proxy, view)) } }
                }
            }
        }
    }
}

fn item(proxy: &Proxy, view: &View) -> Markup {
    let answer = proxy.picture.as_ref().map(|picture| &picture.answer);
    let (word, tone, shape) = match (proxy.answers(), answer) {
        (false, _) => ("Away", Tone::Bad, "cross"),
        (true, Some(answer)) if answer.proxy.stopping => ("Stopping", Tone::Busy, "drain"),
        (true, Some(answer)) if !answer.proxy.ready => ("Not ready", Tone::Busy, "warn"),
        _ => ("Answers", Tone::Good, "check"),
    };
    html! {
        li {
            p.name { span.mono { (proxy.name) } span.pill.(tone.class()) { (icon(shape)) (word) } }
            @if let Some(answer) = answer {
                @let pools = &answer.pools;
                @let total: usize = pools.iter().map(|pool| pool.backends.len()).sum();
                @let serving: usize = pools.iter().map(|pool| pool.serving()).sum();
                @if proxy.answers() {
                    p { strong { (number(answer.traffic().requests_per_second)) } " requests/s, "
                        (pools.iter().map(|pool| pool.in_flight()).sum::<u64>()) " in flight" }
                    p.quiet { (serving) " of " (count(total, "backend")) " serving · up "
                        (span(std::time::Duration::try_from_secs_f64(answer.proxy.uptime_seconds).unwrap_or_default())) }
                }
                @if !answer.proxy.not_ready_reasons.is_empty() { p.quiet { (answer.proxy.not_ready_reasons.join("; ")) } }
                @if let Some(why) = &answer.proxy.not_saved_reason { p.quiet { "Changes are not saved: " (why) } }
            }
            @if !proxy.answers() {
                @if let Some(picture) = &proxy.picture {
                    p { "last heard " (span(view.at.saturating_duration_since(picture.at))) " ago" }
                }
                @if let Some(fault) = &proxy.fault { p.quiet { (proxy.api.explain(fault)) } }
            }
        }
    }
}
