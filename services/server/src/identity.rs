//! Who answered, and what reached it of the request.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{ConnectInfo, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, Method, Uri, header};
use serde::Serialize;

use crate::state::Server;

/// Request headers that a proxy sets or passes on, the ones worth seeing behind one.
const FORWARDING_HEADERS: [&str; 9] = [
    "host",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "via",
    "x-request-id",
    "traceparent",
    "user-agent",
];

/// Headers that describe a body and so travel with it.
const BODY_HEADERS: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRAILER];

#[derive(Serialize)]
struct Identity<'a> {
    name: &'a str,
    version: &'a str,
    instance: &'a str,
    started_at: String,
    uptime_seconds: f64,
    requests_served: u64,
    ready: bool,
    request: Seen,
}

/// A request as it arrived.
#[derive(Serialize)]
struct Seen {
    method: String,
    path: String,
    query: Option<String>,
    http_version: String,
    remote: String,
    /// A header may come more than once.
    headers: BTreeMap<String, Vec<String>>,
}

impl Seen {
    fn new(request: &Request, remote: SocketAddr, wanted: impl Fn(&HeaderName) -> bool) -> Self {
        let uri: &Uri = request.uri();
        Self {
            method: request.method().to_string(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            http_version: format!("{:?}", request.version()),
            remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()).to_string(),
            headers: headers(request.headers(), wanted),
        }
    }
}

fn headers(
    headers: &HeaderMap,
    wanted: impl Fn(&HeaderName) -> bool,
) -> BTreeMap<String, Vec<String>> {
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| wanted(name)) {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        shown.entry(name.to_string()).or_default().push(value);
    }
    shown
}

/// `/`: who this is, and what it saw.
pub(crate) async fn identity(
    State(server): State<Arc<Server>>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let forwarding = |name: &HeaderName| FORWARDING_HEADERS.contains(&name.as_str());
    Json(Identity {
        name: server.name(),
        version: server.version(),
        instance: server.instance(),
        started_at: humantime::format_rfc3339_seconds(server.started_at()).to_string(),
        uptime_seconds: server.uptime().as_secs_f64(),
        requests_served: server.requests(),
        ready: server.is_ready(),
        request: Seen::new(&request, remote, forwarding),
    })
    .into_response()
}

/// `/echo`: GET shows the request's head as JSON; any other method gets its body back, streamed,
/// with its length, its type and its trailers.
pub(crate) async fn echo(
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Json(Seen::new(&request, remote, |_| true)).into_response();
    }
    let (head, body) = request.into_parts();
    let mut response = Response::new(Body::new(body));
    for name in BODY_HEADERS {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
