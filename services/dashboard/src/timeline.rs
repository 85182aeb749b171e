//! What happened, from all proxies in one list.
//!
//! A proxy tells what it told before when it is asked at another address, or at one that was gone for a
//! while, and two proxies may have the same name. So what tells an event from another is the run of the
//! proxy that told it and its number there; what the proxy is called is looked up when it is shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::model::Event;

/// Events kept: enough to mark an hour's axis; the proxies themselves keep a thousand each.
const MOST: usize = 300;
/// Proxies that tell the same thing within this time tell of one thing: each probes at its own
/// moment, and a failure shows after a few probes.
const SAME: Duration = Duration::from_secs(10);

/// An event and who told it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its number on this page: the same as long as it is shown.
    pub(crate) number: u64,
    pub(crate) event: Event,
    /// The names of the proxies that told it.
    pub(crate) proxies: Vec<String>,
}

/// All of it, newest first.
#[derive(Default)]
pub(crate) struct Timeline {
    entries: Vec<Entry>,
    /// What the proxies of these runs are called, or were when they were last there.
    names: BTreeMap<String, String>,
    next: u64,
}

struct Entry {
    number: u64,
    event: Event,
    tellers: Vec<Teller>,
}

/// Who told an event.
struct Teller {
    /// The run of a proxy, and the event's number there.
    run: String,
    id: u64,
    /// Where it was asked.
    place: String,
}

impl Timeline {
    /// Notes what the run of a proxy told at a place, oldest first.
    pub(crate) fn note(&mut self, run: &str, place: &str, events: Vec<Event>) {
        for event in events {
            let teller = Teller { run: run.to_owned(), id: event.id, place: place.to_owned() };
            if self.entries.iter().any(|known| known.is_told_by(&teller)) {
                continue;
            }
            if let Some(known) = self.entries.iter_mut().find(|one| one.is_also(&teller, &event)) {
                known.tellers.push(teller);
                continue;
            }
            self.next += 1;
            // Times of one form sort as text; those that come late find their place.
            let place = self.entries.partition_point(|known| known.event.at > event.at);
            let entry = Entry { number: self.next, event, tellers: vec![teller] };
            self.entries.insert(place, entry);
        }
        self.entries.truncate(MOST);
    }

    /// Takes the names of runs; those of runs that are gone stay as they were.
    pub(crate) fn name<'a>(&mut self, runs: impl Iterator<Item = (String, &'a str)>) {
        for (run, name) in runs {
            self.names.insert(run, name.to_owned());
        }
        let tellers = self.entries.iter().flat_map(|entry| &entry.tellers);
        let runs: BTreeSet<&str> = tellers.map(|teller| &*teller.run).collect();
        self.names.retain(|run, _| runs.contains(&**run));
    }

    /// All of it with the names of who told it.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let seen = |entry: &Entry| {
            let mut proxies: Vec<String> = Vec::new();
            for teller in &entry.tellers {
                let name = self.names.get(&teller.run).unwrap_or(&teller.place);
                if !proxies.contains(name) {
                    proxies.push(name.clone());
                }
            }
            Seen { number: entry.number, event: entry.event.clone(), proxies }
        };
        self.entries.iter().map(seen).collect()
    }
}

impl Entry {
    fn is_told_by(&self, teller: &Teller) -> bool {
        self.tellers.iter().any(|known| known.run == teller.run && known.id == teller.id)
    }

    /// Whether another proxy tells the same thing. One that tells it twice, or tells it again after it
    /// was started anew, tells of two things.
    fn is_also(&self, teller: &Teller, event: &Event) -> bool {
        let same = self.event.kind == event.kind
            && self.event.backend == event.backend
            && self.event.message == event.message
            && self.event.actor == event.actor;
        let is_other = |known: &Teller| known.run != teller.run && known.place != teller.place;
        same && self.tellers.iter().all(is_other) && self.is_near(event)
    }

    fn is_near(&self, event: &Event) -> bool {
        let time = |text: &str| humantime::parse_rfc3339(text).ok();
        let (Some(a), Some(b)) = (time(&self.event.at), time(&event.at)) else { return false };
        a.duration_since(b).or_else(|_| b.duration_since(a)).is_ok_and(|apart| apart < SAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(second: u32, message: &str) -> Event {
        serde_json::from_value(serde_json::json!({
            "id": second, "at": format!("2026-11-23T15:00:{second:02}.000Z"), "message": message,
        }))
        .unwrap()
    }

    /// What is shown: the second of each event, and who told it.
    fn told(timeline: &Timeline) -> Vec<(String, String)> {
        let seen = timeline.seen().into_iter();
        seen.map(|seen| (seen.event.at[17..19].to_owned(), seen.proxies.join(", "))).collect()
    }

    fn expected(told: &[(&str, &str)]) -> Vec<(String, String)> {
        told.iter().map(|(second, who)| ((*second).to_owned(), (*who).to_owned())).collect()
    }

    #[test]
    fn what_several_proxies_tell_is_one_event_with_their_names() {
        let mut timeline = Timeline::default();
        timeline.note("run a", "place a", vec![event(1, "up"), event(30, "down")]);
        timeline.note("run b", "place b", vec![event(3, "up"), event(50, "down")]);
        timeline.name([("run a".to_owned(), "a"), ("run b".to_owned(), "b")].into_iter());
        assert_eq!(told(&timeline), expected(&[("50", "b"), ("30", "a"), ("01", "a, b")]));
        timeline.note("run a", "place a", vec![event(31, "down")]);
        assert_eq!(timeline.entries.len(), 4, "one that tells it twice tells of two things");
        timeline.note("run a anew", "place a", vec![event(32, "down")]);
        assert_eq!(timeline.entries.len(), 5, "and so does one that was started anew");
    }

    #[test]
    fn what_a_proxy_tells_again_at_another_place_or_after_a_while_is_no_other_event() {
        let mut timeline = Timeline::default();
        let all = || vec![event(1, "up"), event(30, "down")];
        timeline.note("run a", "10.0.0.1", all());
        timeline.note("run a", "localhost", all());
        timeline.note("run a", "10.0.0.1", all());
        timeline.name([("run a".to_owned(), "edge-1")].into_iter());
        assert_eq!(told(&timeline), expected(&[("30", "edge-1"), ("01", "edge-1")]));
    }

    #[test]
    fn names_are_those_of_now_and_of_who_is_gone_the_last_ones() {
        let mut timeline = Timeline::default();
        timeline.note("run a", "10.0.0.1", vec![event(1, "up")]);
        timeline.note("run b", "10.0.0.2", vec![event(2, "up")]);
        timeline.name([("run a".to_owned(), "host"), ("run b".to_owned(), "other")].into_iter());
        timeline.name([("run a".to_owned(), "10.0.0.1:9901")].into_iter());
        assert_eq!(told(&timeline), expected(&[("01", "10.0.0.1:9901, other")]));
        for second in 10..=59 {
            let events = (0..10).map(|id| event(second, &format!("{second} {id}")));
            timeline.note(
                "run c",
                "10.0.0.3",
                events
                    .enumerate()
                    .map(|(id, event)| Event { id: u64::from(second) * 10 + id as u64, ..event })
                    .collect(),
            );
        }
        timeline.name([("run c".to_owned(), "c")].into_iter());
        assert_eq!(timeline.names.len(), 1, "and none of whom nothing is known any more");
    }

    #[test]
    fn the_list_is_bounded() {
        let mut timeline = Timeline::default();
        let events = (0..1_000).map(|n| Event { id: n, ..event(n as u32 % 60, &n.to_string()) });
        timeline.note("run a", "place a", events.collect());
        assert_eq!(timeline.entries.len(), MOST);
    }
}
