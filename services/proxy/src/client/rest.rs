//! A kept-alive connection on which nothing has moved for a while.
//!
//! Serving a connection takes some 14 KiB: its buffers and its state. Most kept connections
//! wait most of the time, so one that has waited for a second gives all of it back. Its socket
//! waits in a task of its own, which is as small as can be, until the client says something or its
//! time is over.

use std::future::poll_fn;

use tokio::time::sleep_until;

use super::{Session, Socket};
use crate::{stats::Counted, worker::Stage};

/// Has a connection wait until it is to be served again.
pub(super) fn start(session: Session, socket: Socket) {
    tokio::task::spawn_local(rest(session, socket));
}

async fn rest(session: Session, socket: Socket) {
    if is_back(&session, &socket).await {
        super::start(session, socket, false);
    }
}

/// Waits for the client to say something. Otherwise the connection is to be closed: it said nothing
/// for too long, or a stop has come to finishing.
pub(super) async fn is_back(session: &Session, socket: &Socket) -> bool {
    let Session { worker, activity, .. } = session;
    let _resting = Counted::new(&worker.gauges, |gauges| &gauges.client_resting);
    let Some(limit) = activity.deadline(&worker.settings.timeouts) else { return false };
    let mut stage = worker.stage.clone();
    tokio::select! {
        biased;
        // Whether it is a request, an end or an error, whoever reads will see.
        _ = poll_fn(|context| socket.stream.poll_read_ready(context)) => true,
        () = sleep_until(limit) => {
            activity.count_timeout(&worker.gauges);
            false
        }
        _ = stage.wait_for(|stage| *stage >= Stage::Finishing) => false,
    }
}
