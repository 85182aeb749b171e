//! The bounds on what clients can make the proxy hold or do, by the names that they have in
//! `evenkeel_limits_hit_total`.

use std::sync::atomic::{AtomicU64, Ordering};

/// A bound that was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Streams that a client of HTTP/2 resets.
    Resets,
    /// Frames of HTTP/2 that belong to no request, or add nothing to one.
    ControlFrames,
    /// What the HTTP/2 library bounds by itself: header blocks without an end, streams that are
    /// reset before they are seen, data in tiny frames, malformed streams without end.
    Excess,
}

impl Limit {
    pub(crate) const ALL: [Self; 3] = [Self::Resets, Self::ControlFrames, Self::Excess];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Resets => "http2_resets",
            Self::ControlFrames => "http2_control_frames",
            Self::Excess => "http2_excess",
        }
    }
}

/// How often each bound was hit.
#[derive(Debug, Default)]
pub(crate) struct LimitCounts([AtomicU64; Limit::ALL.len()]);

impl LimitCounts {
    pub(crate) fn hit(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn of(&self, limit: Limit) -> u64 {
        self.0[limit as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_count_of_its_own() {
        let counts = LimitCounts::default();
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| counts.hit(limit));
        }
        let all = Limit::ALL.map(|limit| counts.of(limit));
        assert!(all.iter().copied().eq(1..=Limit::ALL.len() as u64), "{all:?}");
    }
}
