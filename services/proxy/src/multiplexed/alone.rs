//! Requests that may end their connection, and so do not share it: those with long heads, or that announce
//! fields after their body.
//!
//! They come one after the other on connections that are for them only. Each on one of its own would have
//! anybody make and close as many as he sends, until no port is left to reach the backend from.
//!
//! But a backend that has answered may yet end the connection over what it was sent, and the next request
//! would pay for it. So after each it gets a PING, and the next request waits for the answer, which comes no
//! later than a new connection would.

use std::{cell::Cell, rc::Rc};

use h2::Ping;
use tokio::sync::Notify;

use super::Connection;

/// Whether the backend may yet end a connection over what it was sent.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    is_there: Cell<bool>,
    /// Wakes who waits until it is not.
    news: Notify,
}

impl Doubt {
    pub(super) fn is_there(&self) -> bool {
        self.is_there.get()
    }

    /// Waits until it is not.
    pub(super) async fn cleared(&self) {
        loop {
            let news = self.news.notified();
            if !self.is_there() {
                return;
            }
            news.await;
        }
    }
}

/// Takes note that a request has ended. After one that was not answered nobody else gets the connection.
pub(super) fn ended(connection: &Rc<Connection>, is_answered: bool) {
    if is_answered {
        ask(connection);
    } else {
        connection.is_retired.set(true);
    }
}

/// Asks the backend whether it has taken all of it.
fn ask(connection: &Rc<Connection>) {
    let Some(mut pings) = connection.left.pings.take() else {
        connection.is_retired.set(true);
        return;
    };
    connection.doubt.is_there.set(true);
    // The answer may never come.
    let connection = Rc::downgrade(connection);
    tokio::task::spawn_local(async move {
        let is_taken = pings.ping(Ping::opaque()).await.is_ok();
        let Some(connection) = connection.upgrade() else { return };
        if !is_taken {
            connection.is_retired.set(true);
        }
        connection.left.pings.replace(Some(pings));
        connection.doubt.is_there.set(false);
        connection.doubt.news.notify_waiters();
    });
}
