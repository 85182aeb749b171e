//! The timeline: the last events, numbered, for the page and for whoever listens.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use balance::{Event, EventKind};
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::clock::Clock;

/// Events kept. An hour of a busy rollout fits; at some 200 bytes each it is 200 KiB.
const KEPT: usize = 1000;

/// Ends of operators' changes that may wait for the audit log, whose two files hold no more. A pool
/// of 20 000 backends may tell of each at once.
const ENDED_MOST: usize = 20_000;

/// The first number of a run is made from the second of its start, so that whoever resumes with a
/// number of an earlier run gets all of this one. It is exact in a JavaScript number for the next
/// two centuries, and nobody has a million events a second.
const IDS_PER_SECOND: u64 = 1_000_000;

/// An event as the API shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct NumberedEvent {
    /// Grows with each event, over restarts too.
    pub(crate) id: u64,
    pub(crate) at: String,
    kind: &'static str,
    pool: &'static str,
    pub(crate) backend: Option<String>,
    pub(crate) message: String,
    actor: Option<String>,
}

impl NumberedEvent {
    /// Whether an operator's change has ended by itself.
    fn is_expiry(&self) -> bool {
        self.actor.is_none() && self.message.ends_with(balance::EXPIRED)
    }
}

/// The last events.
#[derive(Debug)]
pub(crate) struct Events {
    clock: Clock,
    // A std mutex: held to append or copy, never across an await.
    kept: Mutex<VecDeque<NumberedEvent>>,
    // Apart from them: any number of other events may come before the audit log takes these.
    ended: Mutex<Ended>,
    last_id: watch::Sender<u64>,
}

/// Operators' changes that have ended by themselves.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Oldest first.
    pub(crate) events: Vec<NumberedEvent>,
    /// How many more there were.
    pub(crate) forgotten: u64,
}

impl Events {
    pub(crate) fn new(clock: Clock) -> Self {
        let before_first = clock.unix().as_secs() * IDS_PER_SECOND;
        let last_id = watch::Sender::new(before_first);
        Self { clock, kept: Mutex::default(), ended: Mutex::default(), last_id }
    }

    pub(crate) fn add(&self, pool: &'static str, event: Event) {
        let backend = event.backend.map(|id| id.to_string());
        let shown = backend.as_deref().unwrap_or("-");
        let (kind, message) = (event.kind.as_str(), event.message);
        match event.kind {
            EventKind::Admin => {
                let actor = event.actor.as_deref().unwrap_or("-");
                tracing::info!(kind, pool, backend = shown, actor, "{message}");
            }
            _ => tracing::info!(kind, pool, backend = shown, "{message}"),
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        let id = *self.last_id.borrow() + 1;
        let at = self.clock.text(event.at);
        let event = NumberedEvent { id, at, kind, pool, backend, message, actor: event.actor };
        if event.is_expiry() {
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).note(event.clone());
        }
        kept.push_back(event);
        self.last_id.send_replace(id);
    }

    /// Takes what has ended since the last time.
    pub(crate) fn take_ended(&self) -> Ended {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the oldest event that is kept.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.front().map(|event| event.id)
    }

    /// The events after number `id`, oldest first. A number higher than any we gave out, from
    /// before the clock was set back, gets all of them.
    pub(crate) fn after(&self, id: u64) -> Vec<NumberedEvent> {
        let id = if id > *self.last_id.borrow() { 0 } else { id };
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| event.id > id).cloned().collect()
    }

    /// Changes when an event is added.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.last_id.subscribe()
    }
}

impl Ended {
    fn note(&mut self, event: NumberedEvent) {
        if self.events.len() < ENDED_MOST {
            self.events.push(event);
        } else {
            self.forgotten += 1;
        }
    }
}
