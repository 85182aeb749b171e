//! One request through the load balancer, and who answered it.

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
    headline::capital,
    icons::icon,
    page::{small_page, sorry},
    words::millis,
};

/// Longer answers are a load test's matter.
const TIMEOUT: Duration = Duration::from_secs(10);
/// As much of an answer's body as one looks at.
const BODY_SHOWN: usize = 600;
/// A path that is longer is no test of a path.
const PATH_MOST: usize = 1_000;
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
    let start = Instant::now();
    let answer = app.try_client.request(method, url.clone()).timeout(TIMEOUT).send().await;
    let first = start.elapsed();
    Ok(match answer {
        Ok(answer) => told(&url, first, answer).await,
        Err(error) => {
            let why = crate::admin::Fault::from(error).explain(&url);
            html! { div.banner.bad id="try-result" role="status" { (icon("cross")) p { "No answer. " (why.split(". ").next().unwrap_or_default()) "." } } }
        }
    })
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

async fn told(url: &Url, first: Duration, mut answer: reqwest::Response) -> Markup {
    let status = answer.status();
    let headers: Vec<(&str, String)> = HEADERS
        .iter()
        .filter_map(|name| {
            Some((
                *name,
                String::from_utf8_lossy(answer.headers().get(*name)?.as_bytes()).into_owned(),
            ))
        })
        .collect();
    let served = headers.iter().find(|(name, _)| matches!(*name, "x-backend" | "x-served-by"));
    let who = served.map(|(_, who)| who.clone());
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= BODY_SHOWN {
            break;
        }
    }
    body.truncate(BODY_SHOWN);
    let tone = if status.is_server_error() {
        "bad"
    } else if status.is_success() {
        "good"
    } else {
        "busy"
    };
    let shape = if status.is_server_error() { "cross" } else { "check" };
    html! {
        div.tried id="try-result" role="status" {
            p {
                strong.(tone) { (icon(shape)) " " (status) }
                " from " @match &who {
                    Some(who) => strong.mono { (who) },
                    None => span { "a backend that does not say who it is" },
                }
                " after " (millis(Some(first.as_secs_f64() * 1e3)))
                span.quiet { " · " (url.path()) }
            }
            dl.facts { @for (name, value) in &headers { dt.mono { (name) } dd.mono { (value) } } }
            @if !body.is_empty() { pre tabindex="0" { (String::from_utf8_lossy(&body)) } }
        }
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
