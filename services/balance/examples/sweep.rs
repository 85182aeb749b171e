//! A thousand simulated hours of the pool in a minute or two, from fresh seeds.
//!
//! `cargo run --profile simulation -p evenkeel-balance --example sweep`: that profile is fast and
//! still sweeps the pool's own invariants. It ends when the hours are lived (`EVENKEEL_HOURS`) or
//! the time is over (`EVENKEEL_SECONDS`), prints what the worlds came to, and fails if a world broke,
//! if something never happened, or if the time was over first. `EVENKEEL_SEED` is the first seed;
//! without it the clock decides.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // It is for a terminal; a wrong variable may panic.

#[path = "../tests/simulation/world/mod.rs"]
mod world;

use std::{
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use world::{Coverage, run};

/// Several times what a thousand hours take on two processors that others use too.
const SECONDS: u64 = 900;

/// What all threads have found so far.
#[derive(Default)]
struct Findings {
    coverage: Coverage,
    passed: u64,
    /// Seeds of worlds that broke, and how.
    failed: Vec<(u64, String)>,
}

fn main() -> ExitCode {
    let hours = number("EVENKEEL_HOURS").unwrap_or(1_000);
    let limit = Duration::from_secs(number("EVENKEEL_SECONDS").unwrap_or(SECONDS));
    let clock = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let first = number("EVENKEEL_SEED").unwrap_or(clock.as_secs() * 1_000_000);
    let (start, next) = (Instant::now(), AtomicU64::new(first));
    let findings = Mutex::new(Findings::default());
    let is_enough = || {
        let lived = findings.lock().unwrap().coverage.simulated;
        lived >= Duration::from_secs(hours * 3_600) || start.elapsed() >= limit
    };
    let live = || {
        while !is_enough() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let result = run(seed);
            let mut findings = findings.lock().unwrap();
            match result {
                Ok(coverage) => {
                    findings.coverage.add(&coverage);
                    findings.passed += 1;
                }
                Err(why) => findings.failed.push((seed, why)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(live)));
    let findings = findings.into_inner().unwrap();
    tell(&findings, hours, first..next.into_inner(), start.elapsed())
}

fn tell(findings: &Findings, wanted: u64, seeds: Range<u64>, took: Duration) -> ExitCode {
    let Findings { coverage, passed, failed } = findings;
    for (event, count) in &coverage.counts {
        println!("{event:<32} {count:>12}");
    }
    for (seed, why) in failed {
        println!("seed {seed} {why}");
        println!(
            "  repeat it: EVENKEEL_SEED={seed} cargo test -p evenkeel-balance --test simulation"
        );
    }
    let missing = coverage.missing();
    if !missing.is_empty() {
        println!("the worlds never came to {missing:?}");
    }
    let hours = coverage.simulated.as_secs() / 3_600;
    let (requests, took) = (coverage.requests, took.as_secs());
    let (first, last) = (seeds.start, seeds.end - 1);
    println!("{hours} h simulated in {took} s, {requests} requests, seeds {first} to {last}");
    if hours < wanted {
        println!("{wanted} h were wanted");
    }
    let broken = failed.len() + missing.len() + usize::from(hours < wanted);
    println!("{passed} passed, {broken} failed");
    if broken == 0 && *passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}
