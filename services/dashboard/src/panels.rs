//! The totals: a number for now and a chart for the last minutes.

use maud::{Markup, html};

use crate::{
    charts::{Line, chart},
    headline,
    history::{Sample, Series},
    model::Traffic,
    words::{millis, number, percent},
};

/// Seconds that the charts show: enough to see a rollout, short enough for one pixel a second.
pub(crate) const SECONDS: usize = 300;

/// Requests per second.
pub(crate) fn rate(traffic: &Traffic, history: &Series) -> Markup {
    let now = number(traffic.requests_per_second);
    let lines = [line("rate", history, |sample| sample.rate)];
    html! {
        section.panel id="panel-rate" aria-label="Requests" {
            h2 { "Requests" }
            p.figure { b { (now) } " per second" }
            (chart(&lines, 1.0, number, &format!("Requests per second over five minutes, now {now}")))
        }
    }
}

/// The share of failures.
pub(crate) fn errors(traffic: &Traffic, history: &Series) -> Markup {
    let now = percent(traffic.error_share);
    let lines = [line("errors", history, |sample| sample.error_share)];
    let tone = match traffic.error_share {
        share if share > 0.0 => headline::error_tone(share),
        _ => "calm",
    };
    html! {
        section.panel id="panel-errors" aria-label="Errors" {
            h2 { "Errors" }
            p.figure { b class=(tone) { (now) } " of requests" }
            // One percent as the least height: a single failure should not look like an outage.
            (chart(&lines, 0.01, percent, &format!("Share of failures over five minutes, now {now}")))
        }
    }
}

/// Percentiles of the time to answer.
pub(crate) fn latency(traffic: &Traffic, history: &Series) -> Markup {
    let lines = [
        line("p50", history, |sample| sample.p50_ms),
        line("p95", history, |sample| sample.p95_ms),
        line("p99", history, |sample| sample.p99_ms),
    ];
    let values = [("p50", traffic.p50_ms), ("p95", traffic.p95_ms), ("p99", traffic.p99_ms)];
    let summary = values.map(|(name, value)| format!("{name} {}", millis(value))).join(", ");
    html! {
        section.panel id="panel-latency" aria-label="Latency" {
            h2 { "Latency" }
            p.figure.three {
                @for (name, value) in values {
                    span {
                        svg.key viewBox="0 0 16 4" aria-hidden="true" { path.line.(name) d="M1 2h14" {} }
                        (name)
                        b { (millis(value)) }
                    }
                }
            }
            (chart(&lines, 1.0, |value| millis(Some(value)), &format!("Latency over five minutes, now {summary}")))
        }
    }
}

/// Requests that are being answered.
pub(crate) fn in_flight(in_flight: u64, history: &Series) -> Markup {
    let lines = [line("flight", history, |sample| sample.in_flight)];
    html! {
        section.panel id="panel-flight" aria-label="In flight" {
            h2 { "In flight" }
            p.figure { b { (in_flight) } " requests" }
            (chart(&lines, 2.0, number, &format!("Requests in flight over five minutes, now {in_flight}")))
        }
    }
}

fn line(class: &'static str, history: &Series, value: fn(&Sample) -> f32) -> Line {
    let known = |slot| Some(f64::from(value(slot))).filter(|value| !value.is_nan());
    Line { class, values: history.slots.iter().map(known).collect() }
}
