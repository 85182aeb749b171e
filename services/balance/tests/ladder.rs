//! The last-resort ladder: who serves when nobody better does.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use std::time::Duration;

use balance::{
    Admin, AttemptFailure, BackendId, Change, Effective, EjectionPlan, Found, Health, NoBackend,
    Outcome, Refused, Rung,
};
use common::{SECOND, World, counts, found};
use evenkeel_balance as balance;

const BOTH: [&str; 2] = ["a", "b"];

fn world() -> World {
    // Without a share and a floor, ejection may take all of them.
    let plan = EjectionPlan { pool_share: 1.0, floor: 0, ..EjectionPlan::default() };
    let mut world = World::with_ejection(&BOTH, plan);
    world.run(SECOND, &BOTH);
    world
}

fn degrade(world: &mut World, name: &str) {
    let generation = world.generation(name);
    world.pool.degraded(&BackendId::new(name), generation, "cold cache", world.now);
}

/// Lets requests of a backend fail until it is ejected.
fn eject(world: &mut World, name: &str) {
    let (id, generation) = (BackendId::new(name), world.generation(name));
    let mut picker = world.pool.picker();
    for _ in 0..20 {
        let ticket = picker.pick(None).unwrap();
        let is_it = ticket.member().id() == &id;
        if ticket.note(if is_it { Outcome::Failure } else { Outcome::Unknown }) {
            world.pool.attempt_failed(&id, generation, AttemptFailure::Streak, world.now);
        }
    }
}

fn health(world: &World, name: &str) -> Health {
    let view = world.pool.view();
    view.backends.iter().find(|backend| backend.id.as_str() == name).unwrap().health
}

fn terminating(name: &str) -> Found {
    Found { is_terminating: true, ..found(name) }
}

#[test]
fn a_backend_that_asks_to_be_spared_gets_nothing_while_others_serve() {
    let mut world = world();
    degrade(&mut world, "a");
    assert_eq!(
        (health(&world, "a"), world.effective("a")),
        (Health::Degraded, Effective::Degraded)
    );
    assert_eq!(world.picks(10), counts(&[("b", 10)]));
    let backend = world.pool.view().backends.remove(0);
    assert_eq!(backend.reasons, ["degraded: cold cache"]);
    assert_eq!(backend.health_until, Some(world.now + SECOND * 10));
}

#[test]
fn being_degraded_ends_by_itself_unless_it_is_said_again() {
    let mut world = world();
    degrade(&mut world, "a");
    world.run(SECOND * 9, &BOTH);
    degrade(&mut world, "a");
    world.run(SECOND * 9, &BOTH);
    assert_eq!(health(&world, "a"), Health::Degraded);
    world.run(SECOND * 2, &BOTH);
    assert_eq!(health(&world, "a"), Health::Up);
    let told: Vec<_> = world.events.iter().filter(|text| text.contains("degraded")).collect();
    assert_eq!(told, ["degraded: cold cache", "no longer degraded"]);
}

#[test]
fn responses_that_say_it_all_the_time_are_told_once() {
    let mut world = world();
    let mut picker = world.pool.picker();
    let member = std::sync::Arc::clone(picker.pick(None).unwrap().member());
    assert!(member.ask_to_spare());
    world.pool.degraded(member.id(), member.generation(), "", world.now);
    for _ in 0..30 {
        assert!(!member.ask_to_spare(), "the pool looks itself");
        world.run(SECOND, &BOTH);
    }
    assert_eq!(health(&world, member.id().as_str()), Health::Degraded);
    world.run(SECOND * 21, &BOTH);
    assert_eq!(health(&world, member.id().as_str()), Health::Up);
    assert!(member.ask_to_spare(), "this is news again");
}

#[test]
fn the_ladder_is_climbed_down_rung_by_rung_and_each_pick_counted() {
    let mut world = world();
    assert_eq!(world.picks(4), counts(&[("a", 2), ("b", 2)]));

    degrade(&mut world, "a");
    degrade(&mut world, "b");
    assert_eq!(world.pool.view().rung, Rung::Degraded);
    assert_eq!(world.effective("a"), Effective::Serving);
    assert_eq!(world.picks(4), counts(&[("a", 2), ("b", 2)]));
    world.run(SECOND * 11, &BOTH);
    assert_eq!(world.pool.view().rung, Rung::Up);

    eject(&mut world, "a");
    assert_eq!(world.picks(4), counts(&[("b", 4)]));
    world.run(SECOND, &["a"]);
    world.run(SECOND * 3, &["a"]);
    assert_eq!(health(&world, "b"), Health::Down);
    assert_eq!(world.pool.view().rung, Rung::Ejected, "better than an error for all");
    assert_eq!(world.picks(4), counts(&[("a", 4)]));

    world.run(SECOND * 20, &BOTH);
    world.pool.discovered(vec![terminating("a"), terminating("b")], world.now);
    assert_eq!(world.pool.view().rung, Rung::Terminating);
    assert_eq!(world.picks(4), counts(&[("a", 2), ("b", 2)]));

    world.set("a", Admin::Maint).unwrap();
    let last = Refused::LastUsable { total: 2, after: Duration::ZERO };
    assert_eq!(world.set("b", Admin::Maint), Err(last), "going away, but serving");
    world.force("b", Admin::Maint);
    assert_eq!(world.pool.view().rung, Rung::Nobody);
    let none = world.pool.picker().pick(None).unwrap_err();
    assert_eq!(none, NoBackend::NoneEligible);

    let picks = world.pool.view().picks;
    assert_eq!(picks[&Rung::Degraded], 4);
    assert_eq!(picks[&Rung::Ejected], 4);
    assert_eq!(picks[&Rung::Terminating], 4);
    assert_eq!(picks[&Rung::Nobody], 1);
    assert_eq!(picks.values().sum::<u64>(), world.pool.picks());
}

#[test]
fn one_that_is_going_away_gets_nothing_while_another_serves() {
    let mut world = world();
    world.pool.discovered(vec![terminating("a"), found("b")], world.now);
    assert_eq!(world.effective("a"), Effective::Terminating);
    assert_eq!(world.picks(4), counts(&[("b", 4)]));
    assert_eq!(world.generation("a"), 1, "it is the same backend");
}

#[test]
fn no_rung_takes_in_who_is_down_or_out_of_service() {
    let mut world = world();
    world.pool.discovered(vec![terminating("a"), found("b")], world.now);
    assert!(world.set("b", Admin::Drain).is_err(), "only a last resort would be left");
    let change = Change { state: Some(Admin::Drain), force: true, ..Change::default() };
    world.pool.change(&BackendId::new("b"), &change, world.now).unwrap();
    assert_eq!(world.picks(2), counts(&[("a", 2)]));
    world.run(SECOND * 5, &["b"]);
    assert_eq!(world.pool.view().rung, Rung::Nobody);
}

const LEFT: &str = "left its name; serves until a new one is up";

fn moved(name: &str, last: u8) -> Found {
    Found::new(BackendId::new(name), Ok(vec![([10, 0, 1, last], 80).into()]))
}

/// Who is picked, by generation.
fn generations(world: &mut World) -> Vec<u64> {
    let mut picker = world.pool.picker();
    (0..4).map_while(|_| Some(picker.pick(None).ok()?.member().generation())).collect()
}

#[test]
fn those_that_left_all_at_once_serve_until_a_new_one_is_up() {
    let mut world = world();
    world.discover(&["c", "d"]);
    let view = world.pool.view();
    assert_eq!((view.rung, view.eligible()), (Rung::Terminating, 2));
    let left = |backend: &balance::BackendView| {
        (backend.id.to_string(), backend.effective, backend.reasons.clone())
    };
    let told: Vec<_> = view.everybody().skip(2).map(left).collect();
    let of = |name: &str| (name.to_owned(), Effective::Terminating, vec![LEFT.to_owned()]);
    assert_eq!(told, [of("a"), of("b")]);
    assert_eq!(world.picks(4), counts(&[("a", 2), ("b", 2)]));
    world.run(SECOND / 10, &["d"]);
    assert_eq!(world.picks(4), counts(&[("d", 4)]));
    assert!(world.pool.view().leaving.is_empty());
    world.run(SECOND * 5, &[]);
    assert_eq!(world.pool.view().rung, Rung::Nobody, "whoever left does not come back");
}

#[test]
fn a_look_up_of_none_who_may_serve_is_taken_for_trouble() {
    let unresolved = Found { addresses: Err("c: no answer".to_owned()), ..found("c") };
    let out = "the look-up found only backends that are out of traffic; keeping 2 backends";
    let error = "the look-up found nobody else: c: no answer; keeping 2 backends";
    for (only, told) in [(found("m"), out), (unresolved, error)] {
        let mut world = World::with(&["a", "m"]);
        world.force("m", Admin::Maint);
        world.run(SECOND, &["a"]);
        world.pool.discovered(vec![only.clone()], world.now);
        world.run(SECOND * 60, &["a"]);
        assert_eq!(world.events.iter().filter(|event| *event == told).count(), 1);
        assert_eq!(world.picks(2), counts(&[("a", 2)]));
        world.run(SECOND * 5, &[]);
        assert_eq!(world.pool.view().rung, Rung::Nobody, "its probes say that it is gone");
        world.pool.discovered(vec![only], world.now);
        assert_eq!(world.pool.view().backends.len(), 1, "nothing is lost any more");
    }
}

#[test]
fn a_source_that_tells_instances_apart_knows_who_is_gone() {
    let pod = |name: &str| Found { instance: Some(name.to_owned()), ..found(name) };
    let mut world = World::looking_up();
    world.pool.discovered(vec![pod("a"), pod("m")], world.now);
    world.force("m", Admin::Maint);
    world.run(SECOND, &["a"]);
    world.pool.discovered(vec![pod("m")], world.now);
    assert_eq!(world.pool.view().rung, Rung::Nobody);
}

#[test]
fn those_that_left_serve_while_one_that_is_down_may_come_back() {
    let mut world = world();
    world.run(SECOND * 5, &["a"]);
    world.discover(&["b"]);
    assert_eq!(world.picks(2), counts(&[("a", 2)]));
    world.run(SECOND * 60, &[]);
    assert_eq!(world.pool.view().rung, Rung::Nobody, "not for ever");
}

#[test]
fn an_instance_whose_name_is_anothers_serves_until_that_one_is_up() {
    let mut world = World::with(&["a"]);
    world.run(SECOND, &["a"]);
    world.pool.discovered(vec![moved("a", 1)], world.now);
    assert_eq!(world.generation("a"), 2);
    assert_eq!(generations(&mut world), [1, 1, 1, 1]);
    assert_eq!(world.pool.view().everybody().count(), 1, "a name is told once");
    world.run(SECOND / 10, &["a"]);
    assert_eq!(generations(&mut world), [2, 2, 2, 2]);
}

#[test]
fn one_that_left_is_gone_at_its_first_failure_of_any_kind() {
    for failure in [AttemptFailure::Refused, AttemptFailure::Unreachable, AttemptFailure::Streak] {
        let mut world = World::with(&["a"]);
        world.run(SECOND, &["a"]);
        world.discover(&["b"]);
        let ticket = world.pool.picker().pick(None).unwrap();
        assert!(ticket.note(Outcome::Failure), "the first is told");
        world.pool.attempt_failed(&BackendId::new("a"), 1, failure, world.now);
        assert_eq!(world.pool.view().rung, Rung::Nobody);
    }
}

#[test]
fn one_that_left_is_gone_when_the_verdict_on_the_new_ones_must_have_fallen() {
    let mut world = World::with(&["a"]);
    world.run(SECOND, &["a"]);
    world.discover(&["b"]);
    world.run(SECOND * 10, &["a"]);
    assert_eq!(world.picks(1), counts(&[("a", 1)]));
    world.run(SECOND, &["a"]);
    assert_eq!(world.pool.view().rung, Rung::Nobody, "three probes of 3.5 s are over");
}

#[test]
fn nobody_stays_who_is_not_replaced_or_not_needed_or_not_wanted() {
    let mut world = world();
    world.discover(&["a", "c"]);
    assert!(world.pool.view().leaving.is_empty(), "a serves");

    world.set("a", Admin::Drain).unwrap_err();
    let change = Change { state: Some(Admin::Drain), force: true, ..Change::default() };
    world.pool.change(&BackendId::new("a"), &change, world.now).unwrap();
    world.pool.discovered(vec![moved("a", 1), moved("c", 2)], world.now);
    assert_eq!(world.pool.view().rung, Rung::Nobody, "a was draining, c had never been up");

    world.run(SECOND, &["c"]);
    world.pool.discovered(vec![moved("a", 1)], world.now);
    assert_eq!(world.pool.view().leaving.len(), 0, "c has left, and nobody came instead");

    let pod = |uid: &str| Found { instance: Some(uid.to_owned()), ..found("d") };
    world.pool.discovered(vec![pod("one")], world.now);
    world.run(SECOND, &["d"]);
    world.pool.discovered(vec![pod("two")], world.now);
    assert_eq!(world.pool.view().rung, Rung::Nobody, "its source says itself who is going away");
}

#[test]
fn taking_a_name_out_of_traffic_takes_out_who_left_it() {
    let mut world = World::with(&["a"]);
    world.run(SECOND, &["a"]);
    world.pool.discovered(vec![moved("a", 1)], world.now);
    let last = Refused::LastUsable { total: 1, after: Duration::ZERO };
    assert_eq!(world.set("a", Admin::Maint), Err(last), "who left it serves");
    world.force("a", Admin::Maint);
    assert_eq!(world.pool.view().rung, Rung::Nobody);
}

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

fn force(world: &mut World, name: &str, state: Admin) {
    let change = Change { state: Some(state), force: true, ..Change::default() };
    world.pool.change(&BackendId::new(name), &change, world.now).unwrap();
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
    force(&mut world, "a", Admin::Maint);
    force(&mut world, "b", Admin::Drain);
    assert_eq!(world.pool.view().rung, Rung::Nobody, "both are up, and nobody is going to come");

    let mut world = waiting_world(&BOTH);
    all_gone(&mut world);
    force(&mut world, "a", Admin::Maint);
    assert_eq!(world.pool.view().rung, Rung::Queue, "b may come back");
    force(&mut world, "b", Admin::Maint);
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
    force(&mut world, "a", Admin::Drain);
    let ttl = Some(SECOND * 3 / 2);
    let ready = Change { state: Some(Admin::Ready), ttl, ..Change::default() };
    world.pool.change(&BackendId::new("a"), &ready, world.now).unwrap();
    world.run(SECOND * 149 / 100, &["a"]);
    assert_eq!(world.pool.view().rung, Rung::Up);
    world.now = world.now + SECOND / 100;
    assert_eq!(world.order("b").id.as_str(), "b");
    assert!(world.pool.deadline(world.now).unwrap() > world.now, "the pool wants no rest");
}

#[test]
fn whoever_leaves_stays_while_one_that_came_a_look_up_before_is_not_judged_yet() {
    let mut world = World::with(&["a"]);
    world.run(SECOND * 10, &["a"]);
    world.discover(&["a", "c"]);
    world.run(SECOND / 2, &["a"]);
    world.discover(&["c"]);
    world.run(SECOND / 10, &["a"]);
    assert_eq!(world.pool.view().rung, Rung::Terminating);
    assert_eq!(world.picks(3), counts(&[("a", 3)]));
    world.run(SECOND * 10, &["a", "c"]);
    assert_eq!(world.picks(3), counts(&[("c", 3)]));
}
