//! Backends that ask to be spared.

use std::time::Duration;

use super::{Pool, current};
use crate::{backend::BackendId, degraded::Degraded, events::EventKind, time::Time};

/// How long it holds where nothing else is set: some probe intervals, so that one lost probe does
/// not bring a backend back that still asks to be spared.
pub(super) const HOLD: Duration = Duration::from_secs(10);

impl Pool {
    /// Lets each time that a backend asks to be spared hold this long.
    #[must_use]
    pub fn with_degraded_time(mut self, hold: Duration) -> Self {
        self.degraded_time = hold;
        self
    }

    /// A backend asks to be spared, with its response or the answer to a probe. `reason` is what it
    /// says of that, if anything. It holds for a while and may be said again.
    pub fn degraded(&mut self, id: &BackendId, generation: u64, reason: &str, now: Time) {
        let until = now + self.degraded_time;
        let Some(entry) = current(&mut self.backends, id, generation) else { return };
        entry.member.saying.told();
        match &mut entry.degraded {
            Some(degraded) => degraded.until = until,
            None => {
                let reason = if reason.is_empty() { "it asks to be spared" } else { reason };
                entry.degraded = Some(Degraded { since: now, until, reason: reason.to_owned() });
                self.tell(now, EventKind::Health, Some(id), &format!("degraded: {reason}"));
            }
        }
        self.settle(now);
    }

    /// Ends what was not said again.
    pub(super) fn end_degraded(&mut self, now: Time) {
        let hold = self.degraded_time;
        let mut ended = Vec::new();
        for (id, entry) in &mut self.backends {
            let Some(degraded) = entry.degraded.as_mut().filter(|d| d.until <= now) else {
                continue;
            };
            if entry.member.saying.ask_again() {
                degraded.until = now + hold;
            } else {
                entry.degraded = None;
                ended.push(id.clone());
            }
        }
        for id in ended {
            self.tell(now, EventKind::Health, Some(&id), "no longer degraded");
        }
    }
}
