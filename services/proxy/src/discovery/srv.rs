//! SRV records (RFC 2782): each names a host, a port, a weight and a priority.
//!
//! A record is one backend, whatever number of addresses its target has: that is what the RFC
//! calls a target host, and a replica with an IPv4 and an IPv6 address is still one. Its name is
//! `target:port`, so what operators want of it and its health outlive a change of its address.
//!
//! Priorities become tiers: the lowest number is tier 0, the next one tier 1. Their numbers mean
//! nothing but their order (10, 20 and 0, 1 are the same), and weights only compare within one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use balance::{BackendId, Found, WEIGHT_MAX};

use super::names::Names;

/// An SRV record with its target's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Lower ones are to be used first, the others when those cannot be reached.
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    /// The host; empty if the service is "decidedly not available" there.
    pub(crate) target: String,
    pub(crate) port: u16,
    /// Or why it has none.
    pub(crate) addresses: Result<Vec<IpAddr>, String>,
}

/// The backends that a name's records tell.
pub(super) async fn look_up(name: &str, names: &Names) -> Result<Vec<Found>, String> {
    names.services(name).await.map(backends)
}

pub(crate) fn backends(mut services: Vec<Service>) -> Vec<Found> {
    services.retain(|service| !service.target.is_empty());
    // Name servers shuffle their answers; an order of our own makes places that stay.
    services.sort_by(|a, b| {
        let key = |s: &Service| (s.port, s.priority);
        a.target.cmp(&b.target).then(key(a).cmp(&key(b)))
    });
    // One that is told with two priorities has the better one, and the weight that it has there.
    services.dedup_by(|again, kept| {
        let is_same = (&again.target, again.port) == (&kept.target, kept.port);
        if is_same && again.priority == kept.priority {
            kept.weight = kept.weight.saturating_add(again.weight);
        }
        is_same
    });
    let mut priorities: BTreeMap<u16, Vec<Service>> = BTreeMap::new();
    for service in services {
        priorities.entry(service.priority).or_default().push(service);
    }
    (0..)
        .zip(priorities.into_values())
        .flat_map(|(tier, services)| in_tier(tier, services))
        .collect()
}

fn in_tier(tier: u16, services: Vec<Service>) -> impl Iterator<Item = Found> {
    let weights = weights(services.iter().map(|service| service.weight).collect());
    let found = services.into_iter().zip(weights);
    found.map(move |(service, weight)| service.found(weight, tier))
}

impl Service {
    fn found(self, weight: u32, tier: u16) -> Found {
        let Self { target, port, addresses, .. } = self;
        let is_host = target.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let addresses = match addresses {
            _ if port == 0 => Err(format!("the SRV record of {target} has the port 0")),
            _ if !is_host => Err(format!("the SRV record's target {target} is no host name")),
            Ok(addresses) if addresses.is_empty() => Err(format!("{target} has no addresses")),
            Ok(addresses) => Ok(addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
            Err(why) => Err(why),
        };
        let id = BackendId::new(&format!("{target}:{port}"));
        Found { weight, tier, ..Found::new(id, addresses) }
    }
}

/// The weights of one priority as the pool has them, in the same proportion as far as its range
/// goes. All 0 means that there is no choice to make; beside others, 0 is "a very small chance".
fn weights(given: Vec<u16>) -> Vec<u32> {
    let most = given.iter().copied().max().map_or(1, u32::from);
    let scaled = given.into_iter().map(|weight| match u32::from(weight) {
        weight if most > WEIGHT_MAX => (weight * WEIGHT_MAX).div_ceil(most).max(1),
        weight => weight.max(1),
    });
    scaled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, target: &str, port: u16) -> Service {
        let addresses = Ok(vec![[10, 0, 0, 1].into()]);
        Service { priority, weight, target: target.to_owned(), port, addresses }
    }

    /// Names and weights.
    fn told(services: Vec<Service>) -> Vec<(String, u32)> {
        backends(services).into_iter().map(|found| (found.id.to_string(), found.weight)).collect()
    }

    fn expected(backends: &[(&str, u32)]) -> Vec<(String, u32)> {
        backends.iter().map(|(id, weight)| ((*id).to_owned(), *weight)).collect()
    }

    #[test]
    fn a_record_is_a_backend_with_its_port_its_weight_and_all_addresses_of_its_target() {
        let both = vec![IpAddr::from([10, 0, 0, 1]), "fd00::1".parse().unwrap()];
        let found =
            backends(vec![Service { addresses: Ok(both), ..service(10, 3, "a.test", 8081) }]);
        assert_eq!((found[0].id.as_str(), found[0].weight), ("a.test:8081", 3));
        let addresses = ["10.0.0.1:8081", "[fd00::1]:8081"].map(|text| text.parse().unwrap());
        assert_eq!(found[0].addresses, Ok(addresses.to_vec()));
    }

    #[test]
    fn the_order_of_an_answer_does_not_matter_and_nobody_is_there_twice() {
        let a = || service(1, 5, "a", 1);
        let b = || service(1, 2, "b", 1);
        let found = expected(&[("a:1", 5), ("b:1", 2)]);
        assert_eq!(told(vec![a(), b()]), found);
        assert_eq!(told(vec![b(), a()]), found);
        let split = vec![b(), service(1, 3, "a", 1), service(1, 2, "a", 1)];
        assert_eq!(told(split), found, "a record that comes in two parts");
        let ports = vec![service(1, 1, "a", 2), service(1, 1, "a", 1)];
        assert_eq!(told(ports), expected(&[("a:1", 1), ("a:2", 1)]));
    }

    #[test]
    fn weights_keep_their_proportion_and_nobody_gets_nothing() {
        assert_eq!(weights(vec![0, 0, 0]), [1, 1, 1]);
        assert_eq!(weights(vec![0, 100]), [1, 100]);
        assert_eq!(weights(vec![256, 1]), [256, 1]);
        assert_eq!(weights(vec![60_000, 30_000, 0]), [256, 128, 1]);
        assert_eq!(weights(vec![65_535, 1]), [256, 1]);
        assert!(weights(vec![]).is_empty());
    }

    /// Names and tiers.
    fn tiers(services: Vec<Service>) -> Vec<(String, u16)> {
        backends(services).into_iter().map(|found| (found.id.to_string(), found.tier)).collect()
    }

    #[test]
    fn the_most_wanted_priority_is_the_first_tier_and_the_next_ones_stand_by() {
        let (spare, main) = (|| service(20, 1, "a-spare", 1), || service(10, 1, "main", 1));
        let last = || service(u16::MAX, 1, "sorry", 1);
        let all =
            [("main:1", 0), ("a-spare:1", 1), ("sorry:1", 2)].map(|(id, t)| (id.to_owned(), t));
        assert_eq!(tiers(vec![last(), spare(), main()]), all);
        assert_eq!(tiers(vec![spare(), main(), last()]), all);
        assert_eq!(tiers(vec![spare()]), [("a-spare:1".to_owned(), 0)], "nobody is above it");
    }

    #[test]
    fn one_that_is_told_with_two_priorities_has_the_better_one() {
        let services = vec![service(20, 7, "a", 1), service(10, 2, "a", 1), service(20, 1, "b", 1)];
        assert_eq!(tiers(services.clone()), [("a:1".to_owned(), 0), ("b:1".to_owned(), 1)]);
        assert_eq!(told(services), expected(&[("a:1", 2), ("b:1", 1)]));
        // The port says who it is, whatever comes first in order.
        let ports = vec![service(1, 1, "a", 2), service(2, 1, "a", 1), service(3, 1, "a", 2)];
        assert_eq!(tiers(ports), [("a:2".to_owned(), 0), ("a:1".to_owned(), 1)]);
    }

    #[test]
    fn weights_compare_within_a_priority_alone() {
        let services = vec![service(1, 60_000, "a", 1), service(1, 30_000, "b", 1)];
        let spares = [service(2, 3, "x", 1), service(2, 0, "y", 1)];
        let told = told([services, spares.into()].concat());
        assert_eq!(told, expected(&[("a:1", 256), ("b:1", 128), ("x:1", 3), ("y:1", 1)]));
    }

    #[test]
    fn a_priority_of_nobody_takes_no_tier() {
        let nobody = service(1, 1, "", 0);
        assert_eq!(tiers(vec![nobody, service(2, 1, "a", 1)]), [("a:1".to_owned(), 0)]);
    }

    #[test]
    fn a_service_that_is_not_available_has_no_backends() {
        assert_eq!(told(vec![service(0, 0, "", 0)]), []);
    }

    #[test]
    fn what_cannot_be_reached_keeps_its_place_with_the_reason() {
        let unresolved = Service { addresses: Err("no".to_owned()), ..service(1, 1, "a", 1) };
        let nowhere = Service { addresses: Ok(vec![]), ..service(1, 1, "b", 1) };
        let found =
            backends(vec![unresolved, nowhere, service(1, 1, "c", 0), service(1, 1, "d\\032", 1)]);
        let reasons: Vec<&str> =
            found.iter().map(|found| found.addresses.as_ref().unwrap_err().as_str()).collect();
        for (reason, expected) in reasons.iter().zip(["no", "b has no addr", "port 0", "no host"]) {
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
