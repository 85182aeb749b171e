//! What operators have set, as such: who, why, since when, and until when.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use crate::{
    clocks::ahead_of,
    detail,
    icons::icon,
    model::{Admin, Backend, Pool, Stated},
    numbers,
    words::{self, ago, since, span},
};

/// More are in the table; the list scrolls within its own box.
const SHOWN: usize = 60;

/// What was said no later than this after it began to hold is what it began with: clocks may differ.
const SAME_TIME: Duration = Duration::from_secs(5);

/// What no answer ends, but the deadline of a drain.
const LONG: &str = "WebSockets and other long connections";

/// How many there are, with the way to them: beside the charts, since the list is further down.
pub(crate) fn overridden(pools: &[Pool]) -> Markup {
    let backends = pools.iter().flat_map(|pool| &pool.backends);
    let set = |one: &Backend| {
        let all = [one.is_overridden(), one.is_weighted(), one.is_limited()];
        all.into_iter().filter(|is_set| *is_set).count()
    };
    let policies = pools.iter().filter(|pool| pool.has_policy()).count();
    // A state, a weight and a limit of the same backend are three.
    let count = policies + backends.map(set).sum::<usize>();
    html! {
        p id="overridden" {
            @if count > 0 { a href="#overrides" { (icon("person")) (words::count(count, "override")) " in force" } }
        }
    }
}

/// The list. It is there if nothing is set, too: one that comes must not move the page.
pub(crate) fn list(pools: &[Pool], now: SystemTime, is_saved: bool) -> Markup {
    let all: Vec<(&Pool, &Backend, Vec<Markup>)> = pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)))
        .map(|(pool, backend)| (pool, backend, of(backend, now)))
        .filter(|(.., set)| !set.is_empty())
        .collect();
    let policies = pools.iter().filter(|pool| pool.has_policy());
    let is_empty = all.is_empty() && policies.clone().next().is_none();
    html! {
        section.overrides id="overrides" aria-label="Overrides" {
            header { h2 { "Overrides" } p.meta { span { "what operators have set" } } }
            @if is_empty {
                p.empty { "Nothing is set: each backend is as it was configured." }
            } @else {
                // Keyboards reach what scrolls only if it takes the focus.
                ul tabindex="0" aria-label="Overrides in force" {
                    @for pool in policies { li { (policy(pool, now)) } }
                    @for (pool, backend, set) in all.iter().take(SHOWN) {
                        li {
                            @if is_saved { span.mono { (backend.id) } }
                            @else { a.mono href=(detail::path(&pool.name, &backend.id)) { (backend.id) } }
                            @for (index, one) in set.iter().enumerate() {
                                @if index > 0 { ";" }
                                " " (one)
                            }
                        }
                    }
                    @if all.len() > SHOWN { li.quiet { "and " (all.len() - SHOWN) " more in the table, which can be sorted by them" } }
                }
            }
        }
    }
}

/// Each thing that is set of a backend.
fn of(backend: &Backend, now: SystemTime) -> Vec<Markup> {
    let mut set = Vec::new();
    if backend.is_overridden() {
        let state = backend.admin.word().to_lowercase();
        set.push(html! { strong { (state) } " " (intent(backend, now)) });
    }
    set.extend(backend.is_weighted().then(|| weight(backend, now)));
    set.extend(backend.is_limited().then(|| limit(backend, now)));
    set
}

/// Another policy than the configured one.
fn policy(pool: &Pool, now: SystemTime) -> Markup {
    let Pool { policy, hash_key, policy_configured, .. } = pool;
    let said = [
        pool.policy_said_at.as_ref().and_then(Option::as_ref),
        pool.policy_standing_said_at.as_ref(),
    ];
    let words = Words {
        ahead: pool.policy_ahead,
        deadline: None,
        before: None,
        said: said_at(said, &pool.policy_expires_at, &pool.policy_since),
        actor: pool.policy_actor.as_deref(),
        forced: false,
        reason: pool.policy_reason.as_deref(),
        until: pool.policy_expires_at.as_deref(),
        then: pool
            .policy_reverts_to
            .as_deref()
            .map(|then| html! { ", then " (words::plain(then)) }),
    };
    html! {
        "policy " strong { (words::plain(policy)) @if policy == "hash" { " by " (hash_key) } }
        @if policy != policy_configured { " instead of " (words::plain(policy_configured)) }
        " " (words.show(now))
        @if !pool.other_ends.is_empty() {
            "; it does not end everywhere in the same way: "
            @for (index, end) in pool.other_ends.iter().enumerate() {
                @if index > 0 { "; " }
                span.mono { (end.replica) } " "
                @match end.at.as_deref() { Some(end) => { "at " (at(end, now)) }, None => "not at all" }
                @if let Some(then) = &end.then { ", then " (then) }
            }
        }
    }
}

/// The same where there is room for a line or two: why, which nothing else in a row tells, before
/// the rest.
pub(crate) fn brief(backend: &Backend, now: SystemTime) -> Option<Markup> {
    let state = backend.is_overridden().then(|| of_state(backend, now).brief(now));
    let weight = backend.is_weighted().then(|| {
        html! { strong { "weight " (backend.weight) } " " (of_weight(backend).brief(now)) }
    });
    let limit = backend.is_limited().then(|| {
        html! { strong { (numbers::limit_words(backend.max_in_flight)) } " " (of_limit(backend).brief(now)) }
    });
    let set: Vec<Markup> = [state, weight, limit].into_iter().flatten().collect();
    (!set.is_empty()).then(|| {
        html! {
            @for (index, one) in set.iter().enumerate() {
                @if index > 0 { "; " }
                (one)
            }
        }
    })
}

/// Who wanted it, since when, why, until when, and what holds again then.
pub(crate) fn intent(backend: &Backend, now: SystemTime) -> Markup {
    of_state(backend, now).show(now)
}

fn of_state(backend: &Backend, now: SystemTime) -> Words<'_> {
    let said = [
        backend.admin_said_at.as_ref().and_then(Option::as_ref),
        backend.admin_standing_said_at.as_ref(),
    ];
    let said = said_at(said, &backend.admin_expires_at, &backend.admin_since);
    let is_out = backend.admin != Admin::Ready;
    Words {
        ahead: backend.ahead.state,
        deadline: backend.deadline_at.as_deref(),
        before: backend.admin_since.as_deref().filter(|since| is_out && is_before(since, said)),
        said,
        actor: backend.admin_actor.as_deref(),
        forced: backend.admin_forced,
        reason: backend.admin_reason.as_deref(),
        until: backend.admin_expires_at.as_deref(),
        then: backend
            .admin_reverts_to
            .as_ref()
            .map(|then| afterwards(then, backend.admin_expires_at.as_deref(), now)),
    }
}

/// An operator's weight: how much, who, since when, why, until when, and what holds again then.
pub(crate) fn weight(backend: &Backend, now: SystemTime) -> Markup {
    let words = of_weight(backend);
    html! {
        strong { "weight " (backend.weight) }
        @if let Some(usual) = backend.usual_weight() { " instead of " (usual) "," }
        " " (words.show(now))
    }
}

fn of_weight(backend: &Backend) -> Words<'_> {
    let said = [backend.weight_said_at.as_ref(), backend.weight_standing_said_at.as_ref()];
    Words {
        ahead: backend.ahead.weight,
        deadline: None,
        before: None,
        said: said_at(said, &backend.weight_expires_at, &backend.weight_since),
        actor: backend.weight_actor.as_deref(),
        forced: backend.weight_forced,
        reason: backend.weight_reason.as_deref(),
        until: backend.weight_expires_at.as_deref(),
        then: backend.weight_reverts_to.map(|then| html! { ", then " (then) }),
    }
}

/// An operator's limit of requests in flight, in the same way.
pub(crate) fn limit(backend: &Backend, now: SystemTime) -> Markup {
    let words = of_limit(backend);
    let (limit, usual) = (backend.max_in_flight, backend.configured_max_in_flight);
    html! {
        strong { (numbers::limit_words(limit)) }
        @if limit != usual { " instead of " (numbers::limit_words(usual)) "," }
        " " (words.show(now))
    }
}

fn of_limit(backend: &Backend) -> Words<'_> {
    let until = backend.max_in_flight_expires_at.as_deref();
    let said =
        [backend.max_in_flight_said_at.as_ref(), backend.max_in_flight_standing_said_at.as_ref()];
    Words {
        ahead: backend.ahead.limit,
        deadline: None,
        before: None,
        said: said_at(said, &backend.max_in_flight_expires_at, &backend.max_in_flight_since),
        actor: backend.max_in_flight_actor.as_deref(),
        forced: false,
        reason: backend.max_in_flight_reason.as_deref(),
        until,
        then: until
            .map(|_| html! { ", then " (numbers::limit_words(backend.max_in_flight_reverts_to)) }),
    }
}

/// When what is in force was said, of the newest word and the one that stands. Since when it holds is
/// another thing, as it may have been carried later, or been said before by somebody else; that
/// stands in for it only where a proxy tells nothing else.
fn said_at<'a>(
    [newest, standing]: [Option<&'a String>; 2],
    until: &Option<String>,
    since: &'a Option<String>,
) -> Option<&'a str> {
    let said = if until.is_some() { newest } else { standing };
    said.or(since.as_ref()).map(String::as_str)
}

/// Whether it is so for longer than since somebody said it last, as far as two clocks agree.
fn is_before(since: &str, said: Option<&str>) -> bool {
    let parse = |time: &str| humantime::parse_rfc3339(time).ok();
    let apart =
        parse(since).zip(said.and_then(parse)).map(|(since, said)| said.duration_since(since));
    apart.is_some_and(|apart| apart.is_ok_and(|apart| apart > SAME_TIME))
}

/// What is known of an override.
struct Words<'a> {
    /// When it was said.
    said: Option<&'a str>,
    /// Since when it is so, if that was said before.
    before: Option<&'a str>,
    actor: Option<&'a str>,
    /// Whether it was to be done even if too few backends are left.
    forced: bool,
    reason: Option<&'a str>,
    until: Option<&'a str>,
    /// What holds again then.
    then: Option<Markup>,
    /// When what never ends by itself is ended.
    deadline: Option<&'a str>,
    /// Seconds by which the clock of these times is ahead of the picture's.
    ahead: f64,
}

impl Words<'_> {
    fn brief(&self, now: SystemTime) -> Markup {
        let now = ahead_of(now, self.ahead);
        html! {
            @if let Some(reason) = self.reason { q { (reason) } " " }
            @if let Some(until) = self.until { span.until { "until " (words::moment(until, now)) " UTC" } " " }
            @if let (Some(since), Some(at)) = (since(self.said, now), self.said) {
                time datetime=(at) { (ago(&since)) }
            }
            @if let Some(actor) = self.actor { " by " (actor) }
        }
    }

    fn show(&self, now: SystemTime) -> Markup {
        let now = ahead_of(now, self.ahead);
        html! {
            @if let (Some(since), Some(at)) = (since(self.said, now), self.said) {
                time datetime=(at) title=(at) { (ago(&since)) }
            }
            @if let Some(actor) = self.actor { " by " (actor) }
            @if self.forced { ", by force" }
            @if let Some(reason) = self.reason { ": " q { (reason) } }
            @if let Some(until) = self.until {
                " " span.until { "until " (at(until, now)) (left(until, now)) }
                @if let Some(then) = &self.then { (then) }
            }
            @if let Some(before) = self.before { "; so since " (at(before, now)) }
            @if let Some(deadline) = self.deadline { "; " (ends_the_rest(deadline, now)) }
        }
    }
}

/// What holds again at `until`.
fn afterwards(then: &Stated, until: Option<&str>, now: SystemTime) -> Markup {
    // Both are times of the proxy that tells them.
    let is_over = |deadline: &str| {
        let deadline = humantime::parse_rfc3339(deadline).ok();
        let until = until.and_then(|until| humantime::parse_rfc3339(until).ok());
        deadline.zip(until).is_some_and(|(deadline, until)| deadline <= until)
    };
    html! {
        ", then " (then.state.word().to_lowercase())
        @if then.state != Admin::Ready {
            " again"
            @if let Some(actor) = &then.actor { ", by " (actor) }
            @if let Some(reason) = &then.reason { ": " q { (reason) } }
            @if let Some(Some(deadline)) = &then.deadline_at {
                " (with the deadline " (at(deadline, now))
                @if is_over(deadline) { ", so that " (LONG) " are ended at once" }
                ")"
            }
        }
    }
}

fn at(time: &str, now: SystemTime) -> Markup {
    html! { time datetime=(time) title=(time) { (words::moment(time, now)) " UTC" } }
}

/// What a deadline does, or did. When it did is not known: a drain that something lay on top of goes on
/// with a deadline that may have passed long before, and ends them only then.
fn ends_the_rest(deadline: &str, now: SystemTime) -> Markup {
    let left = left(deadline, now);
    html! {
        (LONG) (if left.is_empty() { " had until " } else { " are ended at " })
        (at(deadline, now)) (left)
    }
}

fn left(until: &str, now: SystemTime) -> String {
    let until = humantime::parse_rfc3339(until).ok();
    let left = until.and_then(|until| until.duration_since(now).ok());
    left.map(|left| format!(", in {}", span(left))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_all_that_is_set_of_its_backend() {
        let backend = |more: serde_json::Value| -> Backend {
            let mut one = serde_json::json!({"id": "a", "weight": 3, "max_in_flight": 7});
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(one).unwrap()
        };
        let limit = serde_json::json!({"max_in_flight_wanted": 7, "max_in_flight_actor": "ann", "max_in_flight_reason": "it swaps"});
        let mut both = limit.clone();
        both["weight_wanted"] = 3.into();
        let now = SystemTime::UNIX_EPOCH;
        let told = |one: &Backend| brief(one, now).map(maud::Markup::into_string);
        let limited = told(&backend(limit)).unwrap();
        assert_eq!(limited, "<strong>at most 7 in flight</strong> <q>it swaps</q>  by ann");
        assert_eq!(
            told(&backend(both.clone())).unwrap(),
            format!("<strong>weight 3</strong> ; {limited}")
        );
        assert_eq!(told(&backend(serde_json::json!({}))), None);
        let line = crate::text::set(&backend(both)).unwrap();
        assert_eq!(line, "weight 3; at most 7 in flight by ann: it swaps");
    }

    #[test]
    fn who_said_it_last_is_told_with_when_that_was_and_not_since_when_it_is_so() {
        let told = |since: &str, more: serde_json::Value| {
            let mut one = serde_json::json!({"id": "a", "admin": "maint", "admin_actor": "bob",
                "admin_since": since});
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let now = humantime::parse_rfc3339("2026-01-01T00:10:00Z").unwrap();
            let one: Backend = serde_json::from_value(one).unwrap();
            let text = [intent(&one, now), brief(&one, now).unwrap()].map(Markup::into_string);
            text.map(|text| {
                text.split('<').map(|it| it.split('>').next_back().unwrap()).collect::<String>()
            })
        };
        let said = serde_json::json!({"admin_said_at": "2026-01-01T00:09:57Z",
            "admin_standing_said_at": "2026-01-01T00:09:50Z"});
        let (first, carried) = ("2026-01-01T00:01:00Z", "2026-01-01T00:09:59Z");
        let [full, brief] = told(first, said.clone());
        assert_eq!(full, "10 s ago by bob; so since 00:01:00 UTC");
        assert_eq!(brief.trim(), "10 s ago by bob", "an override of later has ended");
        let mut over = said.clone();
        over["admin_expires_at"] = "2026-01-01T00:20:00Z".into();
        assert!(told(first, over)[0].starts_with("3 s ago by bob until 00:20:00 UTC"));
        assert_eq!(told(carried, said)[0], "10 s ago by bob", "carried a moment ago");
        let of_before = told(first, serde_json::json!({}));
        assert_eq!(of_before[0], "9 min ago by bob", "which tells nothing else");
    }

    #[test]
    fn the_deadline_of_a_drain_is_told_before_and_after_it_has_come() {
        let drain =
            serde_json::json!({"id": "a", "admin": "drain", "deadline_at": "2026-01-01T00:05:00Z"});
        let drain: Backend = serde_json::from_value(drain).unwrap();
        let told = |now: &str| {
            let now = humantime::parse_rfc3339(now).unwrap();
            let text = intent(&drain, now).into_string();
            text.replace(
                "<time datetime=\"2026-01-01T00:05:00Z\" title=\"2026-01-01T00:05:00Z\">",
                "",
            )
            .replace("</time>", "")
        };
        let long = "WebSockets and other long connections";
        assert_eq!(
            told("2026-01-01T00:02:00Z"),
            format!("; {long} are ended at 00:05:00 UTC, in 3 min")
        );
        assert_eq!(told("2026-01-01T00:06:00Z"), format!("; {long} had until 00:05:00 UTC"));
    }

    #[test]
    fn a_drain_that_comes_back_after_its_deadline_is_told_to_end_all_at_once() {
        let told = |until: &str| {
            let ready = serde_json::json!({"id": "a", "admin": "ready",
                "admin_expires_at": until, "admin_reverts_to":
                {"state": "drain", "deadline_at": "2026-01-01T00:05:00Z"}});
            let ready: Backend = serde_json::from_value(ready).unwrap();
            // While the deadline is still to come.
            let now = humantime::parse_rfc3339("2026-01-01T00:01:00Z").unwrap();
            let text = intent(&ready, now).into_string();
            let (_, then) = text.split_once(", then drain again").unwrap();
            let (deadline, more) = then.split_once("00:05:00 UTC</time>").unwrap();
            assert!(deadline.starts_with(" (with the deadline <time"), "{text}");
            more.to_owned()
        };
        let ended = ", so that WebSockets and other long connections are ended at once)";
        assert_eq!(told("2026-01-01T00:08:00Z"), ended);
        assert_eq!(told("2026-01-01T00:04:00Z"), ")");
    }

    #[test]
    fn a_policy_that_somebody_set_is_told_with_what_is_configured() {
        let pool = |since: Option<&str>| -> Pool {
            serde_json::from_value(serde_json::json!({
                "name": "default", "policy": "hash", "hash_key": "path",
                "policy_configured": "round_robin", "policy_since": since,
                "policy_actor": "ada", "policy_reason": "a test", "backends": [],
            }))
            .unwrap()
        };
        let now = humantime::parse_rfc3339("2026-01-01T00:01:00Z").unwrap();
        let since = Some("2026-01-01T00:00:00Z");
        assert!(overridden(&[pool(since)]).into_string().contains("1 override in force"));
        let text = list(&[pool(since)], now, false).into_string();
        for words in ["hash by path", "instead of round robin", "1 min ago", "a test"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(list(&[pool(None)], now, false).into_string().contains("Nothing is set"));
        assert_eq!(overridden(&[pool(None)]).into_string(), "<p id=\"overridden\"></p>");
    }
}
