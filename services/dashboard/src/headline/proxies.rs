//! What the first line says of the proxies themselves: what is well on those that answer is not
//! well if one does not, has nobody to serve from, is not ready, stops, or sees a backend otherwise.
//!
//! All of it is told, whatever else there is to tell: a backend in maintenance, which is no trouble,
//! must not hide that every request through one of two proxies is refused.

use super::{Headline, NAMED, say};
use crate::{
    model::{Answer, Backend},
    poll::View,
    standing::Last,
    words::{Tone, count},
};

/// The proxies that answer.
pub(super) struct Proxies<'a> {
    said: Vec<(&'a str, &'a Last)>,
    /// How many there are, the silent ones included.
    all: usize,
}

impl<'a> Proxies<'a> {
    /// Those of `view`.
    pub(super) fn of(view: &'a View) -> Self {
        let name = |name: &'a String| if view.is_of_several() { name } else { "the proxy" };
        let said = view.standings.iter().filter_map(|one| Some((name(&one.name), one.answer()?)));
        Self { said: said.collect(), all: view.standings.len() }
    }

    /// Adds to what is said of the backends, of which `picture` is that of all proxies.
    pub(super) fn add_to(&self, headline: Headline, picture: &Answer) -> Headline {
        // If no backend serves anywhere, that is the sentence.
        let serves_somewhere = picture.pools.iter().any(|pool| pool.serving() > 0);
        let is_lost = |one: &Last| one.serving == 0 && !one.is_starting && !one.stopping;
        let is_unready = |one: &Last| {
            one.is_unready() && (one.serving > 0 || (one.is_starting && serves_somewhere))
        };
        let mut more: Vec<(Tone, String)> = Vec::new();
        let without = self.who(is_lost);
        if !without.is_empty() && serves_somewhere {
            more.push((Tone::Bad, format!("on {} no backend serves", self.subject(&without))));
        }
        let silent = self.all - self.said.len();
        if silent > 0 {
            let verb = if silent == 1 { "does" } else { "do" };
            let all = self.all;
            more.push((Tone::Busy, format!("{silent} of {all} proxies {verb} not answer")));
        }
        let states =
            [(self.who(is_unready), "not ready"), (self.who(|one| one.stopping), "stopping")];
        for (who, state) in states.iter().filter(|(who, _)| !who.is_empty()) {
            let text = format!("{} {} {state}", self.subject(who), is(who.len()));
            more.push((Tone::Busy, text));
        }
        let disputed = disputed(picture);
        if !disputed.is_empty() {
            let about = few(&disputed).unwrap_or_else(|| count(disputed.len(), "backend"));
            more.push((Tone::Busy, format!("proxies disagree about {about}")));
        }
        more.into_iter().fold(headline, |Headline { tone, sentence }, (other, text)| {
            let joint = if sentence.contains(", but") { ", and" } else { ", but" };
            let tone = if other.rank() > tone.rank() { other } else { tone };
            say(tone, format!("{sentence}{joint} {text}"))
        })
    }

    /// Who is not ready, and why: a sentence.
    pub(super) fn unready(&self) -> Option<String> {
        let unready: Vec<_> = self.said.iter().filter(|(_, last)| last.is_unready()).collect();
        let why = |last: &Last| match &last.not_ready_reasons[..] {
            [] => String::new(),
            reasons => format!(": {}", reasons.join(", ")),
        };
        match (&unready[..], self.all) {
            ([], _) => None,
            ([(_, only)], 1) => Some(format!("The proxy is not ready{}.", why(only))),
            (some, all) => {
                let told = some.iter().map(|(name, last)| format!("{name}{}", why(last)));
                let told = told.collect::<Vec<_>>().join("; ");
                let (number, is) = (some.len(), is(some.len()));
                Some(format!("{number} of {all} proxies {is} not ready: {told}."))
            }
        }
    }

    fn who(&self, is_one: impl Fn(&Last) -> bool) -> Vec<&str> {
        self.said.iter().filter(|(_, last)| is_one(last)).map(|(name, _)| *name).collect()
    }

    fn subject(&self, who: &[&str]) -> String {
        few(who).unwrap_or_else(|| format!("{} of {} proxies", who.len(), self.all))
    }
}

/// The backends that serve on some proxies only.
fn disputed(picture: &Answer) -> Vec<&str> {
    let backends = picture.pools.iter().flat_map(|pool| &pool.backends);
    let is_disputed = |backend: &&Backend| backend.serves() && !backend.opinions.is_empty();
    backends.filter(is_disputed).map(|backend| backend.id.as_str()).collect()
}

/// The names, if they are few.
fn few(names: &[&str]) -> Option<String> {
    (names.len() <= NAMED).then(|| names.join(" and "))
}

fn is(number: usize) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::fleet;

    /// A proxy with these backends, each by its id and whether it is serving, down or whatever.
    fn answer(proxy: Value, backends: &[(&str, &str)]) -> Answer {
        let backends = backends.iter().map(|(id, effective)| {
            let health = if *effective == "down" { "down" } else { "up" };
            json!({"id": id, "admin": "ready", "health": health, "effective": effective})
        });
        let pools = json!([{"name": "p", "backends": backends.collect::<Vec<_>>()}]);
        let mut answer = json!({"proxy": {"started_at": ""}, "pools": pools});
        answer["proxy"].as_object_mut().unwrap().extend(proxy.as_object().unwrap().clone());
        serde_json::from_value(answer).unwrap()
    }

    /// What is added to a sentence of a good tone, and what the banner says.
    fn told(said: &[(&str, Answer)], all: usize) -> (Tone, String, Option<String>) {
        let said: Vec<(&str, &Answer)> =
            said.iter().map(|(name, answer)| (*name, answer)).collect();
        let picture = fleet::merge(&said).unwrap();
        let said = said.into_iter().map(|(name, answer)| (name, Last::of(answer, Duration::ZERO)));
        let said: Vec<_> = said.collect();
        let proxies =
            Proxies { said: said.iter().map(|(name, last)| (*name, last)).collect(), all };
        let headline = proxies.add_to(say(Tone::Good, "Well"), &picture);
        (headline.tone, headline.sentence, proxies.unready())
    }

    const BOTH: [(&str, &str); 2] = [("a", "serving"), ("b", "serving")];

    #[test]
    fn nothing_is_added_where_all_is_well() {
        let well = || answer(json!({}), &BOTH);
        let expected = (Tone::Good, "Well".to_owned(), None);
        assert_eq!(told(&[("x", well()), ("y", well())], 2), expected);
        assert_eq!(told(&[("the proxy", well())], 1), expected);
    }

    #[test]
    fn all_that_is_not_well_is_told_and_the_tone_is_that_of_the_worst() {
        let well = || answer(json!({}), &BOTH);
        let stopping = answer(json!({"ready": false, "stopping": true}), &BOTH);
        let unready = answer(json!({"ready": false, "not_ready_reasons": ["why", "more"]}), &BOTH);
        let lost = answer(json!({"ready": false}), &[("a", "down"), ("b", "down")]);
        let said = [("v", well()), ("w", stopping), ("x", unready), ("y", lost)];
        let (tone, sentence, banner) = told(&said, 5);
        assert_eq!(tone, Tone::Bad);
        let expected = "Well, but on y no backend serves, and 1 of 5 proxies does not answer, \
                        and x is not ready, and w is stopping, and proxies disagree about a and b";
        assert_eq!(sentence, expected);
        assert_eq!(banner.unwrap(), "2 of 5 proxies are not ready: x: why, more; y.");
    }

    #[test]
    fn one_that_has_just_started_or_stops_is_no_alarm() {
        let well = || answer(json!({}), &BOTH);
        for backends in [&[][..], &[("a", "checking"), ("b", "down")]] {
            let starting = answer(json!({"ready": false}), backends);
            let (tone, sentence, _) = told(&[("x", well()), ("y", starting)], 2);
            assert_eq!(tone, Tone::Busy, "{sentence}");
            assert!(sentence.starts_with("Well, but y is not ready"), "{sentence}");
        }
        let stopping = json!({"ready": false, "stopping": true});
        let stopping = answer(stopping, &[("a", "down"), ("b", "down")]);
        let (tone, sentence, _) = told(&[("x", well()), ("y", stopping)], 2);
        assert_eq!(tone, Tone::Busy, "{sentence}");
    }

    #[test]
    fn few_are_named_and_more_are_counted() {
        let stopping = || answer(json!({"stopping": true}), &BOTH);
        let (tone, sentence, _) = told(&[("x", stopping()), ("y", stopping())], 2);
        assert_eq!((tone, &*sentence), (Tone::Busy, "Well, but x and y are stopping"));
        let (_, sentence, _) = told(&[("x", stopping()), ("y", stopping()), ("z", stopping())], 3);
        assert_eq!(sentence, "Well, but 3 of 3 proxies are stopping");
        let three = ["a", "b", "c"];
        let here = answer(json!({}), &three.map(|id| (id, "serving")));
        let there =
            answer(json!({}), &[("a", "down"), ("b", "down"), ("c", "down"), ("d", "serving")]);
        let (_, sentence, _) = told(&[("x", here), ("y", there)], 2);
        assert_eq!(sentence, "Well, but proxies disagree about 4 backends");
    }

    #[test]
    fn an_only_proxy_needs_no_name_and_what_the_sentence_says_already_is_not_said_again() {
        let of = |proxy, backends: &[(&str, &str)]| {
            let (tone, sentence, banner) = told(&[("the proxy", answer(proxy, backends))], 1);
            (tone, sentence, banner.unwrap_or_default())
        };
        let unready = json!({"ready": false, "not_ready_reasons": ["why"]});
        let (tone, sentence, banner) = of(unready.clone(), &BOTH);
        assert_eq!((tone, &*sentence), (Tone::Busy, "Well, but the proxy is not ready"));
        assert_eq!(banner, "The proxy is not ready: why.");
        let (_, sentence, banner) = of(json!({"ready": false, "stopping": true}), &BOTH);
        assert_eq!((&*sentence, &*banner), ("Well, but the proxy is stopping", ""));
        // "No backend serves" would be before it.
        let (tone, sentence, banner) = of(unready, &[("a", "down")]);
        assert_eq!((tone, &*sentence), (Tone::Good, "Well"));
        assert_eq!(banner, "The proxy is not ready: why.");
    }
}
