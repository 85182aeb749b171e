//! A client's connection of HTTP/2: requests side by side on their streams (RFC 9113).

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use h2::{
    RecvStream,
    server::{self, Handshake, SendResponse},
};
use http::Request;
use tokio::time::Instant;

use super::{
    FIRST_REQUEST, Interim, Socket,
    activity::{Activity, Busy, Phase},
    answer::answer,
    frames::{Ended, FIRST_WINDOW, FrameWatch, MISTAKES_MAX},
    io::{ClientIo, calm_down},
    refusals::Refusals,
    streams::{Part, Streams},
    untaken::{FRAMES_BYTES, Taking, Untaken},
};
use crate::{
    body::ClientBody,
    forward::Origin,
    headers::{self, Client},
    http2::{
        Incoming,
        whole_heads::{HeadLimits, WholeHeads, is_endless},
    },
    limits::Limit,
    worker::{Stage, Worker},
};

/// What a client may have sent of a request's body before the backend has taken it, per stream: at
/// 10 ms to the client still 25 MB a second.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The same over all streams of a connection, which is what one client can make us hold: three uploads
/// that stand still leave no room for a fourth. What all clients together can, is bounded by how much
/// is read of each (untaken.rs).
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 768 * 1024;

/// What of a response may wait for a slow client, per stream.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How many times what a request's head may have is held of one. It is refused where that can be answered
/// and counted.
const HEADS_HELD: u32 = 4;

/// Streams that are known for a while after they were answered before their upload had ended, so that what
/// their client sent before it could know is passed over: what comes for others is answered with a reset
/// each, and fields after a body end the connection with all who are on it. The library keeps a place of some
/// hundred bytes for each to the connection's end, and makes places in powers of two: with the usual 100
/// requests no more are made than for the 50 of its own.
const ANSWERED_EARLY_MAX: usize = 150;

/// How long that is: some round trips of a slow client. With the number above it is enough for 50 uploads
/// refused in a second.
const ANSWERED_EARLY: Duration = Duration::from_secs(3);

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
    let (ended, newest) = (Rc::<Ended>::default(), Rc::new(Cell::new(0)));
    let window = Rc::new(Cell::new(FIRST_WINDOW));
    let frames = FrameWatch::new(worker.settings.http2, &worker.gauges, &ended, &window);
    let refusals = Refusals::new(&worker.gauges, &newest, &ended);
    let untaken = Untaken::new(&worker.gauges);
    let watching = (frames, refusals, &untaken);
    let io = ClientIo::new(socket, read, watching, activity);
    let Ok(io) = io else { return false };
    activity.enter(Phase::Idle);
    let streams = Streams::new(&worker.gauges, &window);
    let mut connection = Connection::new(worker, io);
    let requests = Requests { worker, client, activity, streams: &streams, untaken, ended, newest };
    let mut draining = worker.stage.clone();
    let mut draining = pin!(draining.wait_for(|stage| *stage >= Stage::Draining));
    let mut is_draining = false;
    // Said goodbye (RFC 9113 §6.8) and about to close.
    let mut is_leaving = false;
    let timeouts = &worker.settings.timeouts;
    // The shortest of the limits: nothing can end sooner.
    let look = timeouts.header.min(timeouts.idle).min(timeouts.write);
    let mut timer = pin!(tokio::time::sleep(look));
    loop {
        tokio::select! {
            biased;
            // A broken connection concerns only its client; requests have recorded their ends.
            result = poll_fn(|context| connection.poll(context, &requests)) => {
                let Err(error) = result else { return true };
                let is_endless = is_endless(&error);
                if is_endless {
                    calm_down(&socket.borrow().stream, activity);
                }
                if is_endless || is_excess(&error) {
                    worker.gauges.limits.hit(Limit::Excess);
                }
                return false;
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
                if streams.are_stuck(timeouts.write) {
                    worker.gauges.write_timeouts.fetch_add(1, Ordering::Relaxed);
                    return false;
                }
                let is_unserved = activity.is(Phase::Idle) && !activity.is_blocked();
                let is_awaited = streams.wait_for_client(timeouts.write);
                if is_unserved && is_awaited {
                    // It is idle only when the client has all that was meant for it.
                    activity.enter(Phase::Idle);
                }
                let is_idle = is_unserved && !is_awaited;
                if is_idle && is_leaving {
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
                // A request that is on its way by now may be sent again elsewhere if it is told of.
                let is_over = *worker.stage.borrow() >= Stage::Finishing;
                if is_late || is_over || (is_draining && !activity.awaits_first_request()) {
                    is_leaving = true;
                    connection.say_goodbye();
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
                    connection.say_goodbye();
                }
            }
        }
    }
}

/// The library's side of a connection.
struct Connection {
    state: State,
    /// Whether goodbye has been said, or is to be as soon as it can be.
    is_leaving: bool,
}

type Io = WholeHeads<ClientIo>;

enum State {
    Opening(Handshake<Io, Part>),
    Open(server::Connection<Io, Part>),
}

impl Connection {
    fn new(worker: &Worker, io: ClientIo) -> Self {
        let limits = HeadLimits::new(worker.settings.limits.of_request(), HEADS_HELD);
        let handshake = server::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .data_frame_budget(FRAMES_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .max_concurrent_streams(worker.settings.http2.streams)
            .max_header_list_size(limits.read())
            .max_frame_size(limits.held)
            .max_concurrent_reset_streams(ANSWERED_EARLY_MAX)
            .reset_stream_duration(ANSWERED_EARLY)
            .max_local_error_reset_streams(Some(MISTAKES_MAX as usize))
            .enable_connect_protocol()
            .handshake(WholeHeads::of_client(io, limits, &worker.gauges));
        Self { state: State::Opening(handshake), is_leaving: false }
    }

    /// Has all that came on it and all that is to go out move on, until it ends.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        requests: &Requests<'_>,
    ) -> Poll<Result<(), h2::Error>> {
        loop {
            if !self.is_leaving && requests.ended.are_many() {
                self.say_goodbye();
            }
            match &mut self.state {
                State::Opening(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(context))?;
                    if self.is_leaving {
                        connection.graceful_shutdown();
                    }
                    self.state = State::Open(connection);
                }
                State::Open(connection) => match ready!(connection.poll_accept(context)) {
                    Some(Ok((request, respond))) => requests.begin(request, respond),
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }

    fn say_goodbye(&mut self) {
        self.is_leaving = true;
        if let State::Open(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
    }
}

/// What all requests on a connection have in common.
struct Requests<'a> {
    worker: &'a Rc<Worker>,
    client: &'a Rc<Client>,
    activity: &'a Rc<Activity>,
    streams: &'a Streams,
    /// What backends have not taken of their bodies.
    untaken: Rc<Untaken>,
    ended: Rc<Ended>,
    /// The stream of the one that came last.
    newest: Rc<Cell<u32>>,
}

impl Requests<'_> {
    /// Begins to serve one, in a task of its own.
    fn begin(&self, request: Request<RecvStream>, respond: SendResponse<Part>) {
        self.newest.set(respond.stream_id().as_u32());
        let Self { worker, client, activity, streams, untaken, ended, .. } = self;
        let (head, stream) = request.into_parts();
        let progress = streams.begin();
        let interim = || Interim::Http2(Rc::clone(&progress));
        let asking = headers::expects_continue(&head.headers).then(interim);
        let origin = Origin {
            client: Rc::clone(client),
            busy: Some(Rc::new(Busy::new(activity, &worker.gauges))),
            interim: worker.settings.forwarding.interim_responses.then(interim),
        };
        let body = ClientBody::http2(
            Incoming::new(stream, &head.headers),
            || Taking::new(untaken),
            asking,
        );
        let request = Request::from_parts(head, body);
        let place = (Rc::clone(&progress), Rc::clone(ended));
        streams.execute(progress, answer(Rc::clone(worker), origin, request, respond, place));
    }
}

/// Whether the library ended a connection because its client does too much of something.
fn is_excess(error: &h2::Error) -> bool {
    error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
}
