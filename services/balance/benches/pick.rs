//! What a pick costs: per policy, by the size of the pool and the number of threads.
//!
//! `cargo bench -p evenkeel-balance` prints nanoseconds per pick, or what several threads do together,
//! and how that compares with the first case of the row. Run it on an idle machine.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // A table for a terminal; a failure should panic.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use balance::{BackendId, Found, Picker, Policy, Pool, ProbePlan, Time};
use evenkeel_balance as balance;

/// Of each thread: with more threads than processors they take turns of some milliseconds, of which
/// each must have many.
const PICKS: u32 = 2_000_000;

/// The best of so many runs: others have met with something else on the machine.
const RUNS: usize = 3;

const O1: [Policy; 3] = [Policy::RoundRobin, Policy::PowerOfTwo, Policy::Random];

fn pool(policy: Policy, backends: u32) -> Pool {
    let plan = ProbePlan { enabled: false, ..ProbePlan::default() };
    let mut pool = Pool::new("default", policy, plan, 7);
    let found = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        Found::new(BackendId::new(&format!("b{number}")), Ok(vec![([10, 0, high, low], 80).into()]))
    };
    pool.discovered((0..backends).map(found).collect(), Time::START);
    pool
}

fn pick_many(picker: &mut Picker) -> Duration {
    let start = Instant::now();
    for key in 0..PICKS {
        drop(std::hint::black_box(picker.pick(Some(key.into())).unwrap()));
    }
    start.elapsed()
}

/// Nanoseconds per pick of a thread.
fn nanoseconds(policy: Policy, backends: u32) -> f64 {
    1e9 / per_second(policy, backends, 1)
}

/// Picks per second of all threads, which pick at the same time.
fn per_second(policy: Policy, backends: u32, threads: usize) -> f64 {
    let mut pool = pool(policy, backends);
    let run = |pool: &mut Pool| {
        let pickers = (0..threads).map(|_| pool.picker());
        together(pickers.map(|mut picker| move || pick_many(&mut picker)).collect())
    };
    (0..RUNS).map(|_| run(&mut pool)).fold(0.0, f64::max)
}

/// Turns per second of threads that do nothing but take them from the counter that all share. No
/// policy that goes by turns can make more picks.
fn turns_per_second(threads: usize) -> f64 {
    let turns = AtomicU64::new(0);
    let take_many = || {
        let start = Instant::now();
        for _ in 0..PICKS {
            std::hint::black_box(turns.fetch_add(1, Ordering::Relaxed));
        }
        start.elapsed()
    };
    (0..RUNS).map(|_| together(vec![take_many; threads])).fold(0.0, f64::max)
}

/// How often per second all threads do what each does [`PICKS`] times. A fair number needs a
/// processor for each thread: those that take turns do not get into each other's way.
fn together(work: Vec<impl FnOnce() -> Duration + Send>) -> f64 {
    let (threads, barrier) = (work.len(), Barrier::new(work.len()));
    let slowest = thread::scope(|scope| {
        let spawn = |work: _| {
            let barrier = &barrier;
            scope.spawn(move || begin_together(barrier, work))
        };
        let spawned: Vec<_> = work.into_iter().map(spawn).collect();
        spawned.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    });
    f64::from(PICKS) * threads as f64 / slowest.as_secs_f64()
}

fn begin_together(barrier: &Barrier, work: impl FnOnce() -> Duration) -> Duration {
    barrier.wait();
    work()
}

fn row(name: &str, unit: &str, cases: &[(u32, f64)]) {
    print!("{name:<14}");
    for (case, number) in cases {
        print!("  {case:>6} {number:6.1} {unit} ({:4.2}x)", number / cases[0].1);
    }
    println!();
}

fn main() {
    println!("one thread, by backends");
    for policy in O1 {
        let cases = [10, 100, 1_000, 10_000].map(|count| (count, nanoseconds(policy, count)));
        row(policy.as_str(), "ns", &cases);
    }
    println!("\n10 backends, the other policies");
    for policy in Policy::ALL.into_iter().filter(|policy| !O1.contains(policy)) {
        row(policy.as_str(), "ns", &[(10, nanoseconds(policy, 10))]);
    }
    println!("\n100 backends, by threads: millions of picks per second of all together");
    for policy in O1 {
        let millions = |threads: u32| per_second(policy, 100, threads as usize) / 1e6;
        row(policy.as_str(), "M/s", &[1, 2, 4, 8].map(|threads| (threads, millions(threads))));
    }
    let millions = |threads: u32| turns_per_second(threads as usize) / 1e6;
    row("a turn alone", "M/s", &[1, 2, 4, 8].map(|threads| (threads, millions(threads))));
}
