//! Signing in with the admin token or the one for reading, and out; and who is sent here first.

use std::net::SocketAddr;

use axum::{
    Form,
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use chassis::problem::Problem;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use maud::{Markup, html};
use serde::Deserialize;

use crate::{
    App,
    page::{small_page, sorry},
    permit::{COOKIE, WHERE_THE_TOKEN_IS},
    session::SESSION_TIME,
};

/// The form.
#[derive(Deserialize)]
pub(crate) struct SignIn {
    #[serde(default)]
    token: String,
}

/// `GET /login`
pub(crate) async fn show(State(app): State<App>) -> Response {
    small_page(StatusCode::OK, "Sign in", form(&app, None))
}

/// `POST /login`
pub(crate) async fn sign_in(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(form_data): Form<SignIn>,
) -> Response {
    let result = app.gate.sign_in(peer.ip(), &headers, &form_data.token);
    let label = if result.is_ok() { "done" } else { "refused" };
    app.metrics.sign_ins.with_label_values(&[label]).inc();
    match result {
        Ok(id) => {
            let seconds = SESSION_TIME.as_secs();
            with_cookie(&format!("{id}; Max-Age={seconds}"))
        }
        Err(problem) => form_again(&app, problem),
    }
}

/// Lets those through who may read; the others get the form or, if they are no people, the reason.
/// Whoever wants to change something is asked elsewhere, for more than this.
pub(crate) async fn guard(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && request.uri().path() != crate::open::PATH {
        return next.run(request).await;
    }
    let headers = request.headers();
    match app.gate.check_reading(peer.ip(), headers) {
        Ok(()) => next.run(request).await,
        Err(problem) if wants_page(headers) => form_again(&app, problem),
        Err(problem) => problem.into_response(),
    }
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The form with what was wrong.
fn form_again(app: &App, problem: Problem) -> Response {
    let page = form(app, Some(problem.detail()));
    let mut response = small_page(problem.status(), "Sign in", page);
    // Keeps Retry-After and the like, but not the type of the JSON body.
    let mut headers = problem.into_response().headers().clone();
    headers.remove(header::CONTENT_TYPE);
    headers.remove(header::CONTENT_LENGTH);
    response.headers_mut().extend(headers);
    response
}

/// `POST /logout`
pub(crate) async fn sign_out(State(app): State<App>, headers: HeaderMap) -> Response {
    match app.gate.sign_out(&headers) {
        Ok(()) => with_cookie("; Max-Age=0"),
        Err(problem) => sorry(problem.status(), problem.detail()),
    }
}

/// Back to the page, with the session's cookie. No `Secure`: the dashboard itself speaks plain
/// HTTP, and a browser would refuse to send such a cookie back.
fn with_cookie(value: &str) -> Response {
    let mut response = Redirect::to("/").into_response();
    let cookie = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn form(app: &App, error: Option<&str>) -> Markup {
    let guards_reading = app.gate.guards_reading();
    let trouble = match app.gate.token() {
        Ok(Some(_)) => None,
        // There is another one.
        Ok(None) if guards_reading => None,
        Ok(None) => Some(
            "The dashboard has no admin token to compare with. Set LOAD_BALANCER_ADMIN_TOKEN or \
             LOAD_BALANCER_ADMIN_TOKEN_FILE, or open the page on the machine it runs on."
                .to_owned(),
        ),
        Err(why) => Some(why),
    };
    let label = if guards_reading { "Token" } else { "Admin token" };
    html! {
        @if guards_reading { p { "With the token for reading (the dashboard's DASHBOARD_READ_TOKEN) you see the page." } }
        p { "With the admin token you can take backends out and bring them back from this browser." }
        @if let Some(sentence) = error.map(str::to_owned).or(trouble) {
            p.banner.bad role="alert" { (crate::headline::capital(&sentence)) }
        }
        form method="post" action="/login" {
            label for="token" { (label) }
            input id="token" name="token" type="password" autocomplete="current-password" required autofocus;
            p.quiet { @if guards_reading { "The admin token: " } (WHERE_THE_TOKEN_IS) " It travels as this page does: without TLS in front, readable on the way." }
            p.actions {
                a.button href="/" { "Back" }
                button.primary type="submit" { "Sign in" }
            }
        }
    }
}
