//! A limit on wrong tokens, for each address that sends them.
//!
//! Ten may come at once, then one every six seconds; until then nothing from that address is even
//! compared. That leaves a guesser 14 400 tries a day at a token of eight characters or more, and an
//! operator who mistyped it ten times waits for seconds. One moment per address says it all
//! (the generic cell rate algorithm): when its debt of failures is worked off.
//!
//! The same wrong token again is no further guess, and costs nothing: some script or dashboard
//! goes on with a token that was replaced, and must not lock out whoever shares its address. Of the
//! last few of each address a hash is kept, by a key that nobody knows, so that neither the table
//! nor the time of a look at it tells anything of a token.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use subtle::{Choice, ConstantTimeEq};

use crate::access::network;

/// Wrong tokens that may come at once.
const BURST: u32 = 10;

/// What each of them costs.
const EACH: Duration = Duration::from_secs(6);

/// Addresses that are watched; some MiB. When there are more, whoever owes least is forgotten.
const ADDRESSES_MOST: usize = 10_000;

/// Wrong tokens of an address that are known again: more than one of yesterday is a rare case.
const KNOWN: usize = 4;

/// The addresses that sent wrong tokens lately.
#[derive(Debug, Default)]
pub struct Attempts {
    // A std mutex: held for a look-up, never across an await.
    table: Mutex<HashMap<IpAddr, Owing>>,
    key: RandomState,
}

/// What is known of one address.
#[derive(Debug)]
struct Owing {
    /// When its debt is worked off.
    clear: Instant,
    /// Hashes of its last wrong tokens, newest first.
    known: [Option<u64>; KNOWN],
}

impl Attempts {
    /// Whether a token of this address may be looked at.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn check(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let table = self.lock();
        let Some(clear) = table.get(&network(peer)).map(|owing| owing.clear) else {
            return Ok(());
        };
        let owed = clear.saturating_duration_since(now);
        // What is owed grows by one more failure; that must stay within the burst.
        let wait = (owed + EACH).saturating_sub(EACH * BURST);
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Notes a wrong token.
    pub fn failed(&self, peer: IpAddr, token: &str, now: Instant) {
        let hash = self.key.hash_one(token);
        let mut table = self.lock();
        let key = network(peer);
        if table.len() >= ADDRESSES_MOST && !table.contains_key(&key) {
            table.retain(|_, owing| owing.clear > now);
            if table.len() >= ADDRESSES_MOST
                && let Some(least) = table.iter().min_by_key(|(_, owing)| owing.clear)
            {
                let least = *least.0;
                table.remove(&least);
            }
        }
        let owing = table.entry(key).or_insert(Owing { clear: now, known: [None; KNOWN] });
        if !owing.knows(hash) {
            owing.known.rotate_right(1);
            owing.known[0] = Some(hash);
            owing.clear = owing.clear.max(now) + EACH;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Owing>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owing {
    fn knows(&self, hash: u64) -> bool {
        let same = self.known.iter().flatten().map(|known| known.ct_eq(&hash));
        same.fold(Choice::from(0), |any, one| any | one).into()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn ten_wrong_tokens_may_come_at_once_and_then_one_every_six_seconds() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (guesser, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for n in 0..BURST {
            assert_eq!(attempts.check(guesser, now), Ok(()));
            attempts.failed(guesser, &n.to_string(), now);
        }
        assert_eq!(attempts.check(guesser, now), Err(EACH));
        assert_eq!(attempts.check(other, now), Ok(()));
        assert_eq!(attempts.check(guesser, now + EACH), Ok(()));
        attempts.failed(guesser, "one more", now + EACH);
        assert_eq!(attempts.check(guesser, now + EACH), Err(EACH));
        assert_eq!(attempts.check(guesser, now + EACH * 20), Ok(()));
    }

    #[test]
    fn a_wrong_token_that_comes_again_and_again_locks_nobody_out() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (peer, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..100 {
            for old in ["of-yesterday", "of-last-week"] {
                attempts.failed(peer, old, now);
            }
            assert_eq!(attempts.check(peer, now), Ok(()));
        }
        // Whoever guesses on gets no more guesses by it.
        for n in 2..BURST {
            attempts.failed(peer, &n.to_string(), now);
        }
        assert_eq!(attempts.check(peer, now), Err(EACH));
        (0..BURST).for_each(|n| attempts.failed(other, &n.to_string(), now));
        assert_eq!(attempts.check(other, now), Err(EACH), "what is known is so of each address");
        assert!(!attempts.lock()[&peer].knows(attempts.key.hash_one("of-yesterday")));
    }

    #[test]
    fn an_ipv6_host_is_one_guesser_whatever_address_of_its_own_it_takes() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for host in 0..u16::try_from(BURST).unwrap() {
            let peer = Ipv6Addr::new(0xFD00, 0, 0, 1, 0, 0, 0, host).into();
            attempts.failed(peer, &host.to_string(), now);
        }
        let next = Ipv6Addr::new(0xFD00, 0, 0, 1, 9, 9, 9, 9).into();
        assert!(attempts.check(next, now).is_err());
        assert!(attempts.check(Ipv6Addr::new(0xFD00, 0, 0, 2, 0, 0, 0, 1).into(), now).is_ok());
        attempts.failed("::ffff:10.0.0.1".parse().unwrap(), "wrong", now);
        assert!(attempts.lock().contains_key(&IpAddr::from([10, 0, 0, 1])));
    }

    #[test]
    fn the_table_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..ADDRESSES_MOST as u32 + 100 {
            let at = now + Duration::from_micros(n.into());
            attempts.failed(IpAddr::V4(n.into()), "wrong", at);
        }
        assert_eq!(attempts.lock().len(), ADDRESSES_MOST);
    }
}
