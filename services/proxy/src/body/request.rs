//! The body of a request: from its client to a backend, and how far it has come.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::{
    client::{Busy, Interim, Taking, WireBody},
    error::Reason,
    headers,
    http2::Incoming,
    limits::{FieldLimits, Limit, Refusal},
    pace::Pace,
    stats::Gauges,
    worker::Worker,
};

/// A client that has sent nothing for so long may have been waited for in vain. No server has a shorter limit
/// of time for a body: who resets sooner has another reason.
const AWAITED: Duration = Duration::from_secs(1);

/// How far the client's body has come, for whoever waits for the response.
#[derive(Debug)]
pub(crate) struct Upload {
    moved: Cell<Instant>,
    state: Cell<UploadState>,
    /// Whether the last look found nothing new from the client, and somebody goes on looking; otherwise
    /// it is the backend that does not take what there is.
    waits_for_client: Cell<bool>,
    /// A part that was taken and that no backend got.
    returned: RefCell<Option<Frame<Bytes>>>,
    /// How fast it comes. `None` if any rate will do.
    pace: Cell<Option<Pace>>,
    answer: Cell<AnswerState>,
    /// How often the backend has begun to answer, or has gone on with that.
    answers: Cell<u32>,
    rate_min: u32,
    /// What the fields after it may be.
    limits: FieldLimits,
    gauges: Arc<Gauges>,
    /// A connection of HTTP/2 serves a request as long as its body is on the way, even if the response
    /// has ended before.
    _busy: Option<Rc<Busy>>,
}

/// What the backend has answered meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerState {
    /// Nothing yet, or all.
    None,
    /// Some of it. That may be a conversation, in which a client that has nothing to say is not slow:
    /// one that is has only the time that the backend's own parts give it (`PROXY_READ_TIMEOUT`).
    Begun {
        /// Parts have come since the backend's last one, and the last of them too slowly.
        is_slow: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UploadState {
    /// There is more to come.
    Moving,
    /// All of it is.
    Done,
    /// The client broke it off, or it was not valid.
    Failed(Reason),
    /// The connection to the backend ended before the body did.
    Dropped,
}

impl Upload {
    fn new(busy: Option<&Rc<Busy>>, worker: &Worker) -> Rc<Self> {
        let limits = &worker.settings.limits;
        let (rate_min, fields) = (limits.upload_rate, limits.of_request());
        Rc::new(Self::of_rate(rate_min, fields, Arc::clone(&worker.gauges), busy.cloned()))
    }

    /// One of which nothing has come.
    #[cfg(test)]
    pub(crate) fn begun() -> Self {
        Self::of_rate(0, FieldLimits::USUAL, Arc::default(), None)
    }

    pub(crate) fn of_rate(
        rate_min: u32,
        limits: FieldLimits,
        gauges: Arc<Gauges>,
        busy: Option<Rc<Busy>>,
    ) -> Self {
        Self {
            moved: Cell::new(Instant::now()),
            state: Cell::new(UploadState::Moving),
            waits_for_client: Cell::new(false),
            returned: RefCell::default(),
            pace: Cell::new((rate_min > 0).then(Pace::default)),
            answer: Cell::new(AnswerState::None),
            answers: Cell::new(0),
            rate_min,
            limits,
            gauges,
            _busy: busy,
        }
    }

    /// The client is about to be asked for it, who could not send it before.
    pub(crate) fn ask(&self) {
        self.moved.set(Instant::now());
    }

    /// The backend has begun to answer, or has gone on with that: it is the client's turn.
    pub(crate) fn answered(&self) {
        self.answer.set(AnswerState::Begun { is_slow: false });
        self.answers.set(self.answers.get().wrapping_add(1));
        self.begin_pace();
    }

    /// The answer has ended: what is still to come is no conversation any more.
    pub(crate) fn outlived_answer(&self) {
        self.answer.set(AnswerState::None);
        // In a conversation it may not have been its turn for long.
        self.moved.set(Instant::now());
        self.begin_pace();
    }

    fn begin_pace(&self) {
        self.pace.set((self.rate_min > 0).then(Pace::default));
        if self.waits_for_client.get() {
            self.wait();
        }
    }

    /// No more of the answer has come in time. Whether that is the client's doing, which was too slow
    /// to have it prolonged; then it has been counted.
    pub(crate) fn was_slow(&self) -> bool {
        let was_slow =
            self.is_under_way() && self.answer.get() == AnswerState::Begun { is_slow: true };
        if was_slow {
            self.gauges.limits.hit(Limit::UploadRate);
        }
        was_slow
    }

    /// Notes that the client has to send more.
    pub(crate) fn wait(&self) {
        self.turn(true, Pace::wait);
    }

    /// Notes that the client need send no more for now: what waits is for its backend.
    fn rest(&self) {
        self.turn(false, Pace::resume);
    }

    /// Notes whose turn it is, of which its pace is told, if that is looked at.
    fn turn(&self, is_clients: bool, tell: fn(&mut Pace, Instant)) {
        self.waits_for_client.set(is_clients);
        self.pace.set(self.pace.get().map(|mut pace| {
            tell(&mut pace, Instant::now());
            pace
        }));
    }

    /// Notes that a part of so many bytes has come. Whether the client is fast enough to go on.
    pub(crate) fn took(&self, bytes: usize) -> bool {
        let now = Instant::now();
        self.waits_for_client.set(false);
        let Some(mut pace) = self.pace.get() else {
            self.moved.set(now);
            return true;
        };
        let may_go_on = match self.answer.get() {
            AnswerState::None => {
                self.moved.set(now);
                pace.is_kept(bytes, now, self.rate_min)
            }
            AnswerState::Begun { .. } => {
                let is_slow = !pace.is_up_to_date(bytes, now, self.rate_min);
                self.answer.set(AnswerState::Begun { is_slow });
                if !is_slow {
                    self.moved.set(now);
                }
                true
            }
        };
        self.pace.set(Some(pace));
        may_go_on
    }

    /// Notes that all of it has come: it is the backend's turn.
    fn end(&self) {
        self.moved.set(Instant::now());
        self.state.set(UploadState::Done);
    }

    /// How often the backend has said something.
    pub(crate) fn answers(&self) -> u32 {
        self.answers.get()
    }

    /// When a part of it last went on, while it is being answered one that was not slow.
    pub(crate) fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// Why it ended early, if the client is to blame.
    pub(crate) fn failure(&self) -> Option<Reason> {
        match self.state.get() {
            UploadState::Failed(reason) => Some(reason),
            UploadState::Moving | UploadState::Done | UploadState::Dropped => None,
        }
    }

    /// Whether the next part has to come from the client.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client.get()
    }

    /// Whether it ended with its backend's connection while the client owed more for some time, of that since
    /// the attempt began.
    pub(crate) fn was_awaited(&self, start: Instant) -> bool {
        let is_whole = matches!(self.state.get(), UploadState::Done | UploadState::Failed(_));
        !is_whole && self.waits_for_client.get() && self.moved.get().max(start).elapsed() >= AWAITED
    }

    /// Of the part that was returned, its length.
    fn returned_bytes(&self) -> u64 {
        self.returned.borrow().as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64
    }

    /// Whether there is more to come.
    pub(crate) fn is_under_way(&self) -> bool {
        self.state.get() == UploadState::Moving
    }
}

/// The body of a request, as it arrives from its client.
#[derive(Debug)]
pub(crate) enum ClientBody {
    /// There is none.
    None,
    /// Of HTTP/1.
    Http1(WireBody),
    /// Of HTTP/2, and how it is taken; with where it is to be asked for, if it has to be and has not been.
    Http2(Incoming, Taking, Option<Interim>),
}

impl ClientBody {
    pub(crate) fn http2(
        incoming: Incoming,
        taking: impl FnOnce() -> Taking,
        asking: Option<Interim>,
    ) -> Self {
        match incoming.is_end_stream() {
            true => Self::None,
            false => Self::Http2(incoming, taking(), asking),
        }
    }

    /// The next part of it; one of HTTP/2 with fields within these limits.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        limits: FieldLimits,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        match self {
            Self::None => Poll::Ready(None),
            Self::Http1(body) => body.poll_frame(context),
            Self::Http2(incoming, taking, asking) => {
                if let Some(asking) = asking.take() {
                    asking.send(StatusCode::CONTINUE, None, HeaderMap::new());
                }
                let next = incoming.poll_frame(context);
                taking.asked(&next);
                Poll::Ready(ready!(next).map(|frame| match frame {
                    Ok(mut frame) => {
                        if let Some(trailers) = frame.trailers_mut() {
                            limits.check(trailers).map_err(Refusal::beyond)?;
                            headers::prepare_trailers(trailers)?;
                        }
                        Ok(frame)
                    }
                    Err(error) if is_broken_off(&error) => Err(Reason::ClientGone.into()),
                    Err(_) => Err(Reason::BadRequest.into()),
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(incoming, ..) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(incoming, ..) => incoming.size_hint(),
        }
    }
}

/// The body of a request to a backend.
#[derive(Debug, Default)]
pub(crate) enum RequestBody {
    /// None; such a request can be sent again.
    #[default]
    Empty,
    /// The client's, as it arrives.
    Client(ClientBody, Rc<Upload>),
}

impl RequestBody {
    pub(crate) fn new(body: ClientBody, busy: Option<&Rc<Busy>>, worker: &Worker) -> Self {
        match body {
            ClientBody::None => Self::Empty,
            body => Self::Client(body, Upload::new(busy, worker)),
        }
    }

    /// Puts the part back that was taken last: it comes next again.
    pub(crate) fn put_back(&mut self, frame: Frame<Bytes>) {
        if let Self::Client(_, upload) = self {
            upload.returned.replace(Some(frame));
            upload.state.set(UploadState::Moving);
        }
    }

    /// The same body, which waits for another backend now.
    #[must_use]
    pub(crate) fn put_down(mut self) -> Self {
        self.look_away();
        if let Self::Client(ClientBody::Http1(body), _) = &self {
            body.put_down();
        }
        self
    }

    /// Nobody looks for more of it for now, even if there was none at the last look: whatever is waited for
    /// meanwhile is not the client's doing.
    pub(crate) fn look_away(&mut self) {
        let Self::Client(body, upload) = self else { return };
        upload.rest();
        match body {
            ClientBody::None => {}
            ClientBody::Http1(body) => body.look_away(),
            ClientBody::Http2(_, taking, _) => taking.look_away(),
        }
    }

    /// Whether its client keeps it back until it is asked for.
    pub(crate) fn waits_to_be_asked_for(&self) -> bool {
        matches!(self, Self::Client(ClientBody::Http1(body), _) if body.waits_to_be_asked_for())
    }

    pub(crate) fn upload(&self) -> Option<Rc<Upload>> {
        match self {
            Self::Empty => None,
            Self::Client(_, upload) => Some(Rc::clone(upload)),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Self::Client(_, upload) = self
            && upload.is_under_way()
        {
            upload.state.set(UploadState::Dropped);
        }
    }
}

/// Why the client's body ended early.
#[derive(Debug, thiserror::Error)]
#[error("the request's body failed: {}", .0.token())]
pub(crate) struct Broken(Reason);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self::Client(body, upload) = self.get_mut() else { return Poll::Ready(None) };
        if let Some(frame) = upload.returned.take() {
            if body.is_end_stream() {
                upload.end();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        let Poll::Ready(frame) = body.poll_frame(context, upload.limits) else {
            upload.wait();
            return Poll::Pending;
        };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        let is_fast_enough = upload.took(bytes);
        let failed = match &frame {
            Some(Ok(_)) if !body.is_end_stream() && !is_fast_enough => {
                upload.gauges.limits.hit(Limit::UploadRate);
                Some(Reason::RequestTimeout)
            }
            Some(Ok(_)) if !body.is_end_stream() => None,
            Some(Ok(_)) | None => {
                upload.end();
                None
            }
            Some(Err(refusal)) => {
                if let Some(limit) = refusal.limit {
                    upload.gauges.limits.hit(limit);
                }
                Some(refusal.reason)
            }
        };
        if let Some(reason) = failed {
            upload.state.set(UploadState::Failed(reason));
            return Poll::Ready(Some(Err(Broken(reason))));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|refusal| Broken(refusal.reason))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body, upload) => {
                body.is_end_stream() && upload.returned.borrow().is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body, upload) => match body.size_hint().exact() {
                Some(left) => SizeHint::with_exact(left + upload.returned_bytes()),
                None => SizeHint::new(),
            },
        }
    }
}

/// Whether a client of HTTP/2 broke off its body, rather than sent one that is not valid.
fn is_broken_off(error: &h2::Error) -> bool {
    let kind = error.get_io().map(io::Error::kind);
    !matches!(kind, Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
}
