//! One request of HTTP/2 on its stream, from its head to the end of its answer.

use std::{future::poll_fn, pin::pin, rc::Rc};

use h2::server::SendResponse;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE, SET_COOKIE, TE, UPGRADE},
    response::Parts,
};
use http_body::Body;

use super::{
    date,
    frames::Ended,
    streams::{Part, Progress, StreamBody, carry},
};
use crate::{
    body::{ClientBody, ResponseBody},
    error::EndsHere,
    forward::{Origin, forward},
    headers,
    http2::{self, Stopped},
    tunnel::Tunnel,
    worker::Worker,
};

/// Serves a request. `ended` counts those that were refused for what they are.
pub(super) async fn answer(
    worker: Rc<Worker>,
    origin: Origin,
    request: Request<ClientBody>,
    mut respond: SendResponse<Part>,
    (progress, ended): (Rc<Progress>, Rc<Ended>),
) {
    let is_for_head = *request.method() == Method::HEAD;
    let response = {
        // Large, and therefore made where it stays.
        let mut forwarding = pin!(forward(worker, origin, request));
        poll_fn(|context| {
            let polled = forwarding.as_mut().poll(context);
            // Interim responses go out as they come.
            progress.say(&mut respond, context);
            if polled.is_ready() {
                return polled.map(Some);
            }
            progress.wait(context);
            respond.poll_reset(context).map(|_| None)
        })
        .await
    };
    // The client has reset the stream.
    let Some(response) = response else { return };
    let (mut head, body) = response.into_parts();
    let body = match body {
        // In a box, as it is large and hardly any is one.
        ResponseBody::Switched(tunnel) => {
            return Box::pin(connect(head, *tunnel, respond, progress)).await;
        }
        body => body,
    };
    let is_ours = matches!(body, ResponseBody::Own(Some(_)));
    let is_refused = head.extensions.get::<EndsHere>().is_some();
    let body = StreamBody::new(body, progress);
    let is_empty = body.is_end_stream();
    let length = body.size_hint().exact().filter(|_| !is_empty);
    // A backend's has to be read to its end, of which there is nothing; ours has a text for GET.
    let is_whole = is_empty || (is_for_head && is_ours);
    complete_head(&mut head, length);
    let Ok(stream) = respond.send_response(Response::from_parts(head, ()), is_whole) else {
        return respond.send_reset(h2::Reason::INTERNAL_ERROR);
    };
    drop(respond);
    if is_refused {
        // And not as its client left meanwhile.
        ended.refused.update(|count| count + 1);
    }
    if !is_whole {
        // Who stops it has recorded why.
        if let Err(Stopped::Body(mut stream)) = http2::send(body, stream).await {
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    }
}

/// Tells a client that it has the WebSocket that it asked for, and carries what is said on it.
async fn connect(
    mut head: Parts,
    tunnel: Tunnel,
    mut respond: SendResponse<Part>,
    progress: Rc<Progress>,
) {
    complete_head(&mut head, None);
    match respond.send_response(Response::from_parts(head, ()), false) {
        Ok(stream) => carry(tunnel, stream, progress).await,
        Err(_) => respond.send_reset(h2::Reason::INTERNAL_ERROR),
    }
}

/// Makes a response's head one of HTTP/2 (RFC 9113 §8.2.2), with what each response has.
fn complete_head(head: &mut Parts, length: Option<u64>) {
    let Parts { status, headers, .. } = head;
    if *status == StatusCode::UPGRADE_REQUIRED {
        // Only HTTP/1.1 can change to another protocol.
        headers.remove(UPGRADE);
    }
    // Which is how a client of HTTP/1 is asked to come again elsewhere.
    headers.remove(CONNECTION);
    // For requests only, but backends say all sorts of things.
    headers.remove(TE);
    headers::keep_out_of_table(headers, SET_COOKIE);
    if !headers.contains_key(DATE) {
        headers.insert(DATE, date::value());
    }
    if let Some(length) = length
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}
