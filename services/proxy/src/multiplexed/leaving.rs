//! Requests whose clients leave before they are answered.
//!
//! Their streams are reset. A backend that finds a request and its reset together, as it was busy with
//! others, has not even begun with it; and many end the whole connection over more than a few of those at
//! once, with all who are on it: so they fend off clients that reset what they have just sent
//! (CVE-2023-44487). Here that is one client of many, and the others should not pay for it.
//!
//! So only so many are reset that the backend may not have seen yet. Beyond that, streams stay open until it
//! has: until it answers one that was sent later, or acknowledges a PING that it gets then (RFC 9113 §6.7).
//! Of those gRPC takes only so many while it answers nothing; after that it gets SETTINGS, which it has to
//! acknowledge as well (§6.5.3) and nobody counts. That time has passed says nothing, as one that stalls for
//! seconds finds all of it together. Meanwhile each takes up its place on the connection, so that whoever
//! leaves all the time gets more connections, and as the backend serves it still, it counts for
//! `PROXY_MAX_IN_FLIGHT` and `PROXY_REQUESTS_MAX`.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    task::Poll,
    time::Duration,
};

use balance::{Outcome, Ticket};
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

/// How often it is looked whether one that gets no more of them has acknowledged SETTINGS, upon which it gets
/// others. No server takes one a second for a flood.
const SETTINGS_EVERY: Duration = Duration::from_secs(1);

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
    pub(super) pings: RefCell<Option<PingPong>>,
    /// PINGs since a request was answered.
    pinged: Cell<u32>,
    /// Whether the backend is being asked by SETTINGS.
    asks_by_settings: Cell<bool>,
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
            asks_by_settings: Cell::new(false),
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

/// Asks the backend whether it has seen what was sent, unless it is being asked.
fn ask(connection: &Rc<Connection>) {
    let left = &connection.left;
    if left.pinged.get() >= PINGS_MAX {
        return ask_by_settings(connection);
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

/// The same of one that was pinged too often. That the library lets us send SETTINGS says that those before
/// were acknowledged.
fn ask_by_settings(connection: &Rc<Connection>) {
    if connection.left.asks_by_settings.replace(true) {
        return;
    }
    let connection = Rc::downgrade(connection);
    tokio::task::spawn_local(async move {
        let Some(number) = acknowledged(&connection).await else { return };
        sleep(TAKEN_AFTER).await;
        if let Some(connection) = connection.upgrade() {
            connection.left.asks_by_settings.set(false);
            connection.left.saw(number);
        }
    });
}

/// The last request before SETTINGS that the backend gets now, once it has acknowledged them. `None` if the
/// connection has ended.
async fn acknowledged(connection: &Weak<Connection>) -> Option<u64> {
    let send = || {
        let connection = connection.upgrade()?;
        let is_sent = connection.running.upgrade()?.send_settings();
        Some(is_sent.then(|| connection.left.sent.get()))
    };
    let mut asked = None;
    loop {
        let sent = send()?;
        if asked.is_some() && sent.is_some() {
            return asked;
        }
        asked = asked.or(sent);
        sleep(SETTINGS_EVERY).await;
    }
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
        // Of a connection that has ended nothing goes on.
        let Some(running) = connection.running.upgrade() else { return };
        let place = Stream::new(&connection, true);
        let under_way = [
            running.open.also(|gauges| &gauges.client_active),
            // None that a client's connection is busy with.
            running.open.also(|gauges| &gauges.client_sharing),
        ];
        let ticket = Ticket::of_what_goes_on(&connection.member);
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
            // Of the backend it says nothing.
            _ = ticket.note(Outcome::Unknown);
            drop((place, ticket, under_way));
        });
    }
}

#[cfg(test)]
mod tests;
