//! Waiting for a backend with room, or for any while nobody can serve, in the line that all workers
//! share.

use std::{future::poll_fn, pin::pin, task::Poll};

use balance::{NoBackend, Ticket};
use tokio::time::{Instant, timeout_at};

use crate::{error::Reason, worker::Worker};

/// Waits in line until `pick` finds something else than that all are full or somebody is awaited.
/// `waits_since` is when it began to wait for anybody, if it does. A client that leaves gives its
/// place up, because the future is dropped then.
///
/// # Errors
/// The line is too long, or it took too long.
pub(crate) async fn wait(
    worker: &Worker,
    waits_since: Option<Instant>,
    mut pick: impl FnMut() -> Result<Ticket, NoBackend>,
) -> Result<Result<Ticket, NoBackend>, Reason> {
    let settings = worker.settings.queue;
    let queue = worker.picker.borrow().queue().clone();
    let place = queue.enter(settings.max).ok_or(Reason::QueueFull)?;
    let start = Instant::now();
    let mut turn = pin!(poll_fn(|context| {
        // Its waker is left before it looks: room that comes after the look wakes it.
        if !place.is_first(context.waker()) {
            return Poll::Pending;
        }
        match pick() {
            Err(NoBackend::AllFull | NoBackend::Awaited) => Poll::Pending,
            picked => Poll::Ready(picked),
        }
    }));
    // What it waits for may change meanwhile, and with it for how long it may.
    let mut awaits_anybody = waits_since.is_some();
    let picked = loop {
        let end = match awaits_anybody {
            true => waits_since.unwrap_or(start) + settings.last_resort,
            false => start + settings.timeout,
        };
        match timeout_at(end, turn.as_mut()).await {
            Ok(picked) => break Ok(picked),
            Err(_) if !awaits_anybody && worker.picker.borrow_mut().is_awaiting() => {
                awaits_anybody = true;
            }
            Err(_) if worker.picker.borrow_mut().has_members() => break Err(Reason::QueueTimeout),
            Err(_) => break Err(Reason::NoBackend),
        }
    };
    worker.gauges.record_queued(start.elapsed());
    picked
}
