//! What operators want, kept over a restart of the proxy.
//!
//! The file is written anew at each change, aside and renamed into place, so that a crash leaves
//! the old one or the new one and never half of one. It is JSON, for people to read: what is in
//! force, and, where that has an end, what it goes back to. A file that cannot be read or written
//! is told on the timeline and in the log, and never keeps the proxy from serving. Its folder is made
//! where there is none, which may be as late as a disk that is mounted later. What such a disk brings
//! is not overwritten: a file that is not the one that was read or written last is set aside.

mod content;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use balance::{Overridable, StandingIntent, WantedPlan};

use crate::{clock::Clock, paths::beside};

/// Where intent is kept.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    clock: Clock,
    /// The file that was read or written last. A std mutex: only one thread writes.
    known: Mutex<Option<Identity>>,
}

/// Device and inode.
type Identity = (u64, u64);

/// What operators want of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) intents: Vec<StandingIntent>,
    pub(crate) policy: Overridable<WantedPlan>,
}

impl StateFile {
    pub(crate) fn new(path: &str, clock: Clock) -> Self {
        Self { path: path.into(), clock, known: Mutex::default() }
    }

    /// What operators want of a pool; nothing if there is no file yet.
    ///
    /// # Errors
    /// Why the file cannot be used. It is set aside then, so that the next change does not
    /// overwrite what somebody may want to look at.
    pub(crate) fn load(&self, pool: &str) -> Result<Standing, String> {
        let bytes = match fs::read(&self.path) {
            Err(error) if is_absent(&error) => return Ok(Standing::default()),
            read => read.map_err(|error| error.to_string()),
        };
        let found = self.present();
        let loaded = bytes.and_then(|bytes| self.parse(&bytes, pool));
        if loaded.is_ok() {
            self.know(found);
        }
        loaded.map_err(|why| {
            let aside = beside(&self.path, "unreadable");
            let kept = match fs::rename(&self.path, &aside) {
                Ok(()) => format!("{why}; it is kept as {}", aside.display()),
                Err(error) => format!("{why}; it could not be set aside: {error}"),
            };
            self.told("is not what was written", &kept)
        })
    }

    /// Writes what operators want of a pool.
    ///
    /// # Errors
    /// Why the file could not be written; the old one is still there, or set aside where it was not
    /// this process's.
    pub(crate) fn save(&self, pool: &str, standing: &Standing) -> Result<(), String> {
        self.spare_foreign()?;
        let content = self.content(pool, standing);
        let aside = beside(&self.path, "new");
        let write = || -> io::Result<()> {
            fs::create_dir_all(self.folder())?;
            let mut file = File::create(&aside)?;
            file.write_all(&serde_json::to_vec_pretty(&content)?)?;
            // On disk before it takes the old one's name: a crash must not leave an empty file.
            file.sync_all()?;
            fs::rename(&aside, &self.path)?;
            self.know(self.present());
            // The new name is on disk only once the folder is.
            File::open(self.folder())?.sync_all()
        };
        write().map_err(|error| self.told("cannot be written", &error.to_string()))
    }

    /// What a file of these bytes says, and the bytes that this is written as; for the fuzz target.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn again(&self, bytes: &[u8], pool: &str) -> Result<(Standing, Vec<u8>), String> {
        let standing = self.parse(bytes, pool)?;
        let written = serde_json::to_vec_pretty(&self.content(pool, &standing));
        written.map(|written| (standing, written)).map_err(|error| error.to_string())
    }

    /// Sets a file aside that came while this process ran, as with a disk that was mounted late: what it
    /// says may be all that is left of what operators wanted. The next try to write finds room.
    fn spare_foreign(&self) -> Result<(), String> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if self.present().is_none_or(|present| Some(present) == known) {
            return Ok(());
        }
        let aside = beside(&self.path, "found");
        let why = match fs::rename(&self.path, &aside) {
            Ok(()) => format!("it is kept as {}, and does not hold", aside.display()),
            Err(error) => format!("it could not be set aside: {error}"),
        };
        Err(self.told("is another one than this process has read or written", &why))
    }

    fn present(&self) -> Option<Identity> {
        fs::metadata(&self.path).ok().map(|found| (found.dev(), found.ino()))
    }

    fn know(&self, file: Option<Identity>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn told(&self, what: &str, why: &str) -> String {
        format!("the state file {} {what}: {why}", self.path.display())
    }
}

/// Whether there is no file: that is what this says, also where its folder is none.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use balance::{
        Admin, BackendId, Numbered, Policy, PolicyPlan, Said, SaidAt, SetBy, Stated, Time,
    };

    use tempfile::TempDir;

    use super::{content::layers, *};

    fn file_in(folder: &TempDir) -> StateFile {
        StateFile::new(folder.path().join("state.json").to_str().unwrap(), Clock::start())
    }

    fn intent(clock: Clock) -> StandingIntent {
        let stated = |state, actor: &str| Stated {
            state,
            since: clock.now(),
            reason: Some("new \"disk\"".to_owned()),
            actor: Some(actor.to_owned()),
            forced: state == Admin::Maint,
            // One is to come, one has passed.
            deadline: match state {
                Admin::Drain => Some(clock.now() + Duration::from_secs(30)),
                _ => Some(clock.started()),
            },
        };
        let set = |actor: &str| {
            let actor = Some(actor.to_owned());
            let reason = Some("new \"disk\"".to_owned());
            Some(SetBy { since: clock.now(), reason, actor, forced: false })
        };
        let end = clock.now() + Duration::from_secs(60);
        let said =
            Said { standing: Some(SaidAt(1_700_000_000_001)), latest: Some(clock.said_now()) };
        StandingIntent {
            id: BackendId::new("10.0.0.1:80"),
            state: layers(
                stated(Admin::Drain, "bob"),
                Some(end),
                stated(Admin::Maint, "ada"),
                said,
            ),
            weight: layers(
                Numbered {
                    number: Some(3),
                    set: set("bob").map(|by| SetBy { forced: true, ..by }),
                },
                Some(end),
                Numbered { number: Some(2), set: None },
                Said { standing: None, ..said },
            ),
            max_in_flight: layers(
                Numbered { number: Some(9), set: set("ann") },
                Some(end),
                Numbered { number: Some(5), set: set("ada") },
                said,
            ),
        }
    }

    fn policy(clock: Clock) -> Overridable<WantedPlan> {
        let wanted = |policy, hash_key: &str, reason: Option<&str>, actor: Option<&str>| {
            let (reason, actor) = (reason.map(str::to_owned), actor.map(str::to_owned));
            WantedPlan {
                plan: Some(PolicyPlan { policy, hash_key: hash_key.into() }),
                set: Some(SetBy { since: clock.now(), reason, actor, forced: false }),
            }
        };
        let on_top = wanted(Policy::Hash, "cookie:a", Some("sessions"), None);
        Overridable {
            standing: wanted(Policy::First, "path", None, Some("bob")),
            on_top: Some((on_top, clock.now() + Duration::from_secs(60))),
            said: Said { standing: Some(SaidAt(5)), latest: Some(SaidAt(7)) },
        }
    }

    /// Times are written to the millisecond.
    fn assert_near(one: Time, other: Time) {
        let apart = one.since(other).max(other.since(one));
        assert!(apart < Duration::from_secs(1), "{apart:?}");
    }

    #[test]
    fn files_of_one_folder_do_not_write_over_each_other() {
        let folder = TempDir::new().unwrap();
        let clock = Clock::start();
        let standing = Standing::default();
        for name in ["state.one", "state.two", "state.new"] {
            let file = StateFile::new(folder.path().join(name).to_str().unwrap(), clock);
            assert_ne!(beside(&file.path, "new"), folder.path().join("state.new"), "{name}");
            assert_eq!(file.save("default", &standing), Ok(()));
        }
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["state.new", "state.one", "state.two"]);
    }

    #[test]
    fn what_was_saved_is_loaded_by_a_later_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_in(&folder);
        assert_eq!(file.load("default"), Ok(Standing::default()), "there is no file yet");
        let (saved, policy) = (intent(file.clock), policy(file.clock));
        let standing = Standing { intents: vec![saved.clone()], policy: policy.clone() };
        file.save("default", &standing).unwrap();
        let mut loaded = file_in(&folder).load("default").unwrap();
        assert_near(loaded.policy.expires().unwrap(), policy.expires().unwrap());
        let plans = |wanted: &Overridable<WantedPlan>| {
            [wanted.current().clone(), wanted.reverts_to().unwrap().clone()]
        };
        for (loaded, saved) in plans(&loaded.policy).into_iter().zip(plans(&policy)) {
            let (set, saved_set) = (loaded.set.unwrap(), saved.set.unwrap());
            assert_near(set.since, saved_set.since);
            assert_eq!(SetBy { since: saved_set.since, ..set }, saved_set);
            assert_eq!(loaded.plan, saved.plan);
        }
        assert_eq!(loaded.policy.said, policy.said);
        let loaded = loaded.intents.remove(0);
        let (weight, below) = (loaded.weight.current(), loaded.weight.reverts_to().unwrap());
        assert_eq!((&loaded.id, weight.number, below.number), (&saved.id, Some(3), Some(2)));
        let set = weight.set.as_ref().unwrap();
        assert_eq!((set.actor.as_deref(), set.forced), (Some("bob"), true));
        let both = |intent: &StandingIntent| {
            let state = &intent.state;
            [state.current().clone(), state.reverts_to().unwrap().clone()]
        };
        for (loaded, saved) in both(&loaded).into_iter().zip(both(&saved)) {
            assert_near(loaded.since, saved.since);
            assert_near(loaded.deadline.unwrap(), saved.deadline.unwrap());
            let Stated { since, deadline, .. } = saved;
            assert_eq!(Stated { since, deadline, ..loaded }, saved);
        }
        assert_near(loaded.state.expires().unwrap(), saved.state.expires().unwrap());
        let said = |intent: &StandingIntent| {
            [intent.state.said, intent.weight.said, intent.max_in_flight.said]
        };
        assert_eq!(said(&loaded), said(&saved));
        let limits = |intent: &StandingIntent| {
            let limit = &intent.max_in_flight;
            [limit.current().clone(), limit.reverts_to().unwrap().clone()]
        };
        for (loaded, saved) in limits(&loaded).into_iter().zip(limits(&saved)) {
            let (set, saved_set) = (loaded.set.unwrap(), saved.set.unwrap());
            assert_near(set.since, saved_set.since);
            assert_eq!(SetBy { since: saved_set.since, ..set }, saved_set);
            assert_eq!(loaded.number, saved.number);
        }
    }

    #[test]
    fn a_file_of_before_overrides_is_read_as_it_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_in(&folder);
        let old = r#"{"version": 1, "pools": {"default": {"a:1": {
            "state": "drain", "since": "2026-01-01T00:00:00Z", "reason": "new disk",
            "actor": "ada", "expires": "2026-01-01T01:00:00Z", "weight": 3,
            "weight_expires": "2026-01-01T02:00:00Z", "max_in_flight": 7,
            "max_in_flight_expires": null}}}}"#;
        fs::write(&file.path, old).unwrap();
        let intent = file.load("default").unwrap().intents.remove(0);
        let (current, below) = (intent.state.current(), intent.state.reverts_to().unwrap());
        assert_eq!((current.state, current.actor.as_deref()), (Admin::Drain, Some("ada")));
        assert_eq!((current.deadline, current.forced), (None, false));
        assert_eq!((below.state, &below.reason, &below.actor), (Admin::Ready, &None, &None));
        let weights = (intent.weight.current().number, intent.weight.reverts_to().unwrap().number);
        assert_eq!(weights, (Some(3), None));
        let seven = Numbered { number: Some(7), set: None };
        assert_eq!(intent.max_in_flight, layers(seven, None, Numbered::default(), Said::default()));
        // Who changed something then said so at the latest when it began to hold.
        let said_at = Some(SaidAt(1_767_225_600_000));
        assert_eq!(intent.state.said, Said { standing: None, latest: said_at });
        assert_eq!(intent.weight.said, Said::default(), "nobody told");
        // What lies on nothing is written as it always was.
        file.save("default", &Standing { intents: vec![intent], policy: Overridable::default() })
            .unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        assert!(!text.contains("reverts_to") && text.contains("new disk"), "{text}");
        assert!(!text.contains("deadline") && !text.contains("forced"), "{text}");
    }

    #[test]
    fn that_the_configured_policy_is_wanted_is_kept_against_older_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_in(&folder);
        let set = Some(SetBy {
            since: file.clock.now(),
            reason: None,
            actor: Some("ann".into()),
            forced: false,
        });
        let said = Said::of(Some(SaidAt(9)));
        let policy = layers(WantedPlan { plan: None, set }, None, WantedPlan::default(), said);
        file.save("default", &Standing { intents: Vec::new(), policy }).unwrap();
        let loaded = file.load("default").unwrap().policy;
        assert_eq!((&loaded.standing.plan, loaded.said), (&None, said));
        assert_eq!(loaded.standing.set.unwrap().actor.as_deref(), Some("ann"));
        // Of earlier versions, which knew no such times: it was said when it began to hold.
        let old = r#"{"version": 1, "pools": {}, "policies": {"default": {"policy": "first",
            "hash_key": "path", "since": "2026-01-01T00:00:00Z", "reason": null, "actor": "bob",
            "expires": null}}}"#;
        fs::write(&file.path, old).unwrap();
        let loaded = file.load("default").unwrap().policy;
        assert_eq!(loaded.said, Said::of(Some(SaidAt(1_767_225_600_000))));
        assert_eq!(loaded.current().plan.as_ref().unwrap().policy, Policy::First);
    }

    #[test]
    fn a_file_that_is_not_ours_is_told_and_set_aside() {
        let cases: [(&[u8], &str); 8] = [
            (b"{", "EOF"),
            (b"\xFF\xFE{}", "expected value"),
            (b"{\"version\": 2, \"pools\": {}}", "version 2"),
            (b"{\"version\": 1, \"pools\": {}, \"more\": 1}", "unknown field"),
            (
                b"{\"version\": 1, \"pools\": {\"default\": {\"a:1\": {\"state\": \"off\", \
                 \"since\": \"2026-01-01T00:00:00Z\"}}}}",
                "a:1: \"off\" is no state",
            ),
            (
                b"{\"version\": 1, \"pools\": {\"default\": {\"a:1\": {\"state\": \"drain\", \
                 \"since\": \"2026-01-01T00:00:00Z\", \"weight_reverts_to\": {\"weight\": 257}}}}}",
                "a:1: a weight above 256",
            ),
            (
                b"{\"version\": 1, \"pools\": {\"default\": {\"a:1\": {\"state\": \"drain\", \
                 \"since\": \"2026-01-01T00:00:00Z\", \"said\": {\"latest\": \"noon\"}}}}}",
                "a:1: \"noon\" is no time",
            ),
            (
                b"{\"version\": 1, \"pools\": {}, \"policies\": {\"default\": {\"policy\": \"magic\", \
                 \"hash_key\": \"path\", \"since\": \"2026-01-01T00:00:00Z\"}}}",
                "\"magic\" is no policy",
            ),
        ];
        for (content, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            let file = file_in(&folder);
            fs::write(&file.path, content).unwrap();
            let error = file.load("default").unwrap_err();
            assert!(error.contains(expected) && error.contains("unreadable"), "{error}");
            assert!(!file.path.exists() && folder.path().join("state.json.unreadable").exists());
            file.save("default", &Standing::default()).unwrap();
            assert_eq!(file.load("default"), Ok(Standing::default()));
        }
    }

    #[test]
    fn a_folder_that_is_missing_is_made_as_soon_as_that_is_possible() {
        let folder = tempfile::tempdir().unwrap();
        let (below, path) = (folder.path().join("a"), folder.path().join("a/b/state.json"));
        // Nobody, not even root, can make a folder in a file.
        fs::write(&below, "in the way").unwrap();
        let file = StateFile::new(path.to_str().unwrap(), Clock::start());
        assert_eq!(
            file.load("default"),
            Ok(Standing::default()),
            "there is none, and none is lost"
        );
        let error = file.save("default", &Standing::default()).unwrap_err();
        assert!(error.contains("a/b/state.json cannot be written: "), "{error}");
        fs::remove_file(below).unwrap();
        file.save("default", &Standing::default()).unwrap();
        assert!(path.is_file());
    }

    #[test]
    fn a_file_that_came_while_the_process_ran_is_set_aside_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let file = StateFile::new(path.to_str().unwrap(), Clock::start());
        file.load("default").unwrap();
        file.save("default", &Standing::default()).unwrap();
        fs::remove_file(&path).unwrap();
        file.save("default", &Standing::default()).unwrap();
        // Aside first, so that it gets another inode.
        fs::write(folder.path().join("other"), "all drained").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        let error = file.save("default", &Standing::default()).unwrap_err();
        assert!(error.contains("another one") && error.contains("state.json.found"), "{error}");
        file.save("default", &Standing::default()).unwrap();
        let found = fs::read_to_string(folder.path().join("state.json.found")).unwrap();
        assert_eq!(found, "all drained");
        assert!(fs::read_to_string(&path).unwrap().contains("version"));
    }
}
