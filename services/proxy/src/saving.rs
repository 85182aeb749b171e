//! Whether what operators want is on disk.
//!
//! A disk that is full or read-only must not keep an operator from acting, so a change holds in any
//! case. But who was told that it is done must know if a restart would undo it: the answer says so,
//! and so do the log, the timeline, a metric and the page. The file is tried again by itself,
//! because nobody makes a second change only to have the first one saved.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::state_file::{Standing, StateFile};

/// Between two tries by itself: soon enough after somebody made room, and next to nothing for a
/// disk that is full.
const AGAIN: Duration = Duration::from_secs(5);

/// The state file, if one is set, and what came of writing it last.
#[derive(Debug)]
pub(crate) struct Saving {
    file: Option<StateFile>,
    // A std mutex: held to look or to replace, never across an await.
    trouble: Mutex<Option<Trouble>>,
    errors: AtomicU64,
}

#[derive(Debug)]
struct Trouble {
    why: String,
    again: Instant,
}

/// What is new after the file was written, or was not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It could not be written, for this reason.
    Failed(String),
    /// It is written again.
    Recovered,
}

impl Saving {
    pub(crate) fn new(file: Option<StateFile>) -> Self {
        Self { file, trouble: Mutex::default(), errors: AtomicU64::new(0) }
    }

    pub(crate) fn file(&self) -> Option<&StateFile> {
        self.file.as_ref()
    }

    /// Writes what operators want of a pool. It takes a millisecond of the admin thread.
    pub(crate) fn save(&self, pool: &str, standing: &Standing) -> Option<News> {
        let result = self.file.as_ref()?.save(pool, standing);
        let mut trouble = self.lock();
        match result {
            Ok(()) => trouble.take().map(|_| News::Recovered),
            Err(why) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                *trouble = Some(Trouble { why: why.clone(), again: Instant::now() + AGAIN });
                Some(News::Failed(why))
            }
        }
    }

    /// Why changes are not on disk; none if they are, or if there is no file.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lock().as_ref().map(|trouble| trouble.why.clone())
    }

    /// Whether all changes are on disk; none if there is no file.
    pub(crate) fn is_saved(&self) -> Option<bool> {
        self.file.as_ref().map(|_| self.lock().is_none())
    }

    /// How often the file could not be written.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// When to try again, if the last try failed.
    pub(crate) fn again(&self) -> Option<Instant> {
        self.lock().as_ref().map(|trouble| trouble.again)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
