//! Look-ups, operators, and reports that come too late.

use std::{collections::BTreeMap, time::Duration};

use super::{World, balance::*, truth::Truth};

impl World {
    pub(crate) fn discover(&mut self) {
        self.climbs.changed = self.now;
        let tells_instances = self.tells_instances;
        let found = |(name, truth): (&String, &Truth)| Found {
            weight: truth.weight,
            tier: truth.tier,
            is_terminating: truth.is_terminating,
            instance: tells_instances.then(|| truth.instance.to_string()),
            ..Found::new(BackendId::new(name), Ok(vec![([10, 0, 0, truth.address], 80).into()]))
        };
        let found: Vec<Found> = self.truth.iter().map(found).collect();
        let could_serve = self.able();
        if self.would_lose_all(&could_serve) {
            let before = self.generations.clone();
            self.tell(|pool, now| pool.discovered(found, now));
            let view = self.pool.view();
            let kept = view.backends.iter().map(|one| (one.id.as_str(), one.member.generation()));
            assert!(kept.eq(before.iter().map(|(name, of)| (name.as_str(), *of))), "all are kept");
            self.blind_since.get_or_insert(self.now);
            return self.coverage.see("look-up of none who may serve");
        }
        let could_hold = self.expected();
        let out = self.pool.view().backends.into_iter();
        let out = out.filter(|backend| backend.health == Health::Ejected);
        let were_out: BTreeMap<u64, Option<Time>> =
            out.map(|backend| (backend.member.generation(), backend.health_until)).collect();
        let were_up = self.last_up_in_service();
        if let Some(since) = self.blind_since.take() {
            let blind = self.now.since(since);
            self.gone.values_mut().for_each(|gone| *gone = *gone + blind);
        }
        let before = std::mem::take(&mut self.generations);
        // What is heard meanwhile is taken in when it is known of whom.
        self.tell(|pool, now| pool.discovered(found, now));
        let view = self.pool.view();
        self.generations = view
            .backends
            .iter()
            .map(|backend| (backend.id.to_string(), backend.member.generation()))
            .collect::<BTreeMap<_, _>>();
        assert!(self.generations.keys().eq(self.truth.keys()), "not those that were found");
        // Five seconds, in which it may only be missing from an answer.
        self.absent.retain(|_, (_, since, _)| self.now.since(*since) <= Duration::from_secs(5));
        for (name, generation) in &before {
            if self.generations.get(name) != Some(generation) {
                let mut shadow = self.shadow[&(name.clone(), *generation)].clone();
                shadow.out_until = were_out.get(generation).copied().flatten();
                let identity = self.identities[generation].1.clone();
                self.absent.insert(name.clone(), (identity, self.now, shadow));
            }
        }
        for (name, truth) in &self.truth {
            let generation = self.generations[name];
            let is_same = self.told.get(name).is_some_and(|told| match tells_instances {
                true => told.instance == truth.instance,
                false => told.address == truth.address,
            });
            if self.told.get(name).is_some_and(|told| !is_same && told.address == truth.address) {
                self.coverage.see("address used again");
            }
            assert_eq!(before.get(name) == Some(&generation), is_same, "the generation of {name}");
            let of = if tells_instances {
                &truth.instance.to_string()
            } else {
                &truth.address.to_string()
            };
            self.identities.insert(generation, (name.clone(), of.clone()));
            let absent = self
                .absent
                .remove(name)
                .filter(|(identity, _, _)| identity == &self.identities[&generation].1);
            if !is_same {
                let shadow =
                    absent.map(|(_, _, shadow)| shadow.after_absence(&self.ejection, self.now));
                self.coverage.see_many("back from an absence", u64::from(shadow.is_some()));
                self.shadow.insert((name.clone(), generation), shadow.unwrap_or_default());
                self.probes.retain(|probe| probe.order.id.as_str() != name);
                self.probed.insert(name.clone(), self.now);
                self.visited.insert(generation, self.now);
            }
        }
        // Of a backend that left or was replaced, only what an operator set for it is kept.
        let generations = &self.generations;
        self.intents.retain(|name, intent| {
            let stays = before.contains_key(name) && before.get(name) == generations.get(name);
            stays || intent.is_kept()
        });
        self.shadow.retain(|(name, generation), _| generations.get(name) == Some(generation));
        self.probed.retain(|name, _| generations.contains_key(name));
        for name in before.keys().filter(|name| !generations.contains_key(*name)) {
            self.gone.insert(name.clone(), self.now);
        }
        let left = were_up
            .into_iter()
            .filter(|(generation, _)| !self.generations.values().any(|known| known == generation));
        self.left_up = left.map(|(_, last)| last).chain([self.left_up]).max().flatten();
        self.told = self.truth.clone();
        // Those of who left or joined mean nothing to the model.
        std::mem::take(&mut self.unheard).iter().for_each(|event| self.hear(event));
        let limits = could_hold.rooms.iter().map(|(generation, room)| (*generation, room.limit));
        self.limits_left.extend(limits);
        self.note_leaving(could_serve);
        self.limits_left.retain(|generation, _| self.leaving.contains_key(generation));
        self.expected = None;
    }

    /// Whether all who can serve would leave, and operators or the source have taken out all who are
    /// there. One who tells instances apart knows who is gone.
    fn would_lose_all(&self, could_serve: &BTreeMap<u64, String>) -> bool {
        let is_out = |(name, truth): (&String, &Truth)| {
            let intent = self.intents.get(name).cloned().unwrap_or_default();
            let weight = intent.weight.now().map_or(truth.weight, |(weight, _)| weight);
            intent.admin.now() != Admin::Ready || weight == 0
        };
        let stays = |name: &String| {
            let told = self.told.get(name).map(|told| told.address);
            told.is_some() && told == self.truth.get(name).map(|truth| truth.address)
        };
        let is_blind_to_instances = !self.tells_instances && !self.generations.is_empty();
        is_blind_to_instances
            && !could_serve.is_empty()
            && self.truth.iter().all(is_out)
            && !could_serve.values().any(stays)
    }

    /// The generations that may get requests, with their names.
    pub(crate) fn able(&self) -> BTreeMap<u64, String> {
        let view = self.pool.view();
        let able = view.backends.iter().filter(|backend| self.rung_of(backend) != Rung::Nobody);
        able.map(|backend| (backend.member.generation(), backend.id.to_string())).collect()
    }

    /// Of those that left, whoever could serve does so until somebody else can, if others came for
    /// them and the source does not tell itself who is going away.
    fn note_leaving(&mut self, could_serve: BTreeMap<u64, String>) {
        let may_come = |backend: &BackendView| {
            let may_serve = backend.admin == Admin::Ready && backend.weight > 0;
            matches!(backend.health, Health::Checking | Health::Down) && may_serve
        };
        let others_come = self.pool.view().backends.iter().any(may_come);
        if others_come && !self.tells_instances {
            let longest = (self.plan.transition_interval + self.plan.give_up) * self.plan.fall;
            let until = self.now + longest;
            let stays = |generation| self.generations.values().any(|known| *known == generation);
            let left = could_serve.into_iter().filter(|(generation, _)| !stays(*generation));
            let left: Vec<_> = left.map(|(of, name)| (of, (name, until))).collect();
            self.leaving.extend(left);
        }
        self.end_leaving();
    }

    pub(crate) fn fail_discovery(&mut self) {
        let before = self.pool.view().backends.len();
        if self.dice.percent(50) {
            self.tell(|pool, now| pool.discovery_failed("no answer", now));
        } else {
            self.tell(|pool, now| pool.discovered(Vec::new(), now));
        }
        assert_eq!(self.pool.view().backends.len(), before, "trouble must not empty the pool");
        // An empty answer is a failure where there is somebody.
        if self.pool.view().discovery_error.is_some() {
            self.blind_since.get_or_insert(self.now);
        }
        self.coverage.see("discovery failed");
    }

    /// A look-up does not name one that is there as before, and a later one does.
    pub(crate) fn leave_one_out(&mut self) {
        let Some(dice) = self.forgetful.as_mut() else { return };
        if self.truth.len() < 2 || !dice.percent(10) {
            return;
        }
        // Rather one that is ejected, so that it is seen what becomes of that.
        let view = self.pool.view();
        let is_out = |name: &&String| {
            let is_it = |one: &&BackendView| one.id.as_str() == name.as_str();
            view.backends.iter().find(is_it).is_some_and(|one| one.health == Health::Ejected)
        };
        let out: Vec<String> = self.truth.keys().filter(is_out).cloned().collect();
        let all = || self.truth.keys().cloned().collect();
        let names: Vec<String> = if out.is_empty() { all() } else { out };
        let name = names[dice.below(names.len() as u64) as usize].clone();
        let (away, is_found) = (Duration::from_millis(dice.below(3_000)), dice.percent(80));
        let truth = self.truth.remove(&name).unwrap();
        // Whatever is under way there goes on.
        self.blue.insert(name.clone(), truth.clone());
        self.discover();
        self.coverage.see("look-up that leaves one out");
        self.let_pass(away);
        self.truth.insert(name, truth);
        if is_found {
            self.discover();
        }
    }

    pub(crate) fn operate(&mut self, name: &str) {
        let states = [Admin::Ready, Admin::Ready, Admin::Drain, Admin::Maint];
        let state = Some(self.dice.one_of(&states));
        let weight = self.dice.percent(20).then(|| self.dice.below(4) as u32);
        // So high that nobody has to wait, but in a narrow world.
        let limit = self.dice.percent(10).then(|| 100_000 + self.dice.below(3) as u32);
        let limit = limit.map(|limit| self.small_limit().unwrap_or(limit));
        let is_both = self.dice.percent(50);
        let known = self.intents.get(name).and_then(|intent| intent.admin.said().latest);
        let said_at = self.said_at(known);
        let change = Change {
            state: state.filter(|_| weight.or(limit).is_none() || is_both),
            weight,
            max_in_flight: limit,
            ttl: self.dice.percent(60).then(|| Duration::from_secs(1 + self.dice.below(120))),
            force: self.dice.percent(20),
            said_at: Some(said_at),
            deadline: self.deadline(),
            ..Change::default()
        };
        self.carry_out(name, &change);
    }

    /// Leaves a backend beside others that are out but for one, which is back for a while, and then
    /// takes it out as well.
    pub(crate) fn rely_on_one_for_a_while(&mut self, name: &str) {
        let now = SaidAt(self.now.since_start().as_millis() as u64);
        let say = |state| Change { state: Some(state), said_at: Some(now), ..Change::default() };
        let ttl = Some(Duration::from_secs(1 + self.dice.below(60)));
        let others: Vec<String> =
            self.generations.keys().filter(|other| *other != name).cloned().collect();
        for other in &others {
            self.carry_out(other, &Change { force: true, ..say(Admin::Drain) });
        }
        if let Some(other) = others.first() {
            self.carry_out(other, &Change { ttl, ..say(Admin::Ready) });
        }
        self.carry_out(name, &say(Admin::Drain));
        for other in &others {
            self.carry_out(other, &say(Admin::Ready));
        }
    }

    pub(crate) fn carry_out(&mut self, name: &str, change: &Change) {
        self.climbs.changed = self.now;
        let (state, weight, limit) = (change.state, change.weight, change.max_in_flight);
        let said_at = change.said_at.unwrap();
        let before = self.pool.view();
        let has_end = change.ttl.is_some();
        let intent = self.intents.get(name).cloned().unwrap_or_default();
        let is_late = state.is_some() && intent.admin.is_late(has_end, said_at)
            || weight.is_some() && intent.weight.is_late(has_end, said_at)
            || limit.is_some() && intent.limit.is_late(has_end, said_at);
        let mut after = intent.clone();
        after.hear(change, self.now);
        let leaves_nobody =
            self.told.contains_key(name) && self.leaves_nobody(name, &intent, &after);
        match self.tell(|pool, now| pool.change(&BackendId::new(name), change, now)) {
            Ok(()) => {
                assert!(!is_late, "an older word has replaced a newer one");
                let generation = self.generation(name).unwrap();
                assert!(change.force || !leaves_nobody, "nobody is left without {name}");
                let was = intent.admin.now();
                self.intents.insert(name.to_owned(), after.clone());
                let is_beneath = !has_end && state.is_some() && after.admin.then().is_some();
                if was == Admin::Maint && after.admin.now() != Admin::Maint {
                    self.begin_anew(name, generation);
                }
                if was == Admin::Maint || state == Some(Admin::Maint) {
                    self.probed.insert(name.to_owned(), self.now);
                }
                self.coverage.see_many("word beneath an override", u64::from(is_beneath));
                self.end_leaving();
                self.coverage.see("operator's change");
            }
            Err(Refused::Unknown) => assert!(!self.told.contains_key(name)),
            Err(Refused::Superseded { .. }) => {
                assert!(is_late, "a newer word is taken for an older one");
                let after = format!("{:?}", self.pool.view());
                assert_eq!(after, format!("{before:?}"), "an older word has changed something");
                self.coverage.see("late word");
            }
            Err(refused) => {
                assert!(!change.force && leaves_nobody, "{refused:?} without {name}");
                let later =
                    matches!(refused, Refused::LastUsable { after, .. } if !after.is_zero());
                self.coverage.see_many("refused for what ends", u64::from(later));
                let after = format!("{:?}", self.pool.view());
                assert_eq!(after, format!("{before:?}"), "a refused change has changed something");
                self.coverage.see("refused change");
            }
        }
        self.expected = None;
    }

    /// Backends are chosen in another way from now on, or as configured again.
    pub(crate) fn change_policy(&mut self) {
        let policy = self.dice.percent(70).then(|| self.dice.one_of(&Policy::ALL));
        let plan = policy.map(|policy| PolicyPlan { policy, hash_key: "path".into() });
        let ttl = self.dice.percent(50).then(|| Duration::from_secs(1 + self.dice.below(120)));
        let said_at = self.said_at(self.wanted.said().latest);
        let change = PolicyChange { plan, ttl, said_at: Some(said_at), ..PolicyChange::default() };
        let is_late = self.wanted.is_late(ttl.is_some(), said_at);
        let before = format!("{:?}", self.pool.view());
        let predicted = self.pool.plan_after(change.clone(), self.now);
        match self.tell(|pool, now| pool.change_policy(change, now)) {
            Ok(()) => {
                assert!(!is_late, "an older word of the policy has replaced a newer one");
                let plan = self.pool.view().plan;
                assert_eq!(predicted, Ok(plan), "another policy than was predicted");
                self.wanted.say(policy, ttl.map(|ttl| self.now + ttl), said_at);
                self.coverage.see("policy changed");
            }
            Err(Refused::Superseded { .. }) => {
                assert!(is_late, "a newer word of the policy is taken for an older one");
                assert!(predicted.is_err(), "a change was predicted that is refused");
                let after = format!("{:?}", self.pool.view());
                assert_eq!(after, before, "an older word of the policy has changed something");
                self.coverage.see("late word of a policy");
            }
            Err(refused) => panic!("nothing guards a policy: {refused}"),
        }
    }

    /// When something is said of which the newest word is `known`. Sometimes somebody tells of a word
    /// that the pool has missed, often of the last before a newer one.
    pub(crate) fn said_at(&mut self, known: Option<SaidAt>) -> SaidAt {
        let now = self.now.since_start().as_millis() as u64;
        SaidAt(match (self.dice.below(4), known) {
            (0, _) => now.saturating_sub(self.dice.below(90_000)),
            (1, Some(known)) => known.0.saturating_sub(1),
            _ => now,
        })
    }

    /// A report of an instance that had the name before changes nothing.
    pub(crate) fn report_late(&mut self, name: &str) {
        let Some(generation) = self.generation(name) else { return };
        if self.leaving.contains_key(&(generation - 1)) {
            return;
        }
        let before = format!("{:?}", self.pool.view());
        let kinds = [AttemptFailure::Refused, AttemptFailure::Unreachable, AttemptFailure::Streak];
        let (id, failure) = (BackendId::new(name), self.dice.one_of(&kinds));
        for _ in 0..4 {
            self.tell(|pool, now| pool.attempt_failed(&id, generation - 1, failure, now));
        }
        let after = format!("{:?}", self.pool.view());
        assert_eq!(after, before, "a report of a stale generation has changed something");
        self.coverage.see("stale report");
    }
}
