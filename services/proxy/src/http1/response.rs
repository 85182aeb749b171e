//! The head of a backend's response (RFC 9112 §4, §6.3).

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::{Framing, Invalid, Named, Unfit, room};
use crate::{
    headers::{members, spare},
    limits::FieldLimits,
    numbers::length,
};

/// Up to here there is room on the stack for where fields stand, which is written each time. Most heads
/// have fewer.
const PLACES_ON_STACK: usize = 40;

/// Fields that a response may get on its way.
const FIELDS_ADDED: usize = 2;

/// A response without its body.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    /// What the backend says in place of the status's own words.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(crate) headers: HeaderMap,
    /// Where its body ends; after nothing if it has none.
    pub(crate) framing: Framing,
    /// Whether the connection may serve another request after it (RFC 9112 §9.3).
    pub(crate) keeps_connection: bool,
    /// Whether its backend speaks HTTP/1.1.
    pub(crate) is_http11: bool,
}

/// Takes a head out of what was read; `None` if it has not come to its end, for which it waits in memory.
/// `is_for_head` if it answers HEAD, after which no body comes, whatever it says.
///
/// # Errors
/// It is no head of a response, leaves open where its body ends, or is more than may be.
pub(crate) fn read_head(
    read: &mut BytesMut,
    is_for_head: bool,
    limits: FieldLimits,
) -> Result<Option<ResponseHead>, Unfit> {
    let (bytes_max, count_max) = (limits.bytes as usize, limits.count as usize);
    let (mut few, mut many) = (room::few(), Vec::new());
    let parsed = room::parse(read, count_max, (&mut few, &mut many), |fields| {
        let mut response = httparse::Response::new(&mut []);
        let parser = ParserConfig::default();
        let status = parser.parse_response_with_uninit_headers(&mut response, read, fields)?;
        Ok((response, status))
    });
    let (response, length) = match parsed {
        Ok((response, Status::Complete(length))) if length <= bytes_max => (response, length),
        Ok((_, Status::Partial)) if read.len() < bytes_max => return Ok(None),
        Ok(_) => return Err(Unfit::Beyond(limits.too_large())),
        Err(httparse::Error::TooManyHeaders) => return Err(Unfit::Beyond(limits.too_many())),
        Err(_) => return Err(Unfit::Invalid),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Invalid)?;
    let reason = response.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let is_http11 = response.version == Some(1);
    // Where names and values stand in the bytes that they are about to share.
    let mut few = [Place::default(); PLACES_ON_STACK];
    let mut many = Vec::new();
    let count = response.headers.len();
    let places = match few.get_mut(..count) {
        Some(places) => places,
        None => {
            many.resize(count, Place::default());
            &mut many[..]
        }
    };
    for (place, field) in places.iter_mut().zip(response.headers.iter()) {
        *place =
            Place { name: range(read, field.name.as_bytes()), value: range(read, field.value) };
    }
    let bytes = read.split_to(length).freeze();
    let (headers, mut said) = fields_of(&bytes, places, is_http11)?;
    let framing = if !is_for_head && has_body(status) {
        said.framing(is_http11, limits)?.without(std::mem::take(&mut said.named))
    } else {
        Framing::Length(0)
    };
    // It may announce none (RFC 9112 §6.1, RFC 9110 §8.6). Who does may send it as well, and late.
    let may_say_more = status == StatusCode::NO_CONTENT && said.announces_body();
    let keeps_connection = said.keeps_connection && framing != Framing::Close && !may_say_more;
    Ok(Some(ResponseHead { status, reason, headers, framing, keeps_connection, is_http11 }))
}

/// Whether a body may follow a head with this status, unless it answers HEAD (RFC 9110 §6.4.1).
pub(crate) fn has_body(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// Where something stands in a head. Small, because room for some fields is made each time.
type Range = (u32, u32);

/// Where a field stands.
#[derive(Clone, Copy, Default)]
struct Place {
    name: Range,
    value: Range,
}

/// Where a part of `whole` stands in it. A head is not longer than such numbers reach.
fn range(whole: &[u8], part: &[u8]) -> Range {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    (start as u32, (start + part.len()) as u32)
}

fn slice(bytes: &Bytes, (start, end): Range) -> Bytes {
    bytes.slice(start as usize..end as usize)
}

/// What a head says of its body and its connection.
struct Said {
    length: Option<u64>,
    /// How often it is told.
    lengths: usize,
    coding: Option<Coding>,
    keeps_connection: bool,
    closes_connection: bool,
    named: Named,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    /// One that we do not read, or more than one.
    Other,
}

impl Said {
    /// RFC 9112 §6.3. That only one of both is there is checked with the other fields.
    fn framing(&self, is_http11: bool, limits: FieldLimits) -> Result<Framing, Invalid> {
        match (self.coding, self.length) {
            (Some(Coding::Chunked), None) if is_http11 => Ok(Framing::chunked(limits)),
            (Some(_), _) => Err(Invalid),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (None, None) => Ok(Framing::Close),
        }
    }

    fn announces_body(&self) -> bool {
        self.coding.is_some() || self.length.is_some_and(|length| length > 0)
    }

    fn hear(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Invalid> {
        if *name == CONTENT_LENGTH {
            // The same one again, in a list or on another line, is a clumsy sender's (RFC 9112 §6.3).
            for digits in members(value) {
                let length = length(digits).ok_or(Invalid)?;
                if self.length.is_some_and(|before| before != length) {
                    return Err(Invalid);
                }
                self.length = Some(length);
                self.lengths += 1;
            }
        } else if *name == TRANSFER_ENCODING {
            let is_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            let is_only = is_chunked && self.coding.is_none();
            self.coding = Some(if is_only { Coding::Chunked } else { Coding::Other });
        } else if *name == CONNECTION {
            for token in members(value) {
                self.closes_connection |= token.eq_ignore_ascii_case(b"close");
                self.keeps_connection |= token.eq_ignore_ascii_case(b"keep-alive");
                self.named.hear(token);
            }
        }
        Ok(())
    }
}

/// The fields, whose values share the bytes that were read.
fn fields_of(
    bytes: &Bytes,
    places: &[Place],
    is_http11: bool,
) -> Result<(HeaderMap, Said), Invalid> {
    let mut said = Said {
        length: None,
        lengths: 0,
        coding: None,
        keeps_connection: is_http11,
        closes_connection: false,
        named: Named::default(),
    };
    let mut headers = spare::take(places.len() + FIELDS_ADDED);
    let mut is_strict = bytes.starts_with(b"HTTP/") && bytes.ends_with(b"\r\n\r\n");
    for place in places {
        let (start, end) = (place.name.0 as usize, place.name.1 as usize);
        is_strict &= bytes[..start].ends_with(b"\r\n");
        let name = HeaderName::from_bytes(&bytes[start..end]);
        let value = HeaderValue::from_maybe_shared(slice(bytes, place.value));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Invalid) };
        said.hear(&name, &value)?;
        headers.append(name, value);
    }
    // httparse takes a bare LF for a line's end, and skips empty lines before a head. Who else
    // reads this message may not (RFC 9112 §2.2).
    if !is_strict {
        return Err(Invalid);
    }
    if let Some(length) = said.length.filter(|_| said.lengths > 1) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    said.keeps_connection &= !said.closes_connection;
    Ok((headers, said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limit;

    const LIMITS: FieldLimits = FieldLimits::USUAL;

    fn read(text: &str) -> Result<Option<ResponseHead>, Unfit> {
        read_head(&mut BytesMut::from(text), false, LIMITS)
    }

    fn framing(fields: &str) -> Result<Framing, Unfit> {
        read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).map(|head| head.unwrap().framing)
    }

    #[test]
    fn a_head_is_taken_once_it_is_whole_and_what_follows_stays() {
        let text = "HTTP/1.1 404 Nothing Here\r\nA: b\r\na: c\r\nContent-Length: 4\r\n\r\n";
        for end in 0..text.len() {
            let mut part = BytesMut::from(&text[..end]);
            assert!(read_head(&mut part, false, LIMITS).unwrap().is_none(), "{end}");
            assert_eq!(part.len(), end, "nothing is taken");
        }
        let mut all = BytesMut::from(&format!("{text}body")[..]);
        let head = read_head(&mut all, false, LIMITS).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), &all[..]), (404, &b"body"[..]));
        assert_eq!(head.reason.unwrap().as_bytes(), b"Nothing Here");
        assert_eq!(head.headers.get_all("a").iter().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(head.framing, Framing::Length(4));
    }

    /// RFC 9112 §6.3.
    #[test]
    fn a_body_ends_where_its_head_says() {
        let cases = [
            ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
            ("Content-Length: 5, 5\r\nContent-Length: 5\r\n", Ok(Framing::Length(5))),
            ("Transfer-Encoding: Chunked\r\n", Ok(Framing::chunked(LIMITS))),
            ("", Ok(Framing::Close)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(Unfit::Invalid)),
            ("Content-Length: 5,\r\n", Err(Unfit::Invalid)),
            ("Content-Length: \r\n", Err(Unfit::Invalid)),
            ("Content-Length: +5\r\n", Err(Unfit::Invalid)),
            ("Content-Length: 9999999999999999999\r\n", Err(Unfit::Invalid)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(Unfit::Invalid)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Unfit::Invalid)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Unfit::Invalid)),
        ];
        for (fields, expected) in cases {
            assert_eq!(framing(fields), expected, "{fields:?}");
        }
        assert!(read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    /// RFC 9110 §8.6.
    #[test]
    fn a_length_that_is_told_more_than_once_is_passed_on_once() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n";
        let headers = read(text).unwrap().unwrap().headers;
        assert_eq!(headers.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["5"]);
    }

    /// RFC 9112 §6.3.
    #[test]
    fn some_answers_have_no_body_whatever_they_say() {
        for status in ["103 Early Hints", "204 No Content", "304 Not Modified"] {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n");
            assert_eq!(read(&text).unwrap().unwrap().framing, Framing::Length(0), "{status}");
        }
        let mut for_head = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let head = read_head(&mut for_head, true, LIMITS).unwrap().unwrap();
        assert_eq!(
            (head.framing, &head.headers["content-length"]),
            (Framing::Length(0), &"5".parse().unwrap())
        );
    }

    /// RFC 9112 §9.3.
    #[test]
    fn a_connection_is_kept_where_the_response_leaves_it_open() {
        let cases = [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: x, Close\r\nConnection: keep-alive\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", true),
        ];
        for (version, fields, expected) in cases {
            let text = format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
            assert_eq!(read(&text).unwrap().unwrap().keeps_connection, expected, "{text:?}");
        }
        let text = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n";
        assert!(!read(text).unwrap().unwrap().keeps_connection, "its end ends the body");
    }

    /// RFC 9112 §6.1, RFC 9110 §8.6.
    #[test]
    fn a_connection_is_not_kept_after_a_body_in_an_answer_that_has_none() {
        let cases = [
            ("204 No Content", "", true),
            ("204 No Content", "Content-Length: 0\r\n", true),
            ("204 No Content", "Content-Length: 5\r\n", false),
            ("204 No Content", "Transfer-Encoding: chunked\r\n", false),
            // What the answer to a GET would have.
            ("304 Not Modified", "Content-Length: 5\r\n", true),
            ("304 Not Modified", "Transfer-Encoding: chunked\r\n", true),
        ];
        for (status, fields, expected) in cases {
            let text = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
            assert_eq!(read(&text).unwrap().unwrap().keeps_connection, expected, "{text:?}");
        }
    }

    #[test]
    fn a_head_is_within_its_bounds_whatever_they_are() {
        for limits in [LIMITS, FieldLimits { bytes: 1 << 17, count: 1_000, ..LIMITS }] {
            let read = |text: &str| {
                let read = read_head(&mut BytesMut::from(text), false, limits);
                read.map(|head| head.map(|head| head.headers))
            };
            let start = "HTTP/1.1 200 OK\r\nA: ";
            let left = limits.bytes as usize - start.len() - "\r\n\r\n".len();
            let long = |bytes: usize| format!("{start}{}", "x".repeat(bytes));
            let whole = |bytes: usize| long(bytes) + "\r\n\r\n";
            assert_eq!(read(&whole(left)).unwrap().unwrap()["a"].len(), left);
            let too_large = Err(Unfit::Beyond(Limit::ResponseHeaderBytes));
            assert_eq!(read(&whole(left + 1)), too_large);
            assert_eq!(read(&long(left + 4)), too_large);
            let many = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
            let count = limits.count as usize;
            let headers = read(&many(count)).unwrap().unwrap();
            assert_eq!(headers.get_all("a").iter().filter(|value| *value == "b").count(), count);
            assert_eq!(read(&many(count + 1)), Err(Unfit::Beyond(Limit::ResponseHeaders)));
        }
    }

    #[test]
    fn a_head_of_many_fields_is_read_once_it_is_whole() {
        let limits = FieldLimits { count: 10_000, ..LIMITS };
        let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(150));
        for end in 0..text.len() {
            let mut part = BytesMut::from(&text[..end]);
            assert!(read_head(&mut part, false, limits).unwrap().is_none(), "{end}");
        }
        let head = read_head(&mut BytesMut::from(&text[..]), false, limits).unwrap().unwrap();
        assert_eq!(head.headers.get_all("a").iter().count(), 150);
    }
}
