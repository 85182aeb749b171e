//! Why a request went where it went, as the proxies record it, in words and lists.

use maud::{Markup, html};
use serde::Deserialize;

use crate::{
    hash::hash,
    icons::icon,
    words::{clock, count, millis, percent, plain},
};

/// The answer of `GET /v1/decisions`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Decisions {
    /// The share of successes that is recorded.
    #[serde(default)]
    pub(crate) sampled_share: f64,
    /// Newest first.
    pub(crate) decisions: Vec<Decision>,
}

/// How one request was decided.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Decision {
    pub(crate) request_id: Option<String>,
    /// The end of the request.
    pub(crate) at: String,
    /// Why it is recorded.
    pub(crate) recorded: String,
    pub(crate) policy: String,
    pub(crate) method: String,
    pub(crate) status: u16,
    /// Why it failed.
    pub(crate) reason: Option<String>,
    /// At fault for that.
    pub(crate) source: Option<String>,
    pub(crate) duration_ms: f64,
    pub(crate) first_byte_ms: Option<f64>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) considered: Vec<Considered>,
    /// Backends that are on neither list.
    pub(crate) left_out: usize,
}

/// One try on one backend.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Attempt {
    pub(crate) backend: String,
    pub(crate) started_ms: f64,
    pub(crate) duration_ms: f64,
    /// `answered`, or why not.
    pub(crate) result: String,
}

/// A backend in a decision.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Considered {
    pub(crate) backend: String,
    pub(crate) weight: u32,
    pub(crate) in_flight: u64,
    /// `picked`, `tried`, `passed_over`, `not_eligible`, or a newer word.
    pub(crate) verdict: String,
    pub(crate) why: String,
}

/// A decision and the proxy that made it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) proxy: String,
    pub(crate) decision: Decision,
}

impl Considered {
    /// The word, its tone's class, and the icon.
    fn show(&self) -> (String, &'static str, &'static str) {
        match self.verdict.as_str() {
            "picked" => ("picked".to_owned(), "good", "check"),
            "tried" => ("tried before".to_owned(), "bad", "cross"),
            "passed_over" => ("passed over".to_owned(), "idle", "skip"),
            "not_eligible" => ("not eligible".to_owned(), "busy", "stop"),
            other => (plain(other), "idle", "question"),
        }
    }
}

impl Decision {
    /// What became of the request, in a few words.
    fn outcome(&self) -> String {
        let time = millis(Some(self.duration_ms));
        let reason = self.reason.as_deref().map(|reason| format!(", {}", plain(reason)));
        let fault = self.source.as_deref().map(|source| format!(" ({source})")).unwrap_or_default();
        let reason = reason.map(|reason| format!("{reason}{fault}")).unwrap_or_default();
        format!("{} {} in {time}{reason}", self.method, self.status)
    }

    fn about(&self, backend: &str) -> Option<&Considered> {
        self.considered.iter().find(|considered| considered.backend == backend)
    }
}

/// The whole record: what was tried, and why each backend was picked or not.
pub(crate) fn record(decision: &Decision) -> Markup {
    html! {
        div.record {
            @if decision.attempts.is_empty() {
                p.quiet { "No backend was tried." }
            } @else {
                h4 { (count(decision.attempts.len(), "attempt")) }
                ol.attempts {
                    @for attempt in &decision.attempts {
                        @let (tone, shape) = if attempt.result == "answered" { ("good", "check") } else { ("bad", "cross") };
                        li {
                            span.mono { (attempt.backend) }
                            strong.(tone) { (icon(shape)) " " (plain(&attempt.result)) }
                            span { "after " (millis(Some(attempt.duration_ms)))
                                @if attempt.started_ms > 0.0 { ", begun at " (millis(Some(attempt.started_ms))) } }
                        }
                    }
                }
            }
            h4 { "Candidates" @if !decision.policy.is_empty() { ", by " (plain(&decision.policy)) } }
            ul.considered {
                @for one in &decision.considered {
                    @let (word, tone, shape) = one.show();
                    li {
                        span.mono { (one.backend) }
                        strong.(tone) { (icon(shape)) " " (word) }
                        span { (one.why) span.quiet { " · weight " (one.weight) ", " (one.in_flight) " in flight beside it" } }
                    }
                }
                @if decision.left_out > 0 { li { span.quiet { "and " (decision.left_out) " more" } } }
            }
            @if let Some(id) = &decision.request_id {
                p.quiet { "X-Request-Id " span.mono { (id) }
                    @if let Some(first) = decision.first_byte_ms { " · first byte after " (millis(Some(first))) } }
            }
        }
    }
}

/// The decisions about one backend, newest first; `None` until somebody has told them.
pub(crate) fn list(
    told: Option<&[Told]>,
    sampled_share: f64,
    backend: &str,
    several: bool,
) -> Markup {
    let all = told.unwrap_or_default();
    html! {
        section.card id="decisions" aria-label="Decisions" {
            header {
                h2 { "Decisions" }
                p.meta { span { "requests for which it was picked or passed over: all that failed or were retried, " (percent(sampled_share)) " of the others" } }
            }
            @if told.is_none() {
                p.empty { "The proxies have not told any yet." }
            } @else if all.is_empty() {
                p.empty { "No recorded request had it among its candidates." }
            } @else {
                ol.log.decisions tabindex="0" aria-label="Decisions, newest first" {
                    @for Told { proxy, decision } in all { (item(proxy, decision, backend, several)) }
                }
            }
        }
    }
}

fn item(proxy: &str, decision: &Decision, backend: &str, several: bool) -> Markup {
    let about = decision.about(backend);
    let id = decision.request_id.as_deref().unwrap_or_default();
    html! {
        li id={ "d" (hash(&[proxy, id, &decision.at])) } {
            details {
                summary {
                    time datetime=(decision.at) title=(decision.at) { (clock(&decision.at)) }
                    @if let Some(about) = about {
                        @let (word, tone, shape) = about.show();
                        strong.(tone) { (icon(shape)) " " (word) }
                    }
                    span {
                        @if let Some(about) = about { (about.why) }
                        span.quiet { " · " (decision.outcome()) @if several { " · on " (proxy) } }
                    }
                }
                (record(decision))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A decision as the admin API tells it: `a` was picked and `b` passed over.
    pub(crate) fn decision(request_id: &str) -> Value {
        json!({"request_id": request_id, "at": "2026-11-23T15:00:07.250Z", "recorded": "sample", "pool": "default",
            "policy": "round_robin", "method": "GET", "status": 200, "reason": null, "source": null,
            "duration_ms": 12.5, "first_byte_ms": 12.1,
            "attempts": [{"backend": "a", "started_ms": 0.0, "duration_ms": 12.1, "result": "answered"}],
            "considered": [
                {"backend": "a", "weight": 1, "in_flight": 2, "verdict": "picked", "why": "chosen by round_robin"},
                {"backend": "b", "weight": 1, "in_flight": 0, "verdict": "passed_over", "why": "it was another one's turn"}],
            "left_out": 0})
    }

    #[test]
    fn of_each_decision_it_is_told_what_became_of_the_backend_and_why() {
        let told = Told {
            proxy: "edge-1".to_owned(),
            decision: serde_json::from_value(decision("x")).unwrap(),
        };
        let html = list(Some(&[told]), 0.01, "b", false).into_string();
        let (summary, rest) = html.split_once("</summary>").unwrap();
        assert!(summary.contains("passed over") && summary.contains("it was another one's turn"));
        assert!(summary.contains("GET 200 in 12.5 ms") && summary.contains("1% of the others"));
        assert!(rest.contains("chosen by round_robin") && rest.contains("1 attempt"), "{rest}");
        assert!(list(None, 0.0, "b", false).into_string().contains("not told any yet"));
    }

    #[test]
    fn a_failure_tells_its_reason_and_who_is_at_fault() {
        let mut failed = decision("x");
        (failed["status"], failed["reason"]) = (json!(503), json!("no_backend"));
        (failed["source"], failed["attempts"]) = (json!("proxy"), json!([]));
        let failed: Decision = serde_json::from_value(failed).unwrap();
        assert_eq!(failed.outcome(), "GET 503 in 12.5 ms, no backend (proxy)");
        assert!(record(&failed).into_string().contains("No backend was tried."));
    }

    #[test]
    fn a_proxy_that_tells_less_or_other_words_does_no_harm() {
        let odd: Decision =
            serde_json::from_value(json!({"considered": [{"verdict": "by_lot"}], "more": 1}))
                .unwrap();
        assert!(record(&odd).into_string().contains("by lot"));
    }
}
