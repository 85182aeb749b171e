//! The picture of the traffic: from the proxies to the backends, its width and their health.
//!
//! Up to a dozen backends each have a line of their own; of more, those of the same state share
//! one, and each is a tile whose colour and shape tell its state. The lines stretch with the
//! window, their widths do not.

use maud::{Markup, html};

use crate::{
    detail,
    icons::icon,
    model::{Backend, Pool},
    poll::View,
    words::{Tone, count, number},
};

/// Backends with a line of their own: what fits beside the charts without scrolling.
const NAMED_MOST: usize = 12;
/// The height of a line's end.
const ROW: usize = 38;
/// The width of the widest line.
const WIDEST: f64 = 16.0;

/// Where one line leads.
struct End {
    words: String,
    link: Option<String>,
    state: &'static str,
    tone: Tone,
    shape: &'static str,
    rate: f64,
}

/// The picture; the tiles of many backends are a part of their own, since they change rarely.
pub(crate) fn picture(view: &View) -> Markup {
    let pools = view.picture.as_ref().map(|picture| &picture.answer.pools[..]).unwrap_or_default();
    let ends = ends(pools);
    let height = ends.len().max(2) * ROW;
    let total: f64 = ends.iter().map(|end| end.rate).sum();
    let most = ends.iter().map(|end| end.rate).fold(0.0, f64::max);
    html! {
        div.map id="map" {
            @if !ends.is_empty() {
                ul.from { @for (name, away) in sources(view) { li.away[away] { (icon("proxy")) span { (name) } } } }
                svg.flow viewBox={ "0 0 100 " (height) } height=(height) preserveAspectRatio="none" role="img"
                    aria-label={ (number(total)) " requests per second to " (count(ends.len(), if ends.iter().all(|end| end.link.is_some()) { "backend" } else { "group" })) } {
                    @for (index, end) in ends.iter().enumerate() {
                        @let y = (height - ends.len() * ROW) / 2 + index * ROW + ROW / 2;
                        path class={ "stream " (end.tone.class()) @if end.rate <= 0.0 { " none" } }
                            stroke-width=(width(end.rate, most)) d={ "M0 " (height / 2) "C50 " (height / 2) " 45 " (y) " 100 " (y) } {}
                    }
                }
                ul.to { @for end in &ends { (end.item()) } }
            }
        }
    }
}

fn sources(view: &View) -> Vec<(String, bool)> {
    const SHOWN: usize = 4;
    let all = &view.proxies;
    if all.len() > SHOWN {
        let away = view.silent().count();
        return vec![(count(all.len() - away, "proxy").replace("proxys", "proxies"), away > 0)];
    }
    let name = |proxy: &crate::replica::Proxy| (proxy.name.clone(), !proxy.answers());
    all.iter().map(name).collect()
}

fn width(rate: f64, most: f64) -> String {
    if rate <= 0.0 { "1.5".to_owned() } else { format!("{:.1}", (WIDEST * rate / most).max(1.5)) }
}

fn ends(pools: &[Pool]) -> Vec<End> {
    let all: Vec<(&Pool, &Backend)> = pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)))
        .collect();
    if all.len() <= NAMED_MOST {
        return all.into_iter().map(|(pool, backend)| End::of(pool, backend)).collect();
    }
    let mut groups: Vec<(usize, End)> = Vec::new();
    for (pool, backend) in all {
        let end = End::of(pool, backend);
        match groups.iter_mut().find(|(_, group)| group.state == end.state) {
            Some((count, group)) => {
                *count += 1;
                group.rate += end.rate;
            }
            None => groups.push((1, End { link: None, ..end })),
        }
    }
    groups.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let named = |(number, end): (usize, End)| End { words: count(number, "backend"), ..end };
    groups.into_iter().map(named).collect()
}

impl End {
    fn of(pool: &Pool, backend: &Backend) -> Self {
        let (state, tone, shape) = backend.show();
        Self {
            words: backend.id.clone(),
            link: Some(detail::path(&pool.name, &backend.id)),
            state,
            tone,
            shape,
            rate: backend.traffic.requests_per_second,
        }
    }

    fn item(&self) -> Markup {
        html! {
            li {
                span class={ "badge " (self.tone.class()) } { (icon(self.shape)) }
                @if let Some(link) = &self.link { a.mono href=(link) { (self.words) } } @else { span { (self.words) } }
                span.quiet { (self.state.to_lowercase()) ", " (number(self.rate)) "/s" }
            }
        }
    }
}

/// A tile for each backend, where there are too many for lines.
pub(crate) fn tiles(pools: &[Pool]) -> Markup {
    let total: usize = pools.iter().map(|pool| pool.backends.len()).sum();
    html! {
        div.tiles id="map-tiles" {
            @if total > NAMED_MOST {
                @for pool in pools {
                    @for backend in &pool.backends {
                        @let (state, tone, _) = backend.show();
                        // The table has the same links for the keyboard.
                        a.(tone.class()) href=(detail::path(&pool.name, &backend.id)) tabindex="-1"
                            title={ (backend.id) ": " (state.to_lowercase()) } aria-label={ (backend.id) ": " (state.to_lowercase()) } {}
                    }
                }
            }
        }
    }
}
