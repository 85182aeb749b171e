//! What operators want, kept over a restart of the proxy.
//!
//! The file is written anew at each change, aside and renamed into place, so that a crash leaves
//! the old one or the new one and never half of one. It is JSON, for people to read: what is in
//! force, and, where that has an end, what it goes back to. A file that cannot be read or written
//! is told on the timeline and in the log, and never keeps the proxy from serving.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use balance::{
    Admin, BackendId, MAX_IN_FLIGHT_MAX, Overridable, Policy, PolicyPlan, SetBy, StandingIntent,
    StandingPolicy, Stated, Time, WEIGHT_MAX, Weighed,
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
    pub(crate) policy: Overridable<Option<StandingPolicy>>,
}

/// The fields `…reverts_to` came later. They are left out where there is nothing to say, so that a
/// proxy of before them reads whatever it could have written; without them, what has an end goes
/// back to the usual.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    state: String,
    since: String,
    reason: Option<String>,
    actor: Option<String>,
    expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reverts_to: Option<KeptState>,
    weight: Option<u32>,
    weight_since: Option<String>,
    weight_reason: Option<String>,
    weight_actor: Option<String>,
    weight_expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight_reverts_to: Option<KeptWeight>,
    max_in_flight: Option<u32>,
    max_in_flight_expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_in_flight_reverts_to: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptState {
    state: String,
    since: String,
    reason: Option<String>,
    actor: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptWeight {
    weight: Option<u32>,
    since: Option<String>,
    reason: Option<String>,
    actor: Option<String>,
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
    /// What stands below one that has an end. Files of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<Box<KeptPolicy>>,
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
        let policy = self.kept_policy(&standing.policy);
        let policies = policy.map(|policy| (pool.to_owned(), policy)).into_iter().collect();
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
        let StandingIntent { id: _, state, weight, max_in_flight } = intent;
        let KeptState { state: current, since, reason, actor } = self.kept_state(state.current());
        let is_usual = |stated: &&Stated| stated.state == Admin::Ready && stated.actor.is_none();
        let below = state.reverts_to().filter(|stated| !is_usual(stated));
        let now = self.kept_weight(weight.current());
        let below_weight = weight.reverts_to().filter(|weighed| weighed.weight.is_some());
        Kept {
            state: current,
            since,
            reason,
            actor,
            expires: state.expires().map(text),
            reverts_to: below.map(|stated| self.kept_state(stated)),
            weight: now.weight,
            weight_since: now.since,
            weight_reason: now.reason,
            weight_actor: now.actor,
            weight_expires: weight.expires().map(text),
            weight_reverts_to: below_weight.map(|weighed| self.kept_weight(weighed)),
            max_in_flight: *max_in_flight.current(),
            max_in_flight_expires: max_in_flight.expires().map(text),
            max_in_flight_reverts_to: max_in_flight.reverts_to().copied().flatten(),
        }
    }

    fn kept_weight(&self, weighed: &Weighed) -> KeptWeight {
        let set = weighed.set.as_ref();
        KeptWeight {
            weight: weighed.weight,
            since: set.map(|set| self.clock.text(set.since)),
            reason: set.and_then(|set| set.reason.clone()),
            actor: set.and_then(|set| set.actor.clone()),
        }
    }

    fn kept_state(&self, stated: &Stated) -> KeptState {
        KeptState {
            state: stated.state.as_str().to_owned(),
            since: self.clock.text(stated.since),
            reason: stated.reason.clone(),
            actor: stated.actor.clone(),
        }
    }

    fn kept_policy(&self, wanted: &Overridable<Option<StandingPolicy>>) -> Option<KeptPolicy> {
        let kept = |standing: &StandingPolicy| KeptPolicy {
            policy: standing.plan.policy.as_str().to_owned(),
            hash_key: standing.plan.hash_key.to_string(),
            since: self.clock.text(standing.since),
            reason: standing.reason.clone(),
            actor: standing.actor.clone(),
            expires: None,
            below: None,
        };
        let below = wanted.reverts_to().and_then(Option::as_ref);
        wanted.current().as_ref().map(|current| KeptPolicy {
            expires: wanted.expires().map(|time| self.clock.text(time)),
            below: below.map(|below| Box::new(kept(below))),
            ..kept(current)
        })
    }

    fn parse(&self, bytes: &[u8], pool: &str) -> Result<Standing, String> {
        let mut content: Content =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if content.version != VERSION {
            return Err(format!("version {} instead of {VERSION}", content.version));
        }
        let backends = content.pools.remove(pool).unwrap_or_default();
        let intents = backends.into_iter().map(|(id, kept)| self.intent(&id, kept));
        let policy = content.policies.remove(pool).map(|kept| self.wanted_policy(pool, kept));
        let policy = policy.transpose()?.unwrap_or_default();
        Ok(Standing { intents: intents.collect::<Result<_, _>>()?, policy })
    }

    fn wanted_policy(
        &self,
        pool: &str,
        mut kept: KeptPolicy,
    ) -> Result<Overridable<Option<StandingPolicy>>, String> {
        let until = self.time_if(pool, kept.expires.as_deref())?;
        let below = kept.below.take().map(|below| self.policy(pool, *below)).transpose()?;
        let current = Some(self.policy(pool, kept)?);
        Ok(match until {
            Some(until) => Overridable { standing: below, on_top: Some((current, until)) },
            None => Overridable { standing: current, on_top: None },
        })
    }

    fn policy(&self, pool: &str, kept: KeptPolicy) -> Result<StandingPolicy, String> {
        let KeptPolicy { policy, hash_key, since, reason, actor, .. } = kept;
        let policy =
            Policy::from_name(&policy).ok_or_else(|| format!("{pool}: {policy:?} is no policy"))?;
        HashKey::parse(&hash_key).map_err(|_| format!("{pool}: {hash_key:?} is no hash key"))?;
        let since = self.time(pool, &since)?;
        let plan = PolicyPlan { policy, hash_key: hash_key.into() };
        Ok(StandingPolicy { plan, since, reason, actor })
    }

    fn time(&self, of: &str, text: &str) -> Result<Time, String> {
        self.clock.parse(text).ok_or_else(|| format!("{of}: {text:?} is no time"))
    }

    fn time_if(&self, of: &str, text: Option<&str>) -> Result<Option<Time>, String> {
        text.map(|text| self.time(of, text)).transpose()
    }

    fn intent(&self, id: &str, kept: Kept) -> Result<StandingIntent, String> {
        let end = |text: Option<String>| text.map(|text| self.time(id, &text)).transpose();
        let bounded = |number: Option<u32>, most: u32, what: &str| match number {
            Some(number) if number > most => Err(format!("{id}: {what} above {most}")),
            number => Ok(number),
        };
        let weight = |kept: KeptWeight| -> Result<Weighed, String> {
            let weight = bounded(kept.weight, WEIGHT_MAX, "a weight")?;
            let since = self.time_if(id, kept.since.as_deref())?;
            let KeptWeight { reason, actor, .. } = kept;
            Ok(Weighed { weight, set: since.map(|since| SetBy { since, reason, actor }) })
        };
        let limit = |number| bounded(number, MAX_IN_FLIGHT_MAX, "a limit");
        let Kept { state, since, reason, actor, .. } = kept;
        let current = self.stated(id, KeptState { state, since, reason, actor })?;
        let below = match kept.reverts_to {
            Some(kept) => self.stated(id, kept)?,
            None => Stated { since: current.since, ..Stated::default() },
        };
        let current_weight = KeptWeight {
            weight: kept.weight,
            since: kept.weight_since,
            reason: kept.weight_reason,
            actor: kept.weight_actor,
        };
        let below_weight = kept.weight_reverts_to.map(weight).transpose()?;
        Ok(StandingIntent {
            id: BackendId::new(id),
            state: layers(current, end(kept.expires)?, below),
            weight: layers(
                weight(current_weight)?,
                end(kept.weight_expires)?,
                below_weight.unwrap_or_default(),
            ),
            max_in_flight: layers(
                limit(kept.max_in_flight)?,
                end(kept.max_in_flight_expires)?,
                limit(kept.max_in_flight_reverts_to)?,
            ),
        })
    }

    fn stated(&self, id: &str, kept: KeptState) -> Result<Stated, String> {
        Ok(Stated {
            state: Admin::from_name(&kept.state)
                .ok_or_else(|| format!("{id}: {:?} is no state", kept.state))?,
            since: self.time(id, &kept.since)?,
            reason: kept.reason,
            actor: kept.actor,
            deadline: None,
        })
    }
}

/// What is in force on top of what it goes back to, or, without an end, for good.
fn layers<T>(current: T, end: Option<Time>, below: T) -> Overridable<T> {
    match end {
        Some(end) => Overridable { standing: below, on_top: Some((current, end)) },
        None => Overridable { standing: current, on_top: None },
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
        let stated = |state, actor: &str| Stated {
            state,
            since: clock.now(),
            reason: Some("new \"disk\"".to_owned()),
            actor: Some(actor.to_owned()),
            deadline: None,
        };
        let end = clock.now() + Duration::from_secs(60);
        StandingIntent {
            id: BackendId::new("10.0.0.1:80"),
            state: layers(stated(Admin::Drain, "bob"), Some(end), stated(Admin::Maint, "ada")),
            weight: layers(
                Weighed {
                    weight: Some(3),
                    set: Some(SetBy {
                        since: clock.now(),
                        reason: None,
                        actor: Some("bob".to_owned()),
                    }),
                },
                Some(end),
                Weighed { weight: Some(2), set: None },
            ),
            max_in_flight: layers(Some(9), Some(end), Some(5)),
        }
    }

    fn policy(clock: Clock) -> Overridable<Option<StandingPolicy>> {
        let policy = |policy, hash_key: &str, reason: Option<&str>, actor: Option<&str>| {
            Some(StandingPolicy {
                plan: PolicyPlan { policy, hash_key: hash_key.into() },
                since: clock.now(),
                reason: reason.map(str::to_owned),
                actor: actor.map(str::to_owned),
            })
        };
        let on_top = policy(Policy::Hash, "cookie:a", Some("sessions"), None);
        Overridable {
            standing: policy(Policy::First, "path", None, Some("bob")),
            on_top: Some((on_top, clock.now() + Duration::from_secs(60))),
        }
    }

    /// Times are written to the millisecond.
    fn assert_near(one: Time, other: Time) {
        let apart = one.since(other).max(other.since(one));
        assert!(apart < Duration::from_secs(1), "{apart:?}");
    }

    #[test]
    fn what_was_saved_is_loaded_by_a_later_process() {
        let folder = Folder::new("saved");
        let file = folder.file();
        assert_eq!(file.load("default"), Ok(Standing::default()), "there is no file yet");
        let (saved, policy) = (intent(file.clock), policy(file.clock));
        let standing = Standing { intents: vec![saved.clone()], policy: policy.clone() };
        file.save("default", &standing).unwrap();
        let mut loaded = folder.file().load("default").unwrap();
        let current =
            |wanted: &Overridable<Option<StandingPolicy>>| wanted.current().clone().unwrap();
        let (loaded_policy, saved_policy) = (current(&loaded.policy), current(&policy));
        assert_eq!(loaded_policy.plan, saved_policy.plan);
        assert_eq!(loaded_policy.reason, saved_policy.reason);
        assert_near(loaded.policy.expires().unwrap(), policy.expires().unwrap());
        let (below, saved_below) = (loaded.policy.standing.unwrap(), policy.standing.unwrap());
        assert_eq!((below.plan, below.actor), (saved_below.plan, saved_below.actor));
        let loaded = loaded.intents.remove(0);
        let (weight, below) = (loaded.weight.current(), loaded.weight.reverts_to().unwrap());
        assert_eq!((&loaded.id, weight.weight, below.weight), (&saved.id, Some(3), Some(2)));
        assert_eq!(weight.set.as_ref().unwrap().actor.as_deref(), Some("bob"));
        let both = |intent: &StandingIntent| {
            let state = &intent.state;
            [state.current().clone(), state.reverts_to().unwrap().clone()]
        };
        for (loaded, saved) in both(&loaded).into_iter().zip(both(&saved)) {
            assert_near(loaded.since, saved.since);
            assert_eq!(Stated { since: saved.since, ..loaded }, saved);
        }
        assert_near(loaded.state.expires().unwrap(), saved.state.expires().unwrap());
        let limit = &loaded.max_in_flight;
        assert_eq!((limit.current(), limit.reverts_to()), (&Some(9), Some(&Some(5))));
    }

    #[test]
    fn a_file_of_before_overrides_is_read_as_it_was_meant() {
        let folder = Folder::new("old");
        let file = folder.file();
        let old = r#"{"version": 1, "pools": {"default": {"a:1": {
            "state": "drain", "since": "2026-01-01T00:00:00Z", "reason": "new disk",
            "actor": "ada", "expires": "2026-01-01T01:00:00Z", "weight": 3,
            "weight_expires": "2026-01-01T02:00:00Z", "max_in_flight": 7,
            "max_in_flight_expires": null}}}}"#;
        fs::write(&file.path, old).unwrap();
        let intent = file.load("default").unwrap().intents.remove(0);
        let (current, below) = (intent.state.current(), intent.state.reverts_to().unwrap());
        assert_eq!((current.state, current.actor.as_deref()), (Admin::Drain, Some("ada")));
        assert_eq!((below.state, &below.reason, &below.actor), (Admin::Ready, &None, &None));
        let weights = (intent.weight.current().weight, intent.weight.reverts_to().unwrap().weight);
        assert_eq!(weights, (Some(3), None));
        assert_eq!(intent.max_in_flight, layers(Some(7), None, None));
        // What lies on nothing is written as it always was.
        file.save("default", &Standing { intents: vec![intent], policy: Overridable::default() })
            .unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        assert!(!text.contains("reverts_to") && text.contains("new disk"), "{text}");
    }

    #[test]
    fn a_file_that_is_not_ours_is_told_and_set_aside() {
        let cases: [(&[u8], &str); 7] = [
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
