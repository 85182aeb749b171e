//! One request through the load balancer: who answered it, and why that one.
//!
//! The proxies are told of the request before it is sent, by the id that it will carry, so that
//! its record is there for certain and nobody has to guess by its time which one it is.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    Form, Json,
    extract::{ConnectInfo, State},
    response::{IntoResponse, Response},
};
use chassis::problem::Problem;
use http::{HeaderMap, Method, StatusCode, header};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::{
    App,
    admin::{Fault, Origin},
    decision::{self, Told},
    headline::capital,
    icons::icon,
    page::{small_page, sorry},
    recorded,
    replica::Proxy,
    session::random_id,
    words::{count, millis, plain},
};

/// Longer answers are a load test's matter.
const TIMEOUT: Duration = Duration::from_secs(10);
/// As much of an answer's body as one looks at.
const BODY_SHOWN: usize = 600;
/// As much of it as is read: a client that stops earlier would be recorded as one that left.
const BODY_READ: usize = 1024 * 1024;
/// And for so long.
const BODY_TIME: Duration = Duration::from_secs(3);
/// A path that is longer is no test of a path.
const PATH_MOST: usize = 1_000;
const REQUEST_ID: &str = "x-request-id";
/// Headers that tell which way an answer came.
const HEADERS: [&str; 6] =
    ["x-served-by", "x-backend", "proxy-status", "via", "retry-after", "content-type"];

/// A client that shows what the load balancer says, redirects included.
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .build()
}

/// What is asked for.
#[derive(Deserialize)]
pub(crate) struct TryForm {
    #[serde(default)]
    path: String,
    #[serde(default)]
    method: String,
}

/// The form, with room for its answer.
pub(crate) fn form(may_change: bool, url: &str) -> Markup {
    html! {
        section.card id="try" aria-label="Try a request" {
            header { h2 { "Try a request" } p.meta { span { "sent by the dashboard to " span.mono { (url) } } } }
            form.try method="post" action="/try" data-try {
                label for="try-method" { "Method" }
                select id="try-method" name="method" { option { "GET" } option { "HEAD" } option { "OPTIONS" } }
                label for="try-path" { "Path" }
                input id="try-path" name="path" type="text" value="/" maxlength=(PATH_MOST) autocomplete="off" spellcheck="false";
                button type="submit" disabled[!may_change] { "Send" }
                @if !may_change { a href="/login" { "Sign in to send" } }
            }
            div id="try-result" role="status" aria-live="polite" {}
        }
    }
}

/// `POST /try`
pub(crate) async fn send(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(form): Form<TryForm>,
) -> Response {
    let json_wanted = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    let result = match app.gate.check(peer.ip(), &headers) {
        Ok(_) => ask(&app, &form).await,
        Err(problem) => Err(problem),
    };
    match result {
        Ok(told) if json_wanted => Json(json!({ "html": told.into_string() })).into_response(),
        Ok(told) => small_page(
            StatusCode::OK,
            "Answer",
            html! { (told) p.actions { a.button href="/#try" { "Back" } } },
        ),
        Err(problem) if json_wanted => problem.into_response(),
        Err(problem) => sorry(problem.status(), &capital(problem.detail())),
    }
}

async fn ask(app: &App, form: &TryForm) -> Result<Markup, Problem> {
    let method = match form.method.as_str() {
        "" | "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        "OPTIONS" => Method::OPTIONS,
        _ => {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "the method is one of GET, HEAD, OPTIONS",
            ));
        }
    };
    let url = target(&app.load_balancer, &form.path)?;
    // One at a time: this is for a look, not for a load.
    let Ok(_permit) = app.try_permit.try_acquire() else {
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "another test request is on its way: wait for it",
        ));
    };
    let id = random_id().map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no id for the request: {error}"))
    })?;
    let proxies: Vec<Proxy> = app.views.newest().answering().cloned().collect();
    let unrecorded = recorded::announce(&proxies, &app.token, &id).await;
    let request = app.try_client.request(method, url.clone()).header(REQUEST_ID, &id);
    let start = Instant::now();
    let answer = request.timeout(TIMEOUT).send().await;
    let first = start.elapsed();
    let answer = match answer {
        Ok(answer) => Ok(Answer::read(answer, first).await),
        Err(error) => Err(Fault::from(error).explain(&url, Origin::Traffic)),
    };
    // One that something in front gave another id may have been sampled.
    let shown = answer.as_ref().ok().and_then(|answer| answer.header(REQUEST_ID)).unwrap_or(&id);
    let is_certain = unrecorded.is_none() && shown == id;
    let record = recorded::find(&proxies, &app.token, shown, is_certain).await;
    Ok(told(&url, &answer, record.as_ref(), unrecorded.as_deref(), proxies.len() > 1))
}

/// The URL of a path of the load balancer, and of nothing else.
fn target(base: &Url, path: &str) -> Result<Url, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, detail.to_owned());
    let path = path.trim();
    let path = if path.is_empty() { "/" } else { path };
    if !path.starts_with('/')
        || path.starts_with("//")
        || path.contains('\\')
        || path.len() > PATH_MOST
    {
        return Err(bad("the path begins with one slash, such as /echo?x=1"));
    }
    let url = base.join(path).map_err(|_| bad("the path cannot be read"))?;
    if url.origin() != base.origin() {
        return Err(bad("the path leads elsewhere"));
    }
    Ok(url)
}

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// The begin of the body.
    body: Vec<u8>,
    /// Whether the body was read to its end.
    is_whole: bool,
    /// Until the head.
    first: Duration,
}

impl Answer {
    async fn read(mut answer: reqwest::Response, first: Duration) -> Self {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let (mut body, mut length) = (Vec::new(), 0);
        let read = async {
            while let Some(chunk) = answer.chunk().await? {
                length += chunk.len();
                body.extend_from_slice(&chunk[..chunk.len().min(BODY_SHOWN - body.len())]);
                if length > BODY_READ {
                    return Ok(false);
                }
            }
            Ok::<bool, reqwest::Error>(true)
        };
        let is_whole = matches!(tokio::time::timeout(BODY_TIME, read).await, Ok(Ok(true)));
        Self { status, headers, body, is_whole, first }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The answer and why it came from there, as a part of the page.
fn told(
    url: &Url,
    answer: &Result<Answer, String>,
    record: Option<&Told>,
    unrecorded: Option<&str>,
    several: bool,
) -> Markup {
    html! {
        div.tried id="try-result" role="status" {
            @match answer {
                Ok(answer) => (summary(url, answer, record)),
                Err(why) => div.banner.bad { (icon("cross")) p { "No answer. " (why.split(". ").next().unwrap_or_default()) "." } },
            }
            @match record {
                Some(told) => (why(told, several)),
                None => p.quiet { "Why it went there is not known: " (unrecorded.unwrap_or("no proxy has a record of it. Is the load balancer's address that of these proxies?")) },
            }
            @if let Ok(answer) = answer { (details(answer)) }
        }
    }
}

fn summary(url: &Url, answer: &Answer, record: Option<&Told>) -> Markup {
    let (tone, shape) = match answer.status {
        status if status.is_server_error() => ("bad", "cross"),
        status if status.is_success() => ("good", "check"),
        _ => ("busy", "check"),
    };
    let name = answer.header("x-served-by").or_else(|| answer.header("x-backend"));
    let last = record.and_then(|told| told.decision.attempts.last());
    let backend = last.filter(|last| last.result == "answered").map(|last| last.backend.as_str());
    html! {
        p {
            strong.(tone) { (icon(shape)) " " (answer.status) }
            " from " @match (name, backend) {
                (Some(name), Some(backend)) => { strong.mono { (name) } " (" span.mono { (backend) } ")" }
                (Some(who), None) | (None, Some(who)) => strong.mono { (who) },
                (None, None) if record.is_some() => strong { "the proxy itself" },
                (None, None) => span { "a backend that does not say who it is" },
            }
            " after " (millis(Some(answer.first.as_secs_f64() * 1e3)))
            span.quiet { " · " (url.path()) }
        }
    }
}

fn why(told: &Told, several: bool) -> Markup {
    let decision = &told.decision;
    let eligible = decision.considered.iter().filter(|one| one.verdict != "not_eligible").count();
    html! {
        section.why aria-label="Why" {
            h3 {
                @if several { span.mono { (told.proxy) } ": " }
                @match (&decision.reason, decision.attempts.last()) {
                    (Some(reason), _) => { "It failed: " (plain(reason)) },
                    (None, Some(last)) => { span.mono { (last.backend) } " was picked by " (plain(&decision.policy)) ", of " (count(eligible, "candidate")) },
                    (None, None) => "No backend was asked",
                }
            }
            (decision::record(decision))
        }
    }
}

fn details(answer: &Answer) -> Markup {
    let shown = HEADERS.iter().filter_map(|name| Some((*name, answer.headers.get(*name)?)));
    html! {
        h4 { "Answer" }
        dl.facts {
            @for (name, value) in shown { dt.mono { (name) } dd.mono { (String::from_utf8_lossy(value.as_bytes())) } }
        }
        @if !answer.body.is_empty() { pre tabindex="0" { (String::from_utf8_lossy(&answer.body)) } }
        @if !answer.is_whole { p.quiet { "Its body was not read to the end, which the record tells as the client leaving." } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_request_goes_to_the_load_balancer_and_nowhere_else() {
        let base: Url = "http://proxy:8080/".parse().unwrap();
        assert_eq!(target(&base, "/a?b=c").unwrap().as_str(), "http://proxy:8080/a?b=c");
        assert_eq!(target(&base, " ").unwrap().as_str(), "http://proxy:8080/");
        for path in ["//evil/", "http://evil/", "/\\evil/", "a", "@evil", "/\t/evil\\"] {
            assert!(target(&base, path).is_err_and(|problem| problem.status() == 400), "{path}");
        }
        assert!(target(&base, &format!("/{}", "x".repeat(PATH_MOST))).is_err());
    }
}
