//! Requests whose clients leave before they are answered.
//!
//! Their streams are reset. A backend that finds a request and its reset together, as it was busy with
//! others, has not even begun with it; and many end the whole connection over more than a few of those at
//! once, with all who are on it: so they fend off clients that reset what they have just sent
//! (CVE-2023-44487). Here that is one client of many, and the others should not pay for it.
//!
//! So only so many are reset that the backend may not have seen yet. Beyond that, streams stay open until it
//! has: until it answers one that was sent later, or the PING that it gets then (RFC 9113 §6.7). That time
//! has passed says nothing, as one that stalls for seconds finds all of it together. Each takes up its place
//! on the connection meanwhile, so that whoever leaves all the time gets more connections.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use h2::{Ping, PingPong, client::ResponseFuture};
use http::Response;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{Connection, Failure, Stream};

/// Streams that are reset though the backend may not have seen them yet. Backends that use hyper, or h2 as
/// it comes, take 20.
const UNSEEN_MAX: usize = 15;

/// How long a backend that has answered a PING may need to begin with what it had read before, which
/// includes what we sent together with that.
const TAKEN_AFTER: Duration = Duration::from_millis(100);

/// PINGs that a backend gets before it answers another request. Those of gRPC take three, and end the
/// connection over more.
const PINGS_MAX: u32 = 2;

/// What a connection knows of those that left.
#[derive(Debug)]
pub(super) struct Left {
    /// Requests that were sent.
    sent: Cell<u64>,
    /// Which of them is the last that the backend has seen, as far as we know.
    seen: Cell<u64>,
    /// Those that were reset and may not have been seen.
    unseen: RefCell<Vec<u64>>,
    /// Wakes those that wait to be reset.
    news: Notify,
    /// What sends PINGs, unless one is under way.
    pings: RefCell<Option<PingPong>>,
    /// PINGs since a request was answered.
    pinged: Cell<u32>,
    /// The longest that one waits to be reset.
    patience: Duration,
}

impl Left {
    pub(super) fn new(pings: Option<PingPong>, patience: Duration) -> Self {
        Self {
            sent: Cell::new(0),
            seen: Cell::new(0),
            unseen: RefCell::default(),
            news: Notify::new(),
            pings: RefCell::new(pings),
            pinged: Cell::new(0),
            patience,
        }
    }

    /// Takes note that the backend has answered a request. It takes them as they come.
    fn answered(&self, number: u64) {
        self.pinged.set(0);
        self.saw(number);
    }

    /// Takes note that the backend has seen a request, and so those that were sent before.
    fn saw(&self, number: u64) {
        if number > self.seen.get() {
            self.seen.set(number);
            self.unseen.borrow_mut().retain(|other| *other > number);
        }
        self.news.notify_waiters();
    }

    /// Whether a request may be reset now. Then it counts as one that was.
    fn may_reset(&self, number: u64) -> bool {
        if number <= self.seen.get() {
            return true;
        }
        let mut unseen = self.unseen.borrow_mut();
        let may_reset = unseen.len() < UNSEEN_MAX;
        if may_reset {
            unseen.push(number);
        }
        may_reset
    }
}

/// Asks the backend whether it has seen what was sent, unless it is being asked, or was too often.
fn ask(connection: &Rc<Connection>) {
    let left = &connection.left;
    if left.pinged.get() >= PINGS_MAX {
        return;
    }
    let Some(mut pings) = left.pings.take() else { return };
    left.pinged.update(|count| count + 1);
    let number = left.sent.get();
    // The answer may never come.
    let connection = Rc::downgrade(connection);
    tokio::task::spawn_local(async move {
        if pings.ping(Ping::opaque()).await.is_err() {
            return;
        }
        sleep(TAKEN_AFTER).await;
        if let Some(connection) = connection.upgrade() {
            connection.left.pings.replace(Some(pings));
            connection.left.saw(number);
        }
    });
}

/// Waits until a request may be reset.
async fn until_may_reset(connection: &Rc<Connection>, number: u64) {
    let left = &connection.left;
    loop {
        let news = left.news.notified();
        ask(connection);
        news.await;
        if left.may_reset(number) {
            return;
        }
    }
}

/// A request that has no answer yet. Dropped, it is reset, now or later.
pub(super) struct Unanswered {
    connection: Rc<Connection>,
    /// Until it is answered, or can be no more.
    answer: Option<ResponseFuture>,
    /// Which one it is of those sent on the connection.
    number: u64,
}

impl Unanswered {
    pub(super) fn new(connection: &Rc<Connection>, answer: ResponseFuture) -> Self {
        let number = connection.left.sent.get() + 1;
        connection.left.sent.set(number);
        Self { connection: Rc::clone(connection), answer: Some(answer), number }
    }

    /// Asks for the answer.
    pub(super) fn poll<B>(
        &mut self,
        poll: impl FnOnce(&mut ResponseFuture) -> Poll<Result<Response<B>, Failure>>,
    ) -> Poll<Result<Response<B>, Failure>> {
        let Some(answer) = &mut self.answer else { return Poll::Pending };
        let polled = poll(answer);
        if let Poll::Ready(result) = &polled {
            self.answer = None;
            if result.is_ok() {
                self.connection.left.answered(self.number);
            }
        }
        polled
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        let (connection, number) = (Rc::clone(&self.connection), self.number);
        if connection.left.may_reset(number) {
            return;
        }
        let place = Stream::new(&connection, true);
        tokio::task::spawn_local(async move {
            let left = &connection.left;
            tokio::select! {
                answer = answer => {
                    // Of one that comes nobody wants the body.
                    if answer.is_ok() {
                        left.answered(number);
                    }
                }
                _ = timeout(left.patience, until_may_reset(&connection, number)) => {}
            }
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests;
