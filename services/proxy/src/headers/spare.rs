//! The room of fields that nobody needs any more, for those of the next messages.
//!
//! A map of fields is two allocations, and the allocator gives out what has been free for longest, which
//! no cache holds any more. What is taken from here was in use a moment ago.

use std::cell::RefCell;

use http::HeaderMap;

/// So many are kept for each worker: about as many as there are requests under way whose turns come one
/// after the other. With more, each would be used too seldom to be in a cache.
const KEPT_MAX: usize = 64;

/// One that has had more fields than hardly any message has, or room for them, goes.
const FIELDS_MAX: usize = 48;

thread_local! {
    /// Each worker has a thread of its own, so that nobody waits for it.
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// A map without fields that has room for so many.
pub(crate) fn take(fields: usize) -> HeaderMap {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    let mut map = spare.unwrap_or_default();
    map.reserve(fields);
    map
}

/// Gives back a map whose fields are not needed any more.
pub(crate) fn give(mut map: HeaderMap) {
    // Those of one name have room of their own, which the capacity does not tell.
    if map.capacity().max(map.len()) <= FIELDS_MAX {
        map.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT_MAX {
                spare.push(map);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::HOST};

    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again_without_its_fields() {
        // Tests may share a thread.
        SPARE.take();
        let mut map = take(5);
        map.append("a", HeaderValue::from_static("b"));
        map.append("a", HeaderValue::from_static("c"));
        let capacity = map.capacity();
        give(map);
        let again = take(1);
        assert_eq!((again.len(), again.capacity()), (0, capacity));
        assert_eq!(take(3).capacity(), HeaderMap::<()>::with_capacity(3).capacity(), "no other");
    }

    #[test]
    fn neither_many_nor_large_ones_are_kept() {
        // Tests may share a thread.
        SPARE.take();
        give(HeaderMap::with_capacity(FIELDS_MAX * 2));
        let alike = (0..=FIELDS_MAX).map(|_| (HOST, HeaderValue::from_static("a")));
        give(alike.fold(take(1), |mut map, (name, value)| {
            map.append(name, value);
            map
        }));
        assert_eq!(SPARE.with_borrow(Vec::len), 0);
        (0..KEPT_MAX * 2).for_each(|_| give(HeaderMap::with_capacity(1)));
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT_MAX);
    }
}
