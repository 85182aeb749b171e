//! What a client of HTTP/2 has sent of its requests' bodies and no backend has taken yet.
//!
//! The library reads what comes as soon as it comes, and keeps it within the windows that the client
//! was told when it connected (http2.rs). Those of all clients add up to many times what may wait in
//! memory (buffered.rs). So, once memory is tight, a connection that has its share is not read until
//! backends have taken something of that: the rest waits in the system, as bodies of HTTP/1 do. What else
//! comes on that connection waits with it: that the client has left a stream, has made room for a
//! response, or wants something else. Where a backend goes on answering, no limit of time ends that. So a
//! little is read all the same now and then, until the windows are full.
//!
//! How much there is, the library tells nobody: it is what has come in, less what bodies were asked for.
//! What comes on streams that have ended it throws away, and that it does not tell either. So there is
//! nothing as soon as all bodies wait for more, which corrects what was counted.
//!
//! Each frame costs the library a place, whatever is in it. Of small ones, which clients send that write
//! each message by itself, the places are more than the bytes; so they are counted as well.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Sleep;

use super::http2::CONNECTION_WINDOW_BYTES;
use crate::{buffered::recount, http2::FRAME_BYTES, stats::Gauges};

/// What a frame costs at least, in bytes. The library has it so.
const FRAME_COST: usize = 256;

/// What the places of a connection's frames may come to, beside what is in the frames: its windows,
/// full of messages of 16 bytes. Beyond that the library ends the connection.
pub(super) const FRAMES_BYTES: usize = CONNECTION_WINDOW_BYTES as usize / 16 * (FRAME_COST - 16);

/// After so long without anything being read, a part of bodies is, with all else that comes before its
/// end. So whatever the client says is seen within four minutes, even behind all that its windows allow
/// (an hour, if that is in frames of a few bytes), and mostly after the first of these. Were it shorter,
/// the bound on memory would mean little: those whose backend does nothing at all have got an eighth of
/// their windows by the time they are given up (`PROXY_RESPONSE_TIMEOUT`).
const PAUSE: Duration = Duration::from_secs(5);

/// What has come of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Came {
    /// What is in its frames.
    pub(super) bytes: usize,
    /// What they cost beside that, in bytes.
    pub(super) frames: usize,
}

/// What a frame costs beside what is in it, in bytes.
pub(super) fn frame_cost(bytes: usize) -> usize {
    FRAME_COST.saturating_sub(bytes)
}

/// What is untaken of one connection.
#[derive(Debug)]
pub(crate) struct Untaken {
    untaken: Cell<Came>,
    /// What of that is in the gauge.
    counted: Cell<usize>,
    /// Requests' bodies of which more may come.
    bodies: Cell<u32>,
    /// Those of them that have been asked for more than there was, and still are.
    waiting: Cell<u32>,
    /// Who may not read on.
    reader: RefCell<Option<Waker>>,
    /// Until when. It stays when it is over, until a part has been read.
    pause: RefCell<Option<Pin<Box<Sleep>>>>,
    /// What has come since it began.
    read_bytes: Cell<usize>,
    gauges: Arc<Gauges>,
}

impl Untaken {
    pub(super) fn new(gauges: &Arc<Gauges>) -> Rc<Self> {
        Rc::new(Self {
            untaken: Cell::default(),
            counted: Cell::default(),
            bodies: Cell::default(),
            waiting: Cell::default(),
            reader: RefCell::default(),
            pause: RefCell::default(),
            read_bytes: Cell::default(),
            gauges: Arc::clone(gauges),
        })
    }

    /// Notes what has come of bodies.
    pub(super) fn came(&self, Came { bytes, frames }: Came) {
        if bytes + frames > 0 {
            self.untaken
                .update(|all| Came { bytes: all.bytes + bytes, frames: all.frames + frames });
            self.count();
            self.read_bytes.update(|read| read + bytes + frames);
            if self.read_bytes.get() >= FRAME_BYTES {
                self.pause.take();
            }
        }
    }

    /// Whether more may be read. If not, whoever asks is woken once some of it was taken, or it is time
    /// to read a part all the same.
    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_full() {
            self.pause.take();
            return Poll::Ready(());
        }
        let mut pause = self.pause.borrow_mut();
        let pause = pause.get_or_insert_with(|| {
            self.read_bytes.set(0);
            Box::pin(tokio::time::sleep(PAUSE))
        });
        if pause.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        self.reader.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    fn is_full(&self) -> bool {
        let buffered = &self.gauges.buffered;
        buffered.is_tight() && self.counted.get() >= buffered.share()
    }

    /// Notes that a frame with so many bytes was taken, or none.
    fn took(&self, bytes: usize) {
        let frame = if bytes == 0 { 0 } else { frame_cost(bytes) };
        self.untaken.update(|all| Came {
            bytes: all.bytes.saturating_sub(bytes),
            frames: all.frames.saturating_sub(frame),
        });
        if self.waiting.get() == self.bodies.get() {
            self.untaken.take();
        }
        self.count();
    }

    fn count(&self) {
        // What was given has left room in the window for as much again.
        let bytes = match (self.bodies.get() as usize, self.untaken.get()) {
            (0, _) => 0,
            (bodies, Came { bytes, frames }) => {
                bytes.min(CONNECTION_WINDOW_BYTES as usize + bodies * FRAME_BYTES)
                    + frames.min(FRAMES_BYTES)
            }
        };
        let before = self.counted.replace(bytes);
        recount(&self.gauges, before, bytes);
        if bytes < before
            && !self.is_full()
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }
}

/// How one request's body is taken.
#[derive(Debug)]
pub(crate) struct Taking {
    untaken: Rc<Untaken>,
    /// What was given last. It has been taken when more is asked for.
    given: usize,
    is_waiting: bool,
}

impl Taking {
    pub(super) fn new(untaken: &Rc<Untaken>) -> Self {
        untaken.bodies.update(|bodies| bodies + 1);
        untaken.count();
        Self { untaken: Rc::clone(untaken), given: 0, is_waiting: false }
    }

    /// Notes what came of it when it was asked for more.
    pub(crate) fn asked<E>(&mut self, next: &Poll<Option<Result<Frame<Bytes>, E>>>) {
        let given = match next {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        let taken = std::mem::replace(&mut self.given, given);
        self.set_waiting(!matches!(next, Poll::Ready(Some(Ok(_)))));
        self.untaken.took(taken);
    }

    /// Nobody asks for more of it for now, though all that had come was given: what comes meanwhile waits.
    pub(crate) fn look_away(&mut self) {
        self.set_waiting(false);
    }

    fn set_waiting(&mut self, is_waiting: bool) {
        let was_waiting = std::mem::replace(&mut self.is_waiting, is_waiting);
        let change = |count: u32| count + u32::from(is_waiting) - u32::from(was_waiting);
        self.untaken.waiting.update(change);
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.set_waiting(false);
        self.untaken.bodies.update(|bodies| bodies - 1);
        self.untaken.took(self.given);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::buffered::Buffered;

    const KIB: usize = 1024;

    fn gauges(bound: usize) -> Arc<Gauges> {
        Arc::new(Gauges { buffered: Buffered::up_to(bound), ..Gauges::default() })
    }

    fn data(bytes: usize) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; bytes])))))
    }

    fn came(bytes: usize) -> Came {
        Came { bytes, frames: 0 }
    }

    const NOTHING: Poll<Option<Result<Frame<Bytes>, ()>>> = Poll::Pending;

    #[test]
    fn what_has_come_counts_until_more_is_asked_for() {
        let gauges = gauges(usize::MAX);
        let untaken = Untaken::new(&gauges);
        untaken.came(came(50));
        assert_eq!(gauges.buffered.bytes(), 0, "it is for nobody");
        let mut one = Taking::new(&untaken);
        untaken.came(came(70));
        let mut counts = |next| {
            one.asked(&next);
            gauges.buffered.bytes()
        };
        assert_eq!(counts(data(100)), 120);
        assert_eq!(counts(data(20)), 20);
        assert_eq!(counts(NOTHING), 0);
        untaken.came(came(7));
        assert_eq!(gauges.buffered.bytes(), 7);
        drop(one);
        assert_eq!(gauges.buffered.bytes(), 0);
    }

    #[test]
    fn small_frames_count_for_their_places_too() {
        let gauges = gauges(usize::MAX);
        let untaken = Untaken::new(&gauges);
        let mut body = Taking::new(&untaken);
        untaken.came(Came { bytes: 40, frames: 2 * frame_cost(20) });
        assert_eq!(gauges.buffered.bytes(), 2 * FRAME_COST);
        body.asked(&data(20));
        body.asked(&data(20));
        assert_eq!(gauges.buffered.bytes(), FRAME_COST, "the second is being taken");
        untaken.came(Came { bytes: 1, frames: usize::MAX / 2 });
        assert_eq!(gauges.buffered.bytes(), FRAMES_BYTES + 21, "no more is ever kept");
        drop(body);
        assert_eq!(gauges.buffered.bytes(), 0);
    }

    #[test]
    fn what_was_thrown_away_counts_no_longer_than_until_all_others_wait() {
        let gauges = gauges(usize::MAX);
        let untaken = Untaken::new(&gauges);
        let [gone, mut one, mut other] = [(); 3].map(|()| Taking::new(&untaken));
        untaken.came(came(1_000));
        drop(gone);
        untaken.came(came(10));
        one.asked(&NOTHING);
        assert_eq!(gauges.buffered.bytes(), 1_010, "some of it may be the other's");
        other.asked(&data(10));
        other.asked(&NOTHING);
        assert_eq!(gauges.buffered.bytes(), 0);
    }

    #[test]
    fn what_comes_while_nobody_asks_for_it_counts_whoever_else_waits() {
        let gauges = gauges(usize::MAX);
        let untaken = Untaken::new(&gauges);
        let [mut one, mut other] = [(); 2].map(|()| Taking::new(&untaken));
        one.asked(&NOTHING);
        one.look_away();
        untaken.came(came(1_000));
        other.asked(&NOTHING);
        assert_eq!(gauges.buffered.bytes(), 1_000);
        one.asked(&data(1_000));
        one.asked(&NOTHING);
        assert_eq!(gauges.buffered.bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_its_share_reads_on_when_something_was_taken() {
        let gauges = gauges(1024 * KIB);
        let context = &mut Context::from_waker(Waker::noop());
        let [untaken, other] = [(); 2].map(|()| Untaken::new(&gauges));
        let (mut body, _body) = (Taking::new(&untaken), Taking::new(&other));
        untaken.came(came(300 * KIB));
        assert!(untaken.poll_room(context).is_ready(), "there is room enough for one");
        other.came(came(300 * KIB));
        assert!(untaken.poll_room(context).is_pending());
        body.asked(&data(250 * KIB));
        assert!(untaken.poll_room(context).is_pending());
        body.asked(&data(50 * KIB));
        assert!(untaken.poll_room(context).is_ready());
        assert!(untaken.reader.borrow().is_none(), "it was woken");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_its_share_reads_a_part_now_and_then_all_the_same() {
        let gauges = gauges(1024 * KIB);
        let untaken = Untaken::new(&gauges);
        let _body = Taking::new(&untaken);
        untaken.came(came(600 * KIB));
        for _ in 0..3 {
            let start = Instant::now();
            let room = poll_fn(|context| untaken.poll_room(context));
            timeout(PAUSE * 2, room).await.expect("it is never read");
            assert!(start.elapsed() >= PAUSE);
            let context = &mut Context::from_waker(Waker::noop());
            untaken.came(came(FRAME_BYTES - 1));
            assert!(untaken.poll_room(context).is_ready(), "it was less than a part");
            untaken.came(came(1));
            assert!(untaken.poll_room(context).is_pending());
        }
    }
}
