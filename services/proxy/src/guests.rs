//! How many connections each client address has, so that one cannot take all of them.
//!
//! A lock is taken when a connection begins and when it ends, and only if there is a bound.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;

/// The connections of each address.
#[derive(Debug)]
pub(crate) struct Guests {
    most: u32,
    /// Those in front of us speak for many clients.
    trusted: Vec<IpNet>,
    open: Mutex<HashMap<IpAddr, u32>>,
}

/// One connection of an address; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    /// At most `most` connections each; 0 is any number.
    pub(crate) fn new(most: u32, trusted: &[IpNet]) -> Arc<Self> {
        Arc::new(Self { most, trusted: trusted.to_vec(), open: Mutex::default() })
    }

    /// Lets a connection in, with what holds its place if places are counted.
    ///
    /// # Errors
    /// Its address has as many as it may have.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr) -> Result<Option<Guest>, ()> {
        let peer = peer.to_canonical();
        if self.most == 0 || self.trusted.iter().any(|network| network.contains(&peer)) {
            return Ok(None);
        }
        let address = counted_as(peer);
        let mut open = self.lock();
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return Err(());
        }
        *count += 1;
        Ok(Some(Guest { guests: Arc::clone(self), address }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut open = self.guests.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// One customer has a whole /64 of IPv6 addresses.
fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_places_and_gets_them_back() {
        let guests = Guests::new(2, &[]);
        let first = guests.enter(ip("10.0.0.1")).unwrap();
        let _second = guests.enter(ip("::ffff:10.0.0.1")).unwrap();
        guests.enter(ip("10.0.0.1")).unwrap_err();
        let _other = guests.enter(ip("10.0.0.2")).unwrap();
        drop(first);
        drop(guests.enter(ip("10.0.0.1")).unwrap());
        assert_eq!(guests.lock().len(), 2, "nothing is kept of those without connections");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let guests = Guests::new(1, &[]);
        let _first = guests.enter(ip("2001:db8::1")).unwrap();
        guests.enter(ip("2001:db8::2")).unwrap_err();
        assert!(guests.enter(ip("2001:db8:0:1::1")).unwrap().is_some());
    }

    #[test]
    fn trusted_proxies_and_everybody_without_a_bound_may_come_as_often_as_they_want() {
        let guests = Guests::new(1, &["10.0.0.0/8".parse().unwrap()]);
        (0..5).for_each(|_| assert!(guests.enter(ip("10.1.1.1")).unwrap().is_none()));
        let unbounded = Guests::new(0, &[]);
        (0..5).for_each(|_| assert!(unbounded.enter(ip("192.0.2.1")).unwrap().is_none()));
    }
}
