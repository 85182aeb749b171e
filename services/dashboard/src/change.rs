//! Changing a backend: the question "sure?", the form, and what the proxy said.

mod form;
mod questions;
mod refusal;

use std::net::SocketAddr;

use axum::{
    Form, Json,
    extract::{ConnectInfo, Path, Query, State, rejection::FormRejection},
    response::{IntoResponse, Redirect, Response},
};
use chassis::problem::Problem;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use self::{
    form::ChangeForm,
    questions::{number_page, question_page, without_script},
    refusal::{Refusal, refused, unanswered, unseen, way_back},
};
use crate::{
    App,
    address::Shown,
    admin::Change,
    headline::capital,
    page::{Flash, sorry},
    permit::Right,
    predict, said, tell,
    wish::Wish,
};

/// Changes that are predicted at the same time, of all visitors together: each asks every proxy.
pub(crate) const EFFECTS_MOST: usize = 4;

/// Characters of a reason: a sentence that fits below the controls, not a report.
pub(crate) const REASON_MOST: usize = 200;

/// What came of a change that was made.
struct Done {
    message: String,
    /// When it was said: whoever said it knows it, before any page shows it.
    said: u64,
}

/// `GET /backends/{pool}/{id}/change?state=drain`: the question, where JavaScript is off.
pub(crate) async fn ask(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path((pool, id)): Path<(String, String)>,
    Query(form): Query<ChangeForm>,
) -> Response {
    let may_ask = app.gate.standing(peer.ip(), &headers).and_then(|_| known(&app, &pool, &id));
    let shown = match form.shown() {
        // The first of these pages: it has no fields of ours before it.
        usual if usual == Shown::default() => Shown::before(&headers),
        shown => shown,
    };
    if let (Ok(()), Some(what)) = (&may_ask, form.asks_for()) {
        return match form.seen() {
            Ok(seen) => number_page((&pool, &id), what, seen, shown),
            Err(problem) => sorry(problem.status(), &capital(problem.detail())),
        };
    }
    match may_ask.and_then(|()| Ok((form.wish()?, form.seen()?))) {
        Ok((wish, seen)) => {
            let effect = effect(&app, &pool, &id, &wish).await;
            let asked = (StatusCode::OK, shown);
            let seen = seen.unwrap_or_else(|| seen_by_now(&app, (&pool, &id), &wish));
            question_page(asked, (&pool, &id), (&wish, &effect), (&form, seen), None)
        }
        Err(problem) => sorry(problem.status(), &capital(problem.detail())),
    }
}

/// `GET /backends/{pool}/{id}/effect?state=drain`: what it would do, for the dialog.
pub(crate) async fn predict(
    State(app): State<App>,
    Path((pool, id)): Path<(String, String)>,
    Query(form): Query<ChangeForm>,
) -> Response {
    match known(&app, &pool, &id).and_then(|()| form.wish()) {
        Ok(wish) => {
            Json(json!({ "effect": effect(&app, &pool, &id, &wish).await })).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// What the proxies say that it would do; nothing of a backend that is gone.
async fn effect(app: &App, pool: &str, id: &str, wish: &Wish) -> String {
    let view = app.views.newest();
    let found = view.picture.as_ref().and_then(|picture| picture.answer.backend(pool, id));
    let (Some(backend), Ok(_permit)) = (found, app.effect_permits.acquire().await) else {
        return String::new();
    };
    predict::ask(&view, &app.token, pool, backend, wish).await
}

/// When the newest word was said that the page shows.
fn seen_by_now(app: &App, (pool, id): (&str, &str), wish: &Wish) -> u64 {
    let view = app.views.newest();
    let found = view.picture.as_ref().and_then(|picture| picture.answer.backend(pool, id));
    found.map(|backend| said::seen(backend, wish.what())).unwrap_or_default()
}

/// `POST /backends/{pool}/{id}`: does it and answers with JSON for the script, with a redirect
/// for a plain form.
pub(crate) async fn change(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path((pool, id)): Path<(String, String)>,
    form: Result<Form<ChangeForm>, FormRejection>,
) -> Response {
    let json_wanted = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    let result = match app.gate.check(peer.ip(), &headers) {
        Ok(right) => carry_out(&app, right, peer, (&pool, &id), &form).await,
        Err(problem) => Err(("forbidden", problem).into()),
    };
    let label = result.as_ref().map_or_else(|refusal| refusal.label, |_| "done");
    app.metrics.changes.with_label_values(&[label]).inc();
    match result {
        // As text: it is only to be sent back, and so are the others.
        Ok(Done { message, said }) if json_wanted => {
            Json(json!({ "message": message, "seen": said.to_string() })).into_response()
        }
        Ok(Done { message, .. }) => {
            let shown = form.map(|Form(form)| form.shown()).unwrap_or_default();
            let flash = Flash { good: true, message };
            Redirect::to(&app.flashes.keep(flash, shown)).into_response()
        }
        Err(Refusal { problem, seen, is_unseen, .. }) if json_wanted => {
            let seen = seen.map(|seen| seen.to_string());
            problem.with_member("seen", seen).with_member("unseen", is_unseen).into_response()
        }
        Err(refusal) => without_script(&app, &refusal, (&pool, &id), form).await,
    }
}

async fn carry_out(
    app: &App,
    right: Right,
    peer: SocketAddr,
    (pool, id): (&str, &str),
    form: &Result<Form<ChangeForm>, FormRejection>,
) -> Result<Done, Refusal> {
    let malformed = |problem| Refusal::from(("malformed", problem));
    let form = form
        .as_ref()
        .map_err(|rejection| malformed(Problem::new(rejection.status(), rejection.body_text())))?;
    let wish = form.wish().map_err(malformed)?;
    let seen = form.seen().map_err(malformed)?;
    known(app, pool, id).map_err(malformed)?;
    let reason = form.reason.trim();
    if reason.chars().count() > REASON_MOST {
        let detail = format!("a reason has at most {REASON_MOST} characters");
        return Err(malformed(Problem::new(StatusCode::BAD_REQUEST, detail)));
    }
    let change = Change {
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        ttl: (!form.ttl.is_empty()).then(|| form.ttl.clone()),
        force: form.force,
        ..wish.change()
    };
    let token = app.gate.token();
    let shown = token.as_ref().ok().and_then(Option::as_ref);
    let actor = actor(right, peer);
    let view = app.views.newest();
    let said = (&wish, &change, &*app.clock);
    let outcome = tell::newest(&view, (pool, id), said, seen, shown, &actor).await;
    if let Some(now) = &outcome.unseen {
        let problem = Problem::new(StatusCode::CONFLICT, unseen(now, wish.what()));
        let seen = Some(said::seen(now, wish.what()));
        return Err(Refusal { label: "refused", problem, seen, is_unseen: true });
    }
    if !outcome.done.is_empty() {
        tracing::info!(pool, backend = id, to = wish.words(), %actor, "changed");
        app.views.hurry();
    }
    match (&outcome.refused[..], &outcome.silent[..]) {
        ([_, ..], _) => {
            let back = way_back(&view, (pool, id), &wish);
            let problem = refused(&outcome, (id, back.as_ref()), &token);
            Err(Refusal { seen: outcome.heard(), ..("refused", problem).into() })
        }
        ([], [(_, fault), ..]) if outcome.done.is_empty() => {
            let problem = Problem::new(StatusCode::BAD_GATEWAY, unanswered(&outcome.silent));
            Err(Refusal { seen: outcome.heard(), ..(fault.label(), problem).into() })
        }
        _ => {
            let words = wish.words();
            let message = format!(
                "{id} is set to {words}{}.{}",
                outcome.places(),
                outcome.unsaved() + &outcome.missing()
            );
            Ok(Done { message, said: outcome.said })
        }
    }
}

/// Who did it, for the proxy's record.
fn actor(right: Right, peer: SocketAddr) -> String {
    match right {
        Right::Local => format!("dashboard, {right}"),
        _ => format!("dashboard, {right}, {}", peer.ip().to_canonical()),
    }
}

/// Only backends that the page shows: nothing else is passed on to the proxy.
fn known(app: &App, pool: &str, id: &str) -> Result<(), Problem> {
    let view = app.views.newest();
    let picture = view.picture.as_ref();
    picture.and_then(|picture| picture.answer.backend(pool, id)).map(|_| ()).ok_or_else(|| {
        let detail = format!("there is no backend '{id}' in the pool '{pool}' (any more)");
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}
