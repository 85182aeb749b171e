//! The picture of the traffic: from the proxies to the backends, its width and their health.
//!
//! Up to a dozen backends each have a line of their own; of more, those of the same tone share
//! one, and each is a tile whose colour and shape tell its state. Of several proxies each has a
//! line to where all of it meets, as wide as its part. The lines stretch with the window, their
//! widths do not. A state that changes moves nothing: every place is there before it is needed.

use maud::{Markup, html};

use crate::{
    detail,
    icons::icon,
    model::{Backend, Pool},
    poll::View,
    standing::Standing,
    words::{Tone, count, number},
};

/// Backends with a line of their own: what fits beside the charts without scrolling.
const NAMED_MOST: usize = 12;
/// Proxies with a line of their own; more are rare, and have their own list.
const PROXIES_MOST: usize = 8;
/// The height of a line's end.
const ROW: usize = 38;
/// The width of the widest line on each side.
const WIDEST: f64 = 16.0;
/// Where the proxies' lines meet, of a hundred across.
const JUNCTION: usize = 36;

/// Where one line leads.
struct End {
    words: String,
    link: Option<String>,
    state: String,
    tone: Tone,
    shape: &'static str,
    rate: f64,
    /// How many backends it stands for, if it stands for many.
    members: Option<usize>,
}

/// Where one line comes from.
struct Source {
    name: String,
    /// Nothing of a single one, whose traffic is all that is shown.
    rate: Option<f64>,
    is_away: bool,
}

/// The picture; the tiles of many backends are a part of their own, since they change rarely.
pub(crate) fn picture(view: &View) -> Markup {
    let pools = view.picture.as_ref().map(|picture| &picture.answer.pools[..]).unwrap_or_default();
    let ends = ends(pools, view.is_saved);
    let sources = sources(view);
    let height = ends.len().max(sources.len()).max(2) * ROW;
    html! {
        div.map id="map" {
            @if !ends.is_empty() {
                ul.from.several[sources.len() > 1] { @for source in &sources { (source.item()) } }
                svg.flow viewBox={ "0 0 100 " (height) } height=(height) preserveAspectRatio="none" role="img"
                    aria-label=(summary(&ends, &sources)) {
                    (flow(&ends, &sources, height))
                }
                ul.to.grouped[ends.iter().all(|end| end.members.is_some())] { @for end in &ends { (end.item()) } }
            }
        }
    }
}

fn summary(ends: &[End], sources: &[Source]) -> String {
    let total: f64 = ends.iter().map(|end| end.rate).sum();
    let backends: usize = ends.iter().map(|end| end.members.unwrap_or(1)).sum();
    let to = count(backends, "backend");
    let from: Vec<String> = sources
        .iter()
        .filter_map(|source| Some(format!("{} by {}", number(source.rate?), source.name)))
        .collect();
    let from = if from.is_empty() { String::new() } else { format!(": {}", from.join(", ")) };
    format!("{} requests per second to {to}{from}", number(total))
}

fn flow(ends: &[End], sources: &[Source], height: usize) -> Markup {
    let middle = height / 2;
    // Each side's widest line is as wide as the other's: of one to a dozen, each would be a hair.
    let most_out = ends.iter().map(|end| end.rate).fold(0.0, f64::max);
    let most_in = sources.iter().filter_map(|source| source.rate).fold(0.0, f64::max);
    let start = if sources.len() > 1 { JUNCTION } else { 0 };
    let bend = start + (100 - start) / 2;
    html! {
        @if sources.len() > 1 {
            @for (index, source) in sources.iter().enumerate() {
                @let y = place(index, sources.len(), height);
                @let rate = source.rate.unwrap_or_default();
                path class={ "stream source" @if source.is_away { " bad" } @else { " good" } @if rate <= 0.0 { " none" } }
                    stroke-width=(width(rate, most_in)) d={ "M0 " (y) "C" (JUNCTION / 2) " " (y) " " (JUNCTION / 2) " " (middle) " " (JUNCTION) " " (middle) } {}
            }
        }
        @for (index, end) in ends.iter().enumerate().filter(|(_, end)| end.members != Some(0)) {
            @let y = place(index, ends.len(), height);
            path class={ "stream " (end.tone.class()) @if end.rate <= 0.0 { " none" } }
                stroke-width=(width(end.rate, most_out)) d={ "M" (start) " " (middle) "C" (bend) " " (middle) " " (bend - 5) " " (y) " 100 " (y) } {}
        }
    }
}

/// The middle of one of `all` rows, which stand in the middle of the height.
fn place(index: usize, all: usize, height: usize) -> usize {
    (height - all * ROW) / 2 + index * ROW + ROW / 2
}

fn sources(view: &View) -> Vec<Source> {
    let all = &view.standings;
    if all.len() > PROXIES_MOST {
        let answering = view.answering_count();
        let name = format!("{answering} proxies");
        return vec![Source { name, rate: None, is_away: answering < all.len() }];
    }
    let source = |proxy: &Standing| Source {
        name: proxy.name.clone(),
        rate: view.is_of_several().then(|| proxy.answer().map_or(0.0, |answer| answer.rate)),
        is_away: !proxy.answers(),
    };
    all.iter().map(source).collect()
}

fn width(rate: f64, most: f64) -> String {
    if rate <= 0.0 { "1.5".to_owned() } else { format!("{:.1}", (WIDEST * rate / most).max(1.5)) }
}

fn ends(pools: &[Pool], is_saved: bool) -> Vec<End> {
    let all: Vec<(&Pool, &Backend)> = pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)))
        .collect();
    if all.len() > NAMED_MOST {
        return [Tone::Good, Tone::Busy, Tone::Idle, Tone::Bad]
            .map(|tone| group(&all, tone))
            .into();
    }
    let end = |(pool, backend): (&Pool, &Backend)| {
        let (state, tone, shape) = backend.show();
        End {
            words: backend.id.clone(),
            link: (!is_saved).then(|| detail::path(&pool.name, &backend.id)),
            state: state.to_lowercase(),
            tone,
            shape,
            rate: backend.traffic.requests_per_second,
            members: None,
        }
    };
    all.into_iter().map(end).collect()
}

/// All backends of one tone, with how many are in which state if that is not one for all. Of
/// none, it says which states these would be: together they explain the tiles.
fn group(all: &[(&Pool, &Backend)], tone: Tone) -> End {
    let own = || all.iter().map(|(_, backend)| *backend).filter(|one| one.show().1 == tone);
    let mut states: Vec<(&str, usize)> = Vec::new();
    for backend in own() {
        let state = backend.show().0;
        match states.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => states.push((state, 1)),
        }
    }
    let (none, shape) = match tone {
        Tone::Good => ("serving", "check"),
        Tone::Busy => ("degraded or draining", "warn"),
        Tone::Idle => ("not ready or drained", "pause"),
        Tone::Bad => ("down or ejected", "cross"),
    };
    let state = match &states[..] {
        [] => none.to_owned(),
        [(state, _)] => state.to_lowercase(),
        more => {
            let told =
                more.iter().map(|(state, count)| format!("{count} {}", state.to_lowercase()));
            told.collect::<Vec<_>>().join(", ")
        }
    };
    let total = own().count();
    End {
        words: count(total, "backend"),
        link: None,
        state,
        tone,
        shape,
        rate: own().map(|one| one.traffic.requests_per_second).sum(),
        members: Some(total),
    }
}

impl Source {
    fn item(&self) -> Markup {
        html! {
            li.away[self.is_away] {
                (icon("proxy"))
                span { (self.name) }
                @if let Some(rate) = self.rate {
                    span.quiet { @if self.is_away { "away" } @else { (number(rate)) "/s" } }
                }
            }
        }
    }
}

impl End {
    fn item(&self) -> Markup {
        html! {
            li.none[self.members == Some(0)] {
                span class={ "badge " (self.tone.class()) } { (icon(self.shape)) }
                @if let Some(link) = &self.link { a.mono href=(link) title=(self.words) { (self.words) } }
                @else { span.name { (self.words) } }
                span.quiet title=(self.state) {
                    @if self.members.is_none() { (self.state) ", " (number(self.rate)) "/s" }
                    @else { (number(self.rate)) "/s, " (self.state) }
                }
            }
        }
    }
}

/// A tile for each backend, where there are too many for lines.
pub(crate) fn tiles(pools: &[Pool], is_saved: bool) -> Markup {
    let total: usize = pools.iter().map(|pool| pool.backends.len()).sum();
    html! {
        div.tiles id="map-tiles" {
            @if total > NAMED_MOST {
                @for pool in pools {
                    @for backend in &pool.backends {
                        @let (state, tone, _) = backend.show();
                        @let words = format!("{}: {}", backend.id, state.to_lowercase());
                        // The table has the same links for the keyboard.
                        @if is_saved { span.tile.(tone.class()) title=(words) {} }
                        @else { a.tile.(tone.class()) href=(detail::path(&pool.name, &backend.id)) tabindex="-1" title=(words) aria-label=(words) {} }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(states: &[(&str, usize)]) -> Vec<Pool> {
        let states = states.iter().flat_map(|(state, count)| std::iter::repeat_n(*state, *count));
        let backends: Vec<_> = states
            .enumerate()
            .map(|(index, state)| {
                serde_json::json!({"id": format!("b{index}"), "health": "up", "effective": state,
                    "traffic": {"requests_per_second": 2.0}})
            })
            .collect();
        let pool = serde_json::json!({"name": "default", "backends": backends});
        vec![serde_json::from_value(pool).unwrap()]
    }

    #[test]
    fn of_many_backends_each_tone_has_its_place_before_it_is_needed() {
        let told = |states: &[(&str, usize)]| -> Vec<String> {
            let ends = ends(&pools(states), false);
            ends.iter().map(|end| format!("{}: {}", end.words, end.state)).collect()
        };
        let well = told(&[("serving", 20)]);
        assert_eq!(well.len(), 4);
        assert_eq!(well[0], "20 backends: serving");
        assert_eq!(well[3], "0 backends: down or ejected");
        let troubled = told(&[("serving", 18), ("down", 3), ("ejected", 1), ("drained", 1)]);
        let expected = [
            "18 backends: serving",
            "0 backends: degraded or draining",
            "1 backend: drained",
            "4 backends: 3 down, 1 ejected",
        ];
        assert_eq!(troubled, expected);
    }

    #[test]
    fn a_proxys_line_is_as_wide_as_its_part() {
        let source = |rate: f64| Source { name: "x".to_owned(), rate: Some(rate), is_away: false };
        let svg = flow(&ends(&pools(&[("serving", 2)]), false), &[source(30.0), source(10.0)], 76);
        let widths: Vec<String> = svg
            .into_string()
            .split("stroke-width=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect();
        assert_eq!(widths, ["16.0", "5.3", "16.0", "16.0"]);
    }
}
