//! Of what is said again for another reason, or by somebody else.

use super::*;

/// The same with other words.
fn told_as(mut answer: Answer, reason: &str, actor: &str) -> Answer {
    let backend = &mut answer.pools[0].backends[0];
    backend.admin_reason = Some(reason.to_owned());
    backend.admin_actor = Some(actor.to_owned());
    answer
}

/// The actor of something that the dashboard has carried there.
fn carried(actor: &str) -> String {
    format!("{actor}{CARRIED} (from 10.0.0.9)")
}

#[test]
fn a_new_reason_for_the_same_is_told_to_who_has_only_the_old_one() {
    let stands = |at, said| knows(at, ("maint", said, None), None, said);
    let for_a_while =
        |at, said| knows(at, ("ready", 5, None), Some(("maint", said, Some(300))), said);
    for ends in [false, true] {
        let knows = |at, said| if ends { for_a_while(at, said) } else { stands(at, said) };
        for (reason, actor) in [("it burns", "ann"), ("new disk", "bob")] {
            let old = |at| told_as(knows(at, 10), "new disk", "ann");
            let new = |at| told_as(knows(at, 20), reason, actor);
            let expected = [order("b", Admin::Maint, 20, ends)];
            let said = |at| vec![("a", new(at)), ("b", old(at))];
            assert_eq!(told_of(said), expected, "{reason}, {actor}, {ends}");
            // Then it has the same, and says by whom it was told.
            let told = |at| told_as(knows(at, 20), reason, &carried(actor));
            let said = |at| vec![("a", new(at)), ("b", told(at))];
            assert_eq!(told_of(said), [], "{reason}, {actor}, {ends}");
        }
    }
}

#[test]
fn that_a_word_was_carried_or_from_where_it_came_is_no_other_word() {
    let stands = |at, said| knows(at, ("maint", said, None), None, said);
    for actor in [carried("ann"), "ann (from 10.0.0.1)".to_owned()] {
        let one = |at| told_as(stands(at, 10), "why", &actor);
        let other = |at| told_as(stands(at, 20), "why", "ann (from 127.0.0.1)");
        let said = |at| vec![("a", one(at)), ("b", other(at))];
        assert_eq!(told_of(said), [], "{actor}");
    }
}

/// Two dashboards may carry two words of the same millisecond.
#[test]
fn of_the_same_thing_said_at_once_each_proxy_keeps_the_reason_that_it_has_heard() {
    let stands = |at| knows(at, ("maint", 10, None), None, 10);
    let said = |at| {
        vec![("a", told_as(stands(at), "one", "ann")), ("b", told_as(stands(at), "other", "bob"))]
    };
    assert_eq!(told_of(said), []);
}
