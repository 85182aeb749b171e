//! Backups: who serves when the tiers above have too little, and who rests when they have enough.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use std::time::Duration;

use balance::{
    Admin, BackendId, Change, Effect, Effective, Found, NoBackend, Policy, Pool, ProbePlan,
    Refused, Rung,
};
use common::{SECOND, World, counts, found, passed};
use evenkeel_balance as balance;

/// Two primaries, two backups and one in the tier below them.
const ALL: [&str; 5] = ["a", "b", "x", "y", "z"];

fn in_tiers() -> Vec<Found> {
    let tier = |name: &str| match name {
        "a" | "b" => 0,
        "x" | "y" => 1,
        _ => 2,
    };
    ALL.iter().map(|name| Found { tier: tier(name), ..found(name) }).collect()
}

fn world(least: f64) -> World {
    let mut world = World::with(&[]);
    let pool = Pool::new("default", Policy::RoundRobin, ProbePlan::default(), 42);
    world.pool = pool.with_tier_least(least);
    world.pool.discovered(in_tiers(), world.now);
    world.run(SECOND, &ALL);
    world
}

fn take_out(world: &mut World, name: &str) {
    let change = Change { state: Some(Admin::Maint), ..Change::default() };
    world.pool.change(&BackendId::new(name), &change, world.now).unwrap();
}

#[test]
fn backups_serve_when_no_primary_can_and_rest_as_soon_as_one_is_back() {
    let mut world = world(0.0);
    assert_eq!(world.picks(4), counts(&[("a", 2), ("b", 2)]));
    assert_eq!(world.effective("x"), Effective::Standby);
    let view = world.pool.view();
    assert_eq!(view.backends[2].reasons, ["stands by in tier 1: those above have enough"]);

    world.run(SECOND * 10, &["b", "x", "y", "z"]);
    assert_eq!(world.picks(4), counts(&[("b", 4)]), "one is enough");
    world.run(SECOND * 10, &["x", "y", "z"]);
    assert_eq!(world.picks(4), counts(&[("x", 2), ("y", 2)]));
    assert_eq!((world.pool.view().rung, world.pool.view().tier), (Rung::Up, 1));
    assert_eq!(world.effective("x"), Effective::Serving);
    world.run(SECOND * 10, &["z"]);
    assert_eq!(world.picks(2), counts(&[("z", 2)]));

    world.run(SECOND * 10, &["a", "z"]);
    assert_eq!(world.picks(2), counts(&[("a", 2)]));
    let told: Vec<_> = world.events.iter().filter(|text| text.contains("tier")).collect();
    assert_eq!(
        told,
        [
            "backups serve, down to tier 1: those above have too little",
            "backups serve, down to tier 2: those above have too little",
            "tier 0 has enough again: backups stand by",
        ]
    );
}

#[test]
fn with_a_share_backups_join_those_that_are_left() {
    let mut world = world(0.7);
    take_out(&mut world, "a");
    assert_eq!(world.picks(6), counts(&[("b", 2), ("x", 2), ("y", 2)]));
    take_out(&mut world, "x");
    assert_eq!(world.picks(6), counts(&[("b", 2), ("y", 2), ("z", 2)]), "each tier has half");
}

#[test]
fn a_backend_whose_weight_an_operator_lowers_is_missing_only_if_it_is_out() {
    let mut world = world(0.7);
    let weight = |weight| Change { weight: Some(weight), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &weight(2), world.now).unwrap();
    world.pool.change(&BackendId::new("a"), &weight(1), world.now).unwrap();
    assert_eq!(world.pool.view().tier, 0);
    world.pool.change(&BackendId::new("a"), &weight(0), world.now).unwrap();
    assert_eq!(world.pool.view().tier, 1);
}

#[test]
fn the_last_primary_can_be_taken_out_while_a_backup_is_up() {
    let mut world = world(0.0);
    for name in ["a", "b", "x", "y"] {
        take_out(&mut world, name);
    }
    let change = Change { state: Some(Admin::Drain), ..Change::default() };
    let last = world.pool.change(&BackendId::new("z"), &change, world.now);
    assert_eq!(last, Err(Refused::LastUsable { total: 5, after: Duration::ZERO }));
}

#[test]
fn who_would_serve_after_a_change_is_told_and_comes_true() {
    let mut world = world(0.7);
    let drain = Change { state: Some(Admin::Drain), ..Change::default() };
    let id = BackendId::new("a");
    let told = world.pool.would_serve(&id, &drain, world.now);
    let names = |told: std::collections::BTreeMap<BackendId, u32>| -> Vec<String> {
        told.into_keys().map(|id| id.to_string()).collect()
    };
    assert_eq!(names(told), ["b", "x", "y"]);
    world.pool.change(&id, &drain, world.now).unwrap();
    assert_eq!(world.picks(3), counts(&[("b", 1), ("x", 1), ("y", 1)]));
    let ready = Change { state: Some(Admin::Ready), ..Change::default() };
    assert_eq!(names(world.pool.would_serve(&id, &ready, world.now)), ["a", "b"]);
    // One that is down stays so, whatever an operator wants.
    world.run(SECOND * 10, &["b", "x", "y", "z"]);
    assert_eq!(names(world.pool.would_serve(&id, &ready, world.now)), ["b", "x", "y"]);
}

#[test]
fn a_request_that_has_tried_all_primaries_goes_to_a_backup() {
    let mut world = world(0.0);
    let mut picker = world.pool.picker();
    let mut tried = Vec::new();
    let mut names = Vec::new();
    for _ in 0..5 {
        let other = picker.pick_other(None, &tried).or_else(|_| picker.pick_resort(&tried));
        let ticket = other.unwrap();
        assert!(picker.is_eligible(ticket.member()), "it may be sent there");
        tried.push(ticket.member().generation());
        names.push(ticket.member().id().to_string());
    }
    names[..2].sort_unstable();
    assert_eq!(names, ALL);
    assert_eq!(picker.pick_resort(&tried).unwrap_err(), NoBackend::AllTried);
}

#[test]
fn backups_of_one_tier_share_the_requests_that_have_tried_all_primaries() {
    let mut world = world(0.0);
    let mut picker = world.pool.picker();
    let tried: Vec<u64> =
        world.pool.view().backends[..2].iter().map(|b| b.member.generation()).collect();
    let mut resort = || {
        // As a request does that has found one primary dead.
        assert_eq!(picker.pick_other(None, &tried).unwrap_err(), NoBackend::AllTried);
        picker.pick_resort(&tried).unwrap().member().id().to_string()
    };
    let names: Vec<String> = (0..100).map(|_| resort()).collect();
    let of = |name: &str| names.iter().filter(|other| *other == name).count();
    assert_eq!(of("x") + of("y"), 100, "the tier below has no say");
    assert!(of("x") > 30 && of("y") > 30, "{} to {}", of("x"), of("y"));
}

#[test]
fn a_climbing_primary_that_serves_alone_is_not_held_back() {
    let pool = Pool::new("default", Policy::RoundRobin, ProbePlan::default(), 42);
    let mut pool = pool.with_slow_start(SECOND * 60).with_max_in_flight(Some(10));
    let mut now = balance::Time::START;
    let mut run = |pool: &mut Pool, seconds: u32, passing: &[&str]| {
        for _ in 0..seconds * 10 {
            now = now + Duration::from_millis(100);
            pool.advance(now);
            for effect in pool.take_effects() {
                if let Effect::Probe(order) = effect {
                    let mut result = passed();
                    result.passed = passing.contains(&order.id.as_str());
                    pool.probe_finished(&order, result, now);
                }
            }
        }
        now
    };
    let now = run(&mut pool, 1, &[]);
    pool.discovered(vec![found("a"), Found { tier: 1, ..found("x") }], now);
    run(&mut pool, 100, &["a", "x"]);
    run(&mut pool, 10, &["x"]);
    assert_eq!(pool.view().tier, 1);
    run(&mut pool, 3, &["a", "x"]);
    let view = pool.view();
    assert_eq!((view.tier, view.backends[0].climbed_percent < 100), (0, true));
    assert_eq!(view.backends[0].max_in_flight, Some(10), "nobody else takes anything");
}
