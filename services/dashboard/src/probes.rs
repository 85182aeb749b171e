//! The last probes of each backend, as they were seen.
//!
//! The admin API tells the latest one; the dashboard asks more often than proxies probe, so that
//! it sees nearly each. Bounded: a hundred for each backend that is in a picture, and fewer of each
//! where there are hundreds of them.

use std::collections::{HashMap, VecDeque};

use crate::model::{Answer, Probe};

/// Probes kept of one backend: at the common interval, the last three minutes of one proxy.
const MOST: usize = 100;
/// And of one among many: the last 40 seconds.
const LEAST: usize = 20;
/// Probes kept of all: some 5 MB.
const ALL: usize = 20_000;

/// A probe and whose it was.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) proxy: String,
    pub(crate) probe: Probe,
}

/// All of them, by pool and backend.
#[derive(Default)]
pub(crate) struct ProbeLog(HashMap<(String, String), VecDeque<Seen>>);

impl ProbeLog {
    /// Notes what the proxies tell at one moment.
    pub(crate) fn note(&mut self, said: &[(&str, &Answer)]) {
        let mut before = std::mem::take(&mut self.0);
        let of_one = (ALL / before.len().max(1)).clamp(LEAST, MOST);
        for (proxy, answer) in said {
            for pool in &answer.pools {
                for backend in &pool.backends {
                    let key = (pool.name.clone(), backend.id.clone());
                    // Another proxy may have brought it over already.
                    let known = before.remove(&key);
                    let log = self.0.entry(key).or_insert_with(|| known.unwrap_or_default());
                    let Some(probe) = &backend.last_probe else { continue };
                    if log.iter().any(|seen| seen.proxy == *proxy && seen.probe.at == probe.at) {
                        continue;
                    }
                    log.truncate(of_one - 1);
                    log.push_front(Seen { proxy: (*proxy).to_owned(), probe: probe.clone() });
                }
            }
        }
    }

    /// Those of one backend, newest first.
    pub(crate) fn of(&self, pool: &str, id: &str) -> Vec<Seen> {
        let log = self.0.get(&(pool.to_owned(), id.to_owned()));
        log.map(|log| log.iter().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_probe_is_noted_once_and_the_log_is_bounded() {
        let mut log = ProbeLog::default();
        let answer = |at: u32| -> Answer {
            serde_json::from_value(serde_json::json!({"proxy": {"started_at": ""}, "pools": [{
                "name": "p", "backends": [{"id": "x", "last_probe": {"at": at.to_string(), "passed": true}}]}]}))
            .unwrap()
        };
        for at in 0..MOST as u32 {
            let (one, two) = (answer(at), answer(at / 2));
            log.note(&[("a", &one), ("b", &two)]);
            log.note(&[("a", &one), ("b", &two)]);
        }
        let seen = log.of("p", "x");
        assert_eq!(seen.len(), MOST);
        assert_eq!(
            seen.iter()
                .filter(|seen| seen.proxy == "a" && seen.probe.at.as_deref() == Some("99"))
                .count(),
            1
        );
        let many: Vec<_> =
            (0..=ALL / 50).map(|id| serde_json::json!({"id": id.to_string()})).collect();
        let mut crowd = serde_json::json!({"proxy": {"started_at": ""}, "pools": [{"name": "p", "backends": many}]});
        crowd["pools"][0]["backends"][0] =
            serde_json::json!({"id": "x", "last_probe": {"at": "later", "passed": true}});
        let crowd: Answer = serde_json::from_value(crowd).unwrap();
        log.note(&[("a", &crowd)]);
        assert_eq!(log.of("p", "x").len(), MOST, "there was only one");
        log.note(&[("b", &crowd)]);
        assert_eq!(
            log.of("p", "x").len(),
            49,
            "one of four hundred and one has its share of the room"
        );
        log.note(&[]);
        assert!(log.of("p", "x").is_empty(), "a backend that left takes its log along");
    }
}
