//! One world: a pool, what is really the case, what the pool was told, and the time.
#![allow(dead_code, unreachable_pub)] // The test and the sweep each use a part.

mod chance;
mod check;
mod choice;
mod climb;
mod coverage;
mod dice;
mod limits;
mod line;
mod operator;
mod probes;
mod shadow;
mod traffic;
mod truth;
mod visitors;

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

pub use self::coverage::Coverage;
use self::{
    balance::*,
    chance::Chance,
    check::Expected,
    choice::Preferences,
    climb::Climbs,
    dice::Dice,
    line::Waiting,
    probes::Pending,
    shadow::{Intent, Layers, Shadow},
    traffic::Attempt,
    truth::Truth,
};

pub(crate) mod balance {
    pub(crate) use evenkeel_balance::*;
}

/// Steps of one world. Most let a part of a second pass and some let minutes, so that a world lives
/// for an hour or two.
const STEPS: usize = 500;

/// Of a large one, in which each step takes as long as a hundred of another.
const STEPS_LARGE: usize = 40;

/// Backends of a large world: enough that more than those that `least_request` looks at may serve.
const LARGE: u64 = 110;

/// Runs the world of a seed to its end. The error says when which promise was broken.
pub fn run(seed: u64) -> Result<Coverage, String> {
    let lived = Cell::new(0);
    let world = AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        for _ in 0..if world.is_large { STEPS_LARGE } else { STEPS } {
            world.step();
            lived.set(world.now.since_start().as_secs());
        }
        world.end()
    });
    catch_unwind(world).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it broke");
        format!("after {} simulated seconds: {text}", lived.get())
    })
}

pub(crate) struct World {
    dice: Dice,
    /// Whether it has many backends, and little time.
    is_large: bool,
    /// Whether operators bring backends back for a while and rely on them.
    are_trusting: bool,
    /// What visitors draw from, where backends have tags.
    visitors: Option<Dice>,
    /// What is drawn from where look-ups leave one out now and then.
    forgetful: Option<Dice>,
    /// What is drawn from where backends have few places.
    narrow: Option<Dice>,
    /// The limit of requests in flight for which no operator wants another.
    configured_limit: Option<u32>,
    /// Of those that left, by generation.
    limits_left: BTreeMap<u64, Option<u32>>,
    /// Who waits for a place, or for anybody.
    line: VecDeque<Waiting>,
    /// When the last one came to a generation, or when that arrived.
    visited: BTreeMap<u64, Time>,
    plan: ProbePlan,
    ejection: EjectionPlan,
    slow_start: Duration,
    /// The share of a tier's weight that must serve, or the next one joins.
    tier_least: f64,
    /// For how long since somebody was up requests wait for somebody.
    last_resort: Duration,
    /// When one that was in service and has left was last up.
    left_up: Option<Time>,
    /// How backends are chosen where no operator wants it otherwise.
    configured: Policy,
    /// And what operators want.
    wanted: Layers<Option<Policy>>,
    pool: Pool,
    picker: Picker,
    budget: RetryBudget,
    /// When retries were granted.
    granted: Vec<Time>,
    /// How many requests there had been when, for as long as they count for retries.
    requests: Vec<(Time, u64)>,
    now: Time,
    /// When the pool was told something last.
    called: Time,
    is_busy: bool,
    /// Whether discovery tells instances by more than their addresses.
    tells_instances: bool,
    instances: u64,
    /// Who exists, whether or not discovery has told the pool.
    truth: BTreeMap<String, Truth>,
    /// Who was there before all names moved at once, and may serve on.
    blue: BTreeMap<String, Truth>,
    /// Who the pool was last told of.
    told: BTreeMap<String, Truth>,
    generations: BTreeMap<String, u64>,
    /// What each generation was: its instance, or its address where nobody tells instances.
    identities: BTreeMap<u64, (String, String)>,
    /// Who left and may serve until somebody of the pool can, by generation: its name, until when.
    leaving: BTreeMap<u64, (String, Time)>,
    shadow: BTreeMap<(String, u64), Shadow>,
    intents: BTreeMap<String, Intent>,
    /// When backends left of which operators wanted something.
    gone: BTreeMap<String, Time>,
    /// Of whom a look-up did not name: what it was, since when, and how it fared.
    absent: BTreeMap<String, (String, Time, Shadow)>,
    /// Since when look-ups fail: nobody knows who is there, and nothing is forgotten.
    blind_since: Option<Time>,
    /// When an attempt failed last, by generation, also of those that are gone.
    failed_last: BTreeMap<u64, Time>,
    /// Probes that were ordered and not answered.
    probes: Vec<Pending>,
    /// When a probe of a generation was given up last.
    lost: BTreeMap<u64, Time>,
    /// When each backend was last probed, or began to wait for it.
    probed: BTreeMap<String, Time>,
    /// Who waits for a probe while nobody serves, and since when, by generation.
    sought: BTreeMap<u64, Time>,
    attempts: Vec<Attempt>,
    /// Who should be out, and since when.
    suspects: BTreeMap<u64, Time>,
    /// Who should be picked, until something changes.
    expected: Option<Rc<Expected>>,
    /// What the policy has shown of the order in which keys prefer backends.
    preferences: Preferences,
    /// What chance has given to whom.
    chance: Chance,
    climbs: Climbs,
    /// What the pool told of backends before the model knew them.
    unheard: Vec<Event>,
    /// First picks by the rung that they should have stood on.
    picks: BTreeMap<Rung, u64>,
    coverage: Coverage,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let plan = ProbePlan::default();
        let ejection = match dice.below(4) {
            0 => EjectionPlan { pool_share: 1.0, floor: 0, ..EjectionPlan::default() },
            1 => EjectionPlan { floor: 2, consecutive: 3, ..EjectionPlan::default() },
            2 => EjectionPlan { consecutive: 0, pool_share: 0.3, ..EjectionPlan::default() },
            _ => EjectionPlan::default(),
        };
        let slow_start = Duration::from_secs(dice.one_of(&[0, 0, 10, 60]));
        let tier_least = dice.one_of(&[0.0, 0.0, 0.5, 0.7]);
        let last_resort = Duration::from_secs([3, 0, 30][(seed % 3) as usize]);
        let mut policy = dice.one_of(&[Policy::RoundRobin, Policy::RoundRobin, dice_policy(seed)]);
        let is_large = seed % 12 == 11;
        if is_large {
            policy = [Policy::LeastRequest, Policy::PowerOfTwo][(seed / 12 % 2) as usize];
        }
        let (narrow, configured_limit) = limits::narrow(seed, is_large);
        let mut pool = Pool::new("default", policy, plan.clone(), seed)
            .with_ejection(ejection.clone())
            .with_slow_start(slow_start)
            .with_tier_least(tier_least)
            .with_last_resort(last_resort)
            .with_max_in_flight(configured_limit);
        let visitors = seed.is_multiple_of(3).then_some(Dice(!seed));
        if visitors.is_some() {
            pool = pool.with_tags(visitors::tag).with_visitor_idle(visitors::IDLE);
        }
        let picker = pool.picker();
        let mut world = Self {
            dice,
            is_large,
            are_trusting: seed % 8 == 5,
            visitors,
            forgetful: (seed % 7 == 4).then_some(Dice(seed.rotate_left(16))),
            narrow,
            configured_limit,
            limits_left: BTreeMap::new(),
            line: VecDeque::new(),
            visited: BTreeMap::new(),
            plan,
            ejection,
            slow_start,
            tier_least,
            last_resort,
            left_up: None,
            configured: policy,
            wanted: Layers::default(),
            pool,
            picker,
            budget: RetryBudget::new(0.2),
            granted: Vec::new(),
            requests: vec![(Time::START, 0)],
            now: Time::START,
            called: Time::START,
            is_busy: false,
            tells_instances: seed.is_multiple_of(2),
            instances: 0,
            truth: BTreeMap::new(),
            blue: BTreeMap::new(),
            told: BTreeMap::new(),
            generations: BTreeMap::new(),
            identities: BTreeMap::new(),
            leaving: BTreeMap::new(),
            shadow: BTreeMap::new(),
            intents: BTreeMap::new(),
            gone: BTreeMap::new(),
            absent: BTreeMap::new(),
            blind_since: None,
            failed_last: BTreeMap::new(),
            probes: Vec::new(),
            lost: BTreeMap::new(),
            probed: BTreeMap::new(),
            sought: BTreeMap::new(),
            attempts: Vec::new(),
            suspects: BTreeMap::new(),
            expected: None,
            preferences: Preferences::new(),
            chance: Chance::default(),
            climbs: Climbs::default(),
            unheard: Vec::new(),
            picks: BTreeMap::new(),
            coverage: Coverage::default(),
        };
        for index in 0..if is_large { LARGE } else { 1 + world.dice.below(8) } {
            world.appear(&format!("b{index}"));
        }
        world.discover();
        world
    }

    /// Something happens, requests come and go, some time passes, and all promises are checked.
    fn step(&mut self) {
        let names: Vec<String> = self.truth.keys().cloned().collect();
        let name = names[self.dice.below(names.len() as u64) as usize].clone();
        match self.dice.below(40) {
            0..=3 => self.change_mode(&name),
            4 => self.change_all_modes(),
            5 => self.move_or_leave(&name),
            6 => self.discover(),
            7 => self.fail_discovery(),
            8 => self.operate(&name),
            9 => self.report_late(&name),
            10 | 11 => self.is_busy = !self.is_busy,
            12 => self.change_policy(),
            14 if self.dice.percent(40) => self.switch(),
            13 if self.dice.percent(30) => self.leap(),
            15 if self.are_trusting => self.rely_on_one_for_a_while(&name),
            16..=19 => self.limit(&name),
            _ => {}
        }
        self.leave_one_out();
        self.serve_line_perhaps();
        self.flap();
        let requests = if self.is_busy { 50 + self.dice.below(250) } else { self.dice.below(4) };
        self.request(requests);
        (0..requests / 8 + 1).for_each(|_| self.visit());
        self.serve_line();
        self.check_turns();
        let pass = match self.dice.below(10) {
            0 if !self.is_busy => Duration::from_secs(self.dice.below(300)),
            1 | 2 => Duration::from_millis(self.dice.below(10_000)),
            _ => Duration::from_millis(self.dice.below(100)),
        };
        self.let_pass(if self.is_large { pass.min(Duration::from_millis(300)) } else { pass });
        self.finish_attempts();
        self.leave_line();
        self.serve_line();
        self.check();
    }

    /// Lets time pass; the pool is woken when it wants to be, and probes are answered.
    fn let_pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let answer = self.probes.iter().filter_map(|probe| probe.due).min();
            let next = self.pool.deadline(self.now).into_iter().chain(answer).min();
            self.now = next.map_or(end, |next| next.min(end).max(self.now));
            self.wake();
            if self.now == end {
                break;
            }
        }
        self.coverage.simulated += duration;
    }

    fn wake(&mut self) {
        self.answer_probes();
        self.expire_intents();
        self.give_up_probes();
        self.tell(Pool::advance);
        let deadline = self.pool.deadline(self.now);
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "the pool wants no rest");
        let view = self.pool.view();
        self.check_lost(&view);
        self.check_streaks(&view);
        self.check_climbs(&view);
        self.check_search();
        self.serve_line_perhaps();
    }

    /// Nobody gets any time, as when a machine sleeps.
    fn leap(&mut self) {
        let leap = Duration::from_secs(self.dice.below(1_200));
        let before = self.now;
        self.now = before + leap;
        // When a failure that no sample has seen happened, the pool cannot know.
        let is_unseen = |time: &&mut Time| before.since(**time) <= Duration::from_secs(1);
        let failed = self.shadow.values_mut().flat_map(|shadow| &mut shadow.failed);
        failed.filter(is_unseen).for_each(|time| *time = self.now);
        for shadow in self.shadow.values_mut() {
            shadow.asked_latest = shadow.asked_latest + leap;
            shadow.tripped = shadow.tripped.map(|time| time + leap);
            shadow.prove_anew(&self.ejection, self.now);
        }
        self.failed_last.values_mut().for_each(|time| *time = *time + leap);
        self.sought.clear();
        let late = self.probed.values_mut();
        late.for_each(|time| *time = *time + leap);
        self.suspects.clear();
        self.coverage.see("time leaps");
        self.coverage.simulated += leap;
        self.wake();
    }

    /// Tells the pool something, and hears what it has to say.
    fn tell<T>(&mut self, event: impl FnOnce(&mut Pool, Time) -> T) -> T {
        self.expected = None;
        self.catch_up();
        let answer = event(&mut self.pool, self.now);
        for effect in self.pool.take_effects() {
            match effect {
                Effect::Probe(order) => self.order_probe(order),
                Effect::Event(event) => self.hear(&event),
                _ => {}
            }
        }
        self.end_leaving();
        answer
    }

    /// Whoever left is gone when its time is over, and as soon as somebody of the pool can serve.
    pub(crate) fn end_leaving(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let (now, mut left) = (self.now, std::mem::take(&mut self.leaving));
        let before = left.len();
        left.retain(|_, (name, until)| *until > now && !self.is_unwanted(name));
        self.leaving = left;
        let view = self.pool.view();
        let is_known = |backend: &BackendView| self.generation_is(backend);
        let mut known = view.backends.iter().filter(|backend| is_known(backend));
        if known.any(|backend| self.rung_of(backend) != Rung::Nobody) {
            self.leaving.clear();
        }
        if self.leaving.len() < before {
            self.left_up = Some(now);
        }
    }

    /// Whether whoever has the name now is out of traffic by an operator's or the source's word.
    fn is_unwanted(&self, name: &str) -> bool {
        let intent = self.intents.get(name).cloned().unwrap_or_default();
        let told = self.told.get(name).filter(|_| self.generation(name).is_some());
        let weight = told.map(|told| intent.weight.now().map_or(told.weight, |(weight, _)| weight));
        weight.is_some_and(|weight| weight == 0 || intent.admin.now() != Admin::Ready)
    }

    /// Whether the model has taken in that the pool has this one.
    fn generation_is(&self, backend: &BackendView) -> bool {
        self.generation(backend.id.as_str()) == Some(backend.member.generation())
    }

    /// The policy in force.
    fn policy(&self) -> Policy {
        self.wanted.now().unwrap_or(self.configured)
    }

    fn generation(&self, name: &str) -> Option<u64> {
        self.generations.get(name).copied()
    }

    fn end(mut self) -> Coverage {
        self.line.clear();
        self.attempts.clear();
        self.check();
        for (reason, count) in self.pool.view().ejections {
            let event = match reason {
                EjectReason::ConsecutiveFailures => "ejected: consecutive_failures",
                EjectReason::FailureRatio => "ejected: failure_ratio",
                EjectReason::FailedProbation => "ejected: failed_probation",
            };
            self.coverage.see_many(event, count);
        }
        for (rung, count) in self.pool.view().picks {
            let event = match rung {
                Rung::Up => "rung: up",
                Rung::Degraded => "rung: degraded",
                Rung::Ejected => "rung: ejected",
                Rung::Terminating => "rung: terminating",
                Rung::Queue => "rung: queue",
                Rung::Nobody => "rung: nobody",
            };
            self.coverage.see_many(event, count);
            self.coverage.requests += count;
        }
        self.coverage
    }
}

fn dice_policy(seed: u64) -> Policy {
    Policy::ALL[(seed % Policy::ALL.len() as u64) as usize]
}
