//! The last-resort ladder: who serves when nobody better does.
//!
//! A backend gets requests only while every rung above its own is empty. So a backend that asks to
//! be spared is spared, one that fails some requests is still better than an error for all of them,
//! and one that is on its way out is better than none. Each rung has a name in metrics and on the
//! page, because a pool that lives on a lower one is in trouble that users do not see yet.

use std::collections::BTreeMap;

/// A rung of the ladder, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Passes its probes, and nothing speaks against it.
    Up,
    /// Passes its probes, and asked to be spared.
    Degraded,
    /// Passes its probes, and is ejected because requests fail.
    Ejected,
    /// Passes its probes, and its source says that it is going away.
    Terminating,
    /// Nobody can serve, and somebody was up a moment ago: requests wait for a short while.
    Queue,
    /// Nobody can serve: requests are refused with 503.
    #[default]
    Nobody,
}

impl Rung {
    /// All rungs, best first.
    pub const ALL: [Self; 6] =
        [Self::Up, Self::Degraded, Self::Ejected, Self::Terminating, Self::Queue, Self::Nobody];

    /// The name in JSON, metrics and on the page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Ejected => "ejected",
            Self::Terminating => "terminating",
            Self::Queue => "queue",
            Self::Nobody => "nobody",
        }
    }
}

/// First picks by rung. All picks of one snapshot are of one rung, so the shared counter of picks
/// is read when the rung changes, and a pick pays nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct RungPicks {
    counts: BTreeMap<Rung, u64>,
    counted: u64,
}

impl RungPicks {
    /// Counts the picks since the last call, all of them of `rung`.
    pub(crate) fn count(&mut self, rung: Rung, picks: u64) {
        *self.counts.entry(rung).or_default() += picks - self.counted;
        self.counted = picks;
    }

    /// The counts, with those of `rung` that were not counted yet.
    pub(crate) fn up_to(&self, rung: Rung, picks: u64) -> BTreeMap<Rung, u64> {
        let mut all = self.clone();
        all.count(rung, picks);
        all.counts
    }
}
