//! A request on a connection of HTTP/2 to a backend, which others share.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use h2::client::ResponseFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::time::{Instant, timeout};

use super::{
    Connection, alone,
    leaving::Unanswered,
    outgoing::{Outgoing, SmallFrames},
    queued::Queued,
};
use crate::{
    body::{RequestBody, Upload},
    client::Interim,
    connection::INTERIM_MAX,
    error::Reason,
    headers::prepare_http2_response,
    http1::{Invalid, has_body},
    http2::{self, Incoming, Stopped},
    retry::Unprocessed,
    sending::Sending,
};

/// The right to send one request on a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) connection: Rc<Connection>,
    /// Whether the connection was there before.
    pub(crate) is_kept: bool,
    /// How many requests were on it then, with this one.
    place: usize,
    /// Whether the head of its response has come.
    is_answered: bool,
    /// It counts as long as the backend may have them unread, though all are sent.
    small_frames: Option<Rc<SmallFrames>>,
    /// What goes on sending the request's body, though the head of the response has come.
    sending: Option<Sending<()>>,
}

/// Why no response came to a request.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing of it was sent, and this is its body.
    Unsent(RequestBody),
    /// Its own body failed.
    Body,
    /// What became of its stream.
    Stream(h2::Error),
    /// The backend says what cannot be, or more than we take.
    Malformed,
}

impl Stream {
    pub(super) fn new(connection: &Rc<Connection>, is_kept: bool) -> Self {
        let place = connection.streams.get() + 1;
        connection.streams.set(place);
        connection.note_idle();
        let connection = Rc::clone(connection);
        let (small_frames, sending) = (None, None);
        Self { connection, is_kept, place, is_answered: false, small_frames, sending }
    }

    /// Sends a request and waits for the head of its response; `interim` gets those before it. What
    /// comes of a body after that goes on being sent as long as this is held.
    ///
    /// # Errors
    /// No response came.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<()>,
        body: RequestBody,
        interim: Option<&Interim>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut sender = self.connection.sender.borrow().clone();
        if poll_fn(|context| sender.poll_ready(context)).await.is_err() {
            return Err(Failure::Unsent(body));
        }
        let is_for_head = *request.method() == Method::HEAD;
        let is_upload = !body.is_end_stream();
        let (answer, stream) = sender.send_request(request, !is_upload).map_err(Failure::Stream)?;
        let mut unanswered = Unanswered::new(&self.connection, answer);
        self.small_frames = is_upload.then(|| SmallFrames::new(&self.connection));
        let gauges = &self.connection.gauges;
        let outgoing = self.small_frames.as_ref().map(|small| Outgoing::new(body, small.clone()));
        let outgoing = outgoing.map(|outgoing| Queued::new(outgoing, gauges));
        let mut sending = outgoing.map(|outgoing| Box::pin(http2::send(outgoing, stream)));
        let mut interims = 0..INTERIM_MAX;
        let response = poll_fn(|context| {
            if let Some(Poll::Ready(sent)) =
                sending.as_mut().map(|sending| sending.as_mut().poll(context))
            {
                sending = None;
                if let Err(Stopped::Body(_)) = sent {
                    // When it is reset, whoever holds the request without an answer decides.
                    return Poll::Ready(Err(Failure::Body));
                }
            }
            let interim = (interim, &mut interims);
            unanswered.poll(|answer| poll_answer(answer, context, &self.connection, interim))
        });
        let response = response.await?;
        self.is_answered = true;
        if let Some(small) = &self.small_frames {
            small.forget();
        }
        self.sending = sending.map(|sending| {
            Sending::start(async {
                if let Err(Stopped::Body(mut stream)) = sending.await {
                    // Its client wants no more of the answer: no mistake of ours.
                    stream.send_reset(h2::Reason::CANCEL);
                }
            })
        });
        let (mut head, stream) = response.into_parts();
        prepare_head(&mut head.headers, &self.connection)?;
        let mut incoming = Incoming::new(stream, &head.headers);
        if is_for_head || !has_body(head.status) {
            incoming.end();
        }
        Ok(Response::from_parts(head, incoming))
    }

    /// Waits until it is certain that the request before it has not ended a connection that is for those
    /// which may, no longer than `limit`.
    pub(super) async fn is_as_it_was(&self, limit: Duration) -> bool {
        timeout(limit, self.connection.doubt.cleared()).await.is_ok() && self.connection.is_alive()
    }

    /// Whether a body goes on being sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| !sending.has_ended())
    }

    /// Waits until the body has gone out, for as long as it moves: no longer than `timeout` for any
    /// part of it.
    pub(crate) async fn finish_sending(&mut self, upload: &Upload, timeout: Duration) {
        if let Some(sending) = &mut self.sending {
            sending.finish(upload, timeout).await;
        }
    }

    /// Checks the fields after an answer's body.
    ///
    /// # Errors
    /// There are more than may be, which is counted.
    pub(crate) fn check(&self, fields: &HeaderMap) -> Result<(), Reason> {
        self.connection.check(fields)
    }

    /// Notes that the backend has answered.
    pub(crate) fn answered(&self) {
        self.connection.has_served.set(true);
    }

    /// Notes that the backend did not answer in time.
    pub(crate) fn suspect(&self) {
        self.connection.is_retired.set(true);
    }

    /// Whether the backend has ended the connection over what it was sent, and says so (RFC 9113 §7). One
    /// that has to go, or fails by itself, says something else; and one that dies says nothing.
    pub(crate) fn was_refused(&self) -> bool {
        let context = &mut Context::from_waker(Waker::noop());
        // Of a stream that the backend may have begun with, the error is only that of the socket.
        let ready = self.connection.sender.borrow_mut().poll_ready(context);
        let Poll::Ready(Err(error)) = ready else { return false };
        let is_own = matches!(
            error.reason(),
            None | Some(h2::Reason::NO_ERROR | h2::Reason::INTERNAL_ERROR)
        );
        error.is_remote() && error.is_go_away() && !is_own
    }

    /// Whether the backend finds the request malformed, and that is to be believed. One that has answered
    /// nobody here may find so of all, and as it answers at once, it would draw most requests to itself.
    /// A connection of the request's own tells nothing of others.
    pub(crate) fn is_malformed(&self, error: &h2::Error) -> bool {
        let Connection { is_alone, has_served, .. } = &*self.connection;
        (*is_alone || has_served.get()) && http2::finds_malformed(error)
    }

    /// Whether the backend has certainly not begun with the request, which may then be sent again
    /// whatever it is: refused on its stream, or beyond the last stream that a GOAWAY says was or may
    /// be processed (RFC 9113 §8.7, §6.8).
    pub(crate) fn unprocessed(&self, error: &h2::Error) -> Option<Unprocessed> {
        let connection = &self.connection;
        // The library ends only such streams with a GOAWAY's error; others live on, or end with
        // that of the socket.
        let is_unseen = if !error.is_remote() {
            return None;
        } else if error.is_go_away() {
            connection.is_retired.set(true);
            // A backend that takes connections and says goodbye to all of them serves nobody.
            connection.has_served.get()
        } else if error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            // Beyond its limit on streams, which it has lowered. One that takes none refuses all.
            connection.allowed().is_some_and(|allowed| allowed > 0 && self.place > allowed)
        } else {
            return None;
        };
        Some(if is_unseen { Unprocessed::Unseen } else { Unprocessed::Refused })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.used.set(Instant::now());
        connection.note_idle();
        if connection.is_alone {
            alone::ended(connection, self.is_answered);
        }
    }
}

/// The response that counts, once it has come; those before it are passed on.
fn poll_answer(
    answer: &mut ResponseFuture,
    context: &mut Context<'_>,
    connection: &Connection,
    (interim, left): (Option<&Interim>, &mut std::ops::Range<u32>),
) -> Poll<Result<Response<h2::RecvStream>, Failure>> {
    while let Some(head) = ready!(answer.poll_informational(context)) {
        let mut head = head.map_err(Failure::Stream)?;
        prepare_head(head.headers_mut(), connection)?;
        // There is no other protocol to switch to (RFC 9113 §8.6).
        if head.status() == StatusCode::SWITCHING_PROTOCOLS || left.next().is_none() {
            return Poll::Ready(Err(Failure::Malformed));
        }
        // A 100 too, though nobody asked the backend for it (RFC 9110 §15.2).
        if let Some(interim) = interim {
            let (head, ()) = head.into_parts();
            interim.send(head.status, None, head.headers);
        }
    }
    Pin::new(answer).poll(context).map_err(Failure::Stream)
}

/// Makes a head as strict as one of HTTP/1, which may have no more.
fn prepare_head(headers: &mut HeaderMap, connection: &Connection) -> Result<(), Failure> {
    connection.check(headers).map_err(|_| Failure::Malformed)?;
    prepare_http2_response(headers).map_err(|Invalid| Failure::Malformed)
}
