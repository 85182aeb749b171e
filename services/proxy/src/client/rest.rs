//! A kept-alive connection on which nothing has moved for a while.
//!
//! Serving a connection takes some 14 KiB: hyper's buffers and its state. Most kept connections
//! wait most of the time, so one that has waited for a second gives all of it back and keeps the
//! socket, until the client says something or its time is over.

use std::rc::Rc;

use tokio::time::sleep_until;

use super::{activity::Activity, io::ClientIo};
use crate::{
    stats::Counted,
    worker::{Stage, Worker},
};

/// Waits for the client to say something. `None` if the connection is to be closed: it said nothing
/// for too long, or a stop has come to finishing.
pub(super) async fn rest(
    worker: &Rc<Worker>,
    io: ClientIo,
    activity: &Activity,
) -> Option<ClientIo> {
    if io.holds_something() {
        return Some(io);
    }
    let _resting = Counted::new(&worker.gauges, |gauges| &gauges.client_resting);
    let limit = activity.deadline(&worker.settings.timeouts)?;
    let mut stage = worker.stage.clone();
    tokio::select! {
        biased;
        // Whether it is a request, an end or an error, whoever reads will see.
        _ = io.stream.readable() => Some(io),
        () = sleep_until(limit) => {
            activity.count_timeout(&worker.gauges);
            None
        }
        _ = stage.wait_for(|stage| *stage >= Stage::Finishing) => None,
    }
}
