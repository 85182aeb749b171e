//! Making a change that was read and is meant: what changes of all things have in common.

use axum::response::{IntoResponse, Response};
use balance::{Pool, Time, hash_of};
use chassis::problem::Problem;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Admin, Caller,
    audit::Deed,
    idempotency::{Answer, Begin},
};
use crate::{audit::Wanted, saving::Saving};

/// Who asks for a change, and how.
pub(super) struct Asked<'a> {
    pub(super) caller: &'a Caller,
    pub(super) actor: String,
    pub(super) reason: Option<String>,
    pub(super) forced: bool,
    pub(super) headers: &'a HeaderMap,
    pub(super) uri: &'a Uri,
    pub(super) body: &'a [u8],
}

/// Whether a change is on disk.
#[derive(Serialize, ToSchema)]
pub(super) struct Saved {
    /// Whether the change outlives this process; none where no state file is set
    saved: Option<bool>,
    /// Why it does not. It holds all the same, and the file is tried again
    not_saved_reason: Option<String>,
}

impl Saved {
    fn of(saving: &Saving) -> Self {
        Self { saved: saving.is_saved(), not_saved_reason: saving.trouble() }
    }
}

/// Makes a change, once even if it is sent again, and writes it to the audit log, refused or not.
/// `apply` gives what was wanted before and after; `show` the tag and the answer, when every worker
/// goes by the change.
///
/// # Errors
/// What `apply` says of it; nothing has changed then.
pub(super) async fn make<T: Serialize>(
    admin: &Admin,
    asked: Asked<'_>,
    apply: impl FnOnce(&mut Pool, Time) -> Result<(Wanted, Wanted), Problem>,
    show: impl FnOnce(Saved) -> Result<(String, T), Problem>,
) -> Result<Response, Problem> {
    let Asked { caller, actor, reason, forced, headers, uri, body } = asked;
    let fingerprint = hash_of(&[uri.path().as_bytes(), b"\0", body].concat());
    let guard = match admin.idempotency.begin(headers, fingerprint)? {
        Begin::Now(guard) => guard,
        Begin::Before(answer) => return Ok(changed(answer, true)),
    };
    let path = uri.path().to_owned();
    let saving = &admin.control.saving;
    match admin.control.apply(apply) {
        Ok(wanted) => {
            let deed = Deed { reason, forced, wanted, not_saved: saving.trouble() };
            admin.tell_changed(caller, actor, path, deed);
        }
        Err(problem) => {
            admin.tell_refused(caller, actor, path, &problem);
            return Err(problem);
        }
    }
    admin.fence.pass().await;
    let (etag, made) = show(Saved::of(saving))?;
    let answer = Answer { etag, body: serde_json::to_vec(&made).unwrap_or_default().into() };
    guard.done(&answer);
    Ok(changed(answer, false))
}

/// The answer to a change that was made, now or before.
fn changed(answer: Answer, is_repeated: bool) -> Response {
    const REPEATED: HeaderName = HeaderName::from_static("idempotency-replayed");
    let headers =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::ETAG, answer.etag)];
    let mut response = (headers, answer.body).into_response();
    if is_repeated {
        response.headers_mut().insert(REPEATED, HeaderValue::from_static("true"));
    }
    response
}

/// The answer to a change of something that is no longer as it was read.
pub(super) fn changed_meanwhile(
    name: &str,
    words: &str,
    tag: &str,
    current: impl Serialize,
) -> Problem {
    let detail = format!(
        "{name} was changed since it was read: now {words}. Read it again, and decide anew"
    );
    let problem = Problem::new(StatusCode::PRECONDITION_FAILED, detail);
    let problem = match HeaderValue::try_from(tag) {
        Ok(tag) => problem.with_header(header::ETAG, tag),
        Err(_) => problem,
    };
    problem.with_member("current", current)
}
