//! A limit on wrong tokens, for each address that sends them.
//!
//! Ten may come at once, then one every six seconds; until then nothing from that address is even
//! compared. That leaves a guesser 14 400 tries a day at a token of eight characters or more, and an
//! operator who mistyped it ten times waits for seconds. One moment per address says it all
//! (the generic cell rate algorithm): when its debt of failures is worked off.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Wrong tokens that may come at once.
const BURST: u32 = 10;

/// What each of them costs.
const EACH: Duration = Duration::from_secs(6);

/// Addresses that are watched; some 600 KiB. When there are more, whoever owes least is forgotten.
const ADDRESSES_MOST: usize = 10_000;

/// The addresses that sent wrong tokens lately.
#[derive(Debug, Default)]
pub struct Attempts(
    // A std mutex: held for a look-up, never across an await.
    Mutex<HashMap<IpAddr, Instant>>,
);

impl Attempts {
    /// Whether a token of this address may be looked at.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn check(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(clear) = self.lock().get(&network(peer)).copied() else { return Ok(()) };
        let owed = clear.saturating_duration_since(now);
        // What is owed grows by one more failure; that must stay within the burst.
        let wait = (owed + EACH).saturating_sub(EACH * BURST);
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Notes a wrong token.
    pub fn failed(&self, peer: IpAddr, now: Instant) {
        let mut table = self.lock();
        let key = network(peer);
        if table.len() >= ADDRESSES_MOST && !table.contains_key(&key) {
            table.retain(|_, clear| *clear > now);
            if table.len() >= ADDRESSES_MOST
                && let Some(least) = table.iter().min_by_key(|(_, clear)| **clear)
            {
                let least = *least.0;
                table.remove(&least);
            }
        }
        let clear = table.entry(key).or_insert(now);
        *clear = (*clear).max(now) + EACH;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom an address belongs to: an IPv6 host has a whole /64 of them (RFC 4291 §2.5.4).
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_tokens_may_come_at_once_and_then_one_every_six_seconds() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (guesser, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..BURST {
            assert_eq!(attempts.check(guesser, now), Ok(()));
            attempts.failed(guesser, now);
        }
        assert_eq!(attempts.check(guesser, now), Err(EACH));
        assert_eq!(attempts.check(other, now), Ok(()));
        assert_eq!(attempts.check(guesser, now + EACH), Ok(()));
        attempts.failed(guesser, now + EACH);
        assert_eq!(attempts.check(guesser, now + EACH), Err(EACH));
        assert_eq!(attempts.check(guesser, now + EACH * 20), Ok(()));
    }

    #[test]
    fn an_ipv6_host_is_one_guesser_whatever_address_of_its_own_it_takes() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for host in 0..u16::try_from(BURST).unwrap() {
            attempts.failed(Ipv6Addr::new(0xFD00, 0, 0, 1, 0, 0, 0, host).into(), now);
        }
        let next = Ipv6Addr::new(0xFD00, 0, 0, 1, 9, 9, 9, 9).into();
        assert!(attempts.check(next, now).is_err());
        assert!(attempts.check(Ipv6Addr::new(0xFD00, 0, 0, 2, 0, 0, 0, 1).into(), now).is_ok());
        attempts.failed("::ffff:10.0.0.1".parse().unwrap(), now);
        assert!(attempts.lock().contains_key(&IpAddr::from([10, 0, 0, 1])));
    }

    #[test]
    fn the_table_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..ADDRESSES_MOST as u32 + 100 {
            attempts.failed(IpAddr::V4(n.into()), now + Duration::from_micros(n.into()));
        }
        assert_eq!(attempts.lock().len(), ADDRESSES_MOST);
    }
}
