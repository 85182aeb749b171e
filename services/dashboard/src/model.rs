//! The admin API's answers, as far as the page needs them.
//!
//! Reading is tolerant: a proxy that is a little older or newer leaves out a field or invents a
//! state, and the page still shows the rest. Only what tells the admin API from any other server,
//! `proxy` and `pools`, must be there.

mod backend;
mod event;
mod pool;
mod states;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

pub(crate) use self::{
    backend::{Backend, Probe, Stated},
    event::{Event, EventsAnswer},
    pool::{Pool, Traffic},
    states::{Admin, Effective, End, Health, Opinion},
};
use crate::fleet;

/// The answer of `GET /v1/pools`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Answer {
    /// The proxy itself.
    pub(crate) proxy: Proxy,
    /// Its pools.
    pub(crate) pools: Vec<Pool>,
}

/// The proxy itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Proxy {
    /// Its host's name.
    #[serde(default)]
    pub(crate) name: String,
    /// Its version.
    #[serde(default)]
    pub(crate) version: String,
    /// When it started; another value means another process, whose counters begin at zero.
    pub(crate) started_at: String,
    /// How long it has run.
    #[serde(default)]
    pub(crate) uptime_seconds: f64,
    /// Whether it takes traffic.
    #[serde(default = "yes")]
    pub(crate) ready: bool,
    /// Why not.
    #[serde(default)]
    pub(crate) not_ready_reasons: Vec<String>,
    /// Why changes are not on its disk, and would be lost with it.
    #[serde(default)]
    pub(crate) not_saved_reason: Option<String>,
    /// Whether it is stopping.
    #[serde(default)]
    pub(crate) stopping: bool,
    /// Worker threads.
    #[serde(default)]
    pub(crate) workers: u32,
}

impl Answer {
    /// A backend by its pool's name and its id.
    #[must_use]
    pub(crate) fn backend(&self, pool: &str, id: &str) -> Option<&Backend> {
        let pool = self.pools.iter().find(|candidate| candidate.name == pool)?;
        pool.backends.iter().find(|backend| backend.id == id)
    }

    /// Traffic of all pools together.
    #[must_use]
    pub(crate) fn traffic(&self) -> Traffic {
        fleet::add(self.pools.iter().map(|pool| &pool.traffic))
    }
}

impl Proxy {
    /// Whether it is not ready and should be: one that stops is not either.
    #[must_use]
    pub(crate) fn is_unready(&self) -> bool {
        !self.ready && !self.stopping
    }

    /// The time by its own clock when it answered.
    #[must_use]
    pub(crate) fn now(&self) -> Option<SystemTime> {
        let started = humantime::parse_rfc3339(&self.started_at).ok()?;
        started.checked_add(Duration::try_from_secs_f64(self.uptime_seconds).ok()?)
    }

    /// How many seconds before its answer a time of its clock was; negative for one to come.
    #[must_use]
    pub(crate) fn age(&self, time: Option<&str>) -> Option<f64> {
        let (now, time) = (self.now()?, humantime::parse_rfc3339(time?).ok()?);
        Some(match now.duration_since(time) {
            Ok(age) => age.as_secs_f64(),
            Err(ahead) => -ahead.duration().as_secs_f64(),
        })
    }
}

fn yes() -> bool {
    true
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// A state that we know, or the unknown one for anything else, whatever its type: one field of
/// one backend must not take the page away.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(from: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// A field that is there, be it null.
fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}
