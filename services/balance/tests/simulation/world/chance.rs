//! Policies that draw: whom chance may give how much.
//!
//! No single draw is wrong. But the number of times that something happened is near the sum of its
//! probabilities, whatever happened before each draw made of them; so draws are added up over all
//! changes of the set, its weights and its loads, as long as it takes for a wrong share to show.

use std::collections::BTreeMap;

use super::{World, balance::*, choice::Candidate};

/// As many that `least_request` draws by weight where it does not look at all, beside whose turn it is.
const DRAWN: i32 = 15;

/// How often something happened, beside the sum of its probabilities.
#[derive(Default)]
struct Tally {
    seen: f64,
    expected: f64,
    variance: f64,
}

impl Tally {
    fn note(&mut self, has_happened: bool, probability: f64) {
        self.seen += f64::from(u8::from(has_happened));
        self.expected += probability;
        self.variance += probability * (1.0 - probability);
    }

    /// By how much more often it happened than it should at most. Seven standard deviations, and as
    /// chance is not bell-shaped where there is little of it, a dozen: a sum of draws is so far off
    /// less than once in a thousand million times (Bernstein's inequality).
    fn excess(&self) -> f64 {
        self.seen - self.expected - 7.0 * self.variance.sqrt() - 12.0
    }

    /// By how much more seldom than it should at least.
    fn want(&self) -> f64 {
        self.expected - self.seen - 7.0 * self.variance.sqrt() - 12.0
    }
}

/// What chance has given since the world began.
#[derive(Default)]
pub(crate) struct Chance {
    /// Picks by `random`, or by `p2c` while all are as loaded, by generation.
    by_weight: BTreeMap<u64, Tally>,
    /// Picks by `p2c` of the one that is less loaded than all others: at least that often, and at most.
    least_of_two: Tally,
    most_of_two: Tally,
    /// Picks by `least_request` in a large pool of one among the least loaded eighth.
    sampled: Tally,
}

impl World {
    /// What chance gave to a request that might have gone to any of these.
    pub(crate) fn check_chance(&mut self, picked: u64, all: &[Candidate]) {
        let sum: u32 = all.iter().map(|one| one.weight).sum();
        let share = |one: &Candidate| f64::from(one.weight) / f64::from(sum);
        let are_unequal = u64::from(all.iter().any(|one| one.weight != all[0].weight));
        let differs =
            |one: &Candidate| one.is_less_loaded_than(&all[0]) || all[0].is_less_loaded_than(one);
        let are_as_loaded = !all.iter().any(differs);
        match self.policy() {
            policy @ (Policy::Random | Policy::PowerOfTwo)
                if policy == Policy::Random || are_as_loaded =>
            {
                for one in all {
                    let tally = self.chance.by_weight.entry(one.generation).or_default();
                    tally.note(one.generation == picked, share(one));
                    let off = tally.excess().max(tally.want());
                    assert!(off <= 0.0, "{} has not its share of chance", one.generation);
                }
                self.coverage.see_many("a draw of one by weight", are_unequal);
            }
            Policy::PowerOfTwo => {
                let is_least = |one: &&Candidate| {
                    let mut others = all.iter().filter(|it| it.generation != one.generation);
                    others.all(|other| one.is_less_loaded_than(other))
                };
                let Some(least) = all.iter().find(is_least) else { return };
                let is_picked = least.generation == picked;
                // One of two draws meets it. If both meet another one, the second is drawn in some other
                // way, and may be it.
                let one_of_two = 1.0 - (1.0 - share(least)).powi(2);
                let others = all.iter().filter(|one| one.generation != least.generation);
                let twice: f64 = others.map(|one| share(one).powi(2)).sum();
                let Chance { least_of_two, most_of_two, .. } = &mut self.chance;
                least_of_two.note(is_picked, one_of_two);
                most_of_two.note(is_picked, (one_of_two + twice).min(1.0));
                assert!(least_of_two.want() <= 0.0, "the least loaded is drawn too seldom");
                assert!(most_of_two.excess() <= 0.0, "the least loaded is drawn too often");
                self.coverage.see_many("a draw of two by weight", are_unequal);
            }
            Policy::LeastRequest if all.len() > super::choice::SCAN_MOST => {
                let mut by_load: Vec<&Candidate> = all.iter().collect();
                let order = |a: &Candidate, b: &Candidate| {
                    let (a_first, b_first) = (a.is_less_loaded_than(b), b.is_less_loaded_than(a));
                    b_first.cmp(&a_first)
                };
                by_load.sort_by(|a, b| order(a, b));
                let last = by_load[all.len() / 8];
                let mut best = by_load.iter().filter(|one| !last.is_less_loaded_than(one));
                let missed = 1.0 - best.clone().map(|one| share(one)).sum::<f64>();
                let is_picked = best.any(|one| one.generation == picked);
                let sampled = &mut self.chance.sampled;
                sampled.note(is_picked, (1.0 - missed.powi(DRAWN)).clamp(0.0, 1.0));
                assert!(sampled.want() <= 0.0, "the least loaded eighth is met too seldom");
                self.coverage.see("a sample of many");
            }
            _ => {}
        }
    }
}
