//! Waiting until every worker has let go of an old snapshot.
//!
//! After a backend was taken out, a worker may still hold a pick from a moment before, about to be
//! sent. An operator's change is answered only when each worker has been through its queue of
//! tasks since, so that "no new request after the answer" is meant literally. A pick that waits
//! for a connection meanwhile is checked again once it has one.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// A worker that is busy for longer has other troubles; an operator must not wait for them.
const LONGEST: Duration = Duration::from_millis(500);

/// Asks a worker to say when it has been through its queue.
pub(crate) type Request = oneshot::Sender<()>;

/// Asks all workers.
#[derive(Clone, Debug)]
pub(crate) struct Fence(Vec<mpsc::UnboundedSender<Request>>);

impl Fence {
    /// A fence for so many workers, and what each of them is to listen to.
    pub(crate) fn new(workers: usize) -> (Self, Vec<mpsc::UnboundedReceiver<Request>>) {
        let (senders, receivers) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        (Self(senders), receivers)
    }

    /// Waits until all workers have been through their queues.
    pub(crate) async fn pass(&self) {
        let replies = self.0.iter().filter_map(|worker| {
            let (sender, reply) = oneshot::channel();
            worker.send(sender).ok().map(|()| reply)
        });
        let all = futures_util::future::join_all(replies.collect::<Vec<_>>());
        if tokio::time::timeout(LONGEST, all).await.is_err() {
            tracing::warn!("a worker is too busy to confirm a change in time");
        }
    }
}

/// Answers a request: what was ready to run before it has run when this returns. A task of our own
/// at the end of the queue tells when; yielding would not, since a runtime looks after its main
/// future before the queue is through.
pub(crate) async fn answer(request: Request) {
    // In the first turn requests hand themselves to their connections, in the second those write
    // to their sockets.
    for _ in 0..2 {
        // Fails only if the runtime is ending.
        let _ = tokio::task::spawn_local(async {}).await;
    }
    // Whoever asked may have lost patience.
    let _ = request.send(());
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[test]
    fn all_that_was_ready_has_run_when_a_worker_confirms() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let done = Rc::new(Cell::new(0));
            for _ in 0..1_000 {
                let done = Rc::clone(&done);
                tokio::task::spawn_local(async move {
                    // A request that hands itself to another task, which does the writing.
                    tokio::task::spawn_local(async move { done.set(done.get() + 1) });
                });
            }
            let (request, confirmed) = oneshot::channel();
            answer(request).await;
            confirmed.await.unwrap();
            assert_eq!(done.get(), 1_000);
        });
    }
}
