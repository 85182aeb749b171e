//! Ejection: out of the picks for a while because requests fail, whatever the probes say.
//!
//! A backend may pass its probes and still fail its users: a full disk, a dead database
//! connection, a hung worker. Two signs are heard: failures in a row, which tell of a backend that
//! fails all within a few requests, and a failing share of a window with a minimum volume, which
//! tells of one that fails some (a count alone ejects every busy backend with time,
//! caddyserver/caddy#4949). Each further ejection lasts longer, and is forgiven with time.
//!
//! It comes back on probation: the first failure sends it out again, a few successes end it.
//!
//! What the pool as a whole allows is decided in `pool/eject.rs`.

use std::time::Duration;

use crate::{outcome::Counts, random::Random, time::Time, window::Window};

/// When backends are ejected, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct EjectionPlan {
    /// Failures in a row that eject; 0 is never.
    pub consecutive: u32,
    /// The failing share of the window, above 0 to 1, that ejects; 0 is never.
    pub ratio: f64,
    /// Attempts within the window below which its share says nothing.
    pub volume: u32,
    /// The window's length.
    pub window: Duration,
    /// The first ejection's time, give or take a tenth. The n-th takes n times as long.
    pub time: Duration,
    /// The longest.
    pub time_max: Duration,
    /// The share of the backends in service, 0 to 1, of which no more are out at once.
    pub pool_share: f64,
    /// Backends that must be left to serve, or none is ejected.
    pub floor: usize,
}

/// What the product promises where nothing else is set.
impl Default for EjectionPlan {
    fn default() -> Self {
        Self {
            consecutive: 5,
            ratio: 0.5,
            volume: 20,
            window: Duration::from_secs(10),
            time: Duration::from_secs(10),
            time_max: Duration::from_secs(300),
            pool_share: 0.5,
            floor: 1,
        }
    }
}

impl EjectionPlan {
    /// A plan by which nothing is ever ejected.
    #[must_use]
    pub fn off() -> Self {
        Self { consecutive: 0, ratio: 0.0, ..Self::default() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.consecutive > 0 || self.ratio > 0.0
    }

    /// Of so many backends in service, those that may be out at once.
    pub(crate) fn most_out(&self, in_service: usize) -> usize {
        // The small addition is for shares such as 29 %, which a float has a little too small.
        (self.pool_share * in_service as f64 + 1e-9).floor() as usize
    }

    /// Failures in a row by which a backend takes part in a trouble that all share: fewer than eject, as
    /// one of them comes to those first, and more than one, which may be chance.
    pub(crate) fn part(&self) -> u32 {
        (self.consecutive / 2).max(if self.consecutive == 1 { 1 } else { 2 })
    }

    /// Successes in a row that end a probation: as many as the failures that began it, or as the
    /// product's default if those are not counted.
    fn trial(&self) -> u32 {
        if self.consecutive > 0 { self.consecutive } else { Self::default().consecutive }
    }
}

/// The failures in a row that eject on probation.
const PROBATION_STREAK: u32 = 1;

/// Jitter of the time out, so that those ejected together do not come back together.
const JITTER: f64 = 0.1;

/// Why a backend was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EjectReason {
    /// So many failures in a row.
    ConsecutiveFailures,
    /// So large a share of failures.
    FailureRatio,
    /// A failure on probation.
    FailedProbation,
}

impl EjectReason {
    /// All reasons.
    pub const ALL: [Self; 3] =
        [Self::ConsecutiveFailures, Self::FailureRatio, Self::FailedProbation];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRatio => "failure_ratio",
            Self::FailedProbation => "failed_probation",
        }
    }
}

/// Why a backend was not ejected that would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withheld {
    /// As many are out as may be.
    Share,
    /// Too few would be left.
    Floor,
    /// The others fail as much: ejecting would only move the trouble.
    Shared,
}

impl Withheld {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::Share, Self::Floor, Self::Shared];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Floor => "floor",
            Self::Shared => "shared",
        }
    }
}

/// A backend that should be out.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) reason: EjectReason,
    /// The share of attempts that fail now, to compare it with the others.
    pub(crate) failing: f64,
    pub(crate) text: String,
}

/// One backend's standing.
#[derive(Clone, Debug)]
pub(crate) struct Ejection {
    standing: Standing,
    window: Window,
    /// Ejections that lengthen the next one, as of `counted`.
    count: u32,
    /// When it came back last; ejections are forgiven from then on.
    counted: Time,
    /// What kept it from being ejected, since when that was told.
    withheld: Option<Withheld>,
    /// Whether it failed some times in a row, as of the last sample.
    pub(crate) is_failing: bool,
    /// Its counts when the others failed as much last, and when that was.
    excused: Option<(Counts, Time)>,
}

#[derive(Clone, Debug)]
enum Standing {
    In,
    Out {
        since: Time,
        until: Time,
        text: String,
    },
    /// Since these counts; none begins it anew with the next sample.
    Probation {
        begun: Option<Counts>,
    },
}

impl Ejection {
    pub(crate) fn new(counts: Counts, now: Time) -> Self {
        let window = Window::new(counts, now);
        Self {
            standing: Standing::In,
            window,
            count: 0,
            counted: now,
            withheld: None,
            is_failing: false,
            excused: None,
        }
    }

    pub(crate) fn is_out(&self) -> bool {
        matches!(self.standing, Standing::Out { .. })
    }

    pub(crate) fn is_on_probation(&self) -> bool {
        matches!(self.standing, Standing::Probation { .. })
    }

    /// Since when, until when and why it is out.
    pub(crate) fn out(&self) -> Option<(Time, Time, &str)> {
        match &self.standing {
            Standing::Out { since, until, text } => Some((*since, *until, text)),
            Standing::In | Standing::Probation { .. } => None,
        }
    }

    pub(crate) fn until(&self) -> Option<Time> {
        self.out().map(|(_, until, _)| until)
    }

    /// The failures in a row that are to be told.
    pub(crate) fn streak_limit(&self, plan: &EjectionPlan) -> u32 {
        match self.standing {
            Standing::Probation { .. } => PROBATION_STREAK,
            Standing::In | Standing::Out { .. } => plan.consecutive,
        }
    }

    /// Attempts within the window.
    pub(crate) fn recent(&self) -> Counts {
        self.window.total()
    }

    /// Takes in a sample. True if a probation has ended well.
    pub(crate) fn sample(&mut self, counts: Counts, plan: &EjectionPlan, now: Time) -> bool {
        self.window.add(counts, plan.window, now);
        match self.standing {
            Standing::Probation { begun: None } => {
                self.standing = Standing::Probation { begun: Some(counts) };
                false
            }
            Standing::Probation { begun: Some(begun) } => {
                let since = counts.since(begun);
                let passed = since.failures == 0 && since.successes() >= plan.trial();
                if passed {
                    self.standing = Standing::In;
                } else if since.failures > 0 {
                    // It is ejected for that now, or tries again.
                    self.try_again();
                }
                passed
            }
            Standing::In | Standing::Out { .. } => false,
        }
    }

    /// Whether it should be out. `streak` says that there were failures in a row.
    pub(crate) fn verdict(&self, streak: bool, plan: &EjectionPlan) -> Option<Verdict> {
        let recent = self.recent();
        let verdict = |reason, failing, text| Some(Verdict { reason, failing, text });
        match self.standing {
            Standing::Out { .. } => None,
            Standing::Probation { .. } if streak => {
                verdict(EjectReason::FailedProbation, 1.0, "failed on probation".to_owned())
            }
            Standing::In if streak => {
                let text = format!("{} failures in a row", plan.consecutive);
                verdict(EjectReason::ConsecutiveFailures, 1.0, text)
            }
            _ if plan.ratio > 0.0
                && recent.attempts >= plan.volume
                && recent.ratio() >= plan.ratio =>
            {
                let Counts { attempts, failures } = recent;
                let text = format!("{failures} of {attempts} attempts failed in {:?}", plan.window);
                verdict(EjectReason::FailureRatio, recent.ratio(), text)
            }
            Standing::In | Standing::Probation { .. } => None,
        }
    }

    /// Whether what speaks against it is from when the others failed as much, within the window, and
    /// not enough has come since to say the same.
    pub(crate) fn is_excused(
        &self,
        reason: EjectReason,
        counts: Counts,
        plan: &EjectionPlan,
        now: Time,
    ) -> bool {
        self.excused.is_some_and(|(excused, at)| {
            let since = counts.since(excused);
            now.since(at) < plan.window
                && match reason {
                    EjectReason::ConsecutiveFailures => since.failures < plan.consecutive,
                    EjectReason::FailureRatio => {
                        since.attempts < plan.volume || since.ratio() < plan.ratio
                    }
                    EjectReason::FailedProbation => since.failures < PROBATION_STREAK,
                }
        })
    }

    /// It should be out, and the pool cannot do without it. True if that is news.
    pub(crate) fn withhold(&mut self, why: Withheld, counts: Counts, now: Time) -> bool {
        if why == Withheld::Shared {
            self.excused = Some((counts, now));
        }
        self.withheld.replace(why) != Some(why)
    }

    /// Nothing speaks against it.
    pub(crate) fn clear(&mut self) {
        self.withheld = None;
        self.excused = None;
    }

    /// Out, for longer each time. Gives the time.
    pub(crate) fn eject(
        &mut self,
        text: &str,
        plan: &EjectionPlan,
        random: &mut Random,
        now: Time,
    ) -> Duration {
        let forgiven = now.since(self.counted).div_duration_f64(plan.time).floor() as u32;
        self.count = self.count.saturating_sub(forgiven).saturating_add(1);
        let time = plan.time.saturating_mul(self.count).min(plan.time_max);
        let time = random.jitter(time, JITTER).min(plan.time_max);
        self.standing = Standing::Out { since: now, until: now + time, text: text.to_owned() };
        self.clear();
        time
    }

    /// A probation begins anew, but not at once: the attempt that failed has yet to be counted as one
    /// that ended.
    fn try_again(&mut self) {
        if let Standing::Probation { begun } = &mut self.standing {
            *begun = None;
        }
    }

    /// What was before does not count any more: a probation begins anew.
    pub(crate) fn forget_window(&mut self, counts: Counts, now: Time) {
        self.window = Window::new(counts, now);
        self.try_again();
    }

    /// The same backend was not named for a moment, and its attempts are counted from nothing.
    pub(crate) fn carried_over(mut self, counts: Counts, now: Time) -> Self {
        self.forget_window(counts, now);
        self.clear();
        self
    }

    /// Back, on probation. What was before does not count any more.
    pub(crate) fn come_back(&mut self, counts: Counts, now: Time) {
        self.forget_window(counts, now);
        self.standing = Standing::Probation { begun: Some(counts) };
        self.counted = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Subject {
        ejection: Ejection,
        plan: EjectionPlan,
        random: Random,
        counts: Counts,
        now: Time,
    }

    impl Subject {
        fn new() -> Self {
            let (counts, now) = (Counts::default(), Time::START);
            let (ejection, plan) = (Ejection::new(counts, now), EjectionPlan::default());
            Self { ejection, plan, random: Random::new(7), counts, now }
        }

        fn sample(&mut self, attempts: u32, failures: u32) -> bool {
            self.now = self.now + Duration::from_secs(1);
            self.counts.attempts += attempts;
            self.counts.failures += failures;
            self.ejection.sample(self.counts, &self.plan, self.now)
        }

        fn reason(&self, streak: bool) -> Option<EjectReason> {
            self.ejection.verdict(streak, &self.plan).map(|verdict| verdict.reason)
        }

        fn eject(&mut self) -> f64 {
            let Self { ejection, plan, random, now, .. } = self;
            let time = ejection.eject("why", plan, random, *now);
            *now = *now + time;
            ejection.come_back(self.counts, *now);
            time.as_secs_f64()
        }
    }

    #[test]
    fn a_share_of_failures_ejects_only_with_enough_volume() {
        let mut subject = Subject::new();
        subject.sample(19, 19);
        assert_eq!(subject.reason(false), None);
        subject.sample(1, 0);
        assert_eq!(subject.reason(false), Some(EjectReason::FailureRatio));
        subject.sample(100, 0);
        assert_eq!(subject.reason(false), None, "119 of 120 is no longer half");
    }

    #[test]
    fn each_ejection_takes_longer_up_to_the_longest() {
        let mut subject = Subject::new();
        for n in 1..=40 {
            let expected = f64::from(10 * n).min(300.0);
            let time = subject.eject();
            assert!(time >= expected * 0.9 && time <= (expected * 1.1).min(300.0), "{n}: {time}");
        }
    }

    #[test]
    fn ejections_are_forgiven_with_time() {
        let mut subject = Subject::new();
        (0..5).for_each(|_| _ = subject.eject());
        subject.now = subject.now + Duration::from_secs(30);
        assert!(subject.eject() < 33.1, "three of five are forgiven");
        subject.now = subject.now + Duration::from_secs(3_600);
        assert!(subject.eject() < 11.1);
    }

    #[test]
    fn on_probation_one_failure_is_enough_and_a_few_successes_end_it() {
        let mut subject = Subject::new();
        subject.eject();
        assert_eq!(subject.ejection.streak_limit(&subject.plan), 1);
        assert_eq!(subject.reason(true), Some(EjectReason::FailedProbation));
        assert!(!subject.sample(4, 0));
        assert!(subject.sample(1, 0), "five successes");
        assert_eq!(subject.ejection.streak_limit(&subject.plan), 5);
        assert_eq!(subject.reason(true), Some(EjectReason::ConsecutiveFailures));
    }

    #[test]
    fn nobody_is_ejected_where_both_signs_are_off() {
        let mut subject = Subject { plan: EjectionPlan::off(), ..Subject::new() };
        subject.sample(1_000, 1_000);
        assert_eq!(subject.reason(false), None);
        assert!(!subject.plan.is_on());
    }
}
