//! Results that survive one redirect, for visitors without JavaScript.
//!
//! The address carries only a random name for the message, never its text: a link from elsewhere
//! cannot make this page say something.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{address::Shown, page::Flash, session::random_id};

/// Messages kept; each is read within a second or never.
const MOST: usize = 64;
/// Long enough to be read over some reloads of the page, which keep the address.
const TIME: Duration = Duration::from_secs(20);

/// Messages that wait to be shown.
#[derive(Default)]
pub(crate) struct Flashes(Mutex<VecDeque<(String, Instant, Flash)>>);

impl Flashes {
    /// Keeps a message and gives the address of the page that shows it, shown as before.
    pub(crate) fn keep(&self, flash: Flash, shown: Shown) -> String {
        // Without entropy the page comes without its message, which is better than not at all.
        let Ok(id) = random_id() else { return shown.address("/") };
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.truncate(MOST - 1);
        waiting.push_front((id.clone(), Instant::now() + TIME, flash));
        shown.address_with("/", Some(("result", &id)))
    }

    /// The message of that name, while it lasts.
    pub(crate) fn find(&self, id: &str) -> Option<Flash> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, until, flash) = waiting.iter().find(|(candidate, ..)| candidate == id)?;
        (*until > Instant::now()).then(|| flash.clone())
    }
}
