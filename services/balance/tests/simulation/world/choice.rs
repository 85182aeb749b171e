//! Who should be chosen among those that may be: what each policy says of a single pick, and of
//! many in a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{World, balance::*, check::Expected};

/// How far above its share of the requests in flight a backend may be before keys go past it, as
/// README has it.
const BOUND: f64 = 1.25;

/// With `least_time`, one pick of so many goes to whose turn it is.
const EXPLORE: u32 = 50;

/// Up to so many backends, `least_request` looks at all.
pub(crate) const SCAN_MOST: usize = 64;

/// One that might have been picked.
pub(crate) struct Candidate {
    pub(crate) generation: u64,
    /// Requests in flight before the pick.
    pub(crate) load: u32,
    pub(crate) weight: u32,
}

impl Candidate {
    /// Whether it has fewer requests for its weight than the other.
    pub(crate) fn is_less_loaded_than(&self, other: &Self) -> bool {
        let (load, other_load) = (u64::from(self.load), u64::from(other.load));
        load * u64::from(other.weight) < other_load * u64::from(self.weight)
    }
}

/// Whom of two a key preferred, and their weights then: a key, the one with the lower generation,
/// the other.
pub(crate) type Preferences = BTreeMap<(u64, u64, u64), (u64, u32, u32)>;

impl World {
    /// What the policy says of this pick, as far as it leaves no or not every choice.
    pub(crate) fn check_choice(&mut self, ticket: &Ticket, key: Option<u64>, tried: &[u64]) {
        let (expected, picked) = (self.expected(), ticket.member().generation());
        if !expected.members.contains(&picked) {
            return; // A last resort is by chance.
        }
        let all: Vec<Candidate> = expected
            .weights
            .iter()
            .map(|(generation, (member, weight))| {
                let is_new = *generation == picked;
                let load = member.in_flight() - u32::from(is_new);
                Candidate { generation: *generation, load, weight: *weight }
            })
            .collect();
        let possible = all.iter().filter(|one| {
            expected.had_room(one.generation, picked) && !tried.contains(&one.generation)
        });
        let possible: Vec<&Candidate> = possible.collect();
        let this = *possible.iter().find(|one| one.generation == picked).expect("it was tried");
        let mut others = possible.iter().filter(|one| one.generation != picked);
        match self.policy() {
            Policy::First => self.check_first(picked, &expected, tried),
            Policy::LeastRequest if all.len() <= SCAN_MOST => {
                let better = others.find(|other| other.is_less_loaded_than(this));
                let better = better.map(|other| other.generation);
                assert_eq!(better, None, "{picked} has more requests");
            }
            Policy::PowerOfTwo => {
                // Of any two, the one that has more is not taken.
                let has_other = possible.len() > 1;
                let is_best_of_two = others.any(|other| !other.is_less_loaded_than(this));
                assert!(!has_other || is_best_of_two, "{picked} has more requests than any other");
            }
            Policy::Hash => {
                if let Some(key) = key {
                    self.check_place(key, picked, &all, &possible);
                    let is_retry = !tried.is_empty() && possible.len() > 1;
                    self.coverage.see_many("a key at a retry", u64::from(is_retry));
                }
            }
            // By turns, or by chance.
            Policy::RoundRobin | Policy::Random | Policy::LeastTime | Policy::LeastRequest => {}
        }
        if possible.len() == all.len() {
            self.check_chance(picked, &all);
        }
    }

    fn check_first(&self, picked: u64, expected: &Expected, tried: &[u64]) {
        if !self.leaving.contains_key(&picked) {
            // The pool was told of them in the order of their names.
            let mut in_order = self.generations.values();
            let may = |of: &&u64| {
                let is_other = expected.members.contains(of) && !tried.contains(of);
                is_other && expected.had_room(**of, picked)
            };
            assert_eq!(in_order.find(may), Some(&picked), "not the first");
        }
    }

    /// Nobody is above the bound while another is not, and of two whose weights stand a key prefers
    /// always the same one, whoever else comes and goes.
    fn check_place(&mut self, key: u64, picked: u64, all: &[Candidate], possible: &[&Candidate]) {
        let in_flight: u32 = all.iter().map(|one| one.load).sum();
        let weights: u32 = all.iter().map(|one| one.weight).sum();
        let share = BOUND * f64::from(in_flight + 1) / f64::from(weights);
        // Six connections of a browser stay together in any case, and two more.
        let bound = |one: &Candidate| (share * f64::from(one.weight)).ceil().max(8.0);
        let is_within = |one: &&&Candidate| f64::from(one.load) < bound(one);
        let mut allowed: Vec<&Candidate> = possible.iter().filter(is_within).copied().collect();
        if allowed.is_empty() {
            allowed = possible.to_vec();
        }
        let this = allowed.iter().find(|one| one.generation == picked);
        let this = this.unwrap_or_else(|| panic!("{picked} is above its bound"));
        for other in allowed.iter().filter(|one| one.generation != picked) {
            let (low, high) =
                if other.generation < picked { (*other, *this) } else { (*this, *other) };
            let two = (key, low.generation, high.generation);
            let now = (picked, low.weight, high.weight);
            let Some(before) = self.preferences.insert(two, now) else { continue };
            self.coverage.see("a key again");
            let is_as_before = before.1 * now.2 == before.2 * now.1;
            assert!(!is_as_before || before.0 == picked, "key {key} preferred {}", before.0);
        }
    }

    /// While the set stands, any `sum(weights)` picks give each backend its weight, or more if it takes
    /// the turns of one that is full; with `least_time` at least that of fifty times as many, however
    /// slow it was.
    pub(crate) fn check_turns(&mut self) {
        if matches!(self.policy(), Policy::Hash | Policy::Random | Policy::PowerOfTwo) {
            return self.check_some();
        }
        // For the latter often enough, without a die that would change all worlds: one that is too slow
        // for any other request is not there at each look.
        let seldom = self.now.since_start().as_secs().is_multiple_of(2);
        let rounds = match self.policy() {
            Policy::RoundRobin => 1,
            Policy::LeastTime if seldom => EXPLORE,
            _ => return,
        };
        let expected = self.expected();
        let picks = expected.weights.values().map(|(_, weight)| *weight).sum::<u32>() * rounds;
        let has_room = |generation: &u64| expected.rooms[generation].is_left();
        let weights: BTreeMap<u64, u32> = expected
            .weights
            .iter()
            .filter(|(generation, _)| has_room(generation))
            .map(|(generation, (_, weight))| (*generation, *weight))
            .collect();
        if weights.is_empty() {
            return;
        }
        let is_one_full = weights.len() < expected.weights.len();
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for _ in 0..picks {
            let ticket = self.pick_first(None).unwrap();
            self.check_limit(&ticket);
            *counts.entry(ticket.member().generation()).or_default() += 1;
            // Nothing is known of how it would have ended.
            assert!(!ticket.note(Outcome::Unknown));
            let member = Arc::clone(ticket.member());
            drop(ticket);
            if let Some(tag) = member.tag() {
                // A visit in between takes no turn.
                *self.picks.entry(expected.rung).or_default() += 1;
                let visit = self.picker.pick_visited(tag, self.now).unwrap();
                // Not a success either, which it would count as without a word.
                assert!(visit.is_visit() && !visit.note(Outcome::Unknown));
                self.visited.insert(member.generation(), self.now);
            }
        }
        self.coverage.see_many("turns beside one that is full", u64::from(is_one_full));
        if rounds == 1 && !is_one_full {
            assert_eq!(counts, weights, "turns are uneven");
        } else {
            let count = |generation| counts.get(generation).copied().unwrap_or_default();
            let starved = weights.iter().find(|(generation, least)| count(generation) < **least);
            assert_eq!(starved, None, "it gets less than its turns: {counts:?}");
            let explored = weights.iter().any(|(generation, least)| count(generation) == *least);
            self.coverage.see_many("nothing but its turns", u64::from(rounds > 1 && explored));
        }
    }

    /// Some keys, or draws, after each change of the set.
    fn check_some(&mut self) {
        for key in 0..8 {
            if let Ok(ticket) = self.pick_first(Some(key)) {
                self.check_pick(&ticket, Some(key), &[]);
                assert!(!ticket.note(Outcome::Unknown));
            }
        }
    }

    /// The members, with the weights of their turns.
    pub(crate) fn weights_of(
        &mut self,
        members: &BTreeSet<u64>,
    ) -> BTreeMap<u64, (Arc<Member>, u32)> {
        let view = self.pool.view();
        let all = || view.backends.iter().chain(&view.leaving);
        let serving = || all().filter(|b| members.contains(&b.member.generation()));
        let climbs = serving().any(|backend| backend.climbed_percent < 100);
        if climbs {
            self.coverage.see("slow start");
        }
        let weight = |b: &BackendView| b.weight * if climbs { b.climbed_percent / 10 } else { 1 };
        let with_weight =
            |b: &BackendView| (b.member.generation(), (Arc::clone(&b.member), weight(b)));
        serving().map(with_weight).collect()
    }
}
