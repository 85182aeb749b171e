//! How it stands with each proxy, as far as the page shows it: now, or when an hour was saved.
//!
//! A proxy's own answer is as large as the picture of all of them. So it is summed up once for each
//! view, and of a file that is opened no more is kept of it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::{
    model::{Answer, Effective, Proxy},
    replica,
};

/// One proxy that was found.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) name: String,
    /// Why it does not answer and what to do, in sentences.
    pub(crate) fault: Option<String>,
    /// What it said last; nothing of one that never answered.
    pub(crate) last: Option<Last>,
}

/// What a proxy said last.
#[derive(Clone, Debug)]
pub(crate) struct Last {
    /// How long ago.
    pub(crate) age: Duration,
    /// What its clock says by now, which the times that it tells are by.
    pub(crate) now: Option<SystemTime>,
    pub(crate) uptime: Duration,
    pub(crate) ready: bool,
    /// Why it is not.
    pub(crate) not_ready_reasons: Vec<String>,
    /// Why changes are not on its disk.
    pub(crate) not_saved_reason: Option<String>,
    pub(crate) stopping: bool,
    /// Whether it has not found its backends yet, or checks them for the first time: it gets no requests
    /// either.
    pub(crate) is_starting: bool,
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) in_flight: u64,
    /// Backends, and how many of them serve.
    pub(crate) backends: usize,
    pub(crate) serving: usize,
}

/// What is counted of a backend.
pub(crate) struct Counted {
    pub(crate) effective: Effective,
    pub(crate) serves: bool,
    pub(crate) in_flight: u64,
}

impl Standing {
    /// A proxy at the time of a view.
    pub(crate) fn of(proxy: &replica::Proxy, at: Instant) -> Self {
        let last = proxy
            .picture
            .as_ref()
            .map(|picture| Last::of(&picture.answer, at.saturating_duration_since(picture.at)));
        let fault = proxy.fault.as_ref().map(|fault| proxy.api.explain(fault));
        Self { name: proxy.name.clone(), fault, last }
    }

    /// Whether it answered the last time it was asked.
    pub(crate) fn answers(&self) -> bool {
        self.answer().is_some()
    }

    /// What it says, if it answers.
    pub(crate) fn answer(&self) -> Option<&Last> {
        self.last.as_ref().filter(|_| self.fault.is_none())
    }
}

impl Last {
    /// A whole answer of this age.
    pub(crate) fn of(answer: &Answer, age: Duration) -> Self {
        let rate = answer.pools.iter().map(|pool| pool.traffic.requests_per_second).sum();
        let backends = answer.pools.iter().flat_map(|pool| &pool.backends);
        let counted = backends.map(|one| Counted {
            effective: one.effective,
            serves: one.serves(),
            in_flight: one.in_flight,
        });
        Self::new(&answer.proxy, rate, counted, age)
    }

    /// An answer of which this is known.
    pub(crate) fn new(
        proxy: &Proxy,
        rate: f64,
        counted: impl Iterator<Item = Counted>,
        age: Duration,
    ) -> Self {
        let own = Self {
            age,
            now: proxy.now().and_then(|now| now.checked_add(age)),
            uptime: Duration::try_from_secs_f64(proxy.uptime_seconds).unwrap_or_default(),
            ready: proxy.ready,
            not_ready_reasons: proxy.not_ready_reasons.clone(),
            not_saved_reason: proxy.not_saved_reason.clone(),
            stopping: proxy.stopping,
            is_starting: false,
            rate,
            in_flight: 0,
            backends: 0,
            serving: 0,
        };
        let mut own = counted.fold(own, |own, one| Self {
            is_starting: own.is_starting || one.effective == Effective::Checking,
            in_flight: own.in_flight.saturating_add(one.in_flight),
            backends: own.backends + 1,
            serving: own.serving + usize::from(one.serves),
            ..own
        });
        own.is_starting |= own.backends == 0;
        own
    }

    /// Whether it is not ready and should be: one that stops is not either.
    pub(crate) fn is_unready(&self) -> bool {
        !self.ready && !self.stopping
    }
}
