//! Changing a backend: the question "sure?", the form, and what the proxy said.

use std::{iter, net::SocketAddr};

use axum::{
    Form, Json,
    extract::{ConnectInfo, Path, Query, State, rejection::FormRejection},
    response::{IntoResponse, Redirect, Response},
};
use chassis::{problem::Problem, secret::Secret};
use http::{HeaderMap, StatusCode, header};
use maud::html;
use serde::Deserialize;
use serde_json::json;

use crate::{
    App,
    address::Shown,
    admin::{Change, Fault},
    headline::capital,
    model::Backend,
    page::{Flash, explain, reason_field, small_page, sorry},
    permit::Right,
    poll::View,
    predict,
    replica::Proxy,
    said, table,
    tell::{self, Outcome},
    wish::{LIMIT_MOST, WEIGHT_MOST, Wish},
    word::What,
};

/// Changes that are predicted at the same time, of all visitors together: each asks every proxy.
pub(crate) const EFFECTS_MOST: usize = 4;

/// Characters of a reason: a sentence that fits below the controls, not a report.
pub(crate) const REASON_MOST: usize = 200;

/// What the form says.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ChangeForm {
    #[serde(default)]
    state: String,
    #[serde(default)]
    /// Nothing, empty where a number is still to be typed, or what is wanted; so is the next.
    weight: Option<String>,
    #[serde(default)]
    max_in_flight: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    ttl: String,
    #[serde(default)]
    force: bool,
    /// When the newest word was said that the page showed; empty where nothing is known of that.
    #[serde(default)]
    seen: String,
    /// How the page was shown before; so is the next.
    window: Option<String>,
    sort: Option<String>,
    still: Option<String>,
}

impl ChangeForm {
    fn wish(&self) -> Result<Wish, Problem> {
        let number = |field: &Option<String>| field.clone().unwrap_or_default();
        Wish::parse(&self.state, &number(&self.weight), &number(&self.max_in_flight))
    }

    fn seen(&self) -> Result<Option<u64>, Problem> {
        let bad = |_| Problem::new(StatusCode::BAD_REQUEST, "seen must be a whole number");
        let seen = Some(&*self.seen).filter(|seen| !seen.is_empty());
        seen.map(|seen| seen.parse().map_err(bad)).transpose()
    }

    /// How the page was shown that all of this began on.
    fn shown(&self) -> Shown {
        Shown::parse(self.window.as_deref(), self.sort.as_deref(), self.still.as_deref())
    }

    /// Whether a number is still to be typed, and of what.
    fn asks_for(&self) -> Option<What> {
        match (&*self.state, self.weight.as_deref(), self.max_in_flight.as_deref()) {
            ("", Some(""), None) => Some(What::Weight),
            ("", None, Some("")) => Some(What::Limit),
            _ => None,
        }
    }
}

/// What came of a change that was made.
struct Done {
    message: String,
    /// When it was said: whoever said it knows it, before any page shows it.
    said: u64,
}

/// Why a change was not made.
struct Refusal {
    /// In metrics.
    label: &'static str,
    problem: Problem,
    /// When the newest word was said, if it is one that the page had not shown: somebody else's, or
    /// this one, where some of the proxies have done it or may have.
    seen: Option<u64>,
    /// Whether that stands against the change. It takes no force, it only has to be seen: the guard is
    /// still to be asked.
    is_unseen: bool,
}

impl From<(&'static str, Problem)> for Refusal {
    fn from((label, problem): (&'static str, Problem)) -> Self {
        Self { label, problem, seen: None, is_unseen: false }
    }
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

/// What somebody has said of a backend whom the page had not shown.
fn unseen(now: &Backend, what: What) -> String {
    let heard = what.heard(now);
    let word = heard.map_or_else(|| what.nobodys(), |heard| heard.in_force());
    let by = word.actor.map(|actor| format!(" by {actor}")).unwrap_or_default();
    let why = word.reason.map(|reason| format!(": “{reason}”")).unwrap_or_default();
    let (id, wish) = (&now.id, word.wish.words());
    format!("{id} was changed meanwhile, and is set to {wish}{by}{why}. It stays as it is.")
}

/// What takes a change back: what was wanted before it, or else the usual; nothing if that is the same.
fn way_back(view: &View, (pool, id): (&str, &str), wish: &Wish) -> Option<Wish> {
    let picture = view.picture.as_ref();
    let backend = picture.and_then(|picture| picture.answer.backend(pool, id));
    let before = backend.and_then(|backend| Some(wish.what().heard(backend)?.in_force().wish));
    [before, Some(wish.what().usual())].into_iter().flatten().find(|back| back != wish)
}

/// What each proxy said of a change that not all of them made, and that those which did not are told
/// again, unless it is taken `back`.
fn refused(
    outcome: &Outcome,
    (id, back): (&str, Option<&Wish>),
    token: &Result<Option<Secret>, String>,
) -> Problem {
    let mut refused: Vec<_> = outcome.refused.iter().collect();
    // What stands against the change itself counts most: it may be insisted on.
    refused.sort_by_key(|(_, status, _)| *status != StatusCode::CONFLICT);
    let sentences: Vec<(&str, String)> = refused
        .iter()
        .map(|(name, status, sentence)| (name.as_str(), refusal(token, *status, sentence)))
        .collect();
    let named = |(name, sentence): &(&str, String)| format!("{name} refused: {sentence}");
    let told = match (&sentences[..], outcome.done.is_empty()) {
        ([(_, sentence)], true) if outcome.silent.is_empty() => sentence.clone(),
        (all, true) => {
            // One that gave no answer may have made it all the same.
            let silent = (!outcome.silent.is_empty()).then(|| unanswered(&outcome.silent));
            all.iter().map(named).chain(silent).collect::<Vec<_>>().join(" ")
        }
        (all, false) => {
            let all: Vec<String> = all.iter().map(named).collect();
            let again = match &sentences[..] {
                [(name, _)] => format!(" {name} is told again until it takes it"),
                _ => " They are told again until they take it".to_owned(),
            };
            let back = back.map(|back| format!("; to take it back, set {id} to {}", back.words()));
            let rest = again + &back.unwrap_or_default() + "." + &outcome.unsaved();
            let rest = rest + &outcome.missing();
            format!("{id} is set{}, but {}{rest}", outcome.places(), all.join(" "))
        }
    };
    // The proxy's refusal of *our* token is not the visitor's fault: 401 would send them to a
    // sign-in that cannot help.
    let status = match refused.first().map(|(_, status, _)| *status) {
        None | Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => StatusCode::BAD_GATEWAY,
        Some(status) => status,
    };
    Problem::new(status, told)
}

/// What is known where no proxy has made the change and these gave no answer.
fn unanswered(silent: &[(Proxy, Fault)]) -> String {
    let known = if silent.iter().all(|(_, fault)| fault.is_unheard()) {
        "Nothing was changed."
    } else {
        "Whether it was changed is not known: the page shows it once the proxy answers."
    };
    let whys = silent.iter().map(|(proxy, fault)| proxy.api.explain(fault));
    iter::once(known.to_owned()).chain(whys).collect::<Vec<_>>().join(" ")
}

/// What a proxy said, with what to do about it.
fn refusal(token: &Result<Option<Secret>, String>, status: StatusCode, sentence: &str) -> String {
    let hint = match (token, status) {
        (_, StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) => "",
        (Err(why), _) => &format!(" The dashboard could not show its token: {why}."),
        (Ok(None), _) => {
            " The dashboard has no admin token: set LOAD_BALANCER_ADMIN_TOKEN or \
             LOAD_BALANCER_ADMIN_TOKEN_FILE to the proxy's."
        }
        (Ok(Some(_)), StatusCode::UNAUTHORIZED) => {
            " The dashboard's LOAD_BALANCER_ADMIN_TOKEN is not the proxy's."
        }
        _ => "",
    };
    let sentence = capital(sentence);
    let stop = if sentence.ends_with('.') { "" } else { "." };
    format!("{sentence}{stop}{hint}")
}

/// Who did it, for the proxy's record.
fn actor(right: Right, peer: SocketAddr) -> String {
    match right {
        Right::Local => format!("dashboard, {right}"),
        _ => format!("dashboard, {right}, {}", peer.ip().to_canonical()),
    }
}

async fn without_script(
    app: &App,
    Refusal { label, problem, seen, is_unseen }: &Refusal,
    (pool, id): (&str, &str),
    form: Result<Form<ChangeForm>, FormRejection>,
) -> Response {
    let form = form.map(|Form(form)| form).unwrap_or_default();
    match (form.wish(), problem.status(), *label) {
        (Ok(wish), status @ StatusCode::CONFLICT, _) => {
            let asked = (status, form.shown());
            // The proxies' refusal tells what it would do already.
            let effect = match is_unseen {
                true => effect(app, pool, id, &wish).await,
                false => String::new(),
            };
            let known = seen.or_else(|| form.seen().ok().flatten());
            let known = known.unwrap_or_else(|| seen_by_now(app, (pool, id), &wish));
            let objection = Objection { text: problem.detail(), takes_force: !is_unseen };
            question_page(asked, (pool, id), (&wish, &effect), (&form, known), Some(objection))
        }
        (_, status, "forbidden" | "malformed") => sorry(status, &capital(problem.detail())),
        _ => {
            let flash = Flash { good: false, message: capital(problem.detail()) };
            Redirect::to(&app.flashes.keep(flash, form.shown())).into_response()
        }
    }
}

/// What stands against a change that may be made all the same.
struct Objection<'a> {
    text: &'a str,
    takes_force: bool,
}

fn question_page(
    (status, shown): (StatusCode, Shown),
    (pool, id): (&str, &str),
    (wish, effect): (&Wish, &str),
    (form, seen): (&ChangeForm, u64),
    objection: Option<Objection<'_>>,
) -> Response {
    let title = format!("Set {id} to {}?", wish.words());
    let (field, value) = wish.field();
    let body = html! {
        p { (explain(wish)) }
        @if !effect.is_empty() { p { (effect) } }
        @if let Some(objection) = &objection { p.banner.bad role="alert" { (objection.text) } }
        form method="post" action=(table::path(pool, id, None)) {
            input type="hidden" name=(field) value=(value);
            (table::seen_field(seen))
            (shown.fields())
            @if objection.is_some() {
                input type="hidden" name="reason" value=(form.reason);
                input type="hidden" name="ttl" value=(form.ttl);
            } @else {
                (reason_field())
            }
            div.actions {
                a.button href=(shown.address("/")) { "Cancel" }
                @if let Some(objection) = &objection {
                    button.danger type="submit" name=[objection.takes_force.then_some("force")] value="true" { "Do it anyway" }
                } @else {
                    button.primary type="submit" { "Set to " (wish.words()) }
                }
            }
        }
    };
    small_page(status, &title, body)
}

/// Where a number is typed in peace: a page that reloads by itself forgets what is half typed.
fn number_page((pool, id): (&str, &str), what: What, seen: Option<u64>, shown: Shown) -> Response {
    let (name, label, most) = match what {
        What::Limit => ("max_in_flight", "limit of requests in flight", LIMIT_MOST),
        What::State | What::Weight | What::Policy => ("weight", "weight", WEIGHT_MOST),
    };
    let title = format!("Which {label} for {id}?");
    let body = html! {
        p { (explain(&what.usual())) }
        form method="get" action=(table::path(pool, id, Some("change"))) {
            (shown.fields())
            // What is said while it is typed is still unseen then.
            @if let Some(seen) = seen { (table::seen_field(seen)) }
            label for=(name) { (capital(label)) }
            input id=(name) type="number" name=(name) min="0" max=(most) step="1" required inputmode="numeric";
            div.actions {
                a.button href=(shown.address(&table::path(pool, id, None))) { "Cancel" }
                button.primary type="submit" { "What would it do?" }
            }
        }
    };
    small_page(StatusCode::OK, &title, body)
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
