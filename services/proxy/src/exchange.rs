//! One request from its arrival to the end of its response: what has to be recorded, once.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use balance::{AttemptFailure, Member, Outcome, Policy, Ticket};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::time::Instant;

use crate::{
    announced::Place,
    body::{Arriving, Ending, ResponseBody, Upload},
    client::Busy,
    control::Seen,
    decisions::{AttemptRecord, Candidate, Record, candidates},
    error::{self, Reason},
    headers::X_REQUEST_ID,
    stats, tunnel,
    upstream::Upstream,
    worker::Worker,
};

/// A request under way. Every way out ends in a record: [`Self::complete`], [`Self::fail`],
/// [`Self::refuse`], or being dropped because the client left. In a box, as it is handed on some seven
/// times.
#[derive(Debug)]
pub(crate) struct Exchange {
    worker: Rc<Worker>,
    started: Instant,
    method: &'static str,
    /// The status that the client gets.
    code: u16,
    /// What the attempt says of its backend if its response comes to a good end.
    verdict: Outcome,
    attempt: Option<Attempt>,
    /// What the attempt's backend was chosen by.
    policy: Policy,
    /// Whether that was the request's cookie rather than the policy.
    is_visit: bool,
    first_byte: Option<Duration>,
    request_id: Option<HeaderValue>,
    /// Whether it is to be told why it went where it did, even if all goes well.
    is_sample: bool,
    /// Where its record goes if an operator announced it.
    place: Option<Place>,
    /// Of a sample: those that its backend was picked from.
    candidates: Vec<Candidate>,
    /// The attempts that failed.
    failed: Vec<AttemptRecord>,
    is_recorded: bool,
    /// Of HTTP/2, what tells the connection.
    busy: Option<Rc<Busy>>,
}

#[derive(Debug)]
struct Attempt {
    member: Arc<Member>,
    /// None once another attempt is decided: while that waits, this one takes up no room.
    ticket: Option<Ticket>,
    upstream: Rc<Upstream>,
    started: Instant,
    /// Whether it is among the failed ones.
    has_failed: bool,
    /// Why it failed, where that is counted and the request goes on.
    counted: Option<Reason>,
}

impl Exchange {
    pub(crate) fn begin(worker: &Rc<Worker>, method: &Method, busy: Option<Rc<Busy>>) -> Box<Self> {
        worker.gauges.client_active.fetch_add(1, Ordering::Relaxed);
        if busy.is_some() {
            worker.gauges.client_sharing.fetch_add(1, Ordering::Relaxed);
        }
        Box::new(Self {
            worker: Rc::clone(worker),
            started: Instant::now(),
            method: chassis::metrics::method_label(method),
            code: 0,
            verdict: Outcome::Success,
            attempt: None,
            policy: Policy::default(),
            is_visit: false,
            first_byte: None,
            request_id: None,
            is_sample: worker.decisions.is_next(),
            place: None,
            candidates: Vec::new(),
            failed: Vec::new(),
            is_recorded: false,
            busy,
        })
    }

    /// The id of a request that an operator announced. It is recorded, however it ends.
    pub(crate) fn announced(&mut self, headers: &HeaderMap) -> Option<HeaderValue> {
        let (id, place) = self.worker.decisions.announced(headers)?;
        (self.is_sample, self.place) = (true, Some(place));
        self.request_id = Some(id.clone());
        Some(id)
    }

    /// Notes the name under which the request is known to both sides.
    pub(crate) fn admitted(&mut self, request_id: HeaderValue) {
        self.request_id = Some(request_id);
    }

    pub(crate) fn request_id(&self) -> Option<&HeaderValue> {
        self.request_id.as_ref()
    }

    /// Notes the backend that is tried now.
    pub(crate) fn attempt(&mut self, ticket: Ticket, upstream: Rc<Upstream>) {
        if let Some(Attempt { counted: Some(reason), upstream, .. }) = &self.attempt {
            upstream.shard.record_retry(*reason);
        }
        self.policy = self.worker.picker.borrow().latest_policy();
        self.is_visit = ticket.is_visit();
        let started = if self.attempt.is_none() { self.started } else { Instant::now() };
        if self.is_sample {
            let picked = Some(ticket.member().id());
            self.candidates = candidates(&self.worker.picker.borrow(), picked);
        }
        let member = Arc::clone(ticket.member());
        let ticket = Some(ticket);
        let (has_failed, counted) = (false, None);
        self.attempt = Some(Attempt { member, ticket, upstream, started, has_failed, counted });
    }

    /// Notes that the attempt brought no response. Another one may follow.
    pub(crate) fn attempt_failed(&mut self, reason: Reason, says_nothing: bool) {
        if let Some(attempt) = &mut self.attempt {
            attempt.has_failed = true;
            self.failed.push(attempt.record(self.started, None, Some(reason)));
        }
        let outcome = if says_nothing { Outcome::Unknown } else { reason.outcome() };
        self.note(outcome);
        self.note_time(outcome);
    }

    /// Notes that the request goes on after the attempt that failed, to be tried again if there is
    /// somebody to try.
    pub(crate) fn goes_on(&mut self, reason: Reason) {
        if let Some(attempt) = &mut self.attempt {
            attempt.upstream.shard.record_failure(reason);
            attempt.counted = Some(reason);
        }
    }

    /// Gives the ticket of an attempt back that failed.
    pub(crate) fn let_go(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.ticket = None;
        }
    }

    /// Notes the head of the response.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.code = status.as_u16();
        if self.worker.settings.ejecting.is_failure(status) {
            self.verdict = Outcome::Failure;
        }
        self.first_byte = self.attempt.as_ref().map(|attempt| attempt.started.elapsed());
        self.note_time(self.verdict);
    }

    /// What ends a response that never ends by itself: the deadline of its backend's drain.
    pub(crate) fn ending(&self) -> Option<Ending> {
        let member = Arc::clone(&self.attempt.as_ref()?.member);
        let looks = self.worker.end_tunnels.clone();
        Some(Ending(Box::pin(tunnel::until(move || member.must_end_tunnels(), looks))))
    }

    /// The response was ended before its backend did.
    pub(crate) fn end(self: Box<Self>) {
        self.worker.gauges.tunnels_ended.fetch_add(1, Ordering::Relaxed);
        self.complete(Arriving::Ended, None);
    }

    /// Takes a backend's wish to be spared out of its response, and passes it to the pool.
    pub(crate) fn take_degraded(&self, headers: &mut HeaderMap) {
        if let Some(reason) = self.worker.settings.degrading.take(headers)
            && let Some(Attempt { member, .. }) = &self.attempt
            && member.ask_to_spare()
            && !self.worker.report(member, Seen::Degraded(reason))
        {
            member.not_asked_to_spare();
        }
    }

    /// The response was passed on to its end; the connection may serve the next request, if the request
    /// was through before.
    pub(crate) fn complete(mut self: Box<Self>, arrived: Arriving, upload: Option<Rc<Upload>>) {
        let now = self.record(self.code, None);
        self.note(self.verdict);
        let Some(attempt) = self.attempt.take() else { return };
        let most = self.worker.settings.upstream_idle_max;
        let timeout = self.worker.settings.timeouts.response;
        if let Some(upload) = &upload {
            upload.outlived_answer();
        }
        // Where the request is not through yet, its backend and we are busy with it until it is: its
        // ticket and its place among those under way are held till then, and a block holds them only
        // if it uses all of both.
        match (arrived, upload) {
            (Arriving::Alone(incoming), upload) => {
                let mut connection = incoming.into_connection();
                let Some(upload) = upload.filter(|_| connection.end_response()) else {
                    return attempt.upstream.put_idle(connection, most, now);
                };
                tokio::task::spawn_local(async move {
                    connection.finish_sending(&upload, timeout).await;
                    attempt.upstream.put_idle(connection, most, Instant::now());
                    drop((attempt, self));
                });
            }
            (Arriving::Shared(_, mut stream), Some(upload)) if stream.is_sending() => {
                tokio::task::spawn_local(async move {
                    stream.finish_sending(&upload, timeout).await;
                    drop((stream, attempt, self));
                });
            }
            (Arriving::Shared(..) | Arriving::Ended | Arriving::Cut(_), _) => {}
        }
    }

    /// The connection was upgraded. What remains in flight is the ticket.
    pub(crate) fn upgraded(mut self: Box<Self>) -> Option<Ticket> {
        self.record(self.code, None);
        self.note(self.verdict);
        self.attempt.take().and_then(|attempt| attempt.ticket)
    }

    /// The response was cut after its head.
    pub(crate) fn fail(mut self: Box<Self>, reason: Reason) {
        self.record(self.code, Some(reason));
        self.note(reason.outcome());
        self.note_time(reason.outcome());
    }

    /// Answers with an error of our own.
    pub(crate) fn refuse(mut self: Box<Self>, reason: Reason) -> Response<ResponseBody> {
        let response = error::response(reason);
        self.record(reason.status().as_u16(), Some(reason));
        self.answer_with(response.map(|text| ResponseBody::Own(Some(text))))
    }

    /// Finishes an answer of our own.
    fn answer_with(&mut self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        if let Some(id) = self.request_id.take() {
            // With it an operator finds out what happened.
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        self.worker.close_if_draining(&mut response);
        response
    }

    /// Tells the backend's counters how the attempt ended, and the pool if that is urgent.
    fn note(&self, outcome: Outcome) {
        if let Some(Attempt { member, ticket: Some(ticket), .. }) = &self.attempt
            && ticket.note(outcome)
        {
            // Nothing is lost if it cannot be told: the next sample sees it, too.
            _ = self.worker.report(member, Seen::Failure(AttemptFailure::Streak));
        }
    }

    /// Tells the backend how long it took, if the policy goes by that.
    fn note_time(&self, outcome: Outcome) {
        if self.policy == Policy::LeastTime
            && outcome != Outcome::Unknown
            && let Some(Attempt { member, started, .. }) = &self.attempt
        {
            let is_failure = outcome == Outcome::Failure;
            member.answered(started.elapsed(), is_failure, self.worker.now());
        }
    }

    /// Answers in a backend's stead, as the last whom the request may reach (RFC 9110 §7.6.2).
    pub(crate) fn answer_for_backend(
        mut self: Box<Self>,
        method: &Method,
    ) -> Response<ResponseBody> {
        if *method == Method::TRACE {
            // What came is for nobody else to see, and need not be shown (§9.3.8).
            return self.refuse(Reason::NotSupported);
        }
        let response = error::last_hop();
        self.record(response.status().as_u16(), None);
        self.answer_with(response.map(|()| ResponseBody::Own(None)))
    }

    /// Records how it ended, and when.
    fn record(&mut self, code: u16, failure: Option<Reason>) -> Instant {
        self.is_recorded = true;
        let now = Instant::now();
        let counted = self.attempt.as_ref().and_then(|attempt| attempt.counted);
        let outcome = stats::Outcome {
            method: self.method,
            code,
            duration: now - self.started,
            first_byte: self.first_byte,
            failure,
            // Where there was nobody else, the request ends with what its attempt came to.
            is_counted: counted.is_some() && counted == failure,
        };
        match &self.attempt {
            Some(attempt) => attempt.upstream.shard.record(&outcome),
            None => self.worker.no_backend.record(&outcome),
        }
        if self.is_sample || failure.is_some() || !self.failed.is_empty() {
            self.tell_why(code, failure, outcome.duration);
        }
        if let Some(reason) = failure {
            let backend = self.attempt.as_ref().map(|attempt| attempt.member.id().as_str());
            tracing::debug!(
                reason = reason.token(),
                source = ?reason.source(),
                backend = backend.unwrap_or("-"),
                method = self.method,
                code,
                "a request failed"
            );
        }
        now
    }
}

impl Exchange {
    /// Tells the admin side why the request went where it did.
    #[cold]
    fn tell_why(&mut self, code: u16, failure: Option<Reason>, duration: Duration) {
        let Self { worker, attempt, failed, .. } = self;
        let last = attempt.as_ref().filter(|attempt| !attempt.has_failed);
        let place = self.place.take();
        let is_announced = place.is_some();
        worker.decisions.send(place, || {
            let mut attempts = std::mem::take(failed);
            attempts.extend(last.map(|last| last.record(self.started, self.first_byte, failure)));
            let picked = attempts.last().map(|attempt| &attempt.backend);
            let mut candidates_then = std::mem::take(&mut self.candidates);
            if candidates_then.is_empty() {
                candidates_then = candidates(&worker.picker.borrow(), picked);
            }
            Record {
                at: worker.clock.now(),
                policy: self.policy,
                is_visit: self.is_visit,
                request_id: self.request_id.clone(),
                method: self.method,
                code,
                failure,
                duration,
                first_byte: self.first_byte,
                attempts,
                candidates: candidates_then,
                is_announced,
            }
        });
    }
}

impl Attempt {
    fn record(
        &self,
        begin: Instant,
        first_byte: Option<Duration>,
        failure: Option<Reason>,
    ) -> AttemptRecord {
        AttemptRecord {
            backend: self.member.id().clone(),
            started: self.started - begin,
            // What comes after the head is the response's length rather than the attempt's.
            took: first_byte.unwrap_or_else(|| self.started.elapsed()),
            failure,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.is_recorded {
            let reason = Reason::ClientGone;
            self.record(reason.status().as_u16(), Some(reason));
            self.note(Outcome::Unknown);
        }
        self.worker.gauges.client_active.fetch_sub(1, Ordering::Relaxed);
        if self.busy.is_some() {
            self.worker.gauges.client_sharing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Worker {
    /// While stopping, asks the client to take its next request elsewhere.
    pub(crate) fn close_if_draining(&self, response: &mut Response<ResponseBody>) {
        if self.is_draining.get() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}
