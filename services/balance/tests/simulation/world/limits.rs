//! Limits of requests in flight, and which pick must be refused, and why.
//!
//! Most worlds have none that anybody meets. A narrow one has few places at each backend, so that busy
//! traffic fills all of them. It draws from dice of its own, so that the others live as they did.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{World, balance::*, check::Expected, dice::Dice};

/// What narrow worlds draw from, and the limit of each backend for which no operator wants another.
pub(crate) fn narrow(seed: u64, is_large: bool) -> (Option<Dice>, Option<u32>) {
    let dice = (seed % 5 == 2 && !is_large).then(|| Dice(seed.rotate_left(32)));
    let limit = dice.is_some().then(|| 1 + (seed / 5 % 4) as u32);
    (dice, limit)
}

/// What one backend has room for.
#[derive(Debug)]
pub(crate) struct Room {
    member: Arc<Member>,
    pub(crate) limit: Option<u32>,
}

impl Room {
    pub(crate) fn name(&self) -> &str {
        self.member.id().as_str()
    }

    /// Whether another request may be sent there.
    pub(crate) fn is_left(&self) -> bool {
        self.limit.is_none_or(|limit| self.member.in_flight() < limit)
    }
}

impl Expected {
    /// Whether one had room before a request came to `picked`.
    pub(crate) fn had_room(&self, generation: u64, picked: u64) -> bool {
        generation == picked || self.rooms[&generation].is_left()
    }
}

impl World {
    /// The limit that an operator's word makes, or that there is without one.
    pub(crate) fn limit_of(&self, said: Option<(u32, Time)>) -> Option<u32> {
        let limit = said.map_or(self.configured_limit, |(limit, _)| Some(limit));
        limit.filter(|limit| *limit > 0)
    }

    /// What each backend has room for while these serve. As weights do, limits climb where somebody
    /// who serves has climbed; those that left keep what they had.
    pub(crate) fn rooms(
        &self,
        view: &PoolView,
        serve: impl Fn(u64) -> bool,
    ) -> BTreeMap<u64, Room> {
        let is_settled = |backend: &BackendView| {
            let is_there = serve(backend.member.generation());
            is_there && backend.climbed_percent == 100 && self.rung_of(backend) == Rung::Up
        };
        let others_serve = view.backends.iter().any(is_settled);
        let climbed = |backend: &BackendView| {
            let intent = self.intents.get(backend.id.as_str()).cloned().unwrap_or_default();
            let percent = if others_serve { backend.climbed_percent } else { 100 };
            self.limit_of(intent.limit.now()).map(|limit| (limit * percent).div_ceil(100))
        };
        let of = |backend: &BackendView, limit| {
            (backend.member.generation(), Room { member: Arc::clone(&backend.member), limit })
        };
        let present = view.backends.iter().map(|backend| of(backend, climbed(backend)));
        let left = view.leaving.iter().map(|backend| {
            let limit = self.limits_left[&backend.member.generation()];
            of(backend, limit)
        });
        present.chain(left).collect()
    }

    /// Why a request that has tried these must be refused, if it must.
    pub(crate) fn refusal(&mut self, tried: &[u64]) -> Option<NoBackend> {
        let expected = self.expected();
        let Expected { rung, ref members, ref rooms, .. } = *expected;
        let is_left = |generation: &&u64| rooms[*generation].is_left();
        let others = members.iter().filter(|generation| !tried.contains(generation));
        match () {
            () if others.clone().any(|other| is_left(&other)) => None,
            () if rung == Rung::Queue => Some(NoBackend::Awaited),
            () if members.is_empty() => Some(NoBackend::NoneEligible),
            () if others.count() == 0 => Some(NoBackend::AllTried),
            // None of those that it has not tried has.
            () if members.iter().any(|member| is_left(&member)) => Some(NoBackend::OthersFull),
            () => Some(NoBackend::AllFull),
        }
    }

    /// A backend for a first attempt. It is refused exactly if it must be, and counted either way.
    pub(crate) fn pick_first(&mut self, key: Option<u64>) -> Result<Ticket, NoBackend> {
        let rung = self.expected().rung;
        *self.picks.entry(rung).or_default() += 1;
        let refusal = match self.refusal(&[]) {
            None if !self.line.is_empty() => {
                self.coverage.see("room for those in line");
                Some(NoBackend::AllFull)
            }
            Some(NoBackend::AllFull) => {
                self.coverage.see("all full");
                Some(NoBackend::AllFull)
            }
            refusal => refusal,
        };
        let picked = self.picker.pick(key);
        assert_eq!(picked.as_ref().err().copied(), refusal, "whether a first pick is refused");
        picked
    }

    /// A backend for a further attempt, or for the first in line: refused exactly if it must be. Whoever
    /// need not serve is for those that have tried all who do.
    pub(crate) fn pick_other(
        &mut self,
        key: Option<u64>,
        tried: &[u64],
    ) -> Result<Ticket, NoBackend> {
        let refusal = self.refusal(tried);
        let picked = self.picker.pick_other(key, tried);
        assert_eq!(picked.as_ref().err().copied(), refusal, "whether another pick is refused");
        let others_full = refusal == Some(NoBackend::OthersFull);
        self.coverage.see_many("only others find room", u64::from(others_full));
        if refusal != Some(NoBackend::AllTried) {
            return picked;
        }
        let expected = self.expected();
        let mut rest = expected.rest.keys().filter(|generation| !tried.contains(generation));
        let may = rest.any(|generation| expected.rooms[generation].is_left());
        let picked = self.picker.pick_resort(tried);
        assert_eq!(picked.is_ok(), may, "whether one that need not serve is asked");
        picked
    }

    /// The limit is the one that was wanted last, or on its way there.
    pub(crate) fn check_room(&mut self, backend: &BackendView) {
        let limit = self.expected().rooms[&backend.member.generation()].limit;
        assert_eq!(backend.max_in_flight, limit, "{}'s limit", backend.id);
        let intent = self.intents.get(backend.id.as_str()).cloned().unwrap_or_default();
        let climbs = limit < self.limit_of(intent.limit.now());
        self.coverage.see_many("limit climbs", u64::from(climbs));
    }

    /// Nobody gets more than it may have.
    pub(crate) fn check_limit(&mut self, ticket: &Ticket) {
        let (expected, member) = (self.expected(), ticket.member());
        let Some(limit) = expected.rooms[&member.generation()].limit else { return };
        let in_flight = member.in_flight();
        assert!(in_flight <= limit, "{} has {in_flight} requests of {limit}", member.id());
        self.coverage.see_many("limit holds", u64::from(in_flight == limit));
    }

    /// A limit that is soon met, or that there is none, in a narrow world.
    pub(crate) fn small_limit(&mut self) -> Option<u32> {
        self.narrow.as_mut().map(|dice| dice.below(5) as u32)
    }

    /// An operator wants a limit, or none.
    pub(crate) fn limit(&mut self, name: &str) {
        let Some(dice) = self.narrow.as_mut() else { return };
        let ttl = dice.percent(50).then(|| Duration::from_secs(1 + dice.below(60)));
        let known = self.intents.get(name).and_then(|intent| intent.limit.said().latest);
        let said_at = Some(self.said_at(known));
        let max_in_flight = self.small_limit();
        let change = Change { max_in_flight, ttl, said_at, ..Change::default() };
        self.carry_out(name, &change);
    }
}
