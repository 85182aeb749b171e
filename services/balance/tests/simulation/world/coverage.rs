//! What the worlds came to, so that nobody takes a simulation for a proof in which nothing happened.

use std::{collections::BTreeMap, time::Duration};

/// What every run of some length must come to.
const EXPECTED: [&str; 83] = [
    "a draw of two by weight",
    "a draw of one by weight",
    "a key again",
    "a key at a retry",
    "a sample of many",
    "address used again",
    "all full",
    "arrival or move",
    "back early",
    "back from an absence",
    "back on probation",
    "back to maintenance",
    "backups serve",
    "client left",
    "degraded",
    "discovery failed",
    "down",
    "drain that waits for visitors",
    "drained",
    "ejected for longer",
    "ejected: consecutive_failures",
    "ejected: failed_probation",
    "ejected: failure_ratio",
    "expiry of a limit",
    "expiry of a policy",
    "expiry of a policy on top of another",
    "expiry of a state",
    "expiry of a weight",
    "first up",
    "last resort of a request",
    "limit climbs",
    "limit holds",
    "late word",
    "late word of a policy",
    "leaving",
    "left the line",
    "line too long",
    "look-up of none who may serve",
    "look-up that leaves one out",
    "lost probe",
    "lost report",
    "mode: dead",
    "mode: degraded",
    "mode: failing",
    "mode: hanging",
    "mode: resetting",
    "mode: slow",
    "mode: well",
    "never up",
    "no longer degraded",
    "nothing but its turns",
    "only others find room",
    "operator's change",
    "policy changed",
    "probe awaited for longer",
    "probation passed",
    "refused change",
    "refused for what ends",
    "retry",
    "retry without a budget",
    "room for those in line",
    "rung: degraded",
    "rung: ejected",
    "rung: nobody",
    "rung: queue",
    "rung: terminating",
    "rung: up",
    "served from the line",
    "slow start",
    "slow start climbs",
    "stale report",
    "those that left serve",
    "time leaps",
    "turns beside one that is full",
    "up again",
    "up at the first pass",
    "visit",
    "visit from the line",
    "visit to nobody",
    "visit to one that gets nothing else",
    "visit to one that is full",
    "withheld",
    "word beneath an override",
];

/// Events by name, and how long it all took in the worlds' own time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub counts: BTreeMap<&'static str, u64>,
    pub requests: u64,
    pub simulated: Duration,
}

impl Coverage {
    pub(crate) fn see(&mut self, event: &'static str) {
        self.see_many(event, 1);
    }

    pub(crate) fn see_many(&mut self, event: &'static str, count: u64) {
        debug_assert!(EXPECTED.contains(&event), "{event} is not expected");
        *self.counts.entry(event).or_default() += count;
    }

    pub fn add(&mut self, other: &Self) {
        for (event, count) in &other.counts {
            *self.counts.entry(event).or_default() += count;
        }
        self.requests += other.requests;
        self.simulated += other.simulated;
    }

    /// What should have happened and did not.
    pub fn missing(&self) -> Vec<&'static str> {
        let seen = |event: &&str| self.counts.get(*event).is_some_and(|count| *count > 0);
        EXPECTED.into_iter().filter(|event| !seen(event)).collect()
    }
}
