//! Backends that come up climb to their share of the turns.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use std::time::Duration;

use balance::{Admin, BackendId, Change};
use common::{SECOND, World, counts};
use evenkeel_balance as balance;

const ALL: [&str; 3] = ["a", "b", "c"];

fn world(names: &[&str]) -> World {
    let mut world = World::with(&[]);
    let pool = std::mem::replace(&mut world.pool, World::with(&[]).pool);
    world.pool = pool.with_slow_start(SECOND * 10);
    world.discover(names);
    world.run(SECOND, names);
    world
}

/// The turns of the last one of `picks` picks in a row.
fn share(world: &mut World, name: &str, picks: usize) -> usize {
    world.picks(picks).get(name).copied().unwrap_or_default()
}

#[test]
fn one_that_arrives_climbs_step_by_step_and_turns_stay_exact() {
    let mut world = world(&["a", "b"]);
    world.run(SECOND * 20, &ALL);
    world.discover(&ALL);
    world.run(Duration::from_millis(100), &ALL);
    for tenths in 1..=10 {
        let turns = 20 + tenths;
        assert_eq!(share(&mut world, "c", turns * 3), tenths * 3, "after {tenths} steps");
        assert_eq!(world.pool.view().backends[2].climbed_percent, tenths as u32 * 10);
        world.run(SECOND, &ALL);
    }
    assert_eq!(world.picks(30), counts(&[("a", 10), ("b", 10), ("c", 10)]));
}

#[test]
fn one_that_recovers_climbs_too() {
    let mut world = world(&ALL);
    world.run(SECOND * 20, &ALL);
    world.run(SECOND * 5, &["a", "b"]);
    assert_eq!(share(&mut world, "c", 20), 0);
    while share(&mut world, "c", 21) == 0 {
        world.run(Duration::from_millis(100), &ALL);
    }
    assert_eq!(share(&mut world, "c", 21), 1);
    world.run(SECOND * 10, &ALL);
    assert_eq!(share(&mut world, "c", 30), 10);
}

#[test]
fn a_pool_that_is_new_as_a_whole_starts_at_once() {
    let mut world = world(&ALL);
    for _ in 0..15 {
        assert_eq!(world.picks(30), counts(&[("a", 10), ("b", 10), ("c", 10)]));
        world.run(SECOND, &ALL);
    }
}

#[test]
fn one_that_was_drained_is_still_warm() {
    let mut world = world(&ALL);
    world.run(SECOND * 20, &ALL);
    world.set("c", Admin::Drain).unwrap();
    world.run(SECOND * 5, &ALL);
    world.set("c", Admin::Ready).unwrap();
    assert_eq!(share(&mut world, "c", 30), 10);
    world.set("c", Admin::Maint).unwrap();
    world.set("c", Admin::Ready).unwrap();
    world.run(Duration::from_millis(100), &ALL);
    assert_eq!(share(&mut world, "c", 21), 1, "after maintenance it may be another process");
}

#[test]
fn a_climbing_backend_that_is_left_alone_does_all_the_work() {
    let mut world = world(&["a", "b"]);
    world.run(SECOND * 20, &ALL);
    world.discover(&ALL);
    world.run(SECOND, &ALL);
    for name in ["a", "b"] {
        world.force(name, Admin::Drain);
    }
    assert_eq!(world.picks(10), counts(&[("c", 10)]));
}

#[test]
fn the_limit_of_requests_in_flight_climbs_too() {
    let mut world = world(&["a", "b"]);
    let change = |world: &mut World, name: &str| {
        let change = Change { max_in_flight: Some(15), ..Change::default() };
        world.pool.change(&BackendId::new(name), &change, world.now).unwrap();
    };
    change(&mut world, "a");
    world.run(SECOND * 20, &ALL);
    world.discover(&ALL);
    world.run(Duration::from_millis(100), &ALL);
    change(&mut world, "c");
    let limits = |world: &World| {
        world.pool.view().backends.iter().map(|b| b.max_in_flight).collect::<Vec<_>>()
    };
    assert_eq!(limits(&world), [Some(15), None, Some(2)]);
    world.run(SECOND * 10, &ALL);
    assert_eq!(limits(&world), [Some(15), None, Some(15)]);
}

#[test]
fn of_two_that_are_restarted_in_turn_the_colder_one_gets_no_more() {
    let mut world = world(&["a", "b"]);
    world.run(SECOND * 20, &["a", "b"]);
    // One after the other, faster than either has climbed.
    world.run(SECOND * 4, &["b"]);
    world.run(SECOND * 4, &["a", "b"]);
    world.run(SECOND * 4, &["a"]);
    while world.pool.view().eligible() < 2 {
        world.run(Duration::from_millis(100), &["a", "b"]);
    }
    assert_eq!(world.picks(20), counts(&[("a", 10), ("b", 10)]));
}
