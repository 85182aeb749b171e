//! Whether a backend's process is gone: asked of its address, for all who want to know at once.
//!
//! What a dead process had in flight is sent elsewhere, however much it is, and only a connection that
//! is refused tells a dead one from one that ends its requests. But where a pool in trouble breaks
//! every request, a connection for each that the budget denies a retry would be the load that the
//! budget is there to keep away. So there is one look at a time, and not more than one in
//! [`SPACING`]. Whoever asks gets what was seen after it asked: of what was seen before, nobody knows
//! whether it was before the end.
//!
//! And a process that has ended once more within [`REST`] is one that its requests end: to send these
//! on to the others, without a budget, would end them too.

use std::{cell::Cell, time::Duration};

use tokio::{sync::Mutex, time::Instant};

/// Between two looks: twenty a second from each worker, which no backend feels. An error that is
/// nobody's to make good comes so much later at most.
const SPACING: Duration = Duration::from_millis(50);

/// What was in flight at an end breaks with it; whatever is asked for this much later broke at
/// another one. Longer than a request waits for its look.
const ONE_END: Duration = Duration::from_secs(1);

/// Between two ends that have nothing to do with each other. As long as the budget looks back, so
/// that requests that end whoever gets them are soon sent again within the budget only.
const REST: Duration = Duration::from_secs(10);

/// What is known of one backend.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// When its process was first seen to have ended, of the latest time, and when last.
    ended: Cell<Option<(Instant, Instant)>>,
    /// When the latest look began, and whether nobody was there.
    latest: Cell<Option<(Instant, bool)>>,
    /// Held by whoever looks, or is about to.
    looking: Mutex<()>,
}

impl Gone {
    /// Whether the process has ended by now, and had not done so shortly before. What is not known
    /// in `time` is no.
    pub(crate) async fn ask(&self, time: Duration, look: impl AsyncFnOnce() -> bool) -> bool {
        self.has_ended(time, look).await && self.is_first_end(Instant::now())
    }

    fn is_first_end(&self, now: Instant) -> bool {
        let (first, is_first) = match self.ended.get() {
            Some((first, _)) if now < first + ONE_END => (first, true),
            Some((first, last)) if now < last + REST => (first, false),
            _ => (now, true),
        };
        self.ended.set(Some((first, now)));
        is_first
    }

    async fn has_ended(&self, time: Duration, look: impl AsyncFnOnce() -> bool) -> bool {
        let asked = Instant::now();
        let answer = async {
            let _looking = self.looking.lock().await;
            if let Some((began, is_gone)) = self.latest.get() {
                if began >= asked {
                    return is_gone;
                }
                tokio::time::sleep_until(began + SPACING).await;
            }
            let began = Instant::now();
            let is_gone = look().await;
            self.latest.set(Some((began, is_gone)));
            is_gone
        };
        tokio::time::timeout(time, answer).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    /// Asks `askers` at once, `rounds` times in a row, of a look that takes so long. How many looks it
    /// took, and the time.
    async fn looks(askers: usize, rounds: usize, takes: Duration) -> (usize, Duration) {
        let (gone, count, start) = (Gone::default(), Cell::new(0), Instant::now());
        for _ in 0..rounds {
            let ask = || {
                gone.ask(LONG, async || {
                    count.set(count.get() + 1);
                    tokio::time::sleep(takes).await;
                    true
                })
            };
            let answers = join_all((0..askers).map(|_| ask())).await;
            assert!(answers.into_iter().all(|is_gone| is_gone));
        }
        (count.get(), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_at_once_share_a_look_and_looks_have_time_between_them() {
        let short = Duration::from_millis(1);
        assert_eq!(looks(100, 1, short).await, (1, short));
        assert_eq!(looks(100, 5, short).await, (5, SPACING * 4 + short));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_before_somebody_asked_is_no_answer() {
        let gone = Gone::default();
        let first = gone.ask(LONG, async || {
            tokio::time::sleep(SPACING / 5).await;
            false
        });
        let second = async {
            // The look of the first has begun, and the process ends now.
            tokio::time::sleep(SPACING / 10).await;
            gone.ask(LONG, async || true).await
        };
        assert_eq!(tokio::join!(first, second), (false, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_does_not_answer_holds_nobody_up_for_longer_than_the_time() {
        let (gone, start) = (Gone::default(), Instant::now());
        let asks = (0..3).map(|_| gone.ask(LONG, std::future::pending));
        assert_eq!(join_all(asks).await, [false; 3]);
        assert_eq!(start.elapsed(), LONG);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_ends_again_and_again_is_one_that_its_requests_end() {
        let gone = Gone::default();
        let ask = async || gone.ask(LONG, async || true).await;
        assert!(ask().await && ask().await, "all that was in flight");
        for _ in 0..20 {
            tokio::time::sleep(REST / 5).await;
            assert!(!ask().await, "though the first time is long ago, the last is not");
        }
        tokio::time::sleep(REST).await;
        assert!(ask().await);
        tokio::time::sleep(SPACING).await;
        assert!(!gone.ask(LONG, async || false).await);
    }
}
