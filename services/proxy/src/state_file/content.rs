//! The state file as JSON: what is in it, and how it becomes what the pool is told.

use std::{collections::BTreeMap, ops::Not};

use balance::{
    Admin, BackendId, MAX_IN_FLIGHT_MAX, Numbered, Overridable, Policy, PolicyPlan, Said, SaidAt,
    SetBy, StandingIntent, Stated, Time, WEIGHT_MAX, WantedPlan,
};
use serde::{Deserialize, Serialize};

use super::{Standing, StateFile};
use crate::{clock, hash_key::HashKey};

/// The only version so far. Another one is not ours to read, nor to overwrite.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    version: u32,
    /// By pool and backend.
    pools: BTreeMap<String, BTreeMap<String, Kept>>,
    /// By pool; only where operators have said something of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    policies: BTreeMap<String, KeptPolicy>,
}

/// The fields `…reverts_to`, `…said`, `…set`, `deadline` and `…forced` came later. They are left out
/// where there is nothing to say. Without the first, what has an end goes back to the usual; without
/// the second, it was said when it began to hold; without the third, nobody knows who set it; without
/// the last, nobody forced it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    state: String,
    since: String,
    reason: Option<String>,
    actor: Option<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    forced: bool,
    expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reverts_to: Option<KeptState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<KeptSaid>,
    weight: Option<u32>,
    weight_since: Option<String>,
    weight_reason: Option<String>,
    weight_actor: Option<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    weight_forced: bool,
    weight_expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight_reverts_to: Option<KeptWeight>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight_said: Option<KeptSaid>,
    max_in_flight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_in_flight_set: Option<KeptSet>,
    max_in_flight_expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_in_flight_reverts_to: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_in_flight_reverts_to_set: Option<KeptSet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_in_flight_said: Option<KeptSaid>,
}

/// When the newest words were said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptSaid {
    /// The one that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standing: Option<String>,
    /// Of all, be it one that has ended.
    latest: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptState {
    state: String,
    since: String,
    reason: Option<String>,
    actor: Option<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    forced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptWeight {
    weight: Option<u32>,
    since: Option<String>,
    reason: Option<String>,
    actor: Option<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    forced: bool,
}

/// Who set a limit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptSet {
    since: String,
    reason: Option<String>,
    actor: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptPolicy {
    /// None, and no key either, is the configured one.
    policy: Option<String>,
    hash_key: Option<String>,
    since: Option<String>,
    reason: Option<String>,
    actor: Option<String>,
    expires: Option<String>,
    /// What stands below one that has an end. Files of earlier versions have none, and no times at
    /// which something was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<Box<KeptPolicy>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<KeptSaid>,
}

impl StateFile {
    pub(super) fn content(&self, pool: &str, standing: &Standing) -> Content {
        let intents = standing.intents.iter();
        let backends = intents.map(|intent| (intent.id.to_string(), self.kept(intent)));
        let pools = [(pool.to_owned(), backends.collect())].into();
        let policy = self.kept_policy(&standing.policy);
        let policies = policy.map(|policy| (pool.to_owned(), policy)).into_iter().collect();
        Content { version: VERSION, pools, policies }
    }

    fn kept(&self, intent: &StandingIntent) -> Kept {
        let text = |time| self.clock.text(time);
        let StandingIntent { id: _, state, weight, max_in_flight } = intent;
        let current = self.kept_state(state.current());
        // What goes back to what a file without a word of it says needs none.
        let usual = self.kept_state(&usual(state.current()));
        let below = state.reverts_to().map(|stated| self.kept_state(stated));
        let now = self.kept_weight(weight.current());
        let below_weight = weight.reverts_to().filter(|weighed| **weighed != Numbered::default());
        let limit = max_in_flight.current();
        let below_limit = max_in_flight.reverts_to();
        Kept {
            state: current.state,
            since: current.since,
            reason: current.reason,
            actor: current.actor,
            forced: current.forced,
            expires: state.expires().map(text),
            deadline: current.deadline,
            reverts_to: below.filter(|stated| *stated != usual),
            said: kept_said(state.said),
            weight: now.weight,
            weight_since: now.since,
            weight_reason: now.reason,
            weight_actor: now.actor,
            weight_forced: now.forced,
            weight_expires: weight.expires().map(text),
            weight_reverts_to: below_weight.map(|weighed| self.kept_weight(weighed)),
            weight_said: kept_said(weight.said),
            max_in_flight: limit.number,
            max_in_flight_set: self.kept_set(limit),
            max_in_flight_expires: max_in_flight.expires().map(text),
            max_in_flight_reverts_to: below_limit.and_then(|limit| limit.number),
            max_in_flight_reverts_to_set: below_limit.and_then(|limit| self.kept_set(limit)),
            max_in_flight_said: kept_said(max_in_flight.said),
        }
    }

    fn kept_weight(&self, weighed: &Numbered) -> KeptWeight {
        let set = weighed.set.as_ref();
        KeptWeight {
            weight: weighed.number,
            since: set.map(|set| self.clock.text(set.since)),
            reason: set.and_then(|set| set.reason.clone()),
            actor: set.and_then(|set| set.actor.clone()),
            forced: set.is_some_and(|set| set.forced),
        }
    }

    fn kept_set(&self, numbered: &Numbered) -> Option<KeptSet> {
        let SetBy { since, reason, actor, forced: _ } = numbered.set.clone()?;
        Some(KeptSet { since: self.clock.text(since), reason, actor })
    }

    fn kept_state(&self, stated: &Stated) -> KeptState {
        KeptState {
            state: stated.state.as_str().to_owned(),
            since: self.clock.text(stated.since),
            reason: stated.reason.clone(),
            actor: stated.actor.clone(),
            forced: stated.forced,
            deadline: stated.deadline.map(|time| self.clock.text(time)),
        }
    }

    fn kept_policy(&self, wanted: &Overridable<WantedPlan>) -> Option<KeptPolicy> {
        let kept = |wanted: &WantedPlan| {
            let (plan, set) = (wanted.plan.as_ref(), wanted.set.as_ref());
            KeptPolicy {
                policy: plan.map(|plan| plan.policy.as_str().to_owned()),
                hash_key: plan.map(|plan| plan.hash_key.to_string()),
                since: set.map(|set| self.clock.text(set.since)),
                reason: set.and_then(|set| set.reason.clone()),
                actor: set.and_then(|set| set.actor.clone()),
                expires: None,
                below: None,
                said: None,
            }
        };
        let is_special = wanted.said.latest.is_some()
            || wanted.on_top.is_some()
            || wanted.standing.plan.is_some();
        let below = wanted.reverts_to().filter(|below| **below != WantedPlan::default());
        is_special.then(|| KeptPolicy {
            expires: wanted.expires().map(|time| self.clock.text(time)),
            below: below.map(|below| Box::new(kept(below))),
            said: kept_said(wanted.said),
            ..kept(wanted.current())
        })
    }

    pub(super) fn parse(&self, bytes: &[u8], pool: &str) -> Result<Standing, String> {
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
    ) -> Result<Overridable<WantedPlan>, String> {
        let until = self.time_if(pool, kept.expires.as_deref())?;
        let said = said(pool, kept.said.take(), until.is_some(), kept.since.as_ref())?;
        let below = kept.below.take().map(|below| self.policy(pool, *below)).transpose()?;
        Ok(layers(self.policy(pool, kept)?, until, below.unwrap_or_default(), said))
    }

    fn policy(&self, pool: &str, kept: KeptPolicy) -> Result<WantedPlan, String> {
        let KeptPolicy { policy, hash_key, since, reason, actor, .. } = kept;
        let plan = |policy: String| {
            let policy = Policy::from_name(&policy)
                .ok_or_else(|| format!("{pool}: {policy:?} is no policy"))?;
            let hash_key = hash_key.unwrap_or_default();
            HashKey::parse(&hash_key)
                .map_err(|_| format!("{pool}: {hash_key:?} is no hash key"))?;
            Ok::<_, String>(PolicyPlan { policy, hash_key: hash_key.into() })
        };
        let since = self.time_if(pool, since.as_deref())?;
        let set = since.map(|since| SetBy { since, reason, actor, forced: false });
        Ok(WantedPlan { plan: policy.map(plan).transpose()?, set })
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
        let weight = |kept: KeptWeight| -> Result<Numbered, String> {
            let number = bounded(kept.weight, WEIGHT_MAX, "a weight")?;
            let since = self.time_if(id, kept.since.as_deref())?;
            let KeptWeight { reason, actor, forced, .. } = kept;
            Ok(Numbered { number, set: since.map(|since| SetBy { since, reason, actor, forced }) })
        };
        let limit = |number, set: Option<KeptSet>| -> Result<Numbered, String> {
            let number = bounded(number, MAX_IN_FLIGHT_MAX, "a limit")?;
            let set = set.map(|KeptSet { since, reason, actor }| {
                self.time(id, &since).map(|since| SetBy { since, reason, actor, forced: false })
            });
            Ok(Numbered { number, set: set.transpose()? })
        };
        let is_said = kept.actor.is_some() || kept.state != Admin::Ready.as_str();
        let since = Some(&kept.since).filter(|_| is_said);
        let said_state = said(id, kept.said, kept.expires.is_some(), since)?;
        let said_weight =
            said(id, kept.weight_said, kept.weight_expires.is_some(), kept.weight_since.as_ref())?;
        let said_limit = said(id, kept.max_in_flight_said, false, None)?;
        let Kept { state, since, reason, actor, forced, deadline, .. } = kept;
        let current = KeptState { state, since, reason, actor, forced, deadline };
        let current = self.stated(id, current)?;
        let below = match kept.reverts_to {
            Some(kept) => self.stated(id, kept)?,
            None => usual(&current),
        };
        let current_weight = KeptWeight {
            weight: kept.weight,
            since: kept.weight_since,
            reason: kept.weight_reason,
            actor: kept.weight_actor,
            forced: kept.weight_forced,
        };
        let below_weight = kept.weight_reverts_to.map(weight).transpose()?;
        Ok(StandingIntent {
            id: BackendId::new(id),
            state: layers(current, end(kept.expires)?, below, said_state),
            weight: layers(
                weight(current_weight)?,
                end(kept.weight_expires)?,
                below_weight.unwrap_or_default(),
                said_weight,
            ),
            max_in_flight: layers(
                limit(kept.max_in_flight, kept.max_in_flight_set)?,
                end(kept.max_in_flight_expires)?,
                limit(kept.max_in_flight_reverts_to, kept.max_in_flight_reverts_to_set)?,
                said_limit,
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
            forced: kept.forced,
            deadline: self.time_if(id, kept.deadline.as_deref())?,
        })
    }
}

/// What a state goes back to of which nothing was kept.
fn usual(current: &Stated) -> Stated {
    Stated { since: current.since, ..Stated::default() }
}

/// What is in force on top of what it goes back to, or, without an end, for good.
pub(super) fn layers<T>(current: T, end: Option<Time>, below: T, said: Said) -> Overridable<T> {
    match end {
        Some(end) => Overridable { standing: below, on_top: Some((current, end)), said },
        None => Overridable { standing: current, on_top: None, said },
    }
}

fn kept_said(said: Said) -> Option<KeptSaid> {
    let latest = clock::said_text(said.latest?);
    Some(KeptSaid { standing: said.standing.map(clock::said_text), latest })
}

/// When something was said. Of files without it: whoever said something did when it began to hold.
fn said(
    of: &str,
    kept: Option<KeptSaid>,
    has_end: bool,
    since: Option<&String>,
) -> Result<Said, String> {
    let KeptSaid { standing, latest } = match (kept, since) {
        (Some(kept), _) => kept,
        (None, None) => return Ok(Said::default()),
        (None, Some(since)) => {
            let standing = (!has_end).then(|| since.clone());
            KeptSaid { standing, latest: since.clone() }
        }
    };
    let standing = standing.map(|text| said_at(of, &text)).transpose()?;
    Ok(Said { standing, latest: Some(said_at(of, &latest)?) })
}

fn said_at(of: &str, text: &str) -> Result<SaidAt, String> {
    clock::said_at(text).ok_or_else(|| format!("{of}: {text:?} is no time"))
}
