//! `ETag` and `If-Match` against lost updates (RFC 9110 §13.1.1): two operators who read the same
//! state must not undo each other's changes unseen.
//!
//! A backend's tag stands for what operators want of it and for which instance it is, not for its
//! traffic and health: those change all the time, and no change of an operator could get through
//! if they counted. The tag is made from the intent itself and needs no counter that would have to
//! outlive a restart.

use balance::{BackendView, PoolView, hash_of};
use http::{HeaderMap, header};

/// The tag of a backend, quotes included.
pub(super) fn of(view: &BackendView) -> String {
    let intent = (
        view.member.generation(),
        (view.admin, view.admin_since, view.admin_expires, &view.admin_reverts_to),
        (&view.admin_reason, &view.admin_actor, view.deadline),
        (
            view.weight,
            view.weight_wanted,
            &view.weight_set,
            view.weight_expires,
            view.weight_reverts_to,
        ),
        (
            view.configured_max_in_flight,
            view.max_in_flight_wanted,
            &view.max_in_flight_set,
            view.max_in_flight_expires,
            view.max_in_flight_reverts_to,
        ),
    );
    format!("\"{:016x}\"", hash_of(format!("{intent:?}").as_bytes()))
}

/// The tag of a pool, for what operators want of it as a whole, quotes included.
pub(super) fn of_pool(view: &PoolView) -> String {
    let intent = (&view.plan, &view.wanted_plan);
    format!("\"{:016x}\"", hash_of(format!("{intent:?}").as_bytes()))
}

/// Whether the request holds for a thing with this tag: one of those in `If-Match` is it, or the
/// request has none.
pub(super) fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let mut fields = headers.get_all(header::IF_MATCH).iter().peekable();
    if fields.peek().is_none() {
        return true;
    }
    // A weak tag never matches here, by the RFC; with its prefix it is no tag of ours.
    let of_field = |field: &http::HeaderValue| {
        let field = field.to_str().unwrap_or_default();
        field.split(',').map(str::trim).any(|wanted| wanted == "*" || wanted == tag)
    };
    fields.any(of_field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_holds_only_for_the_tags_that_it_names() {
        let cases = [
            (&[][..], true),
            (&["\"a\""], true),
            (&["\"b\", \"a\""], true),
            (&["\"b\"", "\"a\""], true),
            (&["*"], true),
            (&["\"b\""], false),
            (&["W/\"a\""], false),
            (&["a"], false),
            (&[""], false),
        ];
        for (fields, holds) in cases {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::IF_MATCH, field.parse().unwrap());
            }
            assert_eq!(matches(&headers, "\"a\""), holds, "{fields:?}");
        }
    }
}
