//! What others tell of backends: the Kubernetes API, name servers, the backends' own health services.

use std::collections::BTreeSet;

use balance::{Found, WEIGHT_MAX};
use hickory_resolver::proto::{op::Message, rr::RData};
use serde_json::{Value, json};

use crate::{
    discovery::{
        kubernetes,
        names::{host_name, told_along},
        srv,
    },
    probe::{printable, question, serving_status, shown},
    source::{Service, ServicePort},
};

/// Bytes as a watch of the Kubernetes API brings them, after one byte that says in which pieces.
///
/// # Panics
/// What is read depends on the pieces, tells somebody twice, or is not what a list of the same slices
/// tells.
pub fn watch(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    let port = ServicePort::Name("http".to_owned());
    let service = Service { name: "web".to_owned(), namespace: "shop".to_owned(), port };
    let (whole, found) = kubernetes::read(bytes, bytes.len().max(1), &service);
    assert_eq!(whole, kubernetes::read(bytes, size, &service).0, "in pieces of {size}");
    assert!(found.len() < bytes.len().max(1), "{} backends of {}", found.len(), bytes.len());
    check_found(&found);
    if let Some(listed) = list_of(bytes).and_then(|list| kubernetes::read_list(&list, &service)) {
        assert_eq!(listed, found, "as a list");
    }
}

/// Nobody is there twice, nor is an address.
fn check_found(found: &[Found]) {
    let ids: BTreeSet<&str> = found.iter().map(|found| found.id.as_str()).collect();
    assert_eq!(ids.len(), found.len(), "two of one name");
    let addresses = || found.iter().filter_map(|found| found.addresses.as_ref().ok()).flatten();
    assert_eq!(
        addresses().collect::<BTreeSet<_>>().len(),
        addresses().count(),
        "two at an address"
    );
}

/// A list of the slices that a watch tells, if it tells of nothing but of new ones.
fn list_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut items, mut names, mut version) = (Vec::new(), BTreeSet::new(), json!(""));
    let text = std::str::from_utf8(bytes).ok()?;
    let lines = text.strip_suffix('\n')?.split('\n').filter(|line| !line.trim_ascii().is_empty());
    for line in lines {
        let Value::Object(mut event) = serde_json::from_str(line).ok()? else { return None };
        let object =
            event.remove("object").filter(|_| event.get("type") == Some(&json!("ADDED")))?;
        version = object["metadata"]["resourceVersion"].clone();
        // A list has each once, and a reader of values keeps the last of two fields of one name.
        if !names.insert(object["metadata"]["name"].as_str()?.to_owned()) || !is_kept(line) {
            return None;
        }
        items.push(object);
    }
    Some(json!({"metadata": {"resourceVersion": version}, "items": items}).to_string().into_bytes())
}

/// Whether a text is one that values are written as, in another order of fields.
fn is_kept(line: &str) -> bool {
    let sorted = |text: &str| {
        let mut bytes: Vec<u8> = text.bytes().filter(|byte| !b" \t\r".contains(byte)).collect();
        bytes.sort_unstable();
        bytes
    };
    let again = serde_json::from_str::<Value>(line).map(|value| value.to_string());
    again.is_ok_and(|again| sorted(&again) == sorted(line))
}

/// The answer of a name server to a question for SRV records.
///
/// # Panics
/// Who is found depends on the order of the answer, is there twice or is missing, or has a share that the
/// pool does not know.
pub fn records(data: &[u8]) {
    let Ok(message) = Message::from_vec(data) else { return };
    let of_record = |record: &hickory_resolver::proto::rr::Record| {
        let RData::SRV(srv) = &record.data else { return None };
        let addresses = Ok(told_along(&message.additionals, &srv.target));
        let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
        Some(srv::Service { priority, weight, target: host_name(&srv.target), port, addresses })
    };
    let mut services: Vec<srv::Service> = message.answers.iter().filter_map(of_record).collect();
    let expected: BTreeSet<(String, u16)> = services
        .iter()
        .filter(|service| !service.target.is_empty())
        .map(|service| (format!("{}:{}", service.target, service.port), service.port))
        .collect();
    let found = srv::backends(services.clone());
    services.reverse();
    let words = |found: &[Found]| {
        let mut words: Vec<String> = found.iter().map(|found| format!("{found:?}")).collect();
        words.sort_unstable();
        words
    };
    assert_eq!(words(&found), words(&srv::backends(services)), "in another order");
    let ids: Vec<&str> = found.iter().map(|found| found.id.as_str()).collect();
    assert_eq!(ids.len(), expected.len(), "{ids:?} of {expected:?}");
    assert!(ids.iter().all(|id| !id.contains(|byte: char| byte.is_ascii_uppercase())), "{ids:?}");
    for (id, port) in &expected {
        let found = found.iter().find(|found| found.id.as_str() == id).unwrap();
        assert!((1..=WEIGHT_MAX).contains(&found.weight), "{found:?}");
        if let Ok(addresses) = &found.addresses {
            assert!(*port > 0 && !addresses.is_empty(), "{found:?}");
            assert!(addresses.iter().all(|address| address.port() == *port), "{found:?}");
        }
    }
    let tiers: BTreeSet<u16> = found.iter().map(|found| found.tier).collect();
    assert!(tiers.iter().copied().eq(0..tiers.len() as u16), "{tiers:?}");
}

/// The body of a probe's answer.
///
/// # Panics
/// A status is read that is not there, or what is shown of it could do harm.
pub fn probe(data: &[u8]) {
    if let Some(status) = serving_status(data) {
        assert_eq!(status_of(data), Some(status.into()), "another status");
    }
    let text = printable(data);
    assert!(!text.contains(char::is_control), "{text:?}");
    let line = shown(data);
    assert!(line.is_empty() || line.starts_with(": "), "{line:?}");
    assert!(line.len() <= 3 * 100 + 2 && !line.contains(char::is_control), "{line:?}");
    // The name that is asked for is what the service reads.
    let name = String::from_utf8_lossy(&data[..data.len().min(40)]);
    let framed = question(&name);
    let message = unframed(&framed).unwrap();
    assert_eq!(framed.len(), message.len() + 5);
    let said = fields(message).unwrap();
    let expected: &[(u64, Field<'_>)] = &[(1, Field::Bytes(name.as_bytes()))];
    assert_eq!(said, if name.is_empty() { &[] } else { expected });
}

/// A field's value as Protocol Buffers have it.
#[derive(Debug, PartialEq, Eq)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The status of a health service's answer: its first field, 0 if it is left out.
fn status_of(framed: &[u8]) -> Option<u64> {
    let fields = fields(unframed(framed)?)?;
    let status = fields.iter().rev().find_map(|field| match field {
        (1, Field::Number(status)) => Some(*status),
        _ => None,
    });
    Some(status.unwrap_or(0))
}

/// The first message of gRPC, if it is not compressed.
fn unframed(framed: &[u8]) -> Option<&[u8]> {
    let (head, rest) = framed.split_first_chunk::<5>()?;
    let [0, length @ ..] = head else { return None };
    rest.get(..u32::from_be_bytes(*length) as usize)
}

/// The fields of a message.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = number(&mut message)?;
        let skipped = match key % 8 {
            0 => {
                fields.push((key / 8, Field::Number(number(&mut message)?)));
                continue;
            }
            1 => 8,
            2 => usize::try_from(number(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(skipped)?;
        fields.push((key / 8, if key % 8 == 2 { Field::Bytes(value) } else { Field::Other }));
        message = rest;
    }
    Some(fields)
}

/// A number of which each byte has seven bits, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte % 128) << shift;
        if *byte < 128 {
            return Some(value);
        }
    }
    None
}
