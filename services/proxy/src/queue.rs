//! Waiting for a backend with room, or for any while nobody can serve, in the line that all workers
//! share.
//!
//! The two have a limit of time each, and a request may come from one to the other, and more than once,
//! as its pool does. It waits no longer than the longer of the two in all, whatever it waits for.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use balance::{NoBackend, Ticket};
use tokio::time::{Instant, timeout_at};

use crate::{error::Reason, settings, worker::Worker};

/// How often a request looks for room that waits beside the line: often enough beside the time that
/// a request takes, and too seldom to cost anything.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long one request has waited.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waited {
    /// In line.
    in_line: Duration,
    /// Since when it has waited for anybody to serve it, if it has; what it waited in line before
    /// counts as well.
    since: Option<Instant>,
}

impl Waited {
    /// For how long it has waited for anybody; none if it has not.
    pub(crate) fn for_anybody(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    /// Notes that it waits for anybody, if it does not yet, in a wait that began at this time.
    pub(crate) fn begin_for_anybody(&mut self, start: Instant) {
        self.since.get_or_insert_with(|| start.checked_sub(self.in_line).unwrap_or(start));
    }
}

/// What a request in line waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// Room: somebody serves.
    Room,
    /// Somebody who serves.
    Anybody,
    /// Nothing: nobody serves, and nobody is about to.
    Nothing,
}

impl For {
    fn now(worker: &Worker) -> Self {
        let mut picker = worker.picker.borrow_mut();
        match picker.is_awaiting() {
            true => Self::Anybody,
            false if picker.has_members() => Self::Room,
            false => Self::Nothing,
        }
    }
}

/// Waits in line until `pick` finds something else than that all are full or somebody is awaited. A
/// client that leaves gives its place up, because the future is dropped then. Where there is room that
/// only others can use, the request goes on waiting beside the line: in it, it would keep them from it.
///
/// # Errors
/// The line is too long, or it took too long.
pub(crate) async fn wait(
    worker: &Worker,
    waited: &mut Waited,
    mut pick: impl FnMut() -> Result<Ticket, NoBackend>,
) -> Result<Result<Ticket, NoBackend>, Reason> {
    let settings = &worker.settings.queue;
    let queue = worker.picker.borrow().queue().clone();
    let place = queue.enter(settings.max).ok_or(Reason::QueueFull)?;
    let start = Instant::now();
    let turn = pin!(async {
        let in_line = poll_fn(|context| {
            // Its waker is left before it looks: room that comes after the look wakes it.
            if !place.is_first(context.waker()) {
                return Poll::Pending;
            }
            match pick() {
                Err(NoBackend::AllFull | NoBackend::Awaited) => Poll::Pending,
                picked => Poll::Ready(picked),
            }
        });
        let mut picked = in_line.await;
        drop(place);
        while let Err(NoBackend::OthersFull | NoBackend::AllFull | NoBackend::Awaited) = picked {
            tokio::time::sleep(LOOK_EVERY).await;
            picked = pick();
        }
        picked
    });
    let picked = within(settings, waited, || For::now(worker), turn).await;
    worker.gauges.record_queued(start.elapsed());
    picked
}

/// Waits for a turn as long as what `wants` says at the time may be waited for.
async fn within<T>(
    settings: &settings::Queue,
    waited: &mut Waited,
    mut wants: impl FnMut() -> For,
    mut turn: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Reason> {
    let start = Instant::now();
    let for_room = start + settings.timeout.saturating_sub(waited.in_line);
    let mut end_of = |wanted| {
        if wanted == For::Anybody {
            waited.begin_for_anybody(start);
        }
        let for_anybody = waited.since.map(|since| since + settings.last_resort);
        match wanted {
            For::Anybody => for_anybody.unwrap_or(start),
            // Who had time for more is not to have less because somebody serves again.
            For::Room | For::Nothing => for_anybody.map_or(for_room, |end| end.max(for_room)),
        }
    };
    let mut end = end_of(wants());
    let result = loop {
        if let Ok(picked) = timeout_at(end, turn.as_mut()).await {
            break Ok(picked);
        }
        // What it waits for may have changed meanwhile, and with it for how long it may.
        let wanted = wants();
        let later = end_of(wanted);
        if later <= Instant::now() {
            let is_full = wanted == For::Room;
            break Err(if is_full { Reason::QueueTimeout } else { Reason::NoBackend });
        }
        end = later;
    };
    waited.in_line += start.elapsed();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Duration = Duration::from_secs(1);
    const ANYBODY: Duration = Duration::from_secs(3);

    fn settings(timeout: Duration, last_resort: Duration) -> settings::Queue {
        settings::Queue { max: 9, timeout, last_resort }
    }

    /// What one wait sees, from so many milliseconds after its beginning, and after how many it gets
    /// its turn, if it does.
    type Wait<'a> = (&'a [(u64, For)], Option<u64>);

    /// How long waits take in all, and how the last one ends.
    async fn waits(
        (timeout, last_resort): (Duration, Duration),
        waits: &[Wait<'_>],
    ) -> (Duration, Result<(), Reason>) {
        let (settings, mut waited) = (settings(timeout, last_resort), Waited::default());
        let (first, mut last) = (Instant::now(), Ok(()));
        for (sees, turn) in waits {
            let start = Instant::now();
            let wants = || {
                let now = start.elapsed().as_millis() as u64;
                sees.iter().rev().find(|(from, _)| *from <= now).unwrap().1
            };
            let turn = pin!(async {
                match turn {
                    Some(after) => tokio::time::sleep(Duration::from_millis(*after)).await,
                    None => std::future::pending().await,
                }
            });
            last = within(&settings, &mut waited, wants, turn).await;
        }
        (first.elapsed(), last)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_no_longer_than_the_longer_limit_whatever_it_waits_for() {
        use For::{Anybody, Nothing, Room};
        let (usual, other) = ((ROOM, ANYBODY), (ANYBODY, ROOM));
        let (full, gone) = (Err(Reason::QueueTimeout), Err(Reason::NoBackend));
        type Case<'a> = (&'a [Wait<'a>], (u64, Result<(), Reason>));
        let cases: [((Duration, Duration), Case<'_>); 13] = [
            // One wait for one thing.
            (usual, (&[(&[(0, Room)], None)], (1_000, full))),
            (usual, (&[(&[(0, Room)], Some(400))], (400, Ok(())))),
            (usual, (&[(&[(0, Anybody)], None)], (3_000, gone))),
            (usual, (&[(&[(0, Nothing)], None)], (1_000, gone))),
            // The pool recovers while it waits, and is full.
            (usual, (&[(&[(0, Anybody), (2_900, Room)], None)], (3_000, full))),
            (other, (&[(&[(0, Anybody), (900, Room)], None)], (3_000, full))),
            (other, (&[(&[(0, Anybody), (900, Room)], Some(2_500))], (2_500, Ok(())))),
            // It dies while it waits.
            (usual, (&[(&[(0, Room), (900, Anybody)], None)], (3_000, gone))),
            (other, (&[(&[(0, Room), (900, Anybody)], None)], (3_000, gone))),
            // It recovers, the request has its turn in vain, and waits again: for room, for anybody.
            (usual, (&[(&[(0, Anybody)], Some(2_500)), (&[(0, Room)], None)], (3_000, full))),
            (usual, (&[(&[(0, Room)], Some(900)), (&[(0, Anybody)], None)], (3_000, gone))),
            (usual, (&[(&[(0, Room)], Some(900)), (&[(0, Room)], None)], (1_000, full))),
            (
                usual,
                (
                    &[(&[(0, Room), (500, Anybody)], Some(2_500)), (&[(0, Anybody)], None)],
                    (3_000, gone),
                ),
            ),
        ];
        for (limits, (script, (millis, result))) in cases {
            let expected = (Duration::from_millis(millis), result);
            assert_eq!(waits(limits, script).await, expected, "{limits:?} {script:?}");
        }
    }
}
