//! The last-resort ladder: who serves when nobody better does.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

#[path = "../common/mod.rs"]
mod common;

mod degraded;
mod last_resort;
mod leaving;

use std::time::Duration;

use common::{SECOND, World, counts, found};
use evenkeel_balance::{
    Admin, AttemptFailure, BackendId, Effective, EjectionPlan, Found, Health, NoBackend, Outcome,
    Refused, Rung,
};

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
    world.force("b", Admin::Drain);
    assert_eq!(world.picks(2), counts(&[("a", 2)]));
    world.run(SECOND * 5, &["b"]);
    assert_eq!(world.pool.view().rung, Rung::Nobody);
}
