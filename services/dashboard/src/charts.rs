//! Charts as SVG, drawn on the server: nothing to load, and they work without JavaScript.
//!
//! Colours, also those of text, come from the style sheet's classes and follow the theme. What
//! happened meanwhile is marked on the time axis.

use std::fmt::Write;

use maud::{Markup, html};

use crate::history::SPARK_SECONDS;

/// Room for the labels of the vertical axis.
const LEFT: f64 = 46.0;
const TOP: f64 = 14.0;
const HEIGHT: f64 = 88.0;
const WIDTH: f64 = 300.0;
/// More marks would be a hedge; the list of events has them all.
const MARKS_MOST: usize = 40;

/// How far back a chart looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Window {
    /// Enough to see a rollout, short enough for one pixel a second.
    #[default]
    Minutes,
    /// Who was woken by an alert sees how it began.
    Hour,
}

impl Window {
    /// The one that a query names; the short one otherwise.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        if text == Some("hour") { Self::Hour } else { Self::Minutes }
    }

    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Minutes => "minutes",
            Self::Hour => "hour",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Minutes => "five minutes",
            Self::Hour => "an hour",
        }
    }

    pub(crate) fn seconds(self) -> usize {
        match self {
            Self::Minutes => 300,
            Self::Hour => 3_600,
        }
    }

    fn labels(self) -> [&'static str; 6] {
        match self {
            Self::Minutes => ["5 min ago", "", "−3 min", "−2 min", "−1 min", "now"],
            Self::Hour => ["1 h ago", "", "−36 min", "−24 min", "−12 min", "now"],
        }
    }
}

/// One line of a chart.
pub(crate) struct Line {
    /// The class with its colour and dashes.
    pub(crate) class: &'static str,
    /// One value per slot, oldest first.
    pub(crate) values: Vec<Option<f64>>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// Seconds ago.
    pub(crate) ago: f64,
    /// Its kind: colour and shape.
    pub(crate) kind: &'static str,
    /// What it was.
    pub(crate) title: String,
}

/// The time axis of a chart.
pub(crate) struct Axis<'a> {
    pub(crate) window: Window,
    /// Slots in the whole window.
    pub(crate) slots: usize,
    pub(crate) marks: &'a [Mark],
}

/// A chart. `column` names what it shows, for values under the pointer; `least_top` keeps noise
/// near zero from filling the height; `label` writes the axis; `summary` is what a screen reader
/// says.
pub(crate) fn chart(
    column: &str,
    lines: &[Line],
    axis: &Axis<'_>,
    least_top: f64,
    label: impl Fn(f64) -> String,
    summary: &str,
) -> Markup {
    let highest = lines.iter().flat_map(|line| line.values.iter().flatten()).copied();
    let top = nice(highest.fold(least_top, f64::max));
    let right = LEFT + WIDTH;
    let bottom = TOP + HEIGHT;
    let scale = Scale { left: LEFT, bottom, height: HEIGHT, top, width: WIDTH, slots: axis.slots };
    html! {
        svg.plot viewBox="0 0 356 124" role="img" aria-label=(summary) tabindex="0" data-chart=(column) {
            @for step in [0.0, 0.5, 1.0] {
                @let y = bottom - HEIGHT * step;
                line.grid x1=(LEFT) x2=(right) y1=(y) y2=(y) {}
                text.axis x=(LEFT - 6.0) y=(y + 3.5) text-anchor="end" { (label(top * step)) }
            }
            @for (index, text) in axis.window.labels().iter().enumerate() {
                @let x = LEFT + WIDTH * index as f64 / 5.0;
                text.axis x=(x) y="119" text-anchor=(anchor(index)) { (text) }
            }
            @if lines.len() == 1 {
                path.area.(lines[0].class) d=(scale.area(&lines[0].values)) {}
            }
            @for line in lines {
                path.line.(line.class) d=(scale.path(&line.values)) {}
            }
            (marks(axis))
        }
    }
}

fn marks(axis: &Axis<'_>) -> Markup {
    let seconds = axis.window.seconds() as f64;
    let within = axis.marks.iter().filter(|mark| mark.ago >= 0.0 && mark.ago <= seconds);
    html! {
        @for mark in within.take(MARKS_MOST) {
            @let x = format!("{:.0}", LEFT + WIDTH * (1.0 - mark.ago / seconds));
            g.mark.(mark.kind) {
                title { (mark.title) }
                path.stem d={ "M" (x) " " (TOP - 4.0) "V" (TOP + HEIGHT) } {}
                path.head d={ "M" (x) " " (TOP - 3.0) (shape(mark.kind)) } {}
            }
        }
    }
}

/// Colour is never the only sign: an operator's doing is a square, health a triangle, the rest a
/// diamond.
fn shape(kind: &str) -> &'static str {
    match kind {
        "admin" => "m-3.500-7h7v7h-7z",
        "health" => "l-4-7h8z",
        _ => "l-3.500-4 3.500-4 3.500 4z",
    }
}

fn anchor(index: usize) -> &'static str {
    match index {
        0 => "start",
        5 => "end",
        _ => "middle",
    }
}

/// A line without axes, for a row of the table. Decoration: the number is beside it.
pub(crate) fn sparkline(class: &str, values: &[Option<f64>]) -> Markup {
    let highest = values.iter().flatten().copied().fold(1.0, f64::max);
    let width = SPARK_SECONDS as f64;
    let scale =
        Scale { left: 0.0, bottom: 20.0, height: 18.0, top: highest, width, slots: SPARK_SECONDS };
    html! {
        svg.spark viewBox="0 0 60 22" preserveAspectRatio="none" aria-hidden="true" {
            // No filled area: it would double what 500 rows send.
            path.line.(class) d=(scale.path(values)) {}
        }
    }
}

/// A bar for a share from 0 to 1. Decoration: the number is beside it.
pub(crate) fn bar(share: f64) -> Markup {
    html! {
        svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect.track width="100" height="6" {}
            rect.fill width=(format!("{:.1}", share.clamp(0.0, 1.0) * 100.0)) height="6" {}
        }
    }
}

/// The next number with one round digit, whose half is round enough for the middle label.
fn nice(value: f64) -> f64 {
    let magnitude = 10_f64.powf(value.max(1e-6).log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].map(|step| step * magnitude);
    // A little tolerance: 0.01 * 100 is more than 1 in floating point.
    steps.into_iter().find(|step| value <= step * 1.000_001).unwrap_or(value)
}

struct Scale {
    left: f64,
    bottom: f64,
    height: f64,
    top: f64,
    width: f64,
    slots: usize,
}

impl Scale {
    /// The points of each stretch without a hole; the newest value is at the right edge.
    fn stretches(&self, values: &[Option<f64>]) -> Vec<Vec<(f64, f64)>> {
        let step = self.width / self.slots.max(values.len()).max(1) as f64;
        let first = self.left + self.width - values.len() as f64 * step;
        let mut stretches: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
        for (index, value) in values.iter().enumerate() {
            match value {
                Some(value) => {
                    let y = self.bottom - self.height * (value / self.top).clamp(0.0, 1.0);
                    if let Some(stretch) = stretches.last_mut() {
                        stretch.push((first + (index as f64 + 1.0) * step, y));
                    }
                }
                None => stretches.push(Vec::new()),
            }
        }
        stretches.retain(|stretch| !stretch.is_empty());
        stretches
    }

    fn path(&self, values: &[Option<f64>]) -> String {
        let mut path = String::new();
        for stretch in self.stretches(values) {
            for (index, (x, y)) in stretch.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(path, "{}{} {y:.1}", if index == 0 { 'M' } else { 'L' }, short(*x));
            }
            if stretch.len() == 1 {
                // A point alone is drawn only as a line of no length with round ends.
                path.push_str("h.1");
            }
        }
        path
    }

    fn area(&self, values: &[Option<f64>]) -> String {
        let mut path = String::new();
        for stretch in self.stretches(values) {
            let (Some((first, _)), Some((last, _))) = (stretch.first(), stretch.last()) else {
                continue;
            };
            let _ = write!(path, "M{} {}", short(*first), self.bottom);
            for (x, y) in &stretch {
                let _ = write!(path, "L{} {y:.1}", short(*x));
            }
            let _ = write!(path, "L{} {}Z", short(*last), self.bottom);
        }
        path
    }
}

/// Tenths are enough for a pixel, and whole numbers need no point.
fn short(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_round_number_above_the_highest_value() {
        for (value, top) in
            [(1.0, 1.0), (1.2, 1.5), (38.0, 40.0), (501.0, 600.0), (810.0, 1_000.0), (0.01, 0.01)]
        {
            assert!((nice(value) - top).abs() < top * 1e-6, "{value}: {}", nice(value));
        }
    }

    #[test]
    fn a_hole_in_the_series_is_a_hole_in_the_line() {
        let scale = Scale { left: 0.0, bottom: 10.0, height: 10.0, top: 1.0, width: 4.0, slots: 4 };
        let values = [Some(0.0), Some(1.0), None, Some(0.5)];
        assert_eq!(scale.path(&values), "M1 10.0L2 0.0M4 5.0h.1");
        assert_eq!(scale.path(&[]), "");
    }

    #[test]
    fn only_what_happened_within_the_window_is_marked_each_kind_with_its_shape() {
        let mark = |ago, kind| Mark { ago, kind, title: "x <y>".to_owned() };
        let all = [mark(10.0, "admin"), mark(400.0, "health"), mark(-3.0, "health")];
        let axis = Axis { window: Window::Minutes, slots: 300, marks: &all };
        let svg = marks(&axis).into_string();
        assert_eq!(svg.matches("<g").count(), 1);
        assert!(svg.contains("x &lt;y&gt;") && svg.contains(shape("admin")));
        assert_ne!(shape("admin"), shape("health"));
    }
}
