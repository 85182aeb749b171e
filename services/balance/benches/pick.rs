//! What a pick costs: per policy, by the size of the pool and the number of threads.
//!
//! `cargo bench -p evenkeel-balance` prints nanoseconds per pick and how they compare with the
//! smallest case of the row. Run it on an idle machine; with more threads than cores, the time is
//! that of a core's share.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // A table for a terminal; a failure should panic.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use balance::{BackendId, Found, Picker, Policy, Pool, ProbePlan, Time};
use evenkeel_balance as balance;

const PICKS: u32 = 200_000;

/// The best of so many runs: others have met with something else on the machine.
const RUNS: usize = 5;

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

/// Nanoseconds per pick of each thread, with all of them picking at the same time.
fn nanoseconds(policy: Policy, backends: u32, threads: usize) -> f64 {
    let mut pool = pool(policy, backends);
    let run = |pool: &mut Pool| {
        let pickers: Vec<Picker> = (0..threads).map(|_| pool.picker()).collect();
        let barrier = Barrier::new(threads);
        let slowest = thread::scope(|scope| {
            let spawned: Vec<_> = pickers
                .into_iter()
                .map(|mut picker| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        pick_many(&mut picker)
                    })
                })
                .collect();
            spawned.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
        });
        slowest.as_nanos() as f64 / f64::from(PICKS)
    };
    (0..RUNS).map(|_| run(&mut pool)).fold(f64::INFINITY, f64::min)
}

fn row(name: &str, cases: impl Iterator<Item = (String, f64)>) {
    let cases: Vec<(String, f64)> = cases.collect();
    let first = cases[0].1;
    print!("{name:<14}");
    for (label, nanoseconds) in cases {
        print!("  {label:>9} {nanoseconds:7.1} ns ({:4.2}x)", nanoseconds / first);
    }
    println!();
}

fn main() {
    println!("one thread, by backends");
    for policy in O1 {
        let cases = [10, 100, 1_000, 10_000]
            .map(|backends| (format!("{backends}"), nanoseconds(policy, backends, 1)));
        row(policy.as_str(), cases.into_iter());
    }
    println!("\n10 backends, the other policies");
    for policy in Policy::ALL.into_iter().filter(|policy| !O1.contains(policy)) {
        row(policy.as_str(), [("10".to_owned(), nanoseconds(policy, 10, 1))].into_iter());
    }
    println!("\n100 backends, by threads");
    for policy in O1 {
        let cases =
            [1, 2, 4, 8].map(|threads| (format!("{threads}"), nanoseconds(policy, 100, threads)));
        row(policy.as_str(), cases.into_iter());
    }
}
