//! The page's first line: is it well?

mod notice;
mod proxies;

use maud::{Markup, html};

pub(crate) use self::notice::{banners, notice};
use self::proxies::Proxies;
use crate::{
    icons::icon,
    model::{Answer, Backend, Effective, Pool},
    poll::View,
    words::{Tone, count, percent, plain, predicate, span},
};

/// From this share of failures the first line is no longer "all well": one in a hundred is what
/// users notice, and far above the noise of clients that hang up.
const ERRORS_WORTH_TELLING: f64 = 0.01;
/// Backends that are named; more are counted.
const NAMED: usize = 2;

/// The answer in one sentence.
pub(crate) struct Headline {
    pub(crate) tone: Tone,
    pub(crate) sentence: String,
}

impl Headline {
    /// What to say about `view`.
    pub(crate) fn of(view: &View) -> Self {
        match (&view.picture, &view.trouble) {
            (_, Some(trouble)) => say(Tone::Bad, trouble.headline.clone()),
            (None, None) => say(Tone::Busy, "Asking the proxy …"),
            (Some(picture), None) => {
                let answer = &picture.answer;
                Proxies::of(view).add_to(about(answer), answer)
            }
        }
    }

    /// The element, announced by screen readers whenever the sentence changes.
    pub(crate) fn html(&self, view: &View) -> Markup {
        let shape = match self.tone {
            Tone::Good => "check",
            Tone::Busy => "warn",
            Tone::Idle => "pause",
            Tone::Bad => "cross",
        };
        html! {
            h1 id="headline" class=(self.tone.class()) data-title=(title(view, self.tone)) {
                span.badge { (icon(shape)) }
                span { (self.sentence) }
            }
        }
    }
}

fn say(tone: Tone, sentence: impl Into<String>) -> Headline {
    Headline { tone, sentence: sentence.into() }
}

/// What is said of the backends.
fn about(answer: &Answer) -> Headline {
    let all = || answer.pools.iter().flat_map(|pool| &pool.backends);
    let backends: Vec<&Backend> =
        all().filter(|backend| backend.effective != Effective::Standby).collect();
    let serving: usize = answer.pools.iter().map(Pool::serving).sum();
    let total = backends.len();
    let stand_by = all().count() - total;
    if all().next().is_none() {
        return say(Tone::Busy, "There are no backends yet");
    }
    if serving == 0 {
        return say(Tone::Bad, format!("No backend serves: {}", naming(&backends)));
    }
    let errors = answer.traffic().error_share;
    let failing = (errors >= ERRORS_WORTH_TELLING)
        .then(|| format!(", but {} of requests fail", percent(errors)));
    if serving == total {
        let who = match total {
            1 => "The only backend serves".to_owned(),
            2 => "Both backends serve".to_owned(),
            _ => format!("All {total} backends serve"),
        };
        let degraded: Vec<&Backend> =
            backends.into_iter().filter(|backend| backend.is_degraded()).collect();
        let who = match stand_by {
            0 => who,
            1 => who + ", 1 stands by",
            more => format!("{who}, {more} stand by"),
        };
        return match failing {
            Some(failing) => say(Tone::Bad, who + &failing),
            None if !degraded.is_empty() => {
                say(Tone::Busy, format!("{who}, but {}", naming_degraded(&degraded)))
            }
            None => say(Tone::Good, who),
        };
    }
    let missing: Vec<&Backend> = backends.into_iter().filter(|backend| !backend.serves()).collect();
    // What an operator took out is no trouble; what failed is.
    let broken = missing
        .iter()
        .any(|backend| matches!(backend.effective, Effective::Down | Effective::Ejected));
    let tone = if broken || failing.is_some() { Tone::Bad } else { Tone::Busy };
    let sentence = format!(
        "{serving} of {total} serve: {}{}",
        naming(&missing),
        failing.map(|failing| failing.replacen(", but", ";", 1)).unwrap_or_default()
    );
    say(tone, sentence)
}

fn naming_degraded(degraded: &[&Backend]) -> String {
    match degraded {
        [one] => format!("{} is degraded", one.id),
        more => format!("{} of them are degraded", more.len()),
    }
}

/// What is wrong: by name if there are few, else how many of each. Failures come before an
/// operator's doing.
fn naming(missing: &[&Backend]) -> String {
    let rank =
        |backend: &&Backend| !matches!(backend.effective, Effective::Down | Effective::Ejected);
    let mut missing = missing.to_vec();
    missing.sort_by_key(rank);
    if missing.len() <= NAMED {
        let named = missing.iter().map(|backend| format!("{} {}", backend.id, predicate(backend)));
        return named.collect::<Vec<_>>().join(", ");
    }
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for backend in missing {
        let word = backend.effective.show().0;
        match groups.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => groups.push((word, 1)),
        }
    }
    let groups = groups.iter().map(|(word, count)| format!("{count} {}", word.to_lowercase()));
    groups.collect::<Vec<_>>().join(", ")
}

/// The title of the window or tab: the state first, because tabs are narrow.
fn title(view: &View, tone: Tone) -> String {
    match (&view.picture, &view.trouble) {
        (Some(picture), None) => {
            let pools = &picture.answer.pools;
            let total: usize = pools.iter().map(|pool| pool.wanted()).sum();
            let serving: usize = pools.iter().map(|pool| pool.serving()).sum();
            // As many may serve in all while one of the proxies has nobody.
            let mark = if tone == Tone::Bad { "✕ " } else { "" };
            format!("{mark}{serving}/{total} · Evenkeel")
        }
        (_, Some(_)) => "✕ · Evenkeel".to_owned(),
        (None, None) => "Evenkeel".to_owned(),
    }
}

/// The line below: what is in front of these backends. Not announced: it counts the uptime.
pub(crate) fn subline(view: &View, url: &str) -> Markup {
    let answer = view.picture.as_ref().map(|picture| &picture.answer);
    html! {
        p id="subline" {
            @match answer {
                None => { "Evenkeel proxy at " span.mono { (url) } }
                Some(Answer { proxy, pools }) => {
                    @if let [pool] = &pools[..] {
                        span { (capital(&plain(&pool.policy))) " over " (count(pool.backends.len(), "backend")) }
                    }
                    span { "traffic on " span.mono { (url) } }
                    @if view.is_of_several() {
                        span { (view.answering_count()) " of " (view.standings.len()) " proxies answer" }
                    } @else {
                        span { "proxy " span.mono { (proxy.name) } @if !proxy.version.is_empty() { " " (proxy.version) } }
                    }
                    @if view.trouble.is_some() && !view.is_of_several() {
                        // In the place of the uptime: what is below must not move.
                        span { "away" }
                    } @else if !view.is_of_several() && !view.is_saved {
                        span { "up " (span(std::time::Duration::try_from_secs_f64(proxy.uptime_seconds).unwrap_or_default())) }
                    }
                }
            }
        }
    }
}

/// The class of a share of failures that is more than nothing.
pub(crate) fn error_tone(share: f64) -> &'static str {
    if share >= ERRORS_WORTH_TELLING { Tone::Bad.class() } else { Tone::Busy.class() }
}

/// The first letter in upper case, unless the first word is a name such as `localhost:8081`.
pub(crate) fn capital(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    if first.trim_end_matches([',', ':', ';']).contains(|letter: char| !letter.is_alphabetic()) {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headline(backends: &[(&str, &str)], error_share: f64) -> (Tone, String) {
        headline_of_health(backends, error_share, "up")
    }

    fn headline_of_health(
        backends: &[(&str, &str)],
        error_share: f64,
        health: &str,
    ) -> (Tone, String) {
        let backends: Vec<serde_json::Value> = backends
            .iter()
            .map(|(id, effective)| {
                serde_json::json!({"id": id, "admin": "ready", "health": health, "effective": effective})
            })
            .collect();
        let answer = serde_json::from_value(serde_json::json!({
            "proxy": {"started_at": ""},
            "pools": [{"name": "default", "backends": backends,
                "traffic": {"requests_per_second": 10.0, "error_share": error_share}}],
        }))
        .unwrap();
        let headline = about(&answer);
        (headline.tone, headline.sentence)
    }

    #[test]
    fn sentences_begin_with_a_capital_and_names_stay_as_they_are() {
        assert_eq!(capital("send the token"), "Send the token");
        assert_eq!(capital("localhost:8081 stays"), "localhost:8081 stays");
        assert_eq!(capital("a-1 stays"), "a-1 stays");
        assert_eq!(capital(""), "");
    }

    #[test]
    fn the_first_line_answers_whether_it_is_well() {
        let (a, b, c) = (("a", "serving"), ("b", "serving"), ("c", "serving"));
        let down = ("d", "down");
        type Case<'a> = (&'a [(&'a str, &'a str)], f64, Tone, &'a str);
        let cases: [Case<'_>; 14] = [
            (&[], 0.0, Tone::Busy, "There are no backends yet"),
            (&[a], 0.0, Tone::Good, "The only backend serves"),
            (&[a, b], 0.0, Tone::Good, "Both backends serve"),
            (&[a, ("x", "standby")], 0.0, Tone::Good, "The only backend serves, 1 stands by"),
            (&[a, down, ("x", "standby")], 0.0, Tone::Bad, "1 of 2 serve: d is down"),
            (&[a, b, c], 0.001, Tone::Good, "All 3 backends serve"),
            (&[a, b, c], 0.2, Tone::Bad, "All 3 backends serve, but 20% of requests fail"),
            (&[a, b, down], 0.0, Tone::Bad, "2 of 3 serve: d is down"),
            (&[a, ("b", "maint")], 0.0, Tone::Busy, "1 of 2 serve: b is set not ready"),
            (&[down], 0.0, Tone::Bad, "No backend serves: d is down"),
            (&[a, ("b", "degraded")], 0.0, Tone::Busy, "1 of 2 serve: b is degraded and spared"),
            (&[a, ("b", "terminating")], 0.0, Tone::Busy, "1 of 2 serve: b is leaving"),
            (&[a, ("b", "ejected")], 0.0, Tone::Bad, "1 of 2 serve: b is ejected"),
            (
                &[("p", "draining"), ("q", "drained"), ("r", "ejected"), a],
                0.0,
                Tone::Bad,
                "1 of 4 serve: 1 ejected, 1 draining, 1 drained",
            ),
        ];
        for (backends, errors, tone, sentence) in cases {
            assert_eq!(headline(backends, errors), (tone, sentence.to_owned()));
        }
    }

    #[test]
    fn degraded_backends_serve_where_there_is_no_better_one() {
        let both = [("a", "serving"), ("b", "serving")];
        let (tone, sentence) = headline_of_health(&both, 0.0, "degraded");
        assert_eq!(tone, Tone::Busy);
        assert_eq!(sentence, "Both backends serve, but 2 of them are degraded");
    }
}
