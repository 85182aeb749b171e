//! What a change would do to the other backends, told before it is made and when it is refused.
//!
//! Nobody sees from a row of backends what taking one out costs the others. The prediction takes
//! the pool's rate of the last seconds and spreads it as the policy will: by weight where turns go
//! by weight, otherwise as it is spread now. Requests in flight follow the rate (Little's law),
//! since how long a request takes is taken to stay the same.

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

impl Prediction {
    /// What a change would do to this pool after which those serve, with these weights.
    pub(super) fn of(
        pool: &PoolView,
        latest: &Latest,
        after: &BTreeMap<BackendId, u32>,
        floor: usize,
    ) -> Self {
        let parts: Vec<Part> = pool
            .backends
            .iter()
            .map(|backend| {
                let rate = latest.backends.get(backend.id.as_str());
                let after = after.get(&backend.id).copied();
                Part::new(backend, after, rate.map_or(0.0, |rate| rate.requests_per_second()))
            })
            .collect();
        let rate: f64 = parts.iter().map(|part| part.rate).sum();
        let shares = shares(&parts, pool.plan.policy, rate);
        let backends = pool.backends.iter().zip(&parts).zip(shares);
        let backends = backends.map(|((backend, part), (before, after))| {
            let in_flight = backend.member.in_flight();
            let grown = if part.rate > 0.0 { after * rate / part.rate } else { 0.0 };
            BackendPrediction {
                id: backend.id.to_string(),
                share_before: before,
                share_after: after,
                requests_per_second_before: part.rate,
                requests_per_second_after: after * rate,
                in_flight_before: in_flight,
                in_flight_after: f64::from(in_flight) * grown,
            }
        });
        Self {
            requests_per_second: rate,
            total: pool.backends.len(),
            eligible_before: pool.eligible(),
            eligible_after: after.len(),
            floor,
            backends: backends.collect(),
        }
    }

    /// The same with a limit of the requests in flight at one backend. It takes nobody out and is no
    /// reason to refuse a change: who finds a backend full waits, or goes elsewhere.
    pub(super) fn limited(mut self, id: &str, limit: Option<u32>) -> Self {
        let own = self.backends.iter_mut().find(|backend| backend.id == id);
        if let (Some(own), Some(limit)) = (own, limit) {
            own.in_flight_after = own.in_flight_after.min(f64::from(limit));
        }
        self
    }
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
