//! The timeline: the last events, numbered, for the page and for whoever listens.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use balance::{Event, EventKind};
use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Clock;

/// Events kept. An hour of a busy rollout fits; at some 200 bytes each it is 200 KiB.
const KEPT: usize = 1000;

/// An event as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NumberedEvent {
    pub(crate) id: u64,
    at: String,
    kind: &'static str,
    pool: &'static str,
    backend: Option<String>,
    message: String,
    actor: Option<String>,
}

/// The last events.
#[derive(Debug)]
pub(crate) struct Events {
    clock: Clock,
    // A std mutex: held to append or copy, never across an await.
    kept: Mutex<VecDeque<NumberedEvent>>,
    last_id: watch::Sender<u64>,
}

impl Events {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, kept: Mutex::default(), last_id: watch::Sender::new(0) }
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
        kept.push_back(NumberedEvent { id, at, kind, pool, backend, message, actor: event.actor });
        self.last_id.send_replace(id);
    }

    /// The events after number `id`, oldest first. A number from before a restart of the proxy,
    /// higher than any we gave out, gets all of them.
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
