//! When a change is said, so that every proxy knows which of two words is the newer one.
//!
//! All proxies are told the same time, and one that was away is told it later: whatever else it has
//! heard, the newest word holds. Clocks differ, so a word through the dashboard is newer than all
//! that it replaces, as far as proxies have told, even where our clock is behind theirs.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use crate::{
    model::{Answer, Backend},
    poll::View,
    word::What,
};

/// The clock of what visitors of the page say.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Two changes in a row may come before proxies tell of the first.
    last: AtomicU64,
}

impl Clock {
    /// The time of a word that is newer than `known`, in milliseconds since 1970.
    pub(crate) fn next(&self, known: Option<u64>) -> u64 {
        let least = now().max(known.map_or(0, |known| known + 1));
        let after = |last: u64| least.max(last + 1);
        let relaxed = Ordering::Relaxed;
        match self.last.fetch_update(relaxed, relaxed, |last| Some(after(last))) {
            // It never gives up: both are the last one before.
            Ok(last) | Err(last) => after(last),
        }
    }
}

fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or_default()
}

/// When the newest word was said that any proxy has told, be it one that is away by now.
pub(crate) fn newest(view: &View, (pool, id): (&str, &str), what: What) -> Option<u64> {
    let pictures = view.proxies.iter().filter_map(|proxy| proxy.picture.as_ref());
    let told = pictures.filter_map(|picture| picture.answer.backend(pool, id));
    told.filter_map(|backend| what.heard(backend)?.latest).max()
}

/// Whether a proxy takes such times; one of before them refuses what it does not know.
pub(crate) fn is_taken_by(answer: &Answer) -> bool {
    answer.pools.iter().flat_map(|pool| &pool.backends).any(Backend::tells_said)
}

/// A time as proxies write it.
pub(crate) fn text(said_at: u64) -> String {
    let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(said_at));
    humantime::format_rfc3339_millis(moment.unwrap_or(SystemTime::UNIX_EPOCH)).to_string()
}

/// A time that a proxy has written.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let moment = humantime::parse_rfc3339(text).ok()?;
    let since_1970 = moment.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since_1970.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_newer_than_all_known_ones_whatever_the_clocks_say() {
        let clock = Clock::default();
        let first = clock.next(None);
        assert!(clock.next(None) > first, "within the same millisecond");
        let ahead = first + 3_600_000;
        let next = clock.next(Some(ahead));
        assert_eq!(next, ahead + 1);
        assert_eq!(clock.next(Some(ahead)), ahead + 2, "nobody has told of the last one yet");
        assert_eq!(parse(&text(next)), Some(next));
    }
}
