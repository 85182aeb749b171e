//! Latencies as histograms that can be added up: over workers, seconds, backends and replicas.
//!
//! Percentiles cannot be averaged, so whoever shows several proxies or an hour as one needs the
//! buckets. They are log-linear, as in HdrHistogram and in OpenTelemetry's exponential histograms:
//! at scale `s` each power of two of microseconds has `2^s` buckets of equal width, and values
//! below `2^s` have one each. Two neighbours of scale `s` make exactly one of scale `s - 1`, so
//! that histograms of different scales add up at the coarser one, and one with too many buckets is
//! made coarser instead of being cut: a percentile read from the middle of a bucket is off by at
//! most `1 / 2^(s+1)`, half a per cent at scale 7 and a per cent and a half at scale 5.

use hdrhistogram::Histogram;
use serde::Serialize;
use utoipa::ToSchema;

/// The finest scale. The workers' histograms of two significant digits have the same buckets.
pub(crate) const FINEST: u8 = 7;

/// The coarsest scale that the admin API tells of the last seconds. What is read from it is off by
/// one part in 64 at most; a scale less would break the promise of two per cent over a fleet.
const COARSEST_TOLD: u8 = 5;

/// Durations in microseconds, counted in log-linear buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Latency {
    /// Buckets per power of two, as a power of two.
    scale: u8,
    /// Index and count of each bucket that is not empty, by index: `[i, n, i, n, …]` in JSON.
    #[serde(serialize_with = "flat")]
    #[schema(value_type = Vec<u32>)]
    buckets: Vec<(u16, u32)>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { scale: FINEST, buckets: Vec::new() }
    }
}

impl From<&Histogram<u32>> for Latency {
    fn from(histogram: &Histogram<u32>) -> Self {
        let mut latency = Self::default();
        for value in histogram.iter_recorded() {
            latency.count(index(value.value_iterated_to(), FINEST), value.count_at_value());
        }
        latency
    }
}

impl Latency {
    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Adds what another one counted, at the coarser of the two scales.
    pub(crate) fn add(&mut self, other: &Self) {
        let scale = self.scale.min(other.scale);
        self.coarsen_to(scale);
        if self.buckets.is_empty() && scale == other.scale {
            self.buckets.clone_from(&other.buckets);
            return;
        }
        // Both are sorted, so that this is one walk along each.
        let mut sum = Vec::with_capacity(self.buckets.len().max(other.buckets.len()));
        let mut mine = std::mem::take(&mut self.buckets).into_iter().peekable();
        for (at, count) in &other.buckets {
            let at = coarser(*at, other.scale, scale);
            while let Some(before) = mine.next_if(|(index, _)| *index <= at) {
                push(&mut sum, before);
            }
            push(&mut sum, (at, *count));
        }
        mine.for_each(|bucket| push(&mut sum, bucket));
        self.buckets = sum;
    }

    /// Makes it coarser until it has at most so many buckets, but never so coarse that percentiles
    /// are off by two per cent: durations from 1 µs to 2 min then fill some 700 buckets.
    pub(crate) fn fit(mut self, most: usize) -> Self {
        while self.buckets.len() > most && self.scale > COARSEST_TOLD {
            self.coarsen_to(self.scale - 1);
        }
        self
    }

    /// Makes it coarser until its bytes fit into `most`. At scale 0 it has at most 28 buckets.
    pub(crate) fn encode(mut self, most: usize) -> Vec<u8> {
        loop {
            let mut bytes = vec![self.scale];
            let mut last = 0;
            for (index, count) in &self.buckets {
                write_number(&mut bytes, u32::from(index - last));
                write_number(&mut bytes, *count);
                last = *index;
            }
            if bytes.len() <= most || self.scale == 0 {
                return bytes;
            }
            self.coarsen_to(self.scale - 1);
        }
    }

    /// What [`Self::encode`] wrote; `None` for nothing.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (scale, rest) = bytes.split_first()?;
        bytes = rest;
        let mut buckets = Vec::new();
        let mut index: u16 = 0;
        while !bytes.is_empty() {
            index = u16::try_from(read_number(&mut bytes)?).ok()?.checked_add(index)?;
            buckets.push((index, read_number(&mut bytes)?));
        }
        Some(Self { scale: *scale, buckets })
    }

    fn count(&mut self, index: u16, count: u32) {
        push(&mut self.buckets, (index, count));
    }

    fn coarsen_to(&mut self, scale: u8) {
        if scale < self.scale {
            let mut coarse = Vec::with_capacity(self.buckets.len());
            for (index, count) in &self.buckets {
                push(&mut coarse, (coarser(*index, self.scale, scale), *count));
            }
            (self.scale, self.buckets) = (scale, coarse);
        }
    }
}

/// Appends a bucket whose index is not below the last one's.
fn push(buckets: &mut Vec<(u16, u32)>, (index, count): (u16, u32)) {
    match buckets.last_mut() {
        Some((last, sum)) if *last == index => *sum = sum.saturating_add(count),
        _ => buckets.push((index, count)),
    }
}

/// The bucket of a value at a scale.
fn index(value: u64, scale: u8) -> u16 {
    if value < 1 << scale {
        return value as u16;
    }
    let shift = value.ilog2() - u32::from(scale);
    // At most 64 << 7: it fits.
    ((shift << scale) as u64 + (value >> shift)) as u16
}

/// The least value of a bucket.
fn lower_bound(index: u16, scale: u8) -> u64 {
    let (index, per_power) = (u64::from(index), 1 << scale);
    if index < per_power {
        return index;
    }
    let shift = (index >> scale) - 1;
    ((index & (per_power - 1)) + per_power) << shift
}

/// The bucket of a coarser scale that contains this one.
fn coarser(at: u16, from: u8, to: u8) -> u16 {
    if from == to { at } else { index(lower_bound(at, from), to) }
}

/// Seven bits a byte, the lowest first (LEB128).
pub(crate) fn write_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number of [`write_number`] off the front.
pub(crate) fn read_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u32::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn flat<S: serde::Serializer>(buckets: &[(u16, u32)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(buckets.iter().flat_map(|(index, count)| [u32::from(*index), *count]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut histogram = Histogram::new(2).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        Latency::from(&histogram)
    }

    /// The value in the middle of the bucket that holds a quantile.
    fn quantile(latency: &Latency, quantile: f64) -> f64 {
        let total: u32 = latency.buckets.iter().map(|(_, count)| count).sum();
        let mut left = (f64::from(total) * quantile).ceil() as u32;
        for (index, count) in &latency.buckets {
            if left <= *count {
                let low = lower_bound(*index, latency.scale);
                return (low + lower_bound(index + 1, latency.scale)) as f64 / 2.0;
            }
            left -= count;
        }
        f64::NAN
    }

    #[test]
    fn buckets_are_contiguous_and_nest_at_every_scale() {
        for scale in 0..=FINEST {
            let mut last = None;
            for value in (0..5_000).chain([120_000_000, u64::from(u32::MAX)]) {
                let at = index(value, scale);
                assert!(lower_bound(at, scale) <= value && value < lower_bound(at + 1, scale));
                assert!(value >= 5_000 || last.is_none_or(|last| at - last <= 1));
                last = Some(at);
                if scale > 0 {
                    assert_eq!(coarser(at, scale, scale - 1), index(value, scale - 1), "{value}");
                }
            }
        }
    }

    #[test]
    fn percentiles_of_a_sum_are_those_of_all_values() {
        let mut sum = of((1..1_000).map(|n| n * 10));
        sum.add(&of((1..100).map(|n| n * 10_000)));
        let mut all: Vec<u64> = (1..1_000).map(|n| n * 10).collect();
        all.extend((1..100).map(|n| n * 10_000));
        all.sort_unstable();
        for (share, coarsest) in [(0.5, 0.005), (0.99, 0.005)] {
            let exact = all[(all.len() as f64 * share).ceil() as usize - 1] as f64;
            let found = quantile(&sum, share);
            assert!((found - exact).abs() / exact < coarsest, "{share}: {found} for {exact}");
        }
    }

    #[test]
    fn one_that_is_too_big_is_made_coarser_and_loses_no_count() {
        let fine = of((0..200).map(|n| 100 + n * n * 97));
        let total = |latency: &Latency| latency.buckets.iter().map(|(_, n)| n).sum::<u32>();
        let coarse = fine.clone().fit(150);
        assert!(coarse.buckets.len() < fine.buckets.len() && coarse.scale < FINEST);
        assert_eq!(total(&coarse), 200);
        let decoded = Latency::decode(&fine.clone().encode(64)).unwrap();
        assert!(decoded.scale < FINEST);
        assert_eq!(total(&decoded), 200);
        assert_eq!(Latency::decode(&fine.clone().encode(4_096)).unwrap(), fine);
        let mut sum = fine.clone();
        sum.add(&coarse);
        assert_eq!((sum.scale, total(&sum)), (coarse.scale, 400));
    }

    #[test]
    fn percentiles_of_what_is_told_are_within_two_per_cent_however_wide_it_is() {
        // Each octave from 0.1 ms to 100 s as busy as the next.
        let all: Vec<u64> =
            (0..40_000).map(|n| (100.0 * 1e6_f64.powf(f64::from(n) / 4e4)) as u64).collect();
        let told = of(all.clone()).fit(1);
        assert!(told.buckets.len() < 800, "{}", told.buckets.len());
        for share in (1..1_000).map(|thousandth| f64::from(thousandth) / 1e3) {
            let exact = all[(all.len() as f64 * share).ceil() as usize - 1] as f64;
            let found = quantile(&told, share);
            assert!((found - exact).abs() / exact < 0.02, "{share}: {found} for {exact}");
        }
    }

    #[test]
    fn the_coarsest_always_fits() {
        // All powers of two up to the longest duration, each with more than a second can bring.
        let mut widest = Latency { scale: 0, buckets: Vec::new() };
        (0..=index(120_000_000, 0)).for_each(|at| widest.count(at, 100_000_000));
        let bytes = widest.encode(0).len();
        assert!(bytes <= crate::history::LATENCY_BYTES, "{bytes}");
    }

    #[test]
    fn bytes_that_nobody_wrote_are_nothing() {
        assert_eq!(Latency::decode(&[]), None);
        assert_eq!(Latency::decode(&[7, 0x80]), None);
        assert_eq!(Latency::decode(&[7, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), None);
    }

    #[test]
    fn json_is_one_flat_list() {
        let json = serde_json::to_string(&of([1, 1, 300])).unwrap();
        assert_eq!(json, "{\"scale\":7,\"buckets\":[1,2,278,1]}");
    }
}
