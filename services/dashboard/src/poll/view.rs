//! What is known at one moment: everything on the page is made from it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    charts::Window,
    frame::Frame,
    history::{History, Series},
    hour::Hour,
    model::Answer,
    page::Looks,
    panels::SLOTS,
    probes::ProbeLog,
    remember::unix_seconds,
    replica::{Picture, Proxy},
    standing::{Last, Standing},
    timeline::Seen,
};

/// What is known at one moment.
pub(crate) struct View {
    /// The newest answers of the proxies that answer, as one; of a time before if none does.
    pub(crate) picture: Option<Arc<Picture>>,
    /// Why there is no newer one.
    pub(crate) trouble: Option<Trouble>,
    /// Every proxy that was found; of a file, none that could be asked.
    pub(crate) proxies: Vec<Proxy>,
    /// How it stands with each of them; of a file, how it stood.
    pub(crate) standings: Vec<Standing>,
    /// When this view was made.
    pub(crate) at: Instant,
    /// Newest first.
    pub(crate) events: Vec<Seen>,
    /// Why events could not be read although the rest could.
    pub(crate) events_error: Option<String>,
    /// The last hour as the proxies tell it, and as we saw it ourselves. Shared, not copied: a
    /// copy for each view would cost more than the views.
    pub(super) hour: Arc<Mutex<Hour>>,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) probes: Arc<Mutex<ProbeLog>>,
    /// Whether it is of a file: nothing on it is live.
    pub(crate) is_saved: bool,
    /// The moving parts of pages, made when first asked for.
    pub(crate) frames: Mutex<HashMap<Looks, Arc<Frame>>>,
}

/// What went wrong with the newest round.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Trouble {
    /// In a few words.
    pub(crate) headline: String,
    /// In sentences that say what to do.
    pub(crate) explanation: String,
}

impl View {
    /// A view of nothing yet.
    pub(super) fn new() -> Self {
        Self {
            picture: None,
            trouble: None,
            proxies: Vec::new(),
            standings: Vec::new(),
            at: Instant::now(),
            events: Vec::new(),
            events_error: None,
            hour: Arc::default(),
            history: Arc::default(),
            probes: Arc::default(),
            is_saved: false,
            frames: Mutex::default(),
        }
    }

    /// A view of what was saved, where it stood so with the proxies.
    pub(crate) fn saved(
        answer: Answer,
        mut standings: Vec<Standing>,
        events: Vec<Seen>,
        history: History,
    ) -> Self {
        if standings.is_empty() {
            let (name, last) = (answer.proxy.name.clone(), Last::of(&answer, Duration::ZERO));
            standings.push(Standing { name, fault: None, last: Some(last) });
        }
        let picture = Some(Arc::new(Picture { answer, at: Instant::now() }));
        let history = Arc::new(Mutex::new(history));
        Self { picture, standings, events, history, is_saved: true, ..Self::new() }
    }

    /// The same where the picture was so old, and nobody gave a newer one because of this trouble.
    pub(crate) fn in_trouble(mut self, trouble: Option<Trouble>, age: Duration) -> Self {
        let at = self.picture.as_ref().and_then(|picture| picture.at.checked_add(age));
        self.at = at.unwrap_or(self.at);
        self.trouble = trouble;
        self
    }

    /// Whether there are several proxies, or were when it was saved.
    pub(crate) fn is_of_several(&self) -> bool {
        self.standings.len() > 1
    }

    /// How old the picture is.
    pub(crate) fn age(&self) -> Duration {
        self.picture
            .as_ref()
            .map_or(Duration::ZERO, |picture| self.at.saturating_duration_since(picture.at))
    }

    /// The time by the proxy's clock, which the timestamps of its answers belong to: it started
    /// at a known time and told how long it has run.
    pub(crate) fn now(&self) -> SystemTime {
        self.picture
            .as_ref()
            .and_then(|picture| picture.answer.proxy.now()?.checked_add(self.age()))
            .unwrap_or_else(SystemTime::now)
    }

    /// The same by the clock of one of the proxies, which what it tells itself belongs to.
    pub(crate) fn now_of(&self, proxy: &str) -> SystemTime {
        let standing = self.standings.iter().find(|one| one.name == proxy);
        let now = standing.and_then(|standing| standing.last.as_ref()?.now);
        now.unwrap_or_else(|| self.now())
    }

    /// The whole traffic over a window.
    pub(crate) fn totals(&self, window: Window) -> Series {
        let hour = self.hour.lock().unwrap_or_else(PoisonError::into_inner);
        if hour.is_known(self.answering()) {
            return hour.window(window, unix_seconds());
        }
        self.history().totals().last(window.seconds(), SLOTS)
    }

    /// The whole traffic of the hour, second by second.
    pub(crate) fn all_totals(&self) -> Series {
        let hour = self.hour.lock().unwrap_or_else(PoisonError::into_inner);
        if hour.is_known(self.answering()) {
            hour.all(unix_seconds())
        } else {
            self.history().totals()
        }
    }

    /// The last hour as the dashboard saw it, for as long as it is drawn.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last probes, for as long as they are read.
    pub(crate) fn probes(&self) -> MutexGuard<'_, ProbeLog> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The proxies that answer.
    pub(crate) fn answering(&self) -> impl Iterator<Item = &Proxy> {
        self.proxies.iter().filter(|proxy| proxy.answers())
    }

    /// How many answer, or did when it was saved.
    pub(crate) fn answering_count(&self) -> usize {
        self.standings.iter().filter(|one| one.answers()).count()
    }

    /// The proxies that do not, although others do.
    pub(crate) fn silent(&self) -> impl Iterator<Item = &Proxy> {
        self.proxies.iter().filter(|proxy| !proxy.answers())
    }
}
