//! The settings of requests that wait: `PROXY_QUEUE_…` and `PROXY_LAST_RESORT_WAIT`.

use std::time::Duration;

use chassis::{settings::Mistakes, units};

/// The line of requests for which no backend has room, or which nobody can serve for the moment.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// How many may wait.
    pub max: usize,
    /// For how long, for room.
    pub timeout: Duration,
    /// For how long, for anybody since one was up. Zero is not at all.
    pub last_resort: Duration,
}

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct QueueRaw {
    /// Requests that may wait for a backend with room, or for any; further ones get a 503 at once
    #[arg(long, value_name = "N", default_value = "256")]
    proxy_queue_max: String,
    /// How long a request may wait for a backend with room; then it gets a 503
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    proxy_queue_timeout: String,
    /// While no backend can serve, requests wait for one to come back until the last one was up this
    /// long ago; then they get a 503, further ones at once. 0s is always at once
    #[arg(long, value_name = "DURATION", default_value = "3s")]
    proxy_last_resort_wait: String,
}

impl QueueRaw {
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<Queue> {
        let max = mistakes
            .parse("proxy_queue_max", &self.proxy_queue_max, |text| units::whole(text, 0, 100_000));
        let timeout = mistakes.parse(
            "proxy_queue_timeout",
            &self.proxy_queue_timeout,
            units::positive_duration,
        );
        let last_resort =
            mistakes.parse("proxy_last_resort_wait", &self.proxy_last_resort_wait, units::duration);
        Some(Queue { max: max? as usize, timeout: timeout?, last_resort: last_resort? })
    }
}
