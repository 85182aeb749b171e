//! The load balancer: the I/O shell around the pure core of `balance`.
//!
//! [`run`] starts the parts and is the place to begin reading; `forward` is the life of one
//! request. Workers serve traffic; the calling thread serves the admin port and owns discovery,
//! probes and the pool.

mod accept;
mod admin;
mod announced;
mod audit;
mod back_off;
mod body;
mod bootstrap;
mod buffered;
mod client;
mod clock;
mod connect;
mod connection;
mod control;
mod cookies;
mod decisions;
mod discovery;
mod error;
mod events;
mod exchange;
mod fence;
mod fields;
pub mod floor;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod gone;
mod guests;
pub mod hash_key;
mod headers;
mod history;
mod http1;
mod http2;
mod idle_limit;
mod latency;
mod limits;
mod max_forwards;
mod metrics;
mod multiplexed;
mod numbers;
mod pace;
mod paths;
mod patience;
mod pipe;
mod probe;
mod queue;
mod retry;
mod saving;
mod sending;
pub mod settings;
pub mod source;
mod state_file;
mod stats;
mod sticky;
mod traffic;
mod tunnel;
mod upstream;
mod websocket;
mod worker;

use std::{net::TcpListener, sync::Arc, thread::JoinHandle, time::Duration};

use balance::{Picker, Pool, ProbePlan, RetryBudget};
use chassis::{
    net::{self, BindError},
    observe, serve,
    shutdown::{Shutdown, Stop, StopPlan},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    accept::Acceptor,
    admin::Admin,
    audit::Audit,
    clock::Clock,
    control::{Control, Inbox, POOL},
    decisions::Decisions,
    fence::Fence,
    history::History,
    metrics::ProxyCollector,
    probe::{ProbeCounts, Probing},
    settings::{ProbeKind, Settings},
    state_file::StateFile,
    stats::Stats,
    traffic::Sampler,
    worker::{Shared, Stage, Worker},
};

/// Between probes of a backend whose health is changing: three failures are then seen within
/// 1.5 s, while a settled backend is left in peace.
const TRANSITION_INTERVAL: Duration = Duration::from_millis(500);

/// The sockets that a proxy serves.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub traffic: TcpListener,
    /// For operators, probes and Prometheus.
    pub admin: TcpListener,
}

impl Listeners {
    /// Opens the ports that the settings name.
    ///
    /// # Errors
    /// A port that cannot be opened, with its setting's name.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        Ok(Self {
            traffic: net::bind("PROXY_PORT", settings.bind, settings.port)?,
            admin: net::bind("PROXY_ADMIN_PORT", settings.admin_bind, settings.admin_port)?,
        })
    }
}

/// Runs a proxy until a stop is asked for and done. It takes this thread for the admin side and
/// starts one per worker.
///
/// # Errors
/// The system refused a thread, a runtime or the use of a listener, or the token's file.
pub fn run(listeners: Listeners, settings: Settings, shutdown: Shutdown) -> std::io::Result<()> {
    let settings = Arc::new(settings.make_token()?);
    let audit = Arc::new(Audit::open(settings.audit_log.as_deref())?);
    let clock = Clock::start();
    let mut pool = Pool::new(POOL, settings.policy, probe_plan(&settings), fastrand::u64(..))
        .with_hash_key(&settings.hash_key.to_string())
        .with_ejection(settings.ejecting.plan.clone())
        .with_degraded_time(settings.degrading.time)
        .with_slow_start(settings.slow_start)
        .with_tier_least(settings.tier_min.get())
        .with_last_resort(settings.queue.last_resort)
        .with_max_in_flight(settings.max_in_flight);
    if let Some(sticky) = &settings.sticky {
        pool = pool.with_tags(sticky::tagger(sticky, POOL)?).with_visitor_idle(sticky.idle);
    }
    let pickers: Vec<Picker> = (0..settings.workers).map(|_| pool.picker()).collect();
    let state_file = settings.state_file.as_deref().map(|path| StateFile::new(path, clock));
    let (control, reports, inbox) = Control::new(pool, clock, state_file);
    let stats = Arc::new(Stats::bounded(settings.workers, settings.limits.buffered_bytes));
    let (stage, stage_receiver) = watch::channel(Stage::Serving);
    let (time_is_up, time_is_up_receiver) = watch::channel(false);
    let budget = Arc::new(RetryBudget::new(settings.retry_budget.get()));
    let (decisions, records) = Decisions::new(settings.decisions);
    let shared = Shared {
        settings: Arc::clone(&settings),
        stats: Arc::clone(&stats),
        budget,
        clock,
        reports,
        decisions: Arc::clone(&decisions),
        stage: stage_receiver.clone(),
        end_tunnels: control.end_tunnels.subscribe(),
    };
    // Hears of a worker that ends by itself.
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let (fence, fences) = Fence::new(settings.workers);
    let Listeners { traffic, admin } = listeners;
    let (address, admin_address) = (traffic.local_addr()?, admin.local_addr()?);
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..settings.workers).map(|_| mpsc::unbounded_channel()).unzip();
    let acceptor = Acceptor::new(traffic, senders, &settings, &stats, &stage_receiver)?;
    let (mut acceptor, mut threads) = (Some(acceptor), Vec::new());
    for (index, ((picker, fences), accepted)) in
        pickers.into_iter().zip(fences).zip(receivers).enumerate()
    {
        let (acceptor, time_is_up) = (acceptor.take(), time_is_up_receiver.clone());
        let inbox = worker::Inbox { acceptor, accepted, fences, time_is_up };
        threads.push(start_worker(index, picker, shared.clone(), inbox, alive.clone())?);
    }
    drop(alive);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let of_workers = OfWorkers { fence, decisions, records };
        let listener = (admin, audit);
        start_control(&control, &stats, &settings, listener, of_workers, &shutdown, inbox)?;
        tracing::info!(%address, %admin_address, workers = settings.workers, "proxy started");
        let kind = tokio::select! {
            kind = shutdown.requested() => kind,
            // Clients given to a worker that is gone would wait for good: better to start anew.
            _ = ended.recv() => {
                return Err(std::io::Error::other("a worker has ended by itself"));
            }
        };
        stop(kind, &shutdown, settings.stop, &control, &stage, &time_is_up, threads).await
    });
    // Look-ups that hang in the system's resolver must not hold up the end.
    runtime.shutdown_background();
    tracing::info!("proxy stopped");
    result
}

fn start_worker(
    index: usize,
    picker: Picker,
    shared: Shared,
    inbox: worker::Inbox,
    alive: mpsc::Sender<()>,
) -> std::io::Result<JoinHandle<std::io::Result<()>>> {
    let work = move || {
        let _alive = Alive(alive);
        let worker = move || Worker::new(index, picker, shared);
        worker::run(worker, inbox)
    };
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(work)
}

/// Says so when a worker ends, a panic included.
struct Alive(mpsc::Sender<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        // Full only if another one said so before.
        let _ = self.0.try_send(());
    }
}

/// What the admin side has of the workers, beside their numbers.
struct OfWorkers {
    fence: Fence,
    decisions: Arc<Decisions>,
    records: mpsc::Receiver<decisions::Record>,
}

/// Starts discovery, probes, sampling and the admin port on the current runtime.
fn start_control(
    control: &Arc<Control>,
    stats: &Arc<Stats>,
    settings: &Arc<Settings>,
    (listener, audit): (TcpListener, Arc<Audit>),
    of_workers: OfWorkers,
    shutdown: &Shutdown,
    inbox: Inbox,
) -> std::io::Result<()> {
    let sampler = Arc::new(Sampler::default());
    let history = Arc::new(History::new());
    let probes = Arc::new(ProbeCounts::default());
    let registry = chassis::metrics::registry("proxy");
    let collector = ProxyCollector {
        control: Arc::clone(control),
        stats: Arc::clone(stats),
        probes: Arc::clone(&probes),
    };
    registry.register(Box::new(collector)).map_err(std::io::Error::other)?;
    let OfWorkers { fence, decisions, records } = of_workers;
    let admin = Admin {
        control: Arc::clone(control),
        sampler: Arc::clone(&sampler),
        history: Arc::clone(&history),
        settings: Arc::clone(settings),
        fence,
        idempotency: Arc::default(),
        decisions: Arc::clone(&decisions),
        audit: Arc::clone(&audit),
        attempts: Arc::default(),
        shutdown: shutdown.clone(),
    };
    let ready = admin.clone();
    let observed = observe::routes(registry, shutdown.clone(), Arc::new(move || ready.not_ready()));
    let router = admin::routes(admin).merge(observed);
    let inbox_control = Arc::clone(control);
    tokio::spawn(control::drive(inbox_control, inbox.reports));
    tokio::spawn(probe::run(Arc::clone(control), Probing::new(settings), probes, inbox.probes));
    tokio::spawn(audit::follow(audit, Arc::clone(control)));
    let explain = decisions::run(decisions, records, Arc::clone(control));
    tokio::spawn(explain);
    tokio::spawn(discovery::run(Arc::clone(control), settings.discovering.clone()));
    tokio::spawn(traffic::run(sampler, Arc::clone(stats), Arc::clone(control), history));
    // The admin port outlives the workers: it ends with the process.
    let (_, never) = chassis::shutdown::channel();
    let plan = settings.stop;
    tokio::spawn(async move {
        if let Err(error) = serve::serve(listener, router, never, plan).await {
            tracing::error!(%error, "the admin port is gone");
        }
    });
    Ok(())
}

/// Goes through the steps of a stop.
async fn stop(
    kind: Stop,
    shutdown: &Shutdown,
    plan: StopPlan,
    control: &Control,
    stage: &watch::Sender<Stage>,
    time_is_up: &watch::Sender<bool>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
) -> std::io::Result<()> {
    let deadline = Instant::now() + plan.max + StopPlan::FINISH;
    stage.send_replace(Stage::Draining);
    shutdown.quiet(plan, || control.read(Pool::picks)).await;
    stage.send_replace(match kind {
        Stop::Graceful => Stage::Finishing,
        Stop::Prompt => Stage::Leaving,
    });
    tracing::info!("no longer accepting connections; finishing what is in flight");
    let ended = tokio::task::spawn_blocking(move || {
        threads.into_iter().map(JoinHandle::join).collect::<Vec<_>>()
    });
    let results = by(deadline, ended, (stage, time_is_up)).await;
    for result in results.map_err(std::io::Error::other)? {
        result.map_err(|_| std::io::Error::other("a thread ended by a panic"))??;
    }
    Ok(())
}

/// Waits until all has ended, which at the deadline has to. Tunnels say their good-byes before it.
async fn by<T>(
    deadline: Instant,
    ended: impl Future<Output = T>,
    (stage, time_is_up): (&watch::Sender<Stage>, &watch::Sender<bool>),
) -> T {
    let mut ended = std::pin::pin!(ended);
    if let Ok(results) = tokio::time::timeout_at(deadline - tunnel::GOOD_BYE, &mut ended).await {
        return results;
    }
    stage.send_replace(Stage::Leaving);
    if let Ok(results) = tokio::time::timeout_at(deadline, &mut ended).await {
        return results;
    }
    time_is_up.send_replace(true);
    ended.await
}

fn probe_plan(settings: &Settings) -> ProbePlan {
    let probe = &settings.probe;
    ProbePlan {
        enabled: probe.kind != ProbeKind::Off,
        interval: probe.interval,
        transition_interval: TRANSITION_INTERVAL.min(probe.interval),
        // Twice what a probe may take, and more than a busy admin thread is ever late.
        give_up: probe.timeout * 2 + Duration::from_secs(1),
        fall: probe.fall,
        rise: probe.rise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_not_ended_by_the_end_of_a_stop_is_told_so_and_then_waited_for() {
        use Stage::{Finishing, Leaving};
        let limit = Duration::from_secs(28);
        for (takes, expected) in
            [(26, (Finishing, false)), (27, (Leaving, false)), (29, (Leaving, true))]
        {
            let (time_is_up, mut is_up) = watch::channel(false);
            let (stage, _) = watch::channel(Finishing);
            let takes = Duration::from_millis(takes * 1_000 + 500);
            let start = Instant::now();
            let ended = async {
                tokio::select! {
                    () = tokio::time::sleep(takes) => {}
                    _ = is_up.wait_for(|is_up| *is_up) => {}
                }
            };
            by(start + limit, ended, (&stage, &time_is_up)).await;
            let told = (*stage.borrow(), *time_is_up.borrow());
            assert_eq!((start.elapsed(), told), (takes.min(limit), expected));
        }
    }
}
