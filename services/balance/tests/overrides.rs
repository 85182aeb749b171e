//! Changes with an end: what lies on top for a while, and what is in force again afterwards.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use std::time::Duration;

use balance::{Admin, BackendId, Change, Effect, Effective, Refused, Reset, SaidAt, SetBy};
use common::{SECOND, World};
use evenkeel_balance as balance;

#[test]
fn a_weight_for_a_while_leaves_maintenance_as_it_is() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.set("a", Admin::Maint).unwrap();
    let weight = Change { weight: Some(3), ttl: Some(SECOND), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &weight, world.now).unwrap();
    assert_eq!(world.pool.view().backends[0].weight, 3);
    world.run(SECOND * 2, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Maint);
    assert_eq!(world.pool.view().backends[0].weight, 1);

    world.set("a", Admin::Ready).unwrap();
    let brief = Change { state: Some(Admin::Maint), ttl: Some(SECOND), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &brief, world.now).unwrap();
    let weight = Change { weight: Some(2), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &weight, world.now).unwrap();
    world.run(SECOND * 2, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Serving, "the weight is no reason to stay");
    assert_eq!(world.pool.view().backends[0].weight, 2);
}

#[test]
fn an_override_ends_in_what_stood_before_it_with_the_words_that_belong_to_it() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let by = |actor: &str, state, ttl| Change {
        state: Some(state),
        reason: Some(format!("{actor}'s reason")),
        actor: Some(actor.to_owned()),
        ttl,
        ..Change::default()
    };
    let id = BackendId::new("a");
    world.pool.change(&id, &by("ada", Admin::Maint, None), world.now).unwrap();
    let since = world.now;
    world.run(SECOND, &["a", "b"]);
    world.pool.change(&id, &by("bob", Admin::Drain, Some(SECOND * 9)), world.now).unwrap();
    // A second one in its place does not become what the first goes back to, nor the other way.
    world.pool.change(&id, &by("eve", Admin::Ready, Some(SECOND * 5)), world.now).unwrap();
    let told = world.pool.take_effects().into_iter().filter_map(|effect| match effect {
        Effect::Event(event) => Some(event.message),
        _ => None,
    });
    let told: Vec<String> = told.collect();
    assert!(told.contains(&"drain (was maint) for 9 s, then maint: bob's reason".to_owned()));
    assert!(told.contains(&"ready (was drain) for 5 s, then maint: eve's reason".to_owned()));
    let view = world.pool.view().backends.remove(0);
    let then = view.admin_reverts_to.unwrap();
    assert_eq!((view.admin, view.admin_expires), (Admin::Ready, Some(world.now + SECOND * 5)));
    assert_eq!((then.state, then.since, then.actor.as_deref()), (Admin::Maint, since, Some("ada")));
    world.run(SECOND * 5, &["a", "b"]);
    let view = world.pool.view().backends.remove(0);
    assert_eq!((view.effective, view.admin_since), (Effective::Maint, since));
    assert_eq!(view.admin_reason.as_deref(), Some("ada's reason"));
    assert_eq!((view.admin_expires, view.admin_reverts_to), (None, None));
    world.run(SECOND * 60, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Maint, "nothing else is to end");
}

#[test]
fn a_change_for_good_replaces_the_override_and_what_it_lay_on() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.set("a", Admin::Maint).unwrap();
    let brief = Change { state: Some(Admin::Drain), ttl: Some(SECOND), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &brief, world.now).unwrap();
    world.set("a", Admin::Ready).unwrap();
    world.run(SECOND * 5, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Serving);
}

#[test]
fn a_weight_and_a_limit_for_a_while_lie_on_top_of_those_that_stand() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let id = BackendId::new("a");
    let both = |weight, limit, actor: &str, ttl| Change {
        weight: Some(weight),
        max_in_flight: Some(limit),
        reason: Some(format!("{actor}'s reason")),
        actor: Some(actor.to_owned()),
        ttl,
        ..Change::default()
    };
    let since = world.now;
    let by = |set: Option<SetBy>| {
        let SetBy { since, reason, actor, .. } = set.unwrap();
        (since, reason.unwrap(), actor.unwrap())
    };
    world.pool.change(&id, &both(5, 50, "ada", None), world.now).unwrap();
    world.run(SECOND, &["a", "b"]);
    world.pool.change(&id, &both(0, 9, "bob", Some(SECOND)), world.now).unwrap();
    let view = world.pool.view().backends.remove(0);
    assert_eq!((view.weight, view.weight_reverts_to), (0, Some(5)));
    assert_eq!((view.max_in_flight, view.max_in_flight_reverts_to), (Some(9), Some(50)));
    let bobs = (world.now, "bob's reason".to_owned(), "bob".to_owned());
    assert_eq!([by(view.weight_set), by(view.max_in_flight_set)], [bobs.clone(), bobs]);
    world.run(SECOND * 2, &["a", "b"]);
    let view = world.pool.view().backends.remove(0);
    assert_eq!((view.weight, view.weight_reverts_to), (5, None));
    assert_eq!((view.max_in_flight, view.max_in_flight_expires), (Some(50), None));
    let adas = (since, "ada's reason".to_owned(), "ada".to_owned());
    assert_eq!([by(view.weight_set), by(view.max_in_flight_set)], [adas.clone(), adas]);
}

#[test]
fn a_weight_and_a_limit_go_back_to_what_is_configured_for_good_or_for_a_while() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let id = BackendId::new("a");
    let set = Change { weight: Some(5), max_in_flight: Some(50), actor: None, ..Change::default() };
    let reset = |ttl| Change {
        reset: Reset { weight: true, max_in_flight: true },
        actor: Some("ann".to_owned()),
        ttl,
        ..Change::default()
    };
    world.pool.change(&id, &set, world.now).unwrap();
    world.pool.change(&id, &reset(Some(SECOND)), world.now).unwrap();
    let view = world.pool.view().backends.remove(0);
    assert_eq!((view.weight, view.weight_wanted, view.weight_reverts_to), (1, None, Some(5)));
    assert_eq!((view.max_in_flight, view.max_in_flight_reverts_to), (None, Some(50)));
    world.run(SECOND * 2, &["a", "b"]);
    let view = world.pool.view().backends.remove(0);
    assert_eq!((view.weight, view.weight_wanted, view.max_in_flight), (5, Some(5), Some(50)));

    world.pool.change(&id, &reset(None), world.now).unwrap();
    let view = world.pool.view().backends.remove(0);
    assert_eq!((view.weight, view.weight_wanted, view.max_in_flight), (1, None, None));
    for set in [view.weight_set, view.max_in_flight_set] {
        assert_eq!(set.unwrap().actor.as_deref(), Some("ann"), "it is somebody's word");
    }
    assert!(world.pool.standing_intents().is_empty(), "nothing is left to keep");
}

#[test]
fn a_backend_that_is_ready_for_a_while_is_not_so_for_good_after_an_absence() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.set("a", Admin::Maint).unwrap();
    let brief = Change { state: Some(Admin::Ready), ttl: Some(SECOND * 9), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &brief, world.now).unwrap();
    world.discover(&["b"]);
    world.run(SECOND * 30, &["b"]);
    world.discover(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Maint);
}

#[test]
fn what_an_override_lies_on_survives_a_restart_of_the_proxy_too() {
    let mut before = World::with(&["a", "b"]);
    before.run(SECOND, &["a", "b"]);
    before.set("a", Admin::Maint).unwrap();
    let brief = Change { state: Some(Admin::Ready), ttl: Some(SECOND * 9), ..Change::default() };
    before.pool.change(&BackendId::new("a"), &brief, before.now).unwrap();
    before.run(Duration::ZERO, &["a", "b"]);

    let mut after = World::with(&[]);
    after.now = before.now + SECOND;
    after.pool.restore(before.intents, after.now);
    after.discover(&["a", "b"]);
    after.run(SECOND * 2, &["a", "b"]);
    assert_eq!(after.effective("a"), Effective::Serving);
    after.run(SECOND * 9, &["a", "b"]);
    assert_eq!(after.effective("a"), Effective::Maint);
}

#[test]
fn that_a_backend_is_ready_again_is_remembered_against_older_words_over_a_restart() {
    let mut before = World::with(&["a", "b"]);
    before.run(SECOND, &["a", "b"]);
    let id = BackendId::new("a");
    let say = |state, said_at| Change {
        state: Some(state),
        said_at: Some(SaidAt(said_at)),
        ..Change::default()
    };
    before.pool.change(&id, &say(Admin::Ready, 20), before.now).unwrap();
    before.run(Duration::ZERO, &["a", "b"]);

    let mut after = World::with(&[]);
    after.pool.restore(before.intents, after.now);
    after.discover(&["a", "b"]);
    after.run(SECOND, &["a", "b"]);
    let refused = after.pool.change(&id, &say(Admin::Maint, 10), after.now);
    assert_eq!(refused, Err(Refused::Superseded { by: SaidAt(20) }));
    assert_eq!(after.effective("a"), Effective::Serving);
    after.pool.change(&id, &say(Admin::Maint, 21), after.now).unwrap();
}

#[test]
fn whoever_serves_only_for_a_while_is_nobody_to_rely_on_for_longer() {
    let minute = Some(SECOND * 60);
    let state = |state, ttl| Change { state: Some(state), ttl, ..Change::default() };
    let weight = |weight, ttl| Change { weight: Some(weight), ttl, ..Change::default() };
    // What takes `a` out for good, and what brings it back for a while.
    let cases = [
        (state(Admin::Drain, None), state(Admin::Ready, minute)),
        (weight(0, None), weight(1, minute)),
    ];
    for (out, back) in cases {
        let mut world = World::with(&["a", "b"]);
        world.run(SECOND, &["a", "b"]);
        let now = world.now;
        let (a, b) = (BackendId::new("a"), BackendId::new("b"));
        world.pool.change(&a, &out, now).unwrap();
        world.pool.change(&a, &back, now).unwrap();
        let refused = Err(Refused::LastUsable { total: 2, after: SECOND * 60 });
        for longer in [None, Some(SECOND * 61)] {
            for change in [state(Admin::Drain, longer), weight(0, longer)] {
                assert_eq!(world.pool.check_change(&b, &change, now), refused, "{change:?}");
                let forced = Change { force: true, ..change };
                assert_eq!(world.pool.check_change(&b, &forced, now), Ok(()));
            }
        }
        assert_eq!(world.pool.check_change(&b, &state(Admin::Drain, minute), now), Ok(()));
        let floor = Change { floor: 2, ..state(Admin::Drain, None) };
        let below = Refused::BelowFloor { total: 2, left: 1, floor: 2, after: Duration::ZERO };
        assert_eq!(world.pool.check_change(&b, &floor, now), Err(below), "the first of them");

        world.pool.change(&b, &state(Admin::Drain, minute), now).unwrap();
        let sooner = world.pool.check_change(&a, &state(Admin::Ready, Some(SECOND * 30)), now);
        assert_eq!(sooner.is_ok(), out.state.is_none(), "b is not back yet when that ends");
        world.run(SECOND * 61, &["a", "b"]);
        assert_eq!(world.effective("b"), Effective::Serving);
    }
}

#[test]
fn a_late_word_beneath_an_override_is_refused_if_nobody_is_left_at_its_end() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let say = |state, ttl, said_at| Change {
        state: Some(state),
        ttl,
        said_at: Some(SaidAt(said_at)),
        ..Change::default()
    };
    let id = BackendId::new("a");
    world.pool.change(&id, &say(Admin::Ready, Some(SECOND * 9), 20), world.now).unwrap();
    world.set("b", Admin::Drain).unwrap();
    let refused = world.pool.change(&id, &say(Admin::Drain, None, 10), world.now);
    assert_eq!(refused, Err(Refused::LastUsable { total: 2, after: SECOND * 9 }));
}

#[test]
fn the_limit_after_a_change_is_told_before_it_and_is_that_of_the_newer_override() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let id = BackendId::new("a");
    let limit = |limit, said_at, ttl| Change {
        max_in_flight: Some(limit),
        said_at: Some(SaidAt(said_at)),
        ttl,
        ..Change::default()
    };
    let none = Change { weight: Some(2), ..Change::default() };
    for (change, expected) in [
        (limit(5, 20, Some(SECOND * 9)), Some(5)),
        // Said before: it goes beneath.
        (limit(9, 10, None), Some(5)),
        (none, Some(5)),
        (limit(0, 30, None), None),
    ] {
        assert_eq!(world.pool.limit_after(&id, &change, world.now), expected, "{change:?}");
        world.pool.change(&id, &change, world.now).unwrap();
        assert_eq!(world.pool.view().backends[0].max_in_flight, expected, "{change:?}");
    }
}

#[test]
fn that_a_change_was_forced_is_kept_with_what_could_have_been_refused() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let id = BackendId::new("a");
    let forced = |state, ttl, force| Change {
        state: Some(state),
        weight: Some(0),
        max_in_flight: Some(9),
        ttl,
        force,
        ..Change::default()
    };
    world.pool.change(&id, &forced(Admin::Maint, None, true), world.now).unwrap();
    let view = world.pool.view().backends.remove(0);
    let of = |set: Option<SetBy>| set.unwrap().forced;
    let of_limit = of(view.max_in_flight_set);
    assert_eq!((view.admin_forced, of(view.weight_set), of_limit), (true, true, false));
    world.pool.change(&id, &forced(Admin::Drain, Some(SECOND), false), world.now).unwrap();
    let view = world.pool.view().backends.remove(0);
    assert_eq!((view.admin_forced, of(view.weight_set)), (false, false), "that is on top");
    assert!(view.admin_reverts_to.unwrap().forced, "and this beneath");
}
