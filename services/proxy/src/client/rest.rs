//! A kept-alive connection on which nothing has moved for a while.
//!
//! Serving a connection takes some 14 KiB: its buffers and its state. Most kept connections
//! wait most of the time, so one that has waited for a second gives all of it back. Its socket
//! waits in a task of its own, which is as small as can be, until the client says something or its
//! time is over.

use std::{future::poll_fn, sync::atomic::Ordering};

use tokio::time::{Instant, sleep_until};

use super::{Session, Socket};
use crate::{
    stats::Counted,
    worker::{Stage, Worker},
};

/// Has a connection wait until it is to be served again, or until `deadline`.
pub(super) fn start(session: Session, socket: Socket, deadline: Instant) {
    tokio::task::spawn_local(rest(session, socket, deadline));
}

#[allow(clippy::manual_async_fn)] // The future of one has room for its arguments twice.
fn rest(session: Session, socket: Socket, deadline: Instant) -> impl Future<Output = ()> {
    async move {
        if is_back(&session.worker, &socket, deadline).await {
            super::start(session, socket, false);
        }
    }
}

/// Waits for the client to say something. Otherwise the connection is to be closed: it said nothing
/// for too long, or a stop has come to finishing.
async fn is_back(worker: &Worker, socket: &Socket, deadline: Instant) -> bool {
    let _resting = Counted::new(&worker.gauges, |gauges| &gauges.client_resting);
    let mut stage = worker.stage.clone();
    tokio::select! {
        biased;
        // Whether it is a request, an end or an error, whoever reads will see.
        _ = poll_fn(|context| socket.stream.poll_read_ready(context)) => true,
        () = sleep_until(deadline) => {
            worker.gauges.idle_timeouts.fetch_add(1, Ordering::Relaxed);
            false
        }
        _ = stage.wait_for(|stage| *stage >= Stage::Finishing) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F>(_of: impl Fn(Session, Socket, Instant) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_rests_takes_little_room() {
        let bytes = size(rest);
        assert!(bytes <= 512, "{bytes}");
    }
}
