//! The life of a request: admit, pick, attempt, perhaps retry, respond, record.

use std::{rc::Rc, sync::Arc};

use balance::{AttemptFailure, Member};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};

use self::attempt::attempt;
use crate::{
    body::{Arriving, ClientBody, RequestBody, ResponseBody, Upload},
    bootstrap::Bootstrap,
    client::{Busy, Interim},
    control::Seen,
    error::Reason,
    exchange::Exchange,
    headers::{self, Client, spare},
    http1::Head,
    limits::Limit,
    max_forwards::{self, Hop},
    patience::Patience,
    retry::Tried,
    settings::BackendProtocol,
    sticky::Visit,
    tunnel::Tunnel,
    worker::Worker,
};

mod attempt;

/// The host of a client that names none: it means whoever is here.
const NO_HOST: &str = "localhost";

/// Where a request comes from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) client: Rc<Client>,
    /// What tells a connection of HTTP/2 that it serves a request.
    pub(crate) busy: Option<Rc<Busy>>,
    /// Where interim responses go, if the client can have any.
    pub(crate) interim: Option<Interim>,
}

/// Serves one request. This is the path to read first.
pub(crate) async fn forward(
    worker: Rc<Worker>,
    origin: Origin,
    request: Request<ClientBody>,
) -> Response<ResponseBody> {
    let mut exchange = Exchange::begin(&worker, request.method(), origin.busy.clone());
    let announced = exchange.announced(request.headers());
    let Admitted {
        mut head,
        mut body,
        is_replayable,
        key,
        visit,
        request_id,
        wants_upgrade,
        bootstrap,
    } = match admit(&worker, &origin, request, announced) {
        Ok(admitted) => admitted,
        Err(reason) => return exchange.refuse(reason),
    };
    exchange.admitted(request_id);
    match max_forwards::count_down(&head.method, &mut head.headers) {
        Ok(Hop::Forward) => {}
        Ok(Hop::Answer) => return exchange.answer_for_backend(&head.method),
        Err(reason) => return exchange.refuse(reason),
    }
    let mut tried = Tried::none(visit);
    loop {
        let ticket = match tried.pick(&worker, key).await {
            Ok(ticket) => ticket,
            Err(reason) => return exchange.refuse(reason),
        };
        let member = Arc::clone(ticket.member());
        let upstream = worker.upstreams.borrow_mut().of(&member);
        exchange.attempt(ticket, Rc::clone(&upstream));
        let upload = body.upload();
        let connections = tried.connections();
        let mut patience = Patience {
            worker: &worker,
            member: &member,
            tried: &mut tried,
            may_be_sent_twice: is_replayable && head.method.is_idempotent(),
        };
        let interim = origin.interim.as_ref();
        match attempt(&upstream, &mut patience, &head, &mut body, (connections, interim)).await {
            Ok(response) => {
                if let Some(upload) = &upload {
                    upload.answered();
                }
                let cookie = tried.cookie(&worker, &member, &head.headers);
                let may_switch =
                    wants_upgrade && headers::are_asked_for(response.headers(), &head.headers);
                spare::give(head.headers);
                let answer = Answer { response, upload, cookie };
                return respond(&worker, exchange, answer, (may_switch, bootstrap));
            }
            Err(failed) => {
                exchange.attempt_failed(failed.reason, failed.says_nothing());
                if !failed.says_nothing() && failed.unprocessed.is_none() {
                    tell_pool(&worker, &member, failed.reason);
                }
                // Whatever is decided, and however long that takes, the backend has room again.
                exchange.let_go();
                // A body that comes back was not taken.
                let is_whole = matches!(body, RequestBody::Client(..)) && !wants_upgrade;
                let method = (is_replayable || is_whole).then_some(&head.method);
                match tried.retry(&worker, &member, &failed, method).await {
                    Ok(()) => {
                        exchange.goes_on(failed.reason);
                        tried.back_off(&worker, &member).await;
                    }
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
    /// The backend that it wants by its cookie.
    visit: Visit,
    request_id: HeaderValue,
    /// Whether the client asks for another protocol.
    wants_upgrade: bool,
    /// If it does so over HTTP/2.
    bootstrap: Option<Box<Bootstrap>>,
}

fn admit(
    worker: &Worker,
    origin: &Origin,
    request: Request<ClientBody>,
    request_id: Option<HeaderValue>,
) -> Result<Admitted, Reason> {
    let client = &origin.client;
    let (mut parts, mut body) = request.into_parts();
    let bootstrap = match parts.method {
        Method::CONNECT => Bootstrap::take(&mut parts, &mut body, origin.busy.as_ref())?,
        _ => None,
    };
    // Of the fields as they came. What could be read in two ways is refused as that, however long.
    let within = worker.settings.limits.check(&parts);
    let (mut headers, version) = (parts.headers, parts.version);
    let checked = headers::check_request(&mut headers, &parts.method, &parts.uri, version, client);
    if let Err((limit, reason)) = within
        && matches!(checked, Ok(_) | Err(Reason::HeadTooLarge))
    {
        worker.gauges.limits.hit(limit);
        return Err(reason);
    }
    let fields = checked?;
    if worker.is_overloaded() {
        worker.gauges.limits.hit(Limit::Requests);
        return Err(Reason::Overloaded);
    }
    let key = worker.key_of(&headers, &parts.uri, client);
    let sticky = worker.sticky.as_ref();
    let visit = sticky.map(|sticky| sticky.visit(&headers, &worker.gauges.visits));
    let request_id = request_id.unwrap_or_else(|| worker.request_ids.next());
    let upgrade = headers::prepare_request(&mut headers, fields, version, client, request_id);
    let is_multiplexed = worker.settings.backend_protocol == BackendProtocol::Http2;
    let wants_upgrade = (upgrade.is_some() || bootstrap.is_some()) && !is_multiplexed;
    if is_multiplexed && upgrade.is_some() {
        // HTTP/2 has no such thing, and a server may pass a wish over (RFC 9110 §7.8). But who asks for
        // WebSockets has no use for another answer.
        if headers::is_websocket(&headers) {
            return Err(Reason::NotSupported);
        }
        headers.remove(header::UPGRADE);
    }
    if let Some(bootstrap) = &bootstrap {
        if is_multiplexed {
            // It would have to be asked as we are, if it offers that.
            return Err(Reason::NotSupported);
        }
        bootstrap.ask(&mut headers);
    }
    if version < Version::HTTP_11 && !headers.contains_key(header::HOST) {
        // Only HTTP/1.0 comes without, and HTTP/1.1 to a backend needs one (RFC 9112 §3.2).
        headers.insert(header::HOST, HeaderValue::from_static(NO_HOST));
    }
    let body = RequestBody::new(body, origin.busy.as_ref(), worker);
    if http_body::Body::size_hint(&body).exact().is_none() {
        // A body of unknown length needs a framing, and only one.
        if headers.contains_key(header::CONTENT_LENGTH) {
            return Err(Reason::BadRequest);
        }
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let request_id = headers[headers::X_REQUEST_ID].clone();
    let head = Head { method: parts.method, uri: origin_form(parts.uri), headers };
    // A backend of HTTP/2 may say that it has not begun with a request, whatever it is.
    let may_be_sent_again =
        is_multiplexed || (head.method.is_idempotent() && worker.settings.retries > 0);
    let is_replayable = may_be_sent_again && matches!(body, RequestBody::Empty) && !wants_upgrade;
    let visit = visit.unwrap_or_default();
    Ok(Admitted { head, body, is_replayable, key, visit, request_id, wants_upgrade, bootstrap })
}

/// The target as a backend wants it: path and query, or `*` (RFC 9112 §3.2, RFC 9113 §8.3.1). Before a
/// query an absolute one may lack the path, which is `/` then (RFC 9110 §4.2.3).
pub(crate) fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    let Some(path) = uri.path_and_query() else { return Uri::from_static("/") };
    if !path.as_str().starts_with('?') {
        return Uri::from(path.clone());
    }
    // What a path may be before it, it is with it.
    Uri::try_from(format!("/{}", path.as_str())).unwrap_or(uri)
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
    _ = worker.report(member, Seen::Failure(failure));
}

/// What a backend has answered so far.
struct Answer {
    response: Response<Arriving>,
    upload: Option<Rc<Upload>>,
    /// What makes the client a visitor of the backend, if it is to become one.
    cookie: Option<HeaderValue>,
}

fn respond(
    worker: &Worker,
    mut exchange: Box<Exchange>,
    answer: Answer,
    (may_switch, bootstrap): (bool, Option<Box<Bootstrap>>),
) -> Response<ResponseBody> {
    let Answer { mut response, upload, cookie } = answer;
    let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let is_bootstrap = bootstrap.is_some();
    exchange.answered(if is_switch && is_bootstrap { StatusCode::OK } else { response.status() });
    exchange.take_degraded(response.headers_mut());
    if is_switch {
        return switch(worker, exchange, response, (may_switch, bootstrap));
    }
    if is_bootstrap && response.status().is_success() {
        // The backend may pass the wish over (RFC 9110 §7.8). But to who asked with CONNECT any 2xx says
        // that what follows is the WebSocket (§9.3.6).
        return exchange.refuse(Reason::ProtocolError);
    }
    *response.version_mut() = Version::HTTP_11;
    let (status, id) = (response.status(), exchange.request_id());
    if let Err(reason) = headers::prepare_response(response.headers_mut(), status, id) {
        exchange.attempt_failed(reason, false);
        return exchange.refuse(reason);
    }
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    let read_timeout = worker.settings.timeouts.read;
    // One that tells its length ends by itself.
    let is_endless = response.body().size_hint().exact().is_none()
        && headers::is_event_stream(response.headers());
    let ending = is_endless.then(|| exchange.ending()).flatten();
    let ends = (exchange, ending);
    let mut response =
        response.map(|arriving| ResponseBody::backend(arriving, ends, upload, read_timeout));
    worker.close_if_draining(&mut response);
    response
}

/// Connects a client with a backend that has changed to the protocol that it asked for.
fn switch(
    worker: &Worker,
    mut exchange: Box<Exchange>,
    response: Response<Arriving>,
    (may_switch, bootstrap): (bool, Option<Box<Bootstrap>>),
) -> Response<ResponseBody> {
    let (mut parts, arriving) = response.into_parts();
    let is_wanted = may_switch
        && bootstrap.as_ref().is_none_or(|bootstrap| bootstrap.is_answered(&parts.headers));
    let Some(backend) = arriving.into_switched().filter(|_| is_wanted) else {
        // A protocol that nobody asked for.
        exchange.attempt_failed(Reason::ProtocolError, false);
        return exchange.refuse(Reason::ProtocolError);
    };
    let is_websocket = headers::is_websocket(&parts.headers);
    let stream = bootstrap.map(|bootstrap| bootstrap.finish(&mut parts));
    if stream.is_none() {
        headers::prepare_switching(&mut parts.headers);
    }
    let tunnel = Tunnel::new(worker, backend, exchange.upgraded(), (is_websocket, stream));
    Response::from_parts(parts, ResponseBody::Switched(Box::new(tunnel)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_sent_as_a_path() {
        for (target, expected) in [
            ("/a?b", "/a?b"),
            ("*", "*"),
            ("http://host", "/"),
            ("http://host/a//b?c", "/a//b?c"),
            ("http://host?b=/c", "/?b=/c"),
        ] {
            assert_eq!(origin_form(target.parse().unwrap()), expected, "{target}");
        }
    }
}
