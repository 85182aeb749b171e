//! A seeded world drives the real pool: backends crash, recover, flap, move to other addresses and
//! come and go; probes get lost; operators change their minds; requests come and go all the while.
//!
//! A shadow model knows what must be true after each step, from nothing but the events that the
//! pool was told: who may be picked, how many tickets are out, and that turns are exact while the
//! set stands. The pool's own invariants are swept in debug builds after each event.
//!
//! A failure names its seed. `EVENKEEL_SEED=7 cargo test -p evenkeel-balance --test simulation`
//! repeats one, `EVENKEEL_SEEDS=10000` runs that many from a random start on.
#![allow(clippy::unwrap_used)] // A helper that fails should panic at the line that was wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use balance::{
    Admin, AttemptFailure, BackendId, Change, Effect, Found, Health, Picker, Policy, Pool,
    ProbeOrder, ProbePlan, ProbeResult, Refused, Ticket, Time,
};
use evenkeel_balance as balance;

/// Seeds of a normal run: two seconds of a debug build.
const SEEDS: u64 = 60;

/// Steps of one world; each lets up to a second pass, so that a world lives some five minutes.
const STEPS: usize = 600;

/// SplitMix64, so that a seed is all there is to repeat a world.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// What is really the case of one instance behind a name.
#[derive(Clone)]
struct Truth {
    address: u8,
    is_alive: bool,
    weight: u32,
}

/// What the model knows the pool was told of one generation.
#[derive(Clone, Default)]
struct Shadow {
    passes: u32,
    failures: u32,
    is_up: bool,
    has_verdict: bool,
}

/// What the model knows an operator wants of a name. It outlives the instance; the worlds are
/// shorter than the time for which the pool keeps it.
#[derive(Clone, Default)]
struct Intent {
    admin: Admin,
    expires: Option<Time>,
    weight: Option<u32>,
    weight_expires: Option<Time>,
}

struct World {
    dice: Dice,
    plan: ProbePlan,
    pool: Pool,
    picker: Picker,
    now: Time,
    /// Who exists, whether or not discovery has told the pool.
    truth: BTreeMap<String, Truth>,
    /// Who the pool was last told of, with the address and weight.
    told: BTreeMap<String, Truth>,
    shadow: BTreeMap<(String, u64), Shadow>,
    intents: BTreeMap<String, Intent>,
    probes: Vec<ProbeOrder>,
    tickets: Vec<Ticket>,
    seen: BTreeSet<&'static str>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut pool = Pool::new("default", Policy::RoundRobin, ProbePlan::default(), seed);
        let picker = pool.picker();
        let mut world = Self {
            dice: Dice(seed),
            plan: ProbePlan::default(),
            pool,
            picker,
            now: Time::START,
            truth: BTreeMap::new(),
            told: BTreeMap::new(),
            shadow: BTreeMap::new(),
            intents: BTreeMap::new(),
            probes: Vec::new(),
            tickets: Vec::new(),
            seen: BTreeSet::new(),
        };
        for index in 0..1 + world.dice.below(8) {
            world.appear(&format!("b{index}"));
        }
        world.discover();
        world
    }

    fn appear(&mut self, name: &str) {
        let truth = Truth {
            address: self.dice.below(5) as u8,
            is_alive: self.dice.percent(80),
            weight: self.dice.one_of(&[1, 1, 1, 2, 3, 0]),
        };
        self.truth.insert(name.to_owned(), truth);
    }

    fn generation(&self, name: &str) -> Option<u64> {
        let view = self.pool.view();
        let found = view.backends.iter().find(|backend| backend.id.as_str() == name);
        found.map(|backend| backend.member.generation())
    }

    /// One event, chosen at random.
    fn step(&mut self) {
        let names: Vec<String> = self.truth.keys().cloned().collect();
        let name = names[self.dice.below(names.len() as u64) as usize].clone();
        match self.dice.below(14) {
            0 => self.crash_or_recover(&name),
            1 => self.move_or_leave(&name),
            2 => self.discover(),
            3 => self.fail_discovery(),
            4 => self.operate(&name),
            5 | 6 => self.fail_attempts(&name),
            7..=9 => self.request(),
            _ => self.finish_requests(),
        }
        let pass = Duration::from_millis(self.dice.below(1_000));
        self.let_pass(pass);
    }

    fn crash_or_recover(&mut self, name: &str) {
        let truth = self.truth.get_mut(name).unwrap();
        truth.is_alive = !truth.is_alive;
        self.seen.insert(if truth.is_alive { "recovery" } else { "crash" });
    }

    fn move_or_leave(&mut self, name: &str) {
        if self.dice.percent(50) && self.truth.len() > 1 {
            self.truth.remove(name);
            self.seen.insert("leaving");
        } else {
            let name = format!("b{}", self.dice.below(10));
            self.appear(&name);
            self.seen.insert("arrival or move");
        }
        if self.dice.percent(70) {
            self.discover();
        }
    }

    fn discover(&mut self) {
        let found = |(name, truth): (&String, &Truth)| Found {
            id: BackendId::new(name),
            addresses: Ok(vec![([10, 0, 0, truth.address], 80).into()]),
            weight: truth.weight,
            is_terminating: false,
        };
        let before: BTreeMap<String, u64> = self
            .told
            .keys()
            .filter_map(|name| Some((name.clone(), self.generation(name)?)))
            .collect();
        self.pool.discovered(self.truth.iter().map(found).collect(), self.now);
        for (name, truth) in &self.truth {
            let generation = self.generation(name).unwrap();
            let is_same = self.told.get(name).is_some_and(|told| told.address == truth.address);
            assert_eq!(before.get(name) == Some(&generation), is_same, "the generation of {name}");
            if !is_same {
                self.shadow.insert((name.clone(), generation), Shadow::default());
            }
        }
        // Of a backend that left or was replaced, only what an operator set for it is kept.
        let stays = |name: &String| {
            let (told, truth) = (self.told.get(name), self.truth.get(name));
            told.zip(truth).is_some_and(|(told, truth)| told.address == truth.address)
        };
        self.intents.retain(|name, intent| {
            stays(name) || intent.admin != Admin::Ready || intent.weight.is_some()
        });
        self.told = self.truth.clone();
    }

    fn fail_discovery(&mut self) {
        let before = self.pool.view().backends.len();
        if self.dice.percent(50) {
            self.pool.discovery_failed("no answer", self.now);
        } else {
            self.pool.discovered(Vec::new(), self.now);
        }
        assert_eq!(self.pool.view().backends.len(), before, "trouble must not empty the pool");
        self.seen.insert("failed look-up");
    }

    fn operate(&mut self, name: &str) {
        let states = [Admin::Ready, Admin::Ready, Admin::Drain, Admin::Maint];
        let state = Some(self.dice.one_of(&states));
        let weight = self.dice.percent(20).then(|| self.dice.below(4) as u32);
        let is_both = self.dice.percent(50);
        let change = Change {
            state: state.filter(|_| weight.is_none() || is_both),
            weight,
            ttl: self.dice.percent(30).then(|| Duration::from_secs(1 + self.dice.below(60))),
            force: self.dice.percent(20),
            ..Change::default()
        };
        let eligible = self.expected_eligible();
        let before = self.view_text();
        let result = self.pool.change(&BackendId::new(name), &change, self.now);
        match result {
            Ok(()) => {
                let generation = self.generation(name).unwrap();
                let intent = self.intents.entry(name.to_owned()).or_default();
                let expires = change.ttl.map(|ttl| self.now + ttl);
                if let Some(state) = change.state {
                    if intent.admin == Admin::Maint && state != Admin::Maint {
                        // It has to pass anew.
                        self.shadow.insert((name.to_owned(), generation), Shadow::default());
                    }
                    (intent.admin, intent.expires) = (state, expires);
                }
                if change.weight.is_some() {
                    (intent.weight, intent.weight_expires) = (change.weight, expires);
                }
                self.seen.insert("change");
            }
            Err(Refused::Unknown) => assert!(!self.told.contains_key(name)),
            Err(Refused::LastUsable { .. }) => {
                assert!(!change.force && eligible.len() == 1 && eligible.contains(name));
                assert_eq!(self.view_text(), before, "a refused change has changed something");
                self.seen.insert("refused change");
            }
            Err(refused @ Refused::BelowFloor { .. }) => panic!("no floor was set: {refused}"),
        }
    }

    fn fail_attempts(&mut self, name: &str) {
        let Some(generation) = self.generation(name) else { return };
        // Sometimes a report comes late, of an instance that is gone.
        let generation =
            if self.dice.percent(20) { generation.wrapping_sub(1) } else { generation };
        let failure = self.dice.one_of(&[AttemptFailure::Refused, AttemptFailure::Unreachable]);
        for _ in 0..1 + self.dice.below(4) {
            self.pool.attempt_failed(&BackendId::new(name), generation, failure, self.now);
            if failure == AttemptFailure::Refused && self.generation(name) == Some(generation) {
                self.count(name, generation, false);
            }
        }
        self.seen.insert("failed attempts");
    }

    /// The model's own reading of rise and fall.
    fn count(&mut self, name: &str, generation: u64, passed: bool) {
        if self.intents.get(name).is_some_and(|intent| intent.admin == Admin::Maint) {
            return;
        }
        let Some(shadow) = self.shadow.get_mut(&(name.to_owned(), generation)) else { return };
        if passed {
            (shadow.passes, shadow.failures) = (shadow.passes + 1, 0);
        } else {
            (shadow.passes, shadow.failures) = (0, shadow.failures + 1);
        }
        if shadow.is_up && shadow.failures >= self.plan.fall {
            (shadow.is_up, shadow.has_verdict) = (false, true);
            self.seen.insert("down");
        } else if !shadow.has_verdict && shadow.passes >= 1 {
            (shadow.is_up, shadow.has_verdict) = (true, true);
            self.seen.insert("first up");
        } else if !shadow.has_verdict && shadow.failures >= self.plan.fall {
            shadow.has_verdict = true;
            self.seen.insert("never up");
        } else if shadow.has_verdict && !shadow.is_up && shadow.passes >= self.plan.rise {
            shadow.is_up = true;
            self.seen.insert("up again");
        }
    }

    fn request(&mut self) {
        let eligible = self.expected_eligible();
        for _ in 0..1 + self.dice.below(20) {
            match self.picker.pick(None) {
                Ok(ticket) => {
                    let name = ticket.member().id().as_str();
                    assert!(eligible.contains(name), "{name} was picked, of {eligible:?}");
                    assert_eq!(Some(ticket.member().generation()), self.generation(name));
                    self.tickets.push(ticket);
                }
                Err(none) => assert!(eligible.is_empty(), "{none:?} with {eligible:?}"),
            }
        }
        self.check_turns(&eligible);
    }

    /// While the set stands, any `sum(weights)` picks give each backend its weight.
    fn check_turns(&mut self, eligible: &BTreeSet<String>) {
        let view = self.pool.view();
        let weights: BTreeMap<String, u32> = view
            .backends
            .iter()
            .filter(|backend| eligible.contains(backend.id.as_str()))
            .map(|backend| (backend.id.to_string(), backend.weight))
            .collect();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..weights.values().sum() {
            let ticket = self.picker.pick(None).unwrap();
            *counts.entry(ticket.member().id().to_string()).or_default() += 1;
        }
        assert_eq!(counts, weights);
    }

    fn finish_requests(&mut self) {
        let keep = self.dice.below(self.tickets.len() as u64 + 1) as usize;
        self.tickets.truncate(keep);
    }

    fn let_pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.pool.deadline(self.now).filter(|deadline| *deadline <= end)
        {
            self.now = deadline.max(self.now);
            self.advance();
        }
        self.now = end;
        self.advance();
        self.check();
    }

    fn advance(&mut self) {
        for name in self.told.keys() {
            let Some(intent) = self.intents.get_mut(name) else { continue };
            let is_over = |end: Option<Time>| end.is_some_and(|end| end <= self.now);
            if is_over(intent.weight_expires) {
                (intent.weight, intent.weight_expires) = (None, None);
                self.seen.insert("expiry of a weight");
            }
            if is_over(intent.expires) {
                if intent.admin == Admin::Maint {
                    let backends = self.pool.view().backends;
                    let found = backends.iter().find(|backend| backend.id.as_str() == name);
                    let generation = found.unwrap().member.generation();
                    self.shadow.insert((name.clone(), generation), Shadow::default());
                }
                (intent.admin, intent.expires) = (Admin::Ready, None);
                self.seen.insert("expiry of a state");
            }
        }
        let before = self.healths();
        self.pool.advance(self.now);
        // The only verdicts that advancing brings are those of probes given up.
        for (key, (health, streak)) in self.healths() {
            if before.get(&key).is_some_and(|(_, was)| streak > *was) && health != Health::Up {
                self.seen.insert("lost probe");
            }
        }
        for effect in self.pool.take_effects() {
            if let Effect::Probe(order) = effect {
                self.answer_probe(order);
            }
        }
    }

    fn healths(&self) -> BTreeMap<(String, u64), (Health, u32)> {
        let view = self.pool.view();
        let health = |backend: &balance::BackendView| {
            let streak = backend.last_probe.as_ref().map_or(0, |last| last.streak);
            ((backend.id.to_string(), backend.member.generation()), (backend.health, streak))
        };
        view.backends.iter().map(health).collect()
    }

    /// Answers at once, and now and then with a late answer of an earlier generation before it.
    fn answer_probe(&mut self, order: ProbeOrder) {
        if self.dice.percent(5)
            && let Some(late) = self.probes.pop()
        {
            let before = self.view_text();
            self.pool.probe_finished(&late, passed(true), self.now);
            assert_eq!(self.view_text(), before, "a late answer has changed something");
            self.seen.insert("late answer");
        }
        let name = order.id.as_str().to_owned();
        let truth = self.truth.get(&name);
        let address = order.addresses.first().map(|address| address.ip().to_string());
        let reaches = |truth: &&Truth| address == Some(format!("10.0.0.{}", truth.address));
        let is_alive = truth.filter(reaches).is_some_and(|truth| truth.is_alive);
        let generation = self.generation(&name).unwrap();
        self.pool.probe_finished(&order, passed(is_alive), self.now);
        self.count(&name, generation, is_alive);
        self.probes.push(order);
    }

    fn expected_eligible(&self) -> BTreeSet<String> {
        let is_eligible = |(name, told): (&String, &Truth)| {
            let generation = self.generation(name)?;
            let shadow = &self.shadow[&(name.clone(), generation)];
            let intent = self.intents.get(name).cloned().unwrap_or_default();
            let weight = intent.weight.unwrap_or(told.weight);
            let may = intent.admin == Admin::Ready && shadow.is_up && weight > 0;
            may.then(|| name.clone())
        };
        self.told.iter().filter_map(is_eligible).collect()
    }

    fn view_text(&self) -> String {
        format!("{:?}", self.pool.view())
    }

    fn check(&self) {
        let view = self.pool.view();
        let eligible: BTreeSet<String> = view
            .backends
            .iter()
            .filter(|backend| backend.eligible)
            .map(|backend| backend.id.to_string())
            .collect();
        assert_eq!(eligible, self.expected_eligible(), "{:#?}", view.backends);
        for backend in &view.backends {
            let generation = backend.member.generation();
            let out =
                self.tickets.iter().filter(|ticket| ticket.member().generation() == generation);
            assert_eq!(
                backend.member.in_flight() as usize,
                out.count(),
                "tickets of {}",
                backend.id
            );
            assert_eq!(backend.reasons.is_empty(), backend.eligible, "{:?}", backend.reasons);
        }
    }
}

fn passed(passed: bool) -> ProbeResult {
    ProbeResult { passed, detail: "seen".to_owned(), duration: Duration::from_millis(1) }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn whatever_happens_the_pool_keeps_its_promises() {
    let (first, count) = match (number("EVENKEEL_SEED"), number("EVENKEEL_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, Some(count)) => {
            let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            (clock.as_nanos() as u64, count)
        }
        (None, None) => (1, SEEDS),
    };
    let mut seen = BTreeSet::new();
    for seed in (0..count).map(|offset| first.wrapping_add(offset)) {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.seen
        });
        match run {
            Ok(more) => seen.extend(more),
            Err(_) => panic!("the world of seed {seed} broke; EVENKEEL_SEED={seed} repeats it"),
        }
    }
    let expected = [
        "crash",
        "recovery",
        "leaving",
        "arrival or move",
        "failed look-up",
        "change",
        "refused change",
        "failed attempts",
        "first up",
        "never up",
        "down",
        "up again",
        "expiry of a state",
        "expiry of a weight",
        "late answer",
    ];
    if count >= SEEDS {
        let missing: Vec<_> = expected.iter().filter(|event| !seen.contains(*event)).collect();
        assert!(missing.is_empty(), "the worlds never came to {missing:?}");
    }
}
