//! Visitors: requests that name the backend that served them before.
//!
//! Such a request goes to its backend, whatever the policy would choose. The shell gives each backend
//! that arrives a tag, which is made of its identity ([`Tagger`]), and each visitor the tag of the
//! backend it got; here they are numbers that are equal or not. A backend that drains, or that asks to
//! be spared, keeps its visitors and gets no new ones. It is in the snapshot for them alone, beside the
//! members, so that no other pick can meet it. Visits have a counter of their own and take no turn:
//! those of all others stay exact.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use super::{Picker, Ticket};
use crate::{
    backend::{Found, Member},
    time::Time,
};

/// Makes the tag of a backend, the same in each process that is to know its visitors.
pub(crate) struct Tagger(pub(crate) Box<dyn Fn(&Found) -> u128 + Send>);

impl fmt::Debug for Tagger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tagger")
    }
}

/// Who may be visited, as it is published. Empty where backends have no tags.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    /// Those who get nothing but visits.
    pub(crate) only: Vec<Arc<Member>>,
    /// These and the members, by tag, and whether each is a member.
    by_tag: HashMap<u128, (Arc<Member>, bool)>,
}

impl Visited {
    pub(crate) fn new(members: &[Arc<Member>], only: Vec<Arc<Member>>) -> Self {
        let tagged = |is_member| {
            move |member: &Arc<Member>| Some((member.tag()?, (Arc::clone(member), is_member)))
        };
        // Of two that the source does not tell apart, the one that serves.
        let others = only.iter().filter_map(tagged(false));
        let by_tag = others.chain(members.iter().filter_map(tagged(true))).collect();
        Self { only, by_tag }
    }
}

/// Why a visitor does not get its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVisit {
    /// Nobody who may be visited has this tag.
    Unknown,
    /// It has no room for another request, or others wait for room already.
    Full,
}

impl Picker {
    /// The backend with this tag, for a request's first attempt. If there is none, the request has
    /// not been counted and is to be picked for as usual.
    ///
    /// # Errors
    /// [`NoVisit`].
    pub fn pick_visited(&mut self, tag: u128, now: Time) -> Result<Ticket, NoVisit> {
        let (ticket, is_member) = self.visit(tag, now, false)?;
        let visits = match is_member {
            true => &self.published.chosen[self.counter],
            false => &self.published.visits_beside,
        };
        visits.0.fetch_add(1, Ordering::Relaxed);
        Ok(ticket)
    }

    /// The same for the first in line, which has been counted.
    ///
    /// # Errors
    /// [`NoVisit`].
    pub fn pick_visited_in_line(&mut self, tag: u128, now: Time) -> Result<Ticket, NoVisit> {
        self.visit(tag, now, true).map(|(ticket, _)| ticket)
    }

    /// Whether a member may still be visited, for whoever has been busy since it was picked.
    pub fn may_visit(&mut self, member: &Member) -> bool {
        self.refresh();
        let known = member.tag().and_then(|tag| self.known.visited.by_tag.get(&tag));
        known.is_some_and(|(known, _)| known.generation() == member.generation())
    }

    fn visit(
        &mut self,
        tag: u128,
        now: Time,
        is_first_in_line: bool,
    ) -> Result<(Ticket, bool), NoVisit> {
        self.refresh();
        let (member, is_member) = self.known.visited.by_tag.get(&tag).ok_or(NoVisit::Unknown)?;
        // The room of members belongs to those that wait; that of others is of no use to them.
        if *is_member && !is_first_in_line && self.published.queue.length() > 0 {
            return Err(NoVisit::Full);
        }
        let term = member.enter().ok_or(NoVisit::Full)?;
        member.note_visit(now);
        Ok((Ticket { member: Arc::clone(member), term, is_visit: true }, *is_member))
    }
}
