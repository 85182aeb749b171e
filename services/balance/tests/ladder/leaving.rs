//! Those that left serve until a new one is up.

use std::time::Duration;

use evenkeel_balance::{
    Admin, AttemptFailure, BackendId, BackendView, Effective, Found, Outcome, Refused, Rung,
};

use crate::{
    common::{SECOND, World, counts, found},
    world,
};

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
    let left = |backend: &BackendView| {
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

#[test]
fn nobody_stays_who_is_not_replaced_or_not_needed_or_not_wanted() {
    let mut world = world();
    world.discover(&["a", "c"]);
    assert!(world.pool.view().leaving.is_empty(), "a serves");

    world.set("a", Admin::Drain).unwrap_err();
    world.force("a", Admin::Drain);
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

#[test]
fn what_one_that_left_gets_after_its_name_is_back_is_under_way_at_that_name() {
    let mut world = World::with(&["a"]);
    world.run(SECOND, &["a"]);
    world.pool.discovered(vec![moved("a", 1)], world.now);
    for _ in 0..2 {
        world.discover(&["a"]);
    }
    let ticket = world.pool.picker().pick(None).unwrap();
    assert_eq!((ticket.member().generation(), world.generation("a")), (1, 3));
    world.force("a", Admin::Drain);
    world.discover(&["a"]);
    assert_eq!(world.effective("a"), Effective::Draining);
    drop(ticket);
    world.run(SECOND, &["a"]);
    assert_eq!(world.effective("a"), Effective::Drained);
}
