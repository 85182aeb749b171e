//! Drains that end: in-flight work counted down, tunnels apart, and a deadline for them.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

use std::time::Duration;

use balance::{Admin, BackendId, Change, Effect, Effective, Found, Policy, Pool, ProbePlan, Time};
use evenkeel_balance as balance;

const DEADLINE: Duration = Duration::from_secs(30);

/// A pool of two backends that need no probe.
fn pool() -> Pool {
    let plan = ProbePlan { enabled: false, ..ProbePlan::default() };
    let mut pool = Pool::new("default", Policy::RoundRobin, plan, 7);
    pool.discovered((0..2).map(found).collect(), Time::START);
    pool
}

fn found(last: u8) -> Found {
    Found::new(BackendId::new(&format!("b{last}")), Ok(vec![([10, 0, 0, last], 80).into()]))
}

/// A look-up does not name b0, and the next one does.
fn flap(pool: &mut Pool, now: Time) {
    pool.discovered(vec![found(1)], now);
    pool.discovered(vec![found(0), found(1)], now);
}

fn set(pool: &mut Pool, state: Admin, deadline: Option<Duration>, now: Time) {
    let change = Change { state: Some(state), deadline, ..Change::default() };
    pool.change(&BackendId::new("b0"), &change, now).unwrap();
}

/// Whether the pool asks for the end of tunnels.
fn asks(pool: &mut Pool, now: Time) -> bool {
    pool.advance(now);
    pool.take_effects().contains(&Effect::EndTunnels)
}

#[test]
fn tunnels_are_counted_within_and_beside_the_requests_in_flight() {
    let mut pool = pool();
    let mut picker = pool.picker();
    let (request, tunnel) = (picker.pick(None).unwrap(), picker.pick(None).unwrap().into_tunnel());
    let counts = || {
        let backends = pool.view().backends;
        backends.iter().map(|b| (b.in_flight, b.tunnels)).collect::<Vec<_>>()
    };
    assert_eq!(counts(), [(1, 0), (1, 1)]);
    drop(tunnel);
    assert_eq!(counts(), [(1, 0), (0, 0)]);
    drop(request);
}

#[test]
fn tunnels_are_to_end_when_the_deadline_of_the_drain_has_passed_and_not_before() {
    let mut pool = pool();
    let tunnel = pool.picker().pick(None).unwrap().into_tunnel();
    assert_eq!(tunnel.member().id().as_str(), "b0");
    let id = BackendId::new("b0");
    set(&mut pool, Admin::Drain, Some(DEADLINE), Time::START);
    let end = Time::START + DEADLINE;
    assert!(pool.is_draining(&id));
    assert!(!asks(
        &mut pool,
        end.since(Time::START)
            .checked_sub(Duration::from_millis(1))
            .map(Time::after_start)
            .unwrap()
    ));
    assert!(!tunnel.must_end());
    assert!(pool.deadline(Time::START).unwrap() <= end, "it will be called in time");
    assert!(asks(&mut pool, end) && tunnel.must_end());
    assert!(!asks(&mut pool, end), "asked once");
    drop(tunnel);
    assert!(!pool.is_draining(&id), "it is drained");
}

#[test]
fn a_backend_that_is_ready_again_keeps_its_tunnels() {
    let mut pool = pool();
    let tunnel = pool.picker().pick(None).unwrap().into_tunnel();
    set(&mut pool, Admin::Drain, Some(DEADLINE), Time::START);
    set(&mut pool, Admin::Ready, None, Time::START);
    assert!(!asks(&mut pool, Time::START + DEADLINE) && !tunnel.must_end());
    set(&mut pool, Admin::Maint, Some(DEADLINE), Time::START);
    assert!(asks(&mut pool, Time::START + DEADLINE) && tunnel.must_end(), "maint may have one too");
    set(&mut pool, Admin::Ready, None, Time::START + DEADLINE);
    assert!(!tunnel.must_end(), "what came through is let be");
}

#[test]
fn another_deadline_gives_tunnels_time_again() {
    let mut pool = pool();
    let tunnel = pool.picker().pick(None).unwrap().into_tunnel();
    set(&mut pool, Admin::Drain, Some(DEADLINE), Time::START);
    let end = Time::START + DEADLINE;
    assert!(asks(&mut pool, end) && tunnel.must_end());
    set(&mut pool, Admin::Drain, Some(DEADLINE), end);
    assert!(!tunnel.must_end());
    assert!(asks(&mut pool, end + DEADLINE) && tunnel.must_end());
}

#[test]
fn a_drain_without_a_deadline_waits_for_tunnels_for_good() {
    let mut pool = pool();
    let tunnel = pool.picker().pick(None).unwrap().into_tunnel();
    set(&mut pool, Admin::Drain, None, Time::START);
    assert!(!asks(&mut pool, Time::START + Duration::from_secs(86_400)) && !tunnel.must_end());
}

#[test]
fn the_deadline_ends_tunnels_of_one_that_discovery_has_dropped_meanwhile() {
    let mut pool = pool();
    let mut picker = pool.picker();
    let tunnels = [(); 2].map(|()| picker.pick(None).unwrap().into_tunnel());
    let of_b0 = tunnels.iter().find(|tunnel| tunnel.member().id().as_str() == "b0").unwrap();
    set(&mut pool, Admin::Drain, Some(DEADLINE), Time::START);
    pool.discovered(vec![found(1)], Time::START);
    let end = Time::START + DEADLINE;
    assert!(pool.deadline(Time::START).unwrap() <= end);
    assert!(!asks(&mut pool, Time::after_start(DEADLINE / 2)) && !of_b0.must_end());
    assert!(asks(&mut pool, end) && of_b0.must_end());
    assert!(!asks(&mut pool, end + DEADLINE), "once");
}

#[test]
fn a_drain_waits_for_what_was_under_way_before_a_look_up_left_its_backend_out() {
    for drains_first in [true, false] {
        let mut pool = pool();
        let tunnel = pool.picker().pick(None).unwrap().into_tunnel();
        if drains_first {
            set(&mut pool, Admin::Drain, Some(DEADLINE), Time::START);
        }
        flap(&mut pool, Time::START);
        flap(&mut pool, Time::START);
        if !drains_first {
            set(&mut pool, Admin::Drain, Some(DEADLINE), Time::START);
        }
        let backend = pool.view().backends.remove(0);
        assert_eq!((backend.effective, backend.in_flight), (Effective::Draining, 1));
        assert!(pool.is_draining(&backend.id));
        let end = Time::START + DEADLINE;
        assert!(!asks(&mut pool, Time::after_start(DEADLINE / 2)) && !tunnel.must_end());
        assert!(asks(&mut pool, end) && tunnel.must_end());
        drop(tunnel);
        pool.advance(end);
        assert_eq!(pool.view().backends[0].effective, Effective::Drained);
    }
}

#[test]
fn a_drain_that_is_taken_back_ends_nothing_of_before_a_look_up_left_its_backend_out() {
    for comes_back_as in [0, 9] {
        let mut pool = pool();
        let tunnel = pool.picker().pick(None).unwrap().into_tunnel();
        set(&mut pool, Admin::Drain, Some(DEADLINE), Time::START);
        pool.discovered(vec![found(1)], Time::START);
        let back = Found { addresses: found(comes_back_as).addresses, ..found(0) };
        pool.discovered(vec![back, found(1)], Time::START);
        set(&mut pool, Admin::Ready, None, Time::START);
        assert!(!asks(&mut pool, Time::START + DEADLINE * 2) && !tunnel.must_end());
    }
}

#[test]
fn another_instance_under_the_same_name_does_not_wait_for_what_the_one_before_has_under_way() {
    let mut pool = pool();
    let tunnel = pool.picker().pick(None).unwrap().into_tunnel();
    let other = Found { addresses: found(9).addresses, ..found(0) };
    pool.discovered(vec![other, found(1)], Time::START);
    set(&mut pool, Admin::Drain, None, Time::START);
    assert_eq!(pool.view().backends[0].effective, Effective::Drained);
    drop(tunnel);
}
