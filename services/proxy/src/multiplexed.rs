//! A worker's connections of HTTP/2 to one backend, each shared by many requests (h2c with prior
//! knowledge, RFC 9113 §3.3).
//!
//! One connection is enough until the backend's limit on streams, or ours, is reached; then another
//! is made. The first with room is taken, so that those beyond what is needed get idle and go.
//!
//! Before one that nobody uses takes a request, it is looked at as those of HTTP/1 are: most backends
//! say goodbye before they close, and some just close.

mod leaving;
mod opening;
mod outgoing;
mod queued;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::ErrorKind,
    mem::MaybeUninit,
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use balance::Member;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;
use socket2::Socket;
use tokio::{
    sync::{Mutex, oneshot},
    time::{Instant, timeout_at},
};

pub(crate) use self::opening::STREAM_WINDOW_BYTES;
use self::{
    leaving::{Left, Unanswered},
    opening::{Driver, open},
    outgoing::{Outgoing, SMALL_MAX, SmallFrames},
    queued::{Part, Queued},
};
use crate::{
    body::{RequestBody, Upload},
    client::Interim,
    connect::Lead,
    connection::INTERIM_MAX,
    error::Reason,
    headers::prepare_http2_response,
    http1::{Head, Invalid, has_body},
    http2::{self, Incoming, Stopped},
    idle_limit::IdleWatch,
    limits::{FieldLimits, http2_size},
    retry::Unprocessed,
    sending::Sending,
    settings::Timeouts,
    stats::{Counted, Gauges},
};

/// Requests on one connection at once, if the backend allows as many. A packet that is lost stops
/// all of them; and the windows (opening.rs) must have room for all of them.
const STREAMS_MAX: usize = 100;

/// The fields of a request that shares its connection, before its body or after it. A backend that takes
/// fewer of one says so, or resets its stream; but over many more, or over what does not end within some
/// frames, it ends the connection: one made with hyper beyond 16 KiB in some forms, beyond 64 in all, and
/// others sooner.
const FIELD_BYTES_MAX: usize = 8 * 1024;

/// How often somebody waits for what a connection brings before it takes another one. What has come
/// is read in the next turn of the loop, and another may bring something too.
const LOOKS_MAX: usize = 3;

/// The connections to one backend.
#[derive(Debug)]
pub(crate) struct Multiplexed {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Held while a connection is being made, so that requests that come together share one.
    opening: Mutex<()>,
    idle_watch: IdleWatch,
    gauges: Arc<Gauges>,
    /// What the fields of an answer may be.
    limits: FieldLimits,
}

/// Why there is no place on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// None could be made.
    Failed(Reason),
    /// Others were making one all the time.
    WaitedInVain,
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

#[derive(Debug)]
struct Connection {
    sender: RefCell<SendRequest<Part>>,
    /// Requests on it.
    streams: Cell<usize>,
    /// Its task owns it, so that nothing holds the socket once that has ended.
    running: Weak<Running>,
    /// When we began to make it.
    made: Instant,
    lead: Lead,
    /// Whether it has one request and gets no other.
    is_alone: bool,
    /// When the last one ended.
    used: Cell<Instant>,
    /// Whether a request was answered on it.
    has_served: Cell<bool>,
    /// It gets no new requests: one got no answer in time, and perhaps nobody is there any more; or
    /// the backend has said goodbye, or has closed it.
    is_retired: Cell<bool>,
    left: Left,
    /// Small frames of bodies that the backend may not have read, beyond what each request has of them.
    small_frames: Cell<u32>,
    gauges: Arc<Gauges>,
    /// What the fields of an answer may be.
    limits: FieldLimits,
    /// Dropped with it, this tells its task that nobody has it any more.
    _in_use: oneshot::Sender<()>,
}

/// What runs as long as the connection is open.
#[derive(Debug)]
struct Running {
    /// It knows how many streams the backend allows.
    driver: RefCell<Driver>,
    /// The driver's, to look at. Only without a file descriptor to spare there is none.
    socket: Option<Socket>,
    /// What counts it as idle while nobody uses it.
    idle: RefCell<Option<Counted>>,
    open: Counted,
}

/// What a connection that nobody uses has brought and nobody has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Nothing,
    /// Something that the driver is about to read: perhaps a goodbye.
    Something,
    /// Its end.
    End,
}

impl Connection {
    fn is_alive(&self) -> bool {
        !self.is_closed() && !self.is_retired.get()
    }

    /// Whether it takes no requests any more, as it has ended or the backend has said goodbye.
    fn is_closed(&self) -> bool {
        let context = &mut Context::from_waker(Waker::noop());
        matches!(self.sender.borrow_mut().poll_ready(context), Poll::Ready(Err(_)))
    }

    /// Whether it leads to the backend as it is now. One that does not is of no use any more.
    fn is_of(&self, member: &Member) -> bool {
        let is_of = self.lead.is_to(member);
        if !is_of {
            self.is_retired.set(true);
        }
        is_of
    }

    fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Has it counted as idle or not, for as long as it is open.
    fn note_idle(&self) {
        let Some(running) = self.running.upgrade() else { return };
        if running.idle.borrow().is_some() != self.is_idle() {
            let idle = self.is_idle().then(|| running.open.also(|gauges| &gauges.backend_idle));
            running.idle.replace(idle);
        }
    }

    /// Asks the kernel, as the loop hears of what came only in its next turn.
    fn look(&self) -> Look {
        let Some(running) = self.running.upgrade() else { return Look::End };
        let Some(socket) = &running.socket else { return Look::Nothing };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Look::Nothing,
            Ok(0) | Err(_) => Look::End,
            Ok(_) => Look::Something,
        }
    }

    fn has_room(&self) -> bool {
        self.is_alive()
            && self.small_frames.get() < SMALL_MAX
            && self.streams.get() < self.allowed().unwrap_or(0)
    }

    /// Checks the fields of an answer.
    fn check(&self, fields: &HeaderMap) -> Result<(), Reason> {
        self.limits.check(fields).map_err(|limit| {
            self.gauges.limits.hit(limit);
            Reason::ProtocolError
        })
    }

    /// As many requests at once as the backend allows; none once it has ended.
    fn allowed(&self) -> Option<usize> {
        let running = self.running.upgrade()?;
        let allowed = running.driver.borrow().max_concurrent_send_streams();
        Some(allowed.min(STREAMS_MAX))
    }
}

/// The right to send one request on a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Rc<Connection>,
    /// Whether the connection was there before.
    pub(crate) is_kept: bool,
    /// How many requests were on it then, with this one.
    place: usize,
    /// It counts as long as the backend may have them unread, though all are sent.
    small_frames: Option<Rc<SmallFrames>>,
    /// What goes on sending the request's body, though the head of the response has come.
    sending: Option<Sending<()>>,
}

impl Stream {
    fn new(connection: &Rc<Connection>, is_kept: bool) -> Self {
        let place = connection.streams.get() + 1;
        connection.streams.set(place);
        connection.note_idle();
        let connection = Rc::clone(connection);
        Self { connection, is_kept, place, small_frames: None, sending: None }
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

/// Whether a request may share its connection with others.
pub(crate) fn may_share(head: &Head) -> bool {
    let target = head.method.as_str().len()
        + head.uri.path_and_query().map_or(0, |path| path.as_str().len())
        + head.uri.authority().map_or(0, |authority| authority.as_str().len());
    target + http2_size(&head.headers) <= FIELD_BYTES_MAX
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
        // Nobody asked the backend whether to go on; who asked us is answered by us.
        if let Some(interim) = interim.filter(|_| head.status() != StatusCode::CONTINUE) {
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

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.used.set(Instant::now());
        connection.note_idle();
    }
}

impl Multiplexed {
    pub(crate) fn new(gauges: &Arc<Gauges>, limits: FieldLimits) -> Self {
        Self {
            connections: RefCell::default(),
            opening: Mutex::default(),
            idle_watch: IdleWatch::new(gauges),
            gauges: Arc::clone(gauges),
            limits,
        }
    }

    /// A place on a connection that has room, or on a new one; with `since`, only on one that was
    /// made since then.
    ///
    /// # Errors
    /// No connection with room could be made in time.
    pub(crate) async fn take(
        &self,
        member: &Member,
        since: Option<Instant>,
        timeouts: &Timeouts,
    ) -> Result<Stream, NoStream> {
        if let Some(stream) = self.existing(member, since, timeouts.upstream_idle).await {
            return Ok(stream);
        }
        let deadline = Instant::now() + timeouts.connect;
        // Whoever is before us may wait that long for a backend that says nothing; if it was in vain
        // for them, it is for us.
        let turn = timeout_at(deadline, self.opening.lock()).await;
        let _opening = turn.map_err(|_| NoStream::WaitedInVain)?;
        // Somebody else may have made one meanwhile.
        if let Some(stream) = self.existing(member, since, timeouts.upstream_idle).await {
            return Ok(stream);
        }
        // In what is left of the time others may just have failed in all of theirs, and a backend is not to
        // be blamed for as many of us as came a little later.
        if Instant::now() + timeouts.connect / 2 >= deadline {
            return Err(NoStream::WaitedInVain);
        }
        let opened = open(member, deadline, (&self.gauges, timeouts, self.limits)).await;
        let connection = Rc::new(opened.map_err(NoStream::Failed)?);
        let stream = Stream::new(&connection, false);
        self.connections.borrow_mut().push(connection);
        Ok(stream)
    }

    /// A connection of its own, for a request with more fields than one may have that shares one. What the
    /// backend does about them is between the two.
    ///
    /// # Errors
    /// It could not be made in time.
    pub(crate) async fn take_alone(
        &self,
        member: &Member,
        timeouts: &Timeouts,
    ) -> Result<Stream, NoStream> {
        let deadline = Instant::now() + timeouts.connect;
        let opened = open(member, deadline, (&self.gauges, timeouts, self.limits)).await;
        let mut connection = opened.map_err(NoStream::Failed)?;
        connection.is_alone = true;
        Ok(Stream::new(&Rc::new(connection), false))
    }

    async fn existing(
        &self,
        member: &Member,
        since: Option<Instant>,
        configured: Duration,
    ) -> Option<Stream> {
        for _ in 0..LOOKS_MAX {
            let free = self.free(member, since, configured)?;
            if !free.is_idle() {
                return Some(Stream::new(&free, true));
            }
            match free.look() {
                Look::Nothing => return Some(Stream::new(&free, true)),
                Look::Something => tokio::task::yield_now().await,
                Look::End => self.saw_close(&free, Instant::now()),
            }
        }
        None
    }

    /// The first connection with room that has not been idle for too long.
    fn free(
        &self,
        member: &Member,
        since: Option<Instant>,
        configured: Duration,
    ) -> Option<Rc<Connection>> {
        let now = Instant::now();
        let limit = self.idle_watch.limit.current(configured, now);
        let is_fit = |connection: &Connection| {
            since.is_none_or(|since| connection.made >= since)
                && connection.has_room()
                && connection.is_of(member)
                && (!connection.is_idle() || now.duration_since(connection.used.get()) < limit)
        };
        self.connections.borrow().iter().find(|one| is_fit(one)).map(Rc::clone)
    }

    /// Takes note that the backend has closed a connection that nobody used.
    fn saw_close(&self, connection: &Connection, now: Instant) {
        connection.is_retired.set(true);
        self.idle_watch.saw_close(now.duration_since(connection.used.get()), now);
    }

    /// Lets go of connections that nobody has used for too long or that can take no request. Those
    /// close once the last request on them has ended.
    pub(crate) fn close_idle(&self, configured: Duration) {
        let now = Instant::now();
        let limit = self.idle_watch.limit.current(configured, now);
        self.connections.borrow_mut().retain(|connection| {
            if !connection.is_idle() {
                return connection.is_alive();
            }
            if !connection.is_retired.get() && connection.is_closed() {
                self.saw_close(connection, now);
            }
            connection.is_alive() && now.duration_since(connection.used.get()) < limit
        });
        self.idle_watch.looked(now);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream as StdStream},
        sync::atomic::Ordering,
    };

    use tokio::task::LocalSet;

    use super::*;
    use crate::{settings::Settings, stats::Stats, upstream::tests::member, worker::tests::until};

    /// The connections to a backend that allows the usual number of streams, and never answers.
    pub(super) struct Bench {
        listener: TcpListener,
        multiplexed: Multiplexed,
        timeouts: Timeouts,
    }

    impl Bench {
        pub(super) fn new() -> Self {
            let settings = Settings::from_variables(&[]);
            Self {
                listener: TcpListener::bind("127.0.0.1:0").unwrap(),
                multiplexed: Multiplexed::new(&Stats::new(1).gauges[0], FieldLimits::USUAL),
                timeouts: settings.timeouts,
            }
        }

        pub(super) async fn take(&self) -> Stream {
            let member = member(self.listener.local_addr().unwrap());
            self.multiplexed.take(&member, None, &self.timeouts).await.unwrap()
        }

        /// Takes a place on a new connection; with the backend's end of it.
        pub(super) async fn take_new(&self) -> (Stream, StdStream) {
            let listener = self.listener.try_clone().unwrap();
            let accepting = std::thread::spawn(move || {
                let mut peer = listener.accept().unwrap().0;
                peer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
                peer
            });
            let stream = self.take().await;
            assert!(!stream.is_kept);
            (stream, accepting.join().unwrap())
        }

        fn closes(&self) -> u64 {
            self.multiplexed.gauges.backend_idle_closed.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_this_instant_is_not_used() {
        let local = LocalSet::new();
        let test = async {
            let bench = Bench::new();
            let (stream, peer) = bench.take_new().await;
            drop(stream);
            assert!(bench.take().await.is_kept);
            // Nothing is awaited from here on, so that nobody has told us of the end yet.
            drop(peer);
            let (_stream, _peer) = bench.take_new().await;
            assert_eq!(bench.closes(), 1);
        };
        local.run_until(test).await;
    }

    #[tokio::test]
    async fn a_connection_is_given_up_when_it_has_been_idle_for_as_long_as_is_set() {
        let local = LocalSet::new();
        let test = async {
            let bench = Bench::new();
            let limit = bench.timeouts.upstream_idle;
            let just = limit - Duration::from_millis(1);
            for is_taken in [true, false] {
                let (stream, mut peer) = bench.take_new().await;
                drop(stream);
                tokio::time::pause();
                tokio::time::advance(just).await;
                bench.multiplexed.close_idle(limit);
                let stream = bench.take().await;
                assert!(stream.is_kept);
                // It is not idle, however long that takes.
                tokio::time::advance(limit * 2).await;
                bench.multiplexed.close_idle(limit);
                drop(stream);
                tokio::time::advance(just).await;
                bench.multiplexed.close_idle(limit);
                tokio::time::advance(limit - just).await;
                if is_taken {
                    let member = member(bench.listener.local_addr().unwrap());
                    let free = bench.multiplexed.free(&member, None, limit);
                    assert!(free.is_none(), "it is not used");
                }
                bench.multiplexed.close_idle(limit);
                tokio::time::resume();
                peer.set_nonblocking(true).unwrap();
                until(|| peer.read(&mut [0; 64]).is_ok_and(|count| count == 0)).await;
                assert_eq!(bench.closes(), 0, "it was we who closed");
            }
        };
        local.run_until(test).await;
    }

    #[tokio::test]
    async fn a_backend_that_never_allows_a_stream_is_left_when_the_time_to_connect_is_over() {
        let local = LocalSet::new();
        let test = async {
            let bench = Bench::new();
            let member = member(bench.listener.local_addr().unwrap());
            let limit = bench.timeouts.connect;
            tokio::time::pause();
            let start = Instant::now();
            let taken = bench.multiplexed.take(&member, None, &bench.timeouts).await;
            assert_eq!(taken.err(), Some(NoStream::Failed(Reason::ConnectTimeout)));
            // Timers go by the millisecond.
            let late = limit + Duration::from_millis(2);
            assert!((limit..late).contains(&start.elapsed()), "{:?}", start.elapsed());
        };
        local.run_until(test).await;
    }

    #[tokio::test]
    async fn a_connection_is_given_up_before_the_backend_closes_it() {
        let local = LocalSet::new();
        let test = async {
            let bench = Bench::new();
            let (stream, peer) = bench.take_new().await;
            drop(stream);
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(1)).await;
            bench.multiplexed.close_idle(bench.timeouts.upstream_idle);
            drop(peer);
            tokio::time::resume();
            let (stream, mut peer) = bench.take_new().await;
            drop(stream);
            assert_eq!(bench.closes(), 1, "after a second");
            tokio::time::pause();
            tokio::time::advance(Duration::from_millis(800)).await;
            bench.multiplexed.close_idle(bench.timeouts.upstream_idle);
            tokio::time::resume();
            let (_stream, _peer) = bench.take_new().await;
            peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            while peer.read(&mut [0; 64]).unwrap() > 0 {}
            assert_eq!(bench.closes(), 1, "it was we who closed");
        };
        local.run_until(test).await;
    }
}
