//! Stopping without a failed request, and without a sleep in a hook.
//!
//! At SIGTERM a service turns not ready at once but goes on serving, because whoever routes to it
//! (kube-proxy, a load balancer in front, DNS) needs time to notice. It answers with
//! `Connection: close`, and once no *new* request has come for a quiet while, or a maximum has
//! passed, it stops accepting, finishes what is in flight, and exits with 0. A fixed sleep instead
//! is too long when nobody routes here and too short when somebody still does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{settings::Mistakes, units};

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM: wait until nobody sends anything any more.
    Graceful,
    /// Ctrl-C: somebody waits at the terminal; finish what is in flight and leave.
    Prompt,
}

/// How long the steps of a stop may take.
#[derive(Clone, Copy, Debug)]
pub struct StopPlan {
    /// Stop accepting after this long without a new request.
    pub quiet: Duration,
    /// Stop accepting after this long in any case.
    pub max: Duration,
}

impl StopPlan {
    /// What requests in flight get beyond `max`. With the default of 25 s the whole stop ends
    /// before the 30 s after which Kubernetes and our Compose file kill.
    pub const FINISH: Duration = Duration::from_secs(3);

    /// Parses `<prefix>stop_quiet` and `<prefix>stop_max`. Being quiet for longer than the whole
    /// stop may take could never come about.
    pub fn parse(prefix: &str, quiet: &str, max: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let (quiet_name, max_name) = (format!("{prefix}stop_quiet"), format!("{prefix}stop_max"));
        let quiet_time = mistakes.parse(&quiet_name, quiet, units::duration);
        let max_time = mistakes.parse(&max_name, max, units::duration);
        let plan = Self { quiet: quiet_time?, max: max_time? };
        if plan.quiet > plan.max {
            let expected = format!("at most {}, which is {max}", max_name.to_uppercase());
            mistakes.note(&quiet_name, quiet, expected);
            return None;
        }
        Some(plan)
    }
}

/// Asks for a stop. Dropping it asks for nothing.
#[derive(Clone, Debug)]
pub struct Trigger(Arc<watch::Sender<Option<Stop>>>);

/// Tells whether a stop was asked for.
#[derive(Clone, Debug)]
pub struct Shutdown {
    receiver: watch::Receiver<Option<Stop>>,
    // Without a sender the channel would count as closed; a dropped trigger is not a stop.
    _keep: Arc<watch::Sender<Option<Stop>>>,
}

/// A trigger and what it triggers.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(None);
    let sender = Arc::new(sender);
    (Trigger(Arc::clone(&sender)), Shutdown { receiver, _keep: sender })
}

impl Trigger {
    /// Asks for a stop. The first call counts.
    pub fn stop(&self, stop: Stop) {
        self.0.send_if_modified(|state| {
            let first = state.is_none();
            state.get_or_insert(stop);
            first
        });
    }

    /// Listens for signals on a thread of its own, for services that have no runtime yet or must
    /// not depend on one that is busy.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn on_signals_in_background(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let listen = move || {
            if let Err(error) = runtime.block_on(self.on_signals()) {
                tracing::error!(%error, "signals are not heard: only a kill can stop this process");
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop)
    }

    /// Waits for SIGTERM or SIGINT and triggers; a second signal ends the process at once, for
    /// whoever does not want to wait.
    ///
    /// # Errors
    /// The system refused to register a signal handler.
    pub async fn on_signals(self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        const EXIT_INTERRUPTED: i32 = 130;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = tokio::select! {
            _ = terminate.recv() => Stop::Graceful,
            _ = interrupt.recv() => Stop::Prompt,
        };
        tracing::info!(?stop, "stopping");
        self.stop(stop);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(EXIT_INTERRUPTED)
    }
}

impl Shutdown {
    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.receiver.borrow().is_some()
    }

    /// Waits until a stop is asked for.
    pub async fn requested(&self) -> Stop {
        let mut receiver = self.receiver.clone();
        let state = receiver.wait_for(Option::is_some).await;
        state.ok().and_then(|state| *state).unwrap_or(Stop::Graceful)
    }

    /// Waits until a stop is asked for and the quiet phase is over: the moment to stop accepting.
    ///
    /// `requests` counts the requests so far.
    pub async fn quiet(&self, plan: StopPlan, requests: impl Fn() -> u64) {
        if self.requested().await == Stop::Prompt {
            return;
        }
        // Ten looks per quiet phase end it at most a tenth late.
        let tick = (plan.quiet / 10).max(Duration::from_millis(1));
        let end = Instant::now() + plan.max;
        let mut seen = requests();
        let mut since = Instant::now();
        while since.elapsed() < plan.quiet && Instant::now() < end {
            tokio::time::sleep(tick).await;
            let count = requests();
            if count != seen {
                (seen, since) = (count, Instant::now());
            }
        }
    }
}

/// Counts requests, so that a stop can tell when no new ones come.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<AtomicU64>);

impl Activity {
    /// Notes a new request.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: StopPlan = StopPlan { quiet: Duration::from_secs(2), max: Duration::from_secs(25) };

    async fn time_to_quiet(stop: Stop, request_every: Option<Duration>) -> Duration {
        let (trigger, shutdown) = channel();
        let activity = Activity::default();
        let requests = activity.clone();
        let traffic = tokio::spawn(async move {
            if let Some(every) = request_every {
                loop {
                    tokio::time::sleep(every).await;
                    requests.note();
                }
            }
        });
        trigger.stop(stop);
        let start = Instant::now();
        shutdown.quiet(PLAN, || activity.count()).await;
        traffic.abort();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn without_requests_accepting_stops_after_the_quiet_time() {
        let time = time_to_quiet(Stop::Graceful, None).await;
        assert!(time >= PLAN.quiet && time < PLAN.quiet * 2, "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn with_steady_requests_accepting_stops_at_the_maximum() {
        let time = time_to_quiet(Stop::Graceful, Some(Duration::from_secs(1))).await;
        assert!(time >= PLAN.max && time < PLAN.max + PLAN.quiet, "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn at_ctrl_c_nobody_waits_for_quiet() {
        assert_eq!(time_to_quiet(Stop::Prompt, None).await, Duration::ZERO);
    }

    #[test]
    fn a_quiet_time_longer_than_the_whole_stop_is_refused() {
        let parse = |quiet, max| {
            let mut mistakes = Mistakes::default();
            let plan = StopPlan::parse("x_", quiet, max, &mut mistakes);
            (plan.is_some(), mistakes.into_vec())
        };
        assert_eq!(parse("2s", "2s"), (true, Vec::new()));
        let (is_good, mistakes) = parse("3s", "2s");
        assert!(!is_good);
        assert_eq!(
            mistakes[0].to_string(),
            "X_STOP_QUIET=\"3s\": expected at most X_STOP_MAX, which is 2s"
        );
        assert_eq!(parse("soon", "later").1.len(), 2, "both mistakes are told");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_stop_counts() {
        let (trigger, shutdown) = channel();
        trigger.stop(Stop::Prompt);
        trigger.stop(Stop::Graceful);
        assert_eq!(shutdown.requested().await, Stop::Prompt);
    }
}
