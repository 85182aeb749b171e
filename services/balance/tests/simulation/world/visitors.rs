//! Requests that ask for the backend that they had before. They draw from dice of their own, so that
//! worlds without them live as they did.

use std::time::Duration;

use super::{World, balance::*, check::Expected, traffic::Request};

/// How long a drain waits for the next visitor.
pub(crate) const IDLE: Duration = Duration::from_secs(20);

/// The tag that a pool with visitors gives a backend.
pub(crate) fn tag(found: &Found) -> u128 {
    tag_of(found.id.as_str(), found.instance.as_deref())
}

fn tag_of(name: &str, instance: Option<&str>) -> u128 {
    hash_of(format!("{name} {instance:?}").as_bytes()).into()
}

impl World {
    /// A deadline for an operator's drain.
    pub(crate) fn deadline(&mut self) -> Option<Duration> {
        let dice = self.visitors.as_mut()?;
        dice.percent(30).then(|| Duration::from_secs(dice.below(90)))
    }

    /// Some visitors come back, one perhaps to an instance of before or with a tag of its own making.
    pub(crate) fn visit(&mut self) {
        let names: Vec<String> = self.told.keys().cloned().collect();
        let Some(dice) = self.visitors.as_mut() else { return };
        let name = dice.one_of(&names.iter().map(String::as_str).collect::<Vec<_>>()).to_owned();
        let (is_forged, is_earlier) = (dice.percent(5), dice.percent(10));
        let told = self.told[&name].instance;
        let instance =
            self.tells_instances.then(|| if is_earlier { told.wrapping_sub(1) } else { told });
        let tag = tag_of(&name, instance.map(|instance| instance.to_string()).as_deref());
        let tag = if is_forged { !tag } else { tag };
        let (may, expected) = (self.may_visit(tag, false), self.expected());
        let visit = self.picker.pick_visited(tag, self.now);
        let visits = visit.as_ref().map(drop).map_err(|none| *none);
        assert_eq!(visits, may, "whether {name} is visited");
        match visit {
            Ok(ticket) => {
                let picked = ticket.member().generation();
                assert_eq!(ticket.member().id().as_str(), name, "another was asked for");
                if expected.members.contains(&picked) {
                    *self.picks.entry(expected.rung).or_default() += 1;
                } else {
                    self.coverage.see("visit to one that gets nothing else");
                }
                self.coverage.see("visit");
                self.visited.insert(picked, self.now);
                self.serve(ticket, Request::default());
            }
            Err(NoVisit::Full) => {
                self.coverage.see("visit to one that is full");
                self.begin(Request { tag: Some(tag), ..Request::default() });
            }
            Err(NoVisit::Unknown) => self.coverage.see("visit to nobody"),
        }
    }

    /// Whether a visitor gets the backend of its tag, or why it does not.
    pub(crate) fn may_visit(&mut self, tag: u128, is_first_in_line: bool) -> Result<(), NoVisit> {
        let expected = self.expected();
        let Expected { members, visited, rooms, .. } = &*expected;
        let is_hers = |generation: &&u64| {
            let name = rooms[*generation].name();
            let instance = self.tells_instances.then(|| self.told[name].instance.to_string());
            tag_of(name, instance.as_deref()) == tag
        };
        let member = members.iter().find(is_hers);
        let generation = member.or_else(|| visited.iter().find(is_hers)).ok_or(NoVisit::Unknown)?;
        // The room of members is for those in line.
        let is_kept = member.is_some() && !is_first_in_line && !self.line.is_empty();
        if is_kept || !rooms[generation].is_left() { Err(NoVisit::Full) } else { Ok(()) }
    }

    /// Whoever is visited serves, or keeps the visitors that it has.
    pub(crate) fn check_visit(&mut self, ticket: &Ticket) {
        let expected = self.expected();
        let (members, visited) = (&expected.members, &expected.visited);
        let (name, generation) = (ticket.member().id(), ticket.member().generation());
        let may = members.contains(&generation) || visited.contains(&generation);
        assert!(may, "{name} was visited, beside {members:?} and {visited:?}");
        self.check_limit(ticket);
    }

    /// Whoever was taken out is drained once nothing is in flight and, where it keeps visitors, once
    /// none has come for a while; and no later than that.
    pub(crate) fn check_drain(&mut self, backend: &BackendView) {
        let name = backend.id.as_str();
        let is_busy = backend.in_flight > 0;
        let is_awaited = self.is_awaited(backend);
        match backend.effective {
            Effective::Drained => {
                assert!(!is_busy && !is_awaited, "{name} is not drained yet");
                self.coverage.see("drained");
            }
            Effective::Draining => {
                assert!(is_busy || is_awaited, "{name} is drained long since");
                self.coverage.see_many("drain that waits for visitors", u64::from(!is_busy));
            }
            _ => {}
        }
    }

    fn is_awaited(&self, backend: &BackendView) -> bool {
        let name = backend.id.as_str();
        let (told, intent) =
            (&self.told[name], self.intents.get(name).cloned().unwrap_or_default());
        let weight = intent.weight.now().map_or((told.weight, Time::START), |weight| weight);
        let taken_out = match intent.admin.now() {
            Admin::Drain if intent.deadline.now().is_none_or(|end| end > self.now) => {
                backend.admin_since
            }
            Admin::Ready if weight.0 == 0 => weight.1,
            _ => return false,
        };
        let may_come = match backend.health {
            Health::Checking => true,
            Health::Up | Health::Degraded => !told.is_terminating,
            Health::Down | Health::Ejected => false,
        };
        let latest = taken_out.max(self.visited[&backend.member.generation()]);
        self.visitors.is_some() && may_come && self.now.since(latest) < IDLE
    }

    /// Whether it gets nothing but visits, where some tier is the lowest that serves.
    pub(crate) fn is_only_visited(&self, backend: &BackendView, lowest: u16) -> bool {
        let name = backend.id.as_str();
        let (told, intent) =
            (&self.told[name], self.intents.get(name).cloned().unwrap_or_default());
        let weight = intent.weight.now().map_or(told.weight, |(weight, _)| weight);
        let is_up = self.shadow[&(name.to_owned(), backend.member.generation())].is_up;
        let is_well = matches!(backend.health, Health::Up | Health::Degraded);
        let keeps = match intent.admin.now() {
            Admin::Drain => intent.deadline.now().is_none_or(|deadline| self.now < deadline),
            Admin::Ready if weight == 0 => true,
            Admin::Ready => backend.health == Health::Degraded && backend.tier <= lowest,
            Admin::Maint => false,
        };
        self.visitors.is_some() && is_up && is_well && !told.is_terminating && keeps
    }
}
