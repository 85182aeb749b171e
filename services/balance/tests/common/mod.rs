//! A pool with a clock, and a world in which some backends pass their probes.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test file uses a part; a failing helper panics.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_balance::{
    Admin, BackendId, Change, Effect, Effective, EjectionPlan, Found, Policy, Pool, ProbeOrder,
    ProbePlan, ProbeResult, Refused, StandingIntent, Time,
};

pub struct World {
    pub pool: Pool,
    pub now: Time,
    pub events: Vec<String>,
    pub discoveries: usize,
    pub intents: Vec<StandingIntent>,
}

impl World {
    pub fn with(names: &[&str]) -> Self {
        Self::with_ejection(names, EjectionPlan::off())
    }

    pub fn with_ejection(names: &[&str], plan: EjectionPlan) -> Self {
        let mut world = Self::looking_up();
        world.pool = world.pool.with_ejection(plan);
        world.discover(names);
        world
    }

    /// Before the first look-up is answered.
    pub fn looking_up() -> Self {
        Self {
            pool: Pool::new("default", Policy::RoundRobin, ProbePlan::default(), 42),
            now: Time::START,
            events: Vec::new(),
            discoveries: 0,
            intents: Vec::new(),
        }
    }

    pub fn discover(&mut self, names: &[&str]) {
        self.pool.discovered(names.iter().map(|name| found(name)).collect(), self.now);
    }

    /// Lets time pass; probes of `passing` backends pass at once, the others fail.
    pub fn run(&mut self, duration: Duration, passing: &[&str]) {
        let end = self.now + duration;
        loop {
            self.pool.advance(self.now);
            for effect in self.pool.take_effects() {
                match effect {
                    Effect::Probe(order) => {
                        let passed = passing.contains(&order.id.as_str());
                        let detail = "seen".to_owned();
                        let result =
                            ProbeResult { passed, detail, duration: Duration::ZERO, answer: None };
                        self.pool.probe_finished(&order, result, self.now);
                    }
                    Effect::Event(event) => self.events.push(event.message),
                    Effect::Discover => self.discoveries += 1,
                    Effect::KeepIntents => self.intents = self.pool.standing_intents(),
                    Effect::EndTunnels => {}
                }
            }
            match self.pool.deadline(self.now) {
                Some(deadline) if deadline <= end => self.now = deadline.max(self.now),
                _ => break,
            }
        }
        self.now = end;
    }

    /// The probe of a backend that is due now; others are not answered.
    pub fn order(&mut self, name: &str) -> ProbeOrder {
        self.pool.advance(self.now);
        let orders = self.pool.take_effects().into_iter().filter_map(|effect| match effect {
            Effect::Probe(order) if order.id.as_str() == name => Some(order),
            _ => None,
        });
        orders.last().unwrap()
    }

    pub fn picks(&mut self, count: usize) -> BTreeMap<String, usize> {
        let mut picker = self.pool.picker();
        let mut counts = BTreeMap::new();
        for _ in 0..count {
            let ticket = picker.pick(None).unwrap();
            *counts.entry(ticket.member().id().to_string()).or_default() += 1;
        }
        counts
    }

    pub fn set(&mut self, name: &str, state: Admin) -> Result<(), Refused> {
        let change = Change { state: Some(state), ..Change::default() };
        self.pool.change(&BackendId::new(name), &change, self.now)
    }

    pub fn force(&mut self, name: &str, state: Admin) {
        let change = Change { state: Some(state), force: true, ..Change::default() };
        self.pool.change(&BackendId::new(name), &change, self.now).unwrap();
    }

    pub fn effective(&self, name: &str) -> Effective {
        let view = self.pool.view();
        view.backends.iter().find(|backend| backend.id.as_str() == name).unwrap().effective
    }

    pub fn generation(&self, name: &str) -> u64 {
        let view = self.pool.view();
        view.backends.iter().find(|b| b.id.as_str() == name).unwrap().member.generation()
    }
}

/// A backend whose address follows from its name.
pub fn found(name: &str) -> Found {
    let last = name.bytes().last().unwrap();
    let address = ([10, 0, 0, last], 80).into();
    Found::new(BackendId::new(name), Ok(vec![address]))
}

pub fn passed() -> ProbeResult {
    ProbeResult { passed: true, detail: "seen".to_owned(), duration: Duration::ZERO, answer: None }
}

pub const SECOND: Duration = Duration::from_secs(1);

pub fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}
