//! Requests that ask for the backend that they had before.
#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use std::time::Duration;

use balance::{
    Admin, BackendId, Change, Effective, EjectionPlan, Found, NoBackend, NoVisit, Picker, Policy,
    Pool, ProbePlan, Time, hash_of,
};
use common::{SECOND, World, counts, found};
use evenkeel_balance as balance;

fn tag_of(found: &Found) -> u128 {
    let instance = found.instance.as_deref().unwrap_or_default();
    hash_of(format!("{} {instance}", found.id).as_bytes()).into()
}

fn tag(name: &str) -> u128 {
    tag_of(&found(name))
}

fn world(names: &[&str]) -> World {
    let mut world = World::with(names);
    let pool = Pool::new("default", Policy::RoundRobin, ProbePlan::default(), 42);
    world.pool = pool.with_ejection(EjectionPlan::off()).with_tags(tag_of);
    world.discover(names);
    world.run(SECOND, names);
    world
}

fn visit(picker: &mut Picker, name: &str) -> Result<String, NoVisit> {
    let ticket = picker.pick_visited(tag(name), Time::START)?;
    assert!(ticket.is_visit() && picker.may_visit(ticket.member()));
    Ok(ticket.member().id().to_string())
}

fn drain(world: &mut World, name: &str, deadline: Option<Duration>) {
    let change = Change { state: Some(Admin::Drain), deadline, ..Change::default() };
    world.pool.change(&BackendId::new(name), &change, world.now).unwrap();
}

#[test]
fn a_visitor_gets_its_backend_whatever_the_policy_and_turns_stay_exact() {
    for policy in Policy::ALL {
        let mut world = world(&["a", "b", "c"]);
        let plan = Some(balance::PolicyPlan { policy, hash_key: "".into() });
        let change = balance::PolicyChange { plan, ..balance::PolicyChange::default() };
        world.pool.change_policy(change, world.now).unwrap();
        let mut picker = world.pool.picker();
        for turn in 0..9 {
            assert_eq!(visit(&mut picker, "b").as_deref(), Ok("b"), "{policy:?}");
            let ticket = picker.pick(None).unwrap();
            assert!(!ticket.is_visit());
            if policy == Policy::RoundRobin {
                let expected = ["a", "b", "c"][turn % 3];
                assert_eq!(ticket.member().id().as_str(), expected, "turn {turn}");
            }
        }
        assert_eq!(world.pool.picks(), 18, "visits are requests, too");
        assert_eq!(world.pool.view().picks.values().sum::<u64>(), 18);
    }
}

#[test]
fn an_unknown_tag_is_nobody_s() {
    let mut world = world(&["a", "b"]);
    let mut picker = world.pool.picker();
    assert_eq!(visit(&mut picker, "z"), Err(NoVisit::Unknown));
    assert_eq!(world.pool.picks(), 0, "it is picked for as usual, and counted then");
    world.discover(&["a"]);
    assert_eq!(visit(&mut picker, "b"), Err(NoVisit::Unknown), "it is gone");
}

#[test]
fn a_draining_backend_keeps_its_visitors_and_gets_nobody_else() {
    let mut world = world(&["a", "b", "c"]);
    drain(&mut world, "b", None);
    let mut picker = world.pool.picker();
    assert_eq!(visit(&mut picker, "b").as_deref(), Ok("b"));
    assert_eq!(world.picks(6), counts(&[("a", 3), ("c", 3)]));
    // Nor do requests that have tried all others.
    let tried = ["a", "c"].map(|name| world.generation(name));
    assert_eq!(picker.pick_other(None, &tried).unwrap_err(), NoBackend::AllTried);
    assert_eq!(picker.pick_resort(&tried).unwrap_err(), NoBackend::AllTried);
    world.set("b", Admin::Maint).unwrap();
    assert_eq!(visit(&mut picker, "b"), Err(NoVisit::Unknown));
}

#[test]
fn a_drained_one_that_fails_its_probes_loses_its_visitors_till_it_is_back() {
    let mut world = world(&["a", "b"]);
    drain(&mut world, "b", None);
    let mut picker = world.pool.picker();
    world.run(SECOND * 10, &["a"]);
    assert_eq!(visit(&mut picker, "b"), Err(NoVisit::Unknown));
    world.run(SECOND * 10, &["a", "b"]);
    assert_eq!(visit(&mut picker, "b").as_deref(), Ok("b"));
}

#[test]
fn the_deadline_of_a_drain_ends_visits() {
    let mut world = world(&["a", "b"]);
    drain(&mut world, "b", Some(SECOND * 30));
    let mut picker = world.pool.picker();
    world.run(SECOND * 29, &["a", "b"]);
    assert_eq!(visit(&mut picker, "b").as_deref(), Ok("b"));
    world.run(SECOND, &["a", "b"]);
    assert_eq!(visit(&mut picker, "b"), Err(NoVisit::Unknown));
}

#[test]
fn one_of_weight_zero_or_that_asks_to_be_spared_keeps_its_visitors() {
    let mut world = world(&["a", "b", "c"]);
    let change = Change { weight: Some(0), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &change, world.now).unwrap();
    let generation = world.generation("b");
    world.pool.degraded(&BackendId::new("b"), generation, "cold cache", world.now);
    let mut picker = world.pool.picker();
    assert_eq!(world.picks(4), counts(&[("c", 4)]));
    for name in ["a", "b", "c"] {
        assert_eq!(visit(&mut picker, name).as_deref(), Ok(name));
    }
}

#[test]
fn visitors_of_a_backup_go_back_when_it_need_not_serve() {
    let mut world = world(&[]);
    let backup = Found { tier: 1, ..found("b") };
    world.pool.discovered(vec![found("a"), backup], world.now);
    let mut picker = world.pool.picker();
    world.run(SECOND, &["b"]);
    assert_eq!(visit(&mut picker, "b").as_deref(), Ok("b"), "nobody above can serve");
    world.run(SECOND * 10, &["a", "b"]);
    assert_eq!(visit(&mut picker, "b"), Err(NoVisit::Unknown));
}

#[test]
fn another_instance_under_the_same_name_has_other_visitors() {
    let mut world = world(&[]);
    let pod = |uid: &str| Found { instance: Some(uid.to_owned()), ..found("a") };
    world.pool.discovered(vec![pod("1"), found("b")], world.now);
    world.run(SECOND, &["a", "b"]);
    let mut picker = world.pool.picker();
    let (first, second) = (tag_of(&pod("1")), tag_of(&pod("2")));
    assert!(picker.pick_visited(first, world.now).is_ok());
    world.pool.discovered(vec![pod("2"), found("b")], world.now);
    world.run(SECOND, &["a", "b"]);
    assert_eq!(picker.pick_visited(first, world.now).unwrap_err(), NoVisit::Unknown);
    assert!(picker.pick_visited(second, world.now).is_ok());
}

#[test]
fn a_full_backend_takes_no_visitor_and_those_that_wait_come_first() {
    let mut world = world(&["a", "b"]);
    let change = Change { max_in_flight: Some(1), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &change, world.now).unwrap();
    let mut picker = world.pool.picker();
    let held = picker.pick_visited(tag("a"), world.now).unwrap();
    assert_eq!(visit(&mut picker, "a"), Err(NoVisit::Full));
    drop(held);
    let place = picker.queue().enter(1).unwrap();
    assert_eq!(visit(&mut picker, "a"), Err(NoVisit::Full), "somebody waits for it");
    assert!(picker.pick_visited_in_line(tag("a"), world.now).is_ok());
    drain(&mut world, "a", None);
    assert_eq!(visit(&mut picker, "a").as_deref(), Ok("a"), "nobody waits for one that drains");
    drop(place);
    assert_eq!(visit(&mut picker, "b").as_deref(), Ok("b"));
}

#[test]
fn visits_hold_the_drain_up_and_are_counted_for_a_minute() {
    let mut world = world(&["a", "b"]);
    drain(&mut world, "b", None);
    let mut picker = world.pool.picker();
    let id = BackendId::new("b");
    let ticket = picker.pick_visited(tag("b"), world.now).unwrap();
    assert!(world.pool.is_draining(&id));
    let member = ticket.member().clone();
    drop(ticket);
    assert!(!world.pool.is_draining(&id));
    assert_eq!(member.visits(world.now), 1);
    assert_eq!(member.visits(world.now + SECOND * 70), 0);
}

/// A world in which drains wait for half a minute without a visit.
fn patient(names: &[&str]) -> World {
    let mut world = world(names);
    let pool = Pool::new("default", Policy::RoundRobin, ProbePlan::default(), 42);
    let pool = pool.with_ejection(EjectionPlan::off()).with_tags(tag_of);
    world.pool = pool.with_visitor_idle(SECOND * 30);
    world.discover(names);
    world.run(SECOND, names);
    world
}

#[test]
fn a_drain_waits_until_no_visitor_has_come_for_a_while() {
    let mut world = patient(&["a", "b"]);
    let (id, mut picker) = (BackendId::new("b"), world.pool.picker());
    drain(&mut world, "b", None);
    // Nobody has come back yet who was there before, and may.
    for _ in 0..3 {
        world.run(SECOND * 29, &["a", "b"]);
        assert_eq!(world.effective("b"), Effective::Draining);
        assert!(world.pool.is_draining(&id));
        picker.pick_visited(tag("b"), world.now).unwrap();
    }
    world.run(SECOND * 29, &["a", "b"]);
    assert_eq!(world.effective("b"), Effective::Draining);
    world.run(SECOND, &["a", "b"]);
    assert_eq!(world.effective("b"), Effective::Drained);
    assert!(!world.pool.is_draining(&id));
    let told = "drained: no request is in flight, and no visitor has come for 30 s";
    let count = |world: &World| world.events.iter().filter(|event| *event == told).count();
    assert_eq!(count(&world), 1, "{:?}", world.events);
    // Whoever comes all the same is served, and waited for again.
    picker.pick_visited(tag("b"), world.now).unwrap();
    world.run(SECOND, &["a", "b"]);
    assert_eq!(world.effective("b"), Effective::Draining);
    world.run(SECOND * 30, &["a", "b"]);
    assert_eq!((world.effective("b"), count(&world)), (Effective::Drained, 2));
}

#[test]
fn a_drain_waits_for_visitors_no_longer_than_until_its_deadline_or_maintenance() {
    let mut world = patient(&["a", "b"]);
    drain(&mut world, "b", Some(SECOND * 10));
    let view = world.pool.view();
    assert_eq!(view.backends[1].visitors_until, Some(world.now + SECOND * 10));
    world.run(SECOND * 9, &["a", "b"]);
    assert_eq!(world.effective("b"), Effective::Draining);
    world.run(SECOND, &["a", "b"]);
    assert_eq!(world.effective("b"), Effective::Drained);
    assert!(world.events.iter().any(|event| event == "drained: no request is in flight"));
    world.set("b", Admin::Ready).unwrap();
    drain(&mut world, "b", None);
    assert_eq!(world.effective("b"), Effective::Draining);
    world.set("b", Admin::Maint).unwrap();
    assert!(!world.pool.is_draining(&BackendId::new("b")));
}

#[test]
fn a_drain_does_not_wait_for_visitors_who_cannot_come() {
    let mut world = patient(&["a", "b"]);
    world.run(SECOND * 10, &["a"]);
    drain(&mut world, "b", None);
    assert_eq!(world.effective("b"), Effective::Drained, "it is down");
    world.run(SECOND * 10, &["a", "b"]);
    assert_eq!(world.effective("b"), Effective::Draining, "it is up, and they may come");
}

#[test]
fn weight_zero_waits_for_visitors_too() {
    let mut world = patient(&["a", "b"]);
    let change = Change { weight: Some(0), ..Change::default() };
    world.pool.change(&BackendId::new("b"), &change, world.now).unwrap();
    world.run(SECOND * 29, &["a", "b"]);
    assert_eq!(world.effective("b"), Effective::Draining);
    world.run(SECOND, &["a", "b"]);
    assert_eq!(world.effective("b"), Effective::Drained);
}

#[test]
fn a_deadline_and_the_wait_for_visitors_outlive_a_restart() {
    let mut world = patient(&["a", "b"]);
    drain(&mut world, "b", Some(SECOND * 60));
    world.run(SECOND * 40, &["a", "b"]);
    assert_eq!(world.effective("b"), Effective::Drained, "nobody has come");
    let (intents, now) = (world.intents.clone(), world.now);
    let restarted = |now: Time| {
        let mut world = patient(&[]);
        world.now = now;
        world.pool.restore(intents.clone(), now);
        world.discover(&["a", "b"]);
        world.run(SECOND, &["a", "b"]);
        world
    };
    let mut next = restarted(now);
    assert_eq!(next.effective("b"), Effective::Draining, "who came before is forgotten");
    let mut picker = next.pool.picker();
    assert_eq!(visit(&mut picker, "b").as_deref(), Ok("b"));
    next.run(SECOND * 18, &["a", "b"]);
    assert_eq!(visit(&mut picker, "b").as_deref(), Ok("b"), "a second is left");
    next.run(SECOND, &["a", "b"]);
    assert_eq!(visit(&mut picker, "b"), Err(NoVisit::Unknown));
    assert_eq!(next.effective("b"), Effective::Drained);
    let mut late = restarted(now + SECOND * 3_600);
    assert_eq!(visit(&mut late.pool.picker(), "b"), Err(NoVisit::Unknown), "it had passed");
    assert!(!late.events.iter().any(|event| event.contains("deadline")), "{:?}", late.events);
}

#[test]
fn a_backend_taken_out_may_not_be_visited_by_whoever_is_about_to() {
    let mut world = world(&["a", "b"]);
    let mut picker = world.pool.picker();
    let ticket = picker.pick_visited(tag("b"), world.now).unwrap();
    drain(&mut world, "b", None);
    assert!(picker.may_visit(ticket.member()) && !picker.is_eligible(ticket.member()));
    world.set("b", Admin::Maint).unwrap();
    assert!(!picker.may_visit(ticket.member()));
}

#[test]
fn without_tags_nobody_can_be_visited() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    drain(&mut world, "b", None);
    let mut picker = world.pool.picker();
    for name in ["a", "b"] {
        assert_eq!(visit(&mut picker, name), Err(NoVisit::Unknown));
    }
}
