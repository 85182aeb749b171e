//! Signing in with the admin token, and out.

use std::net::SocketAddr;

use axum::{
    Form,
    extract::{ConnectInfo, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
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
        Err(problem) => {
            let page = form(&app, Some(problem.detail()));
            let mut response = small_page(problem.status(), "Sign in", page);
            // Keeps Retry-After and the like, but not the type of the JSON body.
            let mut headers = problem.into_response().headers().clone();
            headers.remove(header::CONTENT_TYPE);
            headers.remove(header::CONTENT_LENGTH);
            response.headers_mut().extend(headers);
            response
        }
    }
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
    let trouble = match app.gate.token() {
        Ok(Some(_)) => None,
        Ok(None) => Some(
            "The dashboard has no admin token to compare with. Set LOAD_BALANCER_ADMIN_TOKEN or \
             LOAD_BALANCER_ADMIN_TOKEN_FILE, or open the page on the machine it runs on."
                .to_owned(),
        ),
        Err(why) => Some(why),
    };
    html! {
        p { "With the admin token you can take backends out and bring them back from this browser." }
        @if let Some(sentence) = error.map(str::to_owned).or(trouble) {
            p.banner.bad role="alert" { (crate::headline::capital(&sentence)) }
        }
        form method="post" action="/login" {
            label for="token" { "Admin token" }
            input id="token" name="token" type="password" autocomplete="current-password" required autofocus;
            p.quiet { (WHERE_THE_TOKEN_IS) " It travels as this page does: without TLS in front, readable on the way." }
            p.actions {
                a.button href="/" { "Back" }
                button.primary type="submit" { "Sign in" }
            }
        }
    }
}
