//! A seeded world drives the real pool: backends crash, hang, slow down, flap, fail in part, ask to
//! be spared and take over each other's addresses; discovery and operators change their minds;
//! probes and reports get lost; time leaps; requests come and go all the while, meet backends that are
//! full and wait in line.
//!
//! A shadow model knows what must be true after each step from nothing but what the pool was told
//! (`check.rs`), and the pool's own invariants are swept in debug builds after each event.
//!
//! A failure names its seed. `EVENKEEL_SEED=7 cargo test -p evenkeel-balance --test simulation`
//! repeats one. `examples/sweep.rs` runs a thousand simulated hours of fresh seeds.
#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

mod world;

use world::{Coverage, run};

/// Seeds of a normal run: some seconds of a debug build.
const SEEDS: u64 = 36;

/// What happens about once in fifty simulated hours: only the sweep must come to it.
const RARE: [&str; 1] = ["back early"];

#[test]
fn whatever_happens_the_pool_keeps_its_promises() {
    let one = std::env::var("EVENKEEL_SEED").ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = one.map_or(1..=SEEDS, |seed| seed..=seed);
    let mut coverage = Coverage::default();
    for seed in seeds {
        match run(seed) {
            Ok(more) => coverage.add(&more),
            Err(why) => panic!("seed {seed} {why}; EVENKEEL_SEED={seed} repeats it"),
        }
    }
    if one.is_none() {
        let mut missing = coverage.missing();
        missing.retain(|event| !RARE.contains(event));
        assert!(missing.is_empty(), "the worlds never came to {missing:?}");
    }
}

#[test]
fn a_seed_is_all_that_it_takes_to_repeat_a_world() {
    assert_eq!(run(5).unwrap(), run(5).unwrap());
}
