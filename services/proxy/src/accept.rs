//! Accepting connections and giving each to the worker that has the fewest.
//!
//! A listening socket per worker (`SO_REUSEPORT`) would let the kernel choose by a hash, and a few
//! busy kept-alive connections on one worker would then wait while another is idle.
//!
//! It is a thread that blocks in `accept`, which is one system call per connection where an event
//! loop needs two or more.

use std::{
    io,
    net::TcpListener,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use socket2::SockRef;
use tokio::sync::{mpsc, watch};

use crate::{
    guests::Guests,
    limits::Limit,
    settings::Settings,
    stats::{Counted, Stats},
    worker::{Accepted, Stage},
};

/// How long one `accept` waits before it looks whether to stop. SO_RCVTIMEO applies to it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// After an error that will not go away by itself at once, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the stop has come to finishing. Dropping the senders then tells the workers.
///
/// # Errors
/// The listener cannot be used.
pub(crate) fn run(
    listener: &TcpListener,
    workers: &[mpsc::UnboundedSender<Accepted>],
    settings: &Settings,
    stats: &Stats,
    stage: &watch::Receiver<Stage>,
) -> io::Result<()> {
    let most = settings.limits.connections;
    let guests =
        Guests::new(settings.limits.connections_per_client, &settings.forwarding.trusted_proxies);
    listener.set_nonblocking(false)?;
    SockRef::from(listener).set_read_timeout(Some(LOOK_EVERY))?;
    while *stage.borrow() < Stage::Finishing {
        accept(listener, workers, most, &guests, stats);
    }
    // Whoever is in the queue already was told that we listen.
    listener.set_nonblocking(true)?;
    while accept(listener, workers, most, &guests, stats) {}
    Ok(())
}

/// Accepts one connection; whether there was one.
fn accept(
    listener: &TcpListener,
    workers: &[mpsc::UnboundedSender<Accepted>],
    most: u32,
    guests: &Arc<Guests>,
    stats: &Stats,
) -> bool {
    let accepted = listener.accept().and_then(|(stream, peer)| {
        stream.set_nonblocking(true)?;
        Ok((stream, peer))
    });
    match accepted {
        Ok((stream, peer)) => {
            let open = |worker: &usize| stats.gauges[*worker].client_open.load(Ordering::Relaxed);
            let least = (0..workers.len()).min_by_key(open).unwrap_or(0);
            let limits = &stats.gauges[least].limits;
            // One that is too many is closed: reading its request, to answer it, is what the bound
            // is to save.
            if (0..workers.len()).map(|worker| open(&worker)).sum::<i64>() >= i64::from(most) {
                limits.hit(Limit::Connections);
                return true;
            }
            let Ok(guest) = guests.enter(peer.ip()) else {
                limits.hit(Limit::ConnectionsPerClient);
                return true;
            };
            let counted = Counted::new(&stats.gauges[least], |gauges| &gauges.client_open);
            // Fails only if the worker has ended, which it does after us.
            let _ = workers[least].send(Accepted { stream, peer, counted, guest });
            true
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) if is_of_one_connection(&error) => true,
        Err(error) => {
            stats.accept_errors.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "connections cannot be accepted");
            std::thread::sleep(PAUSE);
            false
        }
    }
}

/// Errors that concern the connection that was about to be accepted, not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
