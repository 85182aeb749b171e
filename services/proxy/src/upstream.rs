//! A worker's connections to the backends.
//!
//! Each worker keeps its own idle connections, so that taking one needs no lock. They are used
//! last in, first out: the warmest connection is the least likely to be closed by the backend in
//! this moment, and those not needed any more grow old and go.

use std::{cell::RefCell, collections::VecDeque, io::ErrorKind, rc::Rc, sync::Arc, time::Duration};

use balance::Member;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::{
    body::RequestBody,
    connect::{ConnectError, connect},
    error::Reason,
    stats::{Counted, Gauges, Shard, Stats},
};

/// A connection that can send one request at a time.
pub(crate) type Connection = SendRequest<RequestBody>;

/// One worker's view of one backend: its idle connections and its numbers.
#[derive(Debug)]
pub(crate) struct Upstream {
    generation: u64,
    idle: RefCell<VecDeque<Idle>>,
    pub(crate) shard: Arc<Shard>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
    _counted: Counted,
}

impl Upstream {
    /// Takes the connection that was used last, unless it has been idle for too long.
    pub(crate) fn take_idle(&self, limit: Duration) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since, .. }) = idle.pop_back() {
            if since.elapsed() >= limit {
                // All the others have been idle for longer.
                idle.clear();
                return None;
            }
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose response has ended.
    pub(crate) fn put_idle(&self, connection: Connection, most: usize, gauges: &Arc<Gauges>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < most && !connection.is_closed() {
            let counted = Counted::new(gauges, |gauges| &gauges.backend_idle);
            idle.push_back(Idle { connection, since: Instant::now(), _counted: counted });
        }
    }

    fn close_idle(&self, limit: Duration) {
        let now = Instant::now();
        let is_stale =
            |idle: &Idle| now.duration_since(idle.since) >= limit || idle.connection.is_closed();
        self.idle.borrow_mut().retain(|idle| !is_stale(idle));
    }
}

/// One worker's view of all backends.
#[derive(Debug)]
pub(crate) struct Upstreams {
    worker: usize,
    stats: Arc<Stats>,
    /// By the member's slot.
    table: Vec<Option<Rc<Upstream>>>,
}

impl Upstreams {
    pub(crate) fn new(worker: usize, stats: Arc<Stats>) -> Self {
        Self { worker, stats, table: Vec::new() }
    }

    /// The view of one backend. One of another generation in its slot is gone, and forgotten.
    pub(crate) fn of(&mut self, member: &Member) -> Rc<Upstream> {
        let slot = member.slot();
        if self.table.len() <= slot {
            self.table.resize(slot + 1, None);
        }
        if let Some(upstream) = &self.table[slot]
            && upstream.generation == member.generation()
        {
            return Rc::clone(upstream);
        }
        let upstream = Rc::new(Upstream {
            generation: member.generation(),
            idle: RefCell::default(),
            shard: self.stats.shard(member.id().as_str(), self.worker),
        });
        self.table[slot] = Some(Rc::clone(&upstream));
        upstream
    }

    /// Closes connections that have been idle for too long or that the backend has closed.
    pub(crate) fn close_idle(&self, limit: Duration) {
        self.table.iter().flatten().for_each(|upstream| upstream.close_idle(limit));
    }
}

/// Makes a connection to a backend, trying its addresses in turn.
///
/// # Errors
/// The reason, with nothing sent.
pub(crate) async fn open(
    member: &Member,
    timeout: Duration,
    gauges: &Arc<Gauges>,
) -> Result<Connection, Reason> {
    let stream = connect(&member.addresses(), timeout).await.map_err(|error| match error {
        ConnectError::Timeout => Reason::ConnectTimeout,
        ConnectError::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Reason::ConnectRefused
        }
        ConnectError::Io(_) => Reason::ConnectFailed,
    })?;
    // A small request must not wait for an acknowledgement; failure costs only time.
    let _ = stream.set_nodelay(true);
    let handshake = http1::Builder::new().handshake(TokioIo::new(stream)).await;
    let (connection, driver) = handshake.map_err(|_| Reason::ConnectFailed)?;
    let counted = Counted::new(gauges, |gauges| &gauges.backend_open);
    tokio::task::spawn_local(async move {
        // Whoever waits for a response learns of an error there.
        let _ = driver.with_upgrades().await;
        drop(counted);
    });
    Ok(connection)
}
