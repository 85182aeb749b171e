//! What must hold of a message that was passed on: it says what was said before, without what concerned
//! one connection (RFC 9110 §7.6.1), and nothing beside that.

use http::HeaderName;

use super::messages::{Fields, Message, values};
use crate::limits::{FieldLimits, Sender};

/// Fields of one connection, beside those that `Connection` names.
const OF_ONE_CONNECTION: [&str; 6] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Those that `Connection` cannot take out: what frames or routes a message or bounds its way.
const KEPT: [&str; 3] = ["content-length", "host", "max-forwards"];

/// Fields of an answer of which the proxy has a say, each of which is looked at by itself.
const OURS: [&str; 7] = [
    "connection",
    "content-length",
    "date",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Those that may not stand after a body: what frames or routes a message, controls or modifies it, says
/// who asks or how to read what has been read (RFC 9110 §6.5.1), or is told of the connection.
const NOWHERE: [&str; 16] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "http2-settings",
    "max-forwards",
    "proxy-authorization",
    "set-cookie",
    "te",
    "trailer",
    "via",
];

/// By which a backend asks to be spared, unless it is set otherwise.
const DEGRADED: &str = "x-evenkeel-degraded";

/// The protocol that clients ask for who ask for one.
pub(super) const PROTOCOL: &str = "websocket";

/// Who names more fields in `Connection` than these gets none through after a body.
const NAMED_MAX: usize = 16;

/// A client, as far as its answers depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) is_http2: bool,
    pub(super) is_http11: bool,
    pub(super) is_for_head: bool,
    pub(super) takes_trailers: bool,
    pub(super) may_switch: bool,
}

/// What the fields of an answer may be, unless it is set otherwise.
pub(super) const FIELDS: FieldLimits =
    FieldLimits { sender: Sender::Backend, bytes: 60 * 1024, count: 100 };

/// What the digits of a length may be.
const LENGTH_DIGITS: usize = 18;

/// Whether an answer is the proxy's own.
pub(super) fn is_refusal(ours: &Message) -> bool {
    let mut says = ours.values("proxy-status");
    ours.status() >= 500 && says.any(|value| value.starts_with(b"evenkeel"))
}

/// Whether what the proxy says is due to time, of which a busy machine may take any.
pub(super) fn is_late(ours: &Message) -> bool {
    is_refusal(ours) && ours.status() == 504
}

/// Whether an answer that is valid is one that the proxy reads too.
pub(super) fn is_fit(theirs: &Message, may_switch: bool) -> bool {
    is_within(theirs) && (theirs.status() != 101 || (may_switch && names_protocol(theirs)))
}

/// Whether the head of one is no more than the proxy reads.
pub(super) fn is_within(theirs: &Message) -> bool {
    let is_length = |length: &String| (1..=LENGTH_DIGITS).contains(&length.len());
    theirs.begins_within(FIELDS) && members(&theirs.fields, "content-length").iter().all(is_length)
}

/// The members of a list, in lower case.
pub(super) fn members(fields: &Fields, name: &str) -> Vec<String> {
    values(fields, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|member| String::from_utf8_lossy(member.trim_ascii()).to_ascii_lowercase())
        .collect()
}

/// The fields of a message that go on, in any order of names.
pub(super) fn going_on(fields: &Fields) -> Fields {
    let named = members(fields, "connection");
    let goes_on = |name: &str| {
        let is_named = named.iter().any(|named| named == name) && !KEPT.contains(&name);
        !is_named && !OF_ONE_CONNECTION.contains(&name)
    };
    fields.iter().filter(|(name, _)| goes_on(name)).cloned().collect()
}

/// Fields other than these, those of one name together in their order.
pub(super) fn without(fields: &Fields, names: &[&str]) -> Fields {
    let mut fields: Fields =
        fields.iter().filter(|(name, _)| !names.contains(&name.as_str())).cloned().collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

/// Checks an answer of ours against the backend's.
///
/// # Panics
/// Something was lost, made up or let through.
pub(super) fn check(theirs: &Message, ours: &Message, asked: &Asked) {
    let status = theirs.status();
    assert_eq!(status, ours.status());
    assert!(theirs.body == ours.body, "{} bytes of {}", ours.body.len(), theirs.body.len());
    let said = going_on(&theirs.fields);
    let mut ours_alone = OURS.to_vec();
    ours_alone.push(DEGRADED);
    if asked.is_http2 {
        ours_alone.push("te");
    }
    assert_eq!(without(&said, &ours_alone), without(&ours.fields, &ours_alone));
    let is_asked_for = || asked.may_switch && names_protocol(theirs);
    assert!(status != 101 || is_asked_for(), "a protocol that nobody asked for");
    let has_trailers = asked.takes_trailers && !asked.is_for_head;
    check_ours(theirs, ours, &said, asked);
    check_trailers(theirs, &ours.trailers, has_trailers);
}

/// Whether an answer names the protocol that clients ask for, and no other (RFC 9110 §7.8).
pub(super) fn names_protocol(theirs: &Message) -> bool {
    let named = protocols(&theirs.fields);
    !named.is_empty() && named.iter().all(|protocol| protocol == PROTOCOL)
}

/// The protocols that a message names for its connection.
pub(super) fn protocols(fields: &Fields) -> Vec<String> {
    let mut named = members(fields, "upgrade");
    named.retain(|protocol| !protocol.is_empty());
    named
}

fn check_ours(theirs: &Message, ours: &Message, said: &Fields, asked: &Asked) {
    let count = |name: &str| ours.values(name).count();
    for name in ["date", "x-request-id"] {
        let before: Vec<&[u8]> = values(said, name).collect();
        let after: Vec<&[u8]> = ours.values(name).collect();
        if before.is_empty() && (name, ours.status()) != ("x-request-id", 101) {
            assert_eq!(after.len(), 1, "{name}");
        } else {
            assert_eq!(before, after, "{name}");
        }
    }
    assert_eq!(count(DEGRADED), 0);
    let (status, is_chunked) = (ours.status(), count("transfer-encoding") > 0);
    let lengths: Vec<&[u8]> = ours.values("content-length").collect();
    assert!(lengths.len() + usize::from(is_chunked) < 2, "more than one framing");
    let number = |length: &[u8]| String::from_utf8_lossy(length).parse::<u64>().unwrap();
    if let [length] = lengths[..] {
        let first = theirs.values("content-length").next();
        let first = first.and_then(|value| value.split(|byte| *byte == b',').next());
        let body = if asked.is_for_head || status == 304 {
            number(first.unwrap().trim_ascii())
        } else {
            ours.body.len() as u64
        };
        assert_eq!((number(length), status == 204), (body, false));
    }
    if asked.is_http2 {
        for name in OF_ONE_CONNECTION {
            assert_eq!(count(name), 0, "{name} in HTTP/2");
        }
    }
    let may_switch = asked.is_http11 && matches!(status, 101 | 426);
    let named = if may_switch { protocols(&theirs.fields) } else { Vec::new() };
    assert_eq!(protocols(&ours.fields), named, "another protocol");
    assert_eq!(count("upgrade"), usize::from(!named.is_empty()), "one list");
    let tells = |name: &str| count("trailer") == values(said, name).count();
    if !asked.is_http2 {
        assert!(if is_chunked && asked.takes_trailers {
            tells("trailer")
        } else {
            count("trailer") == 0
        });
    }
}

/// What comes after a body is what came, without what may not stand there (RFC 9110 §6.5.1) or what
/// `Connection` names, or nothing.
///
/// # Panics
/// It is not.
pub(super) fn check_trailers(theirs: &Message, ours: &Fields, has_trailers: bool) {
    let mut expected = without(&theirs.trailers, &[]);
    // These are no fields, but what is usual there; nothing passes if it names too many others.
    let mut named = members(&theirs.fields, "connection");
    named.retain(|name| {
        let is_usual = matches!(&**name, "close" | "keep-alive" | "te" | "upgrade");
        !is_usual && HeaderName::try_from(name).is_ok()
    });
    let has_trailers = has_trailers && named.len() <= NAMED_MAX;
    expected.retain(|(name, _)| has_trailers && !has_no_place(name) && !named.contains(name));
    assert_eq!(without(ours, &[]), expected, "trailers");
}

fn has_no_place(name: &str) -> bool {
    let is_id = name.replace('_', "-") == "x-request-id";
    is_id || NOWHERE.contains(&name) || OF_ONE_CONNECTION.contains(&name) || is_claim(name)
}

/// Whether a field says who the client is, however a server may read its name.
pub(super) fn is_claim(name: &str) -> bool {
    let name = name.replace('_', "-");
    let forwarded = name.strip_prefix("x-forwarded-");
    name == "forwarded" || name == "x-real-ip" || forwarded.is_some_and(|rest| !rest.is_empty())
}
