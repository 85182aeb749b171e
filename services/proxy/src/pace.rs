//! Whether a client sends its request's body, or takes its response, fast enough.
//!
//! A limit of time between two parts is no bound on a client that sends or takes a byte now and then,
//! and each such client holds a request at a backend. Only the time in which we wait for the client
//! counts: for a backend that does not take what there is, or that has no more, nobody can blame it.

use std::time::Duration;

use tokio::time::Instant;

/// Time spent waiting after which the rate is looked at. Long enough for a mobile network to lose
/// and find its connection.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// What came since the last look, and how long we waited for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    bytes: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl Pace {
    /// It is the client that has to move: to send more, or to make room for more.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// It has, and nobody waits for it now.
    pub(crate) fn resume(&mut self, now: Instant) {
        let since = self.waiting_since.take();
        self.waited(since.map_or(Duration::ZERO, |since| now - since));
    }

    /// We waited so long for it.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// A part has come, or has been taken. Whether the client keeps up a rate of `least` bytes a
    /// second.
    pub(crate) fn is_kept(&mut self, bytes: usize, now: Instant, least: u32) -> bool {
        self.bytes += bytes as u64;
        self.resume(now);
        if self.waited < WINDOW {
            return true;
        }
        let is_kept = self.bytes as f64 >= f64::from(least) * self.waited.as_secs_f64();
        *self = Self::default();
        is_kept
    }

    /// A part has come. Whether the client has kept up the rate so far, however short that was; what
    /// it is behind by, it has to make up for.
    pub(crate) fn is_up_to_date(&mut self, bytes: usize, now: Instant, least: u32) -> bool {
        self.bytes += bytes as u64;
        self.resume(now);
        let is_kept = self.bytes as f64 >= f64::from(least) * self.waited.as_secs_f64();
        if is_kept && self.waited >= WINDOW {
            // A burst is soon forgotten.
            *self = Self::default();
        }
        is_kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of so many bytes, each after waiting for so long; whether the client kept up.
    fn keeps_up(parts: &[(usize, u64)]) -> bool {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        parts.iter().all(|(bytes, seconds)| {
            pace.wait(now);
            now += Duration::from_secs(*seconds);
            pace.wait(now);
            pace.is_kept(*bytes, now, 100)
        })
    }

    #[test]
    fn a_client_that_trickles_is_too_slow_however_steady_it_is() {
        assert!(!keeps_up(&[(99, 1); 10]));
        assert!(!keeps_up(&[(1, 9), (1, 9)]));
        assert!(keeps_up(&[(100, 1); 100]));
    }

    #[test]
    fn a_pause_is_forgiven_within_what_it_sent_before_and_a_burst_is_soon_forgotten() {
        assert!(keeps_up(&[(10_000, 1), (1, 9), (10_000, 1), (1, 9)]));
        assert!(!keeps_up(&[(1_000_000, 10), (1, 10)]));
    }

    /// Parts of so many bytes, each after waiting for so long: after which the client is up to date.
    fn up_to_date<const N: usize>(parts: [(usize, u64); N]) -> [bool; N] {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        parts.map(|(bytes, seconds)| {
            pace.wait(now);
            now += Duration::from_secs(seconds);
            pace.is_up_to_date(bytes, now, 100)
        })
    }

    #[test]
    fn what_a_client_is_behind_by_it_has_to_make_up_for() {
        assert_eq!(up_to_date([(99, 1), (1, 0), (99, 1)]), [false, true, false]);
        assert_eq!(up_to_date([(1, 20), (1, 0), (1_998, 0)]), [false, false, true]);
        assert_eq!(up_to_date([(1_000_000, 10), (1, 1)]), [true, false]);
    }

    #[test]
    fn waiting_for_the_backend_does_not_count() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..10 {
            // Read at once whenever the backend takes the part before.
            now += Duration::from_secs(60);
            assert!(pace.is_kept(1, now, 100));
        }
    }
}
