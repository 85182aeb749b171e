//! The state machine of one pool: who is in it, how each is doing, and what operators want.
//!
//! Each public method takes an event and the time, changes the state, publishes a new snapshot if
//! the set of eligible backends changed, and leaves effects to be fetched. Afterwards, in debug
//! builds, the invariants are swept.

mod degrade;
mod eject;
mod slow_start;

pub(crate) use slow_start::STEPS;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    admin::{Admin, Change, Intent, Refused, StandingIntent},
    backend::{BackendId, Found, Member},
    ejection::{EjectReason, Ejection, EjectionPlan, Withheld},
    entry::Entry,
    events::{Effect, Event, EventKind, ProbeOrder},
    health::{AttemptFailure, Health, HealthState, ProbePlan, ProbeResult},
    pick::{Picker, Published, Snapshot},
    policy::Policy,
    random::Random,
    rung::{Rung, RungPicks},
    schedule::schedule,
    time::Time,
    view::{Effective, PoolView},
};

/// How often a draining backend is looked at for its last request's end.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// How long intent for a backend that left is kept: one that is restarted during its maintenance
/// must not come back into traffic by itself.
const INTENT_KEPT: Duration = Duration::from_secs(60 * 60);

/// Between two early look-ups. A burst of failing requests asks for one.
const EARLY_DISCOVERY: Duration = Duration::from_millis(250);

/// How the message of an event ends that tells of a change whose time is over.
pub const EXPIRED: &str = "the time set for a change is over";

/// One pool.
#[derive(Debug)]
pub struct Pool {
    name: String,
    policy: Policy,
    plan: ProbePlan,
    ejection: EjectionPlan,
    random: Random,
    backends: BTreeMap<BackendId, Entry>,
    /// Intent for backends that are gone, until the time given.
    departed: BTreeMap<BackendId, (Intent, Time)>,
    next_generation: u64,
    next_probe: u64,
    discovered: Option<Time>,
    discovery_error: Option<String>,
    early_discovery: Option<Time>,
    /// When the outcomes of attempts are sampled next.
    next_sample: Time,
    degraded_time: Duration,
    slow_start: Duration,
    rung_since: Time,
    rung_picks: RungPicks,
    ejections: BTreeMap<EjectReason, u64>,
    withheld: BTreeMap<Withheld, u64>,
    effects: Vec<Effect>,
    published: Arc<Published>,
    /// The most requests in flight at a backend for which no operator wants another number.
    max_in_flight: Option<u32>,
}

impl Pool {
    /// An empty pool that ejects nobody. `seed` decides the jitter of its probes and what its pickers draw.
    #[must_use]
    pub fn new(name: &str, policy: Policy, plan: ProbePlan, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            policy,
            plan,
            ejection: EjectionPlan::off(),
            random: Random::new(seed),
            backends: BTreeMap::new(),
            departed: BTreeMap::new(),
            next_generation: 1,
            next_probe: 1,
            discovered: None,
            discovery_error: None,
            early_discovery: None,
            next_sample: Time::START,
            degraded_time: degrade::HOLD,
            slow_start: Duration::ZERO,
            rung_since: Time::START,
            rung_picks: RungPicks::default(),
            ejections: BTreeMap::new(),
            withheld: BTreeMap::new(),
            effects: Vec::new(),
            published: Arc::default(),
            max_in_flight: None,
        }
    }

    /// Limits the requests in flight at each backend for which no operator wants another number.
    #[must_use]
    pub fn with_max_in_flight(mut self, limit: Option<u32>) -> Self {
        self.max_in_flight = limit;
        self
    }

    /// The backends as a look-up found them: exactly these are in the pool from now on.
    ///
    /// Health and intent of those that stay are kept. One whose addresses all changed is another
    /// instance under the same name and starts anew. An empty answer is taken for trouble of the
    /// look-up, like [`Self::discovery_failed`]: it must never empty a pool.
    pub fn discovered(&mut self, found: Vec<Found>, now: Time) {
        if found.is_empty() && !self.backends.is_empty() {
            return self.discovery_failed("the look-up found no backends", now);
        }
        if self.discovery_error.take().is_some() {
            self.tell(now, EventKind::Discovery, None, "backends are looked up again");
        }
        self.discovered = Some(now);
        let places: BTreeMap<BackendId, usize> =
            found.iter().enumerate().map(|(place, found)| (found.id.clone(), place)).collect();
        let mut before = std::mem::take(&mut self.backends);
        // Those that stay first, so that those that arrive take slots that are really free.
        let mut arriving = Vec::new();
        for found in found {
            match before.remove(&found.id) {
                Some(known) if known.is_same_instance(&found) => {
                    self.backends.insert(found.id.clone(), known.updated(found));
                }
                Some(replaced) => {
                    before.insert(found.id.clone(), replaced);
                    arriving.push(found);
                }
                None => arriving.push(found),
            }
        }
        for (id, backend) in before {
            self.depart(id, backend, now);
        }
        for found in arriving {
            self.arrive(found, now);
        }
        for (id, backend) in &mut self.backends {
            backend.place = places.get(id).copied().unwrap_or_default();
        }
        self.settle(now);
    }

    /// A look-up failed: the backends of the last good one stay.
    pub fn discovery_failed(&mut self, why: &str, now: Time) {
        if self.discovery_error.as_deref() != Some(why) {
            let kept = self.backends.len();
            self.tell(now, EventKind::Discovery, None, &format!("{why}; keeping {kept} backends"));
            self.discovery_error = Some(why.to_owned());
        }
        self.settle(now);
    }

    /// A probe ended. Reports that nobody waits for any more change nothing: the backend may be
    /// another one by now, or may have been in maintenance meanwhile.
    pub fn probe_finished(&mut self, order: &ProbeOrder, result: ProbeResult, now: Time) {
        self.probe_ended(&order.id, order.sequence, result, now);
        self.settle(now);
    }

    /// An attempt failed in a way that says something of the backend's health.
    pub fn attempt_failed(
        &mut self,
        id: &BackendId,
        generation: u64,
        failure: AttemptFailure,
        now: Time,
    ) {
        let Self { backends, plan, .. } = self;
        if let Some(backend) = current(backends, id, generation)
            && backend.is_probed()
        {
            let before = backend.health.health;
            backend.health.attempt_failed(failure, plan, now);
            self.tell_health(id, before, now);
        }
        if failure == AttemptFailure::Streak {
            self.streak_told(id, generation, now);
        }
        // The address may be stale: whoever was recreated has another one by now.
        if self.early_discovery.is_none_or(|last| now.since(last) >= EARLY_DISCOVERY) {
            self.early_discovery = Some(now);
            self.effects.push(Effect::Discover);
        }
        self.settle(now);
    }

    /// An operator changes a backend.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn change(&mut self, id: &BackendId, change: &Change, now: Time) -> Result<(), Refused> {
        let (intent, before) = self.changed_intent(id, change, now)?;
        let text = intent.describe_since(&before);
        self.set_intent(id, intent, now);
        self.tell_by(now, id, &text, change.actor.clone());
        self.settle(now);
        Ok(())
    }

    /// Whether a change would be refused, without making it.
    ///
    /// # Errors
    /// [`Refused`], as [`Self::change`] would.
    pub fn check_change(&self, id: &BackendId, change: &Change, now: Time) -> Result<(), Refused> {
        self.changed_intent(id, change, now).map(drop)
    }

    /// The intent after a change and the one before.
    fn changed_intent(
        &self,
        id: &BackendId,
        change: &Change,
        now: Time,
    ) -> Result<(Intent, Intent), Refused> {
        let backend = self.backends.get(id).ok_or(Refused::Unknown)?;
        let intent = backend.intent.changed(change, now);
        let stays = intent.state == Admin::Ready && intent.weight != Some(0);
        if backend.is_usable() && !stays && !change.force {
            let total = self.backends.len();
            let left =
                self.backends.values().filter(|b| b.is_usable() && b.found.id != *id).count();
            if left == 0 {
                return Err(Refused::LastUsable { total });
            }
            if left < change.floor {
                return Err(Refused::BelowFloor { total, left, floor: change.floor });
            }
        }
        Ok((intent, backend.intent.clone()))
    }

    /// What operators want of backends, those that are gone for the moment included.
    #[must_use]
    pub fn standing_intents(&self) -> Vec<StandingIntent> {
        let present = self.backends.values().map(|entry| (&entry.found.id, &entry.intent));
        let departed = self.departed.iter().map(|(id, (intent, _))| (id, intent));
        let all = present.chain(departed).filter(|(_, intent)| intent.is_special());
        all.map(|(id, intent)| intent.standing(id)).collect()
    }

    /// Takes up what operators wanted before the process was restarted. To be called before the
    /// first look-up: it holds for backends that arrive.
    pub fn restore(&mut self, intents: Vec<StandingIntent>, now: Time) {
        let until = now + INTENT_KEPT;
        let kept = intents.into_iter().map(|intent| (intent.id.clone(), (intent.into(), until)));
        self.departed.extend(kept);
        self.settle(now);
    }

    /// Does what is due: starts probes, gives up on lost ones, judges outcomes, lets intent expire.
    /// To be called when [`Self::deadline`] is reached; calling it more often does no harm.
    pub fn advance(&mut self, now: Time) {
        self.expire_intents(now);
        let lost: Vec<(BackendId, u64)> = self
            .backends
            .values()
            .filter_map(|b| Some((b.found.id.clone(), b.health.lost_probe(&self.plan, now)?)))
            .collect();
        for (id, sequence) in lost {
            let detail = "the probe was never answered".to_owned();
            let result = ProbeResult { passed: false, detail, duration: self.plan.give_up };
            self.probe_ended(&id, sequence, result, now);
        }
        for backend in self.backends.values_mut().filter(|backend| backend.is_probed()) {
            if backend.health.start_probe(&self.plan, self.next_probe, now) {
                self.effects.push(Effect::Probe(ProbeOrder {
                    id: backend.found.id.clone(),
                    generation: backend.member.generation(),
                    sequence: self.next_probe,
                    addresses: backend.member.addresses(),
                }));
                self.next_probe += 1;
            }
        }
        self.judge_outcomes(now, false);
        self.end_degraded(now);
        self.departed.retain(|_, (_, until)| *until > now);
        self.end_tunnels(now);
        self.tell_drained(now);
        self.settle(now);
    }

    /// When [`Self::advance`] is due next. Any other call may bring it forward.
    #[must_use]
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let of_backends = self.backends.values().flat_map(|backend| {
            let probe = backend.health.deadline(&self.plan).filter(|_| backend.is_probed());
            let is_draining = backend.intent.state == Admin::Drain || backend.weight() == 0;
            let drained = (is_draining && !backend.drained_told).then(|| now + DRAIN_LOOK);
            let degraded = backend.degraded.as_ref().map(|degraded| degraded.until);
            let tunnels = backend.intent.deadline.filter(|_| !backend.member.must_end_tunnels());
            [probe, drained, degraded, tunnels, backend.intent.next_end()]
        });
        let of_departed = self.departed.values().map(|(_, until)| Some(*until));
        of_backends
            .chain(of_departed)
            .chain([self.ejection_deadline(), self.climb_deadline()])
            .flatten()
            .min()
    }

    /// Whether a backend was taken out and still has requests in flight.
    #[must_use]
    pub fn is_draining(&self, id: &BackendId) -> bool {
        self.backends.get(id).is_some_and(|backend| {
            let is_out = backend.intent.state != Admin::Ready || backend.weight() == 0;
            is_out && backend.member.in_flight() > 0
        })
    }

    /// The effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// A handle for one worker to pick with. Each draws numbers of its own.
    pub fn picker(&mut self) -> Picker {
        Picker::new(Arc::clone(&self.published), self.policy, self.random.next())
    }

    /// Requests that wait for a backend with room.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.published.queue().length()
    }

    /// First attempts so far.
    #[must_use]
    pub fn picks(&self) -> u64 {
        self.published.picks()
    }

    /// The pool as people see it.
    #[must_use]
    pub fn view(&self) -> PoolView {
        let rung = self.published.current().rung;
        PoolView {
            rung,
            rung_since: self.rung_since,
            picks: self.rung_picks.up_to(rung, self.picks()),
            name: self.name.clone(),
            discovered: self.discovered,
            discovery_error: self.discovery_error.clone(),
            ejections: self.ejections.clone(),
            withheld: self.withheld.clone(),
            backends: self.backends.values().map(|entry| entry.view(rung)).collect(),
        }
    }

    fn probe_ended(&mut self, id: &BackendId, sequence: u64, result: ProbeResult, now: Time) {
        let Self { backends, plan, random, .. } = self;
        if let Some(backend) = backends.get_mut(id).filter(|backend| backend.is_probed()) {
            let before = backend.health.health;
            backend.health.probe_finished(sequence, result, plan, random, now);
            self.tell_health(id, before, now);
            self.forgive_restart(id, before, now);
        }
    }

    fn arrive(&mut self, found: Found, now: Time) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let id = found.id.clone();
        let addresses = found.addresses.clone().unwrap_or_default();
        let (slot, streak_limit) = (self.free_slot(), self.ejection.consecutive);
        let queue = Arc::clone(self.published.queue());
        let member =
            Arc::new(Member::new(id.clone(), generation, slot, addresses, streak_limit, queue));
        let kept = self.departed.remove(&id).map(|(intent, _)| intent);
        let intent = kept.unwrap_or_else(|| Intent::none(now));
        match &found.addresses {
            Ok(_) => self.tell(now, EventKind::Discovery, Some(&id), "joined the pool"),
            Err(error) => self.tell(now, EventKind::Discovery, Some(&id), error),
        }
        let health = HealthState::new(&self.plan, now);
        let ejection = Ejection::new(member.counts(), now);
        let backend = Entry {
            found,
            place: 0,
            member,
            intent,
            health,
            ejection,
            degraded: None,
            up_since: None,
            climbed: slow_start::STEPS,
            drained_told: false,
        };
        self.backends.insert(id, backend);
    }

    fn depart(&mut self, id: BackendId, backend: Entry, now: Time) {
        self.tell(now, EventKind::Discovery, Some(&id), "left the pool");
        if backend.intent.is_special() {
            self.departed.insert(id, (backend.intent, now + INTENT_KEPT));
        }
    }

    /// The smallest number that no present backend has.
    fn free_slot(&self) -> usize {
        let mut taken: Vec<usize> = self.backends.values().map(|b| b.member.slot()).collect();
        taken.sort_unstable();
        (0..taken.len()).find(|slot| taken[*slot] != *slot).unwrap_or(taken.len())
    }

    fn expire_intents(&mut self, now: Time) {
        let ended: Vec<(BackendId, Intent)> = self
            .backends
            .values()
            .filter(|backend| backend.intent.next_end().is_some_and(|end| end <= now))
            .map(|backend| (backend.found.id.clone(), backend.intent.ended(now)))
            .collect();
        for (id, intent) in ended {
            let weight =
                intent.weight.map_or("configured weight".to_owned(), |w| format!("weight {w}"));
            let limit = intent.describe_limit().map(|limit| format!(", {limit}"));
            let text = format!("{}, {weight}{}", intent.state.as_str(), limit.unwrap_or_default());
            self.set_intent(&id, intent, now);
            self.tell_by(now, &id, &format!("{text}: {EXPIRED}"), None);
        }
    }

    fn set_intent(&mut self, id: &BackendId, intent: Intent, now: Time) {
        let Self { backends, plan, ejection, .. } = self;
        let Some(backend) = backends.get_mut(id) else { return };
        if backend.intent.state == Admin::Maint && intent.state != Admin::Maint {
            // Nobody probed it meanwhile: it has to pass anew.
            backend.health = HealthState::new(plan, now);
            backend.forget_outcomes(ejection.consecutive, now);
        }
        backend.drained_told = false;
        if intent.deadline.is_none() {
            backend.member.set_must_end_tunnels(false);
        }
        backend.intent = intent;
        self.effects.push(Effect::KeepIntents);
    }

    /// Has the tunnels ended whose deadline has passed.
    fn end_tunnels(&mut self, now: Time) {
        let due = self.backends.values().filter(|backend| {
            let is_due = backend.intent.deadline.is_some_and(|deadline| deadline <= now);
            is_due && backend.member.set_must_end_tunnels(true)
        });
        let due: Vec<(BackendId, u32)> =
            due.map(|backend| (backend.found.id.clone(), backend.member.tunnels())).collect();
        for (id, count) in due {
            self.effects.push(Effect::EndTunnels);
            let text = format!("the deadline is over: ending {count} upgraded connections");
            self.tell(now, EventKind::Admin, Some(&id), &text);
        }
    }

    fn tell_drained(&mut self, now: Time) {
        let rung = self.published.current().rung;
        let drained: Vec<BackendId> = self
            .backends
            .values_mut()
            .filter(|b| b.effective(rung) == Effective::Drained && !b.drained_told)
            .map(|backend| {
                backend.drained_told = true;
                backend.found.id.clone()
            })
            .collect();
        for id in drained {
            self.tell(now, EventKind::Admin, Some(&id), "drained: no request is in flight");
        }
    }

    fn tell_health(&mut self, id: &BackendId, before: Health, now: Time) {
        let Some(backend) = self.backends.get(id) else { return };
        let state = &backend.health;
        if state.health != before {
            let text =
                format!("{} (was {}): {}", state.health.as_str(), before.as_str(), state.reason);
            self.tell(now, EventKind::Health, Some(id), &text);
        }
    }

    fn tell(&mut self, at: Time, kind: EventKind, backend: Option<&BackendId>, message: &str) {
        let (backend, message) = (backend.cloned(), message.to_owned());
        self.effects.push(Effect::Event(Event { at, kind, backend, message, actor: None }));
    }

    fn tell_by(&mut self, at: Time, id: &BackendId, message: &str, actor: Option<String>) {
        let (backend, message) = (Some(id.clone()), message.to_owned());
        let kind = EventKind::Admin;
        self.effects.push(Effect::Event(Event { at, kind, backend, message, actor }));
    }

    /// Publishes the backends of the best rung that has any if they or their weights changed, and
    /// sweeps the invariants.
    fn settle(&mut self, now: Time) {
        self.end_excess_ejections(now);
        self.note_climbs(now);
        self.set_limits();
        let rung = self.best_rung();
        let mut eligible: Vec<&Entry> =
            self.backends.values().filter(|backend| backend.rung() == Some(rung)).collect();
        eligible.sort_unstable_by_key(|backend| backend.place);
        let weights = Self::published_weights(&eligible);
        let current = self.published.current();
        let same = current.weights == weights
            && current.rung == rung
            && current.members.iter().zip(&eligible).all(|(a, b)| Arc::ptr_eq(a, &b.member));
        if !same {
            self.published.publish(Snapshot {
                version: current.version + 1,
                rung,
                members: eligible.iter().map(|backend| Arc::clone(&backend.member)).collect(),
                schedule: schedule(&weights),
                weights,
            });
            self.tell_rung(current.rung, rung, now);
        }
        if cfg!(debug_assertions) {
            self.check_invariants(now);
        }
    }

    fn best_rung(&self) -> Rung {
        self.backends.values().filter_map(Entry::rung).min().unwrap_or_default()
    }

    /// Counts the picks of the rung before, and tells of a change for the worse and back.
    fn tell_rung(&mut self, before: Rung, rung: Rung, now: Time) {
        self.rung_picks.count(before, self.published.picks());
        if before == rung {
            return;
        }
        self.rung_since = now;
        let message = match rung {
            Rung::Up => "requests are served by backends that are up",
            Rung::Degraded => "no backend is up: those that ask to be spared serve",
            Rung::Ejected => "last resort: ejected backends that pass their probes serve",
            Rung::Terminating => "last resort: backends that are going away serve",
            Rung::Nobody => "nobody can serve: requests are refused",
        };
        self.tell(now, EventKind::Health, None, message);
    }

    fn check_invariants(&self, now: Time) {
        let snapshot = self.published.current();
        assert_eq!(snapshot.rung, self.best_rung(), "requests are served from a wrong rung");
        for member in &snapshot.members {
            let backend = self.backends.get(member.id()).expect("published backends are present");
            assert!(Arc::ptr_eq(&backend.member, member), "{} is stale", member.id());
            assert_eq!(backend.rung(), Some(snapshot.rung), "{} is published", member.id());
        }
        let on_rung = |backend: &&Entry| backend.rung() == Some(snapshot.rung);
        let eligible = self.backends.values().filter(on_rung).count();
        assert_eq!(eligible, snapshot.members.len(), "an eligible backend is not published");
        let mut slots: Vec<usize> = self.backends.values().map(|b| b.member.slot()).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), self.backends.len(), "two backends share a slot");
        self.check_ejections();
        if let Some(deadline) = self.deadline(now) {
            let probes = self.backends.values().filter(|backend| backend.is_probed());
            let earliest = probes.filter_map(|b| b.health.deadline(&self.plan)).min();
            assert!(earliest.is_none_or(|time| deadline <= time), "a probe would be late");
        }
    }
}

fn current<'a>(
    backends: &'a mut BTreeMap<BackendId, Entry>,
    id: &BackendId,
    generation: u64,
) -> Option<&'a mut Entry> {
    backends.get_mut(id).filter(|backend| backend.member.generation() == generation)
}
