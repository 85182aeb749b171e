//! What operators want, kept over a restart of the proxy.
//!
//! The file is written anew at each change, aside and renamed into place, so that a crash leaves
//! the old one or the new one and never half of one. It is JSON, for people to read. A file that
//! cannot be read or written is told on the timeline and in the log, and never keeps the proxy
//! from serving.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use balance::{
    Admin, BackendId, MAX_IN_FLIGHT_MAX, Policy, PolicyPlan, SetBy, StandingIntent, StandingPolicy,
    Time, WEIGHT_MAX,
};
use serde::{Deserialize, Serialize};

use crate::{clock::Clock, hash_key::HashKey};

/// The only version so far. Another one is not ours to read, nor to overwrite.
const VERSION: u32 = 1;

/// Where intent is kept.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    clock: Clock,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    /// By pool and backend.
    pools: BTreeMap<String, BTreeMap<String, Kept>>,
    /// By pool; only where operators want another policy than the configured one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    policies: BTreeMap<String, KeptPolicy>,
}

/// What operators want of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) intents: Vec<StandingIntent>,
    pub(crate) policy: Option<StandingPolicy>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    state: String,
    since: String,
    reason: Option<String>,
    actor: Option<String>,
    expires: Option<String>,
    weight: Option<u32>,
    weight_since: Option<String>,
    weight_reason: Option<String>,
    weight_actor: Option<String>,
    weight_expires: Option<String>,
    max_in_flight: Option<u32>,
    max_in_flight_expires: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptPolicy {
    policy: String,
    hash_key: String,
    since: String,
    reason: Option<String>,
    actor: Option<String>,
    expires: Option<String>,
}

impl StateFile {
    pub(crate) fn new(path: &str, clock: Clock) -> Self {
        Self { path: path.into(), clock }
    }

    /// What operators want of a pool; nothing if there is no file yet.
    ///
    /// # Errors
    /// Why the file cannot be used. It is set aside then, so that the next change does not
    /// overwrite what somebody may want to look at.
    pub(crate) fn load(&self, pool: &str) -> Result<Standing, String> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::default()),
            read => read.map_err(|error| error.to_string()),
        };
        bytes.and_then(|bytes| self.parse(&bytes, pool)).map_err(|why| {
            let aside = self.path.with_extension("unreadable");
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
    /// Why the file could not be written; the old one is still there.
    pub(crate) fn save(&self, pool: &str, standing: &Standing) -> Result<(), String> {
        let intents = standing.intents.iter();
        let backends = intents.map(|intent| (intent.id.to_string(), self.kept(intent)));
        let pools = [(pool.to_owned(), backends.collect())].into();
        let policy = standing.policy.iter();
        let policies = policy.map(|policy| (pool.to_owned(), self.kept_policy(policy))).collect();
        let content = Content { version: VERSION, pools, policies };
        let aside = self.path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&aside)?;
            file.write_all(&serde_json::to_vec_pretty(&content)?)?;
            // On disk before it takes the old one's name: a crash must not leave an empty file.
            file.sync_all()?;
            fs::rename(&aside, &self.path)?;
            // The new name is on disk only once the folder is.
            File::open(self.folder())?.sync_all()
        };
        write().map_err(|error| self.told("cannot be written", &error.to_string()))
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn told(&self, what: &str, why: &str) -> String {
        format!("the state file {} {what}: {why}", self.path.display())
    }

    fn kept(&self, intent: &StandingIntent) -> Kept {
        let text = |time| self.clock.text(time);
        let weight_set = intent.weight_set.clone();
        Kept {
            state: intent.state.as_str().to_owned(),
            since: text(intent.since),
            reason: intent.reason.clone(),
            actor: intent.actor.clone(),
            expires: intent.expires.map(text),
            weight: intent.weight,
            weight_since: weight_set.as_ref().map(|set| text(set.since)),
            weight_reason: weight_set.as_ref().and_then(|set| set.reason.clone()),
            weight_actor: weight_set.and_then(|set| set.actor),
            weight_expires: intent.weight_expires.map(text),
            max_in_flight: intent.max_in_flight,
            max_in_flight_expires: intent.max_in_flight_expires.map(text),
        }
    }

    fn kept_policy(&self, standing: &StandingPolicy) -> KeptPolicy {
        KeptPolicy {
            policy: standing.plan.policy.as_str().to_owned(),
            hash_key: standing.plan.hash_key.to_string(),
            since: self.clock.text(standing.since),
            reason: standing.reason.clone(),
            actor: standing.actor.clone(),
            expires: standing.expires.map(|time| self.clock.text(time)),
        }
    }

    fn parse(&self, bytes: &[u8], pool: &str) -> Result<Standing, String> {
        let mut content: Content =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if content.version != VERSION {
            return Err(format!("version {} instead of {VERSION}", content.version));
        }
        let backends = content.pools.remove(pool).unwrap_or_default();
        let intents = backends.into_iter().map(|(id, kept)| self.intent(&id, kept));
        let policy = content.policies.remove(pool).map(|kept| self.policy(pool, kept));
        Ok(Standing { intents: intents.collect::<Result<_, _>>()?, policy: policy.transpose()? })
    }

    fn policy(&self, pool: &str, kept: KeptPolicy) -> Result<StandingPolicy, String> {
        let KeptPolicy { policy, hash_key, since, reason, actor, expires } = kept;
        let policy =
            Policy::from_name(&policy).ok_or_else(|| format!("{pool}: {policy:?} is no policy"))?;
        HashKey::parse(&hash_key).map_err(|_| format!("{pool}: {hash_key:?} is no hash key"))?;
        let (since, expires) = (self.time(pool, &since)?, self.time_if(pool, expires.as_deref())?);
        let plan = PolicyPlan { policy, hash_key: hash_key.into() };
        Ok(StandingPolicy { plan, since, reason, actor, expires })
    }

    fn time(&self, of: &str, text: &str) -> Result<Time, String> {
        self.clock.parse(text).ok_or_else(|| format!("{of}: {text:?} is no time"))
    }

    fn time_if(&self, of: &str, text: Option<&str>) -> Result<Option<Time>, String> {
        text.map(|text| self.time(of, text)).transpose()
    }

    fn intent(&self, id: &str, kept: Kept) -> Result<StandingIntent, String> {
        if kept.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
            return Err(format!("{id}: a weight above {WEIGHT_MAX}"));
        }
        if kept.max_in_flight.is_some_and(|limit| limit > MAX_IN_FLIGHT_MAX) {
            return Err(format!("{id}: a limit above {MAX_IN_FLIGHT_MAX}"));
        }
        let weight_since = self.time_if(id, kept.weight_since.as_deref())?;
        let (reason, actor) = (kept.weight_reason, kept.weight_actor);
        let weight_set = weight_since.map(|since| SetBy { since, reason, actor });
        Ok(StandingIntent {
            id: BackendId::new(id),
            state: Admin::from_name(&kept.state)
                .ok_or_else(|| format!("{id}: {:?} is no state", kept.state))?,
            since: self.time(id, &kept.since)?,
            expires: self.time_if(id, kept.expires.as_deref())?,
            weight_expires: self.time_if(id, kept.weight_expires.as_deref())?,
            reason: kept.reason,
            actor: kept.actor,
            weight: kept.weight,
            weight_set,
            max_in_flight: kept.max_in_flight,
            max_in_flight_expires: self.time_if(id, kept.max_in_flight_expires.as_deref())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A file of its own for each test, gone at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = format!("evenkeel-state-{}-{name}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn file(&self) -> StateFile {
            StateFile::new(self.0.join("state.json").to_str().unwrap(), Clock::start())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn intent(clock: Clock) -> StandingIntent {
        StandingIntent {
            id: BackendId::new("10.0.0.1:80"),
            state: Admin::Maint,
            since: clock.now(),
            reason: Some("new \"disk\"".to_owned()),
            actor: Some("ada".to_owned()),
            expires: Some(clock.now() + Duration::from_secs(60)),
            weight: Some(3),
            weight_set: Some(SetBy {
                since: clock.now(),
                reason: None,
                actor: Some("bob".to_owned()),
            }),
            weight_expires: None,
            max_in_flight: Some(9),
            max_in_flight_expires: None,
        }
    }

    fn policy(clock: Clock) -> StandingPolicy {
        StandingPolicy {
            plan: PolicyPlan { policy: Policy::Hash, hash_key: "cookie:a".into() },
            since: clock.now(),
            reason: Some("sessions".to_owned()),
            actor: None,
            expires: None,
        }
    }

    #[test]
    fn what_was_saved_is_loaded_by_a_later_process() {
        let folder = Folder::new("saved");
        let file = folder.file();
        assert_eq!(file.load("default"), Ok(Standing::default()), "there is no file yet");
        let (saved, policy) = (intent(file.clock), policy(file.clock));
        let standing = Standing { intents: vec![saved.clone()], policy: Some(policy.clone()) };
        file.save("default", &standing).unwrap();
        let loaded = folder.file().load("default").unwrap();
        let loaded_policy = loaded.policy.unwrap();
        assert_eq!(loaded_policy.plan, policy.plan);
        assert_eq!((loaded_policy.reason, loaded_policy.expires), (policy.reason, None));
        let loaded = &loaded.intents[0];
        assert_eq!((&loaded.id, loaded.state), (&saved.id, saved.state));
        assert_eq!((&loaded.reason, &loaded.actor), (&saved.reason, &saved.actor));
        assert_eq!((loaded.weight, loaded.weight_expires), (Some(3), None));
        assert_eq!(loaded.weight_set.unwrap().actor.as_deref(), Some("bob"));
        // Times are written to the millisecond.
        let apart = saved.since.since(loaded.since).max(loaded.since.since(saved.since));
        assert!(apart < Duration::from_secs(1), "{apart:?}");
    }

    #[test]
    fn a_file_that_is_not_ours_is_told_and_set_aside() {
        let cases: [(&[u8], &str); 6] = [
            (b"{", "EOF"),
            (b"\xFF\xFE{}", "expected value"),
            (b"{\"version\": 2, \"pools\": {}}", "version 2"),
            (b"{\"version\": 1, \"pools\": {}, \"more\": 1}", "unknown field"),
            (
                b"{\"version\": 1, \"pools\": {\"default\": {\"a:1\": {\"state\": \"off\", \
                 \"since\": \"2026-01-01T00:00:00Z\"}}}}",
                "\"off\" is no state",
            ),
            (
                b"{\"version\": 1, \"pools\": {}, \"policies\": {\"default\": {\"policy\": \"magic\", \
                 \"hash_key\": \"path\", \"since\": \"2026-01-01T00:00:00Z\"}}}",
                "\"magic\" is no policy",
            ),
        ];
        for (content, expected) in cases {
            let folder = Folder::new("corrupt");
            let file = folder.file();
            fs::write(&file.path, content).unwrap();
            let error = file.load("default").unwrap_err();
            assert!(error.contains(expected) && error.contains("unreadable"), "{error}");
            assert!(!file.path.exists() && folder.0.join("state.unreadable").exists());
            file.save("default", &Standing::default()).unwrap();
            assert_eq!(file.load("default"), Ok(Standing::default()));
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told() {
        let file = StateFile::new("/does/not/exist/state.json", Clock::start());
        let error = file.save("default", &Standing::default()).unwrap_err();
        assert!(error.contains("/does/not/exist/state.json cannot be written"), "{error}");
    }
}
