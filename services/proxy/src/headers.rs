//! What a proxy does to headers on the way: RFC 9110 §7.6.

mod client;
pub(crate) mod spare;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, Entry, HOST,
        PROXY_AUTHORIZATION, SEC_WEBSOCKET_ACCEPT, TE, TRANSFER_ENCODING, UPGRADE,
    },
    uri::{self, Authority, PathAndQuery, Uri},
};

#[cfg(test)]
pub(crate) use self::client::HAS_CLAIMS;
use self::client::forward_identity;
pub(crate) use self::client::{Client, X_FORWARDED_PROTO};
use crate::{
    error::Reason,
    fields::Fields,
    http1::{Invalid, may_trail},
    max_forwards::MAX_FORWARDS,
    numbers,
};

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

/// An upgrade that the client asked for: the value of `Upgrade`.
pub(crate) type WantedUpgrade = Option<HeaderValue>;

/// Checks the parts of a request whose bytes are valid. Before that it gets no answer but a refusal: who
/// reads it in another way would take what follows it for something else. Which fields it has.
///
/// # Errors
/// [`Reason::BadRequest`] if the message is ambiguous, [`Reason::NotSupported`] for CONNECT,
/// [`Reason::ExpectationFailed`] if it expects what we do not know, [`Reason::HeadTooLarge`] if it has as
/// many fields as there can be.
pub(crate) fn check_request(
    headers: &mut HeaderMap,
    method: &Method,
    uri: &Uri,
    version: Version,
    client: &Client,
) -> Result<Fields, Reason> {
    let fields = Fields::among(headers);
    check_host(headers, uri, version, client)?;
    check_framing(headers, fields).map_err(|()| Reason::BadRequest)?;
    if version == Version::HTTP_2 {
        check_length(headers).map_err(|()| Reason::BadRequest)?;
        check_fields(headers).map_err(|()| Reason::BadRequest)?;
    }
    if *method == Method::CONNECT {
        return Err(Reason::NotSupported);
    }
    check_target(method, uri, version)?;
    let is_known = |wish: &[u8]| wish.is_empty() || is_continue(wish);
    if fields.has(Fields::EXPECT) && !tokens(headers, &EXPECT).all(is_known) {
        // Taken away like the other it would be lost without a word (§10.1.1).
        return Err(Reason::ExpectationFailed);
    }
    Ok(fields)
}

/// Rewrites the headers of a request that [`check_request`] has found to have these `fields`, for a
/// backend.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    fields: Fields,
    version: Version,
    client: &Client,
    request_id: HeaderValue,
) -> WantedUpgrade {
    if version == Version::HTTP_2 {
        join_cookies(headers);
    }
    let upgrade = wanted_upgrade(headers, version, fields);
    let is_trailers = |member: &[u8]| member.eq_ignore_ascii_case(b"trailers");
    let wants_trailers = fields.has(Fields::TE) && tokens(headers, &TE).any(is_trailers);
    strip_hop_by_hop(headers, fields);
    if fields.has(Fields::EXPECT) && version != Version::HTTP_11 {
        // HTTP/1.0 knows none (RFC 9110 §10.1.1), and a client of HTTP/2 is asked for its body here.
        headers.remove(EXPECT);
    }
    if wants_trailers {
        // The only TE member that a proxy may pass on without understanding it (§10.1.4).
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else if fields.has(Fields::TE) {
        headers.remove(TE);
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
    upgrade
}

/// Checks the fields after a request's body of HTTP/2, and takes out those that may not stand there: a
/// backend of HTTP/2 gets the rest as it is.
///
/// # Errors
/// [`Reason::BadRequest`] if one of them is malformed.
pub(crate) fn prepare_trailers(trailers: &mut HeaderMap) -> Result<(), Reason> {
    check_fields(trailers).map_err(|()| Reason::BadRequest)?;
    strip_trailers(trailers);
    Ok(())
}

/// Rewrites the fields after a backend's response of HTTP/2, as [`prepare_http2_response`] does those
/// before it.
///
/// # Errors
/// [`Reason::ProtocolError`] if one of them is malformed.
pub(crate) fn prepare_response_trailers(trailers: &mut HeaderMap) -> Result<(), Reason> {
    check_names(trailers).map_err(|()| Reason::ProtocolError)?;
    trim_values(trailers);
    strip_trailers(trailers);
    Ok(())
}

/// Takes out what may not stand after a body.
fn strip_trailers(trailers: &mut HeaderMap) {
    let has_no_place = |name: &&HeaderName| !may_trail(name);
    let names: Vec<HeaderName> = trailers.keys().filter(has_no_place).cloned().collect();
    names.iter().for_each(|name| drop(trailers.remove(name)));
}

/// Writes a request that [`prepare_request`] has made for HTTP/1 as HTTP/2 has it: with the host in
/// the target and without a framing of its own (RFC 9113 §8.2.2, §8.3.1). Harmless if it is already.
///
/// # Errors
/// [`Reason::BadRequest`] if its host cannot be written there.
pub(crate) fn in_http2_form(headers: &mut HeaderMap, uri: &mut Uri) -> Result<(), Reason> {
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONNECTION);
    // Its room for a body is what a backend of HTTP/2 asks with: the client is asked for it here.
    headers.remove(EXPECT);
    for secret in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
        keep_out_of_table(headers, secret);
    }
    let Some(host) = headers.remove(HOST) else { return Ok(()) };
    let mut target = uri::Parts::default();
    target.scheme = Some(uri::Scheme::HTTP);
    target.authority = Authority::try_from(host.as_bytes()).ok();
    target.path_and_query = uri.path_and_query().cloned();
    *uri = Uri::from_parts(target).map_err(|_| Reason::BadRequest)?;
    Ok(())
}

/// Has a field of HTTP/2 go out as one that is never indexed: whoever passes it on may not keep it in the
/// table of a connection, which others may share (RFC 7541 §6.2.3, §7.1). The library keeps most of these
/// out of its own tables, but does not say so, nor does it tell which fields came so.
pub(crate) fn keep_out_of_table(headers: &mut HeaderMap, name: HeaderName) {
    // Who looks for an entry makes room for it.
    if headers.contains_key(&name)
        && let Entry::Occupied(mut values) = headers.entry(name)
    {
        values.iter_mut().for_each(|value| value.set_sensitive(true));
    }
}

/// The forms of a target that a server may be sent (RFC 9112 §3.2): a path, an absolute URI without
/// user information (RFC 9110 §4.2.4), or `*` with OPTIONS. What is asked for is HTTP in any case.
fn check_target(method: &Method, uri: &Uri, version: Version) -> Result<(), Reason> {
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let is_authority_form = uri.authority().is_some() && uri.scheme().is_none();
    let is_asterisk = uri.path() == "*" && method == Method::OPTIONS;
    let is_foreign = uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https"));
    // HTTP/2 has paths that no request line could have: none at all, empty ones before a query, which
    // in HTTP/1 only an absolute target may have, and bytes beyond ASCII. A fragment its library has cut
    // before anybody else sees it.
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let is_http2 = version == Version::HTTP_2;
    let is_missing = is_http2 && uri.path().is_empty();
    let begins = if is_http2 { target } else { uri.path() };
    let is_path = !is_missing && begins.starts_with('/') && target.is_ascii();
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
/// HTTP/1 goes by what is written. The library takes an empty one for 0.
fn check_length(headers: &HeaderMap) -> Result<(), ()> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if numbers::length(length.as_bytes()).is_some() => Ok(()),
        _ => Err(()),
    }
}

/// No name is one that HTTP/1 could not have, and no value begins or ends with a space or a tab, which
/// HTTP/1 would take away and HTTP/2 takes for malformed (RFC 9113 §8.2.1). The library passes it on, and
/// a backend of HTTP/2 would be blamed for refusing it.
fn check_fields(headers: &HeaderMap) -> Result<(), ()> {
    check_names(headers)?;
    if headers.values().any(has_blank_end) { Err(()) } else { Ok(()) }
}

/// No name has a quote. All else that no name may have, the library refuses (RFC 9110 §5.1, §5.6.2).
fn check_names(headers: &HeaderMap) -> Result<(), ()> {
    if headers.keys().any(|name| name.as_str().contains('"')) { Err(()) } else { Ok(()) }
}

/// Takes away the blanks around values. A backend of gRPC may well end a message with one, and is
/// understood by many clients; those that are strict would take it for our mistake.
fn trim_values(headers: &mut HeaderMap) {
    for value in headers.values_mut().filter(|value| has_blank_end(value)) {
        if let Ok(trimmed) = HeaderValue::from_bytes(value.as_bytes().trim_ascii()) {
            *value = trimmed;
        }
    }
}

fn has_blank_end(value: &HeaderValue) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last())
}

/// HTTP/2 may carry each cookie in a field of its own; nobody else knows that (RFC 9113 §8.2.3). An
/// empty one leaves no blank at an end, where no value of HTTP/2 may have one (§8.2.1).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(crumbs.join(&b"; "[..]).trim_ascii())
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
        // The library reads as many fields as there can be, if so many bytes may come.
        headers.try_insert(HOST, host).map_err(|_| Reason::HeadTooLarge)?;
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
    // h2c by upgrade is withdrawn (RFC 9113 §3.1), and would smuggle requests past us.
    let is_h2c = tokens(headers, &UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c"));
    if !names_upgrade(headers) || is_h2c {
        return None;
    }
    protocols(headers)
}

/// The protocols that a message names for its connection, as one list (RFC 9110 §5.3, §5.6.1).
fn protocols(headers: &HeaderMap) -> Option<HeaderValue> {
    let list = protocols_of(headers).collect::<Vec<_>>().join(&b", "[..]);
    HeaderValue::from_bytes(&list).ok().filter(|list| !list.is_empty())
}

fn protocols_of(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    tokens(headers, &UPGRADE).filter(|protocol| !protocol.is_empty())
}

/// Whether a message's `Connection` says that it is about another protocol.
pub(crate) fn names_upgrade(headers: &HeaderMap) -> bool {
    tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether an answer names protocols, and none but those that its request asks for (RFC 9110 §7.8): what
/// a client did not ask for it could not read.
pub(crate) fn are_asked_for(answer: &HeaderMap, request: &HeaderMap) -> bool {
    let mut named = protocols_of(answer).peekable();
    let is_asked_for = |protocol: &[u8]| {
        tokens(request, &UPGRADE).any(|asked| asked.eq_ignore_ascii_case(protocol))
    };
    named.peek().is_some() && named.all(is_asked_for)
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
            // Naming these would let a client take from the request what frames or routes it, or says
            // how far it may go.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH && *name != MAX_FORWARDS)
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
    }
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// Rewrites a response's headers for the client.
///
/// # Errors
/// [`Reason::ProtocolError`] if its body is framed in a way that we do not read.
pub(crate) fn prepare_response(
    headers: &mut HeaderMap,
    status: StatusCode,
    request_id: Option<&HeaderValue>,
) -> Result<(), Reason> {
    let fields = Fields::among(headers);
    check_framing(headers, fields).map_err(|()| Reason::ProtocolError)?;
    if fields.has(Fields::TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        // Somebody may go by the one and somebody by the other (RFC 9112 §6.3).
        return Err(Reason::ProtocolError);
    }
    let is_required = status == StatusCode::UPGRADE_REQUIRED;
    let upgrade = if is_required { protocols(headers) } else { None };
    strip_hop_by_hop(headers, fields);
    if fields.has(Fields::UPGRADE) {
        headers.remove(UPGRADE);
    }
    if let Some(list) = upgrade {
        // Without it nobody knows what to ask for (RFC 9110 §15.5.22).
        headers.insert(UPGRADE, list);
    }
    if status == StatusCode::NO_CONTENT {
        // It has no body, and so no length (RFC 9110 §8.6). What comes over HTTP/2 with one, its client
        // takes for cut off.
        headers.remove(CONTENT_LENGTH);
    }
    if let Some(id) = request_id
        && !(fields.has(Fields::X_REQUEST_ID) && headers.contains_key(X_REQUEST_ID))
    {
        headers.insert(X_REQUEST_ID, id.clone());
    }
    Ok(())
}

/// Whether a request's client waits to be asked for its body (RFC 9110 §10.1.1).
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    tokens(headers, &EXPECT).any(is_continue)
}

/// Whether an expectation is the one that we know.
pub(crate) fn is_continue(expectation: &[u8]) -> bool {
    expectation.eq_ignore_ascii_case(b"100-continue")
}

/// Rewrites the head of a backend's response of HTTP/2 to be as strict as one of HTTP/1 is when it has
/// been read: without blanks around values (RFC 9113 §8.2.1), and with one length at most.
///
/// # Errors
/// Its length is none, or a name.
pub(crate) fn prepare_http2_response(headers: &mut HeaderMap) -> Result<(), Invalid> {
    check_names(headers).map_err(|()| Invalid)?;
    trim_values(headers);
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    // The library has seen that they are the same, and takes an empty one for 0.
    numbers::length(length.as_bytes()).ok_or(Invalid)?;
    if lengths.next().is_some() {
        let length = length.clone();
        headers.insert(CONTENT_LENGTH, length);
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
    let upgrade = protocols(headers);
    strip_hop_by_hop(headers, Fields::among(headers));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(list) = upgrade {
        headers.insert(UPGRADE, list);
    }
}

/// The same for a client of HTTP/2, which knows the protocol, and whose connection goes on (RFC 8441 §5).
pub(crate) fn prepare_bootstrapped(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers, Fields::among(headers));
    [UPGRADE, SEC_WEBSOCKET_ACCEPT, CONTENT_LENGTH]
        .iter()
        .for_each(|name| drop(headers.remove(name)));
}

/// Whether a protocol that a message names for its connection is that of WebSockets.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    tokens(headers, &UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
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
mod tests;
