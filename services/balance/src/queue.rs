//! The line of requests that wait for a backend with room, or for any while nobody can serve.
//!
//! When every backend has as many requests in flight as it may have, sending one more would only
//! make all of them slower; refusing it at once would waste the room that is free in a moment. So
//! a bounded number waits, first come, first served over all workers: only the first in line may
//! pick, and whoever comes while others wait goes to the end. A request that is through wakes the
//! first, which picks, leaves the line and so wakes the next; so does a snapshot in which somebody
//! serves again, or in which nobody is waited for any more. As long as nobody waits, all of this
//! costs one load per pick and per ticket.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

/// The line of one pool.
#[derive(Debug, Default)]
pub struct Queue {
    /// The length of `line`, to be read without its lock.
    length: AtomicUsize,
    // A std mutex: a few moves of memory under it, and only taken while there is a line.
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiting: VecDeque<(u64, Option<Waker>)>,
}

/// A place in line, given up by dropping it.
#[derive(Debug)]
pub struct Place {
    queue: Arc<Queue>,
    number: u64,
}

impl Queue {
    /// Takes the last place, unless `most` wait already.
    #[must_use]
    pub fn enter(self: &Arc<Self>, most: usize) -> Option<Place> {
        let mut line = self.lock();
        if line.waiting.len() >= most {
            return None;
        }
        let number = line.next;
        line.next += 1;
        line.waiting.push_back((number, None));
        self.note_length(&line);
        Some(Place { queue: Arc::clone(self), number })
    }

    /// How many wait.
    #[must_use]
    pub fn length(&self) -> usize {
        // SeqCst, as in `note_length`: either a ticket that is given back sees the line, or the one
        // who has just entered it sees the room.
        self.length.load(Ordering::SeqCst)
    }

    /// Tells the first in line that there may be room.
    pub(crate) fn wake_first(&self) {
        if self.length() > 0 {
            let waker = self.lock().waiting.front_mut().and_then(|(_, waker)| waker.take());
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn note_length(&self, line: &Line) {
        self.length.store(line.waiting.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether it is this one's turn to pick. Whoever may not, or picks in vain, is woken when it is
    /// worth another look.
    #[must_use]
    pub fn is_first(&self, waker: &Waker) -> bool {
        let mut line = self.queue.lock();
        let Some(at) = line.waiting.iter().position(|(number, _)| *number == self.number) else {
            return false;
        };
        let kept = &mut line.waiting[at].1;
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
        at == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut line = self.queue.lock();
            line.waiting.retain(|(number, _)| *number != self.number);
            self.queue.note_length(&line);
        }
        // The next may have something to take too; and if this one was woken and left without
        // picking, somebody must.
        self.queue.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Wake};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A place whose waker counts.
    fn wait(queue: &Arc<Queue>) -> (Place, Arc<Count>, Waker) {
        let place = queue.enter(10).unwrap();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let _ = place.is_first(&waker);
        (place, count, waker)
    }

    #[test]
    fn only_the_first_may_pick_and_leaving_wakes_the_next() {
        let queue = Arc::new(Queue::default());
        let (first, _, first_waker) = wait(&queue);
        let (second, count, second_waker) = wait(&queue);
        assert!(first.is_first(&first_waker) && !second.is_first(&second_waker));
        drop(first);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(second.is_first(&second_waker));
    }

    #[test]
    fn one_that_gives_up_in_the_middle_leaves_the_order_as_it_is() {
        let queue = Arc::new(Queue::default());
        let (first, _, _) = wait(&queue);
        let (second, _, _) = wait(&queue);
        let (third, _, third_waker) = wait(&queue);
        drop(second);
        assert_eq!(queue.length(), 2);
        assert!(!third.is_first(&third_waker));
        drop(first);
        assert!(third.is_first(&third_waker));
    }

    #[test]
    fn one_that_was_woken_and_gives_up_passes_it_on() {
        let queue = Arc::new(Queue::default());
        let (first, first_count, _) = wait(&queue);
        let (_second, second_count, _) = wait(&queue);
        queue.wake_first();
        assert_eq!(first_count.0.load(Ordering::Relaxed), 1);
        drop(first);
        assert_eq!(second_count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_line_takes_nobody() {
        let queue = Arc::new(Queue::default());
        let places: Vec<Place> = (0..3).map_while(|_| queue.enter(3)).collect();
        assert_eq!(places.len(), 3);
        assert!(queue.enter(3).is_none() && queue.enter(0).is_none());
        drop(places);
        assert_eq!(queue.length(), 0);
    }
}
