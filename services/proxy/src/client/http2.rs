//! A client's connection of HTTP/2: requests side by side on their streams (RFC 9113).

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::Ordering,
};

use bytes::BytesMut;
use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::{
    FIRST_REQUEST, Socket,
    activity::{Activity, Busy, Phase},
    frames::{FIRST_WINDOW, FrameWatch},
    io::ClientIo,
    refusals::Refusals,
    streams::{StreamBody, Streams},
};
use crate::{
    body::{ClientBody, ResponseBody},
    forward::{Origin, forward},
    headers::Client,
    limits::Limit,
    worker::{Stage, Worker},
};

/// What a client may have sent of a request's body before the backend has taken it, per stream: at
/// 10 ms to the client still 25 MB a second.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same over all streams of a connection, which is what one client can make us hold.
const CONNECTION_WINDOW_BYTES: u32 = 768 * 1024;

/// What of a response may wait for a slow client, per stream.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Serves a client's connection to its end. Its socket, if all has been said on it: the client may
/// still be taking that.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    socket: Socket,
    read: BytesMut,
    client: &Rc<Client>,
    activity: &Rc<Activity>,
) -> Option<Socket> {
    let socket = Rc::new(RefCell::new(socket));
    let has_said_all = serve_on(worker, &socket, read, client, activity).await;
    // Nobody else has it any more.
    Rc::into_inner(socket).filter(|_| has_said_all).map(RefCell::into_inner)
}

/// Serves a connection to its end. Whether all has been said on it that was to be.
async fn serve_on(
    worker: &Rc<Worker>,
    socket: &Rc<RefCell<Socket>>,
    read: BytesMut,
    client: &Rc<Client>,
    activity: &Rc<Activity>,
) -> bool {
    let limits = worker.settings.http2;
    let header_bytes = worker.settings.limits.header_bytes;
    let refused = Rc::new(Cell::new(0));
    let window = Rc::new(Cell::new(FIRST_WINDOW));
    let frames = FrameWatch::new(limits, &worker.gauges, &refused, &window);
    let watching = (frames, Refusals::new(&worker.gauges));
    let Ok(io) = ClientIo::new(socket, read, watching, activity) else { return false };
    activity.enter(Phase::Idle);
    let streams = Streams::new(&worker.gauges, &window);
    let service = {
        let (worker, client) = (Rc::clone(worker), Rc::clone(client));
        let (activity, streams) = (Rc::clone(activity), streams.clone());
        service_fn(move |request: Request<Incoming>| {
            let worker = Rc::clone(&worker);
            let busy = Some(Rc::new(Busy::new(&activity, &worker.gauges)));
            // The HTTP library has no way to send interim responses.
            let origin = Origin { client: Rc::clone(&client), busy, interim: None };
            let progress = streams.begin();
            let refused = Rc::clone(&refused);
            async move {
                let response = forward(worker, origin, request.map(ClientBody::http2)).await;
                // For what it is, and not for want of a backend.
                let is_ours = matches!(response.body(), ResponseBody::Own(Some(_)));
                if is_ours && response.status().is_client_error() {
                    refused.update(|count| count + 1);
                }
                let response = response.map(|body| StreamBody::new(body, progress));
                Ok::<_, std::convert::Infallible>(response)
            }
        })
    };
    let connection = http2::Builder::new(streams.clone())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(limits.streams)
        // Ours is checked where it can be answered and counted; this is where reading ends.
        .max_header_list_size(u32::try_from(2 * header_bytes).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let mut draining = worker.stage.clone();
    let mut draining = std::pin::pin!(draining.wait_for(|stage| *stage >= Stage::Draining));
    let mut is_draining = false;
    // Said goodbye (RFC 9113 §6.8) and about to close.
    let mut is_leaving = false;
    let timeouts = &worker.settings.timeouts;
    // The shortest of the limits: nothing can end sooner.
    let look = timeouts.header.min(timeouts.idle).min(timeouts.write);
    let mut timer = std::pin::pin!(tokio::time::sleep(look));
    loop {
        tokio::select! {
            biased;
            // A broken connection concerns only its client; requests have recorded their ends.
            result = connection.as_mut() => {
                let is_well = result.is_ok();
                if result.is_err_and(|error| is_excess(&error)) {
                    worker.gauges.limits.hit(Limit::Excess);
                }
                return is_well;
            }
            () = timer.as_mut() => {
                let rate_min = worker.settings.limits.download_rate;
                let slow = streams.reset_slow(rate_min);
                (0..slow).for_each(|_| worker.gauges.limits.hit(Limit::DownloadRate));
                if streams.are_slow(rate_min) {
                    worker.gauges.limits.hit(Limit::DownloadRate);
                    return false;
                }
                let stalled = streams.reset_stalled(timeouts.write);
                worker.gauges.write_timeouts.fetch_add(stalled, Ordering::Relaxed);
                let is_unserved = activity.is(Phase::Idle) && !activity.is_blocked();
                let is_awaited = streams.wait_for_client(timeouts.write);
                if is_unserved && is_awaited {
                    // It is idle only when the client has all that was meant for it.
                    activity.enter(Phase::Idle);
                }
                let is_idle = is_unserved && !is_awaited;
                let is_over = is_leaving || *worker.stage.borrow() >= Stage::Finishing;
                if is_idle && is_over {
                    return true;
                }
                let now = Instant::now();
                let deadline = activity.deadline(timeouts);
                let is_late = deadline.is_some_and(|deadline| deadline <= now);
                if is_late {
                    activity.count_timeout(&worker.gauges);
                    if !is_idle {
                        return false;
                    }
                }
                if is_late || (is_draining && !activity.awaits_first_request()) {
                    is_leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                let look = if is_draining || is_leaving { look.min(FIRST_REQUEST) } else { look };
                let next = deadline.filter(|_| !is_late).map_or(now + look, |at| at.min(now + look));
                timer.as_mut().reset(next);
            }
            _ = draining.as_mut(), if !is_draining => {
                is_draining = true;
                timer.as_mut().reset(Instant::now() + FIRST_REQUEST);
                // What has yet to say anything is told after its first request: told before, its
                // client would only come again.
                if !activity.awaits_first_request() {
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Whether the library ended a connection because its client does too much of something.
fn is_excess(error: &hyper::Error) -> bool {
    let error = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    error.is_some_and(|error: &h2::Error| {
        error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
    })
}
