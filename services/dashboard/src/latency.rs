//! Histograms of durations that can be added up, and the percentiles of the sum.
//!
//! Percentiles of several proxies cannot be averaged: a proxy with one slow request would weigh as
//! much as one with a thousand fast ones. The admin API therefore sends the buckets behind its
//! percentiles. They are log-linear: at scale `s` each power of two of microseconds has `2^s`
//! buckets of equal width, and values below `2^s` have one each. Two neighbours of scale `s` make
//! exactly one of scale `s - 1`, so histograms of different scales add up at the coarser one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The finest scale that is read: a bucket is then 0.1 % wide. A larger one is no histogram of ours.
const SCALE_MOST: u8 = 10;
/// Beyond the index of the longest time at the finest scale.
const INDEX_MOST: u64 = 64 << SCALE_MOST;

/// Durations in microseconds, counted in buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Latency {
    /// Buckets per power of two, as a power of two.
    scale: u8,
    /// Index and count of each bucket that is not empty: `[i, n, i, n, …]`.
    buckets: Vec<u64>,
}

/// The sum of all that are readable; `None` if there are none, so that nobody takes a proxy
/// without histograms for one without traffic.
pub(crate) fn sum<'a>(all: impl Iterator<Item = Option<&'a Latency>>) -> Option<Latency> {
    let all: Vec<&Latency> = all.collect::<Option<_>>()?;
    let all: Vec<&Latency> = all.into_iter().filter(|one| !one.buckets.is_empty()).collect();
    let scale = all.iter().map(|one| one.scale).min()?;
    if all.iter().any(|one| one.scale > SCALE_MOST) {
        return None;
    }
    let mut counts = BTreeMap::<u64, u64>::new();
    for one in all {
        for pair in one.buckets.chunks_exact(2) {
            let at = if one.scale == scale { pair[0] } else { coarser(pair[0], one.scale, scale) };
            let count = counts.entry(at.min(INDEX_MOST)).or_default();
            *count = count.saturating_add(pair[1]);
        }
    }
    let buckets = counts.into_iter().flat_map(|(index, count)| [index, count]).collect();
    Some(Latency { scale, buckets })
}

impl Latency {
    /// The duration in milliseconds that this share of all are not longer than: the middle of its
    /// bucket, which is off by half a bucket at most.
    #[must_use]
    pub(crate) fn percentile_ms(&self, share: f64) -> Option<f64> {
        let counts = self.buckets.chunks_exact(2).map(|pair| pair[1]);
        let total = counts.fold(0, u64::saturating_add);
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0_u64;
        self.buckets.chunks_exact(2).find_map(|pair| {
            seen = seen.saturating_add(pair[1]);
            let middle = (lower_bound(pair[0], self.scale)
                + lower_bound(pair[0].saturating_add(1), self.scale))
                as f64
                / 2.0;
            (seen >= rank).then_some(middle / 1e3)
        })
    }
}

/// The bucket of a value at a scale.
fn index(value: u64, scale: u8) -> u64 {
    if value < 1 << scale {
        return value;
    }
    let shift = value.ilog2() - u32::from(scale);
    (u64::from(shift) << scale) + (value >> shift)
}

/// The least value of a bucket. An index from outside of all times is as good as the last one.
fn lower_bound(index: u64, scale: u8) -> u64 {
    let per_power = 1_u64 << scale.min(SCALE_MOST);
    let index = index.min(INDEX_MOST);
    if index < per_power {
        return index;
    }
    let shift = (index >> scale) - 1;
    ((index & (per_power - 1)) + per_power)
        .checked_shl(shift as u32)
        .unwrap_or(u64::MAX >> 1)
        .min(u64::MAX >> 2)
}

fn coarser(at: u64, from: u8, to: u8) -> u64 {
    index(lower_bound(at, from), to)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A histogram of microseconds, as the proxy makes it.
    pub(crate) fn of(scale: u8, values: impl IntoIterator<Item = u64>) -> Latency {
        let mut counts = BTreeMap::<u64, u64>::new();
        values.into_iter().for_each(|value| *counts.entry(index(value, scale)).or_default() += 1);
        Latency { scale, buckets: counts.into_iter().flat_map(|(at, n)| [at, n]).collect() }
    }

    #[test]
    fn percentiles_of_skewed_proxies_are_those_of_all_requests_together() {
        // One proxy has nearly all requests, one the slow ones, one hardly any.
        let busy: Vec<u64> = (0..9_000).map(|n| 2_000 + n % 700).collect();
        let slow: Vec<u64> = (0..300).map(|n| 80_000 + n * 500).collect();
        let idle: Vec<u64> = vec![900_000];
        let parts = [of(6, busy.clone()), of(7, slow.clone()), of(6, idle.clone())];
        let fleet = sum(parts.iter().map(Some)).unwrap();
        let mut all = [busy, slow, idle].concat();
        all.sort_unstable();
        for share in [0.5, 0.95, 0.99] {
            let exact = all[(all.len() as f64 * share).ceil() as usize - 1] as f64 / 1e3;
            let found = fleet.percentile_ms(share).unwrap();
            assert!((found - exact).abs() / exact < 0.01, "{share}: {found} for {exact}");
        }
        let averaged =
            parts.iter().map(|part| part.percentile_ms(0.99).unwrap()).sum::<f64>() / 3.0;
        assert!((averaged - fleet.percentile_ms(0.99).unwrap()).abs() > 100.0, "the test tells");
    }

    #[test]
    fn one_proxy_without_a_histogram_makes_the_sum_unknown() {
        let one = of(7, [5]);
        assert_eq!(sum([Some(&one), None].into_iter()), None);
        assert_eq!(sum([Some(&one), Some(&Latency::default())].into_iter()).unwrap(), one);
        assert_eq!(sum(std::iter::empty()), None);
    }

    #[test]
    fn what_nobody_counted_does_no_harm() {
        let odd = Latency { scale: 7, buckets: vec![u64::MAX, 1, 3] };
        assert!(odd.percentile_ms(0.5).unwrap() > 0.0);
        assert_eq!(sum([Some(&Latency { scale: 64, buckets: vec![1, 1] })].into_iter()), None);
        assert_eq!(Latency::default().percentile_ms(0.5), None);
    }
}
