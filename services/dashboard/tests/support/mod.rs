//! A fake admin API, a real dashboard, and a client, on ports that the system chooses.
// Each test binary uses a part of it, and a failure should panic at the line that was wrong.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use serde_json::{Value, json};

pub use self::{dashboard::*, fake_admin::*};

mod dashboard;
mod fake_admin;

/// Long enough for a loaded machine; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const TOKEN: &str = "correct-horse-battery";

/// What a change of a:1 would do where so many of three backends serve before and after; with why
/// it would be refused.
pub fn dry_run(before: usize, after: usize, refusal: Option<&str>) -> Value {
    json!({
        "refused": refusal.is_some(), "detail": refusal.unwrap_or("a:1 would be changed"),
        "prediction": {"requests_per_second": 30.0, "total": 3, "eligible_before": before,
            "eligible_after": after, "floor": 1, "backends": [
            {"id": "a:1", "share_before": 0.5, "share_after": 0.0,
                "requests_per_second_before": 15.0, "requests_per_second_after": 0.0,
                "in_flight_before": 1, "in_flight_after": 0.0},
            {"id": "b:1", "share_before": 0.5, "share_after": 1.0,
                "requests_per_second_before": 15.0, "requests_per_second_after": 30.0,
                "in_flight_before": 1, "in_flight_after": 2.0}]},
    })
}

/// An answer of `GET /v1/pools`.
pub fn pools(backends: &[Value]) -> Value {
    json!({
        "proxy": {"name": "edge-1", "version": "0.1.0", "started_at": "2026-11-23T15:00:00.000Z",
            "uptime_seconds": 12.3, "ready": true, "not_ready_reasons": [], "stopping": false,
            "workers": 2},
        "pools": [{"name": "default", "policy": "round_robin",
            "source": {"kind": "static", "text": "http://127.0.0.1:8081", "error": null},
            "probe": {"kind": "tcp", "path": null, "interval_ms": 2000, "timeout_ms": 1000,
                "fall": 3, "rise": 2},
            "traffic": traffic(), "backends": backends}],
    })
}

pub fn traffic() -> Value {
    json!({"requests_total": 1_000, "failures_total": 1, "requests_per_second": 12.3,
        "error_share": 0.0, "p50_ms": 1.2, "p95_ms": 3.4, "p99_ms": null, "window_seconds": 10})
}

pub fn backend(id: &str) -> Value {
    json!({
        "id": id, "url": format!("http://{id}"), "addresses": [], "generation": 1, "weight": 1,
        "admin": "ready", "admin_since": "2026-11-23T15:00:00.000Z", "admin_reason": null,
        "admin_actor": null, "admin_expires_at": null, "admin_reverts_to": null,
        "health": "up", "health_since": "2026-11-23T15:00:01.000Z", "health_reason": "it connects",
        "effective": "serving", "eligible": true, "reasons": [],
        "last_probe": {"at": "2026-11-23T15:00:11.000Z", "passed": true,
            "detail": "connected in 0.3 ms", "duration_ms": 0.31, "streak": 5},
        "in_flight": 3, "traffic": traffic(),
    })
}

/// A backend of a proxy that tells when things were said, before anybody said anything.
pub fn unsaid(id: &str) -> Value {
    let mut backend = backend(id);
    (backend["etag"], backend["admin_said_at"]) = (json!("\"unsaid\""), Value::Null);
    backend
}

/// The time at which ann said what [`said_by_ann`] is, as text and in milliseconds.
pub const SAID: (&str, u64) = ("2026-11-23T15:00:05.000Z", 1_795_446_005_000);

/// The same when ann has taken it out.
pub fn said_by_ann(id: &str) -> Value {
    let mut backend = unsaid(id);
    (backend["etag"], backend["admin"]) = (json!("\"said\""), json!("maint"));
    (backend["admin_actor"], backend["admin_reason"]) = (json!("ann"), json!("new disk"));
    (backend["admin_said_at"], backend["admin_standing_said_at"]) = (json!(SAID.0), json!(SAID.0));
    backend
}

pub fn event(id: u64, message: &str) -> Value {
    json!({"id": id, "at": "2026-11-23T15:00:01.000Z", "kind": "health", "pool": "default",
        "backend": null, "message": message, "actor": null})
}
