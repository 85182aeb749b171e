//! How long a request waits before it is tried again.
//!
//! Requests that fail together would come back together, and knock over what had just got up. So
//! each waits for a random time, from nothing to a bound that doubles with each retry: full jitter,
//! which spreads them better than a fixed part with a random one on top ("Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015). Envoy does the same with the same numbers.
//!
//! The first retry on another backend does not wait: that one has nothing to recover from, and the
//! budget bounds how many come.

use std::time::Duration;

/// The longest wait as a multiple of the first, as with Envoy: a client waits with us, and a
/// backend that needs longer to recover is out of the pool by then.
const LONGEST: u32 = 10;

/// The bound on the wait before a retry, if it waits, after so many earlier ones.
pub(crate) fn bound(base: Duration, earlier: u32, is_elsewhere: bool) -> Option<Duration> {
    if earlier == 0 && is_elsewhere {
        return None;
    }
    // Beyond this many doublings the longest wait is reached anyway.
    let doubled = base.saturating_mul(1 << earlier.min(LONGEST));
    Some(doubled.min(base.saturating_mul(LONGEST))).filter(|bound| !bound.is_zero())
}

/// The wait of one retry within its bound, and no longer than there is time `left`.
pub(crate) fn wait(
    bound: Option<Duration>,
    left: Duration,
    random: &mut fastrand::Rng,
) -> Option<Duration> {
    bound.map(|bound| bound.min(left).mul_f64(random.f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_evenly_from_nothing_to_the_bound() {
        const DRAWS: usize = 10_000;
        let mut random = fastrand::Rng::with_seed(7);
        for (bound, left) in [(100, 1_000), (1_000, 100)] {
            let (bound, left) = (Duration::from_millis(bound), Duration::from_millis(left));
            let mut tenths = [0; 10];
            for _ in 0..DRAWS {
                let wait = wait(Some(bound), left, &mut random).unwrap();
                assert!(wait < bound.min(left), "{wait:?}");
                tenths[(wait.as_micros() / 10_000) as usize] += 1;
            }
            // Five standard deviations of a tenth are 150.
            assert!(tenths.iter().all(|count| (850..=1_150).contains(count)), "{tenths:?}");
        }
        assert_eq!(wait(None, Duration::MAX, &mut random), None, "none is wanted");
    }

    #[test]
    fn the_bound_doubles_up_to_ten_times_the_first() {
        let millis = |earlier, is_elsewhere| {
            let base = Duration::from_millis(25);
            bound(base, earlier, is_elsewhere).map_or(0, |bound| bound.as_millis())
        };
        assert_eq!([0, 1, 2, 3, 4, 99].map(|n| millis(n, false)), [25, 50, 100, 200, 250, 250]);
        assert_eq!([0, 1, 2].map(|n| millis(n, true)), [0, 50, 100], "the first goes at once");
        assert_eq!(bound(Duration::ZERO, 3, false), None, "none is wanted");
    }
}
