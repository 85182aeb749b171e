//! The state machine of one pool: who is in it, how each is doing, and what operators want.
//!
//! Each public method takes an event and the time, changes the state, publishes a new snapshot if
//! the set of eligible backends changed, and leaves effects to be fetched. Afterwards, in debug
//! builds, the invariants are swept.

mod degrade;
mod discovery;
mod eject;
mod intents;
mod last_resort;
mod leaving;
mod policy;
mod publish;
mod slow_start;
mod under_way;
mod visitors;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    backend::BackendId,
    ejection::{EjectReason, EjectionPlan, Withheld},
    entry::Entry,
    events::{Effect, Event, EventKind, ProbeOrder},
    health::{AttemptFailure, Health, ProbePlan, ProbeResult},
    intent::{Intent, Overridable},
    pick::{Picker, Published, Tagger},
    plan::{PolicyPlan, WantedPlan},
    policy::Policy,
    random::Random,
    rung::RungPicks,
    time::Time,
    view::PoolView,
};

use discovery::Absent;
pub use intents::EXPIRED;
use leaving::Leaving;
pub(crate) use slow_start::STEPS;
use under_way::UnderWay;

/// How often a draining backend is looked at for its last request's end.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// How often one that is drained is looked at for visitors who come back all the same.
const VISIT_LOOK: Duration = Duration::from_secs(1);

/// How long intent for a backend that left is kept: one that is restarted during its maintenance
/// must not come back into traffic by itself. It counts only while look-ups say who is there.
const INTENT_KEPT: Duration = Duration::from_secs(60 * 60);

/// Being called this much later than was asked for is no matter of timers: the thread that calls had no
/// time, and neither had the answers that it brings.
const STALL: Duration = Duration::from_secs(1);

/// Between two early look-ups. A burst of failing requests asks for one.
const EARLY_DISCOVERY: Duration = Duration::from_millis(250);

/// One pool.
#[derive(Debug)]
pub struct Pool {
    name: String,
    /// How backends are chosen where no operator wants it otherwise.
    configured: PolicyPlan,
    wanted: Overridable<WantedPlan>,
    plan: ProbePlan,
    ejection: EjectionPlan,
    random: Random,
    backends: BTreeMap<BackendId, Entry>,
    /// Those that left and serve until somebody of `backends` can, by generation: a name may be
    /// another's by now.
    leaving: BTreeMap<u64, Leaving>,
    /// What is under way at those that left.
    under_way: Vec<UnderWay>,
    /// Those that the latest look-ups did not name.
    absent: BTreeMap<BackendId, Absent>,
    /// Intent for backends that are gone, until the time given.
    departed: BTreeMap<BackendId, (Intent, Time)>,
    next_generation: u64,
    next_probe: u64,
    discovered: Option<Time>,
    /// Since when no look-up says who is there, if it is so.
    blind_since: Option<Time>,
    discovery_error: Option<String>,
    early_discovery: Option<Time>,
    /// When the outcomes of attempts are sampled next.
    next_sample: Time,
    degraded_time: Duration,
    slow_start: Duration,
    /// The share of a tier's weight that must be able to serve, or the next one joins.
    tier_least: f64,
    /// For how long since somebody was up requests wait for somebody.
    last_resort: Duration,
    /// When one that was in service and has left was last up.
    left_up: Option<Time>,
    /// Since the first event, at the latest.
    rung_since: Option<Time>,
    rung_picks: RungPicks,
    ejections: BTreeMap<EjectReason, u64>,
    withheld: BTreeMap<Withheld, u64>,
    effects: Vec<Effect>,
    published: Arc<Published>,
    /// The most requests in flight at a backend for which no operator wants another number.
    max_in_flight: Option<u32>,
    /// Where requests may ask for a backend.
    tagger: Option<Tagger>,
    /// After how long without a visit a drain waits for visitors no longer.
    visitor_idle: Duration,
    /// When the latest event was.
    now: Time,
    /// When anything was told last, be it refused.
    called: Time,
}

impl Pool {
    /// An empty pool that ejects nobody. `seed` decides the jitter of its probes and what its pickers draw.
    #[must_use]
    pub fn new(name: &str, policy: Policy, plan: ProbePlan, seed: u64) -> Self {
        let configured = PolicyPlan { policy, ..PolicyPlan::default() };
        let published = Arc::new(Published::new(configured.clone()));
        Self {
            name: name.to_owned(),
            configured,
            wanted: Overridable::default(),
            plan,
            ejection: EjectionPlan::off(),
            random: Random::new(seed),
            backends: BTreeMap::new(),
            leaving: BTreeMap::new(),
            under_way: Vec::new(),
            absent: BTreeMap::new(),
            departed: BTreeMap::new(),
            next_generation: 1,
            next_probe: 1,
            discovered: None,
            blind_since: None,
            discovery_error: None,
            early_discovery: None,
            next_sample: Time::START,
            degraded_time: degrade::HOLD,
            slow_start: Duration::ZERO,
            tier_least: 0.0,
            last_resort: Duration::ZERO,
            left_up: None,
            rung_since: None,
            rung_picks: RungPicks::default(),
            ejections: BTreeMap::new(),
            withheld: BTreeMap::new(),
            effects: Vec::new(),
            published,
            max_in_flight: None,
            tagger: None,
            visitor_idle: Duration::ZERO,
            now: Time::START,
            called: Time::START,
        }
    }

    /// Limits the requests in flight at each backend for which no operator wants another number.
    #[must_use]
    pub fn with_max_in_flight(mut self, limit: Option<u32>) -> Self {
        self.max_in_flight = limit;
        self
    }

    /// Lets a tier join as soon as less than this share of the weight above it can serve. Without, it
    /// serves only when nobody above can.
    #[must_use]
    pub fn with_tier_least(mut self, share: f64) -> Self {
        self.tier_least = share;
        self
    }

    /// A probe ended. Reports that nobody waits for any more change nothing: the backend may be
    /// another one by now, or may have been in maintenance meanwhile.
    pub fn probe_finished(&mut self, order: &ProbeOrder, result: ProbeResult, now: Time) {
        let has_turned = self.probe_ended(&order.id, order.sequence, result, now);
        // Most probes say what the one before said, and then nothing follows from it.
        if has_turned || !self.can_serve() {
            self.settle(now);
        }
    }

    /// A probe could not be made, such as for want of file descriptors: that is our fault, and says
    /// nothing of the backend.
    pub fn probe_not_made(&mut self, order: &ProbeOrder, now: Time) {
        let plan = self.plan_of(&order.id);
        let Self { backends, random, .. } = self;
        if let Some(backend) = backends.get_mut(&order.id).filter(|backend| backend.is_probed()) {
            backend.health.probe_not_made(order.sequence, &plan, random, now);
        }
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
        self.send_off(generation, "gone: it left its name, and a request failed", now);
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

    /// Does what is due: starts probes, gives up on lost ones, judges outcomes, lets intent expire.
    /// To be called when [`Self::deadline`] is reached; calling it more often does no harm.
    pub fn advance(&mut self, now: Time) {
        self.now = now;
        self.expire_intents(now);
        self.expire_policy(now);
        let lost: Vec<(BackendId, u64)> = self
            .backends
            .values()
            .filter_map(|b| Some((b.found.id.clone(), b.health.lost_probe(&self.plan, now)?)))
            .collect();
        for (id, sequence) in lost {
            let detail = "the probe was never answered".to_owned();
            let result =
                ProbeResult { passed: false, detail, duration: self.plan.give_up, answer: None };
            self.probe_ended(&id, sequence, result, now);
        }
        self.judge_outcomes(now, false);
        self.end_degraded(now);
        self.forget_departed(now);
        self.end_tunnels(now);
        self.tell_drained(now);
        self.settle(now);
        // Last, as all of this may bring a probe forward.
        self.start_probes(now);
    }

    /// Says what time it is, to be called before all else that is told at that time. Where nobody came
    /// as was asked for, nobody brought answers of probes either: those are awaited for longer.
    pub fn catch_up(&mut self, now: Time) {
        let before = std::mem::replace(&mut self.called, now);
        if now.since(before) < STALL {
            return;
        }
        let due = self.deadline(before).map_or(now, |due| due.max(before));
        let late = now.since(due);
        if late >= STALL {
            // And somewhat more: giving up on one may be what we are late for.
            let longer = late + STALL;
            self.backends.values_mut().for_each(|backend| backend.health.wait_longer(longer));
        }
    }

    /// When [`Self::advance`] is due next. Any other call may bring it forward.
    #[must_use]
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let of_backends = self.backends.values().flat_map(|backend| {
            let probe = backend.health.deadline(&self.plan).filter(|_| backend.is_probed());
            let drained = self.drain_look(backend, now);
            let degraded = backend.degraded.as_ref().map(|degraded| degraded.until);
            let tunnels = backend.intent.stated().deadline.filter(|_| !backend.must_end_tunnels());
            [probe, drained, degraded, tunnels, backend.intent.next_end()]
        });
        let forgotten = self.departed.values().filter(|_| self.blind_since.is_none());
        let of_departed = forgotten.map(|(_, until)| Some(*until));
        of_backends
            .chain(of_departed)
            .chain([
                self.ejection_deadline(),
                self.climb_deadline(),
                self.leaving_deadline(),
                self.under_way_deadline(),
                self.last_resort_deadline(),
                self.wanted.expires(),
            ])
            .flatten()
            .min()
    }

    /// The effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// A handle for one worker to pick with. Each draws numbers of its own.
    pub fn picker(&mut self) -> Picker {
        Picker::new(Arc::clone(&self.published), self.random.next())
    }

    /// Requests that wait for a backend with room, or for any to come back.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.published.queue().length()
    }

    /// How many backends there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.backends.len()
    }

    /// First attempts so far.
    #[must_use]
    pub fn picks(&self) -> u64 {
        self.published.requests()
    }

    /// The pool as people see it.
    #[must_use]
    pub fn view(&self) -> PoolView {
        let serving = self.published.current().serving;
        let rung = serving.rung;
        PoolView {
            rung,
            tier: serving.tier,
            rung_since: self.rung_since.unwrap_or(self.now),
            waiting: self.published.queue().length(),
            picks: self.rung_picks.up_to(rung, self.published.picks()),
            name: self.name.clone(),
            plan: self.plan().clone(),
            configured_plan: self.configured.clone(),
            wanted_plan: self.wanted.clone(),
            discovered: self.discovered,
            discovery_error: self.discovery_error.clone(),
            ejections: self.ejections.clone(),
            withheld: self.withheld.clone(),
            backends: self
                .backends
                .values()
                .map(|entry| entry.view(serving, self.max_in_flight, self.visitors_until(entry)))
                .collect(),
            leaving: self
                .leaving
                .values()
                .map(|leaving| leaving.view(serving, self.max_in_flight))
                .collect(),
        }
    }

    fn start_probes(&mut self, now: Time) {
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
    }

    /// Takes note of a probe's result; whether the verdict is another one now.
    fn probe_ended(
        &mut self,
        id: &BackendId,
        sequence: u64,
        result: ProbeResult,
        now: Time,
    ) -> bool {
        let plan = self.plan_of(id);
        let Self { backends, random, .. } = self;
        let backend = backends.get_mut(id).filter(|backend| backend.is_probed());
        let Some(backend) = backend else { return false };
        let before = backend.health.health;
        backend.health.probe_finished(sequence, result, &plan, random, now);
        let has_turned = backend.health.health != before;
        self.tell_health(id, before, now);
        self.forgive_restart(id, before, now);
        has_turned
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
}

fn current<'a>(
    backends: &'a mut BTreeMap<BackendId, Entry>,
    id: &BackendId,
    generation: u64,
) -> Option<&'a mut Entry> {
    backends.get_mut(id).filter(|backend| backend.member.generation() == generation)
}
