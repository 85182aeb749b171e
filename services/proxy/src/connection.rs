//! One connection to a backend: made, used for one request at a time, and looked at before each.

use std::{
    cell::Cell,
    io::{self, ErrorKind},
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use balance::Member;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use crate::{
    body::RequestBody,
    connect::connect,
    error::Reason,
    idle_limit::IdleLimit,
    stats::{Counted, Gauges},
};

/// A connection that can send one request at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    wire: Rc<Wire>,
}

/// What the connection shares with the task that drives it.
#[derive(Debug)]
struct Wire {
    socket: Socket,
    /// Since when it waits for a request, if it does.
    idle_since: Cell<Option<Instant>>,
    limit: Rc<IdleLimit>,
    gauges: Arc<Gauges>,
}

impl Wire {
    /// Takes note of the end of a connection that we had not taken out of the idle ones: it was
    /// the backend that closed it.
    fn ended(&self) {
        if let Some(since) = self.idle_since.take() {
            let now = Instant::now();
            self.limit.saw_close(now.duration_since(since), now);
            self.gauges.backend_idle_closed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Connection {
    /// Whether the backend has not closed it, as far as we have heard.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether a request may be sent on it: the kernel is asked, because what it knows may not have
    /// come to us yet. Bytes that nobody asked for make it as useless as its end.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_open() && self.wire.socket.is_silent()
    }

    /// Notes that it waits for a request from now on.
    pub(crate) fn begin_idle(&self) {
        self.wire.idle_since.set(Some(Instant::now()));
    }

    /// Notes that it is taken or given up, and gives the time from which it was idle.
    pub(crate) fn end_idle(&self) -> Option<Instant> {
        self.wire.idle_since.take()
    }

    /// For how long it has been idle.
    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        self.wire.idle_since.get().map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// Notes that the backend has closed it while it was idle.
    pub(crate) fn note_closed(&self) {
        self.wire.ended();
    }
}

/// Makes a connection to a backend, trying its addresses in turn.
///
/// # Errors
/// The reason, with nothing sent.
pub(crate) async fn open(
    member: &Member,
    timeout: Duration,
    limit: &Rc<IdleLimit>,
    gauges: &Arc<Gauges>,
) -> Result<Connection, Reason> {
    let connected = connect(&member.addresses(), timeout).await;
    let stream = connected.map_err(|error| error.reason())?;
    // A small request must not wait for an acknowledgement; failure costs only time.
    let _ = stream.set_nodelay(true);
    let socket = Socket(Arc::new(Mutex::new(stream)));
    let handshake = http1::Builder::new().handshake(TokioIo::new(socket.clone())).await;
    let (sender, driver) = handshake.map_err(|_| Reason::ConnectFailed)?;
    let counted = Counted::new(gauges, |gauges| &gauges.backend_open);
    let (limit, gauges) = (Rc::clone(limit), Arc::clone(gauges));
    let wire = Rc::new(Wire { socket, idle_since: Cell::new(None), limit, gauges });
    let driven = Rc::clone(&wire);
    tokio::task::spawn_local(async move {
        // Whoever waits for a response learns of an error there.
        let _ = driver.with_upgrades().await;
        driven.ended();
        drop(counted);
    });
    Ok(Connection { sender, wire })
}

/// A socket that hyper reads and writes while we may look at it. A mutex, though only one thread
/// ever takes it: hyper lets go of an upgraded connection only as something that may be sent.
#[derive(Clone, Debug)]
struct Socket(Arc<Mutex<TcpStream>>);

impl Socket {
    fn lock(&self) -> MutexGuard<'_, TcpStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the other side has neither sent anything nor closed. Tokio would answer from what it
    /// heard last; this asks the kernel.
    fn is_silent(&self) -> bool {
        let peeked = SockRef::from(&*self.lock()).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(context)
    }
}
