//! What of an answer its client has not taken, and what that says of the client.

use std::time::Duration;

use tokio::time::Instant;

use super::out::Out;
use crate::{
    body::ResponseBody,
    buffered::{Buffered, MOST_BYTES, Waiting},
    stats::Gauges,
};

/// What is gathered of an answer before it is written. More would wait in memory for a slow client.
const GATHERED_BYTES: usize = 64 * 1024;

/// A client that takes no longer than this to make room keeps up: the system only tells when much of
/// what it has is gone. Others gain nothing from large reads.
const KEEPS_UP: Duration = Duration::from_millis(100);

/// What of an answer waits for its client.
pub(super) struct Backlog<'a> {
    buffered: &'a Buffered,
    waiting: Waiting<'a>,
    /// Since when the client takes nothing.
    since: Option<Instant>,
}

impl<'a> Backlog<'a> {
    pub(super) fn new(gauges: &'a Gauges) -> Self {
        Self { buffered: &gauges.buffered, waiting: Waiting::new(gauges), since: None }
    }

    /// How much is gathered before it is written.
    pub(super) fn gathered(&self) -> usize {
        self.buffered.share().min(GATHERED_BYTES)
    }

    /// Notes whether all was taken that was to be written, or something is left in `out`. It may be for
    /// long: less is read of `body` at once, and where memory is tight, what was read with it goes.
    pub(super) fn note(&mut self, is_taken: bool, out: &mut Out, body: &mut ResponseBody) {
        match self.since {
            None if is_taken => return,
            None => {
                self.since = Some(Instant::now());
                body.read_at_most(GATHERED_BYTES);
                if self.buffered.is_tight() {
                    out.compact();
                }
            }
            Some(since) if is_taken => {
                self.since = None;
                if since.elapsed() < KEEPS_UP {
                    body.read_at_most(MOST_BYTES);
                }
            }
            Some(_) => {}
        }
        self.waiting.set(out.len());
    }
}
