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

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::refusals::Refusals;
use crate::{
    control::{Control, POOL},
    events::Ended,
    paths::beside,
};

/// Two files of this size hold some 20 000 entries: years of an operator's changes.
const FILE_MOST: u64 = 4 << 20;

/// Entries kept for `GET /v1/audit`; some 500 KiB.
const KEPT: usize = 1000;

/// An entry.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Entry {
    /// When, RFC 3339
    pub(crate) at: String,
    /// `changed`, `refused` or `expired`
    pub(crate) action: String,
    /// Who, as far as the caller told; its address otherwise
    pub(crate) actor: String,
    /// The caller's address
    pub(crate) from: Option<String>,
    /// By what right: `admin` (with the token), `local`, `read` or `none`
    pub(crate) role: String,
    /// What was asked for
    pub(crate) path: String,
    /// The status that it was answered with
    pub(crate) status: u16,
    /// The operator's words
    pub(crate) reason: Option<String>,
    /// Whether it was to be done even if too few backends are left; only with `changed`
    #[serde(default)]
    pub(crate) forced: bool,
    /// What operators wanted before; only with `changed`
    pub(crate) before: Option<Wanted>,
    /// And after
    pub(crate) after: Option<Wanted>,
    /// Why it was refused; of a change, why it was not saved
    pub(crate) detail: Option<String>,
}

/// What operators want.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Wanted {
    Backend(Intent),
    Pool(PolicyIntent),
}

/// How a pool is to choose its backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PolicyIntent {
    pub(crate) policy: String,
    pub(crate) hash_key: String,
    /// Whether that is as configured
    pub(crate) configured: bool,
    pub(crate) reason: Option<String>,
    pub(crate) expires_at: Option<String>,
}

/// What operators want of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Intent {
    pub(crate) state: String,
    pub(crate) weight: u32,
    pub(crate) max_in_flight: Option<u32>,
    pub(crate) reason: Option<String>,
    pub(crate) expires_at: Option<String>,
    /// The state that is in force then
    #[serde(default)]
    pub(crate) reverts_to: Option<String>,
    /// When what never ends by itself is ended
    #[serde(default)]
    pub(crate) deadline_at: Option<String>,
    pub(crate) weight_expires_at: Option<String>,
    /// The weight that is in force then
    #[serde(default)]
    pub(crate) weight_reverts_to: Option<u32>,
    #[serde(default)]
    pub(crate) max_in_flight_expires_at: Option<String>,
    /// The limit that is in force then; none is no limit
    #[serde(default)]
    pub(crate) max_in_flight_reverts_to: Option<u32>,
}

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

fn expired(at: String, backend: Option<String>, detail: String) -> Entry {
    Entry {
        at,
        action: "expired".to_owned(),
        actor: "the proxy".to_owned(),
        from: None,
        role: "none".to_owned(),
        path: match backend {
            Some(backend) => format!("/v1/pools/{POOL}/backends/{backend}"),
            None => format!("/v1/pools/{POOL}"),
        },
        status: 200,
        reason: None,
        forced: false,
        before: None,
        after: None,
        detail: Some(detail),
    }
}

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
mod tests {
    use std::pin::pin;

    use balance::{EXPIRED, Event, EventKind, Policy, Pool, ProbePlan};
    use futures_util::poll;
    use tempfile::TempDir;

    use super::*;
    use crate::clock::Clock;

    fn path(folder: &TempDir) -> PathBuf {
        folder.path().join("audit.log")
    }

    fn open(folder: &TempDir) -> Audit {
        Audit::open(path(folder).to_str()).unwrap()
    }

    fn entry(actor: &str) -> Entry {
        Entry {
            at: "2026-01-01T00:00:00Z".to_owned(),
            action: "changed".to_owned(),
            actor: actor.to_owned(),
            from: Some("127.0.0.1".to_owned()),
            role: "local".to_owned(),
            path: "/v1/pools/default/backends/a:1".to_owned(),
            status: 200,
            reason: None,
            forced: false,
            before: None,
            after: None,
            detail: None,
        }
    }

    fn actors(audit: &Audit) -> Vec<String> {
        audit.latest().into_iter().map(|entry| entry.actor).collect()
    }

    #[test]
    fn what_was_written_is_read_by_the_next_process_also_after_half_a_line() {
        let folder = tempfile::tempdir().unwrap();
        open(&folder).add(entry("ada"));
        let mut file = OpenOptions::new().append(true).open(path(&folder)).unwrap();
        file.write_all(b"{\"at\": \"2026-").unwrap();
        open(&folder).add(entry("bob"));
        assert_eq!(actors(&open(&folder)), ["bob", "ada"]);
        let text = fs::read_to_string(path(&folder)).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn the_files_are_bounded_and_no_entry_of_the_last_thousand_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let audit = open(&folder);
        // Without waiting for the disk each time, as if others had written most of it.
        let filler = Entry { detail: Some("x".repeat(900)), ..entry("filler") };
        let mut line = serde_json::to_vec(&filler).unwrap();
        line.push(b'\n');
        drop(audit);
        fs::write(path(&folder), line.repeat(FILE_MOST as usize / line.len())).unwrap();
        let audit = open(&folder);
        (0..3).for_each(|n| {
            audit.add(Entry { detail: filler.detail.clone(), ..entry(&n.to_string()) })
        });
        for path in [path(&folder), older(&path(&folder))] {
            assert!(fs::metadata(path).unwrap().len() <= FILE_MOST);
        }
        let kept = actors(&open(&folder));
        assert_eq!(
            (kept.len(), &kept[..4]),
            (KEPT, ["2", "1", "0", "filler"].map(String::from).as_slice())
        );
    }

    #[test]
    fn whoever_is_refused_pushes_no_change_out() {
        let folder = tempfile::tempdir().unwrap();
        let (audit, now) = (open(&folder), Instant::now());
        audit.add(entry("ada"));
        for n in 0..5_000 {
            let path = format!("/v1/{n}");
            let refused = Entry { action: "refused".to_owned(), path, ..entry("mallory") };
            audit.add_refused(refused, now);
        }
        let kept = actors(&open(&folder));
        assert!(kept.len() < 50 && kept.last().unwrap() == "ada", "{kept:?}");
        assert_eq!(kept.len() as u64 + audit.untold(), 5_001);
    }

    fn control() -> Arc<Control> {
        let pool = Pool::new("default", Policy::RoundRobin, ProbePlan::default(), 1);
        Control::new(pool, Clock::start(), None).0
    }

    fn happens(control: &Control, message: &str) {
        let (at, kind, message) = (control.clock.now(), EventKind::Admin, message.to_owned());
        control.events.add(POOL, Event { at, kind, backend: None, message, actor: None });
    }

    fn details(audit: &Audit) -> Vec<String> {
        audit.latest().into_iter().filter_map(|entry| entry.detail).collect()
    }

    #[tokio::test]
    async fn an_end_while_the_process_was_down_has_its_line_too() {
        let (control, audit) = (control(), Arc::new(Audit::open(None).unwrap()));
        happens(&control, &format!("the policy is round_robin: {EXPIRED}"));
        assert!(poll!(pin!(follow(audit.clone(), control.clone()))).is_pending());
        let told: Vec<Entry> = audit.latest();
        let [entry] = &told[..] else { panic!("{told:?}") };
        assert_eq!((&*entry.action, &*entry.path), ("expired", "/v1/pools/default"));
    }

    #[tokio::test]
    async fn an_end_has_its_line_however_many_other_events_come_before_anybody_looks() {
        let (control, audit) = (control(), Arc::new(Audit::open(None).unwrap()));
        let (first, second) = (format!("a is ready: {EXPIRED}"), format!("b is ready: {EXPIRED}"));
        let rush = || (0..3_000).for_each(|n| happens(&control, &n.to_string()));
        happens(&control, &first);
        rush();
        let mut following = pin!(follow(audit.clone(), control.clone()));
        assert!(poll!(following.as_mut()).is_pending());
        assert_eq!(details(&audit), [&*first]);
        happens(&control, &second);
        rush();
        assert!(poll!(following.as_mut()).is_pending());
        assert_eq!(details(&audit), [second, first]);
    }

    #[tokio::test]
    async fn ends_that_are_more_than_the_log_holds_are_counted() {
        let (control, audit) = (control(), Arc::new(Audit::open(None).unwrap()));
        let ended = format!("a is ready: {EXPIRED}");
        (0..20_007).for_each(|_| happens(&control, &ended));
        let mut following = pin!(follow(audit.clone(), control.clone()));
        // Others have their turn now and then.
        for _ in 0..=20_007 / AT_ONCE {
            assert!(poll!(following.as_mut()).is_pending());
        }
        assert_eq!(details(&audit)[0], "7 more ended at once; which is not known");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told_before_anything_else() {
        let error = Audit::open(Some("/does/not/exist/audit.log")).unwrap_err().to_string();
        assert!(error.contains("PROXY_AUDIT_LOG=/does/not/exist/audit.log"), "{error}");
    }
}
