//! The JSON of the admin API.

use std::time::Duration;

use balance::{BackendView, PoolView};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, tag};
use crate::{
    clock::said_text,
    settings::ProbeKind,
    traffic::{Latest, Traffic},
};

/// `GET /v1/pools`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Everything {
    proxy: Proxy,
    pools: Vec<Pool>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Proxy {
    name: String,
    version: &'static str,
    started_at: String,
    uptime_seconds: f64,
    ready: bool,
    not_ready_reasons: Vec<String>,
    /// Why changes are not in the state file, and would be lost with the process.
    not_saved_reason: Option<String>,
    stopping: bool,
    workers: usize,
}

/// A pool.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pool {
    name: String,
    /// Stands for what operators want of the pool itself; for `If-Match`.
    etag: String,
    /// How backends are chosen.
    policy: &'static str,
    /// What the policy hash goes by.
    hash_key: String,
    /// What both are where no operator wants it otherwise.
    policy_configured: &'static str,
    hash_key_configured: String,
    /// An operator's policy; none if it is as configured.
    policy_wanted: Option<&'static str>,
    /// Since when it is so by an operator's word, be it that it is as configured again; none if
    /// nobody said anything.
    policy_since: Option<String>,
    policy_reason: Option<String>,
    policy_actor: Option<String>,
    /// When what stands without it comes back by itself.
    policy_expires_at: Option<String>,
    /// The policy that comes back then, and its key; none if this one has no end.
    policy_reverts_to: Option<&'static str>,
    hash_key_reverts_to: Option<String>,
    /// When the newest word on it was said, and the one that stands; see those of a backend.
    policy_said_at: Option<String>,
    policy_standing_said_at: Option<String>,
    source: SourceView,
    probe: ProbeView,
    /// The rung of the last-resort ladder that requests are served from, or on which they wait
    /// (queue) or are refused (nobody).
    rung: &'static str,
    rung_since: String,
    /// The lowest tier of those that serve; backups serve if it is below the first.
    tier: u16,
    counts: Counts,
    traffic: Traffic,
    backends: Vec<Backend>,
}

/// `GET /v1/pools/{pool}/backends`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Backends {
    backends: Vec<Backend>,
}

#[derive(Debug, Serialize, ToSchema)]
struct SourceView {
    kind: &'static str,
    text: String,
    last_success_at: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ProbeView {
    kind: &'static str,
    path: Option<String>,
    interval_ms: u64,
    timeout_ms: u64,
    fall: u32,
    rise: u32,
}

#[derive(Debug, Serialize, ToSchema)]
struct Counts {
    total: usize,
    eligible: usize,
    /// Requests that wait for a backend with room, or for any to come back.
    waiting: usize,
}

/// A backend.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Backend {
    id: String,
    /// Stands for what operators want of it; for `If-Match`.
    etag: String,
    url: String,
    addresses: Vec<String>,
    generation: u64,
    /// What its source tells instances by: in Kubernetes the UID of its pod.
    instance: Option<String>,
    weight: u32,
    /// 0 is wanted most; others serve only while those above have too little.
    tier: u16,
    /// Below 100 while slow start lets it climb.
    climbed_percent: u32,
    admin: &'static str,
    /// Since when it is so on this proxy, be it that somebody has said it again since; when that was
    /// is `admin_said_at` with an end, and else `admin_standing_said_at`.
    admin_since: String,
    admin_reason: Option<String>,
    admin_actor: Option<String>,
    /// Whether it was said with `force`, to be done even if too few backends are left: whoever tells
    /// another proxy of it later does so with `force`, too.
    admin_forced: bool,
    /// With a change that has a `ttl`: when what stands is in force again.
    admin_expires_at: Option<String>,
    /// What is in force then.
    admin_reverts_to: Option<Stated>,
    /// When the newest word on it was said, be it one that has ended since; none if nobody has said
    /// anything.
    admin_said_at: Option<String>,
    /// The same of what stands, with or without something on top of it.
    admin_standing_said_at: Option<String>,
    /// What it goes back to.
    configured_weight: u32,
    /// An operator's weight; none if it is as configured.
    weight_wanted: Option<u32>,
    /// Since when it is so by an operator's word, be it that it is as configured again; none if
    /// nobody said anything.
    weight_since: Option<String>,
    weight_reason: Option<String>,
    weight_actor: Option<String>,
    /// Whether it was said with `force`, as above.
    weight_forced: bool,
    weight_expires_at: Option<String>,
    /// The weight that is in force then.
    weight_reverts_to: Option<u32>,
    weight_said_at: Option<String>,
    weight_standing_said_at: Option<String>,
    health: &'static str,
    health_since: String,
    health_until: Option<String>,
    health_reason: String,
    terminating: bool,
    effective: &'static str,
    eligible: bool,
    reasons: Vec<String>,
    last_probe: Option<LastProbe>,
    in_flight: u32,
    /// Upgraded connections among them.
    tunnels: u32,
    /// Requests that came by its cookie within the last minute.
    sticky: u32,
    /// When the last such request came.
    sticky_last_at: Option<String>,
    /// While a drain waits for visitors: when it no longer does, if none comes any more.
    sticky_awaited_until: Option<String>,
    /// When upgraded connections are to end, and the visits that a drain leaves.
    deadline_at: Option<String>,
    /// None is no limit.
    max_in_flight: Option<u32>,
    /// What it goes back to; none is no limit.
    configured_max_in_flight: Option<u32>,
    /// An operator's limit, of which 0 is none; none if it is as configured.
    max_in_flight_wanted: Option<u32>,
    /// Since when it is so by an operator's word, be it that it is as configured again; none if
    /// nobody said anything.
    max_in_flight_since: Option<String>,
    max_in_flight_reason: Option<String>,
    max_in_flight_actor: Option<String>,
    max_in_flight_expires_at: Option<String>,
    /// The limit that is in force then; none is no limit.
    max_in_flight_reverts_to: Option<u32>,
    max_in_flight_said_at: Option<String>,
    max_in_flight_standing_said_at: Option<String>,
    traffic: Traffic,
}

/// A state that an operator wants.
#[derive(Debug, Serialize, ToSchema)]
struct Stated {
    state: &'static str,
    since: String,
    reason: Option<String>,
    actor: Option<String>,
    /// Whether it was said with `force`.
    forced: bool,
    /// When upgraded connections are to end then, and the visits that a drain leaves; it may be over
    /// by that time.
    deadline_at: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct LastProbe {
    at: String,
    passed: bool,
    detail: String,
    duration_ms: f64,
    /// The status of the answer to an HTTP probe; none if none came.
    code: Option<u16>,
    /// Up to 64 bytes of its body, in printable characters.
    first_bytes: Option<String>,
    streak: u32,
}

impl Pool {
    pub(super) fn etag(&self) -> &str {
        &self.etag
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn into_backends(self) -> Backends {
        Backends { backends: self.backends }
    }

    pub(super) fn into_backend(self, id: &str) -> Option<Backend> {
        self.backends.into_iter().find(|backend| backend.id == id)
    }
}

impl Backend {
    pub(super) fn etag(&self) -> &str {
        &self.etag
    }

    /// What operators want of it, for a sentence.
    pub(super) fn intent_in_words(&self) -> String {
        let mut words = format!("{} with weight {}", self.admin, self.weight);
        if let Some(limit) = self.max_in_flight {
            words.push_str(&format!(" and at most {limit} in flight"));
        }
        if let Some(actor) = &self.admin_actor {
            let with_end = self.admin_expires_at.is_some();
            let said = if with_end { &self.admin_said_at } else { &self.admin_standing_said_at };
            let said = said.as_ref().unwrap_or(&self.admin_since);
            words.push_str(&format!("; {} was set by {actor} at {said}", self.admin));
        }
        if let Some(reason) = &self.admin_reason {
            words.push_str(&format!(" ({reason})"));
        }
        words
    }
}

/// Everything that is known.
pub(super) fn everything(admin: &Admin) -> Everything {
    let clock = admin.control.clock;
    let mut not_ready_reasons = admin.not_ready();
    let stopping = admin.shutdown.is_requested();
    if stopping {
        not_ready_reasons.insert(0, "stopping".to_owned());
    }
    let proxy = Proxy {
        name: admin.settings.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        started_at: clock.text(clock.started()),
        uptime_seconds: clock.now().since(clock.started()).as_secs_f64(),
        ready: not_ready_reasons.is_empty(),
        not_ready_reasons,
        not_saved_reason: admin.control.saving.trouble(),
        stopping,
        workers: admin.settings.workers,
    };
    Everything { proxy, pools: vec![pool(admin)] }
}

/// The only pool so far.
pub(super) fn pool(admin: &Admin) -> Pool {
    pool_of(admin, &admin.control.read(|pool| pool.view()))
}

/// The same of a view of it, for whoever holds the pool.
pub(super) fn pool_of(admin: &Admin, view: &PoolView) -> Pool {
    let latest = admin.sampler.latest();
    let counts = Counts {
        total: view.everybody().count(),
        eligible: view.eligible(),
        waiting: view.waiting,
    };
    let backends = view.everybody().map(|view| backend(admin, view, &latest)).collect();
    let (clock, wanted) = (admin.control.clock, view.wanted_plan.current());
    let set = wanted.set.as_ref();
    let then = view.wanted_plan.reverts_to();
    let then = then.map(|below| below.plan.as_ref().unwrap_or(&view.configured_plan));
    Pool {
        name: view.name.clone(),
        etag: tag::of_pool(view, &clock),
        policy: view.plan.policy.as_str(),
        hash_key: view.plan.hash_key.to_string(),
        policy_configured: view.configured_plan.policy.as_str(),
        hash_key_configured: view.configured_plan.hash_key.to_string(),
        policy_wanted: wanted.plan.as_ref().map(|plan| plan.policy.as_str()),
        policy_since: set.map(|set| clock.text(set.since)),
        policy_reason: set.and_then(|set| set.reason.clone()),
        policy_actor: set.and_then(|set| set.actor.clone()),
        policy_expires_at: view.wanted_plan.expires().map(|end| clock.text(end)),
        policy_reverts_to: then.map(|plan| plan.policy.as_str()),
        hash_key_reverts_to: then.map(|plan| plan.hash_key.to_string()),
        policy_said_at: view.wanted_plan.said.latest.map(said_text),
        policy_standing_said_at: view.wanted_plan.said.standing.map(said_text),
        source: source(admin, view),
        probe: probe(admin),
        rung: view.rung.as_str(),
        rung_since: clock.text(view.rung_since),
        tier: view.tier,
        counts,
        traffic: latest.pool.clone(),
        backends,
    }
}

fn source(admin: &Admin, view: &PoolView) -> SourceView {
    let source = &admin.settings.discovering.source;
    let (kind, text) = (source.kind(), source.to_string());
    let last_success_at = view.discovered.map(|time| admin.control.clock.text(time));
    SourceView { kind, text, last_success_at, error: view.discovery_error.clone() }
}

fn probe(admin: &Admin) -> ProbeView {
    let probe = &admin.settings.probe;
    let (kind, path) = match &probe.kind {
        ProbeKind::Tcp => ("tcp", None),
        ProbeKind::Http(path) => ("http", Some(path.clone())),
        ProbeKind::Grpc(_) => ("grpc", None),
        ProbeKind::Off => ("off", None),
    };
    ProbeView {
        kind,
        path,
        interval_ms: millis(probe.interval),
        timeout_ms: millis(probe.timeout),
        fall: probe.fall,
        rise: probe.rise,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn backend(admin: &Admin, view: &BackendView, latest: &Latest) -> Backend {
    let clock = admin.control.clock;
    let (weight_set, limit_set) = (view.weight_set.as_ref(), view.max_in_flight_set.as_ref());
    let visits = view.member.visits(clock.now());
    Backend {
        id: view.id.to_string(),
        etag: tag::of(view, &clock),
        url: format!("http://{}", view.id),
        addresses: view.addresses.iter().map(ToString::to_string).collect(),
        generation: view.member.generation(),
        instance: view.instance.clone(),
        weight: view.weight,
        tier: view.tier,
        climbed_percent: view.climbed_percent,
        admin: view.admin.as_str(),
        admin_since: clock.text(view.admin_since),
        admin_reason: view.admin_reason.clone(),
        admin_actor: view.admin_actor.clone(),
        admin_forced: view.admin_forced,
        admin_expires_at: view.admin_expires.map(|time| clock.text(time)),
        admin_reverts_to: view.admin_reverts_to.as_ref().map(|stated| Stated {
            state: stated.state.as_str(),
            since: clock.text(stated.since),
            reason: stated.reason.clone(),
            actor: stated.actor.clone(),
            forced: stated.forced,
            deadline_at: stated.deadline.map(|time| clock.text(time)),
        }),
        admin_said_at: view.admin_said.latest.map(said_text),
        admin_standing_said_at: view.admin_said.standing.map(said_text),
        configured_weight: view.configured_weight,
        weight_wanted: view.weight_wanted,
        weight_since: weight_set.map(|set| clock.text(set.since)),
        weight_reason: weight_set.and_then(|set| set.reason.clone()),
        weight_actor: weight_set.and_then(|set| set.actor.clone()),
        weight_forced: weight_set.is_some_and(|set| set.forced),
        weight_expires_at: view.weight_expires.map(|time| clock.text(time)),
        weight_reverts_to: view.weight_reverts_to,
        weight_said_at: view.weight_said.latest.map(said_text),
        weight_standing_said_at: view.weight_said.standing.map(said_text),
        health: view.health.as_str(),
        health_since: clock.text(view.health_since),
        health_until: view.health_until.map(|time| clock.text(time)),
        health_reason: view.health_reason.clone(),
        terminating: view.is_terminating,
        effective: view.effective.as_str(),
        eligible: view.eligible,
        reasons: reasons(admin, view, visits),
        last_probe: view.last_probe.as_ref().map(|last| LastProbe {
            at: clock.text(last.at),
            passed: last.result.passed,
            detail: last.result.detail.clone(),
            duration_ms: last.result.duration.as_secs_f64() * 1e3,
            code: last.result.answer.as_ref().map(|answer| answer.code),
            first_bytes: last.result.answer.as_ref().map(|answer| answer.first_bytes.clone()),
            streak: last.streak,
        }),
        in_flight: view.in_flight,
        tunnels: view.tunnels,
        sticky: visits,
        sticky_last_at: view.member.last_visit().map(|time| clock.text(time)),
        sticky_awaited_until: view.visitors_until.map(|time| clock.text(time)),
        deadline_at: view.deadline.map(|time| clock.text(time)),
        max_in_flight: view.max_in_flight,
        configured_max_in_flight: view.configured_max_in_flight,
        max_in_flight_wanted: view.max_in_flight_wanted,
        max_in_flight_since: limit_set.map(|set| clock.text(set.since)),
        max_in_flight_reason: limit_set.and_then(|set| set.reason.clone()),
        max_in_flight_actor: limit_set.and_then(|set| set.actor.clone()),
        max_in_flight_expires_at: view.max_in_flight_expires.map(|time| clock.text(time)),
        max_in_flight_reverts_to: view.max_in_flight_reverts_to,
        max_in_flight_said_at: view.max_in_flight_said.latest.map(said_text),
        max_in_flight_standing_said_at: view.max_in_flight_said.standing.map(said_text),
        traffic: latest.backends.get(view.id.as_str()).cloned().unwrap_or_default(),
    }
}

/// Why it gets no requests, that it does from its visitors, and what its drain waits for.
fn reasons(admin: &Admin, view: &BackendView, visits: u32) -> Vec<String> {
    let visits = (visits > 0 && !view.eligible)
        .then(|| format!("requests of its visitors within the last minute: {visits}"));
    let clock = admin.control.clock;
    let awaited = view.visitors_until.map(|until| {
        format!("waits for visitors: drained at {} if no more come", clock.text(until))
    });
    view.reasons.iter().cloned().chain(visits).chain(awaited).collect()
}
