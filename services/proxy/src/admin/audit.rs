//! `GET /v1/audit`: who changed what, and who was refused. What it needs is the admin role: it
//! tells names and addresses.

use std::{net::IpAddr, time::Instant};

use axum::{Json, extract::State};
use balance::{BackendView, Pool, PoolView};
use chassis::problem::Problem;
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Admin, Caller,
    openapi::{Guarded, Reading},
};
use crate::audit::{Entry, Intent, PolicyIntent, Wanted};

/// The path of this resource, which needs more than others that are read.
pub(super) const PATH: &str = "/v1/audit";

/// Of a path that somebody made up, this much tells enough.
const PATH_LONGEST: usize = 200;

/// The audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditList {
    /// Newest first
    entries: Vec<Entry>,
    /// Refusals since the proxy began that have no entry of their own: the same as one before, or
    /// one of too many
    refusals_not_listed: u64,
}

/// The last thousand changes and refusals, newest first; with the admin role
#[utoipa::path(
    get,
    path = "/v1/audit",
    responses((status = 200, body = AuditList), Reading, Guarded)
)]
pub(super) async fn audit(State(admin): State<Admin>) -> Json<AuditList> {
    let (entries, refusals_not_listed) = (admin.audit.latest(), admin.audit.untold());
    Json(AuditList { entries, refusals_not_listed })
}

/// What there is to say of a change that was made.
pub(super) struct Deed {
    pub(super) reason: Option<String>,
    pub(super) forced: bool,
    pub(super) wanted: (Wanted, Wanted),
    pub(super) not_saved: Option<String>,
}

impl Admin {
    /// Notes a change that was made.
    pub(super) fn tell_changed(&self, caller: &Caller, actor: String, path: String, deed: Deed) {
        let (before, after) = deed.wanted;
        self.audit.add(Entry {
            action: "changed".to_owned(),
            status: 200,
            reason: deed.reason,
            forced: deed.forced,
            before: Some(before),
            after: Some(after),
            detail: deed.not_saved.map(|why| format!("not saved: {why}")),
            ..self.entry(caller, actor, path)
        });
    }

    /// Notes a change that was refused.
    pub(super) fn tell_refused(
        &self,
        caller: &Caller,
        actor: String,
        path: String,
        problem: &Problem,
    ) {
        let entry = Entry {
            action: "refused".to_owned(),
            status: problem.status().as_u16(),
            detail: Some(problem.detail().to_owned()),
            ..self.entry(caller, actor, path)
        };
        self.audit.add_refused(entry, Instant::now());
    }

    fn entry(&self, caller: &Caller, actor: String, path: String) -> Entry {
        let clock = self.control.clock;
        Entry {
            at: clock.text(clock.now()),
            action: String::new(),
            actor,
            from: Some(caller.address.to_string()),
            role: caller.role.as_str().to_owned(),
            path: path.chars().take(PATH_LONGEST).collect(),
            status: 0,
            reason: None,
            forced: false,
            before: None,
            after: None,
            detail: None,
        }
    }

    /// What operators want of a backend of the pool, for the log.
    pub(super) fn intent_of(&self, pool: &Pool, id: &str) -> Intent {
        let view = pool.view();
        let backend = view.backends.iter().find(|backend| backend.id.as_str() == id);
        backend.map(|backend| self.intent(backend)).unwrap_or_default()
    }

    /// What operators want of the pool itself, for the log.
    pub(super) fn wanted_policy(&self, pool: &PoolView) -> PolicyIntent {
        let wanted = pool.wanted_plan.current();
        PolicyIntent {
            policy: pool.plan.policy.as_str().to_owned(),
            hash_key: pool.plan.hash_key.to_string(),
            configured: wanted.plan.is_none(),
            reason: wanted.set.as_ref().and_then(|set| set.reason.clone()),
            expires_at: pool.wanted_plan.expires().map(|end| self.control.clock.text(end)),
        }
    }

    /// What they want of a backend, by a view of it.
    pub(super) fn intent(&self, backend: &BackendView) -> Intent {
        let clock = self.control.clock;
        Intent {
            state: backend.admin.as_str().to_owned(),
            weight: backend.weight,
            max_in_flight: backend.max_in_flight,
            reason: backend.admin_reason.clone(),
            expires_at: backend.admin_expires.map(|time| clock.text(time)),
            reverts_to: backend
                .admin_reverts_to
                .as_ref()
                .map(|stated| stated.state.as_str().to_owned()),
            deadline_at: backend.deadline.map(|time| clock.text(time)),
            weight_reverts_to: backend.weight_reverts_to,
            weight_expires_at: backend.weight_expires.map(|time| clock.text(time)),
            max_in_flight_expires_at: backend.max_in_flight_expires.map(|time| clock.text(time)),
            max_in_flight_reverts_to: backend.max_in_flight_reverts_to,
        }
    }
}

/// The caller, its own words about who it is included.
pub(super) fn actor(address: IpAddr, headers: &HeaderMap) -> String {
    /// Longer names do not help on a page.
    const LONGEST: usize = 100;
    let said = headers.get("x-evenkeel-actor").and_then(|value| value.to_str().ok());
    match said.map(str::trim).filter(|said| !said.is_empty()) {
        Some(said) => {
            let said: String = said.chars().take(LONGEST).collect();
            format!("{said} (from {address})")
        }
        None => address.to_string(),
    }
}
