//! One attempt of a request at one backend, over HTTP/1 or HTTP/2.

use std::{pin::pin, time::Duration};

use balance::Member;
use http::{Response, header};
use tokio::time::Instant;

use crate::{
    body::{Arriving, RequestBody, Upload},
    client::Interim,
    connection::{self, Connection, Failure},
    error::Reason,
    http1::{self, Head, ResponseHead},
    http2,
    limits::Limit,
    multiplexed,
    patience::Patience,
    retry::{Connections, Failed},
    settings::BackendProtocol,
    upstream::Upstream,
    worker::Worker,
};

/// How long a client that wants its body asked for waits for its backend to do so; then we ask. Many
/// backends never do, and a client that is not asked goes on by itself after some time as well: curl
/// after this one. At most half of what a backend may take, so that it has as much again to answer in.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Tries one backend, on a connection that is idle or a new one. The body is taken once it begins
/// to be sent.
pub(super) async fn attempt(
    upstream: &Upstream,
    patience: &mut Patience<'_>,
    head: &Head,
    body: &mut RequestBody,
    (connections, interim): (Connections, Option<&Interim>),
) -> Result<Response<Arriving>, Failed> {
    let (worker, member) = (patience.worker, patience.member);
    if worker.settings.backend_protocol == BackendProtocol::Http2 {
        let how = (connections, interim);
        return attempt_multiplexed(upstream, patience, head, body, how).await;
    }
    if upstream.is_old() && head.headers.contains_key(header::TRANSFER_ENCODING) {
        // It would find no end of the body, or none of it (RFC 9112 §6.1). Another one may.
        return Err(Failed::unsent(Reason::LengthRequired));
    }
    let upload = body.upload();
    let timeouts = &worker.settings.timeouts;
    loop {
        // Each reading of the clock costs a request as much as a thousandth of it.
        let mut start = Instant::now();
        let kept = match connections {
            Connections::New { .. } => None,
            Connections::Any => upstream.take_idle(member, timeouts.upstream_idle, start),
        };
        let is_kept = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let opened = open(worker, upstream, member, start).await;
                start = Instant::now();
                opened.map_err(Failed::unsent)?
            }
        };
        if !is_kept && !patience.tried.may_use(worker, member) {
            // An operator took it out while the connection was being made.
            return Err(Failed::unsent(Reason::Draining));
        }
        // Few bodies do: what costs a look at the fields comes last.
        let waits = body.waits_to_be_asked_for()
            && !upstream.is_old()
            && head.headers.contains_key(header::EXPECT);
        let wait = waits.then(|| CONTINUE_WAIT.min(timeouts.response / 2));
        let answered = {
            let answering = pin!(connection.exchange(head, std::mem::take(body), wait, interim));
            patience.wait(start, upload.as_deref(), answering).await
        };
        match answered {
            Ok(Ok(head)) => {
                upstream.idle_watch.limit.hear(&head.headers);
                // An error may be that of somebody before it, who speaks another version.
                if head.is_http11 || head.status.as_u16() < 400 {
                    upstream.answered_in(head.is_http11);
                }
                return Ok(arriving(head, connection));
            }
            Ok(Err(Failure::Unsent(unsent))) => {
                *body = unsent.put_down();
                if !is_kept {
                    return Err(Failed::unsent(Reason::ResetBeforeHeaders));
                }
                // Closed by the backend this instant: the next.
            }
            Ok(Err(Failure::Unasked(reason, unasked))) => {
                *body = unasked.put_down();
                return Err(Failed::sent(reason, is_kept));
            }
            Ok(Err(Failure::Body)) => {
                return Err(Failed::sent(body_failure(upload.as_deref()), is_kept));
            }
            Ok(Err(Failure::Backend(reason))) => {
                return Err(Failed::sent(reason, is_kept).during(upload.as_deref(), start));
            }
            Err(reason) => return Err(Failed::sent(reason, is_kept)),
        }
    }
}

/// A response whose body arrives on a connection of HTTP/1.
fn arriving(head: ResponseHead, connection: Box<Connection>) -> Response<Arriving> {
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
    upstream: &Upstream,
    patience: &mut Patience<'_>,
    head: &Head,
    body: &mut RequestBody,
    (connections, interim): (Connections, Option<&Interim>),
) -> Result<Response<Arriving>, Failed> {
    let (worker, member) = (patience.worker, patience.member);
    let upload = body.upload();
    let (timeouts, since) = (&worker.settings.timeouts, connections.since());
    let head = head.in_http2_form().map_err(|reason| Failed::sent(reason, true))?;
    let is_alone = !multiplexed::may_share(&head, !http_body::Body::is_end_stream(body));
    loop {
        let start = Instant::now();
        let taken = match is_alone {
            true => upstream.multiplexed.take_alone(member, since, timeouts).await,
            false => upstream.multiplexed.take(member, since, timeouts).await,
        };
        let mut stream = taken.map_err(Failed::without_stream)?;
        if !stream.is_kept {
            upstream.shard.record_connect(start.elapsed());
        }
        if !patience.tried.may_use(worker, member) {
            // An operator took it out while the connection was being made.
            return Err(Failed::unsent(Reason::Draining));
        }
        let request = head.clone().into_request();
        let sent = Instant::now();
        let answered = {
            let answering = pin!(stream.exchange(request, std::mem::take(body), interim));
            patience.wait(sent, upload.as_deref(), answering).await
        };
        match answered {
            Ok(Ok(response)) => {
                stream.answered();
                return Ok(response.map(|incoming| Arriving::Shared(incoming, stream)));
            }
            Ok(Err(multiplexed::Failure::Unsent(unsent))) => {
                *body = unsent.put_down();
                if !stream.is_kept {
                    return Err(Failed::unsent(Reason::ResetBeforeHeaders));
                }
            }
            Ok(Err(multiplexed::Failure::Body)) => {
                return Err(Failed::sent(body_failure(upload.as_deref()), stream.is_kept));
            }
            Ok(Err(multiplexed::Failure::Stream(error))) => {
                // Over its fields: what others had sent there before was taken.
                let was_refused = is_alone && stream.was_refused();
                if was_refused && multiplexed::is_long(&head) {
                    worker.gauges.limits.hit(Limit::HeaderBytes);
                    return Err(Failed::sent(Reason::HeadTooLarge, false));
                }
                let unprocessed = stream.unprocessed(&error);
                let is_kept = match unprocessed {
                    Some(unprocessed) => unprocessed.is_unseen(),
                    // A stream that is ended is the backend's doing, its connection's end need not.
                    None => stream.is_kept && !error.is_reset(),
                };
                let reason = http2::blame(&error, Reason::ResetBeforeHeaders);
                let may_be_anothers = http2::have_ended(&error);
                let is_malformed = was_refused || stream.is_malformed(&error);
                let failed = Failed::sent(reason, is_kept).during(upload.as_deref(), sent);
                return Err(Failed { unprocessed, may_be_anothers, is_malformed, ..failed });
            }
            Ok(Err(multiplexed::Failure::Malformed)) => {
                return Err(Failed::sent(Reason::ProtocolError, false));
            }
            Err(reason) => {
                if reason == Reason::ResponseTimeout {
                    stream.suspect();
                }
                return Err(Failed::sent(reason, stream.is_kept));
            }
        }
    }
}

async fn open(
    worker: &Worker,
    upstream: &Upstream,
    member: &Member,
    start: Instant,
) -> Result<Box<Connection>, Reason> {
    let (timeout, limits) =
        (worker.settings.timeouts.connect, worker.settings.limits.of_response());
    let connection = connection::open(member, timeout, &worker.gauges, limits).await?;
    upstream.shard.record_connect(start.elapsed());
    Ok(connection)
}

/// Why a request's body failed: as it says, or as it was not as long as it was announced.
fn body_failure(upload: Option<&Upload>) -> Reason {
    upload.and_then(Upload::failure).unwrap_or(Reason::BadRequest)
}
