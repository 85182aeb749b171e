//! Requests that are recorded for certain, because an operator announced them.
//!
//! Whoever tries a request on the page wants to see why it went where it went, and a sample of one
//! in a hundred would nearly never have it. A header that asks for the record would let any client
//! fill the list, and would have to be kept from backends. So nothing is asked for on the traffic
//! port: the admin side announces an id that nobody can guess, for half a minute, and the first
//! request that carries it as `X-Request-Id` keeps that id and is recorded. A place for its record
//! is reserved with the announcement, so that not even a storm of failures can crowd it out. All
//! that somebody can do who learns an id is to be the one whose request is recorded.
//!
//! While nothing is announced, a request costs one load of a counter that nobody writes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue};
use tokio::{sync::mpsc, time::Instant};

use crate::{decisions::Record, headers::X_REQUEST_ID};

/// Between an announcement and its request: enough for a dashboard that tells several proxies,
/// waits for a slow one and then sends it.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30);

/// Announced at a time: a person tries one request after the other. Each holds one of the places
/// for records, of which there must be enough left for failures.
const MOST: usize = 32;

/// A reserved place for one record.
pub(crate) type Place = mpsc::OwnedPermit<Record>;

/// What is announced.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    /// How many there are, for workers to look at without the lock.
    count: AtomicUsize,
    // A std mutex: held to look through some dozen ids, by workers only while one is announced.
    waiting: Mutex<Vec<Announcement>>,
}

#[derive(Debug)]
struct Announcement {
    id: String,
    until: Instant,
    place: Place,
}

impl Announced {
    /// Announces an id, whose record will have `place`. Announced again, it lives anew.
    ///
    /// # Errors
    /// How long until there is room, if as many as may be are announced.
    pub(crate) fn announce(&self, id: &str, place: Place, now: Instant) -> Result<(), Duration> {
        let mut waiting = self.prune(now);
        waiting.retain(|one| one.id != id);
        if waiting.len() >= MOST {
            let next = waiting.iter().map(|one| one.until).min().unwrap_or(now);
            return Err(next - now);
        }
        waiting.push(Announcement { id: id.to_owned(), until: now + LIFETIME, place });
        self.count.store(waiting.len(), Ordering::Release);
        Ok(())
    }

    /// The id and the place of a request with these headers, if it was announced; only once.
    pub(crate) fn take(&self, headers: &HeaderMap) -> Option<(HeaderValue, Place)> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.find(headers, Instant::now())
    }

    /// Forgets those whose time is over, so that none of them costs requests a look.
    pub(crate) fn forget(&self) {
        drop(self.prune(Instant::now()));
    }

    #[cold]
    fn find(&self, headers: &HeaderMap, now: Instant) -> Option<(HeaderValue, Place)> {
        let id = headers.get(X_REQUEST_ID)?;
        let mut waiting = self.prune(now);
        let index = waiting.iter().position(|one| one.id.as_bytes() == id.as_bytes())?;
        let found = waiting.swap_remove(index);
        self.count.store(waiting.len(), Ordering::Release);
        Some((id.clone(), found.place))
    }

    fn prune(&self, now: Instant) -> MutexGuard<'_, Vec<Announcement>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| one.until > now);
        self.count.store(waiting.len(), Ordering::Release);
        waiting
    }
}

/// Whether something looks like an id that nobody guesses: those that the proxy makes do.
pub(crate) fn is_unguessable(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Has what was announced just now forgotten in time.
pub(crate) fn forget_later(announced: Arc<Announced>) {
    tokio::spawn(async move {
        tokio::time::sleep(LIFETIME).await;
        announced.forget();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sender: &mpsc::Sender<Record>) -> Place {
        sender.clone().try_reserve_owned().unwrap()
    }

    fn with_id(id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, id.parse().unwrap());
        headers
    }

    #[test]
    fn an_announced_request_is_met_once_and_others_never() {
        let (sender, _receiver) = mpsc::channel(4);
        let (announced, now) = (Announced::default(), Instant::now());
        assert!(announced.take(&with_id("a")).is_none());
        announced.announce("a", place(&sender), now).unwrap();
        announced.announce("a", place(&sender), now).unwrap();
        assert_eq!(sender.capacity(), 3, "announced again, it has one place");
        assert!(announced.take(&with_id("b")).is_none());
        assert!(announced.take(&HeaderMap::new()).is_none());
        let (id, _place) = announced.take(&with_id("a")).unwrap();
        assert_eq!(id, "a");
        assert!(announced.take(&with_id("a")).is_none(), "the id is used up");
    }

    #[test]
    fn one_whose_time_is_over_is_met_by_nobody_and_gives_its_place_back() {
        let (sender, _receiver) = mpsc::channel(4);
        let (announced, now) = (Announced::default(), Instant::now());
        announced.announce("a", place(&sender), now).unwrap();
        assert!(announced.find(&with_id("a"), now + LIFETIME).is_none());
        assert_eq!((sender.capacity(), announced.count.load(Ordering::Relaxed)), (4, 0));
    }

    #[test]
    fn no_more_are_announced_than_leave_room_for_failures() {
        let (sender, _receiver) = mpsc::channel(2 * MOST);
        let (announced, now) = (Announced::default(), Instant::now());
        for n in 0..MOST {
            announced.announce(&n.to_string(), place(&sender), now).unwrap();
        }
        let later = now + Duration::from_secs(10);
        assert_eq!(announced.announce("x", place(&sender), later), Err(Duration::from_secs(20)));
        assert_eq!(sender.capacity(), MOST, "the refused one holds no place");
    }

    #[test]
    fn an_id_that_can_be_guessed_is_none() {
        assert!(is_unguessable("0123456789abcdef0123456789abcdef"));
        for id in ["", "1", "0123456789abcdef0123456789abcdeF", "0123456789abcdef0123456789abcdef0"]
        {
            assert!(!is_unguessable(id), "{id}");
        }
    }
}
