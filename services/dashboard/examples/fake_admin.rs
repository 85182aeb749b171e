//! A stand-in for the proxy's admin API, to look at the page without a proxy:
//!
//! ```text
//! cargo run -p evenkeel-dashboard --example fake_admin -- 50 --troubled
//! ```
//!
//! serves that many lively backends on 127.0.0.1:9901 and takes changes; with `--troubled`, some
//! backends fail, are degraded or ejected, and some are drained from the start. FAKE_ADMIN_PORT,
//! FAKE_ADMIN_NAME, FAKE_ADMIN_PART (its part of the traffic, 1 unless told) and FAKE_ADMIN_DOWN (the
//! number of a backend that it cannot reach) make several of them a fleet. A change with `"up": false`
//! has a backend fail, which no real proxy takes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, patch},
};
use serde_json::{Value, json};

struct Backend {
    id: String,
    admin: String,
    admin_at: SystemTime,
    reason: Option<String>,
    expires: Option<SystemTime>,
    /// What holds again then.
    standing: String,
    actor: Option<String>,
    up: bool,
    /// Asks to be spared.
    odd: bool,
    ejected: bool,
    weight: usize,
    health_at: SystemTime,
    requests: f64,
    failures: f64,
    rate: f64,
}

struct World {
    started: SystemTime,
    clock: Instant,
    /// Of the traffic.
    part: f64,
    backends: Vec<Backend>,
    events: Vec<Value>,
}

type Shared = Arc<Mutex<World>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let count = args.next().and_then(|count| count.parse().ok()).unwrap_or(3);
    let world = World::new(count, args.next().is_some());
    let shared: Shared = Arc::new(Mutex::new(world));
    let ticking = Arc::clone(&shared);
    tokio::spawn(async move {
        const TICK: Duration = Duration::from_millis(100);
        loop {
            tokio::time::sleep(TICK).await;
            lock(&ticking).tick(TICK.as_secs_f64());
        }
    });
    let router = Router::new()
        .route(
            "/v1/pools",
            get(|State(world): State<Shared>| async move { Json(lock(&world).answer()) }),
        )
        .route("/v1/events", get(events))
        .route("/v1/pools/{pool}/backends/{id}", patch(change))
        .with_state(shared);
    let port = std::env::var("FAKE_ADMIN_PORT").unwrap_or_else(|_| "9901".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    axum::serve(listener, router).await
}

fn lock(world: &Shared) -> std::sync::MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

impl World {
    fn new(count: usize, troubled: bool) -> Self {
        let now = SystemTime::now();
        let started = now - Duration::from_secs(1_260);
        let unreachable = std::env::var("FAKE_ADMIN_DOWN").ok().and_then(|text| text.parse().ok());
        let backend = |index: usize| {
            let id = if count <= 10 {
                format!("127.0.0.1:{}", 8081 + index)
            } else {
                format!("10.42.{}.{}:8081", index / 200, index % 200 + 7)
            };
            let drained = troubled && index % 23 == 4;
            Backend {
                id,
                admin: if drained { "drain" } else { "ready" }.to_owned(),
                admin_at: now - Duration::from_secs(200),
                expires: None,
                standing: "ready".to_owned(),
                reason: drained.then(|| "kernel update".to_owned()),
                actor: drained.then(|| "dashboard, on this machine".to_owned()),
                up: !(troubled && index % 17 == 2) && unreachable != Some(index),
                odd: troubled && index % 29 == 5,
                ejected: troubled && index % 41 == 7,
                weight: if troubled { 1 + index % 3 } else { 1 },
                health_at: now - Duration::from_secs(1_250 - index as u64 % 900),
                requests: 0.0,
                failures: 0.0,
                rate: 0.0,
            }
        };
        let mut world = Self {
            started,
            clock: Instant::now(),
            part: std::env::var("FAKE_ADMIN_PART")
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(1.0),
            backends: (0..count).map(backend).collect(),
            events: Vec::new(),
        };
        world.tell("proxy", None, "the proxy started", None);
        world.tell("discovery", None, &format!("found {count} backends"), None);
        for index in 0..count.min(12) {
            let backend = &world.backends[index];
            let (id, text) = (
                backend.id.clone(),
                if backend.up {
                    "up: connected in 0.3 ms, 2 in a row"
                } else {
                    "down: connection refused, 3 in a row"
                },
            );
            world.tell("health", Some(&id), text, None);
        }
        world
    }

    fn tell(&mut self, kind: &str, backend: Option<&str>, message: &str, actor: Option<&str>) {
        self.events.push(json!({
            "id": self.events.len() + 1, "at": time(SystemTime::now()), "kind": kind,
            "pool": "default", "backend": backend, "message": message, "actor": actor,
        }));
    }

    fn tick(&mut self, seconds: f64) {
        let t = self.clock.elapsed().as_secs_f64();
        let takes = |backend: &Backend| {
            backend.up && !backend.ejected && !backend.odd && backend.admin == "ready"
        };
        let serving = self.backends.iter().filter(|backend| takes(backend)).count().max(1);
        let all =
            420.0 + 130.0 * (t / 19.0).sin() + 60.0 * (t / 4.1).sin() + 25.0 * (t * 2.3).sin();
        for (index, backend) in self.backends.iter_mut().enumerate() {
            let wave = 1.0 + 0.08 * (t * 0.7 + index as f64).sin();
            let wanted = if takes(backend) { self.part * all / serving as f64 * wave } else { 0.0 };
            backend.rate += (wanted - backend.rate) * 0.2;
            if backend.rate < 0.01 {
                backend.rate = 0.0;
            }
            backend.requests += backend.rate * seconds;
            let burst = if (t / 23.0).sin() > 0.93 { 0.006 } else { 0.0 };
            backend.failures += backend.rate * seconds * burst;
        }
    }

    /// What a change would do, by weights alone.
    fn predict(&self, index: usize, change: &Value) -> Value {
        let takes = |backend: &Backend, admin: &str| {
            backend.up && !backend.ejected && !backend.odd && admin == "ready"
        };
        let after = |at: usize, backend: &Backend| {
            let admin = change["state"].as_str().filter(|_| at == index);
            let is_out = at == index && change["weight"] == 0;
            takes(backend, admin.unwrap_or(&backend.admin)) && !is_out
        };
        let rate: f64 = self.backends.iter().map(|backend| backend.rate).sum();
        let before = self.backends.iter().filter(|backend| takes(backend, &backend.admin)).count();
        let all = self.backends.iter().enumerate();
        let left = all.clone().filter(|(at, backend)| after(*at, backend)).count();
        let parts = all.map(|(at, backend)| {
            let share = if after(at, backend) { 1.0 / left as f64 } else { 0.0 };
            json!({"id": backend.id, "share_before": backend.rate / rate.max(1.0),
                "share_after": share, "requests_per_second_before": backend.rate,
                "requests_per_second_after": share * rate})
        });
        json!({"refused": left == 0, "detail": "it is the only one that can take traffic",
            "prediction": {"requests_per_second": rate, "total": self.backends.len(),
                "eligible_before": before, "eligible_after": left, "floor": 1,
                "backends": parts.collect::<Vec<_>>()}})
    }

    fn answer(&self) -> Value {
        let t = self.clock.elapsed().as_secs_f64();
        let backends: Vec<Value> = self
            .backends
            .iter()
            .enumerate()
            .map(|(index, backend)| backend.json(index, t))
            .collect();
        let rate: f64 = self.backends.iter().map(|backend| backend.rate).sum();
        let requests: f64 = self.backends.iter().map(|backend| backend.requests).sum();
        let failures: f64 = self.backends.iter().map(|backend| backend.failures).sum();
        let uptime = self.started.elapsed().unwrap_or_default().as_secs_f64();
        let p50 = 1.8 + 0.3 * (t / 7.0).sin();
        json!({
            "proxy": {"name": std::env::var("FAKE_ADMIN_NAME").unwrap_or_else(|_| "edge-1".to_owned()), "version": "0.1.0", "started_at": time(self.started),
                "uptime_seconds": uptime, "ready": true, "not_ready_reasons": [],
                "stopping": false, "workers": 2},
            "pools": [{
                "name": "default", "policy": "round_robin",
                "source": {"kind": "dns", "text": "dns://server:8081", "error": null},
                "probe": {"kind": "http", "path": "/readyz", "interval_ms": 2000,
                    "timeout_ms": 1000, "fall": 3, "rise": 2},
                "traffic": traffic(requests, failures, rate, Some(p50), t),
                "backends": backends,
            }],
        })
    }
}

fn traffic(requests: f64, failures: f64, rate: f64, p50: Option<f64>, t: f64) -> Value {
    let share = if (t / 23.0).sin() > 0.93 && rate > 0.0 { 0.006 } else { 0.0 };
    json!({
        "requests_total": requests as u64, "failures_total": failures as u64,
        "requests_per_second": rate, "error_share": share,
        "p50_ms": p50, "p95_ms": p50.map(|p50| p50 * 3.1 + 1.2 * (t / 5.0).cos()),
        "p99_ms": p50.map(|p50| p50 * 6.4 + 3.0 * (t / 3.0).sin()), "window_seconds": 10,
    })
}

impl Backend {
    fn json(&self, index: usize, t: f64) -> Value {
        let in_flight = (self.rate * 0.02).round() as u64;
        let effective = match (self.admin.as_str(), self.up) {
            ("maint", _) => "maint",
            ("drain", _) if in_flight > 0 => "draining",
            ("drain", _) => "drained",
            (_, true) if self.ejected => "ejected",
            (_, true) if self.odd => "degraded",
            (_, true) => "serving",
            (_, false) => "down",
        };
        let health = match (self.up, self.ejected, self.odd) {
            (false, ..) => "down",
            (_, true, _) => "ejected",
            (.., true) => "degraded",
            _ => "up",
        };
        // Another time with each probe.
        let seen = format!("200 OK, {:.1} ms", 0.3 + (t / 2.0).floor() % 5.0 / 10.0);
        let detail = if self.up { seen.clone() } else { "connection refused".to_owned() };
        let probed = SystemTime::now() - Duration::from_millis((t * 1000.0) as u64 % 2000);
        let p50 = (self.rate > 0.0).then(|| 1.7 + 0.4 * (t / 7.0 + index as f64).sin());
        json!({
            "id": self.id, "url": format!("http://{}", self.id), "weight": self.weight, "generation": 1,
            "admin": self.admin, "admin_since": time(self.admin_at), "admin_reason": self.reason,
            "admin_actor": self.actor, "admin_expires_at": self.expires.map(time),
            "admin_reverts_to": self.expires.map(|_| json!({"state": self.standing})),
            "health": health, "health_since": time(self.health_at),
            "health_reason": if self.up { seen } else { "connection refused, 3 probes in a row".to_owned() },
            "effective": effective, "eligible": effective == "serving", "reasons": [],
            "last_probe": {"at": time(probed), "passed": self.up, "detail": detail,
                "duration_ms": 0.4, "streak": 51},
            "in_flight": in_flight,
            "traffic": traffic(self.requests, self.failures, self.rate, p50, t),
        })
    }
}

async fn events(
    State(world): State<Shared>,
    Query(query): Query<std::collections::HashMap<String, u64>>,
) -> Json<Value> {
    let after = query.get("after").copied().unwrap_or(0) as usize;
    let world = lock(&world);
    let events: Vec<&Value> = world.events.iter().skip(after).collect();
    Json(json!({"events": events, "last_id": world.events.len()}))
}

async fn change(
    State(world): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    Query(query): Query<std::collections::HashMap<String, bool>>,
    headers: axum::http::HeaderMap,
    Json(change): Json<Value>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let mut world = lock(&world);
    let ready =
        world.backends.iter().filter(|backend| backend.up && backend.admin == "ready").count();
    let state = change["state"].as_str().unwrap_or("ready").to_owned();
    let refuse = |status: StatusCode, detail: &str| {
        Err((status, Json(json!({"status": status.as_u16(), "detail": detail}))))
    };
    let Some(index) = world.backends.iter().position(|backend| backend.id == id) else {
        return refuse(StatusCode::NOT_FOUND, "there is no such backend");
    };
    if query.get("dry_run") == Some(&true) {
        return Ok(Json(world.predict(index, &change)));
    }
    if let Some(up) = change["up"].as_bool() {
        let backend = &mut world.backends[index];
        (backend.up, backend.health_at) = (up, SystemTime::now());
        world.tell("health", Some(&id), if up { "up" } else { "down: connection refused" }, None);
        return Ok(Json(json!({})));
    }
    let last = world.backends[index].admin == "ready" && ready == 1;
    if state != "ready" && last && change["force"] != true {
        return refuse(
            StatusCode::CONFLICT,
            "this is the last usable backend (1 of 3 serve): without it, requests get 503",
        );
    }
    let actor =
        headers.get("x-evenkeel-actor").and_then(|actor| actor.to_str().ok()).map(str::to_owned);
    let backend = &mut world.backends[index];
    backend.admin = state;
    backend.admin_at = SystemTime::now();
    backend.reason = change["reason"].as_str().map(str::to_owned);
    backend.expires = change["ttl"]
        .as_str()
        .and_then(|text| humantime::parse_duration(text).ok())
        .map(|ttl| SystemTime::now() + ttl);
    if backend.expires.is_none() {
        backend.standing.clone_from(&backend.admin);
    }
    backend.actor.clone_from(&actor);
    let message = format!("set to {}", backend.admin);
    world.tell("admin", Some(&id), &message, actor.as_deref());
    Ok(Json(json!({})))
}
