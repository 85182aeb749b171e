//! An admin API that answers what a test wants, and keeps what it was told.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Response},
    routing::{get, patch},
};
use chassis::net::closed_port;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;

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
