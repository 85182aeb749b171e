//! A client's connection of HTTP/1.1 or 1.0: requests one after the other.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, time::Instant};

use super::{
    FIRST_REQUEST, Then,
    activity::{Activity, Busy, Phase},
    io::ClientIo,
};
use crate::{
    forward::forward,
    headers::Client,
    limits::Limit,
    worker::{Stage, Worker},
};

/// The answer to a head that did not come in time. hyper holds no request to answer here.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
    content-length: 0\r\nproxy-status: evenkeel; error=http_request_error; \
    details=\"request_timeout\"\r\n\r\n";

/// Up to here hyper has room for a head's fields on its stack; for more it allocates for each.
const HEADERS_WITHOUT_ALLOCATION: usize = 100;

/// Serves a client's connection to its end, or until it turns out to be one of HTTP/2 or rests.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    io: ClientIo,
    client: &Rc<Client>,
    activity: &Arc<Activity>,
) -> Then {
    let service = {
        let (worker, client) = (Rc::clone(worker), Rc::clone(client));
        let activity = Arc::clone(activity);
        service_fn(move |request| {
            let (worker, client) = (Rc::clone(&worker), Rc::clone(&client));
            let busy = Rc::new(Busy::new(&activity));
            async move {
                Ok::<_, std::convert::Infallible>(forward(worker, client, busy, request).await)
            }
        })
    };
    let limits = &worker.settings.limits;
    let mut builder = http1::Builder::new();
    // Ours; see the module above.
    builder.header_read_timeout(None).max_buf_size(limits.header_bytes);
    if limits.headers > HEADERS_WITHOUT_ALLOCATION {
        builder.max_headers(limits.headers);
    }
    let mut connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    let mut finishing = worker.stage.clone();
    let mut finishing = std::pin::pin!(finishing.wait_for(|stage| *stage >= Stage::Finishing));
    let mut is_finishing = false;
    let timeouts = &worker.settings.timeouts;
    // The shortest of the limits: nothing can end sooner.
    let look = timeouts.header.min(timeouts.idle).min(timeouts.write).min(timeouts.rest);
    let mut timer = std::pin::pin!(tokio::time::sleep(look));
    loop {
        tokio::select! {
            biased;
            // A broken connection concerns only its client; requests have recorded their ends.
            result = &mut connection => {
                if let Some(error) = result.err().filter(hyper::Error::is_parse) {
                    worker.gauges.invalid_heads.fetch_add(1, Ordering::Relaxed);
                    if error.is_parse_too_large() {
                        worker.gauges.limits.hit(Limit::HeaderBytes);
                    }
                }
                let io = connection.into_parts().map(|parts| parts.io.into_inner());
                return io.filter(ClientIo::is_http2).map_or(Then::Close, Then::Http2);
            }
            () = timer.as_mut() => {
                let now = Instant::now();
                if is_finishing && activity.is(Phase::Idle) && !activity.is_blocked() {
                    return Then::Close;
                }
                if activity.may_rest(now, timeouts.rest) {
                    let Some(parts) = connection.into_parts() else { return Then::Close };
                    let mut io = parts.io.into_inner();
                    io.hold(&parts.read_buf);
                    return Then::Rest(io);
                }
                match activity.deadline(timeouts) {
                    Some(deadline) if deadline <= now => break,
                    deadline => {
                        let look = if is_finishing { look.min(FIRST_REQUEST) } else { look };
                        let next = deadline.unwrap_or(now + look).min(now + look);
                        timer.as_mut().reset(next);
                    }
                }
            }
            _ = finishing.as_mut(), if !is_finishing => {
                is_finishing = true;
                timer.as_mut().reset(Instant::now() + FIRST_REQUEST);
                // What is sending a head, is taking its last response or has yet to say anything
                // gets its time; responses ask to close by now. All others close once the request
                // that is being served has ended.
                let waits = activity.is(Phase::Head) || activity.is_blocked();
                if !waits && !activity.awaits_first_request() {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    }
    activity.count_timeout(&worker.gauges);
    if activity.is(Phase::Head)
        && !activity.is_blocked()
        && let Some(parts) = connection.into_parts()
    {
        let mut stream = parts.io.into_inner().stream;
        // The client may be gone; then it needs no answer.
        let _ = stream.write_all(TOO_SLOW).await;
        let _ = stream.shutdown().await;
    }
    Then::Close
}
