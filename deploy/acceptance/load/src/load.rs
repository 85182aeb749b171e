//! Many attempts at once, until time, number, a signal or a file says stop.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time,
};

use crate::{
    attempt::{Effort, Failure, Slot, Target},
    options::Options,
    tally::Tally,
};

/// How often to look for the stop file: a script that made it waits for our report.
const STOP_FILE_LOOK: Duration = Duration::from_millis(100);

/// How long a worker rests after a failure: a refused connection takes microseconds, and without
/// a pause a load would send little else than those while its target is away.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

/// What all workers share.
struct Load {
    targets: Vec<Target>,
    requests: u64,
    rate: Option<u32>,
    timeout: Duration,
    start: Instant,
    next: AtomicU64,
    stop: watch::Receiver<bool>,
    // Held for a few additions, never over an await.
    tally: Mutex<Tally>,
}

/// Runs a load to its end.
///
/// # Errors
/// The system refused to register a signal handler.
pub(crate) async fn run(options: Options) -> io::Result<Tally> {
    let start = Instant::now();
    let end = start + options.duration();
    let (stop, stop_receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (concurrency, progress) = (options.concurrency, options.progress);
    let stop_file = options.stop_file.clone();
    let load = Arc::new(Load::new(options, start, stop_receiver));

    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        workers.spawn(Arc::clone(&load).work());
    }
    if progress {
        tokio::spawn(Arc::clone(&load).report_progress());
    }
    tokio::select! {
        () = ended(&mut workers) => {}
        () = time::sleep_until(end.into()) => {}
        () = exists(stop_file) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // What is in flight ends by itself or by its timeout, and counts; after a second signal it is
    // left alone.
    stop.send_replace(true);
    tokio::select! {
        () = ended(&mut workers) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }

    let mut tally = load.tally();
    tally.finish();
    Ok(std::mem::replace(&mut *tally, Tally::new(start)))
}

async fn ended(workers: &mut JoinSet<()>) {
    while workers.join_next().await.is_some() {}
}

async fn exists(file: Option<PathBuf>) {
    let Some(file) = file else { return std::future::pending().await };
    while !file.exists() {
        time::sleep(STOP_FILE_LOOK).await;
    }
}

impl Load {
    fn new(options: Options, start: Instant, stop: watch::Receiver<bool>) -> Self {
        let keep = !options.new_connections;
        let method = options.method;
        let target = |uri| Target { uri, method: method.clone(), keep };
        Self {
            targets: options.urls.into_iter().map(target).collect(),
            requests: options.requests.unwrap_or(u64::MAX),
            rate: options.rate,
            timeout: options.timeout,
            start,
            next: AtomicU64::new(0),
            stop,
            tally: Mutex::new(Tally::new(start)),
        }
    }

    async fn work(self: Arc<Self>) {
        let mut slots: Vec<Slot> = self.targets.iter().map(|_| Slot::default()).collect();
        while let Some((index, due)) = self.next().await {
            let target = &self.targets[index];
            let mut effort = Effort::default();
            let attempt = slots[index].attempt(target, &mut effort);
            let result = time::timeout(self.timeout, attempt).await;
            let result = result.unwrap_or(Err(Failure::Timeout));
            let failed = result.is_err();
            self.tally().count(result, due.elapsed(), &effort);
            if failed {
                time::sleep(FAILURE_PAUSE).await;
            }
        }
    }

    /// The target of the next request and when it is due, at that time; `None` at the end.
    async fn next(&self) -> Option<(usize, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.requests {
            return None;
        }
        let mut due = Instant::now();
        if let Some(rate) = self.rate {
            due = self.start + Duration::from_secs_f64(number as f64 / f64::from(rate));
            let mut stop = self.stop.clone();
            tokio::select! {
                () = time::sleep_until(due.into()) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
        if *self.stop.borrow() {
            return None;
        }
        let index = number % self.targets.len() as u64;
        Some((usize::try_from(index).unwrap_or_default(), due))
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[allow(clippy::print_stderr)] // Asked for by --progress.
    async fn report_progress(self: Arc<Self>) {
        loop {
            time::sleep(Duration::from_secs(1)).await;
            eprintln!("{}", self.tally().progress());
        }
    }
}
