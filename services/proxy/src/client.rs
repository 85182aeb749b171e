//! A client's connection: requests one after the other, with limits on how long it may take.
//!
//! hyper's own limit for reading a head also runs while a kept connection is idle, and costs an
//! allocation per request. Here one timer per connection looks now and then at what the
//! connection is doing and since when.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

use crate::{
    forward::forward,
    headers::Client,
    settings::Timeouts,
    worker::{Stage, Worker},
};

/// The answer to a head that did not come in time. hyper holds no request to answer here.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
    content-length: 0\r\nproxy-status: evenkeel; error=http_request_error; \
    details=\"request_timeout\"\r\n\r\n";

/// At the end of a stop, what a connection that was accepted but has not said anything yet gets to
/// send its request: a client that has just connected is about to.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Waiting for the first byte of a request.
    Idle,
    /// Receiving a request's head.
    Head,
    /// Serving a request.
    Busy,
}

/// What a connection is doing, and since when. Atomics only because an upgraded connection's I/O
/// must be `Send`; all use is on one thread.
#[derive(Debug)]
struct Activity {
    start: Instant,
    phase: AtomicU8,
    /// Milliseconds after `start`.
    since: AtomicU64,
    has_served: AtomicBool,
    /// Requests that are being served, or are not let go of yet.
    busy: AtomicU32,
    /// Milliseconds after `start` since which the client takes nothing of what we have for it;
    /// [`NOT_BLOCKED`] if it does. hyper writes as much as it can, so that as long as something is
    /// left to write this is set.
    blocked_since: AtomicU64,
}

const NOT_BLOCKED: u64 = u64::MAX;

impl Activity {
    fn new() -> Arc<Self> {
        let phase = AtomicU8::new(Phase::Idle as u8);
        Arc::new(Self {
            start: Instant::now(),
            phase,
            since: AtomicU64::new(0),
            has_served: AtomicBool::new(false),
            busy: AtomicU32::new(0),
            blocked_since: AtomicU64::new(NOT_BLOCKED),
        })
    }

    fn enter(&self, phase: Phase) {
        self.since.store(self.now(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NOT_BLOCKED - 1)
    }

    /// Notes how a write went.
    fn wrote(&self, is_blocked: bool) {
        let was_blocked = self.is_blocked();
        if is_blocked && !was_blocked {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        } else if !is_blocked && was_blocked {
            self.blocked_since.store(NOT_BLOCKED, Ordering::Relaxed);
            if self.is(Phase::Idle) {
                // Only now has the client all that was meant for it.
                self.enter(Phase::Idle);
            }
        }
    }

    fn is_blocked(&self) -> bool {
        self.blocked_since.load(Ordering::Relaxed) != NOT_BLOCKED
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    /// Whether nothing has arrived yet at all.
    fn awaits_first_request(&self) -> bool {
        self.is(Phase::Idle) && !self.has_served.load(Ordering::Relaxed)
    }

    /// Until when what it is doing may take.
    fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let after = |since: &AtomicU64, limit| {
            Some(self.start + Duration::from_millis(since.load(Ordering::Relaxed)) + limit)
        };
        if self.is_blocked() {
            after(&self.blocked_since, timeouts.write)
        } else if self.is(Phase::Idle) {
            after(&self.since, timeouts.idle)
        } else if self.is(Phase::Head) {
            after(&self.since, timeouts.header)
        } else {
            None
        }
    }
}

/// Marks a connection as serving a request until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.busy.fetch_add(1, Ordering::Relaxed);
        activity.enter(Phase::Busy);
        activity.has_served.store(true, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // What belongs to one request may outlive the beginning of the next.
        if self.0.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.enter(Phase::Idle);
        }
    }
}

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream, client: Client) {
    let client = Rc::new(client);
    let activity = Activity::new();
    let service = {
        let (worker, activity) = (Rc::clone(&worker), Arc::clone(&activity));
        service_fn(move |request| {
            let (worker, client) = (Rc::clone(&worker), Rc::clone(&client));
            let busy = Rc::new(Busy::new(&activity));
            async move {
                Ok::<_, std::convert::Infallible>(forward(worker, client, busy, request).await)
            }
        })
    };
    let io = ClientIo { stream: TokioIo::new(stream), activity: Arc::clone(&activity) };
    let mut connection = http1::Builder::new()
        // Ours; see the head of this file.
        .header_read_timeout(None)
        .serve_connection(io, service)
        .with_upgrades();
    let mut finishing = worker.stage.clone();
    let mut finishing = std::pin::pin!(finishing.wait_for(|stage| *stage >= Stage::Finishing));
    let mut is_finishing = false;
    let timeouts = &worker.settings.timeouts;
    // The shortest of the limits: nothing can end sooner.
    let look = timeouts.header.min(timeouts.idle).min(timeouts.write);
    let mut timer = std::pin::pin!(tokio::time::sleep(look));
    loop {
        tokio::select! {
            biased;
            // A broken connection concerns only its client; requests have recorded their ends.
            result = &mut connection => {
                if result.is_err_and(|error| error.is_parse()) {
                    worker.gauges.invalid_heads.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
            () = timer.as_mut() => {
                let now = Instant::now();
                if is_finishing && activity.is(Phase::Idle) && !activity.is_blocked() {
                    return;
                }
                match activity.deadline(timeouts) {
                    Some(deadline) if deadline <= now => break,
                    deadline => {
                        let look = if is_finishing { look.min(FIRST_REQUEST) } else { look };
                        let next = deadline.unwrap_or(now + look).min(now + look);
                        timer.as_mut().reset(next);
                    }
                }
            }
            _ = finishing.as_mut(), if !is_finishing => {
                is_finishing = true;
                timer.as_mut().reset(Instant::now() + FIRST_REQUEST);
                // What is sending a head, is taking its last response or has yet to say anything
                // gets its time; responses ask to close by now. All others close once the request
                // that is being served has ended.
                let waits = activity.is(Phase::Head) || activity.is_blocked();
                if !waits && !activity.awaits_first_request() {
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    }
    let why = match () {
        () if activity.is_blocked() => &worker.gauges.write_timeouts,
        () if activity.is(Phase::Head) => &worker.gauges.header_timeouts,
        () => &worker.gauges.idle_timeouts,
    };
    why.fetch_add(1, Ordering::Relaxed);
    if activity.is(Phase::Head)
        && !activity.is_blocked()
        && let Some(parts) = connection.into_parts()
    {
        let mut stream = parts.io.stream.into_inner();
        // The client may be gone; then it needs no answer.
        let _ = stream.write_all(TOO_SLOW).await;
        let _ = stream.shutdown().await;
    }
}

/// A client's socket that notes when a request begins to arrive.
#[derive(Debug)]
struct ClientIo {
    stream: TokioIo<TcpStream>,
    activity: Arc<Activity>,
}

impl Read for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_read(context, buffer);
        if result.is_ready() && this.activity.is(Phase::Idle) {
            this.activity.enter(Phase::Head);
        }
        result
    }
}

impl Write for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.activity.wrote(result.is_pending());
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.activity.wrote(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
