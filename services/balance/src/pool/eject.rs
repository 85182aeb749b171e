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

/// The others fail as much as one backend if their failing share is at least this much of its own.
/// Below one, because their windows hold what was before the trouble began.
const AS_MUCH: f64 = 0.75;

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
        let mut suspects: Vec<(BackendId, Verdict)> = Vec::new();
        let mut passed: Vec<BackendId> = Vec::new();
        for (id, entry) in &mut self.backends {
            if entry.ejection.sample(entry.member.counts(), &self.ejection, now) {
                entry.member.set_streak_limit(self.ejection.consecutive);
                passed.push(id.clone());
            }
            // One that nobody has asked since is not judged by what was before: perhaps it was a
            // trouble that all of them shared, of which only that is known.
            let has_failed = entry.ejection.recent().failures > 0;
            let streak = entry.member.take_streak() && has_failed;
            match entry.ejection.verdict(streak, &self.ejection) {
                Some(verdict) if entry.rung().is_some_and(|rung| rung != Rung::Ejected) => {
                    suspects.push((id.clone(), verdict));
                }
                _ => entry.ejection.withheld = None,
            }
        }
        for id in passed {
            self.tell(now, EventKind::Health, Some(&id), "passed its probation");
        }
        // The worst first: not all of them may be ejected.
        suspects.sort_by(|(_, a), (_, b)| b.failing.total_cmp(&a.failing));
        for (id, verdict) in suspects {
            match self.withheld(&id, &verdict) {
                None => self.eject(&id, &verdict, now),
                Some(why) => self.tell_withheld(&id, &verdict, why, now),
            }
        }
    }

    /// Why the pool cannot do without a backend, if it cannot.
    fn withheld(&self, id: &BackendId, verdict: &Verdict) -> Option<Withheld> {
        let in_service = self.backends.values().filter(|entry| entry.is_in_service());
        let others = in_service.clone().filter(|entry| entry.found.id != *id);
        let usable = others.clone().filter(|entry| entry.is_usable()).count();
        let mut recent = Counts::default();
        // Those that are out or down are no others: nobody can send them anything.
        let serving = others.filter(|entry| entry.rung().is_some_and(|rung| rung != Rung::Ejected));
        serving.for_each(|other| {
            let Counts { attempts, failures } = other.ejection.recent();
            recent.attempts = recent.attempts.saturating_add(attempts);
            recent.failures = recent.failures.saturating_add(failures);
        });
        if self.count_out() + 1 > self.ejection.most_out(in_service.count()) {
            Some(Withheld::Share)
        } else if usable < self.ejection.floor {
            Some(Withheld::Floor)
        } else if recent.ratio() >= AS_MUCH * verdict.failing {
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
        entry.ejection.try_again();
        if entry.ejection.withheld.replace(why) == Some(why) {
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

fn counts_as_out(entry: &Entry) -> bool {
    entry.is_in_service() && entry.observed() == Health::Ejected
}
