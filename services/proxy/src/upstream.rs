//! A worker's connections to the backends.
//!
//! Each worker keeps its own idle connections, so that taking one needs no lock. They are used
//! last in, first out: the warmest connection is the least likely to be closed by the backend in
//! this moment, and those not needed any more grow old and go.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use balance::Member;
use tokio::time::Instant;

use crate::{
    connection::Connection,
    gone::Gone,
    idle_limit::IdleWatch,
    limits::FieldLimits,
    multiplexed::Multiplexed,
    stats::{Counted, Gauges, Shard, Stats},
};

/// How often idle connections are looked at. Nobody is told when a backend closes one: this is how
/// late it is seen.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a backend is taken for one of HTTP/1.0 after such an answer. As uploads are kept from it
/// then, no other answer may ever come that tells of a new server at its address. If it is the same as
/// before, what it makes of an upload is what it made of the first.
pub(crate) const OLD_FOR: Duration = Duration::from_secs(10);

/// What is known of a backend's version of HTTP/1.
#[derive(Clone, Copy, Debug, Default)]
enum Speaks {
    #[default]
    Unknown,
    /// Since its latest answer, none of which was of HTTP/1.1.
    Http10(Instant),
    Http11,
}

/// One worker's view of one backend: its idle connections and its numbers.
#[derive(Debug)]
pub(crate) struct Upstream {
    generation: u64,
    idle: RefCell<VecDeque<Idle>>,
    /// Those of HTTP/2.
    pub(crate) multiplexed: Multiplexed,
    pub(crate) idle_watch: IdleWatch,
    pub(crate) gone: Gone,
    /// Which version it speaks, by its answers but for those with errors.
    speaks: Cell<Speaks>,
    pub(crate) shard: Arc<Shard>,
    gauges: Arc<Gauges>,
}

/// A connection that waits for a request.
#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    _counted: Counted,
}

impl Upstream {
    /// Takes note of the version of an answer. One of HTTP/1.1 tells what the backend can do (RFC 9112 §2.3),
    /// whatever comes later: some servers answer certain clients in HTTP/1.0, and one of those must not
    /// have the uploads of all others refused.
    pub(crate) fn answered_in(&self, is_http11: bool) {
        match self.speaks.get() {
            Speaks::Http11 => {}
            _ if is_http11 => self.speaks.set(Speaks::Http11),
            _ => self.speaks.set(Speaks::Http10(Instant::now())),
        }
    }

    /// Whether it seems to speak HTTP/1.0, which knows neither 100 (Continue) nor chunks.
    pub(crate) fn is_old(&self) -> bool {
        matches!(self.speaks.get(), Speaks::Http10(since) if since.elapsed() < OLD_FOR)
    }

    /// Takes the connection that was used last, unless it has been idle for too long: at most for
    /// `configured`, or less if the backend is known to close sooner. Each is looked at first, even if
    /// it was used a moment ago: a backend may have closed it, or have sent what would be taken for
    /// the next answer. What is on its way yet nobody can see.
    pub(crate) fn take_idle(
        &self,
        member: &Member,
        configured: Duration,
        now: Instant,
    ) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, .. }) = idle.pop_back() {
            if !connection.lead.is_to(member) {
                // It leads to where its name led before.
                continue;
            }
            let age = connection.idle_for(now);
            if age >= self.idle_watch.limit.current(configured, now) {
                // All the others have been idle for longer.
                idle.clear();
                return None;
            }
            if connection.is_silent(true) {
                return Some(connection);
            }
            self.idle_watch.saw_close(age, now);
        }
        None
    }

    /// Keeps a connection whose response has ended now.
    pub(crate) fn put_idle(&self, mut connection: Box<Connection>, most: usize, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < most && connection.begin_idle(now) {
            let counted = Counted::new(&self.gauges, |gauges| &gauges.backend_idle);
            idle.push_back(Idle { connection, _counted: counted });
        }
    }

    /// Lets go of connections that have been idle for too long or that the backend has closed.
    fn look(&self, configured: Duration) {
        let now = Instant::now();
        let limit = self.idle_watch.limit.current(configured, now);
        self.idle.borrow_mut().retain_mut(|Idle { connection, .. }| {
            let age = connection.idle_for(now);
            let is_silent = connection.is_silent(false);
            if !is_silent {
                self.idle_watch.saw_close(age, now);
            }
            if age >= LOOK_EVERY {
                connection.rest();
            }
            is_silent && age < limit
        });
        self.idle_watch.looked(now);
        self.multiplexed.close_idle(configured);
    }
}

/// One worker's view of all backends.
#[derive(Debug)]
pub(crate) struct Upstreams {
    worker: usize,
    stats: Arc<Stats>,
    /// What the fields of their answers may be.
    limits: FieldLimits,
    /// By the member's slot.
    table: Vec<Option<Rc<Upstream>>>,
}

impl Upstreams {
    pub(crate) fn new(worker: usize, stats: Arc<Stats>, limits: FieldLimits) -> Self {
        Self { worker, stats, limits, table: Vec::new() }
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
        let gauges = Arc::clone(&self.stats.gauges[self.worker]);
        let upstream = Rc::new(Upstream {
            generation: member.generation(),
            idle: RefCell::default(),
            multiplexed: Multiplexed::new(&gauges, self.limits),
            idle_watch: IdleWatch::new(&gauges),
            gone: Gone::default(),
            speaks: Cell::default(),
            shard: self.stats.shard(member.id().as_str(), self.worker),
            gauges,
        });
        self.table[slot] = Some(Rc::clone(&upstream));
        upstream
    }

    /// Closes connections that have been idle for too long or that the backend has closed.
    pub(crate) fn look(&self, limit: Duration) {
        self.table.iter().flatten().for_each(|upstream| upstream.look(limit));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{SocketAddr, TcpListener, TcpStream},
    };

    use balance::{BackendId, Found, Picker, Policy, Pool, ProbePlan, Time};
    use tokio::task::LocalSet;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Picks a member at an address, as a pool without probes makes it.
    pub(crate) fn picker(address: SocketAddr) -> Picker {
        pool(address).picker()
    }

    /// Such a pool.
    pub(crate) fn pool(address: SocketAddr) -> Pool {
        pool_of(&[address])
    }

    /// The same of several.
    pub(crate) fn pool_of(addresses: &[SocketAddr]) -> Pool {
        let second = Duration::from_secs(1);
        let plan = ProbePlan {
            enabled: false,
            interval: second,
            transition_interval: second,
            give_up: second,
            fall: 1,
            rise: 1,
        };
        let mut pool = Pool::new("test", Policy::default(), plan, 1);
        let names = ["backend", "another", "a third"].map(BackendId::new);
        let found = names.into_iter().zip(addresses);
        let found = found.map(|(name, address)| Found::new(name, Ok(vec![*address])));
        pool.discovered(found.collect(), Time::START);
        pool
    }

    /// Such a member.
    pub(crate) fn member(address: SocketAddr) -> Arc<Member> {
        Arc::clone(picker(address).pick(None).unwrap().member())
    }

    /// An idle connection, and the backend's end of it.
    async fn kept(listener: &TcpListener) -> (Arc<Member>, Rc<Upstream>, Arc<Gauges>, TcpStream) {
        let member = member(listener.local_addr().unwrap());
        let stats = Arc::new(Stats::new(1));
        let gauges = Arc::clone(&stats.gauges[0]);
        let upstream = Upstreams::new(0, stats, FieldLimits::USUAL).of(&member);
        let opened = crate::connection::open(&member, LIMIT, &gauges, FieldLimits::USUAL).await;
        upstream.put_idle(opened.unwrap(), 1, Instant::now());
        let backend = listener.accept().unwrap().0;
        (member, upstream, gauges, backend)
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_this_instant_is_not_used() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        LocalSet::new()
            .run_until(async {
                let (member, upstream, gauges, backend) = kept(&listener).await;
                // Nothing is awaited from here on, so that nobody has told us of the end yet.
                drop(backend);
                assert!(upstream.take_idle(&member, LIMIT, Instant::now()).is_none());
                assert_eq!(
                    gauges.backend_idle_closed.load(std::sync::atomic::Ordering::Relaxed),
                    1
                );
            })
            .await;
    }

    #[tokio::test]
    async fn a_connection_on_which_the_backend_says_something_unasked_is_not_used() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        LocalSet::new()
            .run_until(async {
                let (member, upstream, _, mut backend) = kept(&listener).await;
                backend.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").unwrap();
                assert!(upstream.take_idle(&member, LIMIT, Instant::now()).is_none());
            })
            .await;
    }

    #[tokio::test]
    async fn a_connection_is_given_up_when_it_has_been_idle_for_as_long_as_is_set() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        LocalSet::new()
            .run_until(async {
                let just = LIMIT - Duration::from_millis(1);
                for is_taken in [true, false] {
                    let (member, upstream, _, mut backend) = kept(&listener).await;
                    tokio::time::pause();
                    tokio::time::advance(just).await;
                    upstream.look(LIMIT);
                    let connection = upstream
                        .take_idle(&member, LIMIT, Instant::now())
                        .expect("it is still good");
                    // Its time begins anew.
                    upstream.put_idle(connection, 1, Instant::now());
                    tokio::time::advance(just).await;
                    upstream.look(LIMIT);
                    tokio::time::advance(LIMIT - just).await;
                    match is_taken {
                        true => {
                            assert!(upstream.take_idle(&member, LIMIT, Instant::now()).is_none())
                        }
                        false => upstream.look(LIMIT),
                    }
                    tokio::task::yield_now().await;
                    tokio::time::resume();
                    assert_eq!(backend.read(&mut [0]).unwrap(), 0, "it is closed");
                }
            })
            .await;
    }

    #[tokio::test]
    async fn a_connection_is_given_up_before_the_backend_closes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        LocalSet::new()
            .run_until(async {
                let (member, upstream, gauges, mut backend) = kept(&listener).await;
                let mut headers = http::HeaderMap::new();
                headers.insert("keep-alive", http::HeaderValue::from_static("timeout=1"));
                upstream.idle_watch.limit.hear(&headers);
                tokio::time::pause();
                tokio::time::advance(Duration::from_millis(800)).await;
                upstream.look(LIMIT);
                assert!(upstream.take_idle(&member, LIMIT, Instant::now()).is_none());
                tokio::task::yield_now().await;
                tokio::time::resume();
                assert_eq!(backend.read(&mut [0]).unwrap(), 0, "it was we who closed");
                assert_eq!(
                    gauges.backend_idle_closed.load(std::sync::atomic::Ordering::Relaxed),
                    0
                );
            })
            .await;
    }
}
