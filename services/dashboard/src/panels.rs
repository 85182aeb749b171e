//! The charts: a number for now and a line for the time before.

use maud::{Markup, html};

use crate::{
    address::Shown,
    charts::{Axis, Line, Mark, Window, chart},
    headline,
    history::{Sample, Series},
    model::Traffic,
    words::{millis, number, percent},
};

/// Slots of a chart: one pixel each on a common screen.
pub(crate) const SLOTS: usize = 300;

/// What the four charts of a page are drawn from.
pub(crate) struct Charts<'a> {
    pub(crate) traffic: &'a Traffic,
    pub(crate) in_flight: u64,
    /// The window's slots.
    pub(crate) series: Series,
    pub(crate) window: Window,
    pub(crate) marks: &'a [Mark],
}

impl<'a> Charts<'a> {
    /// The charts of a series over a window.
    pub(crate) fn new(
        traffic: &'a Traffic,
        in_flight: u64,
        all: &Series,
        window: Window,
        marks: &'a [Mark],
    ) -> Self {
        let series = all.last(window.seconds(), SLOTS);
        Self { traffic, in_flight, series, window, marks }
    }

    /// Requests per second.
    pub(crate) fn rate(&self) -> Markup {
        let now = number(self.traffic.requests_per_second);
        let lines = [self.line("rate", |sample| sample.rate)];
        let summary = format!("Requests per second over {}, now {now}", self.window.words());
        html! {
            section.panel id="panel-rate" aria-label="Requests" {
                h2 { "Requests" }
                p.figure { b { (now) } " per second" }
                (chart("rate", &lines, &self.axis(), 1.0, number, &summary))
            }
        }
    }

    /// The share of failures.
    pub(crate) fn errors(&self) -> Markup {
        let now = percent(self.traffic.error_share);
        let lines = [self.line("errors", |sample| sample.error_share)];
        let tone = match self.traffic.error_share {
            share if share > 0.0 => headline::error_tone(share),
            _ => "calm",
        };
        let summary = format!("Share of failures over {}, now {now}", self.window.words());
        html! {
            section.panel id="panel-errors" aria-label="Errors" {
                h2 { "Errors" }
                p.figure { b class=(tone) { (now) } " of requests" }
                // One percent as the least height: a single failure should not look like an outage.
                (chart("error_share", &lines, &self.axis(), 0.01, percent, &summary))
            }
        }
    }

    /// Percentiles of the time to answer.
    pub(crate) fn latency(&self) -> Markup {
        let lines = [
            self.line("p50", |sample| sample.p50_ms),
            self.line("p95", |sample| sample.p95_ms),
            self.line("p99", |sample| sample.p99_ms),
        ];
        let traffic = self.traffic;
        let values = [("p50", traffic.p50_ms), ("p95", traffic.p95_ms), ("p99", traffic.p99_ms)];
        let told = values.map(|(name, value)| format!("{name} {}", millis(value))).join(", ");
        let summary = format!("Latency over {}, now {told}", self.window.words());
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
                (chart("latency", &lines, &self.axis(), 1.0, |value| millis(Some(value)), &summary))
            }
        }
    }

    /// Requests that are being answered.
    pub(crate) fn flight(&self) -> Markup {
        let now = self.in_flight;
        let lines = [self.line("flight", |sample| sample.in_flight)];
        let summary = format!("Requests in flight over {}, now {now}", self.window.words());
        html! {
            section.panel id="panel-flight" aria-label="In flight" {
                h2 { "In flight" }
                p.figure { b { (now) } " requests" }
                (chart("in_flight", &lines, &self.axis(), 2.0, number, &summary))
            }
        }
    }

    fn axis(&self) -> Axis<'_> {
        let slots = self.window.seconds() / self.series.step.max(1);
        Axis { window: self.window, slots, marks: self.marks }
    }

    fn line(&self, class: &'static str, value: fn(&Sample) -> f32) -> Line {
        Line { class, values: self.series.values(value) }
    }
}

/// The way to the other window, with the rows in the same order. Links, so that it works without
/// JavaScript.
pub(crate) fn windows(path: &str, shown: Shown) -> Markup {
    html! {
        nav.windows aria-label="Time shown" {
            @for (window, text) in [(Window::Minutes, "5 minutes"), (Window::Hour, "1 hour")] {
                @let way = Shown { window, ..shown };
                a href=(way.address(path)) aria-current=[(way == shown).then_some("true")] { (text) }
            }
        }
    }
}
