//! By whose clock a time is.
//!
//! Each proxy tells times by its own clock, and those of two machines need not agree. So ages, and
//! what is left until an end, are reckoned by the clock of whoever tells the time. In a picture that
//! several proxies make together, that is another one than the picture's for some of the times.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::model::Proxy;

/// The clocks of proxies by their names, each as it was when its proxy answered.
pub(crate) struct Clocks<'a> {
    /// Each with the seconds by which its clock is ahead of that of the picture that they make
    /// together, which is the first one's.
    proxies: HashMap<&'a str, (&'a Proxy, f64)>,
}

/// Seconds by which the clocks that times of a backend are by are ahead of the picture's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Ahead {
    /// Of the health and the last probe.
    pub(crate) health: f64,
    pub(crate) state: f64,
    pub(crate) weight: f64,
    pub(crate) limit: f64,
}

impl<'a> FromIterator<(&'a str, &'a Proxy)> for Clocks<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a Proxy)>>(all: I) -> Self {
        let mut all = all.into_iter().peekable();
        let picture = all.peek().and_then(|(_, first)| first.now());
        let ahead = |proxy: &Proxy| match (proxy.now(), picture) {
            (Some(own), Some(picture)) => seconds_between(picture, own),
            // One that nobody knows counts as the same.
            _ => 0.0,
        };
        Self { proxies: all.map(|(name, proxy)| (name, (proxy, ahead(proxy)))).collect() }
    }
}

impl Clocks<'_> {
    /// How many seconds before its answer a time of this proxy was; negative for one to come.
    pub(crate) fn age(&self, proxy: &str, time: &str) -> Option<f64> {
        let (proxy, _) = self.proxies.get(proxy)?;
        proxy.age(Some(time))
    }

    /// By how many seconds the clock of this proxy is ahead of the picture's.
    pub(crate) fn ahead(&self, proxy: &str) -> f64 {
        self.proxies.get(proxy).map_or(0.0, |(_, ahead)| *ahead)
    }
}

impl Ahead {
    /// All of them by the same clock.
    pub(crate) fn all(seconds: f64) -> Self {
        Self { health: seconds, state: seconds, weight: seconds, limit: seconds }
    }

    /// Whether all of them are by the picture's clock.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

fn seconds_between(one: SystemTime, other: SystemTime) -> f64 {
    match other.duration_since(one) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    }
}

/// What a clock says that is so many seconds ahead of one that says `now`.
pub(crate) fn ahead_of(now: SystemTime, seconds: f64) -> SystemTime {
    let shift = Duration::try_from_secs_f64(seconds.abs()).ok();
    let there =
        shift.and_then(
            |shift| {
                if seconds < 0.0 { now.checked_sub(shift) } else { now.checked_add(shift) }
            },
        );
    // A file may say anything.
    there.unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_clock_is_compared_with_that_of_the_first_proxy_as_of_their_answers() {
        let proxy = |started: &str, uptime: f64| -> Proxy {
            let proxy = json!({"started_at": started, "uptime_seconds": uptime});
            serde_json::from_value(proxy).unwrap()
        };
        let first = proxy("2026-01-01T10:00:00Z", 60.0);
        let (ahead, behind) =
            (proxy("2026-01-01T11:00:30Z", 30.5), proxy("2026-01-01T10:00:00Z", 1.0));
        let unknown = proxy("", 5.0);
        let all = [("a", &first), ("b", &ahead), ("c", &behind), ("d", &unknown)];
        let clocks: Clocks<'_> = all.into_iter().collect();
        let told = ["a", "b", "c", "d", "e"].map(|name| clocks.ahead(name));
        assert_eq!(told, [0.0, 3600.5, -59.0, 0.0, 0.0]);
        assert_eq!(clocks.age("b", "2026-01-01T11:00:00.500Z"), Some(60.0));
    }

    #[test]
    fn a_clock_that_is_said_to_be_beyond_all_times_counts_as_the_same() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let at = |seconds: f64| ahead_of(now, seconds).duration_since(SystemTime::UNIX_EPOCH);
        assert_eq!(at(1.5).unwrap().as_secs_f64(), 101.5);
        assert_eq!(at(-1.5).unwrap().as_secs_f64(), 98.5);
        for seconds in [1e300, -1e300, f64::INFINITY, f64::NAN] {
            assert_eq!(ahead_of(now, seconds), now);
        }
    }
}
