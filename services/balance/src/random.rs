//! Repeatable randomness for jitter and draws: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
//!
//! Eight bytes of state and a seed from outside are all that these need; a seed makes
//! a simulated run repeatable.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number; every bit of it is as random as the others.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A duration within `share` above or below `duration`.
    pub(crate) fn jitter(&mut self, duration: Duration, share: f64) -> Duration {
        // 53 bits fill the mantissa: a number in 0..1 with equal steps.
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        duration.mul_f64(1.0 + share * (2.0 * unit - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_share_and_uses_all_of_it() {
        let mut random = Random::new(1);
        let base = Duration::from_secs(10);
        let drawn: Vec<f64> = (0..10_000).map(|_| random.jitter(base, 0.1).as_secs_f64()).collect();
        let (least, most) =
            drawn.iter().fold((f64::MAX, 0_f64), |(a, b), x| (a.min(*x), b.max(*x)));
        assert!((9.0..9.01).contains(&least), "{least}");
        assert!((10.99..=11.0).contains(&most), "{most}");
    }
}
