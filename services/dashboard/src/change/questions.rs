//! The pages that ask about a change, where JavaScript is off.

use axum::{
    Form,
    extract::rejection::FormRejection,
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use maud::html;

use super::{effect, form::ChangeForm, refusal::Refusal, seen_by_now};
use crate::{
    App,
    address::Shown,
    headline::capital,
    page::{Flash, explain, reason_field, small_page, sorry},
    table,
    wish::{LIMIT_MOST, WEIGHT_MOST, Wish},
    word::What,
};

pub(super) async fn without_script(
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
pub(super) struct Objection<'a> {
    text: &'a str,
    takes_force: bool,
}

pub(super) fn question_page(
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
pub(super) fn number_page(
    (pool, id): (&str, &str),
    what: What,
    seen: Option<u64>,
    shown: Shown,
) -> Response {
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
