//! The audit log: who changed what, from where, when and why; and who tried to and was refused.
//!
//! One line of JSON per entry is appended and on disk before a change is answered (`fdatasync`;
//! a millisecond or so for something that happens a few times a day), so that what was confirmed
//! is told even after a power cut. A crash between a change and its line leaves a change that
//! nobody was told has succeeded. A log that cannot be written is told in the log of the process
//! and on each further entry, and never keeps an operator from acting in trouble.
//!
//! The file is bounded: at [`FILE_MOST`] it becomes `….1` and a new one begins. Whoever is refused
//! cannot flush it, because the lines of refusals are rationed (see `refusals`).

mod entry;
mod refusals;

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

pub(crate) use self::entry::{Entry, Intent, PolicyIntent, Wanted};
use self::{entry::expired, refusals::Refusals};
use crate::{control::Control, events::Ended, paths::beside};

/// Two files of this size hold some 20 000 entries: years of an operator's changes.
const FILE_MOST: u64 = 4 << 20;

/// Entries kept for `GET /v1/audit`; some 500 KiB.
const KEPT: usize = 1000;

/// The log.
#[derive(Debug)]
pub(crate) struct Audit {
    path: Option<PathBuf>,
    // A std mutex: held to append a line, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    bytes: u64,
    kept: VecDeque<Entry>,
    refusals: Refusals,
}

impl Audit {
    /// A log in a file, or in memory only.
    ///
    /// # Errors
    /// The file cannot be read or appended to: better told at the start than after a change.
    pub(crate) fn open(path: Option<&str>) -> io::Result<Self> {
        let mut state = State::default();
        let path = path.map(PathBuf::from);
        if let Some(path) = &path {
            let told = |error: io::Error| {
                let path = path.display();
                io::Error::new(error.kind(), format!("PROXY_AUDIT_LOG={path}: {error}"))
            };
            for file in [&older(path), path] {
                state.take_in(file).map_err(told)?;
            }
            state.begin(path).map_err(told)?;
        }
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Appends an entry; it is on disk when this returns, unless the log of the process says why.
    pub(crate) fn add(&self, entry: Entry) {
        let mut state = self.lock();
        if let Some(path) = &self.path
            && let Err(error) = state.append(path, &entry)
        {
            tracing::error!(path = %path.display(), %error, "the audit log cannot be written");
        }
        state.keep(entry);
    }

    /// Appends the entry of a refusal, if there have not been too many and it is not one of before.
    pub(crate) fn add_refused(&self, mut entry: Entry, now: Instant) {
        let mut hasher = DefaultHasher::new();
        let Entry { actor, from, path, status, detail, .. } = &entry;
        (actor, from, path, status, detail).hash(&mut hasher);
        let Some(untold) = self.lock().refusals.note(hasher.finish(), now) else { return };
        if untold > 0 {
            let detail = entry.detail.take().unwrap_or_default();
            entry.detail = Some(format!("{detail} ({untold} further refusals since the last)"));
        }
        self.add(entry);
    }

    /// How many refusals have no entry, since the process began.
    pub(crate) fn untold(&self) -> u64 {
        self.lock().refusals.untold()
    }

    /// The last entries, newest first.
    pub(crate) fn latest(&self) -> Vec<Entry> {
        self.lock().kept.iter().rev().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what ends by itself: a change with a `ttl` goes back without a caller. What ended while the
/// process was down is told before anybody follows, and waits until somebody does.
pub(crate) async fn follow(audit: Arc<Audit>, control: Arc<Control>) {
    let mut changes = control.events.subscribe();
    loop {
        // Marked as seen first: what comes while we write is found in the next round.
        changes.borrow_and_update();
        let Ended { events, forgotten } = control.events.take_ended();
        for (at, event) in events.into_iter().enumerate() {
            audit.add(expired(event.at, event.backend, event.message));
            if at % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        if forgotten > 0 {
            let at = control.clock.text(control.clock.now());
            let detail = format!("{forgotten} more ended at once; which is not known");
            audit.add(expired(at, None, detail));
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// So many entries are written before others on this thread have their turn, as each waits for the disk
/// and probes and health checks for it.
const AT_ONCE: usize = 10;

/// The name of the file before the current one.
fn older(path: &Path) -> PathBuf {
    beside(path, "1")
}

impl State {
    /// Remembers what an earlier process wrote. Lines that are no entries are passed over: the
    /// half one of a crash, or what somebody added by hand.
    fn take_in(&mut self, path: &Path) -> io::Result<()> {
        match fs::read(path) {
            Ok(bytes) => {
                let lines = bytes.split(|byte| *byte == b'\n');
                lines
                    .filter_map(|line| serde_json::from_slice(line).ok())
                    .for_each(|e| self.keep(e));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn begin(&mut self, path: &Path) -> io::Result<()> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        self.bytes = file.seek(SeekFrom::End(0))?;
        if self.bytes > 0 {
            // After a crash within a line, the next one must begin a new one.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != [b'\n'] {
                file.write_all(b"\n")?;
                self.bytes += 1;
            }
        }
        self.file = Some(file);
        Ok(())
    }

    fn append(&mut self, path: &Path, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        if self.bytes + line.len() as u64 > FILE_MOST {
            self.file = None;
            fs::rename(path, older(path))?;
        }
        if self.file.is_none() {
            self.begin(path)?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        match written {
            Ok(()) => self.bytes += line.len() as u64,
            // Opened anew for the next entry, after whatever came of this one.
            Err(_) => self.file = None,
        }
        written
    }

    fn keep(&mut self, entry: Entry) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(entry);
    }
}

#[cfg(test)]
mod tests;
