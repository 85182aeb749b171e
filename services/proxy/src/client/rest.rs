//! A kept-alive connection on which nothing has moved for a while.
//!
//! Serving a connection takes some 14 KiB: its buffers and its state. Most kept connections
//! wait most of the time, so one that has waited for a second gives all of it back and keeps the
//! socket, until the client says something or its time is over.

use std::rc::Rc;

use tokio::time::sleep_until;

use super::{Socket, activity::Activity};
use crate::{
    stats::Counted,
    worker::{Stage, Worker},
};

/// Waits for the client to say something. `None` if the connection is to be closed: it said nothing
/// for too long, or a stop has come to finishing.
pub(super) async fn rest(
    worker: &Rc<Worker>,
    socket: Socket,
    activity: &Activity,
) -> Option<Socket> {
    let _resting = Counted::new(&worker.gauges, |gauges| &gauges.client_resting);
    let limit = activity.deadline(&worker.settings.timeouts)?;
    let mut stage = worker.stage.clone();
    tokio::select! {
        biased;
        // Whether it is a request, an end or an error, whoever reads will see.
        _ = socket.stream.readable() => Some(socket),
        () = sleep_until(limit) => {
            activity.count_timeout(&worker.gauges);
            None
        }
        _ = stage.wait_for(|stage| *stage >= Stage::Finishing) => None,
    }
}
