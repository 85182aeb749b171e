//! A worker's connections of HTTP/2 to one backend, each shared by many requests (h2c with prior
//! knowledge, RFC 9113 §3.3).
//!
//! One connection is enough until the backend's limit on streams, or ours, is reached; then another
//! is made. The first with room is taken, so that those beyond what is needed get idle and go.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use balance::Member;
use hyper::{
    client::conn::http2::{Builder, SendRequest},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    body::RequestBody,
    connect::connect,
    error::Reason,
    stats::{Counted, Gauges},
};

/// Requests on one connection at once, if the backend allows as many. A packet that is lost stops
/// all of them; and the windows below must have room for all of them.
const STREAMS_MAX: usize = 100;

/// What a backend may have sent of a response before its client has taken it.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// The same over all responses. Enough for each: were it less, some slow clients could stop the
/// responses of all others.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;

/// What of a request's body may wait for a slow backend.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// The connections to one backend.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Held while a connection is being made, so that requests that come together share one.
    opening: Mutex<()>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<RequestBody>,
    /// Requests on it.
    streams: Cell<usize>,
    /// As many as the backend allows, as far as it has told.
    allowed: Rc<Cell<usize>>,
    /// When the last one ended.
    used: Cell<Instant>,
    /// A request got no answer in time: perhaps nobody is there any more. It gets no new ones.
    is_suspect: Cell<bool>,
}

impl Connection {
    fn is_alive(&self) -> bool {
        !self.sender.is_closed() && !self.is_suspect.get()
    }

    fn has_room(&self) -> bool {
        self.is_alive() && self.streams.get() < self.allowed.get().min(STREAMS_MAX)
    }
}

/// The right to send one request on a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Rc<Connection>,
    /// Whether the connection was there before.
    pub(crate) is_kept: bool,
}

impl Stream {
    fn new(connection: &Rc<Connection>, is_kept: bool) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection: Rc::clone(connection), is_kept }
    }

    pub(crate) fn sender(&self) -> SendRequest<RequestBody> {
        self.connection.sender.clone()
    }

    /// Notes that the backend did not answer in time.
    pub(crate) fn suspect(&self) {
        self.connection.is_suspect.set(true);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.used.set(Instant::now());
    }
}

impl Multiplexed {
    /// A place on a connection that has room, or on a new one.
    ///
    /// # Errors
    /// No connection could be made.
    pub(crate) async fn take(
        &self,
        member: &Member,
        timeout: Duration,
        gauges: &Arc<Gauges>,
    ) -> Result<Stream, Reason> {
        if let Some(stream) = self.existing() {
            return Ok(stream);
        }
        let _opening = self.opening.lock().await;
        // Somebody else may have made one meanwhile.
        if let Some(stream) = self.existing() {
            return Ok(stream);
        }
        let connection = Rc::new(open(member, timeout, gauges).await?);
        let stream = Stream::new(&connection, false);
        self.connections.borrow_mut().push(connection);
        Ok(stream)
    }

    fn existing(&self) -> Option<Stream> {
        let connections = self.connections.borrow();
        let free = connections.iter().find(|connection| connection.has_room())?;
        Some(Stream::new(free, true))
    }

    /// Lets go of connections that nobody has used for too long or that can take no request. Those
    /// close once the last request on them has ended.
    pub(crate) fn close_idle(&self, limit: Duration) {
        self.connections.borrow_mut().retain(|connection| {
            let is_used = connection.streams.get() > 0;
            connection.is_alive() && (is_used || connection.used.get().elapsed() < limit)
        });
    }
}

async fn open(
    member: &Member,
    timeout: Duration,
    gauges: &Arc<Gauges>,
) -> Result<Connection, Reason> {
    let connected = connect(&member.addresses(), timeout).await;
    let stream = connected.map_err(|error| error.reason())?;
    // A small request must not wait for an acknowledgement; failure costs only time.
    let _ = stream.set_nodelay(true);
    let handshake = Builder::new(OnThisThread)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_max_send_streams(STREAMS_MAX)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, driver) = handshake.map_err(|_| Reason::ConnectFailed)?;
    let counted = Counted::new(gauges, |gauges| &gauges.backend_open);
    let allowed = Rc::new(Cell::new(STREAMS_MAX));
    let told = Rc::clone(&allowed);
    tokio::task::spawn_local(async move {
        let mut driver = std::pin::pin!(driver);
        let ended = poll_fn(|context| {
            let result = driver.as_mut().poll(context);
            if result.is_pending() {
                told.set(driver.current_max_send_streams());
            }
            result
        });
        // Whoever waits for a response learns of an error there.
        let _ = ended.await;
        drop(counted);
    });
    Ok(Connection {
        sender,
        allowed,
        streams: Cell::new(0),
        used: Cell::new(Instant::now()),
        is_suspect: Cell::new(false),
    })
}

/// Runs hyper's tasks on the thread whose backends they serve.
#[derive(Clone, Copy, Debug)]
struct OnThisThread;

impl<F: Future + 'static> Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Whether a backend has certainly not begun with a request, which may then be sent again whatever
/// it is: refused on its stream, or beyond the last stream that a GOAWAY says was or may be
/// processed (RFC 9113 §8.7, §6.8).
pub(crate) fn is_unprocessed(error: &hyper::Error) -> bool {
    let error = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    error.is_some_and(|error: &h2::Error| {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // The library ends only such streams with a GOAWAY's error; others live on, or end with
        // that of the socket.
        error.is_remote() && (is_refused || error.is_go_away())
    })
}
