//! Requests: picked, failed, retried elsewhere, answered, hung, left by their clients.

use std::{net::SocketAddr, time::Duration};

use super::{
    World,
    balance::*,
    truth::{Mode, Truth},
};

/// More do not fit into a world; a real proxy has its limits as well.
const IN_FLIGHT_MOST: usize = 3_000;

/// Retries that the budget allows in its window whatever the traffic.
pub(crate) const RETRY_RESERVE: usize = 20;

/// A request, between its attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) key: Option<u64>,
    /// By which it asks for the backend that it had before.
    pub(crate) tag: Option<u128>,
    /// Generations that have failed it.
    pub(crate) tried: Vec<u64>,
}

impl Request {
    /// What backends did before they come back says nothing of them. The first attempt is over for
    /// all that, and only that one is a visit.
    pub(crate) fn forget(&mut self) {
        if !self.tried.is_empty() {
            self.tried.clear();
            self.tag = None;
        }
    }
}

/// An attempt that is under way.
pub(crate) struct Attempt {
    pub(crate) ticket: Ticket,
    due: Time,
    took: Duration,
    outcome: Outcome,
    /// Ejections of its backend before it was picked.
    term: u32,
}

/// What becomes of an attempt.
enum Fate {
    Refused,
    Reset,
    Answered(Outcome, Duration),
}

impl World {
    pub(crate) fn request(&mut self, count: u64) {
        for _ in 0..count {
            if self.attempts.len() >= IN_FLIGHT_MOST {
                return;
            }
            let key = self.dice.percent(50).then(|| self.dice.below(40));
            self.picker.tell_time(self.now);
            self.begin(Request { key, ..Request::default() });
            self.hang_up();
            self.serve_line_perhaps();
        }
    }

    /// A request that goes to whom the policy chooses, or waits.
    pub(crate) fn begin(&mut self, request: Request) {
        match self.pick_first(request.key) {
            Ok(ticket) => self.serve(ticket, request),
            Err(none) => self.wait(none, request),
        }
    }

    /// The life of a request from a ticket on.
    pub(crate) fn serve(&mut self, mut ticket: Ticket, mut request: Request) {
        loop {
            let generation = ticket.member().generation();
            match ticket.is_visit() {
                true => self.check_visit(&ticket),
                false => self.check_pick(&ticket, request.key, &request.tried),
            }
            request.tried.push(generation);
            let term = self.term(&ticket);
            let failure = match self.fate(&ticket) {
                Fate::Answered(outcome, after) => {
                    let due = self.now + after;
                    return self.attempts.push(Attempt { ticket, due, took: after, outcome, term });
                }
                Fate::Refused => AttemptFailure::Refused,
                Fate::Reset => AttemptFailure::Unreachable,
            };
            self.note(&ticket, Outcome::Failure, term);
            self.report(ticket.member().id().clone(), generation, failure);
            drop(ticket);
            // Where nothing was sent, another backend costs no retry.
            let is_refused = failure == AttemptFailure::Refused;
            if request.tried.len() == 4 || (!is_refused && !self.take_retry()) {
                return;
            }
            match self.pick_other(request.key, &request.tried) {
                Ok(other) => ticket = other,
                Err(none) => return self.wait(none, request),
            }
            self.coverage.see("retry");
        }
    }

    fn fate(&mut self, ticket: &Ticket) -> Fate {
        let addresses = ticket.member().addresses();
        let name = ticket.member().id().as_str().to_owned();
        let Some(mode) = self.behind(&addresses, &name) else { return Fate::Refused };
        if self.dice.percent(1) {
            self.coverage.see("client left");
            return Fate::Answered(Outcome::Unknown, Duration::from_millis(self.dice.below(500)));
        }
        let latency = self.latency(mode);
        match mode {
            Mode::Dead => Fate::Refused,
            Mode::Resetting => Fate::Reset,
            Mode::Hanging => Fate::Answered(Outcome::Failure, Duration::from_secs(30)),
            Mode::Failing(percent) if self.dice.percent(percent) => {
                Fate::Answered(Outcome::Failure, latency)
            }
            Mode::Degraded => {
                self.ask_to_spare(ticket);
                Fate::Answered(Outcome::Success, latency)
            }
            Mode::Well | Mode::Slow | Mode::Failing(_) => Fate::Answered(Outcome::Success, latency),
        }
    }

    /// Who is really there, if somebody is.
    pub(crate) fn behind(&self, addresses: &[SocketAddr], name: &str) -> Option<Mode> {
        let is_there =
            |truth: &&Truth| addresses.contains(&SocketAddr::from(([10, 0, 0, truth.address], 80)));
        let (green, blue) = (self.truth.get(name), self.blue.get(name));
        let there = green.into_iter().chain(blue).find(is_there)?;
        Some(there.mode)
    }

    /// A response asks to spare its backend; the pool hears of it if that is news.
    fn ask_to_spare(&mut self, ticket: &Ticket) {
        let (id, generation) = (ticket.member().id().clone(), ticket.member().generation());
        let is_news = ticket.member().ask_to_spare();
        let now = self.now;
        if let Some(shadow) = self.shadow.get_mut(&(id.to_string(), generation)) {
            (shadow.asked, shadow.asked_latest) = (Some(now), now);
        }
        if is_news {
            self.tell(|pool, now| pool.degraded(&id, generation, "", now));
        }
    }

    /// Notes an attempt's end, and tells the pool if it wants to know.
    fn note(&mut self, ticket: &Ticket, outcome: Outcome, term: u32) {
        let (id, generation) = (ticket.member().id().clone(), ticket.member().generation());
        let now = self.now;
        if let Some(shadow) = self.shadow.get_mut(&(id.to_string(), generation)) {
            let is_stale = outcome == Outcome::Failure && term != shadow.ejections;
            let counted = if is_stale { Outcome::Unknown } else { outcome };
            shadow.note(counted, now);
            shadow.prove(counted, &self.ejection, now);
            if shadow.streak > 0 && shadow.streak >= self.ejection.consecutive {
                shadow.tripped = Some(now);
            }
            if outcome == Outcome::Failure {
                self.failed_last.insert(generation, now);
            }
        }
        if ticket.note(outcome) {
            if self.dice.percent(10) {
                // The queue was full. The pool's next sample has to find out.
                self.coverage.see("lost report");
            } else {
                self.report(id, generation, AttemptFailure::Streak);
            }
        }
    }

    fn report(&mut self, id: BackendId, generation: u64, failure: AttemptFailure) {
        if failure == AttemptFailure::Refused && self.generation(id.as_str()) == Some(generation) {
            self.count(id.as_str(), generation, false);
        }
        // Whoever left and fails is gone.
        if self.leaving.remove(&generation).is_some() {
            self.left_up = Some(self.now);
        }
        self.tell(|pool, now| pool.attempt_failed(&id, generation, failure, now));
    }

    fn term(&self, ticket: &Ticket) -> u32 {
        let key = (ticket.member().id().to_string(), ticket.member().generation());
        self.shadow.get(&key).map_or(0, |shadow| shadow.ejections)
    }

    /// Takes a retry from the budget, which may be refused only when it is spent.
    fn take_retry(&mut self) -> bool {
        let granted = self.budget.take(self.picker.picks(), self.now);
        // The budget's window and the half by which it slides.
        let span = Duration::from_secs(15);
        self.granted.retain(|time| self.now.since(*time) <= span);
        if granted {
            self.granted.push(self.now);
        } else {
            let spent = self.granted.len();
            assert!(spent >= RETRY_RESERVE, "{spent} retries are within the reserve");
            self.coverage.see("retry without a budget");
        }
        granted
    }

    pub(crate) fn finish_attempts(&mut self) {
        let now = self.now;
        let (done, going) =
            std::mem::take(&mut self.attempts).into_iter().partition(|attempt| attempt.due <= now);
        self.attempts = going;
        for attempt in Vec::<Attempt>::into_iter(done) {
            let outcome = attempt.outcome;
            self.give_back(attempt, outcome);
            self.serve_line_perhaps();
        }
    }

    /// An attempt is over, and its ticket is free.
    pub(crate) fn give_back(&mut self, attempt: Attempt, outcome: Outcome) {
        let Attempt { ticket, took, term, .. } = attempt;
        if outcome != Outcome::Unknown {
            ticket.member().answered(took, outcome == Outcome::Failure, self.now);
        }
        self.note(&ticket, outcome, term);
    }
}
