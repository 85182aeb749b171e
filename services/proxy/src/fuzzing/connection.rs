//! Requests of HTTP/1, as a client's connection brings them.

use bytes::BytesMut;
use http::{HeaderMap, Method, Uri, Version};

use super::{
    LIMITS, forwarded,
    messages::{self, By, in_order},
    passed_on::check_trailers,
};
use crate::{
    client::{Search, read_head},
    http1::Framing,
};

/// Bytes as a client's connection brings them, after one byte that says in which pieces, and whether the
/// client is trusted.
///
/// # Panics
/// What is read depends on the pieces, is not what somebody else reads, or is not what a backend gets.
pub fn connection(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let is_trusted = size & 1 == 1;
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
    let mut rest = bytes;
    for request in &whole[..count] {
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        let length = check(request, rest, is_trusted);
        rest = &rest[length..];
    }
}

/// Checks a request against what somebody else reads of these bytes, and gives its length.
fn check(request: &Request, bytes: &[u8], is_trusted: bool) -> usize {
    let head = messages::request_head(bytes, By::Client);
    let Ok(Some(head)) = head else { panic!("{request:?} is {head:?} to others") };
    let [method, target, version] = head.words();
    assert_eq!(method, request.method.as_str().as_bytes());
    assert_eq!(version == b"HTTP/1.1", request.version == Version::HTTP_11);
    assert_eq!(head.fields.len(), request.headers.len());
    let path = request.uri.path_and_query().map_or("", |path| path.as_str());
    let is_absolute = request.uri.scheme().is_some();
    assert!(is_absolute || request.uri.authority().is_some() || target == path.as_bytes());
    let length = match (messages::request(bytes, By::Client), &request.end) {
        (Ok(Some(message)), End::Whole) => {
            assert_eq!(message.body, request.body);
            check_trailers(&message, &in_order(&request.trailers), true);
            assert!(message.trails_within(LIMITS.of_request()), "more than may be");
            message.length
        }
        // The other reader has no bounds.
        (Ok(Some(message)), End::InvalidBody) if !message.trails_within(LIMITS.of_request()) => {
            bytes.len()
        }
        // Either may see sooner that there is something wrong.
        (Ok(None) | Err(_), End::Partial | End::InvalidBody) => bytes.len(),
        other => panic!("{request:?} is {other:?} to others"),
    };
    let Request { method, uri, version, headers, .. } = request.clone();
    let came = forwarded::Came { method, uri, version, headers, is_chunked: request.is_chunked };
    forwarded::check(&head.fields, came, is_trusted);
    length
}

/// A request, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    is_chunked: bool,
    body: Vec<u8>,
    trailers: HeaderMap,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// More has to come.
    Partial,
    InvalidBody,
    /// There is no head, but something that is refused.
    Refused,
}

impl Request {
    fn new(method: Method, uri: Uri, end: End) -> Self {
        let (version, headers, body) = (Version::HTTP_11, HeaderMap::new(), Vec::new());
        let (is_chunked, trailers) = (false, HeaderMap::new());
        Self { method, uri, version, headers, is_chunked, body, trailers, end }
    }
}

/// What is read of a client's bytes.
fn read_requests(bytes: &[u8], size: usize) -> Vec<Request> {
    let (mut read, mut search) = (BytesMut::new(), Search::default());
    let mut requests = Vec::<Request>::new();
    let mut framing = Framing::Length(0);
    for piece in bytes.chunks(size) {
        read.extend_from_slice(piece);
        loop {
            if let Some(request) = requests.last_mut().filter(|request| request.end != End::Whole) {
                match framing.next(&mut read) {
                    Ok(Some(frame)) => match frame.into_data() {
                        Ok(data) => request.body.extend_from_slice(&data),
                        Err(frame) => request.trailers = frame.into_trailers().unwrap(),
                    },
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
                    requests.push(Request {
                        version: head.said.version,
                        headers: head.headers,
                        is_chunked: matches!(framing, Framing::Chunked(_)),
                        ..Request::new(head.method, head.uri, End::Partial)
                    });
                }
                Ok(None) => break,
                Err(_) => {
                    let uri = Uri::from_static("/");
                    requests.push(Request::new(Method::GET, uri, End::Refused));
                    return requests;
                }
            }
        }
    }
    requests
}
