//! What the fuzz targets of `fuzz/` run: every place where bytes or fields from the network are
//! read or rewritten by code of ours, with what must hold afterwards.
//!
//! It is always compiled, so that it cannot fall behind what it tests; nothing calls it but the
//! targets and the tests below, which run the targets' seeds.

#![allow(clippy::unwrap_used)] // A target fails by panicking.

mod fields;
mod frames;
mod messages;
mod websocket;

use std::net::IpAddr;

use bytes::BytesMut;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA},
};

use crate::{
    client::{Search, read_head},
    discovery::kubernetes,
    hash_key::HashKey,
    headers::{self, Client},
    http1,
    settings::Limits,
    source::{Service, ServicePort},
};

pub use self::{frames::frames, websocket::websocket};

/// Small enough for a target to reach them.
const LIMITS: Limits = Limits {
    connections: 1,
    connections_per_client: 0,
    requests: 1,
    header_bytes: 8 * 1024,
    headers: 100,
    response_header_bytes: 8 * 1024,
    response_headers: 100,
    target_bytes: 8 * 1024,
    upload_rate: 0,
    download_rate: 0,
    buffered_bytes: usize::MAX,
};

/// Bytes as a client's connection brings them, after one byte that says in which pieces.
///
/// # Panics
/// What is read depends on the pieces, is more than came, or a head is taken in which a line ends
/// oddly or there is more than one framing.
pub fn connection(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    let whole = read_requests(bytes, bytes.len().max(1));
    // What has not come to its end may be refused before or not.
    let taken = |requests: &[Request]| {
        requests.iter().filter(|request| request.end != End::Refused).count()
    };
    let pieces = read_requests(bytes, size);
    let count = taken(&whole);
    assert_eq!(count, taken(&pieces), "in pieces of {size}");
    assert_eq!(whole[..count], pieces[..count], "in pieces of {size}");
    assert!(whole.iter().map(|request| request.body.len()).sum::<usize>() <= bytes.len());
    let mut start = bytes;
    while let Some(rest) = start.strip_prefix(b"\r\n") {
        start = rest;
    }
    let head = start.windows(4).position(|end| end == b"\r\n\r\n").map(|end| &start[..end + 2]);
    if let (Some(Request { end: End::Whole | End::Partial | End::InvalidBody, .. }), Some(head)) =
        (whole.first(), head)
    {
        let lines = head.split_inclusive(|byte| *byte == b'\n');
        assert!(lines.clone().all(|line| line.ends_with(b"\r\n")), "a bare LF");
        let frames = |line: &&[u8]| {
            let line = line.to_ascii_lowercase();
            line.starts_with(b"content-length:") || line.starts_with(b"transfer-encoding:")
        };
        assert!(lines.skip(1).filter(frames).count() < 2, "more than one framing");
    }
}

/// A request, as far as it has come.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// Its method, target and number of fields.
    line: (Method, Uri, usize),
    body: Vec<u8>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// More has to come.
    Partial,
    InvalidBody,
    /// There is no head, but something that is refused.
    Refused,
}

/// What is read of a client's bytes.
fn read_requests(bytes: &[u8], size: usize) -> Vec<Request> {
    let (mut read, mut search) = (BytesMut::new(), Search::default());
    let mut requests = Vec::<Request>::new();
    let mut framing = http1::Framing::Length(0);
    for piece in bytes.chunks(size) {
        read.extend_from_slice(piece);
        loop {
            if let Some(request) = requests.last_mut().filter(|request| request.end != End::Whole) {
                match framing.next(&mut read) {
                    Ok(Some(frame)) => {
                        request.body.extend_from_slice(&frame.into_data().unwrap_or_default());
                    }
                    Ok(None) if framing.is_done() => request.end = End::Whole,
                    Ok(None) => break,
                    Err(_) => {
                        request.end = End::InvalidBody;
                        return requests;
                    }
                }
                continue;
            }
            match read_head(&mut read, &mut search, &LIMITS) {
                Ok(Some(head)) => {
                    framing = head.framing;
                    let line = (head.method, head.uri, head.headers.len());
                    requests.push(Request { line, body: Vec::new(), end: End::Partial });
                }
                Ok(None) => break,
                Err(_) => {
                    let line = (Method::GET, Uri::from_static("/"), 0);
                    requests.push(Request { line, body: Vec::new(), end: End::Refused });
                    return requests;
                }
            }
        }
    }
    requests
}

/// Bytes as a watch of the Kubernetes API brings them, after one byte that says in which pieces.
///
/// # Panics
/// What is read depends on the pieces.
pub fn watch(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    let port = ServicePort::Name("http".to_owned());
    let service = Service { name: "web".to_owned(), namespace: "shop".to_owned(), port };
    let (whole, backends) = kubernetes::read(bytes, bytes.len().max(1), &service);
    assert_eq!(whole, kubernetes::read(bytes, size, &service).0, "in pieces of {size}");
    assert!(backends < bytes.len().max(1), "{backends} backends of {} bytes", bytes.len());
}

/// A head, as lines of a target and of fields. A first byte says from whom and for which version.
///
/// # Panics
/// What a backend would get breaks a rule for proxies, or reading it panics.
pub fn head(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let mut lines = text.split(|byte| *byte == b'\n');
    let Some(Ok(uri)) = lines.next().map(Uri::try_from) else { return };
    let mut fields = HeaderMap::new();
    for line in lines.take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    let version = if kind & 1 == 0 { Version::HTTP_11 } else { Version::HTTP_2 };
    let method = if kind & 2 == 0 { Method::GET } else { Method::OPTIONS };
    let trusted = if kind & 4 == 0 { "" } else { "10.0.0.0/8" };
    let trusted = chassis::units::networks(trusted).unwrap();
    let client = Client::new(IpAddr::from([10, 0, 0, 1]), &trusted);
    for key in ["client_address", "path", "header:host", "cookie:a", "query:a"] {
        HashKey::parse(key).unwrap().of(&fields, &uri, &client, &trusted);
    }
    fields::check(&fields);
    response(fields.clone());
    trailers(fields.clone());
    let id = HeaderValue::from_static("id");
    let checked = headers::check_request(&mut fields, &method, &uri, version, &client);
    let Ok(present) = checked else { return };
    let upgrade = headers::prepare_request(&mut fields, present, version, &client, id);
    assert!(fields.get_all(HOST).iter().count() <= 1, "two hosts");
    assert!(!fields.contains_key(TRANSFER_ENCODING) && !fields.contains_key("keep-alive"));
    assert!(fields.get_all(VIA).iter().any(|via| via.as_bytes().ends_with(b" evenkeel")));
    let is_named = upgrade.is_some() || fields.contains_key(TE);
    assert_eq!(fields.contains_key(CONNECTION), is_named, "a field of one connection");
    assert_eq!(fields.contains_key(UPGRADE), upgrade.is_some(), "an upgrade nobody asked for");
    assert_eq!(fields.get_all("x-forwarded-for").iter().count(), 1, "more than one list");
    for_http2(fields, uri);
}

/// The same fields as those after a request's body (RFC 9110 §6.5.1).
fn trailers(mut fields: HeaderMap) {
    if headers::prepare_trailers(&mut fields).is_ok() {
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, HOST, CONNECTION, TE, UPGRADE] {
            assert!(!fields.contains_key(&name), "{name} after a body");
        }
    }
}

/// The same request for a backend of HTTP/2 (RFC 9113 §8.2.2, §8.3.1).
fn for_http2(mut fields: HeaderMap, mut uri: Uri) {
    let host = fields.get(HOST).cloned();
    if headers::in_http2_form(&mut fields, &mut uri).is_ok() {
        for name in [CONNECTION, TRANSFER_ENCODING, HOST, EXPECT] {
            assert!(!fields.contains_key(&name), "{name} in HTTP/2");
        }
        let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
        assert!(host.is_none_or(|host| authority == Some(host.as_bytes())), "another host");
    }
}

/// Bytes as a backend's connection brings them, after one byte that says in which pieces and whether
/// a HEAD is answered.
///
/// # Panics
/// What is read depends on the pieces, or is more than came.
pub fn answer(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let (size, is_for_head) = (usize::from(kind >> 1).max(1), kind & 1 == 1);
    let whole = read_answer(bytes, bytes.len().max(1), is_for_head);
    assert_eq!(whole, read_answer(bytes, size, is_for_head), "in pieces of {size}");
    if let Some((_, body, _)) = whole {
        assert!(body.len() < bytes.len());
    }
}

/// What is read of an answer: status, body, and whether all of it has come. `None` if it is not
/// valid, or has not come as far as its body.
fn read_answer(bytes: &[u8], size: usize, is_for_head: bool) -> Option<(u16, Vec<u8>, bool)> {
    let (mut read, mut head, mut body) = (BytesMut::new(), None, Vec::new());
    for piece in bytes.chunks(size) {
        read.extend_from_slice(piece);
        if head.is_none() {
            head = http1::read_head(&mut read, is_for_head, LIMITS.of_response()).ok()?;
        }
        let Some(head) = &mut head else { continue };
        while let Some(frame) = head.framing.next(&mut read).ok()? {
            body.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        if head.framing.is_done() {
            break;
        }
    }
    head.map(|head| (head.status.as_u16(), body, head.framing.is_done()))
}

/// The same fields as those of a response.
fn response(mut fields: HeaderMap) {
    let frames_twice =
        fields.contains_key(TRANSFER_ENCODING) && fields.contains_key(CONTENT_LENGTH);
    let result = headers::prepare_response(&mut fields, StatusCode::OK, None);
    if result.is_ok() {
        assert!(!frames_twice, "two framings");
        assert!(!fields.contains_key(CONNECTION) && !fields.contains_key(TRANSFER_ENCODING));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Runs a target on each of its seeds.
    fn on_seeds(target: fn(&[u8]), name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
        let seeds = fs::read_dir(folder).unwrap().map(|seed| fs::read(seed.unwrap().path()));
        let count = seeds.map(|seed| target(&seed.unwrap())).count();
        assert!(count > 3, "{count} seeds");
    }

    #[test]
    fn the_seeds_of_connections_hold() {
        on_seeds(super::connection, "connection");
    }

    #[test]
    fn the_seeds_of_answers_hold() {
        on_seeds(super::answer, "answer");
    }

    #[test]
    fn the_seeds_of_heads_hold() {
        on_seeds(super::head, "head");
    }

    #[test]
    fn the_seeds_of_watches_hold() {
        on_seeds(super::watch, "watch");
    }

    #[test]
    fn the_seeds_of_websockets_hold() {
        on_seeds(super::websocket, "websocket");
    }

    #[test]
    fn the_seeds_of_frames_hold() {
        on_seeds(super::frames, "frames");
    }
}
