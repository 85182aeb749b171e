//! Waiting for a backend with room, in the line that all workers share.

use std::{future::poll_fn, task::Poll};

use balance::{NoBackend, Ticket};
use tokio::time::Instant;

use crate::{error::Reason, worker::Worker};

/// Waits in line until `pick` finds something else than that all are full. A client that leaves
/// gives its place up, because the future is dropped then.
///
/// # Errors
/// The line is too long, or it took too long.
pub(crate) async fn wait(
    worker: &Worker,
    mut pick: impl FnMut() -> Result<Ticket, NoBackend>,
) -> Result<Result<Ticket, NoBackend>, Reason> {
    let settings = worker.settings.queue;
    let queue = worker.picker.borrow().queue().clone();
    let place = queue.enter(settings.max).ok_or(Reason::QueueFull)?;
    let start = Instant::now();
    let turn = poll_fn(|context| {
        // Its waker is left before it looks: room that comes after the look wakes it.
        if !place.is_first(context.waker()) {
            return Poll::Pending;
        }
        match pick() {
            Err(NoBackend::AllFull) => Poll::Pending,
            picked => Poll::Ready(picked),
        }
    });
    let picked = tokio::time::timeout_at(start + settings.timeout, turn).await;
    worker.gauges.record_queued(start.elapsed());
    picked.map_err(|_| Reason::QueueTimeout)
}
