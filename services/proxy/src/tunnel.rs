//! Connections that were upgraded, such as WebSockets: bytes both ways until both sides are done.

use std::{
    cell::Cell,
    io,
    pin::Pin,
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
    client::{Socket, linger},
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

/// A tunnel whose backend has switched, and whose client is about to be told so. The ticket is given
/// back when it ends, so that a draining backend counts as busy until then.
#[derive(Debug)]
pub(crate) struct Tunnel {
    backend: TcpStream,
    /// What the backend has said already.
    early: Bytes,
    ticket: Option<balance::Tunnel>,
    is_websocket: bool,
    limits: Limits,
    gauges: Arc<Gauges>,
    looks: watch::Receiver<()>,
    stage: watch::Receiver<Stage>,
    /// Nobody else holds the two connections; they are open and busy all the same.
    _held: (Open, [Counted; 3]),
}

impl Tunnel {
    pub(crate) fn new(
        worker: &Worker,
        (backend, early): (TcpStream, Bytes),
        ticket: Option<Ticket>,
        is_websocket: bool,
    ) -> Self {
        let gauges = Arc::clone(&worker.gauges);
        let counted = [
            Counted::new(&gauges, |gauges| &gauges.client_open),
            Counted::new(&gauges, |gauges| &gauges.client_active),
            Counted::new(&gauges, |gauges| &gauges.backend_open),
        ];
        let timeouts = &worker.settings.timeouts;
        Self {
            backend,
            early,
            ticket: ticket.map(Ticket::into_tunnel),
            is_websocket,
            limits: Limits { open: timeouts.tunnel, half_closed: timeouts.read },
            gauges,
            looks: worker.end_tunnels.clone(),
            stage: worker.stage.clone(),
            _held: (Open::new(&worker.tunnels), counted),
        }
    }

    /// Connects the two sides, now that the client has been told. `early` is what it has said since.
    pub(crate) fn start(self, client: Socket, early: BytesMut) {
        // A copy: a tunnel lives long, and would hold all of the buffer.
        let early = Bytes::copy_from_slice(&early);
        tokio::task::spawn_local(self.run(client, early));
    }

    async fn run(self, mut client: Socket, said: Bytes) {
        let Self {
            mut backend,
            early,
            ticket,
            is_websocket,
            limits,
            gauges,
            looks,
            mut stage,
            _held,
        } = self;
        let (reader, writer) = client.stream.split();
        let client_side = tokio::io::join(io::Cursor::new(said).chain(reader), writer);
        let (reader, writer) = backend.split();
        let backend_side = tokio::io::join(io::Cursor::new(early).chain(reader), writer);
        let (must_end, end) = watch::channel(false);
        // A tunnel that breaks is told to each side by the other's closing.
        let joined = join(client_side, backend_side, limits, is_websocket, end);
        let cut = async {
            tokio::select! {
                () = until(|| ticket.as_ref().is_some_and(balance::Tunnel::must_end), looks) => {}
                Ok(_) = stage.wait_for(|stage| *stage >= Stage::Leaving) => {}
            }
            must_end.send_replace(true);
            if is_websocket {
                tokio::time::sleep(GOOD_BYE).await;
            }
        };
        tokio::select! {
            result = joined => {
                if result.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
                    gauges.tunnel_timeouts.fetch_add(1, Ordering::Relaxed);
                }
            }
            () = cut => {
                gauges.tunnels_cut.fetch_add(1, Ordering::Relaxed);
            }
        }
        if *must_end.borrow() {
            gauges.tunnels_ended.fetch_add(1, Ordering::Relaxed);
        }
        drop((backend, ticket));
        // It may be in the middle of a message, and yet to read why nobody takes it.
        linger(client).await;
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
/// `end` says so, both sides of a WebSocket are told that it is over.
///
/// # Errors
/// Nothing moved for too long, or a side could not be read to its end.
async fn join(
    client: impl AsyncRead + AsyncWrite,
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
    let mut up = std::pin::pin!(to_backend.pump(client_reader, backend_writer));
    let mut down = std::pin::pin!(to_client.pump(backend_reader, client_writer));
    let either = async {
        tokio::select! {
            result = &mut up => result.map(|()| true),
            result = &mut down => result.map(|()| false),
        }
    };
    let is_up_done = while_moving(std::pin::pin!(either), &moved, limits.open).await?;
    if is_up_done {
        while_moving(down, &moved, limits.half_closed).await
    } else {
        while_moving(up, &moved, limits.half_closed).await
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
    /// What it reads has broken off: nothing can be told to that side either.
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
                count = from.read(&mut buffer) => count?,
            };
            self.moved.set(Instant::now());
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
        if !self.frames.is_some_and(|frames| frames.has_closed())
            && to.write_all(&self.good_bye).await.is_err()
        {
            return Ok(());
        }
        let _ = to.shutdown().await;
        // Closing with something unread would reset the connection, good-bye and all.
        while from.read(&mut buffer).await? > 0 {}
        Ok(())
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
