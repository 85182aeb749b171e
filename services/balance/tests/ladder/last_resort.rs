//! While nobody can serve: who waits, and how those are looked for who may come back.

use evenkeel_balance::{Admin, AttemptFailure, BackendId, Change, Health, NoBackend, Rung};

use crate::{
    BOTH,
    common::{SECOND, World, counts},
    health, world,
};

/// A world in which requests wait for three seconds, and whose backends are all up.
fn waiting_world(names: &[&str]) -> World {
    let mut world = World::with(names);
    world.pool = world.pool.with_last_resort(SECOND * 3);
    world.run(SECOND, names);
    world
}

/// Lets nobody pass until all are down.
fn all_gone(world: &mut World) {
    while world.pool.view().eligible() > 0 {
        world.run(SECOND / 100, &[]);
    }
}

fn refusal(world: &mut World) -> NoBackend {
    world.pool.picker().pick(None).unwrap_err()
}

#[test]
fn when_all_are_gone_requests_wait_for_a_while_and_are_then_refused_at_once() {
    let mut world = waiting_world(&BOTH);
    all_gone(&mut world);
    assert_eq!((world.pool.view().rung, refusal(&mut world)), (Rung::Queue, NoBackend::Awaited));
    world.run(SECOND * 29 / 10, &[]);
    assert_eq!(world.pool.view().rung, Rung::Queue);
    world.run(SECOND / 10, &[]);
    assert_eq!(
        (world.pool.view().rung, refusal(&mut world)),
        (Rung::Nobody, NoBackend::NoneEligible)
    );
    world.run(SECOND * 60, &[]);
    assert_eq!(world.pool.view().rung, Rung::Nobody, "it does not come back by itself");
    let told = |event: &&String| event.starts_with("nobody can serve");
    let told: Vec<&String> = world.events.iter().filter(told).collect();
    let waits = "nobody can serve: requests wait for a backend to come back";
    assert_eq!(told, [waits, "nobody can serve: requests are refused"]);
    assert_eq!(world.pool.view().picks[&Rung::Queue], 1);
}

#[test]
fn nobody_is_waited_for_who_was_never_up() {
    let mut world = World::with(&["a"]);
    world.pool = world.pool.with_last_resort(SECOND * 3);
    world.run(SECOND / 10, &[]);
    assert_eq!(
        (world.pool.view().rung, refusal(&mut world)),
        (Rung::Nobody, NoBackend::NoneEligible)
    );
    world.run(SECOND * 10, &[]);
    assert_eq!(world.pool.view().rung, Rung::Nobody);
}

#[test]
fn nobody_is_waited_for_whom_operators_took_out() {
    let mut world = waiting_world(&BOTH);
    world.force("a", Admin::Maint);
    world.force("b", Admin::Drain);
    assert_eq!(world.pool.view().rung, Rung::Nobody, "both are up, and nobody is going to come");

    let mut world = waiting_world(&BOTH);
    all_gone(&mut world);
    world.force("a", Admin::Maint);
    assert_eq!(world.pool.view().rung, Rung::Queue, "b may come back");
    world.force("b", Admin::Maint);
    assert_eq!(world.pool.view().rung, Rung::Nobody);
    world.set("a", Admin::Ready).unwrap();
    assert_eq!(world.pool.view().rung, Rung::Nobody, "it was not up since it is back");
}

#[test]
fn one_that_comes_in_place_of_one_that_was_up_is_waited_for() {
    let mut world = waiting_world(&["a"]);
    all_gone(&mut world);
    world.discover(&["b"]);
    assert_eq!(world.pool.view().rung, Rung::Queue);
    world.run(SECOND / 100, &["b"]);
    assert_eq!(world.picks(1), counts(&[("b", 1)]));
}

#[test]
fn without_a_time_for_it_there_is_no_such_rung() {
    let mut world = World::with(&["a"]);
    world.run(SECOND, &["a"]);
    all_gone(&mut world);
    assert_eq!(
        (world.pool.view().rung, refusal(&mut world)),
        (Rung::Nobody, NoBackend::NoneEligible)
    );
}

#[test]
fn whoever_is_up_again_takes_those_who_wait() {
    let mut world = waiting_world(&["a"]);
    all_gone(&mut world);
    let mut picker = world.pool.picker();
    assert!(picker.is_awaiting());
    let place = picker.queue().enter(1).unwrap();
    assert!(place.is_first(std::task::Waker::noop()), "the first may look, and sees nobody");
    assert_eq!(picker.pick_other(None, &[]).unwrap_err(), NoBackend::Awaited);
    world.run(SECOND * 6 / 10, &["a"]);
    assert_eq!(picker.pick(None).unwrap_err(), NoBackend::AllFull, "others wait");
    assert_eq!(picker.pick_other(None, &[]).unwrap().member().id().as_str(), "a");
}

#[test]
fn while_nobody_serves_one_that_was_up_is_looked_for_often_and_back_at_its_first_pass() {
    let mut world = World::with(&["a"]);
    world.run(SECOND, &["a"]);
    world.run(SECOND * 60, &[]);
    assert_eq!(health(&world, "a"), Health::Down);
    world.run(SECOND * 56 / 100, &["a"]);
    assert_eq!(health(&world, "a"), Health::Up, "the next probe of the transition interval");
}

#[test]
fn whoever_is_not_needed_or_was_never_up_has_to_pass_as_often_as_is_set() {
    let mut world = world();
    world.run(SECOND * 60, &["b"]);
    let passed =
        |world: &World| world.pool.view().backends[0].last_probe.clone().unwrap().result.passed;
    while !passed(&world) {
        world.run(SECOND / 100, &BOTH);
    }
    assert_eq!(health(&world, "a"), Health::Down, "b serves, and a passed once");
    let mut world = World::with(&["new"]);
    world.run(SECOND * 60, &[]);
    world.run(SECOND * 56 / 100, &["new"]);
    assert_eq!(health(&world, "new"), Health::Down, "one pass of two");
    world.run(SECOND * 56 / 100, &["new"]);
    assert_eq!(health(&world, "new"), Health::Up);
}

#[test]
fn when_the_last_one_goes_those_that_were_down_before_are_looked_for_at_once() {
    let mut world = waiting_world(&BOTH);
    world.run(SECOND * 60, &["b"]);
    for _ in 0..3 {
        let (id, generation) = (BackendId::new("b"), world.generation("b"));
        world.pool.attempt_failed(&id, generation, AttemptFailure::Refused, world.now);
    }
    assert_eq!(world.pool.view().rung, Rung::Queue);
    world.run(SECOND * 51 / 100, &["a"]);
    assert_eq!(world.picks(1), counts(&[("a", 1)]));
}

#[test]
fn a_probe_that_is_brought_forward_when_time_takes_the_last_one_out_is_made_at_once() {
    let mut world = world();
    world.run(SECOND * 60, &["a"]);
    world.force("a", Admin::Drain);
    let ttl = Some(SECOND * 3 / 2);
    let ready = Change { state: Some(Admin::Ready), ttl, ..Change::default() };
    world.pool.change(&BackendId::new("a"), &ready, world.now).unwrap();
    world.run(SECOND * 149 / 100, &["a"]);
    assert_eq!(world.pool.view().rung, Rung::Up);
    world.now = world.now + SECOND / 100;
    assert_eq!(world.order("b").id.as_str(), "b");
    assert!(world.pool.deadline(world.now).unwrap() > world.now, "the pool wants no rest");
}
