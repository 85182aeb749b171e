//! Connections that were upgraded, such as WebSockets: bytes both ways until both sides are done.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use balance::Ticket;
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::Instant,
};

use crate::{
    body::ClientBody,
    bootstrap,
    client::{Busy, Socket, linger},
    stats::{Counted, Gauges},
    websocket::{self, Frames},
    worker::{Open, Stage, Worker},
};

/// Per direction. Messages of most protocols over WebSockets are smaller; more would cost memory
/// for each idle tunnel.
const BUFFER_BYTES: usize = 8 * 1024;

/// How long a tunnel may be silent.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// With both directions open.
    open: Duration,
    /// After one side has finished.
    half_closed: Duration,
}

/// Once the deadline of a drain or of a stop has come, how long a WebSocket may take for the frame that it is
/// in the middle of, and for its good-byes.
pub(crate) const GOOD_BYE: Duration = Duration::from_secs(1);

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides have said all that they wanted to, or nobody is there to hear it.
    Whole,
    /// The client has broken off.
    ClientGone,
    /// The backend has, or we have.
    Broken,
}

/// A tunnel whose backend has switched, and whose client is about to be told so. The ticket is given
/// back when it ends, so that a draining backend counts as busy until then.
#[derive(Debug)]
pub(crate) struct Tunnel {
    backend: TcpStream,
    /// What the backend has said already.
    early: Bytes,
    ticket: Option<balance::Tunnel>,
    is_websocket: bool,
    /// What its client says, if that has a stream of HTTP/2 for it.
    said: ClientBody,
    limits: Limits,
    gauges: Arc<Gauges>,
    looks: watch::Receiver<()>,
    stage: watch::Receiver<Stage>,
    /// Nobody else holds the two connections; they are open and busy all the same. A client's of HTTP/2
    /// stays what it is, and is busy with this among others.
    _held: (Open, [Counted; 3], Option<Rc<Busy>>),
}

impl Tunnel {
    pub(crate) fn new(
        worker: &Worker,
        (backend, early): (TcpStream, Bytes),
        ticket: Option<Ticket>,
        (is_websocket, stream): (bool, Option<bootstrap::Stream>),
    ) -> Self {
        let gauges = Arc::clone(&worker.gauges);
        let (said, busy) = match stream {
            Some(bootstrap::Stream { said, busy }) => (said, Some(busy)),
            None => (ClientBody::None, None),
        };
        let of_client = match &busy {
            Some(_) => Counted::new(&gauges, |gauges| &gauges.client_sharing),
            None => Counted::new(&gauges, |gauges| &gauges.client_open),
        };
        let counted = [
            of_client,
            Counted::new(&gauges, |gauges| &gauges.client_active),
            Counted::new(&gauges, |gauges| &gauges.backend_open),
        ];
        let timeouts = &worker.settings.timeouts;
        Self {
            backend,
            early,
            ticket: ticket.map(Ticket::into_tunnel),
            is_websocket,
            said,
            limits: Limits { open: timeouts.tunnel, half_closed: timeouts.read },
            gauges,
            looks: worker.end_tunnels.clone(),
            stage: worker.stage.clone(),
            _held: (Open::new(&worker.tunnels), counted, busy),
        }
    }

    /// Takes what a client of HTTP/2 says.
    pub(crate) fn take_said(&mut self) -> ClientBody {
        std::mem::replace(&mut self.said, ClientBody::None)
    }

    /// Connects the two sides, now that the client has been told. `early` is what it has said since.
    pub(crate) fn start(self, client: Socket, early: BytesMut) {
        // A copy: a tunnel lives long, and would hold all of the buffer.
        let early = Bytes::copy_from_slice(&early);
        tokio::task::spawn_local(self.run(client, early));
    }

    async fn run(mut self, mut client: Socket, said: Bytes) {
        let (reader, writer) = client.stream.split();
        let client_side = tokio::io::join(io::Cursor::new(said).chain(reader), writer);
        // One that has gone is noticed where it is read and written.
        self.carry(client_side, std::future::pending()).await;
        let Self { backend, ticket, _held, .. } = self;
        // A tunnel that breaks is told to each side by the other's closing.
        drop((backend, ticket));
        // It may be in the middle of a message, and yet to read why nobody takes it.
        linger(client).await;
    }

    /// Connects the two sides, of which the client's is a stream of HTTP/2; `gone` tells that it was reset.
    pub(crate) async fn run_on_stream(
        mut self,
        client: impl AsyncRead + AsyncWrite,
        gone: impl Future<Output = ()>,
    ) -> Ended {
        let ended = self.carry(client, gone).await;
        if ended == Ended::ClientGone {
            // Who resets a stream would have reset its connection (RFC 8441 §5). Fails on one that is gone.
            let _ = self.backend.set_zero_linger();
        }
        ended
    }

    /// Carries what the two sides say until that is over.
    async fn carry(
        &mut self,
        client: impl AsyncRead + AsyncWrite,
        gone: impl Future<Output = ()>,
    ) -> Ended {
        let Self { backend, early, ticket, is_websocket, limits, gauges, looks, stage, .. } = self;
        let (reader, writer) = backend.split();
        let early = io::Cursor::new(std::mem::take(early));
        let backend = tokio::io::join(early.chain(reader), writer);
        let (must_end, end) = watch::channel(false);
        let joined = join((client, gone), backend, *limits, *is_websocket, end);
        let cut = async {
            let must = || ticket.as_ref().is_some_and(balance::Tunnel::must_end);
            tokio::select! {
                () = until(must, looks.clone()) => {}
                Ok(_) = stage.wait_for(|stage| *stage >= Stage::Leaving) => {}
            }
            must_end.send_replace(true);
            if *is_websocket {
                tokio::time::sleep(GOOD_BYE).await;
            }
        };
        let ended = tokio::select! {
            result = joined => match result.map_err(|error| error.kind()) {
                Ok(()) => Ended::Whole,
                Err(io::ErrorKind::ConnectionAborted) => Ended::ClientGone,
                Err(io::ErrorKind::TimedOut) => {
                    gauges.tunnel_timeouts.fetch_add(1, Ordering::Relaxed);
                    Ended::Broken
                }
                Err(_) => Ended::Broken,
            },
            () = cut => {
                gauges.tunnels_cut.fetch_add(1, Ordering::Relaxed);
                Ended::Broken
            }
        };
        if *must_end.borrow() {
            gauges.tunnels_ended.fetch_add(1, Ordering::Relaxed);
        }
        ended
    }
}

/// Waits until something must end, because the deadline of its backend's drain has passed.
pub(crate) async fn until(must_end: impl Fn() -> bool, mut looks: watch::Receiver<()>) {
    while !must_end() {
        if looks.changed().await.is_err() {
            // The control side is gone: it will not say so any more.
            std::future::pending().await
        }
    }
}

/// Copies both ways. When one side has finished, the other may finish too, for as long as it goes
/// on saying something: a peer that never closes its half must not hold a backend's ticket. When
/// `end` says so, both sides of a WebSocket are told that it is over. That a client is `gone` need not be
/// seen by reading it, which waits while the backend takes nothing.
///
/// # Errors
/// Nothing moved for too long, a side could not be read to its end, or the client is gone.
async fn join(
    (client, gone): (impl AsyncRead + AsyncWrite, impl Future<Output = ()>),
    backend: impl AsyncRead + AsyncWrite,
    limits: Limits,
    is_websocket: bool,
    end: watch::Receiver<bool>,
) -> io::Result<()> {
    let (client_reader, client_writer) = tokio::io::split(client);
    let (backend_reader, backend_writer) = tokio::io::split(backend);
    let moved = Cell::new(Instant::now());
    let way = |good_bye: Vec<u8>| Way {
        frames: is_websocket.then(Frames::default),
        good_bye,
        end: end.clone(),
        moved: &moved,
    };
    let to_backend = way(websocket::going_away(Some(fastrand::u32(..).to_ne_bytes())));
    let to_client = way(websocket::going_away(None));
    let is_up_done = Cell::new(false);
    let up = async {
        to_backend.pump(client_reader, backend_writer).await?;
        is_up_done.set(true);
        Ok(())
    };
    let mut up = std::pin::pin!(up);
    let mut down = std::pin::pin!(to_client.pump(backend_reader, client_writer));
    let both = async {
        let either = async {
            tokio::select! {
                result = &mut up => result,
                result = &mut down => result,
            }
        };
        while_moving(std::pin::pin!(either), &moved, limits.open).await?;
        if is_up_done.get() {
            while_moving(down, &moved, limits.half_closed).await
        } else {
            while_moving(up, &moved, limits.half_closed).await
        }
    };
    let broken_off = async {
        gone.await;
        if is_up_done.get() {
            // After all that it had to say, which the backend may yet act on.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // What it has said before arrives.
        biased;
        result = both => result,
        () = broken_off => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// One direction of a tunnel.
struct Way<'a> {
    /// Where the frames end, if we know what frames there are.
    frames: Option<Frames>,
    /// What is said when it must end.
    good_bye: Vec<u8>,
    end: watch::Receiver<bool>,
    moved: &'a Cell<Instant>,
}

impl Way<'_> {
    /// Copies until there is no more, or until the other side takes no more. Such a side may have said
    /// why before it closed, as a WebSocket does with a message that is too long for it: that is for the
    /// other direction to carry, which goes on.
    ///
    /// # Errors
    /// What it reads has broken off, in the middle of what it had to say: nothing can be told to that side
    /// either.
    async fn pump(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let may_end = self.frames.as_ref().is_some_and(Frames::is_between);
            let count = tokio::select! {
                biased;
                Ok(_) = self.end.wait_for(|must| *must), if may_end => break,
                count = from.read(&mut buffer) => count,
            };
            self.moved.set(Instant::now());
            let count = match count {
                // Who has said good-bye has said all.
                Err(_) if may_end && self.has_closed() => 0,
                count => count?,
            };
            if count == 0 {
                // Fails only where nobody is there to hear it.
                let _ = to.shutdown().await;
                return Ok(());
            }
            if to.write_all(&buffer[..count]).await.is_err() {
                return Ok(());
            }
            if let Some(frames) = &mut self.frames {
                frames.follow(&buffer[..count]);
            }
        }
        if !self.has_closed() && to.write_all(&self.good_bye).await.is_err() {
            return Ok(());
        }
        let _ = to.shutdown().await;
        // Closing with something unread would reset the connection, good-bye and all.
        while from.read(&mut buffer).await? > 0 {}
        Ok(())
    }

    /// Whether what has passed ends with a good-bye.
    fn has_closed(&self) -> bool {
        self.frames.as_ref().is_some_and(Frames::has_closed)
    }
}

/// Waits for a future for as long as something moves.
async fn while_moving<T>(
    mut future: Pin<&mut impl Future<Output = io::Result<T>>>,
    moved: &Cell<Instant>,
    limit: Duration,
) -> io::Result<T> {
    loop {
        let deadline = moved.get() + limit;
        match tokio::time::timeout_at(deadline, future.as_mut()).await {
            Ok(result) => return result,
            Err(_) if moved.get() + limit > deadline => {}
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

#[cfg(test)]
mod tests;
