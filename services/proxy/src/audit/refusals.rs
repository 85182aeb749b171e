//! Which refusals get a line of their own.
//!
//! Whoever reaches the port can be refused as often as they like, and each line waits for the disk
//! and pushes an older one out in the end. So the lines of refusals are rationed, and one that is
//! asked for again and again has one. Of all others only their number is told. Changes that are made
//! always have their line.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Refusals in a row that have a line each: an operator who tries this and that is told whole.
const BURST: u32 = 20;

/// After this long one more may have one. A flood then takes four months to fill the two files.
const REFILL: Duration = Duration::from_secs(10 * 60);

/// For this long the same refusal is not told again: a day has its line of what goes on for days.
const SAME: Duration = Duration::from_secs(24 * 60 * 60);

/// Refusals that are known again; more different ones than this come of a flood.
const KNOWN_MOST: usize = 64;

/// The refusals so far.
#[derive(Debug)]
pub(super) struct Refusals {
    left: u32,
    refilled: Option<Instant>,
    /// What had a line lately, and when.
    known: VecDeque<(u64, Instant)>,
    /// Those without a line since the last that had one.
    untold_since: u64,
    /// And since the beginning.
    untold: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        let known = VecDeque::new();
        Self { left: BURST, refilled: None, known, untold_since: 0, untold: 0 }
    }
}

impl Refusals {
    /// Takes note of a refusal, of which `what` is a digest. If it has a line of its own, how many
    /// have had none since the last one.
    pub(super) fn note(&mut self, what: u64, now: Instant) -> Option<u64> {
        self.refill(now);
        self.known.retain(|(_, told)| now.duration_since(*told) < SAME);
        if self.left == 0 || self.known.iter().any(|(known, _)| *known == what) {
            self.untold_since += 1;
            self.untold += 1;
            return None;
        }
        self.left -= 1;
        if self.known.len() == KNOWN_MOST {
            self.known.pop_front();
        }
        self.known.push_back((what, now));
        Some(std::mem::take(&mut self.untold_since))
    }

    /// How many have no line, since the process began.
    pub(super) fn untold(&self) -> u64 {
        self.untold
    }

    fn refill(&mut self, now: Instant) {
        let since = *self.refilled.get_or_insert(now);
        let more = (now.duration_since(since).as_secs() / REFILL.as_secs()) as u32;
        self.left = self.left.saturating_add(more).min(BURST);
        self.refilled = Some(since + REFILL * more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_some_lines_and_then_one_now_and_then_with_the_number_of_the_others() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let told = (0..10_000).filter_map(|what| refusals.note(what, start)).count();
        assert_eq!((told, refusals.untold()), (BURST as usize, 10_000 - u64::from(BURST)));
        assert_eq!(refusals.note(10_000, start + REFILL), Some(10_000 - u64::from(BURST)));
        assert_eq!(refusals.note(10_001, start + REFILL), None);
        let later = start + REFILL * 1_000;
        let told = (20_000..30_000).filter_map(|what| refusals.note(what, later)).count();
        assert_eq!(told, BURST as usize, "what is saved up is bounded");
    }

    #[test]
    fn what_is_asked_for_again_and_again_has_a_line_a_day() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let every = Duration::from_secs(10);
        let told: Vec<u64> =
            (0..2 * 8_640).filter_map(|n| refusals.note(7, start + every * n)).collect();
        assert_eq!(told, [0, 8_639]);
        assert_eq!(
            refusals.note(8, start + every * 20_000),
            Some(8_639),
            "another one has its own"
        );
    }
}
