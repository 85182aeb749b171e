//! What waits in memory for clients that do not take it, and how much more is read for them.
//!
//! A response that comes faster than its client takes it has to wait somewhere, and what is read of
//! it at once is what one client can make us hold. Large reads for all cost nothing while clients
//! keep up, and everybody's memory when many do not; small ones cost those who keep up. So each may
//! have a part of what is left of a common bound, as queues in a switch share its memory (dynamic
//! thresholds): a few slow clients get all they can use, and the more there are, the less is read for
//! each that comes. Nobody is refused anything. At the bound what is left is a read of [`LEAST_BYTES`],
//! without which nobody could be served at all. What clients send faster than backends take it shares the
//! bound (client/untaken.rs, client/http1/upload.rs, multiplexed/queued.rs), and so do heads that have not
//! ended (client/http1/wire.rs, http2/whole_heads.rs).

use std::{
    ops::Deref,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    limits::{Limit, LimitCounts},
    stats::Gauges,
};

/// What is read at once at least, and at first: most responses, whole.
pub(crate) const LEAST_BYTES: usize = 8 * 1024;

/// What is read at once at most. Less costs system calls; more saves hardly any.
pub(crate) const MOST_BYTES: usize = 512 * 1024;

/// Each may have this part of what is left: the smaller it is, the more clients it takes to use up the
/// memory.
const PARTS_MOST: usize = 16;

/// The same where a worker's part of the bound is small because there are many workers. A sixteenth of
/// it would make all reads small before anybody is slow, for want of nothing: with the bound that is
/// usual and 64 workers, 64 KiB. To give each worker more instead would be more than the bound says, or
/// more than a container has room for that sees many CPUs; and as there are as many clients for each
/// worker less, fewer parts do. With four, a slow client alone still leaves others most of it, and 256
/// workers, the most there can be, read 64 KiB at once, which is what is written at once.
const PARTS_LEAST: usize = 4;

/// One worker's part of what may wait.
#[derive(Debug)]
pub(crate) struct Buffered {
    bytes: AtomicUsize,
    bound: usize,
    /// Of what is left, each may have one of so many parts.
    parts: usize,
}

impl Default for Buffered {
    /// Without a bound.
    fn default() -> Self {
        Self::up_to(usize::MAX)
    }
}

impl Buffered {
    pub(crate) fn up_to(bound: usize) -> Self {
        let parts = (bound / MOST_BYTES).clamp(PARTS_LEAST, PARTS_MOST);
        Self { bytes: AtomicUsize::new(0), bound, parts }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How much may be read at once for one client.
    pub(crate) fn share(&self) -> usize {
        self.share_beside(self.bytes())
    }

    /// Whether so much waits that it is worth copying what is left of each, so that nothing else is
    /// kept with it: once two have what they may have. Below that even twice what is counted is no more
    /// than the bound.
    pub(crate) fn is_tight(&self) -> bool {
        self.bytes() > self.bound / self.parts * 2
    }

    fn share_beside(&self, bytes: usize) -> usize {
        (self.bound.saturating_sub(bytes) / self.parts).clamp(LEAST_BYTES, MOST_BYTES)
    }

    /// Counts what waits from now on. The bound counts as hit when no more than the least is left for
    /// the next one.
    pub(crate) fn add(&self, bytes: usize, limits: &LimitCounts) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_spent = |bytes| self.share_beside(bytes) == LEAST_BYTES;
        if is_spent(before + bytes) && !is_spent(before) {
            limits.hit(Limit::BufferedBytes);
        }
    }

    /// Counts what no longer does.
    pub(crate) fn subtract(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts so much instead of what was counted before.
pub(crate) fn recount(gauges: &Gauges, before: usize, bytes: usize) {
    let Gauges { buffered, limits, .. } = gauges;
    match bytes.checked_sub(before) {
        Some(0) => {}
        Some(more) => buffered.add(more, limits),
        None => buffered.subtract(before - bytes),
    }
}

/// What waits for one client, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<G: Deref<Target = Gauges>> {
    gauges: G,
    bytes: usize,
}

impl<G: Deref<Target = Gauges>> Waiting<G> {
    /// Nothing does.
    pub(crate) fn new(gauges: G) -> Self {
        Self { gauges, bytes: 0 }
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        recount(&self.gauges, std::mem::replace(&mut self.bytes, bytes), bytes);
    }
}

impl<G: Deref<Target = Gauges>> Drop for Waiting<G> {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: usize = 16 * 1024 * 1024;

    fn gauges() -> Gauges {
        Gauges { buffered: Buffered::up_to(BOUND), ..Gauges::default() }
    }

    #[test]
    fn however_many_take_nothing_the_bound_holds_but_for_the_least_that_each_needs() {
        let gauges = gauges();
        let mut waiting = Vec::new();
        while gauges.buffered.share() > LEAST_BYTES {
            let mut one = Waiting::new(&gauges);
            one.set(gauges.buffered.share());
            waiting.push(one);
            assert!(gauges.buffered.bytes() < BOUND);
        }
        assert_eq!(gauges.limits.of(Limit::BufferedBytes), 1);
        // There was room for more than a few large ones.
        assert!(waiting.len() > 32 && gauges.buffered.bytes() > BOUND / 4 * 3);
        for _ in 0..1_000 {
            let mut one = Waiting::new(&gauges);
            one.set(gauges.buffered.share());
            waiting.push(one);
        }
        assert!(gauges.buffered.bytes() < BOUND + 1_000 * LEAST_BYTES);
        assert_eq!(gauges.limits.of(Limit::BufferedBytes), 1, "counted once, when it came to that");
        drop(waiting);
        assert_eq!((gauges.buffered.bytes(), gauges.buffered.share()), (0, MOST_BYTES));
    }

    #[test]
    fn however_many_workers_share_the_bound_the_first_reads_of_each_are_large() {
        // The usual bound, and how much is read at once while nobody is slow.
        for (workers, kib) in [(1, 512), (8, 512), (32, 512), (64, 256), (128, 128), (256, 64)] {
            let buffered = Buffered::up_to(64 * 1024 * 1024 / workers);
            assert_eq!(buffered.share(), kib * 1024, "{workers} workers");
            assert!(!buffered.is_tight());
        }
    }

    #[test]
    fn a_small_bound_holds_as_well_and_leaves_room_beside_a_slow_client() {
        let bound = 2 * 1024 * 1024;
        let buffered = Buffered::up_to(bound);
        let gauges = Gauges { buffered, ..Gauges::default() };
        let mut waiting = Vec::new();
        while gauges.buffered.share() > LEAST_BYTES {
            let mut one = Waiting::new(&gauges);
            one.set(gauges.buffered.share());
            waiting.push(one);
            assert!(gauges.buffered.bytes() < bound);
            assert!(waiting.len() > 1 || gauges.buffered.share() > bound / 8);
        }
        assert!(waiting.len() > 8, "{}", waiting.len());
    }

    #[test]
    fn what_waits_for_a_client_counts_once_however_it_changes() {
        let gauges = gauges();
        let mut one = Waiting::new(&gauges);
        for bytes in [100, 100, 40, 0, 70] {
            one.set(bytes);
            assert_eq!(gauges.buffered.bytes(), bytes);
        }
        drop(one);
        assert_eq!(gauges.buffered.bytes(), 0);
    }
}
