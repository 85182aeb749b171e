//! What a proxy does to headers on the way: RFC 9110 §7.6, and who the client was.

use std::{cell::RefCell, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING,
        UPGRADE, VIA,
    },
    uri::{self, Authority, Uri},
};
use ipnet::IpNet;

use crate::{error::Reason, fields::Fields};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that concern one connection only (RFC 9110 §7.6.1), beside those that `Connection`
/// names. `Proxy-Connection` is no standard but sent by old clients.
pub(crate) const HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    CONNECTION,
];

/// [`HOP_BY_HOP`], as a set.
pub(crate) const HAS_HOP_BY_HOP: Fields =
    Fields::CONNECTION.with(Fields::TRANSFER_ENCODING).with(Fields::OTHER_HOP);

/// What a client that is not trusted may not say of itself, beside `X-Forwarded-For`.
pub(crate) const SPOOFABLE: [HeaderName; 4] =
    [FORWARDED, X_REAL_IP, X_FORWARDED_PROTO, X_FORWARDED_HOST];

/// [`SPOOFABLE`], as a set.
pub(crate) const HAS_SPOOFABLE: Fields =
    Fields::IDENTITY.with(Fields::X_FORWARDED_PROTO).with(Fields::X_FORWARDED_HOST);

/// Longer names than DNS knows (255) are not worth a client's memory.
const REMEMBERED_HOST_MAX: usize = 255;

/// What is the same for all requests of a client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    address: HeaderValue,
    is_trusted: bool,
    /// The last `Host` that was found valid: most clients ask for the same one each time, and
    /// comparing costs a tenth of parsing.
    valid_host: RefCell<Option<HeaderValue>>,
}

impl Client {
    pub(crate) fn new(peer: IpAddr, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let address = HeaderValue::try_from(peer.to_string())
            .expect("an address is written in visible ASCII");
        let is_trusted = trusted.iter().any(|network| network.contains(&peer));
        Self { address, is_trusted, valid_host: RefCell::default() }
    }

    /// Whether a `Host` names a host.
    fn is_valid_host(&self, host: &HeaderValue) -> bool {
        let mut valid = self.valid_host.borrow_mut();
        if valid.as_ref() == Some(host) {
            return true;
        }
        let is_valid = is_host(host);
        if is_valid && host.len() <= REMEMBERED_HOST_MAX {
            // A copy: the client's own bytes are part of the whole head's, which it would keep.
            *valid = HeaderValue::from_bytes(host.as_bytes()).ok();
        }
        is_valid
    }

    /// Who sent the request: the last address on the way that is not a trusted proxy's. What
    /// stands before it in `X-Forwarded-For` anybody could have written.
    pub(crate) fn origin<'a>(&'a self, headers: &'a HeaderMap, trusted: &[IpNet]) -> &'a [u8] {
        if !self.is_trusted {
            return self.address.as_bytes();
        }
        let is_trusted = |address: &&[u8]| {
            let text = std::str::from_utf8(address).unwrap_or_default();
            let address = text.parse::<IpAddr>().map(|address| address.to_canonical());
            address.is_ok_and(|address| trusted.iter().any(|network| network.contains(&address)))
        };
        let told: Vec<&[u8]> = tokens(headers, &X_FORWARDED_FOR).collect();
        told.into_iter()
            .rev()
            .find(|address| !is_trusted(address))
            .unwrap_or(self.address.as_bytes())
    }
}

/// An upgrade that the client asked for: the value of `Upgrade`.
pub(crate) type WantedUpgrade = Option<HeaderValue>;

/// Checks the parts of a request whose bytes are valid, and rewrites its headers for a backend.
///
/// # Errors
/// [`Reason::BadRequest`] if the message is ambiguous.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    method: &Method,
    uri: &Uri,
    version: Version,
    client: &Client,
    request_id: HeaderValue,
) -> Result<WantedUpgrade, Reason> {
    let fields = Fields::among(headers);
    check_target(method, uri)?;
    check_host(headers, uri, version, client)?;
    check_framing(headers, fields).map_err(|()| Reason::BadRequest)?;
    if version == Version::HTTP_2 {
        check_length(headers).map_err(|()| Reason::BadRequest)?;
        join_cookies(headers);
    }
    let upgrade = wanted_upgrade(headers, version, fields);
    let wants_trailers =
        fields.has(Fields::TE) && headers.remove(TE).is_some_and(|te| te.as_bytes() == b"trailers");
    strip_hop_by_hop(headers, fields);
    if fields.has(Fields::EXPECT) {
        // Its body is asked for as soon as a backend takes it.
        headers.remove(EXPECT);
    }
    if wants_trailers {
        // The only TE member that a proxy may pass on without understanding it (§10.1.4).
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let connection = match (upgrade.is_some(), wants_trailers) {
        (true, true) => Some("upgrade, te"),
        (true, false) => Some("upgrade"),
        (false, true) => Some("te"),
        (false, false) => None,
    };
    if let Some(connection) = connection {
        headers.insert(CONNECTION, HeaderValue::from_static(connection));
    }
    if let Some(protocol) = &upgrade {
        headers.insert(UPGRADE, protocol.clone());
    } else if fields.has(Fields::UPGRADE) {
        headers.remove(UPGRADE);
    }
    forward_identity(headers, version, client, fields);
    if !(client.is_trusted
        && fields.has(Fields::X_REQUEST_ID)
        && headers.contains_key(X_REQUEST_ID))
    {
        headers.insert(X_REQUEST_ID, request_id);
    }
    Ok(upgrade)
}

/// Writes a request that [`prepare_request`] has made for HTTP/1 as HTTP/2 has it: with the host in
/// the target and without a framing of its own (RFC 9113 §8.2.2, §8.3.1). Harmless if it is already.
///
/// # Errors
/// [`Reason::BadRequest`] if its host cannot be written there.
pub(crate) fn in_http2_form(headers: &mut HeaderMap, uri: &mut Uri) -> Result<(), Reason> {
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONNECTION);
    let Some(host) = headers.remove(HOST) else { return Ok(()) };
    let mut target = uri::Parts::default();
    target.scheme = Some(uri::Scheme::HTTP);
    target.authority = Authority::try_from(host.as_bytes()).ok();
    target.path_and_query = uri.path_and_query().cloned();
    *uri = Uri::from_parts(target).map_err(|_| Reason::BadRequest)?;
    Ok(())
}

/// The forms of a target that a server may be sent (RFC 9112 §3.2): a path, an absolute URI without
/// user information (RFC 9110 §4.2.4), or `*` with OPTIONS. What is asked for is HTTP in any case.
fn check_target(method: &Method, uri: &Uri) -> Result<(), Reason> {
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let is_authority_form = uri.authority().is_some() && uri.scheme().is_none();
    let is_asterisk = uri.path() == "*" && method == Method::OPTIONS;
    let is_foreign = uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https"));
    // HTTP/2 has paths that no request line could have.
    let is_path = uri.path().starts_with('/');
    if is_foreign || has_user || is_authority_form || !(is_path || is_asterisk) {
        return Err(Reason::BadRequest);
    }
    Ok(())
}

/// The only coding that is read here is a plain `chunked` (RFC 9112 §6.1). With another one beside it
/// we would pass on a body as something that it is not.
fn check_framing(headers: &HeaderMap, fields: Fields) -> Result<(), ()> {
    if !fields.has(Fields::TRANSFER_ENCODING) {
        return Ok(());
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(()),
    }
}

/// One length at most, in digits: the HTTP/2 library compares it with what comes, but a backend of
/// HTTP/1 goes by what is written.
fn check_length(headers: &HeaderMap) -> Result<(), ()> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if length.as_bytes().iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(()),
    }
}

/// HTTP/2 may carry each cookie in a field of its own; nobody else knows that (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Exactly one `Host` that names a host (RFC 9112 §3.2), none only in HTTP/1.0. An absolute
/// target's authority replaces it (§3.2.2); so does that of HTTP/2, where a `Host` beside it must
/// name the same (RFC 9113 §8.3.1).
fn check_host(
    headers: &mut HeaderMap,
    uri: &Uri,
    version: Version,
    client: &Client,
) -> Result<(), Reason> {
    let authority = uri.authority().map(Authority::as_str);
    let is_http2 = version == Version::HTTP_2;
    let mut hosts = headers.get_all(HOST).iter();
    let is_valid = match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            let is_same =
                |authority: &str| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
            client.is_valid_host(host) && (!is_http2 || authority.is_none_or(is_same))
        }
        (None, _) => version < Version::HTTP_11 || (is_http2 && authority.is_some()),
        (Some(_), Some(_)) => false,
    };
    if !is_valid {
        return Err(Reason::BadRequest);
    }
    if let Some(authority) = authority {
        let host = HeaderValue::from_str(authority).map_err(|_| Reason::BadRequest)?;
        if !client.is_valid_host(&host) {
            return Err(Reason::BadRequest);
        }
        headers.insert(HOST, host);
    }
    Ok(())
}

fn is_host(host: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let bytes = host.as_bytes();
    // `Authority` takes anything for a port. It is digits (RFC 3986 §3.2.3), or none.
    let is_port = match &bytes[authority.host().len().min(bytes.len())..] {
        [] | [b':'] => true,
        port => port[1..].iter().all(u8::is_ascii_digit) && authority.port_u16().is_some(),
    };
    !authority.host().is_empty() && !bytes.contains(&b'@') && is_port
}

/// Only HTTP/1.1 can change to another protocol (RFC 9110 §7.8).
fn wanted_upgrade(headers: &HeaderMap, version: Version, fields: Fields) -> WantedUpgrade {
    if !fields.has(Fields::UPGRADE) || version != Version::HTTP_11 {
        return None;
    }
    let asks = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    // h2c by upgrade is withdrawn (RFC 9113 §3.1), and would smuggle requests past us.
    let is_h2c = tokens(headers, &UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c"));
    headers.get(UPGRADE).filter(|_| asks && !is_h2c).cloned()
}

/// The members of a list field. Bytes, because one odd member must not hide the others.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(members)
}

/// The members of a list field's line.
pub(crate) fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Removes what concerns one connection only.
fn strip_hop_by_hop(headers: &mut HeaderMap, fields: Fields) {
    if !fields.has(HAS_HOP_BY_HOP) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            // Naming these would let a client take from the request what frames or routes it.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
    }
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// Says who the client is. What it says of itself is believed only of a trusted proxy: anybody
/// could send these headers.
fn forward_identity(headers: &mut HeaderMap, version: Version, client: &Client, fields: Fields) {
    if client.is_trusted && fields.has(Fields::X_FORWARDED_FOR) {
        let forwarded = joined(headers, &client.address);
        headers.insert(X_FORWARDED_FOR, forwarded);
    } else {
        headers.insert(X_FORWARDED_FOR, client.address.clone());
    }
    if !client.is_trusted && fields.has(HAS_SPOOFABLE) {
        SPOOFABLE.iter().for_each(|name| drop(headers.remove(name)));
    }
    if !(fields.has(Fields::X_FORWARDED_PROTO) && headers.contains_key(X_FORWARDED_PROTO)) {
        // What the connection is, not what an absolute target claims.
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !(fields.has(Fields::X_FORWARDED_HOST) && headers.contains_key(X_FORWARDED_HOST))
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    let via = HeaderValue::from_static(match version {
        Version::HTTP_2 => "2.0 evenkeel",
        Version::HTTP_10 => "1.0 evenkeel",
        _ => "1.1 evenkeel",
    });
    headers.append(VIA, via);
}

/// What `X-Forwarded-For` says on all its lines, and `address` last.
fn joined(headers: &HeaderMap, address: &HeaderValue) -> HeaderValue {
    let mut list = Vec::new();
    for before in headers.get_all(X_FORWARDED_FOR) {
        list.extend_from_slice(before.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(address.as_bytes());
    HeaderValue::from_bytes(&list).unwrap_or_else(|_| address.clone())
}

/// Rewrites a response's headers for the client.
///
/// # Errors
/// [`Reason::ProtocolError`] if its body is framed in a way that we do not read.
pub(crate) fn prepare_response(
    headers: &mut HeaderMap,
    request_id: Option<&HeaderValue>,
) -> Result<(), Reason> {
    let fields = Fields::among(headers);
    check_framing(headers, fields).map_err(|()| Reason::ProtocolError)?;
    if fields.has(Fields::TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        // Somebody may go by the one and somebody by the other (RFC 9112 §6.3).
        return Err(Reason::ProtocolError);
    }
    strip_hop_by_hop(headers, fields);
    if fields.has(Fields::UPGRADE) {
        headers.remove(UPGRADE);
    }
    if let Some(id) = request_id
        && !(fields.has(Fields::X_REQUEST_ID) && headers.contains_key(X_REQUEST_ID))
    {
        headers.insert(X_REQUEST_ID, id.clone());
    }
    Ok(())
}

/// Rewrites the headers of an interim response, which has no body (RFC 9110 §8.6).
pub(crate) fn prepare_interim(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers, Fields::among(headers));
    headers.remove(CONTENT_LENGTH);
    headers.remove(UPGRADE);
}

/// Rewrites the headers of a 101, which keep what names the protocol.
pub(crate) fn prepare_switching(headers: &mut HeaderMap) {
    let protocol = headers.get(UPGRADE).cloned();
    strip_hop_by_hop(headers, Fields::among(headers));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(UPGRADE, protocol);
    }
}

/// Whether the protocol that a message names for its connection is that of WebSockets.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The type of a stream of events.
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Whether a response is a stream of events, which ends when somebody ends it (HTML, "Server-sent
/// events").
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().get(..EVENT_STREAM.len()));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(EVENT_STREAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'static str, &'a str)];

    fn map(pairs: Pairs<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn prepare(pairs: Pairs<'_>, uri: &str, trusted: &str) -> Result<HeaderMap, Reason> {
        let mut headers = map(pairs);
        let trusted = chassis::units::networks(trusted).unwrap();
        let client = Client::new(IpAddr::from([10, 1, 2, 3]), &trusted);
        let id = HeaderValue::from_static("ours");
        let uri: Uri = uri.parse().unwrap();
        prepare_request(&mut headers, &Method::GET, &uri, Version::HTTP_11, &client, id)?;
        Ok(headers)
    }

    fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    /// RFC 9110 §7.6.1.
    #[test]
    fn fields_of_one_connection_are_not_forwarded() {
        let headers = prepare(
            &[
                ("host", "a"),
                ("connection", "close, X-Mine"),
                ("x-mine", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("transfer-encoding", "chunked"),
                ("te", "gzip"),
                ("upgrade", "websocket"),
                ("accept", "*/*"),
            ],
            "/",
            "",
        )
        .unwrap();
        for gone in ["connection", "x-mine", "keep-alive", "proxy-connection", "te", "upgrade"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["accept"], "*/*");
    }

    #[test]
    fn connection_cannot_name_away_what_routes_or_frames_a_message() {
        let pairs =
            [("host", "a"), ("connection", "host, content-length"), ("content-length", "3")];
        let headers = prepare(&pairs, "/", "").unwrap();
        assert_eq!(
            (all(&headers, "host"), all(&headers, "content-length")),
            (vec!["a".into()], vec!["3".into()])
        );
    }

    #[test]
    fn an_upgrade_that_was_asked_for_is_forwarded() {
        let pairs =
            [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let headers = prepare(&pairs, "/", "").unwrap();
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
        );
    }

    #[test]
    fn a_strangers_forwarded_headers_are_replaced() {
        let pairs = [
            ("host", "shop.example"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("x-request-id", "theirs"),
        ];
        let headers = prepare(&pairs, "/", "").unwrap();
        assert_eq!(all(&headers, "x-forwarded-for"), ["10.1.2.3"]);
        assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&headers, "x-forwarded-host"), ["shop.example"]);
        assert_eq!(all(&headers, "x-request-id"), ["ours"]);
        assert!(!headers.contains_key("forwarded") && !headers.contains_key("x-real-ip"));
    }

    #[test]
    fn a_trusted_proxys_forwarded_headers_are_kept_and_extended() {
        let pairs = [
            ("host", "shop.example"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "theirs"),
            ("via", "1.1 front"),
        ];
        let headers = prepare(&pairs, "/", "10.0.0.0/8").unwrap();
        assert_eq!(all(&headers, "x-forwarded-for"), ["1.1.1.1, 10.1.2.3"]);
        assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
        assert_eq!(all(&headers, "x-request-id"), ["theirs"]);
        assert_eq!(all(&headers, "via"), ["1.1 front", "1.1 evenkeel"]);
    }

    /// RFC 9112 §3.2.
    #[test]
    fn a_request_without_exactly_one_host_is_refused() {
        assert_eq!(prepare(&[], "/", "").unwrap_err(), Reason::BadRequest);
        let two = [("host", "a"), ("host", "b")];
        assert_eq!(prepare(&two, "/", "").unwrap_err(), Reason::BadRequest);
    }

    fn prepare_http2(pairs: Pairs<'_>, uri: &str) -> Result<HeaderMap, Reason> {
        let mut headers = map(pairs);
        let client = Client::new(IpAddr::from([10, 1, 2, 3]), &[]);
        let (uri, id): (Uri, _) = (uri.parse().unwrap(), HeaderValue::from_static("ours"));
        prepare_request(&mut headers, &Method::GET, &uri, Version::HTTP_2, &client, id)?;
        Ok(headers)
    }

    /// RFC 9113 §8.3.1.
    #[test]
    fn the_authority_of_http_2_is_the_host_and_a_host_beside_it_must_be_the_same() {
        let headers = prepare_http2(&[], "http://a:81/").unwrap();
        assert_eq!(all(&headers, "host"), ["a:81"]);
        assert_eq!(all(&prepare_http2(&[("host", "A")], "http://a/").unwrap(), "host"), ["a"]);
        assert_eq!(all(&prepare_http2(&[("host", "a")], "/").unwrap(), "host"), ["a"]);
        let cases: [(Pairs<'_>, &str); 5] = [
            (&[("host", "b")], "http://a/"),
            (&[("host", "a"), ("host", "a")], "http://a/"),
            (&[("host", "u@a")], "/"),
            (&[], "/"),
            (&[], "http://:80/"),
        ];
        for (pairs, uri) in cases {
            assert_eq!(prepare_http2(pairs, uri).unwrap_err(), Reason::BadRequest, "{pairs:?}");
        }
    }

    /// RFC 9113 §8.2.3.
    #[test]
    fn the_crumbs_of_cookies_are_joined() {
        let crumbs = [("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2; c=3")];
        let headers = prepare_http2(&crumbs, "http://a/").unwrap();
        assert_eq!(all(&headers, "cookie"), ["a=1; b=2; c=3"]);
        assert_eq!(all(&headers, "via"), ["2.0 evenkeel"]);
    }

    #[test]
    fn every_line_of_a_trusted_proxys_list_is_kept_in_order() {
        let pairs = [("host", "a"), ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "9.9.9.9")];
        let headers = prepare(&pairs, "/", "10.0.0.0/8").unwrap();
        assert_eq!(all(&headers, "x-forwarded-for"), ["6.6.6.6, 9.9.9.9, 10.1.2.3"]);
    }

    #[test]
    fn an_absolute_target_cannot_claim_to_have_come_encrypted() {
        let headers = prepare(&[("host", "a")], "https://a/", "").unwrap();
        assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
    }

    /// RFC 9112 §6.1, §3.2.
    #[test]
    fn codings_hosts_and_targets_that_could_be_read_in_two_ways_are_refused() {
        let cases: [(Pairs<'_>, &str); 17] = [
            (&[("host", "a"), ("transfer-encoding", "gzip, chunked")], "/"),
            (&[("host", "a"), ("transfer-encoding", "chunked, chunked")], "/"),
            (
                &[
                    ("host", "a"),
                    ("transfer-encoding", "identity"),
                    ("transfer-encoding", "chunked"),
                ],
                "/",
            ),
            (&[("host", "")], "/"),
            (&[("host", "a b")], "/"),
            (&[("host", "a/..")], "/"),
            (&[("host", "u:p@a")], "/"),
            (&[("host", "a")], "http://u@a/"),
            (&[("host", "a:b")], "/"),
            (&[("host", "a:+80")], "/"),
            (&[("host", "a:65536")], "/"),
            (&[("host", "[::1]:b")], "/"),
            (&[("host", "a")], "ftp://a/"),
            (&[("host", "a")], "http://a:99999/"),
            (&[("host", "a")], "http://:80/"),
            (&[("host", "a")], "a:80"),
            (&[("host", "a")], "*"),
        ];
        for (pairs, uri) in cases {
            assert_eq!(prepare(pairs, uri, "").unwrap_err(), Reason::BadRequest, "{pairs:?} {uri}");
        }
        assert!(
            prepare(&[("host", "[::1]:80"), ("transfer-encoding", "Chunked")], "/", "").is_ok()
        );
    }

    #[test]
    fn an_upgrade_to_h2c_is_not_forwarded_however_it_is_written() {
        for protocol in ["h2c", "H2C", "websocket, h2c"] {
            let pairs = [
                ("host", "a"),
                ("connection", "upgrade"),
                ("upgrade", protocol),
                ("http2-settings", "AAAA"),
            ];
            let headers = prepare(&pairs, "/", "").unwrap();
            assert!(!headers.contains_key("upgrade") && !headers.contains_key("http2-settings"));
        }
    }

    #[test]
    fn an_odd_byte_in_connection_does_not_hide_the_fields_it_names() {
        let mut headers = map(&[("host", "a"), ("x-mine", "1")]);
        headers.insert("connection", HeaderValue::from_bytes(b"\xff, x-mine").unwrap());
        let fields = Fields::among(&headers);
        strip_hop_by_hop(&mut headers, fields);
        assert!(!headers.contains_key("x-mine"));
    }

    /// RFC 9112 §6.3.
    #[test]
    fn a_response_with_two_framings_or_one_that_we_do_not_read_is_not_passed_on() {
        let mut headers = map(&[("content-length", "100"), ("transfer-encoding", "chunked")]);
        assert_eq!(prepare_response(&mut headers, None), Err(Reason::ProtocolError));
        let mut headers = map(&[("transfer-encoding", "gzip, chunked")]);
        assert_eq!(prepare_response(&mut headers, None), Err(Reason::ProtocolError));
    }

    /// RFC 9112 §3.2.2.
    #[test]
    fn the_authority_of_an_absolute_target_replaces_host() {
        let headers = prepare(&[("host", "a")], "http://b:81/x", "").unwrap();
        assert_eq!(all(&headers, "host"), ["b:81"]);
    }

    #[test]
    fn a_response_loses_what_concerns_one_connection_and_gains_the_request_id() {
        let mut headers =
            map(&[("connection", "close"), ("keep-alive", "timeout=5"), ("etag", "x")]);
        prepare_response(&mut headers, Some(&HeaderValue::from_static("id"))).unwrap();
        assert_eq!(headers.len(), 2);
        assert_eq!(
            (&headers["etag"], &headers["x-request-id"]),
            (&HeaderValue::from_static("x"), &HeaderValue::from_static("id"))
        );
    }
}
