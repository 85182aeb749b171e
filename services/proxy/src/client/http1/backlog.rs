//! What of an answer its client has not taken, and what that says of the client.

use std::time::Duration;

use tokio::time::Instant;

use super::out::Out;
use crate::{
    body::ResponseBody,
    buffered::{MOST_BYTES, Waiting},
    client::activity::Activity,
    limits::Limit,
    pace::Pace,
    stats::Gauges,
};

/// What is gathered of an answer before it is written. More would wait in memory for a slow client.
const GATHERED_BYTES: usize = 64 * 1024;

/// A client that takes no longer than this to make room keeps up: the system only tells when much of
/// what it has is gone. Others gain nothing from large reads.
const KEEPS_UP: Duration = Duration::from_millis(100);

/// What of an answer waits for its client.
pub(super) struct Backlog<'a> {
    gauges: &'a Gauges,
    waiting: Waiting<&'a Gauges>,
    /// Since when the client takes nothing.
    since: Option<Instant>,
    /// How fast the client takes it, once it has made us wait.
    pace: Pace,
    /// What had been written when that was last looked at.
    seen: Option<u64>,
    /// Bytes a second that a client takes at least.
    rate_min: u32,
}

impl<'a> Backlog<'a> {
    pub(super) fn new(gauges: &'a Gauges, rate_min: u32) -> Self {
        let (waiting, pace) = (Waiting::new(gauges), Pace::default());
        Self { gauges, waiting, since: None, pace, seen: None, rate_min }
    }

    /// How much is gathered before it is written.
    pub(super) fn gathered(&self) -> usize {
        self.gauges.buffered.share().min(GATHERED_BYTES)
    }

    /// Notes whether all was taken that was to be written, or something is left in `out`. It may be for
    /// long: less is read of `body` at once, and where memory is tight, what was read with it goes.
    ///
    /// # Errors
    /// The client takes it too slowly. It has been counted.
    pub(super) fn note(
        &mut self,
        is_taken: bool,
        activity: &Activity,
        out: &mut Out,
        body: &mut ResponseBody,
    ) -> Result<(), TooSlow> {
        match self.since {
            None if is_taken => return Ok(()),
            None => {
                let now = Instant::now();
                self.since = Some(now);
                body.read_at_most(GATHERED_BYTES);
                if self.gauges.buffered.is_tight() {
                    out.compact();
                }
                self.look(out, now)?;
            }
            Some(since) if is_taken => {
                let now = Instant::now();
                self.since = None;
                self.pace.resume(now);
                if now - since < KEEPS_UP {
                    body.read_at_most(MOST_BYTES);
                } else {
                    out.refuse_pipe();
                }
            }
            Some(_) if self.seen != Some(out.written()) => self.look(out, activity.blocked_at())?,
            Some(_) => {}
        }
        let behind = if is_taken { 0 } else { body.may_have_come() };
        self.waiting.set(out.len() + behind);
        Ok(())
    }

    /// Looks whether the client is fast enough, which all that it had room for shows: something is
    /// left. With less, such as the end of a part, nothing is said of one that takes all there is.
    fn look(&mut self, out: &Out, now: Instant) -> Result<(), TooSlow> {
        // What the system took before the first wait, nobody may have taken of it.
        let taken = out.written() - self.seen.unwrap_or(out.written());
        self.seen = Some(out.written());
        let is_kept = self.pace.is_kept(taken as usize, now, self.rate_min);
        self.pace.wait(now);
        if is_kept {
            return Ok(());
        }
        self.gauges.limits.hit(Limit::DownloadRate);
        Err(TooSlow)
    }
}

/// A client that takes less than it has to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Waker},
    };

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;

    const RATE: u32 = 100;

    /// An answer's way to its client, as a connection goes it.
    struct Way {
        socket: DuplexStream,
        client: DuplexStream,
        activity: std::rc::Rc<Activity>,
        out: Out,
    }

    impl Way {
        /// With room for so many bytes.
        fn new(room: usize) -> Self {
            let (socket, client) = tokio::io::duplex(room);
            Self { socket, client, activity: Activity::new(), out: Out::default() }
        }

        /// Writes what the client has room for, and notes it.
        fn write(&mut self, backlog: &mut Backlog<'_>) -> Result<(), TooSlow> {
            let context = &mut Context::from_waker(Waker::noop());
            let mut is_taken = true;
            while is_taken && !self.out.is_empty() {
                is_taken = self.out.poll_write(Pin::new(&mut self.socket), context).is_ready();
                self.activity.wrote(!is_taken);
            }
            let mut body = ResponseBody::Own(None);
            backlog.note(is_taken, &self.activity, &mut self.out, &mut body)
        }

        /// The client takes so many bytes.
        async fn take(&mut self, bytes: usize) {
            self.client.read_exact(&mut vec![0; bytes]).await.unwrap();
        }
    }

    /// After how many seconds a client is too slow that takes so many bytes every so many seconds.
    async fn too_slow_after(bytes: usize, every: u64) -> Option<u64> {
        let gauges = Gauges::default();
        let (mut way, mut backlog) = (Way::new(2_000), Backlog::new(&gauges, RATE));
        way.out.push(Bytes::from(vec![0; 100_000]));
        let mut seconds = 0;
        while way.write(&mut backlog).is_ok() {
            if seconds > 300 {
                assert_eq!(gauges.limits.of(Limit::DownloadRate), 0);
                return None;
            }
            tokio::time::advance(Duration::from_secs(every)).await;
            seconds += every;
            way.take(bytes).await;
        }
        assert_eq!(gauges.limits.of(Limit::DownloadRate), 1);
        Some(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_hardly_takes_anything_is_too_slow_however_steady_it_is() {
        assert_eq!(too_slow_after(99, 1).await, Some(10));
        assert_eq!(too_slow_after(1, 1).await, Some(10));
        assert_eq!(too_slow_after(1_000, 12).await, Some(12));
        assert_eq!(too_slow_after(100, 1).await, None);
        assert_eq!(too_slow_after(1_500, 12).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_paused_and_then_takes_all_there_is_is_not_too_slow() {
        let gauges = Gauges::default();
        let (mut way, mut backlog) = (Way::new(1_000), Backlog::new(&gauges, RATE));
        for _ in 0..10 {
            // Little is left over, and more comes only when that is gone.
            way.out.push(Bytes::from(vec![0; 1_010]));
            assert_eq!(way.write(&mut backlog), Ok(()));
            tokio::time::advance(Duration::from_secs(9)).await;
            way.take(1_000).await;
            assert_eq!(way.write(&mut backlog), Ok(()));
            assert!(way.out.is_empty());
            way.take(10).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_backend_has_nothing_does_not_count() {
        let gauges = Gauges::default();
        let (mut way, mut backlog) = (Way::new(10), Backlog::new(&gauges, RATE));
        for _ in 0..100 {
            way.out.push(Bytes::from_static(b"an event or so"));
            assert_eq!(way.write(&mut backlog), Ok(()));
            way.take(10).await;
            assert_eq!(way.write(&mut backlog), Ok(()));
            way.take(4).await;
            tokio::time::advance(Duration::from_secs(60)).await;
        }
    }
}
