//! When operators said what they want, so that it does no harm if it is heard late or twice.
//!
//! Whoever keeps several proxies alike tells one what it has missed, and that may arrive after a
//! newer word. So each word has the time at which it was said, and what stands and what lies on top
//! of it go by the newest word each. In whichever order words come, the same is in force at last.
//! The core only compares these times: they are the shell's, and nothing to the virtual clock.

/// When something was said: milliseconds on a clock that the shell chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SaidAt(pub u64);

/// The newest words that were heard of one thing; none if nobody has said anything with a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The one that stands.
    pub standing: Option<SaidAt>,
    /// Of all, those with an end included, be it that it has come.
    pub latest: Option<SaidAt>,
}

impl Said {
    /// Those of a word without an end, before any other.
    #[must_use]
    pub fn of(said_at: Option<SaidAt>) -> Self {
        Self { standing: said_at, latest: said_at }
    }

    /// When a word is said that comes `now` and after all of these, whatever clock they were said by.
    #[must_use]
    pub fn next(self, now: SaidAt) -> SaidAt {
        self.latest.map_or(now, |latest| now.max(SaidAt(latest.0.saturating_add(1))))
    }

    /// What is newer than a word that would take its place.
    pub(crate) fn newer(self, than: SaidAt, has_end: bool) -> Option<SaidAt> {
        let replaced = if has_end { self.latest } else { self.standing };
        replaced.filter(|replaced| *replaced > than)
    }

    /// Whether all was said before a word; one without a time is said now.
    pub(crate) fn is_before(self, said_at: Option<SaidAt>) -> bool {
        said_at.is_none() || self.latest <= said_at
    }

    pub(crate) fn hear(&mut self, said_at: Option<SaidAt>, has_end: bool) {
        self.latest = self.latest.max(said_at);
        if !has_end {
            self.standing = self.standing.max(said_at);
        }
    }
}
