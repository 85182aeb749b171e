//! The `least_time` policy in a world with a virtual clock: what it must do, and what it must not
//! do to a backend that was slow once (traefik/traefik#12306).

#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use balance::{BackendId, Found, Picker, Policy, Pool, ProbePlan, Ticket, Time};
use evenkeel_balance as balance;

const BACKENDS: usize = 5;

/// Between two requests: 250 a second, so that two or three are under way at a time.
const BETWEEN_US: u64 = 4_000;

struct World {
    picker: Picker,
    now_us: u64,
    /// How long each backend takes, and whether it fails.
    takes_us: [u64; BACKENDS],
    fails: [bool; BACKENDS],
    /// Requests under way, by their end.
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    under_way: Vec<Option<(Ticket, u64)>>,
}

/// What happened in some seconds: requests of each backend, and how long each took.
struct Seen {
    counts: [usize; BACKENDS],
    took_us: Vec<u64>,
}

impl Seen {
    /// A backend's requests relative to an equal share.
    fn share(&self, backend: usize) -> f64 {
        let all: usize = self.counts.iter().sum();
        self.counts[backend] as f64 * BACKENDS as f64 / all as f64
    }

    fn percentile_us(&self, percent: usize) -> u64 {
        let mut sorted = self.took_us.clone();
        sorted.sort_unstable();
        sorted[sorted.len() * percent / 100]
    }
}

impl World {
    fn new(policy: Policy) -> Self {
        let plan = ProbePlan { enabled: false, ..ProbePlan::default() };
        let mut pool = Pool::new("default", policy, plan, 11);
        let found = |last: u8| {
            Found::new(BackendId::new(&format!("b{last}")), Ok(vec![([10, 0, 0, last], 80).into()]))
        };
        pool.discovered((0..BACKENDS as u8).map(found).collect(), Time::START);
        Self {
            picker: pool.picker(),
            now_us: 0,
            // Equal servers, as far as real ones are.
            takes_us: [10_000, 10_100, 10_200, 10_300, 10_400],
            fails: [false; BACKENDS],
            ends: BinaryHeap::new(),
            under_way: Vec::new(),
        }
    }

    fn now(&self) -> Time {
        Time::after_start(Duration::from_micros(self.now_us))
    }

    fn run(&mut self, seconds: u64) -> Seen {
        let mut seen = Seen { counts: [0; BACKENDS], took_us: Vec::new() };
        let end = self.now_us + seconds * 1_000_000;
        while self.now_us < end {
            self.finish_until(self.now_us + BETWEEN_US);
            self.picker.tell_time(self.now());
            let ticket = self.picker.pick(None).unwrap();
            let backend = ticket.member().slot();
            let takes = self.takes_us[backend];
            seen.counts[backend] += 1;
            seen.took_us.push(takes);
            self.ends.push(Reverse((self.now_us + takes, self.under_way.len() as u64)));
            self.under_way.push(Some((ticket, takes)));
        }
        seen
    }

    /// Lets time pass and ends the requests that are due.
    fn finish_until(&mut self, until: u64) {
        while let Some(Reverse((at, index))) = self.ends.peek().copied().filter(|e| e.0.0 <= until)
        {
            self.ends.pop();
            self.now_us = at;
            let (ticket, took) = self.under_way[index as usize].take().unwrap();
            let fails = self.fails[ticket.member().slot()];
            ticket.member().answered(Duration::from_micros(took), fails, self.now());
        }
        self.now_us = until;
    }
}

#[test]
fn equal_servers_get_equal_shares() {
    let mut world = World::new(Policy::LeastTime);
    let seen = world.run(6);
    for backend in 0..BACKENDS {
        let share = seen.share(backend);
        assert!((0.8..1.2).contains(&share), "{backend} has {share} of its share");
    }
}

#[test]
fn a_server_that_was_slow_once_is_at_its_share_again_soon() {
    let mut world = World::new(Policy::LeastTime);
    world.run(5);
    world.takes_us[2] *= 10;
    let slow = world.run(10);
    assert!(slow.share(2) < 0.1, "it is spared: {}", slow.share(2));
    assert!(slow.counts[2] >= 2_500 / 50 / BACKENDS, "and tried: {:?}", slow.counts);
    world.takes_us[2] /= 10;
    world.run(15);
    let share = world.run(20).share(2);
    assert!((0.8..1.2).contains(&share), "{share} of its share");
}

#[test]
fn even_a_server_that_is_a_hundred_times_as_slow_is_tried_for_what_it_may_have_become() {
    let mut world = World::new(Policy::LeastTime);
    world.run(5);
    world.takes_us[2] *= 100;
    world.run(1);
    let seen = world.run(10);
    // By its time alone it would get one of forty thousand.
    assert!(seen.counts[2] >= 2_500 / 50 / BACKENDS * 8 / 10, "{:?}", seen.counts);
}

#[test]
fn one_slow_server_does_not_spoil_the_slowest_hundredth_as_with_other_policies() {
    let slowest = |policy| {
        let mut world = World::new(policy);
        world.run(2);
        world.takes_us[0] *= 10;
        // The first moments, in which nobody can know, are not what this is about.
        world.run(1);
        world.run(30).percentile_us(99)
    };
    assert!(slowest(Policy::LeastTime) < 11_000);
    assert_eq!(slowest(Policy::RoundRobin), 100_000);
    assert_eq!(slowest(Policy::LeastRequest), 100_000);
}

#[test]
fn a_server_that_fails_at_once_does_not_look_fast() {
    let mut world = World::new(Policy::LeastTime);
    world.takes_us[1] = 500;
    world.fails[1] = true;
    world.run(1);
    let share = world.run(10).share(1);
    assert!(share < 0.1, "{share} of its share");
}

#[test]
fn load_counts_beside_speed() {
    let mut world = World::new(Policy::LeastTime);
    world.run(2);
    // Requests that never end pile up at nobody in particular.
    let stuck: Vec<Ticket> = (0..200).map(|_| world.picker.pick(None).unwrap()).collect();
    let counts: Vec<u32> = (0..BACKENDS)
        .map(|slot| stuck.iter().filter(|ticket| ticket.member().slot() == slot).count() as u32)
        .collect();
    assert!(counts.iter().all(|count| (25..=60).contains(count)), "{counts:?}");
}

#[test]
fn of_two_backends_the_slow_one_gets_the_lesser_part_however_seldom_requests_come() {
    let plan = ProbePlan { enabled: false, ..ProbePlan::default() };
    let mut pool = Pool::new("default", Policy::LeastTime, plan, 11);
    let found = |name| Found::new(BackendId::new(name), Ok(vec![([10, 0, 0, 1], 80).into()]));
    pool.discovered(vec![found("fast"), found("slow")], Time::START);
    let mut picker = pool.picker();
    let mut now = Time::START;
    let is_slow = |_| {
        now = now + Duration::from_secs(5);
        picker.tell_time(now);
        let ticket = picker.pick(None).unwrap();
        let is_slow = ticket.member().id().as_str() == "slow";
        let took = Duration::from_millis(if is_slow { 1_000 } else { 1 });
        ticket.member().answered(took, false, now + took);
        is_slow
    };
    let slow = (0..1_000).map(is_slow).filter(|is_slow| *is_slow).count();
    // It is asked again once what is known of it has faded, after some 25 s: one request of six.
    assert!(slow <= 200, "{slow} of 1000 went to the slow one");
}
