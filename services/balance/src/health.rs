//! What we observe of a backend: probes that pass or fail, and connections that are refused.
//!
//! One failure proves little and one success not much more, so a change takes `fall` failures or
//! `rise` passes in a row; while a verdict is open, probes come faster. A new backend is trusted
//! after its first pass, because it has no history of failing. Connections that workers see
//! refused count like failed probes: nobody listens there, and under load we learn it within
//! milliseconds instead of at the next probe. A connection that *times out* only brings the next
//! probe forward: an overloaded backend looks the same, and taking out one after the other for
//! that would bring the whole pool down.

use std::time::Duration;

use crate::{random::Random, time::Time};

/// How backends are probed.
#[derive(Clone, Debug)]
pub struct ProbePlan {
    /// Without probes every backend counts as up.
    pub enabled: bool,
    /// Between two probes of a backend whose health is settled.
    pub interval: Duration,
    /// Between two probes while a verdict is open.
    pub transition_interval: Duration,
    /// A probe that has not been reported for this long counts as failed.
    pub give_up: Duration,
    /// Failures in a row that take a backend down.
    pub fall: u32,
    /// Passes in a row that bring it back.
    pub rise: u32,
}

/// What the product promises where nothing else is set.
impl Default for ProbePlan {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(2),
            transition_interval: Duration::from_millis(500),
            give_up: Duration::from_secs(3),
            fall: 3,
            rise: 2,
        }
    }
}

/// Interval jitter, so that the probes of many proxies and backends do not fall together.
const JITTER: f64 = 0.1;

/// The observed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// New or back from maintenance; no verdict yet, no traffic.
    Checking,
    /// Passing.
    Up,
    /// Passing, and asking to be spared.
    Degraded,
    /// Failing.
    Down,
    /// Passing, and taken out for a while because requests fail.
    Ejected,
}

impl Health {
    /// The name in JSON, metrics and on the page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Ejected => "ejected",
        }
    }
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// Whether the backend passed.
    pub passed: bool,
    /// What was seen, in words, such as `connection refused`.
    pub detail: String,
    /// How long it took.
    pub duration: Duration,
    /// The answer, if the question was in HTTP and there was one.
    pub answer: Option<ProbeAnswer>,
}

/// What a backend answered to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The status.
    pub code: u16,
    /// The first of its body, in printable characters.
    pub first_bytes: String,
}

/// How an attempt failed, as far as it says something of the backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// Nobody listens at the address.
    Refused,
    /// The connection could not be made otherwise, or broke.
    Unreachable,
    /// It completes a streak of failures, as [`crate::Ticket::note`] said.
    Streak,
}

/// What probes say of one backend, and when it is probed next. Only ever checking, up or down.
#[derive(Clone, Debug)]
pub(crate) struct HealthState {
    pub(crate) health: Health,
    pub(crate) since: Time,
    pub(crate) reason: String,
    pub(crate) last: Option<(Time, ProbeResult)>,
    /// When it ceased to be up, the last time since it was new or back from maintenance.
    pub(crate) was_up: Option<Time>,
    /// Passes or failures in a row, whichever came last.
    pub(crate) passes: u32,
    pub(crate) failures: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The next probe is due at this time.
    Waiting { next: Time, last_start: Option<Time> },
    /// A probe is under way since this time.
    Probing { since: Time, sequence: u64 },
}

impl HealthState {
    pub(crate) fn new(plan: &ProbePlan, now: Time) -> Self {
        let (health, reason) = if plan.enabled {
            (Health::Checking, "waiting for the first probe")
        } else {
            (Health::Up, "probes are off")
        };
        Self {
            health,
            since: now,
            reason: reason.to_owned(),
            last: None,
            was_up: None,
            passes: 0,
            failures: 0,
            phase: Phase::Waiting { next: now, last_start: None },
        }
    }

    /// When something is due: the next probe, or giving up on the one under way.
    pub(crate) fn deadline(&self, plan: &ProbePlan) -> Option<Time> {
        plan.enabled.then(|| match self.phase {
            Phase::Waiting { next, .. } => next,
            Phase::Probing { since, .. } => since + plan.give_up,
        })
    }

    /// When it was last up, if it was since it was new or back from maintenance.
    pub(crate) fn last_up(&self, now: Time) -> Option<Time> {
        if self.health == Health::Up { Some(now) } else { self.was_up }
    }

    /// Brings the next probe forward to when it would be due while a verdict is open, and no more
    /// than that however often it is asked for.
    pub(crate) fn hurry(&mut self, plan: &ProbePlan, now: Time) {
        if let Phase::Waiting { next, last_start } = &mut self.phase
            && *next > now + plan.transition_interval.mul_f64(1.0 + JITTER)
        {
            *next = last_start.map_or(now, |start| start + plan.transition_interval).max(now);
        }
    }

    /// Waits for the probe under way for so much longer.
    pub(crate) fn wait_longer(&mut self, longer: Duration) {
        if let Phase::Probing { since, .. } = &mut self.phase {
            *since = *since + longer;
        }
    }

    /// Starts probe number `sequence` if one is due.
    pub(crate) fn start_probe(&mut self, plan: &ProbePlan, sequence: u64, now: Time) -> bool {
        let due = matches!(self.phase, Phase::Waiting { next, .. } if plan.enabled && next <= now);
        if due {
            self.phase = Phase::Probing { since: now, sequence };
        }
        due
    }

    /// The probe under way, if it has been out for too long to be heard of again.
    pub(crate) fn lost_probe(&self, plan: &ProbePlan, now: Time) -> Option<u64> {
        match self.phase {
            Phase::Probing { since, sequence } if since + plan.give_up <= now => Some(sequence),
            _ => None,
        }
    }

    /// Takes in a result, unless it is of a probe that nobody waits for any more.
    pub(crate) fn probe_finished(
        &mut self,
        sequence: u64,
        result: ProbeResult,
        plan: &ProbePlan,
        random: &mut Random,
        now: Time,
    ) {
        let Phase::Probing { since, sequence: awaited } = self.phase else { return };
        if sequence != awaited {
            return;
        }
        self.count(result.passed);
        let seen = result.detail.clone();
        self.last = Some((now, result));
        self.judge(&seen, plan, now);
        self.wait(since, plan, random, now);
    }

    /// Takes in that a probe could not be made, which says nothing of the backend: it counts as
    /// neither passed nor failed, and the next one is due as after any other.
    pub(crate) fn probe_not_made(
        &mut self,
        sequence: u64,
        plan: &ProbePlan,
        random: &mut Random,
        now: Time,
    ) {
        if let Phase::Probing { since, sequence: awaited } = self.phase
            && sequence == awaited
        {
            self.wait(since, plan, random, now);
        }
    }

    fn wait(&mut self, since: Time, plan: &ProbePlan, random: &mut Random, now: Time) {
        let interval = if self.is_settled(plan) { plan.interval } else { plan.transition_interval };
        let next = now + random.jitter(interval, JITTER);
        // One that was awaited for longer may count as begun later than it has ended.
        self.phase = Phase::Waiting { next, last_start: Some(since.min(now)) };
    }

    pub(crate) fn attempt_failed(&mut self, failure: AttemptFailure, plan: &ProbePlan, now: Time) {
        if !plan.enabled {
            return;
        }
        if failure == AttemptFailure::Refused {
            self.count(false);
            self.judge("requests: connection refused", plan, now);
        }
        // Look sooner, but no more often than in transition, however many requests fail.
        if let Phase::Waiting { next, last_start } = &mut self.phase {
            let soonest = last_start.map_or(now, |start| start + plan.transition_interval);
            *next = (*next).min(soonest.max(now));
        }
    }

    fn count(&mut self, passed: bool) {
        if passed {
            (self.passes, self.failures) = (self.passes.saturating_add(1), 0);
        } else {
            (self.passes, self.failures) = (0, self.failures.saturating_add(1));
        }
    }

    fn judge(&mut self, seen: &str, plan: &ProbePlan, now: Time) {
        let verdict = match self.health {
            Health::Checking if self.passes >= 1 => Health::Up,
            Health::Down if self.passes >= plan.rise => Health::Up,
            Health::Checking | Health::Up if self.failures >= plan.fall => Health::Down,
            unchanged => unchanged,
        };
        if self.health == Health::Up && verdict == Health::Down {
            self.was_up = Some(now);
        }
        if verdict != self.health {
            (self.health, self.since) = (verdict, now);
        }
        self.reason = match (self.health, self.failures, self.passes) {
            (Health::Up, 0, _) => seen.to_owned(),
            (Health::Up, failures, _) => {
                format!("{seen}; {failures} of {} failures that take it down", plan.fall)
            }
            (Health::Down, 0, passes) => {
                format!("{seen}; {passes} of {} passes that bring it back", plan.rise)
            }
            (_, _, _) => seen.to_owned(),
        };
    }

    fn is_settled(&self, plan: &ProbePlan) -> bool {
        match self.health {
            Health::Checking | Health::Degraded | Health::Ejected => false,
            Health::Up => self.failures == 0,
            Health::Down => self.passes == 0 && self.failures > plan.fall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: ProbePlan = ProbePlan {
        enabled: true,
        interval: Duration::from_secs(2),
        transition_interval: Duration::from_millis(500),
        give_up: Duration::from_secs(3),
        fall: 3,
        rise: 2,
    };

    fn probe(state: &mut HealthState, passed: bool, now: &mut Time) {
        *now = state.deadline(&PLAN).unwrap().max(*now);
        assert!(state.start_probe(&PLAN, 1, *now));
        let result = ProbeResult {
            passed,
            detail: "seen".to_owned(),
            duration: Duration::from_millis(1),
            answer: None,
        };
        state.probe_finished(1, result, &PLAN, &mut Random::new(7), *now);
    }

    #[test]
    fn a_probe_that_could_not_be_made_neither_passes_nor_fails() {
        let mut now = Time::START;
        let mut state = HealthState::new(&PLAN, now);
        probe(&mut state, true, &mut now);
        probe(&mut state, false, &mut now);
        for _ in 0..10 {
            now = state.deadline(&PLAN).unwrap();
            assert!(state.start_probe(&PLAN, 2, now));
            state.probe_not_made(1, &PLAN, &mut Random::new(7), now);
            assert!(!state.start_probe(&PLAN, 3, now), "one that nobody waits for changes nothing");
            state.probe_not_made(2, &PLAN, &mut Random::new(7), now);
        }
        assert_eq!((state.health, state.failures), (Health::Up, 1));
        assert!(state.lost_probe(&PLAN, now + PLAN.give_up).is_none());
        assert!(state.deadline(&PLAN).unwrap() <= now + PLAN.interval, "it goes on");
    }

    /// Applies a run of results ('+' passes, '-' fails) and spells the health after each.
    fn run(results: &str) -> String {
        let mut now = Time::START;
        let mut state = HealthState::new(&PLAN, now);
        let mut spelled = String::new();
        for result in results.chars() {
            probe(&mut state, result == '+', &mut now);
            spelled.push(state.health.as_str().chars().next().unwrap());
        }
        spelled
    }

    #[test]
    fn rise_and_fall_decide() {
        let cases = [
            ("+", "u", "a new backend is up at its first pass"),
            ("---", "ccd", "a new backend that fails goes down"),
            ("+--+--", "uuuuuu", "failures count only in a row"),
            ("+---", "uuud", "three failures take it down"),
            ("---+-++", "ccddddu", "passes count only in a row"),
        ];
        for (results, expected, why) in cases {
            assert_eq!(run(results), expected, "{why}");
        }
    }

    #[test]
    fn probes_come_faster_while_a_verdict_is_open() {
        let mut now = Time::START;
        let mut state = HealthState::new(&PLAN, now);
        let mut wait_after = |passed| {
            probe(&mut state, passed, &mut now);
            state.deadline(&PLAN).unwrap().since(now)
        };
        let fast = Duration::from_millis(550);
        assert!(wait_after(true) > Duration::from_millis(1_700), "up and settled");
        assert!(wait_after(false) < fast, "first failure");
        assert!(wait_after(false) < fast && wait_after(false) < fast, "just went down");
        assert!(wait_after(false) > Duration::from_millis(1_700), "down and settled");
        assert!(wait_after(true) < fast, "first pass");
    }

    #[test]
    fn refused_connections_take_a_backend_down_without_waiting_for_probes() {
        let mut now = Time::START;
        let mut state = HealthState::new(&PLAN, now);
        probe(&mut state, true, &mut now);
        for _ in 0..3 {
            state.attempt_failed(AttemptFailure::Refused, &PLAN, now);
        }
        assert_eq!(state.health, Health::Down);
        assert!(state.reason.contains("refused"), "{}", state.reason);
    }

    #[test]
    fn timeouts_of_requests_only_bring_the_next_probe_forward() {
        let mut now = Time::START;
        let mut state = HealthState::new(&PLAN, now);
        probe(&mut state, true, &mut now);
        for _ in 0..100 {
            state.attempt_failed(AttemptFailure::Unreachable, &PLAN, now);
        }
        assert_eq!(state.health, Health::Up);
        let wait = state.deadline(&PLAN).unwrap().since(now);
        assert_eq!(wait, PLAN.transition_interval, "not sooner, however many fail");
    }
}
