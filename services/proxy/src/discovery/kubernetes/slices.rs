//! EndpointSlices, and the backends that they tell.
//!
//! A Service's endpoints are spread over several slices, and while the cluster moves them from one
//! to another they are in both, or a pod is still in one under an address that a new pod has
//! already. Readers are expected to merge them, as kube-proxy does. A pod is known by its UID: an
//! address says little, because it is used again within a fraction of a second.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use balance::{BackendId, Found};
use serde::Deserialize;

use crate::source::{Service, ServicePort};

/// What we read of an EndpointSlice (`discovery.k8s.io/v1`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slice {
    pub(super) metadata: Metadata,
    #[serde(default)]
    address_type: String,
    // Go writes an empty list as null.
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) resource_version: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Option<Conditions>,
    #[serde(default)]
    target_ref: Option<TargetRef>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
struct TargetRef {
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Port {
    #[serde(default)]
    name: Option<String>,
    /// None means all ports.
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    protocol: Option<String>,
}

/// What an endpoint's conditions come to. Nothing said of `ready` means yes, of `serving` the same
/// as `ready`, of `terminating` no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Gets no requests.
    NotReady,
    /// Serves still, and is going away.
    Terminating,
    Ready,
}

impl Conditions {
    fn standing(self) -> Standing {
        let ready = self.ready.unwrap_or(true);
        let serving = self.serving.unwrap_or(ready);
        match self.terminating.unwrap_or(false) {
            // Ready all the same only where a Service publishes addresses that are not ready.
            true if ready || serving => Standing::Terminating,
            false if ready => Standing::Ready,
            _ => Standing::NotReady,
        }
    }
}

/// An endpoint as one slice tells it.
#[derive(Clone, Debug)]
struct Told {
    /// The pod's name and UID, if it is a pod.
    pod: Option<(String, String)>,
    address: SocketAddr,
    standing: Standing,
    /// When its slice was written, compared with others.
    written: u64,
}

/// The backends of a Service.
///
/// # Errors
/// Why there is none.
pub(super) fn backends<'a>(
    slices: impl Iterator<Item = &'a Slice> + Clone,
    service: &Service,
) -> Result<Vec<Found>, String> {
    let Service { name, namespace, port } = service;
    let readable = slices.filter(|slice| matches!(slice.address_type.as_str(), "IPv4" | "IPv6"));
    let with_port = readable.clone().filter_map(|slice| Some((slice, slice.port(port)?)));
    let told = merge(with_port.flat_map(|(slice, port)| slice.told(port)).collect());
    let found: Vec<Found> = told.into_iter().filter_map(found).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let mut ports: Vec<String> = readable.clone().flat_map(Slice::ports_in_words).collect();
    ports.sort_unstable();
    ports.dedup();
    Err(if readable.clone().next().is_none() {
        format!("the Service {name} in {namespace} has no EndpointSlices")
    } else if !ports.is_empty() && readable.clone().all(|slice| slice.port(port).is_none()) {
        let ports = ports.join(", ");
        format!("the pods of the Service {name} in {namespace} have no port {port}, but {ports}")
    } else {
        format!("no pod of the Service {name} in {namespace} is ready")
    })
}

impl Slice {
    /// The number of the port that is wanted. Each slice has numbers of its own.
    fn port(&self, wanted: &ServicePort) -> Option<u16> {
        let mut ports = self.ports.iter().flatten().filter(|port| port.is_tcp());
        match wanted {
            ServicePort::Number(number) => {
                ports.any(|port| port.port.is_none_or(|port| port == *number)).then_some(*number)
            }
            ServicePort::Name(name) => ports.find(|port| port.name.as_deref() == Some(name))?.port,
        }
    }

    fn ports_in_words(&self) -> impl Iterator<Item = String> {
        let ports = self.ports.iter().flatten().filter(|port| port.is_tcp());
        ports.filter_map(|port| {
            let name = port.name.as_deref().filter(|name| !name.is_empty());
            Some(match (name, port.port?) {
                (Some(name), number) => format!("{number} ({name})"),
                (None, number) => number.to_string(),
            })
        })
    }

    fn told(&self, port: u16) -> impl Iterator<Item = Told> {
        let written = self.metadata.resource_version.parse().unwrap_or_default();
        self.endpoints.iter().flatten().filter_map(move |endpoint| {
            // Further ones are no longer written, and readers are to take the first.
            let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
            let pod = endpoint.target_ref.as_ref().filter(|of| !of.uid.is_empty());
            Some(Told {
                pod: pod.map(|pod| (pod.name.clone(), pod.uid.clone())),
                address: SocketAddr::new(address, port),
                standing: endpoint.conditions.unwrap_or_default().standing(),
                written,
            })
        })
    }
}

impl Port {
    fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    }
}

/// One endpoint with all its addresses.
struct Merged {
    told: Told,
    addresses: Vec<SocketAddr>,
}

/// Each pod once, and each address once.
fn merge(mut told: Vec<Told>) -> Vec<Merged> {
    // Of one pod the slice that was written last knows best.
    told.sort_by_key(|told| std::cmp::Reverse(told.written));
    let mut pods: BTreeMap<String, Merged> = BTreeMap::new();
    for told in told {
        let key = match &told.pod {
            Some((_, uid)) => uid.clone(),
            None => told.address.to_string(),
        };
        let address = told.address;
        let merged = pods.entry(key).or_insert(Merged { told, addresses: Vec::new() });
        if !merged.addresses.contains(&address) {
            merged.addresses.push(address);
        }
    }
    let mut merged: Vec<Merged> = pods.into_values().collect();
    // Of two pods with one address, the one that is ready has it, or the one told last.
    merged.sort_by_key(|one| std::cmp::Reverse((one.told.standing, one.told.written)));
    let mut taken = std::collections::BTreeSet::new();
    for one in &mut merged {
        one.addresses.retain(|address| taken.insert(*address));
        // IPv4 first: many clusters' nodes have no IPv6 between them, whatever pods have.
        one.addresses.sort_unstable();
    }
    merged.retain(|one| !one.addresses.is_empty());
    // Two pods of one name are one that was replaced: the better one stands for it.
    let mut names = std::collections::BTreeSet::new();
    merged.retain(|one| names.insert(one.id()));
    merged
}

impl Merged {
    /// A pod's name says more to people than its address, and stays with a pod of a StatefulSet.
    fn id(&self) -> String {
        match &self.told.pod {
            Some((name, _)) if !name.is_empty() => format!("{name}:{}", self.told.address.port()),
            _ => self.addresses.first().unwrap_or(&self.told.address).to_string(),
        }
    }
}

fn found(merged: Merged) -> Option<Found> {
    let is_terminating = match merged.told.standing {
        Standing::NotReady => return None,
        Standing::Terminating => true,
        Standing::Ready => false,
    };
    let id = BackendId::new(&merged.id());
    let instance = merged.told.pod.map(|(_, uid)| uid);
    Some(Found { is_terminating, instance, ..Found::new(id, Ok(merged.addresses)) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(port: ServicePort) -> Service {
        Service { name: "web".to_owned(), namespace: "shop".to_owned(), port }
    }

    fn http() -> Service {
        service(ServicePort::Name("http".to_owned()))
    }

    fn slice(name: &str, version: u64, endpoints: Value) -> Slice {
        slice_with(name, version, json!({"addressType": "IPv4", "endpoints": endpoints}))
    }

    fn slice_with(name: &str, version: u64, rest: Value) -> Slice {
        let mut slice = json!({
            "metadata": {"name": name, "resourceVersion": version.to_string(), "labels": {}},
            "ports": [
                {"name": "metrics", "port": 9090},
                {"name": "http", "port": 8081, "protocol": "TCP"},
                {"name": "quic", "port": 8443, "protocol": "UDP"},
            ],
        });
        slice.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        serde_json::from_value(slice).unwrap()
    }

    fn pod(name: &str, address: &str, conditions: Value) -> Value {
        json!({
            "addresses": [address],
            "conditions": conditions,
            "targetRef": {"kind": "Pod", "name": name, "uid": format!("uid-{name}")},
        })
    }

    /// Each backend as `id addresses`, and a star if it is going away.
    fn told(slices: &[Slice]) -> Vec<String> {
        let words = |found: Found| {
            let addresses: Vec<String> =
                found.addresses.unwrap().iter().map(ToString::to_string).collect();
            let star = if found.is_terminating { "*" } else { "" };
            format!("{}{star} {}", found.id, addresses.join(" "))
        };
        let mut told: Vec<String> =
            backends(slices.iter(), &http()).unwrap().into_iter().map(words).collect();
        told.sort_unstable();
        told
    }

    #[test]
    fn what_is_not_said_of_an_endpoint_means_that_it_is_ready_and_stays() {
        use Standing::{NotReady, Ready, Terminating};
        for (conditions, expected) in [
            (json!({}), Ready),
            (json!({"ready": null, "serving": null, "terminating": null}), Ready),
            (json!({"ready": true}), Ready),
            (json!({"ready": false}), NotReady),
            (json!({"ready": false, "serving": false, "terminating": false}), NotReady),
            (json!({"ready": false, "serving": true, "terminating": true}), Terminating),
            (json!({"ready": false, "serving": false, "terminating": true}), NotReady),
            (json!({"ready": false, "terminating": true}), NotReady),
            (json!({"ready": true, "serving": true, "terminating": true}), Terminating),
            (json!({"terminating": true}), Terminating),
        ] {
            let read: Conditions = serde_json::from_value(conditions.clone()).unwrap();
            assert_eq!(read.standing(), expected, "{conditions}");
        }
    }

    #[test]
    fn pods_of_all_slices_are_backends_under_their_names() {
        let slices = [
            slice("web-1", 1, json!([pod("a", "10.0.0.1", json!({"ready": true}))])),
            slice("web-2", 2, json!([pod("b", "10.0.0.2", json!({}))])),
            slice("web-3", 2, json!(null)),
        ];
        assert_eq!(told(&slices), ["a:8081 10.0.0.1:8081", "b:8081 10.0.0.2:8081"]);
        let found = backends(slices.iter(), &http()).unwrap();
        assert!(found.iter().all(|found| found.instance.as_deref().unwrap().starts_with("uid-")));
    }

    #[test]
    fn of_a_pod_that_is_in_two_slices_the_newer_one_holds() {
        let (ready, gone) = (json!({"ready": true}), json!({"ready": false, "serving": false}));
        let of = |version, conditions: &Value| {
            slice(
                &format!("web-{version}"),
                version,
                json!([pod("a", "10.0.0.1", conditions.clone())]),
            )
        };
        assert_eq!(told(&[of(9, &ready), of(7, &gone)]), ["a:8081 10.0.0.1:8081"]);
        assert_eq!(told(&[of(9, &ready), of(10, &ready)]), ["a:8081 10.0.0.1:8081"]);
        let slices = [of(7, &ready), of(9, &gone)];
        let error = backends(slices.iter(), &http()).unwrap_err();
        assert!(error.contains("no pod of the Service web in shop is ready"), "{error}");
    }

    #[test]
    fn an_address_that_is_used_again_is_the_new_pods() {
        let leaving = json!({"ready": false, "serving": true, "terminating": true});
        let old = || pod("old", "10.0.0.1", leaving.clone());
        let new = || pod("new", "10.0.0.1", json!({"ready": true}));
        let expected = ["new:8081 10.0.0.1:8081"];
        assert_eq!(told(&[slice("web-1", 2, json!([old(), new()]))]), expected);
        let slices = [slice("web-2", 9, json!([old()])), slice("web-1", 2, json!([new()]))];
        assert_eq!(told(&slices), expected);
    }

    #[test]
    fn a_pod_of_a_stateful_set_that_was_replaced_is_there_once() {
        let leaving = json!({"ready": false, "serving": true, "terminating": true});
        let mut old = pod("web-0", "10.0.0.1", leaving);
        old["targetRef"]["uid"] = json!("before");
        let new = pod("web-0", "10.0.0.2", json!({"ready": true}));
        let slices = [slice("web-1", 2, json!([old, new]))];
        assert_eq!(told(&slices), ["web-0:8081 10.0.0.2:8081"]);
    }

    #[test]
    fn a_pod_with_addresses_of_both_families_is_one_backend() {
        let v6 = slice_with(
            "web-6",
            3,
            json!({"addressType": "IPv6", "endpoints": [pod("a", "fd00::1", json!({}))]}),
        );
        let v4 = slice("web-4", 2, json!([pod("a", "10.0.0.1", json!({}))]));
        assert_eq!(told(&[v6, v4]), ["a:8081 10.0.0.1:8081 [fd00::1]:8081"]);
    }

    #[test]
    fn endpoints_that_are_no_pods_are_known_by_their_addresses() {
        let plain = json!([
            {"addresses": ["10.0.0.9", "10.0.0.8"]},
            {"addresses": ["not an address"]},
            {"addresses": []},
        ]);
        let names = slice_with(
            "web-9",
            1,
            json!({"addressType": "FQDN", "endpoints": [{"addresses": ["web.example"]}]}),
        );
        assert_eq!(told(&[slice("web-1", 1, plain), names]), ["10.0.0.9:8081 10.0.0.9:8081"]);
    }

    #[test]
    fn a_port_is_found_by_its_name_in_each_slice_or_by_its_number() {
        let a = slice("web-1", 1, json!([pod("a", "10.0.0.1", json!({}))]));
        let b = slice_with(
            "web-2",
            1,
            json!({
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8082}],
                "endpoints": [pod("b", "10.0.0.2", json!({}))],
            }),
        );
        let slices = [a, b];
        assert_eq!(told(&slices), ["a:8081 10.0.0.1:8081", "b:8082 10.0.0.2:8082"]);
        let by_number = service(ServicePort::Number(8082));
        let found = backends(slices.iter(), &by_number).unwrap();
        assert_eq!(found[0].id.as_str(), "b:8082");
        for wrong in [ServicePort::Number(80), ServicePort::Name("quic".to_owned())] {
            let error = backends(slices.iter(), &service(wrong)).unwrap_err();
            assert!(error.contains("8081 (http), 8082 (http), 9090 (metrics)"), "{error}");
        }
    }

    #[test]
    fn a_service_that_is_not_there_is_told() {
        let error = backends([].iter(), &http()).unwrap_err();
        assert_eq!(error, "the Service web in shop has no EndpointSlices");
    }
}
