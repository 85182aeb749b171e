//! What is kept of backends that are away, over a restart of the proxy too, and for how long.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use std::time::Duration;

use balance::{
    Admin, AttemptFailure, BackendId, Change, Effect, Effective, EjectionPlan, Outcome, Time,
};
use common::{SECOND, World};
use evenkeel_balance as balance;

/// A proxy that has just started at this time, before its first look-up. An operator has wanted this
/// state of `a`.
fn restarted(state: Admin, now: Time) -> World {
    let mut before = World::with(&["a", "b"]);
    before.run(SECOND, &["a", "b"]);
    before.set("a", state).unwrap();
    before.run(SECOND, &["a", "b"]);
    let mut after = World::looking_up();
    after.now = now;
    after.pool.restore(before.intents, now);
    after
}

#[test]
fn intent_survives_a_restart_of_the_backend() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.set("a", Admin::Maint).unwrap();
    world.discover(&["b"]);
    world.run(SECOND * 60, &["b"]);
    world.discover(&["a", "b"]);
    world.run(SECOND * 5, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Maint);
}

#[test]
fn intent_survives_a_restart_of_the_proxy_with_all_that_belongs_to_it() {
    let mut before = World::with(&["a", "b"]);
    before.run(SECOND, &["a", "b"]);
    let change = Change {
        state: Some(Admin::Maint),
        reason: Some("new disk".to_owned()),
        actor: Some("ada".to_owned()),
        ttl: Some(SECOND * 60),
        ..Change::default()
    };
    before.pool.change(&BackendId::new("a"), &change, before.now).unwrap();
    before.run(Duration::ZERO, &["a", "b"]);

    let mut after = World::with(&[]);
    after.now = before.now + SECOND;
    after.pool.restore(before.intents, after.now);
    after.discover(&["a", "b"]);
    after.run(SECOND, &["a", "b"]);
    let backend = after.pool.view().backends.remove(0);
    assert_eq!((backend.effective, backend.admin_since), (Effective::Maint, before.now));
    assert_eq!(backend.admin_reason.as_deref(), Some("new disk"));
    assert_eq!(backend.admin_actor.as_deref(), Some("ada"));
    after.run(SECOND * 60, &["a", "b"]);
    assert_eq!(after.effective("a"), Effective::Serving, "its time was over");
    assert!(after.intents.is_empty());
}

#[test]
fn what_is_forgotten_after_an_hour_is_forgotten_in_the_file_too() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.set("a", Admin::Maint).unwrap();
    world.run(SECOND, &["a", "b"]);
    world.discover(&["b"]);
    world.run(SECOND * 60 * 59, &["b"]);
    assert_eq!(world.intents.len(), 1);
    world.run(SECOND * 120, &["b"]);
    assert!(world.intents.is_empty(), "the file still has {:?}", world.intents);
}

#[test]
fn nothing_is_forgotten_while_look_ups_fail_and_nobody_can_know_who_is_there() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.set("a", Admin::Maint).unwrap();
    world.discover(&["b"]);
    world.run(SECOND * 60 * 30, &["b"]);
    world.pool.discovery_failed("no answer", world.now);
    world.run(SECOND * 60 * 90, &["b"]);
    world.discover(&["b"]);
    world.run(SECOND * 60 * 29, &["b"]);
    assert_eq!(world.pool.standing_intents().len(), 1);
    world.run(SECOND * 120, &["b"]);
    assert!(world.pool.standing_intents().is_empty(), "it was away for an hour all the same");
}

#[test]
fn what_was_wanted_before_a_restart_waits_for_the_first_look_up_however_late() {
    let mut after = restarted(Admin::Drain, Time::START);
    after.run(SECOND * 60 * 90, &[]);
    after.discover(&["a", "b"]);
    assert_eq!(after.effective("a"), Effective::Drained);
}

/// The clock of a process counts from long before its start, so that it can tell of earlier times.
#[test]
fn what_was_wanted_before_a_restart_is_forgotten_an_hour_after_it_whatever_the_clock_says() {
    let mut after = restarted(Admin::Maint, Time::START + SECOND * 60 * 60 * 24 * 3_650);
    after.discover(&["b"]);
    assert_eq!(after.pool.view().rung_since, after.now, "it is nobody's since the start");
    after.run(SECOND * 60 * 59, &["b"]);
    assert_eq!(after.pool.standing_intents().len(), 1);
    after.run(SECOND * 120, &["b"]);
    assert!(after.pool.standing_intents().is_empty(), "it was away for an hour");
}

#[test]
fn one_that_is_missing_from_an_answer_comes_back_as_ejected_as_it_was() {
    let plan = EjectionPlan { consecutive: 3, ..EjectionPlan::default() };
    let mut world = World::with_ejection(&["a", "b", "c"], plan);
    let all = ["a", "b", "c"];
    world.run(SECOND, &all);
    let fail = |world: &mut World| {
        let (mut picker, generation) = (world.pool.picker(), world.generation("a"));
        for _ in 0..30 {
            let Ok(ticket) = picker.pick(None) else { break };
            let is_it = ticket.member().id().as_str() == "a";
            if ticket.note(if is_it { Outcome::Failure } else { Outcome::Success }) {
                let (id, streak) = (BackendId::new("a"), AttemptFailure::Streak);
                world.pool.attempt_failed(&id, generation, streak, world.now);
            }
        }
    };
    fail(&mut world);
    assert_eq!(world.effective("a"), Effective::Ejected);
    for _ in 0..2 {
        world.discover(&["b", "c"]);
        world.run(SECOND * 2, &all);
        world.discover(&all);
        world.run(SECOND, &all);
        assert_eq!(world.effective("a"), Effective::Ejected, "it is up, and out still");
    }
    world.run(SECOND * 6, &all);
    assert_eq!(world.effective("a"), Effective::Serving);
    fail(&mut world);
    let last = world.pool.take_effects().into_iter().filter_map(|effect| match effect {
        Effect::Event(event) if event.message.contains("probation") => Some(event.message),
        _ => None,
    });
    let last = last.last().unwrap();
    let is_second = ["18", "19", "20", "21", "22"].iter().any(|time| last.contains(time));
    assert!(is_second, "{last} is no longer than the first");
    world.discover(&["b", "c"]);
    world.run(SECOND * 6, &all);
    world.discover(&all);
    world.run(SECOND, &all);
    assert_eq!(world.effective("a"), Effective::Serving, "it may be another by now");
}
