//! The streams of an HTTP/2 connection, and which of them their client has left standing.
//!
//! A client that gives a stream no room (RFC 9113 §5.2) stops only that stream, so that how long the
//! socket takes nothing, which limits clients of HTTP/1, does not show it. Its task then waits for room
//! without asking the response's body for more, for as long as the client likes. Ended from outside,
//! it drops its stream, which resets it.
//!
//! One that takes a little now and then is too slow all the same (pace.rs). As all streams share their
//! client's line, each has an equal part of the time in which several wait for it; and where a client
//! takes too little of all of them, so that none can be said to have too small a part, all are. Only a response
//! longer than its client's window may wait for room on its own stream. Shorter ones wait for the
//! connection, or for their turn on it, which says nothing of any of them: they are held to what all
//! of them together take, and where that is too little the connection ends.
//!
//! Once the library has the end of a response nobody can reset its stream any more, and what is left of it
//! waits for as long as the client likes. So where it may wait for room on its own, the end is held back
//! until all before it has gone out. It costs a frame of its own, which short responses need not pay; where
//! what is left of them does not move, the connection ends.
//!
//! What the library takes of a body before it can be written adds up over streams, to many times what a
//! client of HTTP/1 can make us hold. So beyond a share for all streams of a connection, each gives
//! it one part at a time: none can stop the others so, whose client may have room for them alone. Small
//! parts cost it more than what is in them, and so go together (streams/gather.rs), and count for it.

mod body;
mod gather;
mod held;
mod tunnel;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::SET_COOKIE};
use tokio::{task::AbortHandle, time::Instant};

use self::held::{All, Held};
pub(super) use self::{
    body::{Part, StreamBody},
    tunnel::carry,
};
use crate::{
    body::ResponseBody,
    buffered::recount,
    headers,
    http2::PLACE_BYTES,
    pace::{Pace, WINDOW},
    stats::Gauges,
};

/// Streams that have ended are forgotten when so many have gathered.
const ENDED_MAX: usize = 64;

/// What the library gets of a body at once. It takes a part whole as soon as the client has room for one
/// byte; a longer one would wait in memory.
const PART_BYTES: usize = 16 * 1024;

/// What a stream may have of interim responses, which wait for their client without any bound of the
/// library's. What comes beyond that it does without.
const INTERIM_BYTES_MAX: usize = 64 * 1024;

/// Nobody waits who waits no longer: it is what it takes to write.
const NO_WAIT: Duration = Duration::from_millis(1);

/// What so much of a body costs in memory, in parts as the library gets them.
fn cost(bytes: usize) -> usize {
    bytes + bytes.div_ceil(PART_BYTES) * PLACE_BYTES
}

/// How a response's body moves towards the client.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When a part, or as far as the looks tell some of it, was last taken.
    taken: Cell<Instant>,
    /// Whether the client has to make room for that part; otherwise we wait for the backend.
    waits_for_client: Cell<bool>,
    /// Bytes of all parts that the library has had.
    sent: Cell<usize>,
    /// Bytes of parts that the library has and that have not gone out.
    given: Cell<usize>,
    /// Whether any wait so for nothing but the connection.
    waits_for_turn: Cell<bool>,
    /// Bytes of parts that have gone out since the pace was last looked at.
    gone: Cell<usize>,
    /// How fast the client takes it.
    pace: Cell<Pace>,
    /// How long the client has had something to take since it was last seen to take any.
    waited: Cell<Duration>,
    /// Until when the time is in it in which the client had something to take.
    counted: Cell<Instant>,
    /// Bytes that may wait behind those.
    behind: Cell<usize>,
    /// Who waits until there are none.
    waker: RefCell<Option<Waker>>,
    /// The response's body, which may have to end while nobody asks for more of it.
    body: RefCell<ResponseBody>,
    /// Whether it is a tunnel, whose client may pause for as long as that may be silent.
    is_tunnel: Cell<bool>,
    /// Interim responses that are to go out before it, and bytes of all that there were.
    interim: RefCell<Vec<Response<()>>>,
    interim_bytes: Cell<usize>,
    /// Whether the client was told to go on, which says nothing more the second time: by us, who ask for a
    /// body that waits for that, and then by a backend that nobody asked.
    may_go_on: Cell<bool>,
    held: Rc<Held>,
}

impl Progress {
    fn new(held: &Rc<Held>) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            taken: Cell::new(now),
            waits_for_client: Cell::new(false),
            sent: Cell::new(0),
            given: Cell::new(0),
            waits_for_turn: Cell::new(false),
            gone: Cell::new(0),
            pace: Cell::default(),
            waited: Cell::default(),
            counted: Cell::new(now),
            behind: Cell::new(0),
            waker: RefCell::default(),
            body: RefCell::new(ResponseBody::Own(None)),
            is_tunnel: Cell::new(false),
            interim: RefCell::default(),
            interim_bytes: Cell::new(0),
            may_go_on: Cell::new(false),
            held: Rc::clone(held),
        })
    }

    /// Has an interim response go out before the answer.
    pub(super) fn tell(&self, status: StatusCode, mut fields: HeaderMap) {
        if status == StatusCode::CONTINUE && self.may_go_on.replace(true) {
            return;
        }
        let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let bytes = self.interim_bytes.get() + fields.iter().map(size).sum::<usize>();
        if bytes > INTERIM_BYTES_MAX {
            return;
        }
        self.interim_bytes.set(bytes);
        headers::keep_out_of_table(&mut fields, SET_COOKIE);
        let mut response = Response::new(());
        (*response.status_mut(), *response.headers_mut()) = (status, fields);
        self.interim.borrow_mut().push(response);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Sends the interim responses that there are, as long as the client wants any.
    pub(super) fn say(&self, respond: &mut SendResponse<Part>, context: &mut Context<'_>) {
        if !self.interim.borrow().is_empty() {
            for response in self.interim.take() {
                if respond.poll_reset(context).is_pending() {
                    let _ = respond.send_informational(response);
                }
            }
        }
    }

    /// Has `context` woken by the next one.
    pub(super) fn wait(&self, context: &Context<'_>) {
        self.waker.replace(Some(context.waker().clone()));
    }

    /// Waits until the library may have another part.
    fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        if self.held.is_full() { self.poll_gone_out(context) } else { Poll::Ready(()) }
    }

    /// Waits until all that the library has had has gone out.
    fn poll_gone_out(&self, context: &Context<'_>) -> Poll<()> {
        if self.given.get() == 0 {
            return Poll::Ready(());
        }
        self.waits_for_client.set(!self.is_tunnel.get());
        self.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    fn gone_out(&self, bytes: usize) {
        let now = Instant::now();
        self.waited(self.taken.replace(now), now);
        self.held.subtract(cost(bytes));
        self.given.set(self.given.get() - bytes);
        if self.given.get() == 0 && bytes > 0 {
            self.held.giving.set(self.held.giving.get() - 1);
            self.note_turn();
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Notes whether it waits now for nothing but the connection.
    fn note_turn(&self) {
        let waits = self.given.get() > 0 && !self.may_lack_room();
        if waits == self.waits_for_turn.replace(waits) {
            return;
        }
        let All { waiting, has_paused, .. } = &self.held.all;
        waiting.set(if waits { waiting.get() + 1 } else { waiting.get() - 1 });
        has_paused.set(has_paused.get() || waiting.get() == 0);
    }

    /// Notes that the client has had something to take since then.
    fn waited(&self, since: Instant, now: Instant) {
        if now - since < NO_WAIT {
            return;
        }
        let time = now - since.max(self.counted.replace(now));
        self.waited.set(self.waited.get() + time);
        let mut pace = self.pace.get();
        pace.waited(time / self.held.giving.get().max(1));
        self.pace.set(pace);
    }

    /// While the client does not take what there is: ends the body if it has to end, takes in what has
    /// come of it meanwhile, and counts that.
    fn look_at_body(&self, context: &mut Context<'_>) {
        let behind = if self.waits_for_client.get() {
            let mut body = self.body.borrow_mut();
            body.ends(context);
            body.take_in(context);
            body.may_have_come()
        } else {
            0
        };
        self.set_behind(behind);
    }

    /// Counts what waits behind what the library was given. It is none of the connection's share, which is for
    /// what we read.
    fn set_behind(&self, bytes: usize) {
        recount(&self.held.gauges, self.behind.replace(bytes), bytes);
    }

    /// Whether the task that it is of has ended and nothing that it sent waits any more.
    fn is_over(&self, task: &AbortHandle) -> bool {
        task.is_finished() && self.given.get() == 0
    }

    fn is_stalled(&self, limit: Duration) -> bool {
        self.waits_for_client.get() && self.taken.get().elapsed() >= limit
    }

    /// Whether it may wait for room on its own stream, and not only on the connection.
    fn may_lack_room(&self) -> bool {
        // What waits of a tunnel says nothing of how its connection's client takes all.
        self.is_tunnel.get() || self.sent.get() > self.held.window.get() as usize
    }

    /// Whether it may wait for room on its own, and the client has just made some.
    fn trickles(&self) -> bool {
        self.waits_for_client.get() && self.may_lack_room() && self.taken.get().elapsed() < WINDOW
    }

    /// Whether the client, for which something waits again, has taken less than it has to. Of one that
    /// has taken nothing since the last look, or all there is, nothing is said.
    fn is_slow(&self, rate_min: u32) -> bool {
        if !self.waits_for_client.get() {
            return false;
        }
        // At each look, by how many wait now.
        let now = Instant::now();
        self.waited(self.taken.get(), now);
        let gone = self.gone.take();
        if gone == 0 {
            return false;
        }
        // It moves, if only within a part.
        self.taken.set(now);
        let waited = self.waited.take();
        if self.may_lack_room() {
            self.held.together.note(waited, gone);
        }
        let mut pace = self.pace.get();
        let is_kept = pace.is_kept(gone, now, rate_min);
        self.pace.set(pace);
        !is_kept && self.may_lack_room()
    }
}

/// The streams of one connection. Also what runs their tasks on this thread.
#[derive(Clone, Debug)]
pub(super) struct Streams(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    held: Rc<Held>,
    running: RefCell<Vec<(Rc<Progress>, AbortHandle)>>,
}

impl Streams {
    /// `window` is what the client has room for of a response before it makes more.
    pub(super) fn new(gauges: &Arc<Gauges>, window: &Rc<Cell<u32>>) -> Self {
        let held = Rc::new(Held::new(gauges, window));
        Self(Rc::new(Inner { held, running: RefCell::default() }))
    }

    /// A request has come.
    pub(super) fn begin(&self) -> Rc<Progress> {
        Progress::new(&self.0.held)
    }

    /// Runs the task of a request whose answer moves so.
    pub(super) fn execute(
        &self,
        progress: Rc<Progress>,
        stream: impl Future<Output = ()> + 'static,
    ) {
        // In a box, since a task moves its future some eight times until it is forgotten.
        let mut stream = Box::pin(stream);
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
            running.retain(|(progress, task)| !progress.is_over(task));
        }
        running.push((progress, task));
    }

    /// Resets the streams whose client has made no room for `limit`, and tells how many. To be asked
    /// after [`Self::reset_slow`], which sees what has moved.
    pub(super) fn reset_stalled(&self, limit: Duration) -> u64 {
        self.reset(|progress| progress.is_stalled(limit))
    }

    /// Resets the streams whose client takes less than so many bytes a second, and tells how many.
    pub(super) fn reset_slow(&self, rate_min: u32) -> u64 {
        let slow = self.reset(|progress| progress.is_slow(rate_min));
        if !self.0.held.together.is_slow(rate_min) {
            return slow;
        }
        slow + self.reset(Progress::trickles)
    }

    /// Whether the client takes less than so many bytes a second of all of it, while some wait for nothing
    /// but the connection.
    pub(super) fn are_slow(&self, rate_min: u32) -> bool {
        self.0.held.is_slow(rate_min)
    }

    /// Whether the client is yet to make room for something, and has gone on with that within `limit`. The
    /// last part of a response waits when nobody serves it any more: its stream's task has ended, and
    /// the socket is free.
    pub(super) fn wait_for_client(&self, limit: Duration) -> bool {
        let held = &self.0.held;
        let still_for = held.still_for();
        let is_held = held.bytes.get() > 0 || held.giving.get() > 0;
        is_held && still_for < limit
    }

    /// Whether some of a response waits whose stream nobody can reset any more, and nothing has moved for
    /// `limit`, whatever else the client asks for meanwhile.
    pub(super) fn are_stuck(&self, limit: Duration) -> bool {
        let waits = |(progress, task): &(Rc<Progress>, AbortHandle)| {
            task.is_finished() && !progress.is_over(task)
        };
        self.0.held.still_for() >= limit && self.0.running.borrow().iter().any(waits)
    }

    fn reset(&self, must_end: impl Fn(&Progress) -> bool) -> u64 {
        let mut count = 0;
        self.0.running.borrow_mut().retain(|(progress, task)| {
            let must_end = !task.is_finished() && must_end(progress);
            if must_end {
                task.abort();
                count += 1;
            }
            !must_end && !progress.is_over(task)
        });
        count
    }
}

#[cfg(test)]
mod tests;
