//! `ETag` and `If-Match` against lost updates (RFC 9110 §13.1.1): two operators who read the same
//! state must not undo each other's changes unseen.
//!
//! A backend's tag stands for what operators want of it and for which instance it is, not for its
//! traffic and health: those change all the time, and no change of an operator could get through
//! if they counted. The tag is made from the intent itself and needs no counter that would have to
//! outlive a restart. So it holds nothing that a restart makes anew: no time of the core, which
//! counts from the start of the process, no generation, and not since when something holds that
//! nobody has said. What was said has the time at which it was.

use std::fmt::Debug;

use balance::{BackendView, PoolView, SetBy, Time, hash_of};
use http::{HeaderMap, header};

use crate::clock::Clock;

/// The tag of a backend, quotes included.
pub(super) fn of(view: &BackendView, clock: &Clock) -> String {
    let text = |time: Option<Time>| time.map(|time| clock.text(time));
    let then = view.admin_reverts_to.as_ref();
    let then = then.map(|then| (then.state, &then.reason, &then.actor, text(then.deadline)));
    let state = (view.admin, &view.admin_reason, &view.admin_actor, view.admin_said);
    let weight = (view.weight, view.weight_wanted, words(&view.weight_set), view.weight_said);
    let wanted = (view.max_in_flight_wanted, words(&view.max_in_flight_set));
    let limit = (view.configured_max_in_flight, wanted, view.max_in_flight_said);
    of_intent(&(
        &view.instance,
        (state, text(view.admin_expires), then, text(view.deadline)),
        (weight, text(view.weight_expires), view.weight_reverts_to),
        (limit, text(view.max_in_flight_expires), view.max_in_flight_reverts_to),
    ))
}

/// The tag of a pool, for what operators want of it as a whole, quotes included.
pub(super) fn of_pool(view: &PoolView, clock: &Clock) -> String {
    let wanted = &view.wanted_plan;
    let (current, then) = (wanted.current(), wanted.reverts_to());
    let expires = wanted.expires().map(|time| clock.text(time));
    let then = then.map(|then| (&then.plan, words(&then.set)));
    of_intent(&(&view.plan, (&current.plan, words(&current.set)), wanted.said, expires, then))
}

/// Why, and by whom.
fn words(set: &Option<SetBy>) -> Option<(&Option<String>, &Option<String>)> {
    set.as_ref().map(|set| (&set.reason, &set.actor))
}

fn of_intent(intent: &impl Debug) -> String {
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
