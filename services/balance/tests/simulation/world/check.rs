//! The promises, checked after each step against what the model knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{World, balance::*, limits::Room, traffic::RETRY_RESERVE};

/// Who should be picked.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) rung: Rung,
    /// The lowest of their tiers.
    tier: u16,
    /// Their generations.
    pub(crate) members: BTreeSet<u64>,
    /// The same, with the weights of their turns.
    pub(crate) weights: BTreeMap<u64, (Arc<Member>, u32)>,
    /// Those who could serve and need not, by rung and tier.
    pub(crate) rest: BTreeMap<u64, (Rung, u16)>,
    /// Those who get nothing but visits.
    pub(crate) visited: BTreeSet<u64>,
    /// What each has room for.
    pub(crate) rooms: BTreeMap<u64, Room>,
}

impl World {
    /// Where a backend stands on the ladder, by the model's reading of probes, operators and
    /// discovery; only whether it is ejected or degraded is the pool's word.
    pub(crate) fn rung_of(&self, backend: &BackendView) -> Rung {
        let name = backend.id.as_str();
        let told = &self.told[name];
        let intent = self.intents.get(name).cloned().unwrap_or_default();
        let is_up = self.shadow[&(name.to_owned(), backend.member.generation())].is_up;
        let weight = intent.weight.now().map_or(told.weight, |(weight, _)| weight);
        if intent.admin.now() != Admin::Ready || !is_up || weight == 0 {
            return Rung::Nobody;
        }
        match backend.health {
            _ if told.is_terminating => Rung::Terminating,
            Health::Up => Rung::Up,
            Health::Degraded => Rung::Degraded,
            Health::Ejected => Rung::Ejected,
            Health::Checking | Health::Down => panic!("{name} is up: {:?}", backend.health),
        }
    }

    pub(crate) fn expected(&mut self) -> Rc<Expected> {
        if self.expected.is_none() {
            let view = self.pool.view();
            let left: Vec<u64> = view.leaving.iter().map(|b| b.member.generation()).collect();
            assert!(self.leaving.keys().eq(&left), "{left:?} left, not {:?}", self.leaving);
            let mut rungs: Vec<(Rung, &BackendView)> =
                view.backends.iter().map(|backend| (self.rung_of(backend), backend)).collect();
            rungs.extend(view.leaving.iter().map(|backend| (Rung::Terminating, backend)));
            if !left.is_empty() {
                self.coverage.see("those that left serve");
            }
            let best = rungs.iter().map(|(rung, _)| *rung).min().unwrap_or_default();
            let rung = if best == Rung::Nobody { self.rung_of_nobody() } else { best };
            let tier = self.lowest_tier(&rungs, rung);
            let (mut members, mut rest) = (BTreeSet::new(), BTreeMap::new());
            for (of, backend) in rungs.into_iter().filter(|(rung, _)| *rung != Rung::Nobody) {
                let generation = backend.member.generation();
                if of == rung && backend.tier <= tier {
                    members.insert(generation);
                } else {
                    rest.insert(generation, (of, backend.tier));
                }
            }
            if members.len() + rest.len() > 0 && tier > 0 {
                self.coverage.see("backups serve");
            }
            let visited = view.backends.iter().filter(|one| self.is_only_visited(one, tier));
            let visited = visited.map(|backend| backend.member.generation());
            let visited = visited.filter(|generation| !members.contains(generation)).collect();
            let weights = self.weights_of(&members);
            let rooms = self.rooms(&view, |generation| members.contains(&generation));
            let expected = Expected { rung, tier, members, weights, rest, visited, rooms };
            self.expected = Some(Rc::new(expected));
        }
        self.expected.clone().unwrap()
    }

    /// Whether requests wait for somebody or are refused, where nobody can serve.
    fn rung_of_nobody(&self) -> Rung {
        let in_service = self.last_up_in_service();
        let last = in_service.values().map(|last| (*last).max(self.left_up)).max().flatten();
        let waits = last.is_some_and(|last| self.now.since(last) < self.last_resort);
        if waits { Rung::Queue } else { Rung::Nobody }
    }

    /// When those in service were last up, by generation; now, if they are.
    pub(crate) fn last_up_in_service(&self) -> BTreeMap<u64, Option<Time>> {
        let wanted = self.generations.iter().filter(|(name, _)| !self.is_unwanted(name));
        let last_up = |(name, generation): (&String, &u64)| {
            let shadow = &self.shadow[&(name.clone(), *generation)];
            (*generation, if shadow.is_up { Some(self.now) } else { shadow.was_up })
        };
        wanted.map(last_up).collect()
    }

    /// While nobody can serve, those in service are looked for as often as while a verdict is open.
    pub(crate) fn check_search(&mut self) {
        let is_dark = self.able().is_empty();
        let is_under_way = |generation: u64| {
            self.probes.iter().any(|p| !p.is_given_up && p.order.generation == generation)
        };
        let waiting = |(name, generation): &(&String, &u64)| {
            is_dark && !self.is_unwanted(name) && !is_under_way(**generation)
        };
        let waiting: Vec<u64> =
            self.generations.iter().filter(waiting).map(|(_, generation)| *generation).collect();
        self.sought.retain(|generation, _| waiting.contains(generation));
        let longest = self.plan.transition_interval.mul_f64(1.1);
        for generation in waiting {
            let since = *self.sought.entry(generation).or_insert(self.now);
            let waits = self.now.since(since);
            assert!(waits <= longest, "generation {generation} is not looked for for {waits:?}");
        }
    }

    /// The model's own reading of how far down tiers serve.
    fn lowest_tier(&self, rungs: &[(Rung, &BackendView)], rung: Rung) -> u16 {
        let mut lowest = 0;
        let tiers: BTreeSet<u16> = rungs.iter().map(|(_, backend)| backend.tier).collect();
        for tier in tiers {
            let of_tier = || rungs.iter().filter(|(_, backend)| backend.tier == tier);
            let weight = |backend: &BackendView| match backend.weight {
                0 => f64::from(self.told[backend.id.as_str()].weight),
                weight => f64::from(weight),
            };
            let serving = of_tier().filter(|(of, _)| *of == rung && rung != Rung::Nobody);
            if serving.clone().count() == 0 {
                continue;
            }
            let usable: f64 =
                serving.map(|(_, b)| weight(b) * f64::from(b.climbed_percent) / 100.0).sum();
            let all: f64 = of_tier().map(|(_, backend)| weight(backend)).sum();
            lowest = tier;
            if usable >= self.tier_least * all - 1e-6 {
                break;
            }
        }
        lowest
    }

    pub(crate) fn check_pick(&mut self, ticket: &Ticket, key: Option<u64>, tried: &[u64]) {
        let expected = self.expected();
        let (name, generation) = (ticket.member().id().as_str(), ticket.member().generation());
        if !expected.members.contains(&generation) {
            self.check_resort(generation, &expected, tried);
        }
        assert!(!tried.contains(&generation), "{name} was tried before");
        let is_leaving = self.leaving.contains_key(&generation);
        assert!(is_leaving || Some(generation) == self.generation(name), "{name} is stale");
        self.check_limit(ticket);
        self.check_choice(ticket, key, tried);
    }

    /// Whoever need not serve is only for requests that have tried all who do, the best with room first.
    fn check_resort(&mut self, picked: u64, expected: &Expected, tried: &[u64]) {
        let all_tried = expected.members.iter().all(|member| tried.contains(member));
        assert!(all_tried, "{picked} was picked before {expected:?}, {tried:?}");
        let may = |of: &u64| !tried.contains(of) && expected.had_room(*of, picked);
        let untried = expected.rest.iter().filter(|(generation, _)| may(generation));
        let best = untried.map(|(_, stand)| *stand).min();
        assert_eq!(expected.rest.get(&picked).copied(), best, "{picked} was picked too early");
        self.coverage.see("last resort of a request");
    }

    /// Takes in what the pool tells people, which must have its reasons.
    pub(crate) fn hear(&mut self, event: &Event) {
        let Some(name) = event.backend.as_ref().map(ToString::to_string) else { return };
        let Some(generation) = self.generation(&name) else {
            // A look-up is taken in.
            return self.unheard.push(event.clone());
        };
        let Some(shadow) = self.shadow.get_mut(&(name.clone(), generation)) else { return };
        let text = event.message.as_str();
        if text.starts_with("ejected for") {
            // The window and the part of it after which a sample is taken.
            let span = self.ejection.window + self.ejection.window / 10;
            let recent = |time: &&Time| self.now.since(**time) <= span;
            let failed = shadow.failed.iter().filter(recent).count();
            // A row that has ended is told at the next sample.
            let part = self.ejection.window / 10;
            let has_tripped = shadow.tripped.is_some_and(|time| self.now.since(time) <= part);
            let is_due = match text {
                // A row may take any time.
                text if text.contains("in a row") => {
                    shadow.streak >= self.ejection.consecutive || has_tripped
                }
                text if text.contains("probation") => {
                    shadow.failed.iter().any(|time| Some(*time) >= shadow.back)
                }
                _ => failed >= self.ejection.volume as usize / 2,
            };
            assert!(is_due, "{name} is {text}, and failed {failed} times");
            (shadow.ejections, shadow.streak, shadow.tripped) = (shadow.ejections + 1, 0, None);
            shadow.out_since = Some(self.now);
            shadow.warm_since = None;
            self.check_growth(&name, generation, text);
            self.check_floor(&name);
        } else if text.starts_with("back on probation") {
            (shadow.streak, shadow.tripped) = (0, None);
            // Nobody has noticed where it was not out for any time.
            let was_out = shadow.out_since.is_none_or(|out| out < self.now);
            shadow.warm_since = shadow.is_up.then_some((self.now, was_out));
            (shadow.back, shadow.out_until) = (Some(self.now), None);
            shadow.prove_anew(&self.ejection, self.now);
            let early = text.contains("early");
            self.coverage.see(if early { "back early" } else { "back on probation" });
        } else if text.contains("not ejected, because") {
            self.coverage.see("withheld");
        } else if text.starts_with("passed its probation") {
            self.coverage.see("probation passed");
        } else if text.starts_with("degraded") {
            self.coverage.see("degraded");
        } else if text.starts_with("no longer degraded") {
            self.coverage.see("no longer degraded");
        }
    }

    /// Of those who are left when one is ejected, enough can serve.
    fn check_floor(&self, name: &str) {
        let view = self.pool.view();
        let usable = view.backends.iter().filter(|one| self.rung_of(one) <= Rung::Degraded).count();
        let floor = self.ejection.floor;
        assert!(usable >= floor, "{name} is ejected and {usable} are left, of at least {floor}");
    }

    pub(crate) fn check(&mut self) {
        let view = self.pool.view();
        let expected = self.expected();
        let Expected { rung, tier, ref members, .. } = *expected;
        assert_eq!((view.rung, view.tier), (rung, tier), "served from a wrong rung or tier");
        assert_eq!(view.plan.policy, self.policy(), "backends are chosen in a wrong way");
        for backend in &view.backends {
            let is_member = members.contains(&backend.member.generation());
            assert_eq!(backend.eligible, is_member, "{backend:#?}");
            assert_eq!(backend.tier, self.told[backend.id.as_str()].tier, "{}", backend.id);
            let is_quiet = backend.reasons.is_empty();
            assert_eq!(is_quiet, is_member && rung == Rung::Up, "{:?}", backend.reasons);
            let may_get = is_member || expected.rest.contains_key(&backend.member.generation());
            assert_eq!(self.picker.is_eligible(&backend.member), may_get, "{}", backend.id);
            self.check_intent(backend);
            self.check_room(backend);
            self.check_health(backend);
            self.check_deadline(backend);
            self.check_drain(backend);
        }
        assert_eq!(view.wanted_plan.said, self.wanted.said(), "when it was said of the policy");
        if let Some((_, end)) = self.wanted.then() {
            assert!(self.pool.deadline(self.now).unwrap() <= end, "a policy ends late");
        }
        assert_eq!(view.waiting, self.line.len(), "who waits");
        self.check_tickets(&view);
        self.check_search();
        self.check_cap(&view);
        self.check_climbs(&view);
        self.check_budget();
        let picks: BTreeMap<Rung, u64> =
            view.picks.iter().filter(|(_, count)| **count > 0).map(|(r, c)| (*r, *c)).collect();
        assert_eq!(picks, self.picks, "picks were counted for a wrong rung");
    }

    /// What operators want is the last they said, and what it goes back to the last for good.
    fn check_intent(&self, backend: &BackendView) {
        let name = backend.id.as_str();
        let intent = self.intents.get(name).cloned().unwrap_or_default();
        let configured = self.told[name].weight;
        let said = (backend.admin_said, backend.weight_said, backend.max_in_flight_said);
        let expected = (intent.admin.said(), intent.weight.said(), intent.limit.said());
        assert_eq!(said, expected, "when it was said of {name}");
        assert_eq!(backend.admin, intent.admin.now(), "what is wanted of {name}");
        assert_eq!(backend.deadline, intent.deadline.now(), "{name}'s deadline");
        let then = backend.admin_reverts_to.as_ref().map(|stated| stated.state);
        assert_eq!(then.zip(backend.admin_expires), intent.admin.then(), "{name} afterwards");
        let weight = |said: Option<(u32, Time)>| said.map_or(configured, |(weight, _)| weight);
        assert_eq!(backend.configured_weight, configured, "{name}");
        assert_eq!(backend.weight, weight(intent.weight.now()), "{name}'s weight");
        let since = backend.weight_set.as_ref().map(|set| set.since);
        assert_eq!(since, intent.weight.now().map(|(_, since)| since), "since when {name} has it");
        let then = intent.weight.then().map(|(said, end)| (weight(said), end));
        assert_eq!(backend.weight_reverts_to.zip(backend.weight_expires), then, "{name}'s weight");
        let limit = |said: Option<(u32, Time)>| said.map(|(limit, _)| limit);
        assert_eq!(backend.max_in_flight_wanted, limit(intent.limit.now()), "{name}'s limit");
        let since = backend.max_in_flight_set.as_ref().map(|set| set.since);
        assert_eq!(since, intent.limit.now().map(|(_, since)| since), "since when {name} has it");
        let then = backend.max_in_flight_expires.map(|end| (backend.max_in_flight_reverts_to, end));
        let expected = intent.limit.then().map(|(said, end)| (self.limit_of(said), end));
        assert_eq!(then, expected, "{name}'s limit afterwards");
    }

    fn check_health(&self, backend: &BackendView) {
        let name = backend.id.as_str();
        let shadow = &self.shadow[&(name.to_owned(), backend.member.generation())];
        let passes = matches!(backend.health, Health::Up | Health::Degraded | Health::Ejected);
        assert_eq!(passes, shadow.is_up, "{name} is {:?}", backend.health);
        if shadow.is_up && shadow.out_until.is_some_and(|until| self.now < until) {
            assert_eq!(backend.health, Health::Ejected, "{name} was missing, and is forgiven");
        }
        if backend.health == Health::Ejected {
            let until = backend.health_until.unwrap();
            let out = until.since(backend.health_since);
            let EjectionPlan { time, time_max, .. } = &self.ejection;
            assert!(out >= time.mul_f64(0.9) && out <= *time_max, "{name} is out for {out:?}");
            assert!(until > self.now, "{name} is out for longer than was said");
        }
        let hold = Duration::from_secs(10);
        match (backend.health, shadow.asked) {
            (Health::Degraded, None) => panic!("{name} did not ask to be spared"),
            (Health::Degraded, Some(_)) => {
                let asked = shadow.asked_latest;
                assert!(self.now.since(asked) < hold * 2, "{name} is spared for too long");
            }
            (Health::Up, Some(asked)) => {
                assert!(self.now.since(asked) >= hold, "{name} asked to be spared");
            }
            _ => {}
        }
    }

    /// The deadline is the earliest of all timers, and none is late.
    fn check_deadline(&self, backend: &BackendView) {
        let deadline = self.pool.deadline(self.now).unwrap();
        let BackendView { admin_expires, weight_expires, max_in_flight_expires, .. } = backend;
        let ends = [backend.health_until, *admin_expires, *weight_expires, *max_in_flight_expires];
        for end in ends.into_iter().flatten() {
            assert!(deadline <= end, "{} waits for {end:?}, not {deadline:?}", backend.id);
        }
        let name = backend.id.as_str();
        if backend.admin != Admin::Maint {
            let since = self.now.since(self.probed[name]);
            let most = self.plan.interval.mul_f64(1.1) + self.plan.give_up;
            assert!(since <= most, "{name} was not probed for {since:?}");
        }
    }

    /// As many requests are in flight as there are tickets, also of those that are gone.
    fn check_tickets(&self, view: &PoolView) {
        let mut out: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for attempt in &self.attempts {
            let member = attempt.ticket.member();
            let entry = out.entry(member.generation()).or_insert((0, member.in_flight()));
            entry.0 += 1;
        }
        for backend in view.backends.iter().chain(&view.leaving) {
            let member = &backend.member;
            out.entry(member.generation()).or_insert((0, member.in_flight()));
        }
        for (generation, (tickets, in_flight)) in out {
            assert_eq!(tickets, in_flight, "tickets and requests in flight of {generation}");
        }
        for backend in &view.backends {
            let own = &self.identities[&backend.member.generation()];
            let of = |attempt: &&super::Attempt| {
                self.identities[&attempt.ticket.member().generation()] == *own
            };
            let tickets = self.attempts.iter().filter(of).count();
            assert_eq!(
                tickets, backend.in_flight as usize,
                "in flight at {}, from before too",
                backend.id
            );
        }
    }

    fn check_cap(&self, view: &PoolView) {
        let is_in_service = |b: &&BackendView| b.admin == Admin::Ready && b.weight > 0;
        let in_service = view.backends.iter().filter(is_in_service);
        let out = in_service.clone().filter(|b| b.health == Health::Ejected).count();
        let most = self.ejection.pool_share * in_service.count() as f64 + 1e-9;
        assert!(out as f64 <= most, "{out} are ejected, of at most {most}");
    }

    /// Who fails all the time, while nobody else does and the pool can do without it, is out one
    /// sample later, even if the report got lost. To be called with each sample.
    pub(crate) fn check_streaks(&mut self, view: &PoolView) {
        for backend in &view.backends {
            let shadow = &self.shadow[&(backend.id.to_string(), backend.member.generation())];
            let is_over = shadow.is_proven(&self.ejection, self.now);
            let is_on_probation = backend.health_reason.contains("on probation after");
            assert!(!(is_over && is_on_probation), "{} is on probation for ever", backend.id);
        }
        let should: BTreeSet<u64> = view
            .backends
            .iter()
            .filter(|backend| self.should_be_out(backend, view))
            .map(|backend| backend.member.generation())
            .collect();
        self.suspects.retain(|generation, _| should.contains(generation));
        for generation in should {
            let since = *self.suspects.entry(generation).or_insert(self.now);
            let is_late = self.now.since(since) > self.ejection.window / 10;
            assert!(!is_late, "generation {generation} fails and is not ejected");
        }
    }

    fn should_be_out(&self, backend: &BackendView, view: &PoolView) -> bool {
        let of = |b: &BackendView| &self.shadow[&(b.id.to_string(), b.member.generation())];
        let is_out = |b: &&BackendView| b.health == Health::Ejected;
        let in_service = view.backends.iter().filter(|b| b.admin == Admin::Ready && b.weight > 0);
        let out = view.backends.iter().filter(is_out).count() + 1;
        let others =
            view.backends.iter().filter(|b| b.id != backend.id && self.rung_of(b) < Rung::Nobody);
        let usable = others.clone().filter(|b| self.rung_of(b) <= Rung::Degraded).count();
        // What the others failed is in their windows for one, and excuses for another.
        let span = self.ejection.window.mul_f64(2.3);
        let own = backend.member.generation();
        let have_others_failed = self
            .failed_last
            .iter()
            .any(|(generation, time)| *generation != own && self.now.since(*time) <= span);
        self.ejection.consecutive > 0
            && of(backend).streak >= self.ejection.consecutive
            && self.now.since(of(backend).latest_failure) <= self.ejection.window.mul_f64(0.6)
            && !is_out(&backend)
            && self.rung_of(backend) < Rung::Nobody
            && out as f64 <= self.ejection.pool_share * in_service.count() as f64
            && usable >= self.ejection.floor
            && !have_others_failed
    }

    /// Retries of the last seconds are within the share and the reserve of two windows.
    fn check_budget(&mut self) {
        // The window slides in halves: what was granted in ten seconds comes of the requests of four
        // halves, and of two reserves.
        let window = Duration::from_secs(10);
        let granted = self.granted.iter().filter(|time| self.now.since(**time) <= window).count();
        self.requests.push((self.now, self.picker.picks()));
        while self.requests.get(1).is_some_and(|(time, _)| self.now.since(*time) > window * 3) {
            self.requests.remove(0);
        }
        let requests = self.picker.picks() - self.requests[0].1;
        let most = 2.0 * RETRY_RESERVE as f64 + 0.2 * requests as f64;
        assert!(granted as f64 <= most, "{granted} retries are more than the budget of {most}");
    }
}
