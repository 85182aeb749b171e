//! Connections that were upgraded, such as WebSockets: bytes both ways until both sides are done.

use std::{cell::Cell, io, time::Duration};

use balance::Ticket;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use crate::worker::{Open, Worker};

/// Per direction. Messages of most protocols over WebSockets are smaller; more would cost memory
/// for each idle tunnel.
const BUFFER_BYTES: usize = 8 * 1024;

/// Connects the two sides once both have switched. The ticket is given back when the tunnel ends,
/// so that a draining backend counts as busy until then.
pub(crate) fn start(
    worker: &Worker,
    client: OnUpgrade,
    backend: OnUpgrade,
    ticket: Option<Ticket>,
) {
    let open = Open::new(&worker.open);
    let half_closed_limit = worker.settings.timeouts.read;
    tokio::task::spawn_local(async move {
        let _held = (open, ticket);
        match tokio::try_join!(client, backend) {
            Ok((client, backend)) => {
                // A tunnel that breaks is told to each side by the other's closing.
                let _ = join(TokioIo::new(client), TokioIo::new(backend), half_closed_limit).await;
            }
            Err(error) => tracing::debug!(%error, "an upgrade came to nothing"),
        }
    });
}

/// Copies both ways. When one side has finished, the other may finish too, for as long as it goes
/// on saying something: a peer that never closes its half must not hold a backend's ticket.
async fn join(
    client: impl AsyncRead + AsyncWrite,
    backend: impl AsyncRead + AsyncWrite,
    half_closed_limit: Duration,
) -> io::Result<()> {
    let (client_reader, client_writer) = tokio::io::split(client);
    let (backend_reader, backend_writer) = tokio::io::split(backend);
    let moved = Cell::new(Instant::now());
    let mut up = std::pin::pin!(pump(client_reader, backend_writer, &moved));
    let mut down = std::pin::pin!(pump(backend_reader, client_writer, &moved));
    tokio::select! {
        result = &mut up => {
            result?;
            while_moving(down, &moved, half_closed_limit).await
        }
        result = &mut down => {
            result?;
            while_moving(up, &moved, half_closed_limit).await
        }
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

async fn while_moving(
    mut pump: std::pin::Pin<&mut impl Future<Output = io::Result<()>>>,
    moved: &Cell<Instant>,
    limit: Duration,
) -> io::Result<()> {
    loop {
        let deadline = moved.get() + limit;
        match tokio::time::timeout_at(deadline, pump.as_mut()).await {
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

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_half_that_is_closed_leaves_the_other_half_open_while_it_moves() {
        let (mut client, client_side) = duplex(64);
        let (mut backend, backend_side) = duplex(64);
        let tunnel = tokio::task::LocalSet::new();
        let joined = tunnel.spawn_local(join(client_side, backend_side, LIMIT));
        tunnel
            .run_until(async {
                client.write_all(b"question").await.unwrap();
                client.shutdown().await.unwrap();
                let mut heard = String::new();
                backend.read_to_string(&mut heard).await.unwrap();
                assert_eq!(heard, "question");
                for part in ["an", "sw", "er"] {
                    tokio::time::sleep(LIMIT / 2).await;
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
        let result = join(client_side, backend_side, LIMIT).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMIT);
    }
}
