//! Requests that wait for room, or for anybody, in the pool's line, as the proxy has them wait.
//!
//! Whoever is in line looks when it is told to, and only then: what the pool does not tell of, nobody
//! finds. So after all who were told have looked, nobody may be there for whom there is room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use super::{World, balance::*, traffic::Request};

/// More do not wait.
const MOST: usize = 12;

/// One that waits.
pub(crate) struct Waiting {
    request: Request,
    place: Place,
    bell: Arc<Bell>,
    /// When it gives up.
    until: Time,
}

/// Whether one that waits was told to look.
struct Bell(AtomicBool);

impl Bell {
    fn has_rung(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl World {
    /// A request that was refused waits in line, if it may.
    pub(crate) fn wait(&mut self, none: NoBackend, mut request: Request) {
        let Some(dice) = self.narrow.as_mut() else { return };
        let may = match none {
            NoBackend::NoneEligible | NoBackend::AllTried => false,
            NoBackend::AllFull | NoBackend::OthersFull | NoBackend::Awaited => dice.percent(80),
        };
        if !may {
            return;
        }
        if none == NoBackend::Awaited {
            request.forget();
        }
        let until = self.now + Duration::from_millis(dice.below(20_000));
        let place = self.picker.queue().enter(MOST);
        assert_eq!(place.is_some(), self.line.len() < MOST, "as many as may wait");
        match place {
            Some(place) => {
                // It looks once, as there may be room meanwhile.
                let bell = Arc::new(Bell(AtomicBool::new(true)));
                self.line.push_back(Waiting { request, place, bell, until });
            }
            None => self.coverage.see("line too long"),
        }
    }

    /// Those in line that were told to look may do so now, as often as not.
    pub(crate) fn serve_line_perhaps(&mut self) {
        if self.narrow.as_mut().is_some_and(|dice| dice.percent(50)) {
            self.serve_line();
        }
    }

    /// Those in line that were told to look do so, and then nobody waits in vain.
    pub(crate) fn serve_line(&mut self) {
        while let Some(at) = self.line.iter().position(|waiting| waiting.bell.has_rung()) {
            self.look(at);
        }
        let Some(Waiting { request, .. }) = self.line.front() else { return };
        let (tag, tried) = (request.tag, request.tried.clone());
        let none = self.refusal(&tried);
        let waits = matches!(none, Some(NoBackend::AllFull | NoBackend::Awaited));
        assert!(waits, "the first in line was not told to look: {none:?}");
        let visit = tag.filter(|_| tried.is_empty()).map(|tag| self.may_visit(tag, true));
        assert_ne!(visit, Some(Ok(())), "the first in line was not told that it may visit");
    }

    /// One in line looks whether it is its turn, and then for a backend.
    fn look(&mut self, at: usize) {
        let Waiting { place, bell, .. } = &self.line[at];
        let is_first = place.is_first(&Waker::from(Arc::clone(bell)));
        assert_eq!(is_first, at == 0, "whose turn it is in line");
        if !is_first {
            return;
        }
        let (request, none) = match self.pick_in_line() {
            Ok(ticket) => {
                let Some(Waiting { request, .. }) = self.line.pop_front() else { return };
                self.coverage.see("served from the line");
                return self.serve(ticket, request);
            }
            Err(none) => (&mut self.line[0].request, none),
        };
        match none {
            NoBackend::AllFull => {}
            NoBackend::Awaited => request.forget(),
            // There is nothing to wait for, or only others find room.
            NoBackend::NoneEligible | NoBackend::AllTried | NoBackend::OthersFull => {
                self.line.pop_front();
            }
        }
    }

    /// What the first in line gets.
    fn pick_in_line(&mut self) -> Result<Ticket, NoBackend> {
        let Request { key, tag, tried } = self.line[0].request.clone();
        if let Some(tag) = tag.filter(|_| tried.is_empty()) {
            let may = self.may_visit(tag, true);
            let ticket = self.picker.pick_visited_in_line(tag, self.now);
            let visits = ticket.as_ref().map(drop).map_err(|none| *none);
            assert_eq!(visits, may, "whether the first in line visits");
            if let Ok(ticket) = ticket {
                self.coverage.see("visit from the line");
                self.visited.insert(ticket.member().generation(), self.now);
                return Ok(ticket);
            }
        }
        self.pick_other(key, &tried)
    }

    /// Some have waited for long enough.
    pub(crate) fn leave_line(&mut self) {
        let before = self.line.len();
        self.line.retain(|waiting| waiting.until > self.now);
        self.coverage.see_many("left the line", (before - self.line.len()) as u64);
    }

    /// A client leaves in the midst of all, and gives back a ticket or a place.
    pub(crate) fn hang_up(&mut self) {
        let Some(dice) = self.narrow.as_mut() else { return };
        if !dice.percent(20) {
            return;
        }
        let (which, is_waiting) = (dice.roll() as usize, dice.percent(20));
        match (self.attempts.len(), self.line.len()) {
            (_, length @ 1..) if is_waiting => _ = self.line.remove(which % length),
            (length @ 1.., _) => {
                let attempt = self.attempts.swap_remove(which % length);
                self.give_back(attempt, Outcome::Unknown);
            }
            _ => {}
        }
    }
}
