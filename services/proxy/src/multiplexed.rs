//! A worker's connections of HTTP/2 to one backend, each shared by many requests (h2c with prior
//! knowledge, RFC 9113 §3.3).
//!
//! One connection is enough until the backend's limit on streams, or ours, is reached; then another
//! is made. The first with room is taken, so that those beyond what is needed get idle and go.
//!
//! Before one that nobody uses takes a request, it is looked at as those of HTTP/1 are: most backends
//! say goodbye before they close, and some just close.

mod alone;
mod connection;
mod leaving;
mod opening;
mod outgoing;
mod queued;
mod stream;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use balance::Member;
use http::header::TRAILER;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use self::{
    connection::{Connection, Look, Running},
    opening::open,
};
pub(crate) use self::{
    opening::STREAM_WINDOW_BYTES,
    stream::{Failure, Stream},
};
use crate::{
    error::Reason,
    http1::Head,
    idle_limit::IdleWatch,
    limits::{FieldLimits, http2_size},
    settings::Timeouts,
    stats::Gauges,
};

/// Requests on one connection at once, if the backend allows as many. A packet that is lost stops
/// all of them; and the windows (opening.rs) must have room for all of them.
const STREAMS_MAX: usize = 100;

/// The fields of a request that shares its connection. A backend that takes fewer of one says so, or
/// resets its stream; but over many more, or over what does not end within some frames, it ends the
/// connection: one made with hyper beyond 16 KiB in some forms, beyond 64 in all, and others sooner.
const FIELD_BYTES_MAX: usize = 8 * 1024;

/// How often somebody waits for what a connection brings before it takes another one. What has come
/// is read in the next turn of the loop, and another may bring something too.
const LOOKS_MAX: usize = 3;

/// The connections to one backend.
#[derive(Debug)]
pub(crate) struct Multiplexed {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Held while a connection is being made, so that requests that come together share one.
    opening: Mutex<()>,
    idle_watch: IdleWatch,
    gauges: Arc<Gauges>,
    /// What the fields of an answer may be.
    limits: FieldLimits,
}

/// Which of them a request may use.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// Only one that was made since then.
    since: Option<Instant>,
    /// One that has one request at a time, or one that is shared.
    is_alone: bool,
}

/// Why there is no place on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// None could be made.
    Failed(Reason),
    /// Others were making one all the time.
    WaitedInVain,
}

impl Multiplexed {
    pub(crate) fn new(gauges: &Arc<Gauges>, limits: FieldLimits) -> Self {
        Self {
            connections: RefCell::default(),
            opening: Mutex::default(),
            idle_watch: IdleWatch::new(gauges),
            gauges: Arc::clone(gauges),
            limits,
        }
    }

    /// A place on a connection that has room, or on a new one; with `since`, only on one that was
    /// made since then.
    ///
    /// # Errors
    /// No connection with room could be made in time.
    pub(crate) async fn take(
        &self,
        member: &Arc<Member>,
        since: Option<Instant>,
        timeouts: &Timeouts,
    ) -> Result<Stream, NoStream> {
        let wanted = Wanted { since, is_alone: false };
        if let Some(stream) = self.existing(member, wanted, timeouts.upstream_idle).await {
            return Ok(stream);
        }
        let deadline = Instant::now() + timeouts.connect;
        // Whoever is before us may wait that long for a backend that says nothing; if it was in vain
        // for them, it is for us.
        let turn = timeout_at(deadline, self.opening.lock()).await;
        let _opening = turn.map_err(|_| NoStream::WaitedInVain)?;
        // Somebody else may have made one meanwhile.
        if let Some(stream) = self.existing(member, wanted, timeouts.upstream_idle).await {
            return Ok(stream);
        }
        // In what is left of the time others may just have failed in all of theirs, and a backend is not to
        // be blamed for as many of us as came a little later.
        if Instant::now() + timeouts.connect / 2 >= deadline {
            return Err(NoStream::WaitedInVain);
        }
        self.make(member, deadline, timeouts, false).await
    }

    /// A connection for a request that may end it, and so has it for itself (alone.rs): one that such a
    /// request had before and has left as it was, or a new one.
    ///
    /// # Errors
    /// It could not be made in time.
    pub(crate) async fn take_alone(
        &self,
        member: &Arc<Member>,
        since: Option<Instant>,
        timeouts: &Timeouts,
    ) -> Result<Stream, NoStream> {
        let deadline = Instant::now() + timeouts.connect;
        let wanted = Wanted { since, is_alone: true };
        if let Some(stream) = self.existing(member, wanted, timeouts.upstream_idle).await
            && stream.is_as_it_was(timeouts.connect / 2).await
        {
            return Ok(stream);
        }
        self.make(member, deadline, timeouts, true).await
    }

    /// The first place on a new connection.
    async fn make(
        &self,
        member: &Arc<Member>,
        deadline: Instant,
        timeouts: &Timeouts,
        is_alone: bool,
    ) -> Result<Stream, NoStream> {
        let opened = open(member, deadline, (&self.gauges, timeouts, self.limits)).await;
        let connection = opened.map_err(NoStream::Failed)?;
        let connection = Rc::new(Connection { is_alone, ..connection });
        let stream = Stream::new(&connection, false);
        self.connections.borrow_mut().push(connection);
        Ok(stream)
    }

    async fn existing(
        &self,
        member: &Member,
        wanted: Wanted,
        configured: Duration,
    ) -> Option<Stream> {
        for _ in 0..LOOKS_MAX {
            let free = self.free(member, wanted, configured)?;
            if !free.is_idle() {
                return Some(Stream::new(&free, true));
            }
            match free.look() {
                Look::Nothing => return Some(Stream::new(&free, true)),
                Look::Something => tokio::task::yield_now().await,
                Look::End => self.saw_close(&free, Instant::now()),
            }
        }
        None
    }

    /// The first connection with room that has not been idle for too long.
    fn free(
        &self,
        member: &Member,
        wanted: Wanted,
        configured: Duration,
    ) -> Option<Rc<Connection>> {
        let now = Instant::now();
        let limit = self.idle_watch.limit.current(configured, now);
        let is_fit = |connection: &Connection| {
            connection.is_alone == wanted.is_alone
                && wanted.since.is_none_or(|since| connection.made >= since)
                && connection.has_room()
                && connection.is_of(member)
                && (!connection.is_idle() || now.duration_since(connection.used.get()) < limit)
        };
        self.connections.borrow().iter().find(|one| is_fit(one)).map(Rc::clone)
    }

    /// Takes note that the backend has closed a connection that nobody used.
    fn saw_close(&self, connection: &Connection, now: Instant) {
        connection.is_retired.set(true);
        if connection.doubt.is_there() {
            // Over what it was sent, however long nobody used it.
            return;
        }
        self.idle_watch.saw_close(now.duration_since(connection.used.get()), now);
    }

    /// Lets go of connections that nobody has used for too long or that can take no request. Those
    /// close once the last request on them has ended.
    pub(crate) fn close_idle(&self, configured: Duration) {
        let now = Instant::now();
        let limit = self.idle_watch.limit.current(configured, now);
        self.connections.borrow_mut().retain(|connection| {
            if !connection.is_idle() {
                return connection.is_alive();
            }
            if !connection.is_retired.get() && connection.is_closed() {
                self.saw_close(connection, now);
            }
            connection.is_alive() && now.duration_since(connection.used.get()) < limit
        });
        self.idle_watch.looked(now);
    }
}

/// Whether a request may share its connection with others: not if that may end over its fields, before
/// its body or after it (outgoing.rs). Where there is no body there is no after, whatever is announced.
pub(crate) fn may_share(head: &Head, has_body: bool) -> bool {
    let announces = has_body && head.headers.contains_key(TRAILER);
    !announces && !is_long(head)
}

/// Whether it may end over the fields before its body.
pub(crate) fn is_long(head: &Head) -> bool {
    let target = head.method.as_str().len()
        + head.uri.path_and_query().map_or(0, |path| path.as_str().len())
        + head.uri.authority().map_or(0, |authority| authority.as_str().len());
    target + http2_size(&head.headers) > FIELD_BYTES_MAX
}

#[cfg(test)]
mod tests;
