//! When a change is said, so that every proxy knows which of two words is the newer one.
//!
//! All proxies are told the same time, and one that was away is told it later: whatever else it has
//! heard, the newest word holds. Clocks differ, so a word through the dashboard is newer than all
//! that it replaces, as far as proxies have told, even where our clock is behind theirs.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chassis::wall;

use crate::{
    model::{Answer, Backend},
    poll::View,
    word::{Key, What},
};

/// The clock of what visitors of the page say.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Two changes in a row may come before proxies tell of the first. By pool, backend and thing: a
    /// word that had to be far ahead of our clock is no reason for others to be.
    last: Mutex<HashMap<Key, Vec<LastWord>>>,
}

#[derive(Debug)]
struct LastWord {
    said: u64,
    /// When that was, by our clock.
    at: u64,
    actor: String,
}

/// For so many milliseconds proxies may not have told of a word yet.
const TOLD_WITHIN: u64 = 60_000;
/// Words of one thing that are kept meanwhile: which of the last ones proxies have taken is not known.
const WORDS_MOST: usize = 16;

/// What whoever makes a change knows of what was said before.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) what: What,
    /// When the newest word was said that the page showed.
    pub(crate) until: u64,
    /// When they said something themselves a moment ago, which the page need not show yet.
    pub(crate) own: Vec<u64>,
}

impl Seen {
    /// Whether they know the newest word on a backend.
    pub(crate) fn has(&self, backend: &Backend) -> bool {
        let newest = seen(backend, self.what);
        newest <= self.until || self.own.contains(&newest)
    }
}

impl Clock {
    /// The time of a word of `actor` on something that is newer than `known`, in milliseconds since
    /// 1970.
    pub(crate) fn next(
        &self,
        (pool, id): (&str, &str),
        what: What,
        known: Option<u64>,
        actor: &str,
    ) -> u64 {
        let now = wall::millis(wall::now());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, words| {
            words.retain(|word| word.at.saturating_add(TOLD_WITHIN) > now);
            !words.is_empty()
        });
        let words = last.entry((pool.to_owned(), id.to_owned(), what)).or_default();
        let after = |known: u64| known.saturating_add(1);
        let before = words.last().map_or(0, |word| after(word.said));
        let next = now.max(known.map_or(0, after)).max(before);
        if words.len() == WORDS_MOST {
            words.remove(0);
        }
        words.push(LastWord { said: next, at: now, actor: actor.to_owned() });
        next
    }

    /// When `actor` has said something of a thing, of late.
    pub(crate) fn own(&self, (pool, id): (&str, &str), what: What, actor: &str) -> Vec<u64> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let words = last.get(&(pool.to_owned(), id.to_owned(), what)).into_iter().flatten();
        words.filter(|word| word.actor == actor).map(|word| word.said).collect()
    }
}

/// When the newest word was said that any proxy has told, be it one that is away by now.
pub(crate) fn newest(view: &View, (pool, id): (&str, &str), what: What) -> Option<u64> {
    let pictures = view.proxies.iter().filter_map(|proxy| proxy.picture.as_ref());
    let told = pictures.filter_map(|picture| picture.answer.backend(pool, id));
    told.filter_map(|backend| what.heard(backend)?.latest).max()
}

/// When the newest word was said that whoever looks at a backend has seen; 0 if nobody has said
/// anything.
pub(crate) fn seen(backend: &Backend, what: What) -> u64 {
    let everywhere = What::OF_BACKENDS.into_iter().zip(backend.last_said);
    let everywhere = everywhere.filter(|(of, _)| *of == what).find_map(|(_, said)| said);
    let own = || what.heard(backend)?.latest;
    everywhere.or_else(own).unwrap_or_default()
}

/// A backend as the proxy tells it that has heard the newest word, if that is one that is not `known`.
pub(crate) fn unseen<'a>(
    view: &'a View,
    (pool, id): (&str, &str),
    known: &Seen,
) -> Option<&'a Backend> {
    let pictures = view.answering().filter_map(|proxy| proxy.picture.as_ref());
    let told = pictures.filter_map(|picture| picture.answer.backend(pool, id));
    told.max_by_key(|backend| seen(backend, known.what)).filter(|backend| !known.has(backend))
}

/// Whether a proxy takes such times; one of before them refuses what it does not know.
pub(crate) fn is_taken_by(answer: &Answer) -> bool {
    answer.pools.iter().flat_map(|pool| &pool.backends).any(Backend::tells_said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_newer_than_all_known_ones_whatever_the_clocks_say() {
        let clock = Clock::default();
        let next = |known| clock.next(("p", "a"), What::State, known, "ann");
        let first = next(None);
        assert!(next(None) > first, "within the same millisecond");
        let ahead = first + 3_600_000;
        let said = next(Some(ahead));
        assert_eq!(said, ahead + 1);
        assert_eq!(next(Some(ahead)), ahead + 2, "nobody has told of the last one yet");
        assert_eq!(wall::parse(&wall::text(said)), Some(said));
        for (id, what) in [("b", What::State), ("a", What::Weight)] {
            assert!(
                clock.next(("p", id), what, None, "ann") < ahead,
                "what is ahead is only one thing"
            );
        }
    }

    #[test]
    fn everybody_knows_the_last_words_of_their_own_and_no_more_of_them_than_are_kept() {
        let clock = Clock::default();
        let next = |actor| clock.next(("p", "a"), What::State, None, actor);
        let (ann, bob) = (next("ann"), next("bob"));
        let own = |what, actor| clock.own(("p", "a"), what, actor);
        assert_eq!((own(What::State, "ann"), own(What::State, "bob")), (vec![ann], vec![bob]));
        assert_eq!(own(What::Weight, "ann"), [0; 0]);
        let last = (0..2 * WORDS_MOST).fold(0, |_, _| next("bob"));
        let known = own(What::State, "bob");
        assert_eq!((known.len(), known.last().copied()), (WORDS_MOST, Some(last)));
    }
}
