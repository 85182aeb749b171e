//! Accepting connections and giving each to the worker that has the fewest.
//!
//! A listening socket per worker (`SO_REUSEPORT`) would let the kernel choose by a hash, and a few
//! busy kept-alive connections on one worker would then wait while another is idle.
//!
//! The first worker does it beside its other work. A thread for it would have to be woken for each
//! connection and then wake the worker, which costs as much as all that the worker does about it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

use crate::{
    guests::Guests,
    limits::Limit,
    settings::Settings,
    stats::{Counted, Stats},
    worker::{Accepted, Stage},
};

/// After an error that will not go away by itself at once, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// How often that is waited for at the end: for a second in all, in which most requests end.
const PAUSES_AT_THE_END: u32 = 20;

/// Connections in a row, at the end, before requests get their turn.
const IN_A_ROW: u32 = 64;

/// What accepts connections for all workers.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: std::net::TcpListener,
    stage: watch::Receiver<Stage>,
    giving: Giving,
}

/// To whom connections are given, and how many.
#[derive(Debug)]
struct Giving {
    workers: Vec<mpsc::UnboundedSender<Accepted>>,
    most: u32,
    guests: Arc<Guests>,
    stats: Arc<Stats>,
}

/// The socket of a connection that was accepted.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Known to the loop of the worker that it is given to, which has accepted it.
    Here(TcpStream),
    /// Known to none.
    Raw(std::net::TcpStream),
}

impl Acceptor {
    /// # Errors
    /// The listener cannot be used.
    pub(crate) fn new(
        listener: std::net::TcpListener,
        workers: Vec<mpsc::UnboundedSender<Accepted>>,
        settings: &Settings,
        stats: &Arc<Stats>,
        stage: &watch::Receiver<Stage>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Inherited by what it accepts: a small answer must not wait for an acknowledgement.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        let trusted = &settings.forwarding.trusted_proxies;
        let giving = Giving {
            workers,
            most: settings.limits.connections,
            guests: Guests::new(settings.limits.connections_per_client, trusted),
            stats: Arc::clone(stats),
        };
        Ok(Self { listener, stage: stage.clone(), giving })
    }

    /// Accepts until the stop has come to finishing. Its end tells the workers.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub(crate) async fn run(self) -> io::Result<()> {
        let Self { listener, mut stage, giving } = self;
        let listener = TcpListener::from_std(listener)?;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stage.wait_for(|stage| *stage >= Stage::Finishing) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => giving.give(Stream::Here(stream), peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    giving.stats.accept_errors.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "connections cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        // Whoever is in the queue already was told that we listen.
        let listener = listener.into_std()?;
        let mut pauses = PAUSES_AT_THE_END;
        for count in 1_u32.. {
            if count.is_multiple_of(IN_A_ROW) {
                tokio::task::yield_now().await;
            }
            match listener.accept() {
                Ok((stream, peer)) if stream.set_nonblocking(true).is_ok() => {
                    giving.give(Stream::Raw(stream), peer);
                }
                Ok(_) => {}
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) if pauses == 0 => break,
                // As connections end now, there will be room for more.
                Err(_) => {
                    pauses -= 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }
}

impl Giving {
    /// Gives a connection to the worker that has the fewest.
    fn give(&self, stream: Stream, peer: SocketAddr) {
        let Self { workers, stats, .. } = self;
        let open = |worker: &usize| stats.gauges[*worker].client_open.load(Ordering::Relaxed);
        let least = (0..workers.len()).min_by_key(open).unwrap_or(0);
        let limits = &stats.gauges[least].limits;
        // One that is too many is closed: reading its request, to answer it, is what the bound
        // is to save.
        if (0..workers.len()).map(|worker| open(&worker)).sum::<i64>() >= i64::from(self.most) {
            return limits.hit(Limit::Connections);
        }
        let Ok(guest) = self.guests.enter(peer.ip()) else {
            return limits.hit(Limit::ConnectionsPerClient);
        };
        // The first worker is the one that we run on.
        let Ok(stream) = (if least == 0 { Ok(stream) } else { stream.raw() }) else { return };
        let counted = Counted::new(&stats.gauges[least], |gauges| &gauges.client_open);
        // Fails only if the worker has ended, which it does after us.
        let _ = workers[least].send(Accepted { stream, peer, counted, guest });
    }
}

impl Stream {
    /// Lets go of the loop that knows it.
    fn raw(self) -> io::Result<Self> {
        match self {
            Self::Here(stream) => stream.into_std().map(Self::Raw),
            Self::Raw(stream) => Ok(Self::Raw(stream)),
        }
    }

    /// Makes it known to the loop that runs here.
    ///
    /// # Errors
    /// The client is gone already.
    pub(crate) fn here(self) -> io::Result<TcpStream> {
        match self {
            Self::Here(stream) => Ok(stream),
            Self::Raw(stream) => TcpStream::from_std(stream),
        }
    }
}

/// Errors that concern the connection that was about to be accepted, not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_worker_with_the_fewest_gets_a_connection_that_is_sent_on_at_once() {
        let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings::from_variables(&[]);
        let stats = Arc::new(Stats::new(2));
        let (stage, stages) = watch::channel(Stage::Serving);
        let (senders, mut workers): (Vec<_>, Vec<_>) =
            (0..2).map(|_| mpsc::unbounded_channel()).unzip();
        let acceptor = Acceptor::new(listener, senders, &settings, &stats, &stages).unwrap();
        let running = tokio::spawn(acceptor.run());
        let mut held = Vec::new();
        for worker in [0, 1, 0, 1] {
            let client = TcpStream::connect(address).await.unwrap();
            let Accepted { stream, peer, counted, .. } = workers[worker].recv().await.unwrap();
            assert_eq!(matches!(stream, Stream::Here(_)), worker == 0);
            assert_eq!(peer, client.local_addr().unwrap());
            let stream = stream.here().unwrap();
            assert!(stream.nodelay().unwrap());
            held.push((client, stream, counted));
        }
        stage.send(Stage::Finishing).unwrap();
        running.await.unwrap().unwrap();
        assert!(workers[0].recv().await.is_none(), "its end tells the workers");
    }
}
