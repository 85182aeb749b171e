//! The last probes of each backend, as they were seen.
//!
//! The admin API tells the latest one; the dashboard asks more often than proxies probe, so that
//! it sees nearly each. Bounded: twenty for each backend that is in a picture.

use std::collections::{HashMap, VecDeque};

use crate::model::{Answer, Probe};

/// Probes kept of one backend: at the common interval, the last 40 seconds of one proxy.
const MOST: usize = 20;

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
                    log.truncate(MOST - 1);
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
        for at in 0..50 {
            let (one, two) = (answer(at), answer(at / 2));
            log.note(&[("a", &one), ("b", &two)]);
            log.note(&[("a", &one), ("b", &two)]);
        }
        let seen = log.of("p", "x");
        assert_eq!(seen.len(), MOST);
        assert_eq!(
            seen.iter()
                .filter(|seen| seen.proxy == "a" && seen.probe.at.as_deref() == Some("49"))
                .count(),
            1
        );
        log.note(&[]);
        assert!(log.of("p", "x").is_empty(), "a backend that left takes its log along");
    }
}
