//! A fake admin API, a real dashboard, and a client, on ports that the system chooses.
// Each test binary uses a part of it, and a failure should panic at the line that was wrong.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Response},
    routing::{get, patch},
};
use chassis::{
    net::closed_port,
    settings::load,
    shutdown::{self, Stop, Trigger},
};
use evenkeel_dashboard::Settings;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Long enough for a loaded machine; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const TOKEN: &str = "correct-horse-battery";

/// What the fake admin API answers, and what it was told.
#[derive(Default)]
pub struct World {
    pub pools: Value,
    pub events: Vec<Value>,
    /// Status and detail for changes, if they are to be refused without force.
    pub refusal: Option<(u16, &'static str)>,
    /// When a word was said that is not given up for an older one.
    pub newer: Option<&'static str>,
    /// Why changes are not saved.
    pub not_saved: Option<&'static str>,
    /// Whether the connection breaks once a change is made.
    pub is_cut_short: bool,
    /// Whether it breaks before the answer has begun.
    pub is_gone_after_changes: bool,
    /// The token that reads and changes need.
    pub read_token: Option<&'static str>,
    /// How often another one was shown.
    pub wrong_tokens: usize,
    /// Whether no token is looked at.
    pub is_limited: bool,
    pub changes: Vec<Change>,
    /// What is asked without being done, and what is answered; see [`dry_run`] for nothing.
    pub dry_runs: Vec<Change>,
    pub dry_run: Option<Value>,
    /// What `/v1/decisions` answers; nothing is not found, as of an older proxy.
    pub decisions: Option<Value>,
    /// Ids of requests that were announced, with the token.
    pub announced: Vec<(String, Option<String>)>,
}

#[derive(Clone, Debug)]
pub struct Change {
    pub pool: String,
    pub id: String,
    pub body: Value,
    pub token: Option<String>,
    pub actor: Option<String>,
}

pub struct FakeAdmin {
    pub address: SocketAddr,
    pub world: Arc<Mutex<World>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FakeAdmin {
    pub fn start(pools: Value) -> Self {
        let world = Arc::new(Mutex::new(World { pools, ..World::default() }));
        let router = Self::router(&world);
        // Kept while it is away, so that it can come back.
        Self::serve(bind(closed_port().port()), router, world)
    }

    fn router(world: &Arc<Mutex<World>>) -> Router {
        Router::new()
            .route("/v1/pools", get(pools_answer))
            .route("/v1/events", get(events_answer))
            .route("/v1/pools/{pool}/backends/{id}", patch(change))
            .route("/v1/decisions", get(decisions_answer))
            .route("/v1/decisions/{id}", get(decision_answer).put(announce))
            .with_state(Arc::clone(world))
    }

    /// Some other server.
    pub fn other(router: Router) -> Self {
        Self::serve(bind(0), router, Arc::default())
    }

    fn serve(listener: TcpListener, router: Router, world: Arc<Mutex<World>>) -> Self {
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        // A runtime of its own: dropping it cuts kept-alive connections too, as a crash does.
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    result = axum::serve(listener, router) => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { address, world, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.world.lock().unwrap())
    }

    /// Goes away like a process that is killed.
    pub fn kill(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Comes back on the same port.
    pub fn come_back(&mut self) {
        let router = Self::router(&self.world);
        *self = Self::serve(bind(self.address.port()), router, Arc::clone(&self.world));
    }
}

impl Drop for FakeAdmin {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn bind(port: u16) -> TcpListener {
    chassis::net::bind("TEST_PORT", [127, 0, 0, 1].into(), port).unwrap()
}

async fn pools_answer(State(world): State<Arc<Mutex<World>>>, headers: HeaderMap) -> Response {
    let mut world = world.lock().unwrap();
    if world.is_limited && token_of(&headers).is_some() {
        return problem(429, "too many wrong tokens from 127.0.0.1: wait 6 s");
    }
    if let Some(token) = world.read_token
        && token_of(&headers).as_deref() != Some(token)
    {
        world.wrong_tokens += usize::from(token_of(&headers).is_some());
        return problem(401, "send the token");
    }
    Json(world.pools.clone()).into_response()
}

async fn events_answer(
    State(world): State<Arc<Mutex<World>>>,
    Query(query): Query<std::collections::HashMap<String, u64>>,
) -> Json<Value> {
    let events = &world.lock().unwrap().events;
    let after = query["after"];
    let events: Vec<&Value> =
        events.iter().filter(|event| event["id"].as_u64().unwrap() > after).collect();
    Json(json!({"events": events, "last_id": after}))
}

async fn change(
    State(world): State<Arc<Mutex<World>>>,
    Path((pool, id)): Path<(String, String)>,
    Query(query): Query<std::collections::HashMap<String, bool>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut world = world.lock().unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let actor = headers.get("x-evenkeel-actor").map(|actor| actor.to_str().unwrap().to_owned());
    let token = token_of(&headers);
    let change = Change { pool, id, body: body.clone(), token, actor };
    if query.get("dry_run") == Some(&true) {
        if world.read_token.is_some() && change.token.as_deref() != world.read_token {
            return problem(401, "send the token");
        }
        world.dry_runs.push(change);
        return Json(world.dry_run.clone().unwrap_or_else(|| dry_run(3, 2, None))).into_response();
    }
    let backends = world.pools["pools"][0]["backends"].as_array();
    let known = backends.into_iter().flatten().find(|backend| backend["id"] == change.id);
    if let (Some(tag), Some(known)) = (headers.get("if-match"), known)
        && tag.to_str().unwrap() != known["etag"]
    {
        let body = json!({"title": "x", "status": 412, "detail": "it is not", "current": known});
        return (StatusCode::PRECONDITION_FAILED, Json(body)).into_response();
    }
    world.changes.push(change);
    if world.is_gone_after_changes {
        // The server ends the connection of a handler that panics, as the end of a process does. The
        // world is let go of before, for whoever looks at it later.
        drop(world);
        panic!("the proxy dies, as it is meant to");
    }
    if world.is_cut_short {
        let broken =
            futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
        return axum::body::Body::from_stream(broken).into_response();
    }
    if let (Some(newer), Some(said_at)) = (world.newer, body["said_at"].as_str())
        && said_at < newer
    {
        let detail = "it was said before";
        let body = json!({"title": "x", "status": 409, "detail": detail, "said_at": newer});
        return (StatusCode::CONFLICT, Json(body)).into_response();
    }
    match world.refusal {
        Some((status, detail)) if body["force"] != true => problem(status, detail),
        _ => Json(json!({"not_saved_reason": world.not_saved})).into_response(),
    }
}

async fn decisions_answer(State(world): State<Arc<Mutex<World>>>) -> Response {
    match &world.lock().unwrap().decisions {
        Some(decisions) => {
            Json(json!({"sampled_share": 0.01, "dropped_total": 0, "decisions": decisions}))
                .into_response()
        }
        None => problem(404, "there is nothing here"),
    }
}

async fn decision_answer(
    State(world): State<Arc<Mutex<World>>>,
    Path(id): Path<String>,
) -> Response {
    let world = world.lock().unwrap();
    let all = world.decisions.as_ref().and_then(Value::as_array);
    let found = all.into_iter().flatten().find(|decision| decision["request_id"] == id);
    match found {
        Some(found) => Json(found).into_response(),
        // Whatever was announced has come meanwhile, and there is nothing to say of it.
        None if world.announced.iter().any(|(announced, _)| *announced == id) => {
            Json(json!({ "request_id": id })).into_response()
        }
        None => problem(404, "not recorded"),
    }
}

async fn announce(
    State(world): State<Arc<Mutex<World>>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut world = world.lock().unwrap();
    if let Some((status, detail)) = world.refusal {
        return problem(status, detail);
    }
    world.announced.push((id.clone(), token_of(&headers)));
    Json(json!({"request_id": id, "until": ""})).into_response()
}

fn token_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("authorization")?.to_str().unwrap();
    Some(value.strip_prefix("Bearer ").unwrap().to_owned())
}

fn problem(status: u16, detail: &str) -> Response {
    let body = json!({"type": "about:blank", "title": "x", "status": status, "detail": detail});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

pub async fn web_page() -> Html<&'static str> {
    Html("<!doctype html><title>Something else</title>")
}

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

pub struct Dashboard {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    pub trigger: Trigger,
    pub task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Dashboard {
    /// A dashboard that asks `admin` every 50 ms, with more settings.
    pub fn start(admin: &str, more: &[(&str, &str)]) -> Self {
        let mut env = vec![
            ("LOAD_BALANCER_ADMIN_URL", admin),
            ("DASHBOARD_INTERVAL", "50ms"),
            ("DASHBOARD_STOP_QUIET", "50ms"),
        ];
        env.extend_from_slice(more);
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = load::<Settings>(["evenkeel-dashboard".into()], env).unwrap().settings;
        let listener = bind(0);
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = shutdown::channel();
        let task = tokio::spawn(evenkeel_dashboard::run(listener, settings, shutdown));
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { address, client, trigger, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn text(&self, path: &str) -> String {
        self.get(path).await.text().await.unwrap()
    }

    /// Reads `path` until it fits; panics with the last text.
    pub async fn text_with(&self, path: &str, fits: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text(path).await;
            if fits(&text) {
                return text;
            }
            assert!(Instant::now() < end, "it never fitted: {text}");
            tokio::task::yield_now().await;
        }
    }

    /// The page once it has seen the proxy.
    pub async fn ready(self) -> Self {
        self.text_with("/api/state", |text| text.contains("\"answering\":true")).await;
        self
    }

    /// A form as a browser sends it from the page itself, changed by `more` headers.
    pub async fn post(
        &self,
        path: &str,
        form: &[(&str, &str)],
        more: &[(&'static str, &str)],
    ) -> reqwest::Response {
        let mut headers = HeaderMap::new();
        let origin = format!("http://{}", self.address);
        headers.insert("origin", origin.parse().unwrap());
        headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        for (name, value) in more {
            if value.is_empty() {
                headers.remove(*name);
            } else {
                headers.insert(*name, value.parse().unwrap());
            }
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.client.post(self.url(path)).headers(headers).body(body).send().await.unwrap()
    }

    /// The page of a saved hour.
    pub async fn open(&self, file: &str) -> String {
        let part = "content-disposition: form-data; name=\"file\"";
        let answer = self
            .client
            .post(self.url("/open"))
            .header("origin", self.url(""))
            .header("content-type", "multipart/form-data; boundary=x")
            .body(format!("--x\r\n{part}\r\n\r\n{file}\r\n--x--\r\n"))
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let page = answer.text().await.unwrap();
        assert_eq!(status, 200, "{page}");
        page
    }

    pub async fn live(&self) -> Live {
        let response = self.get("/live").await;
        assert_eq!(response.status(), 200);
        Live { response, buffer: String::new() }
    }

    pub fn stop(&self) {
        self.trigger.stop(Stop::Graceful);
    }
}

/// A live connection.
pub struct Live {
    response: reqwest::Response,
    buffer: String,
}

impl Live {
    /// The next patch; nothing at the end of the feed.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let patch = data.map(|data| serde_json::from_str(data).unwrap());
                self.buffer = rest.to_owned();
                if patch.is_some() {
                    return patch;
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk());
            let chunk = chunk.await.expect("the feed is silent").unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The first patch from now on that contains `text`.
    pub async fn until(&mut self, text: &str) -> Value {
        loop {
            let patch = self.next().await.expect("the feed ended");
            if patch.to_string().contains(text) {
                return patch;
            }
        }
    }
}
