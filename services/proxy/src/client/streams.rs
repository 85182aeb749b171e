//! The streams of an HTTP/2 connection, and which of them their client has left standing.
//!
//! A client that gives a stream no room (RFC 9113 §5.2) stops only that stream, so that how long the
//! socket takes nothing, which limits clients of HTTP/1, does not show it. hyper then waits for room
//! without asking the response's body for more, for as long as the client likes. Ended from outside,
//! the stream's task drops its stream, which resets it.
//!
//! One that takes a little now and then is too slow all the same (pace.rs). As all streams share their
//! client's line, each has an equal part of the time in which several wait for it.
//!
//! What hyper takes of a body before it can be written adds up over streams, to many times what a
//! client of HTTP/1 can make us hold. So beyond a share for all streams of a connection, each gives
//! hyper one part at a time: none can stop the others so, whose client may have room for them alone.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::{task::AbortHandle, time::Instant};

use crate::{
    body::{Cut, ResponseBody},
    buffered::MOST_BYTES,
    pace::Pace,
    stats::Gauges,
};

/// Streams that have ended are forgotten when so many have gathered.
const ENDED_MAX: usize = 64;

/// What hyper gets of a body at once. It takes a part whole as soon as the client has room for one
/// byte; a longer one would wait in memory.
const PART_BYTES: usize = 16 * 1024;

/// Nobody waits who waits no longer: it is what it takes to write.
const NO_WAIT: Duration = Duration::from_millis(1);

/// How a response's body moves towards the client.
#[derive(Debug)]
pub(super) struct Progress {
    /// When a part was last taken.
    taken: Cell<Instant>,
    /// Whether the client has to make room for that part; otherwise we wait for the backend.
    waits_for_client: Cell<bool>,
    /// Bytes of parts that hyper has and that have not gone out.
    given: Cell<usize>,
    /// Bytes of parts that have gone out since the pace was last looked at.
    gone: Cell<usize>,
    /// How fast the client takes it.
    pace: Cell<Pace>,
    /// Until when the time is in it in which the client had something to take.
    counted: Cell<Instant>,
    /// Bytes that may wait behind those.
    behind: Cell<usize>,
    /// Who waits until there are none.
    waker: RefCell<Option<Waker>>,
    /// The response's body, which may have to end while hyper does not ask for more of it.
    body: RefCell<ResponseBody>,
    held: Rc<Held>,
}

/// What of the responses on one connection waits for its client.
#[derive(Debug)]
struct Held {
    bytes: Cell<usize>,
    /// Streams of which hyper has parts that have not gone out.
    giving: Cell<u32>,
    /// Whether any of it has moved since that was last looked at.
    has_moved: Cell<bool>,
    /// Since when none has, as far as the looks tell.
    still_since: Cell<Instant>,
    gauges: Arc<Gauges>,
}

impl Held {
    fn new(gauges: &Arc<Gauges>) -> Self {
        Self {
            bytes: Cell::default(),
            giving: Cell::default(),
            has_moved: Cell::default(),
            still_since: Cell::new(Instant::now()),
            gauges: Arc::clone(gauges),
        }
    }

    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.gauges.buffered.add(bytes, &self.gauges.limits);
    }

    fn subtract(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        self.gauges.buffered.subtract(bytes);
    }

    fn is_full(&self) -> bool {
        self.bytes.get() >= self.gauges.buffered.share()
    }
}

impl Progress {
    fn new(held: &Rc<Held>) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            taken: Cell::new(now),
            waits_for_client: Cell::new(false),
            given: Cell::new(0),
            gone: Cell::new(0),
            pace: Cell::default(),
            counted: Cell::new(now),
            behind: Cell::new(0),
            waker: RefCell::default(),
            body: RefCell::new(ResponseBody::Own(None)),
            held: Rc::clone(held),
        })
    }

    /// Waits until hyper may have another part.
    fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        if self.given.get() == 0 || !self.held.is_full() {
            return Poll::Ready(());
        }
        self.waits_for_client.set(true);
        self.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    fn gone_out(&self, bytes: usize) {
        let now = Instant::now();
        self.waited(self.taken.replace(now), now);
        self.held.subtract(bytes);
        self.given.set(self.given.get() - bytes);
        if self.given.get() == 0 && bytes > 0 {
            self.held.giving.set(self.held.giving.get() - 1);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Notes that the client has had something to take since then.
    fn waited(&self, since: Instant, now: Instant) {
        if now - since < NO_WAIT {
            return;
        }
        let time = now - since.max(self.counted.replace(now));
        let mut pace = self.pace.get();
        pace.waited(time / self.held.giving.get().max(1));
        self.pace.set(pace);
    }

    /// While the client does not take what there is: ends the body if it has to end, and counts what may
    /// have come of it meanwhile.
    fn look_at_body(&self, context: &mut Context<'_>) {
        let behind = if self.waits_for_client.get() {
            let mut body = self.body.borrow_mut();
            body.ends(context);
            body.may_have_come()
        } else {
            0
        };
        self.set_behind(behind);
    }

    /// Counts what waits behind what hyper was given. It is none of the connection's share, which is for
    /// what we read.
    fn set_behind(&self, bytes: usize) {
        let (before, gauges) = (self.behind.replace(bytes), &self.held.gauges);
        match bytes.checked_sub(before) {
            Some(0) => {}
            Some(more) => gauges.buffered.add(more, &gauges.limits),
            None => gauges.buffered.subtract(before - bytes),
        }
    }

    fn is_stalled(&self, limit: Duration) -> bool {
        self.waits_for_client.get() && self.taken.get().elapsed() >= limit
    }

    /// Whether the client, for which something waits again, has taken less than it has to. Of one that
    /// has taken nothing since the last look, or all there is, nothing is said.
    fn is_slow(&self, rate_min: u32) -> bool {
        if !self.waits_for_client.get() || self.gone.get() == 0 {
            return false;
        }
        let now = Instant::now();
        self.waited(self.taken.get(), now);
        let mut pace = self.pace.get();
        let is_kept = pace.is_kept(self.gone.take(), now, rate_min);
        self.pace.set(pace);
        !is_kept
    }
}

/// The streams of one connection. Also what runs their tasks on this thread.
#[derive(Clone, Debug)]
pub(super) struct Streams(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    held: Rc<Held>,
    /// That of the request that hyper has just given us. It starts the stream's task right after.
    next: RefCell<Option<Rc<Progress>>>,
    running: RefCell<Vec<(Rc<Progress>, AbortHandle)>>,
}

impl Streams {
    pub(super) fn new(gauges: &Arc<Gauges>) -> Self {
        let held = Rc::new(Held::new(gauges));
        Self(Rc::new(Inner { held, next: RefCell::default(), running: RefCell::default() }))
    }

    /// A request has come whose task starts next.
    pub(super) fn begin(&self) -> Rc<Progress> {
        let progress = Progress::new(&self.0.held);
        self.0.next.replace(Some(Rc::clone(&progress)));
        progress
    }

    /// Resets the streams whose client has made no room for `limit`, and tells how many.
    pub(super) fn reset_stalled(&self, limit: Duration) -> u64 {
        self.reset(|progress| progress.is_stalled(limit))
    }

    /// Resets the streams whose client takes less than so many bytes a second, and tells how many.
    pub(super) fn reset_slow(&self, rate_min: u32) -> u64 {
        self.reset(|progress| progress.is_slow(rate_min))
    }

    /// Whether the client is yet to make room for something, and has gone on with that within `limit`. The
    /// last part of a response waits when nobody serves it any more: its stream's task has ended, and
    /// the socket is free.
    pub(super) fn wait_for_client(&self, limit: Duration) -> bool {
        let held = &self.0.held;
        let now = Instant::now();
        if held.has_moved.take() {
            held.still_since.set(now);
        }
        let is_held = held.bytes.get() > 0 || held.giving.get() > 0;
        is_held && now - held.still_since.get() < limit
    }

    fn reset(&self, must_end: impl Fn(&Progress) -> bool) -> u64 {
        let mut count = 0;
        self.0.running.borrow_mut().retain(|(progress, task)| {
            let must_end = !task.is_finished() && must_end(progress);
            if must_end {
                task.abort();
                count += 1;
            }
            !must_end && !task.is_finished()
        });
        count
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        // In a box, since a task moves its future some eight times until it is forgotten.
        let mut stream = Box::pin(stream);
        let Some(progress) = self.0.next.take() else {
            drop(tokio::task::spawn_local(stream));
            return;
        };
        let looking = Rc::clone(&progress);
        let task = tokio::task::spawn_local(poll_fn(move |context| {
            let polled = stream.as_mut().poll(context);
            if polled.is_pending() {
                looking.look_at_body(context);
            }
            polled
        }));
        let task = task.abort_handle();
        let mut running = self.0.running.borrow_mut();
        if running.len() >= ENDED_MAX {
            running.retain(|(_, task)| !task.is_finished());
        }
        running.push((progress, task));
    }
}

/// A response's body on an HTTP/2 stream.
#[derive(Debug)]
pub(super) struct StreamBody {
    /// What has the body, which goes with this.
    progress: Rc<Progress>,
    /// What remains of a long part.
    rest: Bytes,
}

impl StreamBody {
    pub(super) fn new(body: ResponseBody, progress: Rc<Progress>) -> Self {
        progress.body.replace(body);
        Self { progress, rest: Bytes::new() }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Part>, Cut>>> {
        if self.rest.is_empty() {
            // What is more than a part would wait here.
            let is_full = self.progress.held.is_full();
            let mut body = self.progress.body.borrow_mut();
            body.read_at_most(if is_full { PART_BYTES } else { MOST_BYTES });
            let frame = ready!(Pin::new(&mut *body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    self.progress.held.add(data.len());
                    self.rest = data;
                }
                Some(Ok(Err(trailers))) => {
                    let trailers = trailers.into_trailers().unwrap_or_default();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                None => return Poll::Ready(None),
            }
        }
        let data = self.rest.split_to(self.rest.len().min(PART_BYTES));
        Poll::Ready(Some(Ok(Frame::data(Part::new(data, &self.progress)))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.progress.set_behind(0);
        self.progress.body.replace(ResponseBody::Own(None));
        self.progress.held.subtract(self.rest.len());
    }
}

/// What hyper has of a body until it has gone out or its stream has ended.
#[derive(Debug)]
pub(super) struct Part {
    data: Bytes,
    bytes: usize,
    progress: Rc<Progress>,
}

impl Part {
    fn new(data: Bytes, progress: &Rc<Progress>) -> Self {
        let (bytes, given) = (data.len(), progress.given.get());
        if given == 0 && bytes > 0 {
            progress.held.giving.set(progress.held.giving.get() + 1);
        }
        progress.given.set(given + bytes);
        progress.held.has_moved.set(true);
        Self { data, bytes, progress: Rc::clone(progress) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.progress.gone_out(self.bytes);
    }
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.data.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.data
    }

    fn advance(&mut self, count: usize) {
        self.progress.gone.set(self.progress.gone.get() + count);
        self.progress.held.has_moved.set(true);
        self.data.advance(count);
    }
}

impl Body for StreamBody {
    type Data = Part;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, Cut>>> {
        let this = self.get_mut();
        if this.rest.is_empty() && this.progress.body.borrow_mut().ends(context) {
            return Poll::Ready(None);
        }
        ready!(this.progress.poll_room(context));
        let frame = this.next(context);
        let has_waited = this.progress.waits_for_client.replace(frame.is_ready());
        if frame.is_ready() {
            let now = Instant::now();
            let since = this.progress.taken.replace(now);
            if has_waited {
                this.progress.waited(since, now);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.progress.body.borrow().is_end_stream()
    }

    /// What is left of it: bytes of a long part are no longer the body's own.
    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.progress.body.borrow().size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests;
