//! One proxy as the dashboard asks it.

use std::sync::Arc;

use chassis::secret::Secret;
use tokio::time::Instant;

use crate::{
    admin::{AdminApi, Fault},
    model::{Answer, Event},
    poll::LOG_AFTER,
    settings::TokenSource,
};

/// A good answer and when it came.
pub(crate) struct Picture {
    pub(crate) answer: Answer,
    pub(crate) at: Instant,
}

/// One proxy at one moment.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// Its own name if that tells it from the others, else its address.
    pub(crate) name: String,
    pub(crate) api: AdminApi,
    /// Its last good answer.
    pub(crate) picture: Option<Arc<Picture>>,
    /// Why there is no newer one.
    pub(crate) fault: Option<Fault>,
    /// Why its events could not be read.
    pub(crate) events_fault: Option<Fault>,
    pub(crate) reads_need_token: bool,
}

impl Proxy {
    /// One that was not asked yet.
    pub(crate) fn new(api: AdminApi) -> Self {
        Self {
            name: String::new(),
            api,
            picture: None,
            fault: None,
            events_fault: None,
            reads_need_token: false,
        }
    }

    /// Whether it answered the last time.
    pub(crate) fn answers(&self) -> bool {
        self.picture.is_some() && self.fault.is_none()
    }

    /// The token to read with, if it wants one.
    pub(crate) fn token_for_reading(&self, source: &TokenSource) -> Option<Secret> {
        source.read().ok().flatten().filter(|_| self.reads_need_token)
    }

    /// What it calls itself; nothing of one that never answered.
    pub(crate) fn own_name(&self) -> Option<&str> {
        self.picture.as_ref().map(|picture| &*picture.answer.proxy.name)
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> String {
        let url = self.api.url();
        let host = url.host_str().unwrap_or_default();
        format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
    }

    /// Tells a run of a process from any other.
    pub(crate) fn identity(&self) -> Option<String> {
        let proxy = &self.picture.as_ref()?.answer.proxy;
        Some(format!("{} {}", proxy.name, proxy.started_at))
    }
}

/// A proxy that is asked, and what is remembered between two times.
pub(crate) struct Replica {
    pub(crate) api: AdminApi,
    token: TokenSource,
    /// Whether it once asked for a token; until then none is sent with reads.
    pub(crate) reads_need_token: bool,
    /// Whether it is known to lead nowhere, see `family`, which the log tells once for all such.
    pub(crate) is_left_out: bool,
    /// Since when it does not answer, and whether the log tells.
    troubled: Option<(Instant, bool)>,
    /// The newest event seen.
    after: u64,
    pub(crate) picture: Option<Arc<Picture>>,
    /// Why it gave no answer the last time.
    pub(crate) fault: Option<Fault>,
    /// Why its events could not be read although the rest could.
    pub(crate) events_fault: Option<Fault>,
}

impl Replica {
    /// A proxy that was not asked yet.
    pub(crate) fn new(api: AdminApi, token: TokenSource) -> Self {
        Self {
            api,
            token,
            reads_need_token: false,
            is_left_out: false,
            troubled: None,
            after: 0,
            picture: None,
            fault: None,
            events_fault: None,
        }
    }

    /// Asks once and gives the events that are new.
    pub(crate) async fn poll(&mut self) -> Vec<Event> {
        let mut result = self.ask().await;
        if matches!(result, Err(Fault::ReadRefused)) && !self.reads_need_token {
            self.reads_need_token = true;
            result = self.ask().await;
        }
        let (events, fault) = match result {
            Ok(events) => (events, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        self.fault = fault;
        self.log();
        events
    }

    async fn ask(&mut self) -> Result<Vec<Event>, Fault> {
        let token = if self.reads_need_token { self.token.read().ok().flatten() } else { None };
        let answer = self.api.pools(token.as_ref()).await?;
        let before = self.picture.as_ref().map(|picture| &picture.answer.proxy.started_at);
        if before.is_some_and(|before| *before != answer.proxy.started_at) {
            // Its events are counted from 1 again.
            self.after = 0;
        }
        self.picture = Some(Arc::new(Picture { answer, at: Instant::now() }));
        let after = self.after;
        match self.api.events(after, token.as_ref()).await {
            Ok(answer) => {
                self.events_fault = None;
                let new: Vec<Event> =
                    answer.events.into_iter().filter(|event| event.id > after).collect();
                self.after = new.iter().map(|event| event.id).max().unwrap_or(after);
                Ok(new)
            }
            // The picture itself is fresh: only the list of events is not.
            Err(fault) => {
                self.events_fault = Some(fault);
                Ok(Vec::new())
            }
        }
    }

    /// One line when trouble lasts and one when it is over. The page shows it at once, but a log
    /// should not warn of a proxy that starts a moment after the dashboard.
    fn log(&mut self) {
        match (&self.fault, self.troubled) {
            (Some(_), None) => self.troubled = Some((Instant::now(), false)),
            (Some(fault), Some((since, false)))
                if since.elapsed() >= LOG_AFTER && !self.is_left_out =>
            {
                tracing::warn!("{}", self.api.explain(fault));
                self.troubled = Some((since, true));
            }
            (None, Some((_, logged))) => {
                if logged {
                    tracing::info!(url = %self.api.url(), "the proxy answers again");
                }
                self.troubled = None;
            }
            _ => {}
        }
    }
}
