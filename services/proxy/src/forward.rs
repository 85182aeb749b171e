//! The life of a request: admit, pick, attempt, perhaps retry, respond, record.

use std::{rc::Rc, sync::Arc, time::Duration};

use balance::{AttemptFailure, Member, NoBackend, Policy, Ticket};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::time::Instant;

use crate::{
    body::{Arriving, RequestBody, ResponseBody, Upload, UploadState},
    client::Busy,
    connection::{self, Connection, Failure},
    control::Seen,
    error::Reason,
    exchange::Exchange,
    headers::{self, Client},
    http1::{self, Head, ResponseHead},
    limits::Limit,
    max_forwards::{self, Hop},
    multiplexed, queue,
    settings::BackendProtocol,
    tunnel,
    upstream::Upstream,
    worker::Worker,
};

/// Attempts of one request that may end without a connection, each on another backend. No backend
/// sees these, so they cost no retry; but a client must not wait for a whole pool to time out.
const CONNECT_ATTEMPTS_MAX: usize = 4;

/// The host of a client that names none: it means whoever is here.
const NO_HOST: &str = "localhost";

/// Serves one request. This is the path to read first.
pub(crate) async fn forward(
    worker: Rc<Worker>,
    client: Rc<Client>,
    busy: Rc<Busy>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let mut exchange = Exchange::begin(&worker, request.method(), Rc::clone(&busy));
    let announced = exchange.announced(request.headers());
    if worker.is_overloaded() {
        worker.gauges.limits.hit(Limit::Requests);
        return exchange.refuse(Reason::Overloaded);
    }
    let method = request.method().clone();
    match max_forwards::count_down(&method, request.headers_mut()) {
        Ok(Hop::Forward) => {}
        Ok(Hop::Answer) => return exchange.answer_for_backend(&method),
        Err(reason) => return exchange.refuse(reason),
    }
    let Admitted { head, mut body, is_replayable, key, request_id, upgrade } =
        match admit(&worker, &client, &busy, request, announced) {
            Ok(admitted) => admitted,
            Err(reason) => return exchange.refuse(reason),
        };
    exchange.admitted(request_id);
    let mut tried = Tried::default();
    loop {
        let ticket = match tried.pick(&worker, key).await {
            Ok(ticket) => ticket,
            Err(reason) => return exchange.refuse(reason),
        };
        let member = Arc::clone(ticket.member());
        let upstream = worker.upstreams.borrow_mut().of(&member);
        exchange.attempt(ticket, Rc::clone(&upstream));
        let upload = body.upload();
        let connections = tried.connections(is_replayable);
        match attempt(&worker, &upstream, &member, &head, &mut body, connections).await {
            Ok(response) => {
                if let Some(upload) = &upload {
                    upload.answered();
                }
                let answer = Answer { response, upload };
                return respond(&worker, exchange, answer, upgrade);
            }
            Err(failed) => {
                exchange.attempt_failed(failed.reason, failed.on_kept_connection);
                if !failed.on_kept_connection {
                    tell_pool(&worker, &member, failed.reason);
                }
                let method = is_replayable.then_some(&head.method);
                match tried.retry(&worker, &member, &failed, method).await {
                    Ok(()) => upstream.shard.record_retry(failed.reason),
                    Err(reason) => return exchange.refuse(reason),
                }
            }
        }
    }
}

/// A request that may go to a backend.
struct Admitted {
    head: Head,
    /// Empty once it has begun to be sent.
    body: RequestBody,
    /// Whether it may be sent a second time.
    is_replayable: bool,
    /// What the `hash` policy goes by.
    key: Option<u64>,
    request_id: HeaderValue,
    upgrade: Option<OnUpgrade>,
}

fn admit(
    worker: &Worker,
    client: &Client,
    busy: &Rc<Busy>,
    mut request: Request<Incoming>,
    request_id: Option<HeaderValue>,
) -> Result<Admitted, Reason> {
    if request.method() == Method::CONNECT {
        return Err(Reason::NotSupported);
    }
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (parts, incoming) = request.into_parts();
    let mut headers = parts.headers;
    let limits = &worker.settings.limits;
    limits.check(&parts.uri, parts.version, &headers).map_err(|(limit, reason)| {
        worker.gauges.limits.hit(limit);
        reason
    })?;
    let key = worker.key_of(&headers, &parts.uri, client);
    let upgrade = headers::prepare_request(
        &mut headers,
        &parts.method,
        &parts.uri,
        parts.version,
        client,
        request_id.unwrap_or_else(|| worker.request_ids.next()),
    )?;
    if parts.version < Version::HTTP_11 && !headers.contains_key(header::HOST) {
        // Only HTTP/1.0 comes without, and HTTP/1.1 to a backend needs one (RFC 9112 §3.2).
        headers.insert(header::HOST, HeaderValue::from_static(NO_HOST));
    }
    let body = RequestBody::new(incoming, busy, worker);
    if http_body::Body::size_hint(&body).exact().is_none() {
        // A body of unknown length needs a framing; hyper would leave it out for GET.
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let request_id = headers[headers::X_REQUEST_ID].clone();
    let head = Head { method: parts.method, uri: origin_form(parts.uri), headers };
    let is_multiplexed = worker.settings.backend_protocol == BackendProtocol::Http2;
    if is_multiplexed && upgrade.is_some() {
        return Err(Reason::NotSupported);
    }
    // A backend of HTTP/2 may say that it has not begun with a request, whatever it is.
    let may_be_sent_again =
        is_multiplexed || (head.method.is_idempotent() && worker.settings.retries > 0);
    let is_replayable =
        may_be_sent_again && matches!(body, RequestBody::Empty) && upgrade.is_none();
    let upgrade = upgrade.map(|_| on_upgrade);
    Ok(Admitted { head, body, is_replayable, key, request_id, upgrade })
}

/// The target as a backend wants it: path and query, or `*` (RFC 9112 §3.2).
fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    let path = uri.path_and_query().cloned();
    path.map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// What this request has tried so far.
#[derive(Default)]
struct Tried {
    generations: Vec<u64>,
    without_connection: usize,
    /// The last failure was of a kept connection: the next attempt must not meet another such.
    needs_new_connection: bool,
    retries: u32,
    last: Option<Reason>,
}

impl Tried {
    /// A backend with room. While there is none, the request waits in line.
    async fn pick(&self, worker: &Worker, key: Option<u64>) -> Result<Ticket, Reason> {
        if worker.picker.borrow().latest_policy() == Policy::LeastTime {
            worker.picker.borrow_mut().tell_time(worker.now());
        }
        let first = match self.last {
            None => worker.picker.borrow_mut().pick(key),
            Some(_) => self.pick_other(worker, key),
        };
        let picked = match first {
            Err(NoBackend::AllFull) => queue::wait(worker, || self.pick_other(worker, key)).await?,
            picked => picked,
        };
        picked.map_err(|none| match none {
            NoBackend::NoneEligible | NoBackend::AllFull => Reason::NoBackend,
            // What went wrong with the last one says more than that there is no other.
            NoBackend::AllTried => self.last.unwrap_or(Reason::NoBackend),
        })
    }

    fn pick_other(&self, worker: &Worker, key: Option<u64>) -> Result<Ticket, NoBackend> {
        let mut picker = worker.picker.borrow_mut();
        match picker.pick_other(key, &self.generations) {
            Err(NoBackend::AllTried) if self.needs_new_connection => picker.pick_other(key, &[]),
            // Those who serve are as good as gone for this request: then whoever need not.
            Err(NoBackend::AllTried) => picker.pick_resort(&self.generations),
            other => other,
        }
    }

    fn connections(&self, is_replayable: bool) -> Connections {
        match self.needs_new_connection {
            true => Connections::New,
            false => Connections::Any { is_replayable },
        }
    }

    /// Decides whether a failed attempt is followed by another one. Safe are only two cases: nothing
    /// was sent, or the request may be sent twice; then its `method` is given.
    async fn retry(
        &mut self,
        worker: &Worker,
        member: &Member,
        failed: &Failed,
        method: Option<&Method>,
    ) -> Result<(), Reason> {
        let reason = failed.reason;
        self.last = Some(reason);
        self.generations.push(member.generation());
        // That a backend closed a kept connection meanwhile says nothing of the backend: where there
        // is no other, it may be asked again on a new one.
        self.needs_new_connection = failed.on_kept_connection;
        if failed.is_unsent || (failed.is_unprocessed && method.is_some()) {
            self.without_connection += 1;
            let may = self.without_connection < CONNECT_ATTEMPTS_MAX;
            return if may { Ok(()) } else { Err(reason) };
        }
        let is_safe =
            reason == Reason::ResetBeforeHeaders && method.is_some_and(Method::is_idempotent);
        if !is_safe || self.retries == worker.settings.retries || !worker.may_retry(member).await {
            return Err(reason);
        }
        self.retries += 1;
        Ok(())
    }
}

/// Which connections an attempt may use.
#[derive(Clone, Copy)]
enum Connections {
    /// One that nobody has used.
    New,
    /// One that is idle, or a new one.
    Any { is_replayable: bool },
}

/// An attempt that brought no response.
struct Failed {
    reason: Reason,
    /// Whether nothing of the request was sent.
    is_unsent: bool,
    /// Whether the connection had served other requests before.
    on_kept_connection: bool,
    /// Whether the backend says that it has done nothing with the request.
    is_unprocessed: bool,
}

impl Failed {
    fn unsent(reason: Reason) -> Self {
        Self { reason, is_unsent: true, on_kept_connection: false, is_unprocessed: false }
    }

    fn sent(reason: Reason, on_kept_connection: bool) -> Self {
        Self { reason, is_unsent: false, on_kept_connection, is_unprocessed: false }
    }
}

/// Tries one backend, on a connection that is idle or a new one. The body is taken once it begins
/// to be sent.
async fn attempt(
    worker: &Worker,
    upstream: &Upstream,
    member: &Member,
    head: &Head,
    body: &mut RequestBody,
    connections: Connections,
) -> Result<Response<Arriving>, Failed> {
    if worker.settings.backend_protocol == BackendProtocol::Http2 {
        return attempt_multiplexed(worker, upstream, member, head, body).await;
    }
    let upload = body.upload();
    let timeouts = &worker.settings.timeouts;
    loop {
        let kept = match connections {
            Connections::New => None,
            Connections::Any { is_replayable } => {
                upstream.take_idle(timeouts.upstream_idle, is_replayable)
            }
        };
        let is_kept = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => open(worker, upstream, member).await.map_err(Failed::unsent)?,
        };
        if !is_kept && !worker.picker.borrow_mut().is_eligible(member) {
            // An operator took it out while the connection was being made.
            return Err(Failed::unsent(Reason::Draining));
        }
        let answered = connection.exchange(head, std::mem::take(body));
        match within(timeouts.response, upload.as_deref(), answered).await {
            Ok(Ok(head)) => {
                upstream.idle_limit.hear(&head.headers);
                return Ok(arriving(head, connection));
            }
            // Closed by the backend this instant: the next.
            Ok(Err(Failure::Unsent)) if is_kept => {}
            Ok(Err(Failure::Unsent)) => return Err(Failed::unsent(Reason::ResetBeforeHeaders)),
            Ok(Err(Failure::Body)) => {
                return Err(Failed::sent(reason_of_upload(upload.as_deref()), is_kept));
            }
            Ok(Err(Failure::Backend(reason))) | Err(reason) => {
                return Err(Failed::sent(reason, is_kept));
            }
        }
    }
}

/// A response whose body arrives on a connection of HTTP/1.
fn arriving(head: ResponseHead, connection: Connection) -> Response<Arriving> {
    let arriving = Arriving::Alone(http1::Incoming::new(connection, head.framing));
    let mut response = Response::new(arriving);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.reason {
        response.extensions_mut().insert(reason);
    }
    response
}

/// Tries one backend on a connection of HTTP/2 that other requests use too.
async fn attempt_multiplexed(
    worker: &Worker,
    upstream: &Upstream,
    member: &Member,
    head: &Head,
    body: &mut RequestBody,
) -> Result<Response<Arriving>, Failed> {
    let upload = body.upload();
    let timeouts = &worker.settings.timeouts;
    let head = head.in_http2_form().map_err(|reason| Failed::sent(reason, true))?;
    loop {
        let start = Instant::now();
        let taken = upstream.multiplexed.take(member, timeouts.connect, &worker.gauges).await;
        let stream = taken.map_err(Failed::unsent)?;
        if !stream.is_kept {
            upstream.shard.record_connect(start.elapsed());
        }
        if !worker.picker.borrow_mut().is_eligible(member) {
            // An operator took it out while the connection was being made.
            return Err(Failed::unsent(Reason::Draining));
        }
        let request = head.clone().request(std::mem::take(body));
        let sent = stream.sender().try_send_request(request);
        match within(timeouts.response, upload.as_deref(), sent).await {
            Ok(Ok(response)) => {
                return Ok(response.map(|incoming| Arriving::Shared(incoming, stream)));
            }
            Ok(Err(mut error)) => match error.take_message() {
                // hyper gives the request back only if it wrote nothing of it.
                Some(unsent) => {
                    *body = unsent.into_body();
                    if !stream.is_kept {
                        return Err(Failed::unsent(Reason::ResetBeforeHeaders));
                    }
                }
                None => {
                    let reason = reason_of(error.error(), upload.as_deref());
                    let is_unprocessed = multiplexed::is_unprocessed(error.error());
                    // That a backend refuses or says goodbye is no failure of its.
                    let is_kept = stream.is_kept || is_unprocessed;
                    return Err(Failed { is_unprocessed, ..Failed::sent(reason, is_kept) });
                }
            },
            Err(reason) => {
                if reason == Reason::ResponseTimeout {
                    stream.suspect();
                }
                return Err(Failed::sent(reason, stream.is_kept));
            }
        }
    }
}

async fn open(worker: &Worker, upstream: &Upstream, member: &Member) -> Result<Connection, Reason> {
    let start = Instant::now();
    let timeout = worker.settings.timeouts.connect;
    let connection = connection::open(member, timeout, &worker.gauges).await?;
    upstream.shard.record_connect(start.elapsed());
    Ok(connection)
}

/// Waits for a response's head for as long as `timeout` after the last part of the request went
/// out: a long upload that makes progress is no slow backend.
async fn within<T>(
    timeout: Duration,
    upload: Option<&Upload>,
    response: impl Future<Output = T>,
) -> Result<T, Reason> {
    let mut response = std::pin::pin!(response);
    let mut since = Instant::now();
    loop {
        if let Ok(response) = tokio::time::timeout_at(since + timeout, &mut response).await {
            return Ok(response);
        }
        match upload {
            Some(upload) if upload.moved() > since => since = upload.moved(),
            Some(upload) if upload.waits_for_client() => return Err(Reason::RequestTimeout),
            _ => return Err(Reason::ResponseTimeout),
        }
    }
}

fn reason_of(error: &hyper::Error, upload: Option<&Upload>) -> Reason {
    match upload.map(Upload::state) {
        Some(UploadState::Failed(reason)) => reason,
        _ if error.is_parse() => Reason::ProtocolError,
        _ => Reason::ResetBeforeHeaders,
    }
}

/// Why a request's body failed.
fn reason_of_upload(upload: Option<&Upload>) -> Reason {
    match upload.map(Upload::state) {
        Some(UploadState::Failed(reason)) => reason,
        _ => Reason::BadRequest,
    }
}

/// Tells the pool of failures that say something of the backend's health.
fn tell_pool(worker: &Worker, member: &Member, reason: Reason) {
    let failure = match reason {
        Reason::ConnectRefused => AttemptFailure::Refused,
        Reason::ConnectTimeout | Reason::ConnectFailed | Reason::ResetBeforeHeaders => {
            AttemptFailure::Unreachable
        }
        _ => return,
    };
    worker.report(member, Seen::Failure(failure));
}

/// What a backend has answered so far.
struct Answer {
    response: Response<Arriving>,
    upload: Option<Rc<Upload>>,
}

fn respond(
    worker: &Worker,
    mut exchange: Exchange,
    answer: Answer,
    upgrade: Option<OnUpgrade>,
) -> Response<ResponseBody> {
    let Answer { mut response, upload } = answer;
    exchange.answered(response.status());
    exchange.take_degraded(response.headers_mut());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (parts, arriving) = response.into_parts();
        let (Some(client), Some(backend)) = (upgrade, arriving.into_switched()) else {
            // A protocol that nobody asked for.
            exchange.attempt_failed(Reason::ProtocolError, false);
            return exchange.refuse(Reason::ProtocolError);
        };
        let is_websocket = headers::is_websocket(&parts.headers);
        tunnel::start(worker, client, backend, exchange.upgraded(), is_websocket);
        let mut response = Response::from_parts(parts, ResponseBody::Own(None));
        headers::prepare_switching(response.headers_mut());
        return response;
    }
    *response.version_mut() = Version::HTTP_11;
    if let Err(reason) = headers::prepare_response(response.headers_mut(), exchange.request_id()) {
        exchange.attempt_failed(reason, false);
        return exchange.refuse(reason);
    }
    let read_timeout = worker.settings.timeouts.read;
    let mut response =
        response.map(|arriving| ResponseBody::backend(arriving, exchange, upload, read_timeout));
    worker.close_if_draining(&mut response);
    response
}
