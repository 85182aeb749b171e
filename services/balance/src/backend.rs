//! A backend: one server instance that may get requests.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// The stable name of a backend within its pool: `host:port` as configured, or `address:port` as
/// discovered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(Arc<str>);

impl BackendId {
    /// A name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A backend as discovery reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub id: BackendId,
    /// Where to connect, best first; several only for a configured host name. The error in words
    /// if the name does not resolve.
    pub addresses: Result<Vec<SocketAddr>, String>,
    /// Its share of the traffic relative to the others.
    pub weight: u32,
}

/// What workers and the control thread share of one generation of a backend.
#[derive(Debug)]
pub struct Member {
    id: BackendId,
    generation: u64,
    slot: usize,
    /// Of the name, for hashing: the same in every proxy, so that replicas agree.
    hash: u64,
    in_flight: AtomicU32,
    // A std mutex: held for a copy, never across I/O, and only where a connection is made.
    addresses: Mutex<Vec<SocketAddr>>,
}

impl Member {
    pub(crate) fn new(
        id: BackendId,
        generation: u64,
        slot: usize,
        addresses: Vec<SocketAddr>,
    ) -> Self {
        let hash = hash_of(id.as_str().as_bytes());
        let in_flight = AtomicU32::new(0);
        Self { id, generation, slot, hash, in_flight, addresses: Mutex::new(addresses) }
    }

    /// The backend's name.
    #[must_use]
    pub fn id(&self) -> &BackendId {
        &self.id
    }

    /// Distinguishes this backend from one that had its name before. Never used twice.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A small number that no other present backend has, for tables indexed by backend. It is used
    /// again after this one is gone: compare the generation.
    #[must_use]
    pub fn slot(&self) -> usize {
        self.slot
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Where to connect, best first.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Attempts that hold a ticket.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a ticket of {} was given back twice", self.id);
    }
}

/// A hash that is the same on every machine and in every version: 64-bit FNV-1a (Fowler, Noll, Vo). What
/// goes into it is mixed further where it is used, so its weak high bits do no harm.
#[must_use]
pub fn hash_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
