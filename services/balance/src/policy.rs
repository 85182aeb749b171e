//! How a backend is chosen among those that may be.
//!
//! Every policy works on the same published snapshot and walks the weighted schedule where it can:
//! drawing an entry of the schedule at random draws backends by their weights, in one step however
//! many there are. Load is what the backends' own counters of requests in flight say, all workers
//! included; it may change while it is compared, which costs a pick nothing but being a little off.

use std::{cmp::Ordering, time::Duration};

use crate::{backend::Member, pick::Snapshot, random::Random, time::Time};

/// How a backend is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Each in turn, by weight. Exact over all workers.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight for its weight; in turn among equals.
    LeastRequest,
    /// The less loaded of two drawn at random ("the power of two choices", Mitzenmacher, IEEE TPDS
    /// 2001): nearly as even as the fewest of all, without a scan and without a herd.
    PowerOfTwo,
    /// At random, and the more probably the sooner a backend will answer, as far as its last answers
    /// and its requests in flight tell. Nobody's share ever becomes nothing.
    LeastTime,
    /// Any, by weight.
    Random,
    /// The first of the list that may be picked. The others stand by.
    First,
    /// By a key of the request: the same key goes to the same backend as long as it is there, and a
    /// change of the set moves only the keys that it must (rendezvous hashing, Thaler and
    /// Ravishankar, IEEE/ACM ToN 1998), with bounded loads (Mirrokni et al., SODA 2018).
    Hash,
}

impl Policy {
    /// All policies.
    pub const ALL: [Self; 7] = [
        Self::RoundRobin,
        Self::LeastRequest,
        Self::PowerOfTwo,
        Self::LeastTime,
        Self::Random,
        Self::First,
        Self::Hash,
    ];

    /// The name in settings, JSON and on the page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.names().0
    }

    /// The policy of a name, those that other proxies use included; some of them write it in capitals.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let is_it = |known: &str| name.eq_ignore_ascii_case(known);
        Self::ALL.into_iter().find(|policy| {
            let (own, aliases) = policy.names();
            is_it(own) || aliases.iter().any(|alias| is_it(alias))
        })
    }

    /// All names that are understood, for whoever wrote another one.
    #[must_use]
    pub fn all_names() -> String {
        let with_aliases = |policy: Self| match policy.names() {
            (name, []) => name.to_owned(),
            (name, aliases) => format!("{name} (or {})", aliases.join(", ")),
        };
        Self::ALL.map(with_aliases).join(", ")
    }

    /// Whether a pick by it goes by whose turn it is, with such a key.
    pub(crate) fn takes_turn(self, key: Option<u64>) -> bool {
        match self {
            Self::RoundRobin | Self::LeastRequest | Self::LeastTime => true,
            Self::PowerOfTwo | Self::Random | Self::First => false,
            Self::Hash => key.is_none(),
        }
    }

    /// Our name, and those of other proxies.
    fn names(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::RoundRobin => ("round_robin", &["roundrobin", "wrr"]),
            Self::LeastRequest => ("least_request", &["leastconn", "least_conn"]),
            Self::PowerOfTwo => ("p2c", &["random(2)", "random two", "random_choose 2"]),
            Self::LeastTime => ("least_time", &["leasttime", "peak_ewma"]),
            Self::Random => ("random", &[]),
            Self::First => ("first", &[]),
            Self::Hash => ("hash", HASH_ALIASES),
        }
    }
}

/// Other proxies' names for [`Policy::Hash`]. Most say what it goes by, which is for the shell to know.
const HASH_ALIASES: &[&str] = &[
    "hrw",
    "consistent",
    "ip_hash",
    "client_ip_hash",
    "source",
    "uri_hash",
    "uri",
    "header",
    "cookie",
    "query",
];

/// Up to so many backends, the least loaded is sought among all: reading as many counters costs
/// less than a request's system calls. Beyond, among [`SAMPLE`] drawn ones.
const SCAN_MOST: usize = 64;

/// Of so many drawn at random, the least loaded is within the best eighth nine times in ten.
const SAMPLE: usize = 16;
const _: () = assert!(SAMPLE <= SCAN_MOST, "room for the larger one is room for both");

/// With `least_time`, one of so many requests goes to whose turn it is, whatever is known of it: what
/// is known may be wrong, and only an answer can tell. Few enough that a backend in trouble stays
/// out of the slowest hundredth.
const EXPLORE: u64 = 50;

/// How long the typical answer time is taken for true. Finding it anew looks at [`SCAN_MOST`]
/// backends.
const TYPICAL_KEPT: Duration = Duration::from_millis(100);

/// How far above its share of the requests in flight a backend may be before its keys go on to the
/// next: the balance between evenness and keeping keys together that Mirrokni et al. measure.
const BOUND: f64 = 1.25;

/// Nobody's bound is lower: a browser that loads a page over its six connections stays with one backend
/// also where it is alone.
const BOUND_LEAST: f64 = 8.0;

/// What a choice depends on beside the snapshot.
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    /// Whose turn it is.
    pub(crate) turn: u64,
    /// The request's key, if it has one.
    pub(crate) key: Option<u64>,
    /// Generations that this request has tried.
    pub(crate) tried: &'a [u64],
    pub(crate) random: &'a mut Random,
    pub(crate) moment: &'a Moment,
}

/// What `least_time` knows of the present.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    now: Time,
    /// The median of the backends' answer times in seconds; 0 before the first answer.
    typical: f32,
    typical_since: Option<Time>,
}

impl Moment {
    /// Goes on to `now`.
    pub(crate) fn advance(&mut self, snapshot: &Snapshot, now: Time) {
        self.now = now;
        if self.typical_since.is_none_or(|since| now.since(since) >= TYPICAL_KEPT) {
            let step = snapshot.members.len().div_ceil(SCAN_MOST).max(1);
            let members = snapshot.members.iter().step_by(step);
            let mut known: Vec<f32> =
                members.filter_map(|member| member.answer_time().remembered()).collect();
            known.sort_unstable_by(f32::total_cmp);
            // Of two in the middle the lower one: what is known of a fast backend would fade to what a
            // slow one takes, and that of a slow one never.
            let middle = known.len().saturating_sub(1) / 2;
            self.typical = known.get(middle).copied().unwrap_or_default();
            self.typical_since = Some(now);
        }
    }
}

impl Choice<'_> {
    /// The index of the member to pick; `None` if none that was not tried has room.
    pub(crate) fn make(&mut self, policy: Policy, snapshot: &Snapshot) -> Option<usize> {
        if snapshot.schedule.is_empty() {
            return None;
        }
        match policy {
            Policy::RoundRobin => self.in_turn(snapshot, self.turn),
            Policy::Random => {
                let turn = self.random.next();
                self.in_turn(snapshot, turn)
            }
            Policy::PowerOfTwo => self.power_of_two(snapshot),
            Policy::LeastTime => self.soonest(snapshot),
            Policy::LeastRequest if snapshot.members.len() <= SCAN_MOST => self.scan(snapshot),
            Policy::LeastRequest => self.sample(snapshot),
            Policy::First => (0..snapshot.members.len()).find(|at| self.may_get(snapshot, *at)),
            Policy::Hash => match self.key {
                Some(key) => self.rendezvous(snapshot, key),
                // Without a key, all backends are as good.
                None => self.in_turn(snapshot, self.turn),
            },
        }
    }

    /// Whether a member has room and was not tried.
    fn may_get(&self, snapshot: &Snapshot, at: usize) -> bool {
        let member = &snapshot.members[at];
        member.has_room() && (self.tried.is_empty() || !self.tried.contains(&member.generation()))
    }

    /// The first possible member of the schedule from `turn` on.
    fn in_turn(&self, snapshot: &Snapshot, turn: u64) -> Option<usize> {
        let length = snapshot.schedule.len() as u64;
        (0..length)
            .map(|step| snapshot.schedule[(turn.wrapping_add(step) % length) as usize] as usize)
            .find(|at| self.may_get(snapshot, *at))
    }

    fn power_of_two(&mut self, snapshot: &Snapshot) -> Option<usize> {
        let turn = self.random.next();
        let first = self.in_turn(snapshot, turn)?;
        let turn = self.random.next();
        let second = self.in_turn(snapshot, turn)?;
        let second = if second == first { self.another(snapshot, first, turn) } else { second };
        Some(less_loaded(snapshot, first, second))
    }

    /// A possible member other than `first`, or `first` if there is none.
    fn another(&self, snapshot: &Snapshot, first: usize, turn: u64) -> usize {
        let length = snapshot.schedule.len() as u64;
        (0..length)
            .map(|step| snapshot.schedule[(turn.wrapping_add(step) % length) as usize] as usize)
            .find(|at| *at != first && self.may_get(snapshot, *at))
            .unwrap_or(first)
    }

    /// The least loaded of all, beginning with whose turn it is, so that equals take turns.
    fn scan(&self, snapshot: &Snapshot) -> Option<usize> {
        let start = self.in_turn(snapshot, self.turn)?;
        let count = snapshot.members.len();
        let others = (1..count).map(|step| (start + step) % count);
        let possible = others.filter(|at| self.may_get(snapshot, *at));
        Some(possible.fold(start, |best, at| less_loaded(snapshot, best, at)))
    }

    /// The least loaded of some drawn at random.
    fn sample(&mut self, snapshot: &Snapshot) -> Option<usize> {
        let mut best = self.in_turn(snapshot, self.turn)?;
        for _ in 1..SAMPLE {
            let turn = self.random.next();
            best = less_loaded(snapshot, best, self.in_turn(snapshot, turn)?);
        }
        Some(best)
    }

    /// One drawn with a probability of its weight over the square of what an answer will cost: in a
    /// small pool among all, in a large one among some drawn by weight. A draw rather than the
    /// cheapest, because nearly equal ones should get nearly equal shares; the square, because one
    /// that takes ten times as long should get next to nothing.
    fn soonest(&mut self, snapshot: &Snapshot) -> Option<usize> {
        if self.turn.is_multiple_of(EXPLORE) {
            return self.in_turn(snapshot, self.turn / EXPLORE);
        }
        // On the stack: room for them would cost more than all the rest of the pick.
        let mut room = [(0, 0.0); SCAN_MOST];
        let mut count = 0;
        let mut sum = 0.0;
        let mut add = |at: usize, chance: f32| {
            room[count] = (at, chance);
            (count, sum) = (count + 1, sum + chance);
        };
        if snapshot.members.len() <= SCAN_MOST {
            for at in (0..snapshot.members.len()).filter(|at| self.may_get(snapshot, *at)) {
                add(at, snapshot.weights[at] as f32 / self.cost(snapshot, at).powi(2));
            }
        } else {
            for _ in 0..SAMPLE {
                let turn = self.random.next();
                if let Some(at) = self.in_turn(snapshot, turn) {
                    add(at, 1.0 / self.cost(snapshot, at).powi(2));
                }
            }
        }
        let candidates = &room[..count];
        // 24 bits fill the mantissa: a number in 0..1 with equal steps.
        let unit = (self.random.next() >> 40) as f32 / (1_u32 << 24) as f32;
        let mut left = unit * sum;
        let drawn = candidates.iter().find(|(_, chance)| {
            left -= chance;
            left < 0.0
        });
        // Rounding may leave a rest at the very end.
        drawn.or(candidates.last()).map(|(at, _)| *at)
    }

    /// What another request will cost a backend: the time that it takes for one, as often as there
    /// are requests in flight for its weight, this one included.
    fn cost(&self, snapshot: &Snapshot, at: usize) -> f32 {
        /// Of a pool that answers in no time, or has not answered yet.
        const LEAST: f32 = 1e-6;
        let member = &snapshot.members[at];
        let busy = 1.0 + member.in_flight() as f32 / snapshot.weights[at].max(1) as f32;
        let seconds = member.answer_time().expected(self.moment.typical, self.moment.now);
        seconds.max(LEAST) * busy
    }

    /// The possible member that scores highest for the key and is within its bound. The lowest
    /// loaded is always within it, so that there is one.
    fn rendezvous(&self, snapshot: &Snapshot, key: u64) -> Option<usize> {
        let in_flight: u32 = snapshot.members.iter().map(|member| member.in_flight()).sum();
        let weights: u32 = snapshot.weights.iter().sum();
        // One more than now: the request that is being placed counts.
        let share = BOUND * f64::from(in_flight + 1) / f64::from(weights);
        let is_within_bound = |at: &usize| {
            let bound = (share * f64::from(snapshot.weights[*at])).ceil().max(BOUND_LEAST);
            f64::from(snapshot.members[*at].in_flight()) < bound
        };
        let possible = || (0..snapshot.members.len()).filter(|at| self.may_get(snapshot, *at));
        let score = |at: &usize| score(key, &snapshot.members[*at], snapshot.weights[*at]);
        let highest = |candidates: &mut dyn Iterator<Item = usize>| {
            candidates.max_by(|a, b| score(a).total_cmp(&score(b)))
        };
        highest(&mut possible().filter(is_within_bound)).or_else(|| highest(&mut possible()))
    }
}

/// The one with fewer requests in flight for its weight; the first of equals.
fn less_loaded(snapshot: &Snapshot, first: usize, second: usize) -> usize {
    let load = |at: usize| u64::from(snapshot.members[at].in_flight());
    let weight = |at: usize| u64::from(snapshot.weights[at]);
    match (load(first) * weight(second)).cmp(&(load(second) * weight(first))) {
        Ordering::Greater => second,
        Ordering::Less | Ordering::Equal => first,
    }
}

/// A member's score for a key: with weights, -w / ln(u) of a number u in 0..1 that the two draw
/// (Schindelhauer and Schomaker, SPAA 2005).
fn score(key: u64, member: &Member, weight: u32) -> f64 {
    let drawn = Random::new(key ^ member.hash()).next();
    let unit = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / unit.ln()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{backend::BackendId, schedule::schedule};

    fn snapshot(weights: &[u32]) -> Snapshot {
        let member = |at: usize| {
            let id = BackendId::new(&format!("10.0.0.{at}:80"));
            Arc::new(Member::new(id, at as u64 + 1, at, Vec::new(), 0, Arc::default()))
        };
        Snapshot {
            version: 1,
            serving: crate::tier::Serving { rung: crate::rung::Rung::Up, tier: 0 },
            rest: Vec::new(),
            plan: crate::plan::PolicyPlan::default(),
            members: (0..weights.len()).map(member).collect(),
            weights: weights.to_vec(),
            schedule: schedule(weights),
            ..Snapshot::default()
        }
    }

    fn choose(
        policy: Policy,
        snapshot: &Snapshot,
        turn: u64,
        key: u64,
        tried: &[u64],
    ) -> Option<usize> {
        let mut random = Random::new(turn);
        let moment = &Moment::default();
        Choice { turn, key: Some(key), tried, random: &mut random, moment }.make(policy, snapshot)
    }

    /// Picks of so many requests that stay in flight.
    fn pile_up(policy: Policy, snapshot: &Snapshot, count: u64) -> Vec<u32> {
        for turn in 0..count {
            let at = choose(policy, snapshot, turn, turn, &[]).unwrap();
            snapshot.members[at].enter();
        }
        snapshot.members.iter().map(|member| member.in_flight()).collect()
    }

    #[test]
    fn every_policy_finds_the_one_that_was_not_tried_and_none_when_all_were() {
        let snapshot = snapshot(&[1, 2, 3]);
        for policy in Policy::ALL {
            for turn in 0..20 {
                assert_eq!(choose(policy, &snapshot, turn, turn, &[1, 3]), Some(1), "{policy:?}");
                assert_eq!(choose(policy, &snapshot, turn, turn, &[1, 2, 3]), None, "{policy:?}");
            }
        }
    }

    #[test]
    fn no_policy_picks_from_an_empty_pool() {
        for policy in Policy::ALL {
            assert_eq!(choose(policy, &snapshot(&[]), 1, 1, &[]), None, "{policy:?}");
        }
    }

    #[test]
    fn least_request_fills_up_by_weight_and_takes_turns_when_idle() {
        assert_eq!(pile_up(Policy::LeastRequest, &snapshot(&[1, 1, 2]), 40), [10, 10, 20]);
        let idle = snapshot(&[1, 1, 1]);
        let turns: Vec<_> =
            (0..6).map(|turn| choose(Policy::LeastRequest, &idle, turn, 0, &[]).unwrap()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn least_request_avoids_the_busy_ones_of_a_large_pool() {
        let snapshot = snapshot(&[1; 200]);
        (0..100).for_each(|at| (0..50).for_each(|_| _ = snapshot.members[at].enter()));
        let busy = (0..1_000)
            .filter(|turn| choose(Policy::LeastRequest, &snapshot, *turn, 0, &[]).unwrap() < 100);
        assert_eq!(busy.count(), 0, "of sixteen, one idle is nearly always found");
    }

    #[test]
    fn p2c_is_far_more_even_than_random() {
        let spread = |policy| {
            let piled = pile_up(policy, &snapshot(&[1; 10]), 10_000);
            piled.iter().max().unwrap() - piled.iter().min().unwrap()
        };
        let (p2c, random) = (spread(Policy::PowerOfTwo), spread(Policy::Random));
        assert!(p2c <= 10 && random >= 30, "p2c {p2c}, random {random}");
    }

    #[test]
    fn random_follows_the_weights() {
        let piled = pile_up(Policy::Random, &snapshot(&[1, 3]), 40_000);
        assert!(piled[0].abs_diff(10_000) < 400, "{piled:?}");
    }

    #[test]
    fn first_stays_with_the_first() {
        assert_eq!(pile_up(Policy::First, &snapshot(&[1, 5, 5]), 10), [10, 0, 0]);
    }

    #[test]
    fn a_key_stays_where_it_is_and_only_those_of_a_lost_backend_move() {
        let all = snapshot(&[1, 1, 1, 1]);
        let place = |key| choose(Policy::Hash, &all, key, key, &[]).unwrap();
        let before: BTreeMap<u64, usize> = (0..10_000).map(|key| (key, place(key))).collect();
        let lost = 2;
        for (key, at) in &before {
            let now = choose(Policy::Hash, &all, 99, *key, &[lost as u64 + 1]).unwrap();
            assert_eq!(now == *at, *at != lost, "key {key}");
        }
        for at in 0..4 {
            let count = before.values().filter(|place| **place == at).count();
            assert!(count.abs_diff(2_500) < 200, "{at} has {count} keys");
        }
    }

    #[test]
    fn keys_follow_the_weights() {
        let snapshot = snapshot(&[1, 3]);
        let heavy = (0..10_000)
            .filter(|key| choose(Policy::Hash, &snapshot, 0, *key, &[]) == Some(1))
            .count();
        assert!(heavy.abs_diff(7_500) < 200, "{heavy}");
    }

    #[test]
    fn one_hot_key_cannot_overload_its_backend() {
        let snapshot = snapshot(&[1; 4]);
        for _ in 0..400 {
            let at = choose(Policy::Hash, &snapshot, 0, 7, &[]).unwrap();
            snapshot.members[at].enter();
        }
        let most = snapshot.members.iter().map(|member| member.in_flight()).max().unwrap();
        assert!(most <= 126, "100 each are even; {most} is more than a quarter above");
    }

    #[test]
    fn every_name_is_understood() {
        for policy in Policy::ALL {
            assert_eq!(Policy::from_name(policy.as_str()), Some(policy));
            assert!(policy.names().1.iter().all(|alias| Policy::from_name(alias) == Some(policy)));
        }
        assert_eq!(Policy::from_name("leastconn"), Some(Policy::LeastRequest));
        assert_eq!(Policy::from_name("peak_ewma"), Some(Policy::LeastTime));
        assert_eq!(Policy::from_name("magic"), None);
    }
}
