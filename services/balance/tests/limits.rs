//! Limits of requests in flight, and the line of those that wait for room.

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use balance::{
    BackendId, Change, Effect, Found, NoBackend, Picker, Policy, Pool, ProbePlan, Ticket, Time,
};
use evenkeel_balance as balance;

/// A pool of backends that need no probe, with so many requests in flight at most.
fn pool(policy: Policy, backends: u8, limit: u32) -> Pool {
    let plan = ProbePlan { enabled: false, ..ProbePlan::default() };
    let mut pool = Pool::new("default", policy, plan, 7).with_max_in_flight(Some(limit));
    let found = |last: u8| {
        Found::new(BackendId::new(&format!("b{last}")), Ok(vec![([10, 0, 0, last], 80).into()]))
    };
    pool.discovered((0..backends).map(found).collect(), Time::START);
    pool
}

fn change(pool: &mut Pool, limit: u32, ttl: Option<Duration>, now: Time) {
    let change = Change { max_in_flight: Some(limit), ttl, ..Change::default() };
    pool.change(&BackendId::new("b0"), &change, now).unwrap();
}

/// Picks until there is no room.
fn fill(picker: &mut Picker) -> Vec<Ticket> {
    std::iter::from_fn(|| picker.pick(Some(7)).ok()).collect()
}

#[test]
fn no_policy_sends_a_backend_more_than_it_may_have() {
    for policy in Policy::ALL {
        let mut pool = pool(policy, 3, 4);
        let mut picker = pool.picker();
        let mut tickets = fill(&mut picker);
        assert_eq!(tickets.len(), 12, "{policy:?}");
        assert!(tickets.iter().all(|ticket| ticket.member().in_flight() == 4), "{policy:?}");
        assert_eq!(picker.pick(None).unwrap_err(), NoBackend::AllFull);
        let generation = tickets[0].member().generation();
        assert_eq!(picker.pick_other(None, &[generation]).unwrap_err(), NoBackend::AllFull);
        let (freed, generation) = {
            let ticket = tickets.remove(5);
            (ticket.member().id().clone(), ticket.member().generation())
        };
        let none = picker.pick_other(None, &[generation]).unwrap_err();
        assert_eq!(none, NoBackend::OthersFull, "who comes next has room there");
        assert_eq!(picker.pick(None).unwrap().member().id(), &freed, "the room was found");
    }
}

#[test]
fn an_operators_limit_holds_at_once_and_goes_back_with_its_ttl() {
    let mut pool = pool(Policy::RoundRobin, 1, 2);
    let mut picker = pool.picker();
    change(&mut pool, 1, Some(Duration::from_secs(60)), Time::START);
    assert_eq!(fill(&mut picker).len(), 1);
    change(&mut pool, 5, Some(Duration::from_secs(60)), Time::START);
    assert_eq!(fill(&mut picker).len(), 5);
    pool.advance(Time::START + Duration::from_secs(60));
    assert_eq!(fill(&mut picker).len(), 2, "the configured one");
    change(&mut pool, 0, None, Time::START);
    assert_eq!(pool.view().backends[0].max_in_flight, None, "0 is no limit");
}

#[test]
fn an_operators_limit_survives_a_restart() {
    let mut before = pool(Policy::RoundRobin, 1, 2);
    change(&mut before, 3, None, Time::START);
    assert!(before.take_effects().contains(&Effect::KeepIntents));
    let mut after = Pool::new("default", Policy::RoundRobin, ProbePlan::default(), 7);
    after.restore(before.standing_intents(), Time::START);
    let found = Found::new(BackendId::new("b0"), Ok(vec![([10, 0, 0, 0], 80).into()]));
    after.discovered(vec![found], Time::START);
    assert_eq!(after.view().backends[0].max_in_flight, Some(3));
}

#[test]
fn a_newcomer_does_not_overtake_those_in_line() {
    let mut pool = pool(Policy::RoundRobin, 1, 1);
    let (mut picker, mut other) = (pool.picker(), pool.picker());
    let ticket = picker.pick(None).unwrap();
    let place = picker.queue().enter(8).unwrap();
    drop(ticket);
    assert_eq!(other.pick(None).unwrap_err(), NoBackend::AllFull, "somebody waits");
    assert!(place.is_first(Waker::noop()) && picker.pick_other(None, &[]).is_ok());
    drop(place);
    assert!(other.pick(None).is_ok());
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Picks as a worker does: at once or in line.
fn take(picker: &mut Picker) -> Ticket {
    if let Ok(ticket) = picker.pick(None) {
        return ticket;
    }
    let place = picker.queue().enter(usize::MAX).unwrap();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if place.is_first(&waker)
            && let Ok(ticket) = picker.pick_other(None, &[])
        {
            return ticket;
        }
        thread::park();
    }
}

#[test]
fn no_wake_up_is_lost_and_no_limit_passed_with_many_threads() {
    const ROUNDS: u32 = 5_000;
    let mut pool = pool(Policy::LeastRequest, 2, 1);
    let serving = [AtomicU32::new(0), AtomicU32::new(0)];
    let pickers: Vec<Picker> = (0..6).map(|_| pool.picker()).collect();
    // Each thread ends only if each of its waits does.
    thread::scope(|scope| {
        for mut picker in pickers {
            let serving = &serving;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let ticket = take(&mut picker);
                    let now = &serving[ticket.member().slot()];
                    assert_eq!(now.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                    now.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(pool.waiting(), 0);
    assert!(pool.view().backends.iter().all(|backend| backend.member.in_flight() == 0));
}
