//! What a change would do to the other backends, told before it is made and when it is refused.
//!
//! Nobody sees from a row of backends what taking one out costs the others. The prediction takes
//! the pool's rate of the last seconds and spreads it as the policy will: by weight where turns go
//! by weight, otherwise as it is spread now. Requests in flight follow the rate (Little's law),
//! since how long a request takes is taken to stay the same. Beside them stands what the limits of
//! those who serve leave room for in all.

use std::collections::BTreeMap;

use balance::{BackendId, BackendView, Policy, PoolView};
use serde::Serialize;
use utoipa::ToSchema;

use crate::traffic::Latest;

/// What a change would do.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Prediction {
    /// Of the whole pool, in the last second
    requests_per_second: f64,
    /// Backends in the pool
    total: usize,
    /// Backends that may get requests now
    eligible_before: usize,
    /// And after the change
    eligible_after: usize,
    /// A change that leaves fewer is refused, unless forced
    floor: usize,
    /// Requests in flight at all backends now
    in_flight: u64,
    /// As many as all who may get requests now may have together; none if one of them has no limit
    max_in_flight_before: Option<u64>,
    /// The same after the change. What is more than this waits, or gets a 503
    max_in_flight_after: Option<u64>,
    backends: Vec<BackendPrediction>,
}

/// What a change would do to one backend.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct BackendPrediction {
    id: String,
    /// Of the pool's requests, 0 to 1
    share_before: f64,
    share_after: f64,
    /// As measured in the last second
    requests_per_second_before: f64,
    requests_per_second_after: f64,
    in_flight_before: u32,
    /// Not above a limit that the change sets: what would be waits, or goes elsewhere
    in_flight_after: f64,
}

/// One backend's part of the traffic.
struct Part {
    rate: f64,
    weight_before: f64,
    weight_after: f64,
}

/// How a pool would stand after a change.
pub(super) struct After<'a> {
    /// Who would serve, with these weights.
    pub(super) serving: BTreeMap<BackendId, u32>,
    /// The backend that is changed.
    pub(super) id: &'a str,
    /// How many requests it may have in flight then, none for any number, if the change says that.
    pub(super) limit: Option<Option<u32>>,
    /// A change that leaves fewer is refused.
    pub(super) floor: usize,
}

impl Prediction {
    /// What a change would do to this pool.
    pub(super) fn of(pool: &PoolView, latest: &Latest, after: &After<'_>) -> Self {
        let parts: Vec<Part> = pool
            .backends
            .iter()
            .map(|backend| {
                let rate = latest.backends.get(backend.id.as_str());
                let weight = after.serving.get(&backend.id).copied();
                Part::new(backend, weight, rate.map_or(0.0, |rate| rate.requests_per_second()))
            })
            .collect();
        let rate: f64 = parts.iter().map(|part| part.rate).sum();
        let shares = shares(&parts, pool.plan.policy, rate);
        let backends = pool.backends.iter().zip(&parts).zip(shares);
        let backends = backends.map(|((backend, part), (before, share))| {
            let in_flight = backend.in_flight;
            let grown = if part.rate > 0.0 { share * rate / part.rate } else { 0.0 };
            BackendPrediction {
                id: backend.id.to_string(),
                share_before: before,
                share_after: share,
                requests_per_second_before: part.rate,
                requests_per_second_after: share * rate,
                in_flight_before: in_flight,
                in_flight_after: f64::from(in_flight) * grown,
            }
        });
        let serve_now = pool.everybody().filter(|one| one.eligible);
        let serve_then = pool.everybody().filter(|one| after.serving.contains_key(&one.id));
        Self {
            requests_per_second: rate,
            total: pool.backends.len(),
            eligible_before: pool.eligible(),
            eligible_after: after.serving.len(),
            floor: after.floor,
            in_flight: pool.everybody().map(|one| u64::from(one.in_flight)).sum(),
            max_in_flight_before: together(serve_now.map(|one| one.max_in_flight)),
            max_in_flight_after: together(serve_then.map(|one| after.limit_of(one))),
            backends: backends.collect(),
        }
        .limited(after.id, after.limit.flatten())
    }

    /// What there would be room for, if the change takes some of it.
    pub(super) fn room_in_words(&self) -> String {
        let Self { in_flight, max_in_flight_before: before, max_in_flight_after, .. } = self;
        let Some(room) = max_in_flight_after else { return String::new() };
        if before.is_some_and(|before| before <= *room) {
            return String::new();
        }
        let over = match in_flight.saturating_sub(*room) {
            0 => String::new(),
            over => format!(", {over} more than there would be room for"),
        };
        format!("; at most {room} requests could be in flight then, and {in_flight} are now{over}")
    }

    /// The same with a limit of the requests in flight at one backend. It takes nobody out and is no
    /// reason to refuse a change: who finds a backend full waits, or goes elsewhere.
    fn limited(mut self, id: &str, limit: Option<u32>) -> Self {
        let own = self.backends.iter_mut().find(|backend| backend.id == id);
        if let (Some(own), Some(limit)) = (own, limit) {
            own.in_flight_after = own.in_flight_after.min(f64::from(limit));
        }
        self
    }
}

impl After<'_> {
    fn limit_of(&self, backend: &BackendView) -> Option<u32> {
        let own = self.limit.filter(|_| backend.id.as_str() == self.id);
        own.unwrap_or(backend.max_in_flight)
    }
}

/// What backends may have in flight together, if each has a limit.
fn together(limits: impl Iterator<Item = Option<u32>>) -> Option<u64> {
    limits.map(|limit| limit.map(u64::from)).sum()
}

impl Part {
    fn new(backend: &BackendView, after: Option<u32>, rate: f64) -> Self {
        let weight_before = if backend.eligible { f64::from(backend.weight) } else { 0.0 };
        Self { rate, weight_before, weight_after: after.map_or(0.0, f64::from) }
    }
}

/// Each backend's share before and after.
fn shares(parts: &[Part], policy: Policy, rate: f64) -> Vec<(f64, f64)> {
    let before: f64 = parts.iter().map(|part| part.weight_before).sum();
    let after: f64 = parts.iter().map(|part| part.weight_after).sum();
    let share = |part: f64, sum: f64| if sum > 0.0 { part / sum } else { 0.0 };
    let by_weight =
        |part: &Part| (share(part.weight_before, before), share(part.weight_after, after));
    let goes_by_weight = matches!(policy, Policy::RoundRobin | Policy::Random);
    let comes = parts.iter().any(|part| part.weight_after > part.weight_before);
    if goes_by_weight || comes || rate <= 0.0 {
        return parts.iter().map(by_weight).collect();
    }
    let measured = |part: &Part| share(part.rate, rate);
    // What leaves is spread over those who stay, as they share the rest now.
    let kept = |part: &Part| part.rate * share(part.weight_after, part.weight_before);
    let left: f64 = parts.iter().map(kept).sum();
    if left <= 0.0 {
        return parts.iter().map(|part| (measured(part), by_weight(part).1)).collect();
    }
    parts.iter().map(|part| (measured(part), kept(part) / left)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(rate: f64, weight_before: f64, weight_after: f64) -> Part {
        Part { rate, weight_before, weight_after }
    }

    fn after(parts: &[Part], policy: Policy) -> Vec<f64> {
        let rate = parts.iter().map(|part| part.rate).sum();
        shares(parts, policy, rate).into_iter().map(|(_, after)| after).collect()
    }

    #[test]
    fn turns_go_by_weight_among_those_who_stay() {
        let parts = [part(30.0, 3.0, 3.0), part(10.0, 1.0, 1.0), part(40.0, 4.0, 0.0)];
        assert_eq!(after(&parts, Policy::RoundRobin), [0.75, 0.25, 0.0]);
        let all_go = [part(30.0, 3.0, 0.0)];
        assert_eq!(after(&all_go, Policy::RoundRobin), [0.0]);
    }

    #[test]
    fn where_load_decides_the_rest_is_spread_as_it_is_now() {
        let parts = [part(60.0, 1.0, 1.0), part(20.0, 1.0, 1.0), part(20.0, 1.0, 0.0)];
        assert_eq!(after(&parts, Policy::LeastRequest), [0.75, 0.25, 0.0]);
    }

    #[test]
    fn nobody_has_more_in_flight_than_a_limit_lets_it() {
        let backends = ["a", "b"].map(|id| BackendPrediction {
            id: id.to_owned(),
            share_before: 0.5,
            share_after: 0.5,
            requests_per_second_before: 10.0,
            requests_per_second_after: 10.0,
            in_flight_before: 8,
            in_flight_after: 8.0,
        });
        let all = Prediction {
            requests_per_second: 20.0,
            total: 2,
            eligible_before: 2,
            eligible_after: 2,
            floor: 1,
            in_flight: 16,
            max_in_flight_before: None,
            max_in_flight_after: None,
            backends: backends.into(),
        };
        let limited = |limit| all.clone().limited("a", limit).backends[0].in_flight_after;
        assert_eq!([limited(Some(3)), limited(Some(9)), limited(None)], [3.0, 8.0, 8.0]);
        assert_eq!(all.limited("a", Some(3)).backends[1].in_flight_after, 8.0);
    }

    #[test]
    fn without_traffic_and_for_one_that_comes_back_weights_say_it() {
        let idle = [part(0.0, 1.0, 1.0), part(0.0, 1.0, 0.0)];
        assert_eq!(after(&idle, Policy::LeastRequest), [1.0, 0.0]);
        let back = [part(10.0, 1.0, 1.0), part(0.0, 0.0, 1.0)];
        assert_eq!(after(&back, Policy::LeastRequest), [0.5, 0.5]);
    }
}
