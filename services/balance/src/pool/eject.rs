//! What the whole pool makes of its backends' outcomes: who is ejected, who may not be, who is back.
//!
//! Ejecting helps only while others can do the work. So at most a share of the backends in service
//! is out at once, some always stay, and where the others fail as much nobody goes: then the
//! trouble lies behind all of them, and taking backends out would add an overload to it
//! (envoyproxy/envoy#12076 and #28304 are what users see otherwise).

use super::{Pool, current};
use crate::{
    backend::BackendId,
    ejection::{EjectionPlan, Verdict, Withheld},
    entry::Entry,
    events::EventKind,
    health::Health,
    outcome::Counts,
    rung::Rung,
    time::Time,
    window::PARTS,
};

/// The others fail as much as one backend if their failing share is at least this much of its own, or
/// if this many of them fail at the moment. Below one, because one of them may do well by
/// chance, and their windows hold what was before the trouble began.
const AS_MUCH: f64 = 0.75;

/// Of the backends in service, what decides whether one of them may be out.
#[derive(Debug, Default)]
struct Sums {
    in_service: usize,
    usable: usize,
    out: usize,
    /// Attempts at those that serve, within their windows.
    recent: Counts,
    /// Those that serve and were asked within their windows.
    asked: usize,
    /// Those of them that fail at the moment.
    failing: usize,
}

impl Pool {
    /// Ejects backends by this plan. To be called before backends are there.
    #[must_use]
    pub fn with_ejection(mut self, plan: EjectionPlan) -> Self {
        self.ejection = plan;
        self
    }

    /// Samples the outcomes that are due, or all of them if one backend's were told, and acts on them.
    pub(super) fn judge_outcomes(&mut self, now: Time, are_told: bool) {
        self.end_ejections(now);
        if !self.ejection.is_on() || (self.next_sample > now && !are_told) {
            return;
        }
        self.next_sample = now + self.ejection.window / PARTS;
        let suspects = self.sample_outcomes(now);
        let mut all = self.sum_up();
        for (id, verdict) in suspects {
            match self.withheld(&id, &verdict, &all) {
                None => {
                    self.eject(&id, &verdict, now);
                    all = self.sum_up();
                }
                Some(why) => self.tell_withheld(&id, &verdict, why, now),
            }
        }
    }

    /// Samples all outcomes. Gives who should be out, the worst first: not all of them may be.
    fn sample_outcomes(&mut self, now: Time) -> Vec<(BackendId, Verdict)> {
        let plan = &self.ejection;
        let mut suspects: Vec<(BackendId, Verdict)> = Vec::new();
        let mut passed: Vec<BackendId> = Vec::new();
        for (id, entry) in &mut self.backends {
            let counts = entry.member.counts();
            if entry.ejection.sample(counts, plan, now) {
                entry.member.set_streak_limit(plan.consecutive);
                passed.push(id.clone());
            }
            // One that nobody has asked since is not judged by what was before: perhaps it was a
            // trouble that all of them shared, of which only that is known.
            let has_failed = entry.ejection.recent().failures > 0;
            let streak = entry.member.take_streak() && has_failed;
            // Once, as workers go on counting.
            entry.ejection.is_failing = has_failed && entry.member.streak() >= plan.part();
            let may_be_out = serves(entry);
            let ejection = &mut entry.ejection;
            match ejection.verdict(streak, plan) {
                // What is excused is known already, and told.
                Some(verdict) if may_be_out => {
                    if !ejection.is_excused(verdict.reason, counts, plan, now) {
                        suspects.push((id.clone(), verdict));
                    }
                }
                // Nobody sends it anything, so that there is nothing to take it out of.
                Some(_) => {}
                None => ejection.clear(),
            }
        }
        for id in passed {
            self.tell(now, EventKind::Health, Some(&id), "passed its probation");
        }
        suspects.sort_by(|(_, a), (_, b)| b.failing.total_cmp(&a.failing));
        suspects
    }

    /// What bears on whether the pool can do without one of them.
    fn sum_up(&self) -> Sums {
        let mut sums = Sums { out: self.count_out(), ..Sums::default() };
        for entry in self.backends.values().filter(|entry| entry.is_in_service()) {
            sums.in_service += 1;
            sums.usable += usize::from(entry.is_usable());
            // Those that are out or down are no others: nobody can send them anything.
            if serves(entry) {
                sums.recent = sums.recent.and(entry.ejection.recent());
                sums.asked += usize::from(is_asked(entry));
                sums.failing += usize::from(is_failing(entry));
            }
        }
        sums
    }

    /// Why the pool cannot do without a backend that serves, if it cannot.
    fn withheld(&self, id: &BackendId, verdict: &Verdict, all: &Sums) -> Option<Withheld> {
        let entry = self.backends.get(id)?;
        let others = all.recent.without(entry.ejection.recent());
        let asked = all.asked - usize::from(is_asked(entry));
        let failing = all.failing - usize::from(is_failing(entry));
        // As a trouble begins, the windows are full of what was before it.
        let fail_now = failing > 0 && failing as f64 >= AS_MUCH * asked as f64;
        if all.out + 1 > self.ejection.most_out(all.in_service) {
            Some(Withheld::Share)
        } else if all.usable - usize::from(entry.is_usable()) < self.ejection.floor {
            Some(Withheld::Floor)
        } else if fail_now || others.ratio() >= AS_MUCH * verdict.failing {
            Some(Withheld::Shared)
        } else {
            None
        }
    }

    /// Backends in service that pass their probes and are out.
    fn count_out(&self) -> usize {
        self.backends.values().filter(|entry| counts_as_out(entry)).count()
    }

    fn eject(&mut self, id: &BackendId, verdict: &Verdict, now: Time) {
        let Self { backends, ejection, random, .. } = self;
        let Some(entry) = backends.get_mut(id) else { return };
        entry.member.begin_term();
        let time = entry.ejection.eject(&verdict.text, ejection, random, now);
        *self.ejections.entry(verdict.reason).or_default() += 1;
        let text = format!("ejected for {:.0} s: {}", time.as_secs_f64(), verdict.text);
        self.tell(now, EventKind::Health, Some(id), &text);
    }

    /// Tells once that a backend is not ejected that should be.
    fn tell_withheld(&mut self, id: &BackendId, verdict: &Verdict, why: Withheld, now: Time) {
        let Some(entry) = self.backends.get_mut(id) else { return };
        if !entry.ejection.withhold(why, entry.member.counts(), now) {
            return;
        }
        *self.withheld.entry(why).or_default() += 1;
        let cause = match why {
            Withheld::Share => "as many are out as may be",
            Withheld::Floor => "too few would be left to serve",
            Withheld::Shared => "the other backends fail as much",
        };
        let text = format!("{}; not ejected, because {cause}", verdict.text);
        self.tell(now, EventKind::Health, Some(id), &text);
    }

    /// Brings back whose time is over.
    fn end_ejections(&mut self, now: Time) {
        let over = |entry: &&Entry| entry.ejection.until().is_some_and(|until| until <= now);
        let over: Vec<BackendId> =
            self.backends.values().filter(over).map(|entry| entry.found.id.clone()).collect();
        for id in over {
            self.bring_back(&id, "back on probation: its ejection is over", now);
        }
    }

    /// Forgives one that was restarted, because it went down and passes its probes again: requests
    /// that were refused before must not eject it now. If it was out, it is back on probation.
    pub(super) fn forgive_restart(&mut self, id: &BackendId, before: Health, now: Time) {
        let Some(entry) = self.backends.get_mut(id) else { return };
        if before != Health::Down || entry.health.health != Health::Up {
            return;
        }
        entry.member.begin_term();
        if entry.ejection.is_out() {
            self.bring_back(id, "back on probation: it was down meanwhile", now);
        } else {
            entry.member.set_streak_limit(entry.ejection.streak_limit(&self.ejection));
            entry.ejection.forget_window(entry.member.counts(), now);
        }
    }

    /// Brings back who would be too many: the share is one of the backends in service, and those
    /// may have become fewer.
    pub(super) fn end_excess_ejections(&mut self, now: Time) {
        let in_service = self.backends.values().filter(|entry| entry.is_in_service()).count();
        let most = self.ejection.most_out(in_service);
        for _ in most..self.count_out() {
            let out = self.backends.values().filter(|entry| counts_as_out(entry));
            let Some(soonest) = out.min_by_key(|entry| entry.ejection.until()) else { return };
            let id = soonest.found.id.clone();
            self.bring_back(&id, "back on probation early: too many of the pool are out", now);
        }
    }

    fn bring_back(&mut self, id: &BackendId, text: &str, now: Time) {
        let Some(entry) = self.backends.get_mut(id) else { return };
        entry.ejection.come_back(entry.member.counts(), now);
        entry.member.set_streak_limit(entry.ejection.streak_limit(&self.ejection));
        self.tell(now, EventKind::Health, Some(id), text);
    }

    /// When the next sample or the end of an ejection is due.
    pub(super) fn ejection_deadline(&self) -> Option<Time> {
        let sampled = self.ejection.is_on() && !self.backends.is_empty();
        let ends = self.backends.values().filter_map(|entry| entry.ejection.until());
        ends.chain(sampled.then_some(self.next_sample)).min()
    }

    pub(super) fn check_ejections(&self) {
        let in_service = self.backends.values().filter(|entry| entry.is_in_service()).count();
        let (out, most) = (self.count_out(), self.ejection.most_out(in_service));
        assert!(out <= most, "{out} of {in_service} are ejected, more than {most}");
    }

    /// Failures in a row were told; whose they are the samples say.
    pub(super) fn streak_told(&mut self, id: &BackendId, generation: u64, now: Time) {
        if current(&mut self.backends, id, generation).is_some() {
            self.judge_outcomes(now, true);
        }
    }
}

/// Whether it serves, and requests came to it within its window.
fn is_asked(entry: &Entry) -> bool {
    serves(entry) && entry.ejection.recent().attempts > 0
}

/// Whether it is asked, and fails at the moment.
fn is_failing(entry: &Entry) -> bool {
    is_asked(entry) && entry.ejection.is_failing
}

/// Whether it may get requests and is not out.
fn serves(entry: &Entry) -> bool {
    entry.rung().is_some_and(|rung| rung != Rung::Ejected)
}

fn counts_as_out(entry: &Entry) -> bool {
    entry.is_in_service() && entry.observed() == Health::Ejected
}
