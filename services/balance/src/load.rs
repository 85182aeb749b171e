//! How long a backend takes to answer, as the `least_time` policy remembers it.
//!
//! A moving average that follows a rise at once and a fall with time (the "peak EWMA" of Finagle).
//! Two things go wrong with such averages elsewhere, and users saw both (traefik/traefik#12306: of
//! five equal servers one got 5 of 1500 requests and never came back). A backend that gets no
//! requests keeps its bad value for good; here what is remembered fades, and a backend of which
//! nothing is known counts as a typical one. And one that fails at once looks fast; here a failure
//! counts as a slow answer.
//!
//! Reading changes nothing, so that who looks how often does not matter.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::time::Time;

/// After this long a third of an old value is left. Finagle takes 10 s; with 3 s a backend that has
/// recovered is at its share again within 15.
const FADES: Duration = Duration::from_secs(3);

/// A failed attempt counts as one that took at least this long: slower than any that users bear.
const FAILURE: Duration = Duration::from_secs(1);

/// What is remembered of one backend: seconds as an `f32` in the upper half, and the moment of the
/// last answer in milliseconds in the lower one, so that both change together. All bits 0 is
/// nothing yet.
#[derive(Debug, Default)]
pub(crate) struct AnswerTime(AtomicU64);

impl AnswerTime {
    /// Takes note of an answer after so long, or of a failure.
    pub(crate) fn note(&self, took: Duration, is_failure: bool, now: Time) {
        let took = if is_failure { took.max(FAILURE) } else { took }.as_secs_f32();
        let update = |bits| {
            let (seconds, at) = unpack(bits);
            let seconds = match seconds {
                Some(seconds) if seconds > took => took + (seconds - took) * left(at, now),
                _ => took,
            };
            Some(pack(seconds, now))
        };
        // The closure always gives a value, so that this cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// What an answer will take, in seconds, where `typical` is what it takes elsewhere.
    pub(crate) fn expected(&self, typical: f32, now: Time) -> f32 {
        match unpack(self.0.load(Ordering::Relaxed)) {
            (Some(seconds), at) => typical + (seconds - typical) * left(at, now),
            (None, _) => typical,
        }
    }

    /// What is remembered, however old; `None` if there was no answer yet.
    pub(crate) fn remembered(&self) -> Option<f32> {
        unpack(self.0.load(Ordering::Relaxed)).0
    }
}

/// The share of an old value that is left.
fn left(at: u32, now: Time) -> f32 {
    // A clock that another thread read later counts as the same moment.
    let age = milliseconds(now).wrapping_sub(at);
    let age = if age > u32::MAX / 2 { 0 } else { age };
    (-(age as f32) / FADES.as_millis() as f32).exp()
}

/// Wraps around every 49 days, which ages never come near to.
fn milliseconds(time: Time) -> u32 {
    time.since_start().as_millis() as u32
}

fn pack(seconds: f32, now: Time) -> u64 {
    // The smallest positive number stands for an answer without any delay: 0 is none yet.
    u64::from(seconds.max(f32::MIN_POSITIVE).to_bits()) << 32 | u64::from(milliseconds(now))
}

fn unpack(bits: u64) -> (Option<f32>, u32) {
    let seconds = f32::from_bits((bits >> 32) as u32);
    (Some(seconds).filter(|seconds| *seconds > 0.0), bits as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time::after_start(Duration::from_millis(milliseconds))
    }

    fn noted(answers: &[(u64, u64)]) -> AnswerTime {
        let time = AnswerTime::default();
        for (now, took) in answers {
            time.note(Duration::from_millis(*took), false, at(*now));
        }
        time
    }

    #[test]
    fn a_rise_counts_at_once_and_a_fall_with_time() {
        let rising = noted(&[(0, 10), (1, 200)]);
        assert!((rising.expected(0.01, at(1)) - 0.2).abs() < 0.001);
        let falling = noted(&[(0, 200), (1, 10)]);
        assert!(falling.expected(0.01, at(1)) > 0.19);
        let fallen = noted(&[(0, 200), (15_000, 10)]);
        assert!(fallen.expected(0.01, at(15_000)) < 0.012);
    }

    #[test]
    fn what_is_not_renewed_fades_to_what_is_typical_from_either_side() {
        for took in [1, 1_000] {
            let time = noted(&[(0, took)]);
            let expected = time.expected(0.05, at(30_000));
            assert!((expected - 0.05).abs() < 0.001, "{took} ms: {expected}");
        }
        assert_eq!(AnswerTime::default().expected(0.05, at(0)), 0.05, "nothing is known");
    }

    #[test]
    fn a_failure_is_a_slow_answer() {
        let time = AnswerTime::default();
        time.note(Duration::ZERO, true, at(5));
        assert_eq!(time.expected(0.01, at(5)), 1.0);
    }

    #[test]
    fn the_clock_may_wrap_around_or_be_a_little_behind() {
        let wrap = u64::from(u32::MAX);
        let time = noted(&[(wrap - 10, 100)]);
        assert!(time.expected(0.01, at(wrap + 10)) > 0.09);
        assert!(time.expected(0.01, at(wrap - 20)) > 0.09);
    }
}
