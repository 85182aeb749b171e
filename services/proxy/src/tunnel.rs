//! Connections that were upgraded, such as WebSockets: bytes both ways until both sides are done.

use std::{cell::Cell, io, pin::Pin, sync::atomic::Ordering, time::Duration};

use balance::Ticket;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use crate::{
    stats::Counted,
    worker::{Open, Worker},
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

/// Connects the two sides once both have switched. The ticket is given back when the tunnel ends,
/// so that a draining backend counts as busy until then.
pub(crate) fn start(
    worker: &Worker,
    client: OnUpgrade,
    backend: OnUpgrade,
    ticket: Option<Ticket>,
) {
    let open = Open::new(&worker.tunnels);
    let gauges = worker.gauges.clone();
    // hyper has let go of both connections; they are open and busy all the same.
    let counted = [
        Counted::new(&gauges, |gauges| &gauges.client_open),
        Counted::new(&gauges, |gauges| &gauges.client_active),
        Counted::new(&gauges, |gauges| &gauges.backend_open),
    ];
    let timeouts = &worker.settings.timeouts;
    let limits = Limits { open: timeouts.tunnel, half_closed: timeouts.read };
    tokio::task::spawn_local(async move {
        let _held = (open, ticket, counted);
        let (client, backend) = match tokio::try_join!(client, backend) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "an upgrade came to nothing"),
        };
        // A tunnel that breaks is told to each side by the other's closing.
        let result = join(TokioIo::new(client), TokioIo::new(backend), limits).await;
        if result.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            gauges.tunnel_timeouts.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Copies both ways. When one side has finished, the other may finish too, for as long as it goes
/// on saying something: a peer that never closes its half must not hold a backend's ticket.
async fn join(
    client: impl AsyncRead + AsyncWrite,
    backend: impl AsyncRead + AsyncWrite,
    limits: Limits,
) -> io::Result<()> {
    let (client_reader, client_writer) = tokio::io::split(client);
    let (backend_reader, backend_writer) = tokio::io::split(backend);
    let moved = Cell::new(Instant::now());
    let mut up = std::pin::pin!(pump(client_reader, backend_writer, &moved));
    let mut down = std::pin::pin!(pump(backend_reader, client_writer, &moved));
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

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        moved.set(Instant::now());
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
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
mod tests {
    use tokio::io::duplex;

    use super::*;

    const LIMITS: Limits =
        Limits { open: Duration::from_secs(3_600), half_closed: Duration::from_secs(60) };

    #[tokio::test(start_paused = true)]
    async fn a_half_that_is_closed_leaves_the_other_half_open_while_it_moves() {
        let (mut client, client_side) = duplex(64);
        let (mut backend, backend_side) = duplex(64);
        let tunnel = tokio::task::LocalSet::new();
        let joined = tunnel.spawn_local(join(client_side, backend_side, LIMITS));
        tunnel
            .run_until(async {
                client.write_all(b"question").await.unwrap();
                client.shutdown().await.unwrap();
                let mut heard = String::new();
                backend.read_to_string(&mut heard).await.unwrap();
                assert_eq!(heard, "question");
                for part in ["an", "sw", "er"] {
                    tokio::time::sleep(LIMITS.half_closed / 2).await;
                    backend.write_all(part.as_bytes()).await.unwrap();
                }
                drop(backend);
                let mut heard = String::new();
                client.read_to_string(&mut heard).await.unwrap();
                assert_eq!(heard, "answer");
                joined.await.unwrap().unwrap();
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_closes_its_half_is_cut_off() {
        let (_client, client_side) = duplex(64);
        let (backend, backend_side) = duplex(64);
        drop(backend);
        let start = Instant::now();
        let result = join(client_side, backend_side, LIMITS).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMITS.half_closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_on_which_nothing_moves_is_closed() {
        let (_client, client_side) = duplex(64);
        let (_backend, backend_side) = duplex(64);
        let start = Instant::now();
        let result = join(client_side, backend_side, LIMITS).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMITS.open);
    }
}
