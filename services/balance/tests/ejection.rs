//! Backends that pass their probes and fail their requests.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use std::{collections::BTreeSet, time::Duration};

use balance::{
    Admin, AttemptFailure, BackendId, EjectReason, EjectionPlan, Health, Outcome, Withheld,
};
use common::{SECOND, World, counts};
use evenkeel_balance as balance;

const ALL: [&str; 4] = ["a", "b", "c", "d"];

/// Lets so many requests come and go; those on `failing` backends fail.
fn requests(world: &mut World, count: usize, failing: &[&str]) {
    let mut picker = world.pool.picker();
    for _ in 0..count {
        let Ok(ticket) = picker.pick(None) else { return };
        let (id, generation) = (ticket.member().id().clone(), ticket.member().generation());
        let is_failing = failing.contains(&id.as_str());
        let outcome = if is_failing { Outcome::Failure } else { Outcome::Success };
        if ticket.note(outcome) {
            world.pool.attempt_failed(&id, generation, AttemptFailure::Streak, world.now);
        }
    }
}

/// Requests for so many seconds, ten a second for each of four backends.
fn run(world: &mut World, seconds: u32, failing: &[&str]) {
    for _ in 0..seconds {
        requests(world, 40, failing);
        world.run(SECOND, &ALL);
    }
}

fn world(plan: EjectionPlan) -> World {
    let mut world = World::with_ejection(&ALL, plan);
    world.run(SECOND, &ALL);
    world
}

fn ejected(world: &World) -> BTreeSet<String> {
    let view = world.pool.view();
    let is_out = |backend: &&balance::BackendView| backend.health == Health::Ejected;
    view.backends.iter().filter(is_out).map(|backend| backend.id.to_string()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn count(world: &World, reason: EjectReason) -> u64 {
    world.pool.view().ejections.get(&reason).copied().unwrap_or_default()
}

#[test]
fn five_failures_in_a_row_eject_at_once_and_the_others_take_over() {
    let mut world = world(EjectionPlan::default());
    requests(&mut world, 20, &["a"]);
    assert_eq!(ejected(&world), names(&["a"]));
    assert_eq!(count(&world, EjectReason::ConsecutiveFailures), 1);
    assert_eq!(world.picks(30), counts(&[("b", 10), ("c", 10), ("d", 10)]));
    let backend = world.pool.view().backends.remove(0);
    let out = backend.health_until.unwrap().since(backend.health_since);
    assert!(out >= SECOND * 9 && out <= SECOND * 11, "{out:?}");
    assert!(backend.reasons[0].contains("5 failures in a row"), "{:?}", backend.reasons);
}

#[test]
fn a_backend_that_fails_in_part_is_ejected_by_its_share_of_the_window() {
    let mut world = world(EjectionPlan::default());
    for turn in 0..30 {
        // Two of three fail, and never five in a row.
        requests(&mut world, 4, if turn % 3 == 0 { &[] } else { &["b"] });
    }
    assert!(ejected(&world).is_empty(), "its sample is due only now");
    world.run(SECOND, &ALL);
    assert_eq!(ejected(&world), names(&["b"]));
    assert_eq!(count(&world, EjectReason::FailureRatio), 1);
}

#[test]
fn it_comes_back_on_probation_where_one_failure_is_enough_and_stays_out_longer() {
    let mut world = world(EjectionPlan::default());
    requests(&mut world, 20, &["a"]);
    world.run(SECOND * 11, &ALL);
    assert!(ejected(&world).is_empty());
    requests(&mut world, 4, &["a"]);
    assert_eq!(ejected(&world), names(&["a"]));
    assert_eq!(count(&world, EjectReason::FailedProbation), 1);
    world.run(SECOND * 17, &ALL);
    assert_eq!(ejected(&world), names(&["a"]), "the second time takes twice as long");
    world.run(SECOND * 6, &ALL);
    run(&mut world, 3, &[]);
    requests(&mut world, 16, &["a"]);
    assert!(ejected(&world).is_empty(), "probation is over: four in a row are not enough");
}

#[test]
fn never_more_than_the_share_of_the_pool_is_out() {
    let mut world = world(EjectionPlan::default());
    run(&mut world, 2, &["a"]);
    run(&mut world, 2, &["a", "b"]);
    assert_eq!(ejected(&world), names(&["a", "b"]));
    run(&mut world, 3, &["a", "b", "c"]);
    assert_eq!(ejected(&world), names(&["a", "b"]), "two of four are half");
    assert!(world.pool.view().withheld[&Withheld::Share] >= 1);
}

#[test]
fn where_the_others_fail_as_much_nobody_is_ejected() {
    let mut world = world(EjectionPlan { consecutive: 0, ..EjectionPlan::default() });
    run(&mut world, 10, &ALL);
    assert!(ejected(&world).is_empty());
    assert!(world.pool.view().withheld[&Withheld::Shared] >= 1);
    let told = world.events.iter().filter(|text| text.contains("the other backends fail as much"));
    assert_eq!(told.count(), 4, "once each, not with every sample");
}

#[test]
fn a_floor_keeps_backends_in() {
    let mut world = world(EjectionPlan { floor: 4, ..EjectionPlan::default() });
    run(&mut world, 5, &["a"]);
    assert!(ejected(&world).is_empty());
    assert!(world.pool.view().withheld[&Withheld::Floor] >= 1);
}

#[test]
fn when_the_pool_shrinks_ejections_end_early() {
    let mut world = world(EjectionPlan::default());
    run(&mut world, 2, &["a"]);
    run(&mut world, 2, &["a", "b"]);
    assert_eq!(ejected(&world), names(&["a", "b"]));
    world.set("c", Admin::Maint).unwrap();
    assert_eq!(ejected(&world), names(&["b"]), "one of three; the one that is due first is back");
    world.discover(&["b", "d"]);
    assert_eq!(ejected(&world), names(&["b"]), "one of two");
    world.discover(&["b"]);
    assert!(ejected(&world).is_empty(), "the only one is never out");
}

#[test]
fn requests_that_began_before_an_ejection_do_not_count_after_it() {
    let mut world = world(EjectionPlan::default());
    let mut picker = world.pool.picker();
    let hanging: Vec<_> = (0..400).map(|_| picker.pick(None).unwrap()).collect();
    let hanging: Vec<_> =
        hanging.into_iter().filter(|ticket| ticket.member().id().as_str() == "a").collect();
    let (first, rest) = hanging.split_at(5);
    let told: Vec<bool> = first.iter().map(|ticket| ticket.note(Outcome::Failure)).collect();
    assert_eq!(told, [false, false, false, false, true]);
    let (id, generation) = (BackendId::new("a"), world.generation("a"));
    world.pool.attempt_failed(&id, generation, AttemptFailure::Streak, world.now);
    assert_eq!(ejected(&world), names(&["a"]));
    world.run(SECOND * 11, &ALL);
    assert!(rest.iter().all(|ticket| !ticket.note(Outcome::Failure)));
    world.run(SECOND * 3, &ALL);
    assert!(ejected(&world).is_empty(), "they hung before it");
}

#[test]
fn one_that_was_down_meanwhile_need_not_wait_for_its_time() {
    let mut world = world(EjectionPlan { time: SECOND * 100, ..EjectionPlan::default() });
    requests(&mut world, 20, &["a"]);
    world.run(SECOND * 5, &["b", "c", "d"]);
    assert!(ejected(&world).is_empty(), "it is down, and shown so");
    world.run(SECOND * 5, &ALL);
    assert_eq!(world.picks(4), counts(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]));
    requests(&mut world, 4, &["a"]);
    assert_eq!(ejected(&world), names(&["a"]), "on probation, though");
}

#[test]
fn requests_that_were_refused_before_a_restart_do_not_eject_after_it() {
    let mut world = world(EjectionPlan::default());
    let mut picker = world.pool.picker();
    let tickets: Vec<_> = (0..40).map(|_| picker.pick(None).unwrap()).collect();
    world.run(SECOND * 5, &["b", "c", "d"]);
    for ticket in tickets.iter().filter(|ticket| ticket.member().id().as_str() == "a") {
        _ = ticket.note(Outcome::Failure);
    }
    world.run(SECOND * 10, &ALL);
    assert!(world.events.iter().all(|text| !text.contains("ejected")), "{:?}", world.events);
}

#[test]
fn maintenance_wipes_the_slate() {
    let mut world = world(EjectionPlan::default());
    requests(&mut world, 20, &["a"]);
    world.set("a", Admin::Maint).unwrap();
    world.set("a", Admin::Ready).unwrap();
    world.run(SECOND, &ALL);
    requests(&mut world, 16, &["a"]);
    assert!(ejected(&world).is_empty());
}

#[test]
fn without_traffic_nothing_happens_and_time_that_jumps_does_no_harm() {
    let mut world = world(EjectionPlan::default());
    run(&mut world, 2, &["a"]);
    assert_eq!(ejected(&world), names(&["a"]));
    world.now = world.now + Duration::from_secs(100_000);
    world.run(SECOND, &ALL);
    assert!(ejected(&world).is_empty());
}

#[test]
fn backends_that_were_ejected_together_come_back_one_after_the_other() {
    let plan = EjectionPlan { pool_share: 1.0, floor: 0, ..EjectionPlan::default() };
    let mut world = world(plan);
    let both = names(&["a", "b"]);
    while ejected(&world) != both {
        requests(&mut world, 4, &["a", "b"]);
    }
    while ejected(&world) == both {
        let next = world.pool.deadline(world.now).unwrap();
        let wait = next.since(world.now).max(Duration::from_millis(1));
        world.run(wait, &ALL);
    }
    assert_eq!(ejected(&world).len(), 1, "neither at once with the other");
}

#[test]
fn a_probation_with_a_failure_that_all_shared_ends_after_some_successes() {
    let mut world = world(EjectionPlan::default());
    requests(&mut world, 20, &["a"]);
    world.run(SECOND * 11, &ALL);
    assert!(ejected(&world).is_empty());
    // A moment in which all fail, as when their database is away: nobody may be ejected.
    requests(&mut world, 4, &["b", "c", "d"]);
    requests(&mut world, 4, &ALL);
    requests(&mut world, 40, &[]);
    run(&mut world, 60, &[]);
    requests(&mut world, 4, &["a"]);
    assert!(ejected(&world).is_empty(), "{:?}", world.pool.view().ejections);
}

#[test]
fn a_trouble_that_all_shared_ejects_nobody_when_it_is_over() {
    let mut world = world(EjectionPlan::default());
    requests(&mut world, 40, &ALL);
    assert!(ejected(&world).is_empty(), "the others fail as much");
    // Nobody asks for anything from now on.
    for _ in 0..30 {
        world.run(SECOND, &ALL);
        assert!(ejected(&world).is_empty(), "{:?}", world.events);
    }
}

#[test]
fn a_trouble_that_all_share_ejects_nobody_as_it_begins() {
    for each_second in [1, 10, 100] {
        let mut world = world(EjectionPlan::default());
        let go = |world: &mut World, seconds: u32, failing: &[&str]| {
            for _ in 0..seconds * 10 {
                requests(world, 4 * each_second / 10 + usize::from(each_second < 10), failing);
                world.run(SECOND / 10, &ALL);
            }
        };
        // Their windows are full of successes.
        go(&mut world, 20, &[]);
        go(&mut world, 20, &ALL);
        assert!(ejected(&world).is_empty(), "{each_second}: {:?}", world.events);
        assert_eq!(world.pool.view().ejections.values().sum::<u64>(), 0, "{:?}", world.events);
    }
}

#[test]
fn one_failure_of_the_only_other_one_keeps_nobody_in() {
    let plan = EjectionPlan::default();
    let mut world = World::with_ejection(&["a", "b"], plan);
    world.run(SECOND, &["a", "b"]);
    requests(&mut world, 80, &[]);
    requests(&mut world, 2, &["b"]);
    // From now on nobody asks the other one, such as by a hash.
    let mut picker = world.pool.picker();
    for _ in 0..20 {
        let ticket = picker.pick(None).unwrap();
        let (id, generation) = (ticket.member().id().clone(), ticket.member().generation());
        let outcome = if id.as_str() == "a" { Outcome::Failure } else { Outcome::Unknown };
        if ticket.note(outcome) {
            world.pool.attempt_failed(&id, generation, AttemptFailure::Streak, world.now);
        }
    }
    assert_eq!(ejected(&world), names(&["a"]));
}

/// As [`requests`], all answered, but for those that come to one backend: their clients leave.
fn requests_of_others(world: &mut World, count: usize, but: &str) {
    let mut picker = world.pool.picker();
    for _ in 0..count {
        let ticket = picker.pick(None).unwrap();
        let is_other = ticket.member().id().as_str() != but;
        _ = ticket.note(if is_other { Outcome::Success } else { Outcome::Unknown });
    }
}

#[test]
fn one_that_nobody_asks_after_a_trouble_that_all_shared_is_not_ejected_as_the_others_recover() {
    for plan in [
        EjectionPlan::default(),
        EjectionPlan { consecutive: 0, volume: 10, ..EjectionPlan::default() },
    ] {
        let mut world = world(plan);
        run(&mut world, 2, &ALL);
        assert!(ejected(&world).is_empty(), "the others fail as much");
        for _ in 0..20 {
            requests_of_others(&mut world, 400, "a");
            world.run(SECOND / 2, &ALL);
            assert!(ejected(&world).is_empty(), "{:?}", world.events);
        }
    }
}

#[test]
fn one_that_goes_on_failing_after_a_trouble_that_all_shared_is_ejected() {
    for plan in
        [EjectionPlan::default(), EjectionPlan { consecutive: 0, ..EjectionPlan::default() }]
    {
        let mut world = world(plan);
        run(&mut world, 2, &ALL);
        run(&mut world, 10, &["a"]);
        assert_eq!(ejected(&world), names(&["a"]));
    }
}

#[test]
fn a_failure_on_probation_that_comes_while_it_is_drained_does_not_keep_it_there() {
    let mut world = world(EjectionPlan::default());
    requests(&mut world, 20, &["a"]);
    world.run(SECOND * 11, &ALL);
    let mut picker = world.pool.picker();
    let under_way: Vec<_> = (0..4).map(|_| picker.pick(None).unwrap()).collect();
    world.set("a", Admin::Drain).unwrap();
    for ticket in under_way {
        let is_a = ticket.member().id().as_str() == "a";
        _ = ticket.note(if is_a { Outcome::Failure } else { Outcome::Success });
    }
    world.run(SECOND, &ALL);
    world.set("a", Admin::Ready).unwrap();
    run(&mut world, 10, &[]);
    requests(&mut world, 4, &["a"]);
    assert!(ejected(&world).is_empty(), "its probation is over: {:?}", world.events);
}
