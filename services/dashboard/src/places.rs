//! Places for pages that are fed live: so many in all, and few of them for one address.
//!
//! Whoever reaches the page may read it as a rule, so that a stranger could open as many feeds as
//! there are places, and the operators' pages would stand still. Whoever may change something, or had
//! to show a token to read, is no stranger: behind a reverse proxy all of a team come from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chassis::access::network;
use prometheus::IntGauge;

/// Pages fed at the same time. A hidden tab disconnects, so these are pages that are looked at.
const ALL_MOST: usize = 100;
/// Those of strangers from one address: they may have one of IPv4 and one of IPv6, and leave half.
const STRANGERS_MOST: usize = 25;

/// Those of all strangers: one may have many addresses, and some places are left for operators.
const ALL_STRANGERS_MOST: usize = 75;

/// Who is fed.
pub(crate) struct Places {
    taken: Mutex<Taken>,
    gauge: IntGauge,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Strangers only; an address without a feed has no entry.
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    /// All free; `gauge` tells how many are not.
    pub(crate) fn new(gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), gauge })
    }

    /// A place, with the address if it is for a stranger; otherwise why there is none.
    pub(crate) fn take(self: &Arc<Self>, stranger: Option<IpAddr>) -> Result<Place, &'static str> {
        let stranger = stranger.map(network);
        let mut taken = self.taken();
        if taken.all >= ALL_MOST {
            return Err("too many pages are fed live: close some, or come back later");
        }
        if let Some(address) = stranger {
            if taken.by_address.values().sum::<usize>() >= ALL_STRANGERS_MOST {
                return Err("too many pages are fed live: close some, or come back later");
            }
            let own = taken.by_address.entry(address).or_default();
            if *own >= STRANGERS_MOST {
                return Err("too many pages are fed live at your address: close some, or sign in");
            }
            *own += 1;
        }
        taken.all += 1;
        self.gauge.inc();
        Ok(Place { places: Arc::clone(self), stranger })
    }

    /// Held for a few sums, which a panic cannot leave half done; never across an await.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, free again once this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    stranger: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        self.places.gauge.dec();
        let Some(address) = self.stranger else { return };
        if let Some(own) = taken.by_address.get_mut(&address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Arc<Places> {
        Places::new(IntGauge::new("places", "taken").unwrap())
    }

    fn fill(places: &Arc<Places>, stranger: Option<&str>) -> Vec<Place> {
        let stranger = stranger.map(|address| address.parse().unwrap());
        std::iter::from_fn(|| places.take(stranger).ok()).collect()
    }

    #[test]
    fn strangers_from_one_address_leave_places_for_others() {
        let places = places();
        let one = fill(&places, Some("10.0.0.1"));
        assert_eq!(one.len(), STRANGERS_MOST);
        let two = fill(&places, Some("2001:db8::1"));
        assert_eq!(two.len(), STRANGERS_MOST, "IPv4 and IPv6 of one host");
        assert!(places.take(Some("2001:db8::2".parse().unwrap())).is_err(), "the same network");
        assert!(places.take(Some("::ffff:10.0.0.1".parse().unwrap())).is_err(), "the same address");
        assert_eq!(fill(&places, None).len(), ALL_MOST - 2 * STRANGERS_MOST, "the rest is left");
    }

    #[test]
    fn strangers_from_many_addresses_leave_places_for_operators() {
        let places = places();
        let all: Vec<Place> =
            (1..=9).flat_map(|n| fill(&places, Some(&format!("10.0.0.{n}")))).collect();
        assert_eq!(all.len(), ALL_STRANGERS_MOST);
        assert_eq!(fill(&places, None).len(), ALL_MOST - ALL_STRANGERS_MOST);
    }

    #[test]
    fn a_place_is_free_again_when_its_feed_ends() {
        let places = places();
        for _ in 0..2 {
            assert_eq!(fill(&places, None).len(), ALL_MOST);
            assert_eq!(fill(&places, Some("10.0.0.1")).len(), STRANGERS_MOST);
        }
        assert_eq!(places.gauge.get(), 0);
        assert!(places.taken().by_address.is_empty(), "nobody is remembered who has gone");
    }
}
