//! A backend that asks to be spared: it works, and says that others should be preferred.
//!
//! It says so with its responses or its probes' answers, for itself only and for a while only: it
//! need not be asked again to be forgotten. While others serve it gets no requests and can say
//! nothing but through probes, so that each time holds for some probe intervals.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::time::Time;

/// What the pool knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Degraded {
    pub(crate) since: Time,
    pub(crate) until: Time,
    pub(crate) reason: String,
}

/// Whether responses say it, so that a worker tells the pool once and not with every response.
#[derive(Debug, Default)]
pub(crate) struct Saying(AtomicU8);

/// No response has said it.
const QUIET: u8 = 0;
/// The pool was told.
const TOLD: u8 = 1;
/// It was said again since the pool was told.
const AGAIN: u8 = 2;

impl Saying {
    /// A response says it. True if the pool is to be told.
    pub(crate) fn say(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            AGAIN => false,
            // Two workers at once may both tell it, which does no harm.
            before => {
                self.0.store(AGAIN, Ordering::Relaxed);
                before == QUIET
            }
        }
    }

    /// The pool could not be told. The next one tells it.
    pub(crate) fn not_told(&self) {
        self.0.store(QUIET, Ordering::Relaxed);
    }

    /// The pool was told.
    pub(crate) fn told(&self) {
        self.0.store(TOLD, Ordering::Relaxed);
    }

    /// Whether it was said again since then. If not, the next one tells the pool again.
    pub(crate) fn ask_again(&self) -> bool {
        let again = self.0.load(Ordering::Relaxed) == AGAIN;
        self.0.store(if again { TOLD } else { QUIET }, Ordering::Relaxed);
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_told_once_and_then_asks_itself() {
        let saying = Saying::default();
        assert!(saying.say() && !saying.say());
        saying.told();
        assert!(!saying.say() && !saying.say());
        assert!(saying.ask_again(), "it was said meanwhile");
        assert!(!saying.ask_again(), "and not since");
        assert!(saying.say(), "this one is news again");
        saying.not_told();
        assert!(saying.say(), "and still is");
    }
}
