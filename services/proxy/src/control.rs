//! The control side: owns the pool, drives its deadlines, and carries out its effects.
//!
//! All of it lives on the admin thread. Workers never touch the pool: they pick from published
//! snapshots and send the rare failure that says something of a backend's health over a channel.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use balance::{AttemptFailure, BackendId, Effect, Event, EventKind, Pool, ProbeOrder, Time};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    clock::Clock,
    events::Events,
    saving::{News, Saving},
    state_file::{Standing, StateFile},
};

/// The only pool so far.
pub(crate) const POOL: &str = "default";

/// Reports that may wait to be told to the pool. When more come at once they are dropped: the
/// first few of a burst say all there is to say.
const REPORTS_WAITING: usize = 1024;

/// Between two looks at what is due, for each backend. A look goes over all of them, and each probe
/// would bring two: a thousand a second of a thousand backends.
const SPACING: Duration = Duration::from_micros(20);

/// The longest time between two looks. Nothing that is due by the pool's clock is told to the
/// millisecond, but people wait for some of it.
const SPACING_MAX: Duration = Duration::from_millis(100);

/// What a worker reports of a backend.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) id: BackendId,
    pub(crate) generation: u64,
    pub(crate) seen: Seen,
}

/// What a worker saw.
#[derive(Debug)]
pub(crate) enum Seen {
    /// An attempt failed.
    Failure(AttemptFailure),
    /// A response asks to spare the backend, with this reason.
    Degraded(String),
}

/// The pool with its clock and what happens around it.
#[derive(Debug)]
pub(crate) struct Control {
    // A std mutex: the pool does no I/O and never waits. Only the admin thread takes it.
    pool: Mutex<Pool>,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    deadline_changed: Notify,
    /// Asks discovery for a look-up now.
    pub(crate) discover: Notify,
    probes: mpsc::UnboundedSender<ProbeOrder>,
    pub(crate) saving: Saving,
    /// Has tunnels look whether they must end.
    pub(crate) end_tunnels: watch::Sender<()>,
}

/// The receiving ends that [`drive`] and the prober work from.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) reports: mpsc::Receiver<Report>,
    /// Unbounded, because the pool orders at most one probe per backend at a time.
    pub(crate) probes: mpsc::UnboundedReceiver<ProbeOrder>,
}

impl Control {
    pub(crate) fn new(
        pool: Pool,
        clock: Clock,
        state_file: Option<StateFile>,
    ) -> (Arc<Self>, mpsc::Sender<Report>, Inbox) {
        let (report_sender, reports) = mpsc::channel(REPORTS_WAITING);
        let (probe_sender, probes) = mpsc::unbounded_channel();
        let control = Arc::new(Self {
            pool: Mutex::new(pool),
            clock,
            events: Events::new(clock),
            deadline_changed: Notify::new(),
            discover: Notify::new(),
            probes: probe_sender,
            saving: Saving::new(state_file),
            end_tunnels: watch::Sender::new(()),
        });
        control.restore_intents();
        (control, report_sender, Inbox { reports, probes })
    }

    /// Applies an event to the pool, and its effects to the world.
    pub(crate) fn apply<T>(&self, event: impl FnOnce(&mut Pool, Time) -> T) -> T {
        let answer = self.step(event);
        self.deadline_changed.notify_one();
        answer
    }

    /// Reads the pool.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Pool) -> T) -> T {
        look(&self.pool.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn step<T>(&self, event: impl FnOnce(&mut Pool, Time) -> T) -> T {
        let (answer, effects) = {
            let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            pool.catch_up(now);
            let answer = event(&mut pool, now);
            (answer, pool.take_effects())
        };
        for effect in effects {
            match effect {
                // Fails only when the prober has ended, at the end of the process.
                Effect::Probe(order) => drop(self.probes.send(order)),
                Effect::Discover => self.discover.notify_one(),
                Effect::Event(event) => self.events.add(POOL, event),
                Effect::KeepIntents => self.keep_intents(),
                Effect::EndTunnels => self.end_tunnels.send_replace(()),
            }
        }
        answer
    }

    fn take_in(&self, report: Report) {
        let Report { id, generation, seen } = report;
        self.step(|pool, now| match seen {
            Seen::Failure(failure) => pool.attempt_failed(&id, generation, failure, now),
            Seen::Degraded(reason) => pool.degraded(&id, generation, &reason, now),
        });
    }

    /// Takes up what operators wanted before this process.
    fn restore_intents(&self) {
        match self.saving.file().map(|file| file.load(POOL)) {
            None => {}
            Some(Ok(Standing { intents, policy })) => {
                self.step(|pool, now| {
                    pool.restore(intents, now);
                    pool.restore_policy(policy, now);
                });
                // A disk that cannot be written is better told now than with the first change.
                if let Some(News::Failed(why)) = self.save() {
                    self.tell_trouble(&why, "changes hold, and are lost with this process");
                }
            }
            Some(Err(why)) => self.tell_trouble(&why, "starting without what operators wanted"),
        }
    }

    /// Writes what operators want, before their change is answered: what was confirmed must not be
    /// lost, and if it could be, the answer says so.
    fn keep_intents(&self) {
        match self.save() {
            Some(News::Failed(why)) => {
                self.tell_trouble(&why, "the change holds, and is lost with this process");
            }
            Some(News::Recovered) => self.tell_recovery(),
            None => {}
        }
    }

    /// Tries to write what could not be written.
    fn keep_again(&self) {
        let before = self.saving.trouble();
        match self.save() {
            Some(News::Failed(why)) if before.as_ref() != Some(&why) => {
                self.tell_trouble(&why, "changes hold, and are lost with this process");
            }
            Some(News::Failed(_)) | None => {}
            Some(News::Recovered) => self.tell_recovery(),
        }
    }

    fn save(&self) -> Option<News> {
        let standing = self.read(|pool| Standing {
            intents: pool.standing_intents(),
            policy: pool.standing_policy().clone(),
        });
        self.saving.save(POOL, &standing)
    }

    fn tell_trouble(&self, why: &str, consequence: &str) {
        let message = format!("{why}; {consequence}");
        tracing::error!("{message}");
        self.tell(message);
    }

    fn tell_recovery(&self) {
        let message = "the state file can be written again: all changes outlive this process";
        self.tell(message.to_owned());
    }

    fn tell(&self, message: String) {
        let (at, kind) = (self.clock.now(), EventKind::Admin);
        self.events.add(POOL, Event { at, kind, backend: None, message, actor: None });
    }
}

/// Runs the pool's deadlines and takes in reports, until the process ends.
pub(crate) async fn drive(control: Arc<Control>, mut reports: mpsc::Receiver<Report>) {
    loop {
        control.step(|pool, now| pool.advance(now));
        let (deadline, size) =
            control.read(|pool| (pool.deadline(control.clock.now()), pool.size()));
        let soonest = Instant::now() + spacing(size);
        let mut due = deadline.map(|deadline| control.clock.instant(deadline).max(soonest));
        while due.is_none_or(|due| Instant::now() < due) {
            tokio::select! {
                () = until(due) => break,
                () = until(control.saving.again()) => control.keep_again(),
                () = control.deadline_changed.notified() => {}
                Some(report) = reports.recv() => control.take_in(report),
            }
            due = Some(soonest);
        }
    }
}

/// How much time has to pass between two looks at a pool of so many backends. Of a small one, none.
fn spacing(backends: usize) -> Duration {
    let spacing = SPACING.saturating_mul(u32::try_from(backends).unwrap_or(u32::MAX));
    // Less than a millisecond is more to a timer than it is here.
    Duration::from_millis(spacing.min(SPACING_MAX).as_millis() as u64)
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_pool_is_looked_at_at_once_and_a_large_one_now_and_then() {
        let spacings = [3, 49, 100, 1_000, 100_000].map(|size| spacing(size).as_millis());
        assert_eq!(spacings, [0, 0, 2, 20, 100]);
    }
}
