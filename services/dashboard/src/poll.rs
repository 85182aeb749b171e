//! The one task that asks the proxy, and the view that everything on the page is made from.
//!
//! One view per poll is published through a watch channel: a page or a live connection always
//! takes the newest, and a slow one cannot make anything pile up. When the proxy does not answer,
//! the last good picture stays in the view, together with what went wrong.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use chassis::shutdown::Shutdown;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    admin::{AdminApi, Fault},
    frame::Frame,
    history::History,
    metrics::Metrics,
    model::{Answer, Event},
    settings::TokenSource,
};

/// Events kept for the page; the proxy itself keeps a thousand.
const EVENTS_MOST: usize = 100;

/// Trouble shorter than this is not logged.
const LOG_AFTER: Duration = Duration::from_secs(2);

/// What is known at one moment.
pub(crate) struct View {
    /// The last good answer.
    pub(crate) picture: Option<Arc<Picture>>,
    /// Why the newest poll gave none.
    pub(crate) trouble: Option<Trouble>,
    /// When this view was made.
    pub(crate) at: Instant,
    /// Newest first, with the number of the proxy's run as the page saw it.
    pub(crate) events: Vec<(u32, Event)>,
    /// Why events could not be read although the rest could.
    pub(crate) events_error: Option<String>,
    /// The last minutes.
    pub(crate) history: Arc<History>,
    /// The page's parts for visitors with controls and without, made when first asked for.
    pub(crate) frames: [OnceLock<Arc<Frame>>; 2],
}

/// What went wrong with the newest poll.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    /// In a few words.
    pub(crate) headline: &'static str,
    /// In sentences that say what to do.
    pub(crate) explanation: String,
}

/// A good answer and when it came.
pub(crate) struct Picture {
    pub(crate) answer: Answer,
    pub(crate) at: Instant,
}

impl View {
    /// A view of nothing yet.
    fn new() -> Self {
        Self {
            picture: None,
            trouble: None,
            at: Instant::now(),
            events: Vec::new(),
            events_error: None,
            history: Arc::default(),
            frames: [OnceLock::new(), OnceLock::new()],
        }
    }

    /// How old the picture is.
    pub(crate) fn age(&self) -> Duration {
        self.picture.as_ref().map_or(Duration::ZERO, |picture| self.at - picture.at)
    }

    /// The time by the proxy's clock, which the timestamps of its answers belong to: it started
    /// at a known time and told how long it has run.
    pub(crate) fn now(&self) -> SystemTime {
        self.picture
            .as_ref()
            .and_then(|picture| {
                let proxy = &picture.answer.proxy;
                let started = humantime::parse_rfc3339(&proxy.started_at).ok()?;
                let uptime = Duration::try_from_secs_f64(proxy.uptime_seconds).ok()?;
                started.checked_add(uptime)?.checked_add(self.age())
            })
            .unwrap_or_else(SystemTime::now)
    }
}

/// Where the newest view is.
#[derive(Clone)]
pub(crate) struct Views {
    receiver: watch::Receiver<Arc<View>>,
    hurry: Arc<Notify>,
}

impl Views {
    /// The newest view.
    pub(crate) fn newest(&self) -> Arc<View> {
        Arc::clone(&self.receiver.borrow())
    }

    /// A receiver of all views to come.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.receiver.clone()
    }

    /// Asks the proxy now: something was changed.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }
}

/// Starts polling. The task ends at a stop.
pub(crate) fn start(
    api: AdminApi,
    token: TokenSource,
    interval: Duration,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Views {
    let (sender, receiver) = watch::channel(Arc::new(View::new()));
    let hurry = Arc::new(Notify::new());
    let wake = Arc::clone(&hurry);
    let mut poller = Poller {
        api,
        token,
        metrics,
        start: Instant::now(),
        reads_need_token: false,
        troubled: None,
        run: 0,
        after: 0,
        view: View::new(),
    };
    tokio::spawn(async move {
        while !shutdown.is_requested() {
            let next = Instant::now() + interval;
            poller.poll().await;
            sender.send_replace(Arc::new(poller.publish()));
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = wake.notified() => {}
                _ = shutdown.requested() => {}
            }
        }
    });
    Views { receiver, hurry }
}

struct Poller {
    api: AdminApi,
    token: TokenSource,
    metrics: Metrics,
    start: Instant,
    /// Whether the proxy once asked for a token; until then none is sent with reads.
    reads_need_token: bool,
    /// Since when polls fail, and whether the log tells.
    troubled: Option<(Instant, bool)>,
    /// Counts restarts of the proxy; makes ids of events unique across them.
    run: u32,
    /// The newest event seen.
    after: u64,
    view: View,
}

impl Poller {
    async fn poll(&mut self) {
        let mut result = self.ask().await;
        if result == Err(Fault::ReadRefused) && !self.reads_need_token {
            self.reads_need_token = true;
            result = self.ask().await;
        }
        self.metrics
            .polls
            .with_label_values(&[result.as_ref().err().map_or("ok", Fault::label)])
            .inc();
        self.view.at = Instant::now();
        let trouble = result.err().map(|fault| Trouble {
            headline: fault.headline(),
            explanation: fault.explain(self.api.url()),
        });
        self.log(trouble.as_ref());
        self.view.trouble = trouble;
        let seen = self.view.picture.as_ref().filter(|_| self.view.trouble.is_none());
        let answer = seen.map(|picture| &picture.answer);
        Arc::make_mut(&mut self.view.history).record(self.start.elapsed().as_secs_f64(), answer);
    }

    /// One line when trouble lasts and one when it is over. The page shows it at once, but a log
    /// should not warn of a proxy that starts a moment after the dashboard.
    fn log(&mut self, trouble: Option<&Trouble>) {
        match (trouble, self.troubled) {
            (Some(_), None) => self.troubled = Some((self.view.at, false)),
            (Some(trouble), Some((since, false))) if self.view.at - since >= LOG_AFTER => {
                tracing::warn!("{}", trouble.explanation);
                self.troubled = Some((since, true));
            }
            (None, Some((_, logged))) => {
                if logged {
                    tracing::info!("the proxy answers again");
                }
                self.troubled = None;
            }
            _ => {}
        }
    }

    async fn ask(&mut self) -> Result<(), Fault> {
        let token = if self.reads_need_token { self.token.read().ok().flatten() } else { None };
        let answer = self.api.pools(token.as_ref()).await?;
        let before = self.view.picture.as_ref().map(|picture| &picture.answer.proxy.started_at);
        if before.is_some_and(|before| *before != answer.proxy.started_at) {
            self.run += 1;
            self.after = 0;
        }
        self.view.picture = Some(Arc::new(Picture { answer, at: Instant::now() }));
        match self.api.events(self.after, token.as_ref()).await {
            Ok(answer) => {
                self.view.events_error = None;
                let after = self.after;
                for event in answer.events.into_iter().filter(|event| event.id > after) {
                    self.after = self.after.max(event.id);
                    self.view.events.insert(0, (self.run, event));
                }
                self.view.events.truncate(EVENTS_MOST);
            }
            // The picture itself is fresh: only the list of events is not.
            Err(fault) => self.view.events_error = Some(fault.explain(self.api.url())),
        }
        Ok(())
    }

    fn publish(&self) -> View {
        View {
            picture: self.view.picture.clone(),
            trouble: self.view.trouble.clone(),
            at: self.view.at,
            events: self.view.events.clone(),
            events_error: self.view.events_error.clone(),
            history: Arc::clone(&self.view.history),
            frames: [OnceLock::new(), OnceLock::new()],
        }
    }
}
