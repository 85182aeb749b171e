//! The pool as its shell uses it: events in, effects and picks out.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod common;

use std::{collections::BTreeSet, time::Duration};

use balance::{
    Admin, AttemptFailure, BackendId, Change, Effect, Effective, Found, NoBackend, Policy, Pool,
    ProbePlan, Refused, Time,
};
use common::{SECOND, World, counts, found, passed};
use evenkeel_balance as balance;

#[test]
fn a_new_backend_gets_nothing_before_its_first_passing_probe() {
    let mut world = World::with(&["a"]);
    assert_eq!(world.pool.picker().pick(None).unwrap_err(), NoBackend::NoneEligible);
    world.run(SECOND, &["a"]);
    world.discover(&["a", "b"]);
    assert_eq!(world.picks(10), counts(&[("a", 10)]));
    world.run(SECOND, &["a", "b"]);
    assert_eq!(world.picks(10), counts(&[("a", 5), ("b", 5)]));
}

#[test]
fn turns_are_exact_over_threads_while_the_set_stands() {
    let mut world = World::with(&["a", "b", "c"]);
    world.run(SECOND, &["a", "b", "c"]);
    let handles: Vec<_> = (0..8)
        .map(|_| {
            let mut picker = world.pool.picker();
            std::thread::spawn(move || {
                (0..3_000).map(|_| picker.pick(None).unwrap().member().slot()).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut per_slot = [0; 3];
    for handle in handles {
        handle.join().unwrap().into_iter().for_each(|slot| per_slot[slot] += 1);
    }
    assert_eq!(per_slot, [8_000; 3]);
}

#[test]
fn weights_share_out_the_turns_and_can_be_changed() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let change = Change { weight: Some(3), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &change, world.now).unwrap();
    assert_eq!(world.picks(400), counts(&[("a", 300), ("b", 100)]));
}

#[test]
fn a_failing_backend_leaves_and_comes_back_by_itself() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.run(SECOND * 5, &["b"]);
    assert_eq!(world.effective("a"), Effective::Down);
    assert_eq!(world.picks(10), counts(&[("b", 10)]));
    world.run(SECOND * 5, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Serving);
    assert_eq!(world.picks(10), counts(&[("a", 5), ("b", 5)]));
}

#[test]
fn refused_requests_take_a_backend_out_and_ask_for_one_early_look_up() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let (id, generation) = (BackendId::new("a"), world.generation("a"));
    for _ in 0..3 {
        world.pool.attempt_failed(&id, generation, AttemptFailure::Refused, world.now);
    }
    assert_eq!(world.effective("a"), Effective::Down);
    world.run(Duration::ZERO, &["b"]);
    assert_eq!(world.discoveries, 1);
}

#[test]
fn drain_and_maint_end_the_picks_at_once_and_ready_brings_them_back() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let mut picker = world.pool.picker();
    let held: Vec<_> = (0..2).map(|_| picker.pick(None).unwrap()).collect();

    world.set("a", Admin::Drain).unwrap();
    assert_eq!(world.effective("a"), Effective::Draining);
    assert!((0..9).all(|_| picker.pick(None).unwrap().member().id().as_str() == "b"));
    drop(held);
    world.run(SECOND, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Drained);
    assert_eq!(world.events.iter().filter(|event| event.starts_with("drained")).count(), 1);

    world.set("a", Admin::Ready).unwrap();
    assert_eq!(world.picks(10), counts(&[("a", 5), ("b", 5)]), "probes went on while draining");

    world.set("a", Admin::Maint).unwrap();
    assert_eq!(world.picks(10), counts(&[("b", 10)]));
    world.run(SECOND * 60, &["b"]);
    world.set("a", Admin::Ready).unwrap();
    assert_eq!(world.effective("a"), Effective::Checking, "it was not probed meanwhile");
    world.run(SECOND, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Serving);
}

#[test]
fn the_last_usable_backend_is_not_taken_out_unless_forced() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.set("a", Admin::Maint).unwrap();
    assert_eq!(
        world.set("b", Admin::Drain),
        Err(Refused::LastUsable { total: 2, after: Duration::ZERO })
    );
    let zero = Change { weight: Some(0), ..Change::default() };
    let refused = world.pool.change(&BackendId::new("b"), &zero, world.now);
    assert_eq!(refused, Err(Refused::LastUsable { total: 2, after: Duration::ZERO }));
    assert_eq!(world.effective("b"), Effective::Serving);

    world.force("b", Admin::Drain);
    assert_eq!(world.pool.view().eligible(), 0);
}

#[test]
fn a_change_that_leaves_fewer_than_the_floor_is_refused_and_asking_changes_nothing() {
    let mut world = World::with(&["a", "b", "c"]);
    world.run(SECOND, &["a", "b", "c"]);
    let id = BackendId::new("a");
    let change = |floor, force| {
        let state = Some(Admin::Drain);
        Change { state, floor, force, ..Change::default() }
    };
    let below = Refused::BelowFloor { total: 3, left: 2, floor: 3, after: Duration::ZERO };
    assert_eq!(world.pool.change(&id, &change(3, false), world.now), Err(below.clone()));
    assert_eq!(world.pool.check_change(&id, &change(3, false), world.now), Err(below));
    for (floor, force) in [(2, false), (3, true)] {
        assert_eq!(world.pool.check_change(&id, &change(floor, force), world.now), Ok(()));
    }
    assert_eq!(world.effective("a"), Effective::Serving);
    world.pool.change(&id, &change(2, false), world.now).unwrap();
    assert_eq!(world.effective("a"), Effective::Drained);
}

#[test]
fn a_backend_that_is_down_can_be_taken_out_without_force() {
    let mut world = World::with(&["a"]);
    world.run(SECOND * 5, &[]);
    assert_eq!(world.set("a", Admin::Maint), Ok(()));
}

#[test]
fn an_unknown_backend_is_refused() {
    let mut world = World::with(&["a"]);
    assert_eq!(world.set("z", Admin::Drain), Err(Refused::Unknown));
}

#[test]
fn a_change_with_a_time_limit_reverts_by_itself() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let ttl = Some(SECOND * 60);
    let change = Change { state: Some(Admin::Maint), ttl, ..Change::default() };
    world.pool.change(&BackendId::new("a"), &change, world.now).unwrap();
    world.run(SECOND * 59, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Maint);
    world.run(SECOND * 2, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Serving);
}

#[test]
fn health_survives_a_new_look_up_and_the_last_good_set_survives_a_failed_one() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.discover(&["a", "b"]);
    assert_eq!(world.pool.view().eligible(), 2);
    world.pool.discovery_failed("the name does not resolve", world.now);
    assert_eq!(world.pool.view().eligible(), 2);
    world.discover(&[]);
    assert_eq!(world.pool.view().eligible(), 2, "an empty answer is trouble, not an order");
    assert!(world.pool.view().discovery_error.is_some());
    world.discover(&["a", "b"]);
    assert_eq!(world.pool.view().discovery_error, None);
}

#[test]
fn a_backend_that_left_gets_nothing_and_its_late_probe_changes_nothing() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.now = world.pool.deadline(world.now).unwrap() + SECOND;
    let late = world.order("a");
    world.discover(&["b"]);
    assert_eq!(world.picks(10), counts(&[("b", 10)]));
    world.discover(&["a", "b"]);
    world.order("a");
    world.pool.probe_finished(&late, passed(), world.now);
    assert_eq!(world.effective("a"), Effective::Checking, "the new one has to pass itself");
}

#[test]
fn a_probe_from_before_maintenance_says_nothing_about_the_time_after_it() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    world.now = world.pool.deadline(world.now).unwrap() + SECOND;
    let late = world.order("a");
    world.set("a", Admin::Maint).unwrap();
    world.set("a", Admin::Ready).unwrap();
    let own = world.order("a");
    world.pool.probe_finished(&late, passed(), world.now);
    assert_eq!(world.effective("a"), Effective::Checking);
    world.pool.probe_finished(&own, passed(), world.now);
    assert_eq!(world.effective("a"), Effective::Serving);
}

#[test]
fn a_weight_tells_who_set_it_why_and_since_when_apart_from_the_state() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let said = |by: &str, why: &str| Change {
        actor: Some(by.to_owned()),
        reason: Some(why.to_owned()),
        ..Change::default()
    };
    let drain = Change { state: Some(Admin::Drain), ..said("ann", "new disk") };
    world.pool.change(&BackendId::new("a"), &drain, world.now).unwrap();
    world.run(SECOND, &["a", "b"]);
    let set_at = world.now;
    let weight = Change { weight: Some(3), ttl: Some(SECOND), ..said("bob", "half the disks") };
    world.pool.change(&BackendId::new("a"), &weight, world.now).unwrap();
    let a = world.pool.view().backends[0].clone();
    assert_eq!(a.admin_reason.as_deref(), Some("new disk"));
    let set = a.weight_set.unwrap();
    assert_eq!((set.since, set.reason.as_deref()), (set_at, Some("half the disks")));
    assert_eq!((set.actor.as_deref(), a.weight, a.configured_weight), (Some("bob"), 3, 1));
    world.run(SECOND * 2, &["a", "b"]);
    assert!(
        world
            .events
            .contains(&"weight 3 for 1 s, then configured weight: half the disks".to_owned()),
        "{:?}",
        world.events
    );
    let a = world.pool.view().backends[0].clone();
    assert_eq!((a.weight, a.weight_set, a.admin), (1, None, Admin::Drain));
}

#[test]
fn a_backend_of_weight_0_is_drained_only_when_its_last_request_has_ended() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let mut picker = world.pool.picker();
    let held: Vec<_> = (0..2).map(|_| picker.pick(None).unwrap()).collect();
    let change = Change { weight: Some(0), ..Change::default() };
    world.pool.change(&BackendId::new("a"), &change, world.now).unwrap();
    assert_eq!(world.effective("a"), Effective::Draining);
    drop(held);
    assert_eq!(world.effective("a"), Effective::Drained);
}

#[test]
fn an_instance_at_another_address_under_the_same_name_starts_anew() {
    let mut world = World::with(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    let before = world.generation("a");
    let moved = Found { addresses: Ok(vec![([10, 9, 9, 9], 80).into()]), ..found("a") };
    world.pool.discovered(vec![moved, found("b")], world.now);
    assert_ne!(world.generation("a"), before);
    assert_eq!(world.effective("a"), Effective::Checking);
}

#[test]
fn another_instance_at_the_same_address_starts_anew_where_the_source_tells_them_apart() {
    let mut world = World::with(&["a"]);
    let pod = |uid: &str| Found { instance: Some(uid.to_owned()), ..found("a") };
    world.pool.discovered(vec![pod("1")], world.now);
    world.run(SECOND, &["a"]);
    let before = world.generation("a");
    world.pool.discovered(vec![pod("1")], world.now);
    assert_eq!((world.generation("a"), world.effective("a")), (before, Effective::Serving));
    world.pool.discovered(vec![pod("2")], world.now);
    assert_ne!(world.generation("a"), before);
    assert_eq!(world.effective("a"), Effective::Checking);
    assert_eq!(world.pool.view().backends[0].instance.as_deref(), Some("2"));
}

#[test]
fn a_name_that_does_not_resolve_is_down_with_the_reason_until_it_does() {
    let mut world = World::with(&["b"]);
    let error = "the name a does not resolve".to_owned();
    let unresolved = Found { addresses: Err(error.clone()), ..found("a") };
    world.pool.discovered(vec![unresolved, found("b")], world.now);
    world.run(SECOND * 5, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Down);
    assert_eq!(world.pool.view().backends[0].reasons, [error]);
    world.discover(&["a", "b"]);
    world.run(SECOND, &["a", "b"]);
    assert_eq!(world.effective("a"), Effective::Serving);
}

#[test]
fn a_further_attempt_goes_to_a_backend_that_was_not_tried() {
    let mut world = World::with(&["a", "b", "c"]);
    world.run(SECOND, &["a", "b", "c"]);
    let mut picker = world.pool.picker();
    let mut tried = vec![picker.pick(None).unwrap().member().generation()];
    for _ in 0..2 {
        let next = picker.pick_other(None, &tried).unwrap().member().generation();
        assert!(!tried.contains(&next));
        tried.push(next);
    }
    assert_eq!(picker.pick_other(None, &tried).unwrap_err(), NoBackend::AllTried);
}

#[test]
fn every_ticket_is_given_back_when_it_is_dropped() {
    let mut world = World::with(&["a"]);
    world.run(SECOND, &["a"]);
    let mut picker = world.pool.picker();
    let tickets: Vec<_> = (0..5).map(|_| picker.pick(None).unwrap()).collect();
    let member = std::sync::Arc::clone(tickets[0].member());
    assert_eq!(member.in_flight(), 5);
    drop(tickets);
    assert_eq!(member.in_flight(), 0);
}

#[test]
fn a_probe_that_is_never_answered_counts_as_failed() {
    let mut world = World::with(&["a"]);
    world.run(SECOND, &["a"]);
    for _ in 0..20 {
        world.now = world.pool.deadline(world.now).unwrap();
        world.pool.advance(world.now);
        world.pool.take_effects();
    }
    assert_eq!(world.effective("a"), Effective::Down);
}

/// The thread that brings answers stood still, and so did they.
#[test]
fn a_probe_under_way_while_nobody_came_is_awaited_for_longer() {
    let mut world = World::with(&["a"]);
    let order = world.order("a");
    let late = Time::START + ProbePlan::default().give_up + SECOND * 7;
    world.pool.catch_up(late);
    world.pool.advance(late);
    assert_eq!(world.effective("a"), Effective::Checking);
    world.pool.probe_finished(&order, passed(), late);
    assert_eq!(world.effective("a"), Effective::Serving, "its answer counts");
}

#[test]
fn a_probe_is_awaited_no_longer_where_nothing_was_due() {
    let mut world = World::with(&["a"]);
    world.order("a");
    let due = world.pool.deadline(world.now).unwrap();
    assert_eq!(due, Time::START + ProbePlan::default().give_up);
    world.pool.catch_up(due);
    world.pool.advance(due);
    let view = world.pool.view();
    let last = view.backends[0].last_probe.as_ref().map(|last| last.result.passed);
    assert_eq!(last, Some(false), "it is lost");
}

#[test]
fn with_probes_off_backends_serve_from_the_start() {
    let mut pool = Pool::new(
        "default",
        Policy::RoundRobin,
        ProbePlan { enabled: false, ..ProbePlan::default() },
        1,
    );
    pool.discovered(vec![found("a")], Time::START);
    assert!(pool.picker().pick(None).is_ok());
    assert_eq!(pool.deadline(Time::START), None);
}

/// Those of many backends, and of many proxies, would else all come at one moment.
#[test]
fn probes_of_backends_that_came_together_drift_apart() {
    let names: Vec<String> = (0..10).map(|number| format!("b{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::with(&names);
    world.run(SECOND * 60, &names);
    let mut moments = BTreeSet::new();
    let end = world.now + SECOND * 9 / 5;
    while let Some(next) = world.pool.deadline(world.now).filter(|next| *next <= end) {
        world.now = next;
        world.pool.advance(next);
        for effect in world.pool.take_effects() {
            if let Effect::Probe(order) = effect {
                moments.insert(next);
                world.pool.probe_finished(&order, passed(), next);
            }
        }
    }
    assert!(moments.len() > 5, "{moments:?}");
}

#[test]
fn picks_that_take_no_turn_count_whoever_of_the_workers_made_them() {
    for policy in Policy::ALL {
        let plan = ProbePlan { enabled: false, ..ProbePlan::default() };
        let mut pool = Pool::new("default", policy, plan, 7);
        pool.discovered(["a", "b", "c"].map(found).into(), Time::START);
        let mut pickers: Vec<_> = (0..40).map(|_| pool.picker()).collect();
        for key in [None, Some(1), Some(2)] {
            pickers.iter_mut().for_each(|picker| drop(picker.pick(key).unwrap()));
        }
        assert_eq!((pool.picks(), pickers[7].picks()), (120, 120), "{policy:?}");
    }
}
