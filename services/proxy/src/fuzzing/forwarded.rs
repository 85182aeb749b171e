//! What a backend gets of a request's head: what the client said, without what concerned one connection,
//! with what we say of the client (RFC 9110 §7.6).

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::{HOST, TRANSFER_ENCODING},
};

use super::{
    messages::{self, By, Fields, Message, in_order, values},
    passed_on::{going_on, is_claim, protocols, without},
};
use crate::{
    forward::origin_form,
    headers::{self, Client},
    http1::{Head, write_head},
};

/// Where clients are, and what is trusted if one is.
const PEER: [u8; 4] = [10, 0, 0, 1];
const TRUSTED: &str = "10.0.0.0/8";

/// Fields of which the proxy has a say, each of which is looked at by itself.
const OURS: [&str; 6] = ["expect", "host", "te", "via", "x-forwarded-for", "x-request-id"];

/// A request's head as it was read.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) is_chunked: bool,
}

/// A client, and whom it trusts.
pub(super) fn client(is_trusted: bool) -> (Client, Vec<ipnet::IpNet>) {
    let trusted = chassis::units::networks(if is_trusted { TRUSTED } else { "" }).unwrap();
    (Client::new(IpAddr::from(PEER), &trusted), trusted)
}

/// Checks what a backend of either version gets of a request whose fields are these to others.
///
/// # Panics
/// Something was lost, made up or let through.
pub(super) fn check(said: &Fields, came: Came, is_trusted: bool) {
    let Came { method, uri, version, mut headers, is_chunked } = came;
    let (client, _) = client(is_trusted);
    let authority = uri.authority().cloned();
    let Ok(present) = headers::check_request(&mut headers, &method, &uri, version, &client) else {
        return;
    };
    let id = HeaderValue::from_static("id");
    let upgrade = headers::prepare_request(&mut headers, present, version, &client, id);
    if version == Version::HTTP_10 && !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::from_static("localhost"));
    }
    if is_chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let head = Head { method, uri: origin_form(uri), headers };
    let bytes = write_head(&head);
    let read = messages::request_head(&bytes, By::Us);
    let Ok(Some(ours)) = read else { panic!("{read:?}: {:?}", String::from_utf8_lossy(&bytes)) };
    assert_eq!(ours.length, bytes.len(), "more than a head");
    assert_eq!(ours.words()[0], head.method.as_str().as_bytes());
    assert!(ours.words()[1] == b"*" || ours.words()[1].starts_with(b"/"), "{:?}", ours.words());
    check_framing(&ours, said, is_chunked);
    check_fields(&ours, said, version, is_trusted);
    check_connection(&ours, said, upgrade.is_some());
    let hosts: Vec<&[u8]> = ours.values("host").collect();
    let expected = authority.as_ref().map(|authority| authority.as_str().as_bytes());
    let expected = expected.or_else(|| values(said, "host").next());
    assert_eq!(hosts, [expected.unwrap_or(b"localhost")]);
    for_http2(&ours, &head);
}

/// The body ends where the client said.
fn check_framing(ours: &Message, said: &Fields, is_chunked: bool) {
    let lengths: Vec<&[u8]> = ours.values("content-length").collect();
    assert_eq!(lengths, values(said, "content-length").collect::<Vec<_>>());
    assert_eq!(ours.values("transfer-encoding").count(), usize::from(is_chunked));
}

/// What is nobody's but the client's and the backend's goes on as it is.
fn check_fields(ours: &Message, said: &Fields, version: Version, is_trusted: bool) {
    let goes_on = going_on(said);
    let others = |fields: &Fields| {
        let mut fields = without(fields, &OURS);
        fields.retain(|(name, _)| {
            let is_odd_id = name != "x-request-id" && name.replace('_', "-") == "x-request-id";
            let is_of_connection =
                matches!(name.as_str(), "connection" | "upgrade" | "transfer-encoding");
            let is_joined = name == "cookie" && version == Version::HTTP_2;
            !(is_claim(name) || is_odd_id || is_of_connection || is_joined)
        });
        fields
    };
    assert_eq!(others(&goes_on), others(&ours.fields));
    let before = values(&goes_on, "via").count();
    let vias: Vec<&[u8]> = ours.values("via").collect();
    assert_eq!(vias.len(), before + 1);
    assert!(vias[before].ends_with(b" evenkeel"));
    let addresses: Vec<&[u8]> = ours.values("x-forwarded-for").collect();
    let [list] = addresses[..] else { panic!("{addresses:?}") };
    assert!(list.ends_with(b"10.0.0.1"), "{list:?}");
    assert!(ours.values("x-request-id").count() > 0, "no id");
    if !is_trusted {
        assert_eq!(list, b"10.0.0.1");
        assert_eq!(ours.values("x-request-id").collect::<Vec<_>>(), [b"id"]);
        let mut claims: Vec<&str> = ours.fields.iter().map(|(name, _)| &**name).collect();
        claims.retain(|name| is_claim(name));
        claims.sort_unstable();
        let of_host: &[&str] = &["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        // Of a client of HTTP/1.0 that names no host.
        assert!(claims == of_host || claims == [of_host[0], of_host[2]], "{claims:?}");
    }
    if version == Version::HTTP_2 {
        check_cookies(ours, &goes_on);
    }
}

/// The same cookies, in one field (RFC 9113 §8.2.3).
fn check_cookies(ours: &Message, said: &Fields) {
    let cookies = |fields: &Fields| {
        let all: Vec<u8> = values(fields, "cookie").collect::<Vec<_>>().join(&b';');
        let all: Vec<Vec<u8>> =
            all.split(|byte| *byte == b';').map(|one| one.trim_ascii().to_vec()).collect();
        all.into_iter().filter(|cookie| !cookie.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(cookies(said), cookies(&ours.fields));
    assert!(ours.values("cookie").count() < 2, "more than one list");
}

/// What is said of the connection is said by us.
fn check_connection(ours: &Message, said: &Fields, is_upgrade: bool) {
    let all = |name| ours.values(name).collect::<Vec<_>>();
    assert_eq!(all("upgrade").len(), usize::from(is_upgrade));
    if is_upgrade {
        // Several lines are one list (RFC 9110 §5.3).
        assert_eq!(protocols(&ours.fields), protocols(said));
    }
    assert!(all("te").is_empty() || all("te") == [b"trailers"]);
    let is_asked =
        values(said, "te").any(|te| te.to_ascii_lowercase().windows(8).any(|te| te == b"trailers"));
    assert!(is_asked || all("te").is_empty(), "trailers that nobody asked for");
    let expected: &[&[u8]] = match (is_upgrade, all("te").is_empty()) {
        (true, false) => &[b"upgrade, te"],
        (true, true) => &[b"upgrade"],
        (false, false) => &[b"te"],
        (false, true) => &[],
    };
    assert_eq!(all("connection"), expected);
    let is_h2c = |protocol: &[u8]| protocol.trim_ascii().eq_ignore_ascii_case(b"h2c");
    let mut protocols = ours.values("upgrade").flat_map(|value| value.split(|byte| *byte == b','));
    assert!(!protocols.any(is_h2c), "h2c would smuggle requests");
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        assert!(all(name).is_empty(), "{name}");
    }
}

/// The same request for a backend of HTTP/2 (RFC 9113 §8.2.2, §8.3.1).
fn for_http2(ours: &Message, head: &Head) {
    // Its upgrade was taken out before.
    let mut head = head.clone();
    head.headers.remove("upgrade");
    let Ok(head) = head.in_http2_form() else { return };
    let host = ours.values("host").next();
    assert_eq!(head.uri.authority().map(|authority| authority.as_str().as_bytes()), host);
    let target = head.uri.path_and_query().map(|path| path.as_str().as_bytes());
    assert_eq!(target, Some(ours.words()[1]));
    let gone = ["connection", "expect", "host", "transfer-encoding", "upgrade"];
    assert_eq!(without(&in_order(&head.headers), &[]), without(&ours.fields, &gone));
}
