//! Heads as lines of fields: of requests of HTTP/2 and 1.1, of responses of HTTP/2, and of what comes
//! after bodies. Heads of HTTP/1 as bytes are in `connection` and `answer`.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header::TRANSFER_ENCODING,
};

use super::{
    fields,
    forwarded::{self, Came},
    messages::{Fields, in_order},
    passed_on::{going_on, without},
};
use crate::{hash_key::HashKey, headers, numbers};

/// A head, as lines of a target and of fields. A first byte says from whom and for which version.
///
/// # Panics
/// What a backend would get breaks a rule for proxies, or a client, of a response with these fields.
pub fn head(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let mut lines = text.split(|byte| *byte == b'\n');
    let Some(Ok(uri)) = lines.next().map(Uri::try_from) else { return };
    let mut headers = HeaderMap::new();
    let mut said = Fields::new();
    let has_blanks = kind & 17 == 17;
    for line in lines.take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = &line[colon + 1..];
        // Only HTTP/2 can have blanks at the ends.
        let value = HeaderValue::from_bytes(if has_blanks { value } else { value.trim_ascii() });
        if let (Ok(name), Ok(value)) = (name, value) {
            said.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
            headers.append(name, value);
        }
    }
    let version = if kind & 1 == 0 { Version::HTTP_11 } else { Version::HTTP_2 };
    let method = if kind & 2 == 0 { Method::GET } else { Method::OPTIONS };
    let is_trusted = kind & 4 != 0;
    let (client, trusted) = forwarded::client(is_trusted);
    for key in ["client_address", "path", "header:host", "cookie:a", "query:a"] {
        HashKey::parse(key).unwrap().of(&headers, &uri, &client, &trusted);
    }
    fields::check(&headers);
    response(&said, &headers, kind & 8 == 0);
    trailers(&said, &headers);
    // Two framings, or one that is none, do not come so far (`connection`).
    let is_chunked = version == Version::HTTP_11 && headers.contains_key(TRANSFER_ENCODING);
    if version == Version::HTTP_2 || may_come(&headers) {
        forwarded::check(&said, Came { method, uri, version, headers, is_chunked }, is_trusted);
    }
}

/// Whether a head of HTTP/1 with these fields is taken at all.
fn may_come(headers: &HeaderMap) -> bool {
    let lengths: Vec<&HeaderValue> = headers.get_all("content-length").iter().collect();
    let are_valid = lengths.iter().all(|length| numbers::length(length.as_bytes()).is_some());
    are_valid && lengths.len() + headers.get_all(TRANSFER_ENCODING).iter().count() < 2
}

/// The same fields as those of a response of HTTP/2, or of one that says that there is no body.
fn response(said: &Fields, headers: &HeaderMap, has_body: bool) {
    let mut headers = headers.clone();
    let status = if has_body { StatusCode::OK } else { StatusCode::NO_CONTENT };
    if headers::prepare_http2_response(&mut headers).is_err()
        || headers::prepare_response(&mut headers, status, None).is_err()
    {
        return;
    }
    let lengths: Vec<&HeaderValue> = headers.get_all("content-length").iter().collect();
    assert!(lengths.len() < 2 && (has_body || lengths.is_empty()), "{lengths:?}");
    assert!(lengths.iter().all(|length| numbers::length(length.as_bytes()).is_some()));
    assert!(!said.iter().any(|(name, _)| name == "transfer-encoding") || lengths.is_empty());
    let mut expected = without(&going_on(said), &["content-length"]);
    expected.iter_mut().for_each(|(_, value)| *value = value.trim_ascii().to_vec());
    assert_eq!(expected, without(&in_order(&headers), &["content-length"]));
}

/// The same fields as those after a body (RFC 9110 §6.5.1).
fn trailers(said: &Fields, headers: &HeaderMap) {
    const NOWHERE: [&str; 9] = [
        "connection",
        "content-length",
        "forwarded",
        "host",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
    ];
    let check = |trailers: &HeaderMap| {
        for name in NOWHERE {
            assert!(!trailers.contains_key(name), "{name} after a body");
        }
        let trailers = in_order(trailers);
        let kept = |name: &str| trailers.iter().any(|(kept, _)| kept == name);
        let mut expected = without(said, &[]);
        expected.retain(|(name, _)| kept(name));
        expected.iter_mut().for_each(|(_, value)| *value = value.trim_ascii().to_vec());
        assert_eq!(expected, without(&trailers, &[]), "not as they were");
        assert!(said.iter().all(|(name, _)| kept(name) || !name.starts_with("grpc-")));
    };
    let mut of_request = headers.clone();
    if headers::prepare_trailers(&mut of_request).is_ok() {
        check(&of_request);
    }
    let mut of_response = headers.clone();
    if headers::prepare_response_trailers(&mut of_response).is_ok() {
        check(&of_response);
    }
}
