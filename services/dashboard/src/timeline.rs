//! What happened, from all proxies in one list.

use std::time::Duration;

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
    /// The proxies that told it.
    pub(crate) proxies: Vec<String>,
}

/// All of it, newest first.
#[derive(Default)]
pub(crate) struct Timeline {
    pub(crate) events: Vec<Seen>,
    next: u64,
}

impl Timeline {
    /// Notes what one proxy told, oldest first.
    pub(crate) fn note(&mut self, proxy: &str, events: Vec<Event>) {
        for event in events {
            if let Some(known) = self.events.iter_mut().find(|known| known.is_also(proxy, &event)) {
                known.proxies.push(proxy.to_owned());
                continue;
            }
            self.next += 1;
            // Times of one form sort as text; those that come late find their place.
            let place = self.events.partition_point(|known| known.event.at > event.at);
            let seen = Seen { number: self.next, event, proxies: vec![proxy.to_owned()] };
            self.events.insert(place, seen);
        }
        self.events.truncate(MOST);
    }
}

impl Seen {
    fn is_also(&self, proxy: &str, event: &Event) -> bool {
        let same = self.event.kind == event.kind
            && self.event.backend == event.backend
            && self.event.message == event.message
            && self.event.actor == event.actor;
        same && self.proxies.iter().all(|known| known != proxy) && self.is_near(event)
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

    #[test]
    fn what_several_proxies_tell_is_one_event_with_their_names() {
        let mut timeline = Timeline::default();
        timeline.note("a", vec![event(1, "up"), event(30, "down")]);
        timeline.note("b", vec![event(3, "up"), event(50, "down")]);
        let told: Vec<(&str, usize)> = timeline
            .events
            .iter()
            .map(|seen| (seen.event.at.get(17..19).unwrap(), seen.proxies.len()))
            .collect();
        assert_eq!(told, [("50", 1), ("30", 1), ("01", 2)]);
        timeline.note("a", vec![event(31, "down")]);
        assert_eq!(timeline.events.len(), 4, "one that tells it twice tells of two things");
    }

    #[test]
    fn the_list_is_bounded() {
        let mut timeline = Timeline::default();
        timeline.note("a", (0..1_000).map(|n| event(n % 60, &n.to_string())).collect());
        assert_eq!(timeline.events.len(), MOST);
    }
}
