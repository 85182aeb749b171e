//! Probes: answered at once, later, too late or never.

use std::time::Duration;

use super::{World, balance::*};

/// A probe that was ordered.
pub(crate) struct Pending {
    pub(crate) order: ProbeOrder,
    since: Time,
    /// When the answer comes; never, if it got lost.
    pub(crate) due: Option<Time>,
    /// The pool no longer waits for it.
    pub(crate) is_given_up: bool,
}

impl World {
    pub(crate) fn order_probe(&mut self, order: ProbeOrder) {
        let name = order.id.as_str();
        assert_eq!(Some(order.generation), self.generation(name), "a probe of a stale generation");
        let intent = self.intents.get(name).cloned().unwrap_or_default();
        assert_ne!(intent.admin.now(), Admin::Maint, "{name} is probed in maintenance");
        self.probed.insert(name.to_owned(), self.now);
        let due = match self.dice.below(100) {
            0..=2 => None,
            3 => Some(self.plan.give_up + Duration::from_millis(1 + self.dice.below(1_000))),
            4..=20 => Some(Duration::from_millis(self.dice.below(2_900))),
            _ => Some(Duration::ZERO),
        };
        let (due, since) = (due.map(|delay| self.now + delay), self.now);
        self.probes.push(Pending { order, since, due, is_given_up: false });
    }

    /// Answers those that are due.
    pub(crate) fn answer_probes(&mut self) {
        while let Some(at) =
            self.probes.iter().position(|probe| probe.due.is_some_and(|due| due <= self.now))
        {
            let Pending { order, is_given_up, .. } = self.probes.remove(at);
            let name = order.id.as_str().to_owned();
            let passed = self.behind(&order.addresses, &name).is_some_and(|m| m.passes_probes());
            let is_awaited = !is_given_up && self.generation(&name) == Some(order.generation);
            // What time alone brings about is no work of the answer.
            let before = (!is_awaited).then(|| {
                self.expire_intents();
                self.give_up_probes();
                self.tell(Pool::advance);
                format!("{:?}", self.pool.view())
            });
            if is_awaited {
                self.count(&name, order.generation, passed);
            }
            let (detail, duration) = ("seen".to_owned(), Duration::from_millis(1));
            let result = ProbeResult { passed, detail, duration, answer: None };
            self.tell(|pool, now| pool.probe_finished(&order, result, now));
            if let Some(before) = before {
                let after = format!("{:?}", self.pool.view());
                assert_eq!(after, before, "a late answer has changed something");
            }
        }
    }

    /// Probes are awaited for as much longer as the pool was told nothing though it was due, and a second
    /// more.
    pub(crate) fn catch_up(&mut self) {
        let before = std::mem::replace(&mut self.called, self.now);
        let due = self.pool.deadline(before).unwrap_or(self.now).max(before);
        let (late, second) = (self.now.since(due), Duration::from_secs(1));
        self.pool.catch_up(self.now);
        if late < second {
            return;
        }
        for probe in self.probes.iter_mut().filter(|probe| !probe.is_given_up) {
            probe.since = probe.since + late + second;
            if let Some(probed) = self.probed.get_mut(probe.order.id.as_str()) {
                *probed = *probed + second;
            }
            self.coverage.see("probe awaited for longer");
        }
    }

    /// The pool has given up on those probes that it had to, and on no others.
    pub(crate) fn check_lost(&self, view: &PoolView) {
        for backend in &view.backends {
            let last = backend.last_probe.as_ref();
            let is_lost = |last: &&LastProbe| last.result.detail.contains("never answered");
            if let Some(last) = last.filter(is_lost) {
                let lost = self.lost.get(&backend.member.generation());
                assert_eq!(lost, Some(&last.at), "a probe of {} is given up", backend.id);
            }
        }
    }

    /// Those that the pool is about to give up on.
    pub(crate) fn give_up_probes(&mut self) {
        self.catch_up();
        let mut lost = Vec::new();
        for probe in &mut self.probes {
            if !probe.is_given_up && probe.since + self.plan.give_up <= self.now {
                probe.is_given_up = true;
                lost.push((probe.order.id.as_str().to_owned(), probe.order.generation));
            }
        }
        for (name, generation) in lost {
            if self.generation(&name) == Some(generation) {
                self.count(&name, generation, false);
                if self.intents.get(&name).is_none_or(|one| one.admin.now() != Admin::Maint) {
                    self.lost.insert(generation, self.now);
                }
                self.coverage.see("lost probe");
            }
        }
        self.probes.retain(|probe| !(probe.is_given_up && probe.due.is_none()));
    }
}
