//! Messages of HTTP/1.1, read by somebody else than the proxy: to the letter of RFC 9112, and as whole
//! texts rather than as they come.
//!
//! A reader of its own, stricter than any server's: one that it shared with the proxy would share its
//! mistakes.

use http::HeaderMap;

use super::lines::{chunked, fields, is_token, line, without_blanks};
use crate::limits::FieldLimits;

/// Fields of one connection, which a proxy must not pass on from HTTP/2 (RFC 9113 §8.2.2).
const OF_ONE_CONNECTION: [&str; 4] = ["keep-alive", "proxy-connection", "upgrade", "connection"];

/// Names in lower case and values, in their order.
pub(super) type Fields = Vec<(String, Vec<u8>)>;

/// Who has written what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The proxy, which writes nothing that need not be there.
    Us,
    /// A client, from whom everything is taken that is right.
    Client,
    /// A backend, from whom some is taken that is clumsy.
    Backend,
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Its first line.
    pub(super) start: Vec<u8>,
    pub(super) fields: Fields,
    /// How many bytes those and it are, with the line that ends them.
    pub(super) head_bytes: usize,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Fields,
    /// How many bytes those are, with the line that ends them.
    pub(super) trailer_bytes: usize,
    /// How many bytes it takes.
    pub(super) length: usize,
}

impl Message {
    /// The words of the first line, of which the last may have spaces.
    pub(super) fn words(&self) -> [&[u8]; 3] {
        let mut words = self.start.splitn(3, |byte| *byte == b' ');
        [(); 3].map(|()| words.next().unwrap_or_default())
    }

    pub(super) fn status(&self) -> u16 {
        String::from_utf8_lossy(self.words()[1]).parse().unwrap_or(0)
    }

    /// Whether the fields before its body are no more than may be.
    pub(super) fn begins_within(&self, limits: FieldLimits) -> bool {
        self.fields.len() <= limits.count as usize && self.head_bytes <= limits.bytes as usize
    }

    /// The same of those after it.
    pub(super) fn trails_within(&self, limits: FieldLimits) -> bool {
        self.trailers.len() <= limits.count as usize && self.trailer_bytes <= limits.bytes as usize
    }

    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        values(&self.fields, name)
    }
}

/// The values of a field, in their order.
pub(super) fn values<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.0 == name).map(|field| &field.1[..])
}

/// The fields of a map, those of one name together in their order.
pub(super) fn in_order(headers: &HeaderMap) -> Fields {
    let fields = headers.iter();
    fields.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Why there is no message: it is not all there, or none.
pub(super) type Reading = Result<Option<Message>, String>;

/// The length of the message of ours for a backend that the bytes begin with, if all of it is there.
///
/// # Errors
/// How it is not well-formed, or says what only a client of HTTP/1 may have a proxy say.
pub(super) fn message(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(head) = request_head(bytes, By::Us)? else { return Ok(None) };
    let target = head.words()[1];
    if target != b"*" && !target.starts_with(b"/") {
        return Err(format!("the target {:?}", String::from_utf8_lossy(target)));
    }
    let asks = |fields: &[u8]| head.values("connection").eq([fields]);
    let is_bootstrap = head.words()[0] == b"GET"
        && head.values("upgrade").eq([&b"websocket"[..]])
        && head.values("sec-websocket-key").count() == 1
        && (asks(b"upgrade") || asks(b"upgrade, te"));
    for (name, value) in &head.fields {
        let is_te = name == "connection" && value.eq_ignore_ascii_case(b"te");
        // What a client of HTTP/2 asks for by CONNECT (RFC 8441 §5), with a key of the proxy's.
        let is_ours = is_bootstrap && matches!(name.as_str(), "connection" | "upgrade");
        if OF_ONE_CONNECTION.contains(&name.as_str()) && !is_te && !is_ours {
            return Err(format!("the field {name}: {:?}", String::from_utf8_lossy(value)));
        }
    }
    let hosts = head.values("host").count();
    if hosts != 1 {
        return Err(format!("{hosts} hosts"));
    }
    Ok(request(bytes, By::Us)?.map(|message| message.length))
}

/// The request that the bytes begin with.
pub(super) fn request(bytes: &[u8], by: By) -> Reading {
    let Some(message) = request_head(bytes, by)? else { return Ok(None) };
    let framing = framing(&message, by)?.unwrap_or(Framing::Length(0));
    with_body(bytes, message, &framing, (by, false))
}

/// Its head.
pub(super) fn request_head(bytes: &[u8], by: By) -> Reading {
    let Some(message) = head(bytes)? else { return Ok(None) };
    let [method, target, version] = message.words();
    let is_version = version == b"HTTP/1.1" || (version == b"HTTP/1.0" && by != By::Us);
    let is_target = !target.is_empty() && target.iter().all(|byte| (b'!'..=b'~').contains(byte));
    if !is_token(method) || !is_target || !is_version {
        return Err(format!("the request line {:?}", String::from_utf8_lossy(&message.start)));
    }
    framing(&message, by)?;
    Ok(Some(message))
}

/// The response that the bytes begin with, to HEAD if `is_for_head`. Once the connection `is_closed` one
/// that ends with it is whole.
pub(super) fn response(bytes: &[u8], by: By, is_for_head: bool, is_closed: bool) -> Reading {
    let Some(message) = head(bytes)? else { return Ok(None) };
    let odd = || format!("the status line {:?}", String::from_utf8_lossy(&message.start));
    let [version, code, _] = message.words();
    let is_old = version == b"HTTP/1.0";
    let is_code = code.len() == 3 && code.iter().all(u8::is_ascii_digit) && code[0] > b'0';
    // A server must write the space before a reason that is empty.
    let has_reason = message.start.len() > 12 || by == By::Backend;
    if !(is_old || version == b"HTTP/1.1") || !is_code || !has_reason {
        return Err(odd());
    }
    let status = message.status();
    if status < 200 {
        // It has no body. Who tells a length that is none is not understood all the same.
        length(&message, by)?;
        return with_body(bytes, message, &Framing::Length(0), (by, is_closed));
    }
    let framing = match framing(&message, by)? {
        _ if is_for_head || matches!(status, 204 | 304) => Framing::Length(0),
        Some(Framing::Chunked) if is_old => return Err("chunks of HTTP/1.0".to_owned()),
        framing => framing.unwrap_or(Framing::Close),
    };
    with_body(bytes, message, &framing, (by, is_closed))
}

/// The interim responses that the bytes begin with, and the one that counts, if it is there. Where that
/// switches to another protocol, it ends with its head.
pub(super) fn responses(
    mut bytes: &[u8],
    by: By,
    is_for_head: bool,
    is_closed: bool,
) -> Result<(Vec<Message>, Option<Message>), String> {
    let mut interims = Vec::new();
    loop {
        match response(bytes, by, is_for_head, is_closed)? {
            Some(message) if message.status() < 200 && message.status() != 101 => {
                bytes = &bytes[message.length..];
                interims.push(message);
            }
            last => return Ok((interims, last)),
        }
    }
}

/// How a body ends.
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// The first line and the fields; the length is that of both.
fn head(bytes: &[u8]) -> Reading {
    let mut at = 0;
    let Some(start) = line(bytes, &mut at)? else { return Ok(None) };
    let fields = fields(bytes, &mut at)?;
    let message =
        |fields| Message { start, fields, head_bytes: at, length: at, ..Message::default() };
    Ok(fields.map(message))
}

/// What the fields say of the body (RFC 9112 §6.3).
fn framing(message: &Message, by: By) -> Result<Option<Framing>, String> {
    let length = length(message, by)?;
    let codings: Vec<&[u8]> = message.values("transfer-encoding").collect();
    match (length, &codings[..]) {
        (length, []) => Ok(length.map(Framing::Length)),
        (None, [coding])
            if coding.eq_ignore_ascii_case(b"chunked")
                && !message.start.ends_with(b" HTTP/1.0") =>
        {
            Ok(Some(Framing::Chunked))
        }
        _ => Err(format!("the length {length:?}, codings {codings:?}")),
    }
}

/// The length that the fields tell, which a clumsy backend may tell more than once.
fn length(message: &Message, by: By) -> Result<Option<usize>, String> {
    let told = message.values("content-length");
    let told: Vec<&[u8]> = match by {
        By::Us | By::Client => told.collect(),
        By::Backend => told.flat_map(|value| value.split(|byte| *byte == b',')).collect(),
    };
    let number = |told: &&[u8]| {
        let text = str::from_utf8(without_blanks(told)).ok()?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    };
    // Written as `05` beside `5` it is the same.
    let mut numbers = told.iter().map(number);
    let Some(first) = numbers.next() else { return Ok(None) };
    let is_one = told.len() == 1 || by == By::Backend;
    match first {
        Some(_) if is_one && numbers.all(|other| other == first) => Ok(first),
        _ => Err(format!("lengths {told:?}")),
    }
}

/// The message of a head, with the body behind it.
fn with_body(
    bytes: &[u8],
    mut message: Message,
    framing: &Framing,
    (by, is_closed): (By, bool),
) -> Reading {
    let rest = &bytes[message.length..];
    match framing {
        Framing::Length(length) => {
            let Some(body) = rest.get(..*length) else { return Ok(None) };
            message.body = body.to_vec();
            message.length += length;
        }
        Framing::Close if !is_closed => return Ok(None),
        Framing::Close => {
            message.body = rest.to_vec();
            message.length = bytes.len();
        }
        Framing::Chunked => {
            let Some((body, trailers, length)) = chunked(rest, by)? else { return Ok(None) };
            (message.body, (message.trailers, message.trailer_bytes)) = (body, trailers);
            message.length += length;
        }
    }
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_long_as_it_says() {
        for (bytes, expected) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET", Some(27)),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET", Some(50)),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab", None),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nG",
                Some(69),
            ),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
                None,
            ),
            ("GET / HTTP/1.1\r\nhost", None),
        ] {
            assert_eq!(message(bytes.as_bytes()), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_none() {
        for bytes in [
            "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: 1\ny: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: 1\rhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nkeep-alive: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0000000000000000\r\n\r\n",
        ] {
            assert!(message(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }

    #[test]
    fn a_response_ends_where_its_head_says() {
        // What follows it, if it is all there.
        let after = |bytes: &'static str, is_for_head| {
            let read = response(bytes.as_bytes(), By::Backend, is_for_head, true);
            read.map(|message| message.map(|message| &bytes[message.length..]))
        };
        for (bytes, is_for_head, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2, 02\r\n\r\nokH", false, Some("H")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", false, None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nH", true, Some("H")),
            ("HTTP/1.1 204 \r\ncontent-length: 2\r\n\r\nH", false, Some("H")),
            ("HTTP/1.1 103 \r\ncontent-length: 2\r\n\r\nH", false, Some("H")),
            ("HTTP/1.0 200 OK\r\n\r\nok", false, Some("")),
        ] {
            assert_eq!(after(bytes, is_for_head), Ok(expected), "{bytes}");
        }
        let chunks = "2 ;a = \"\\\";\" ;b\r\nok\r\n0 \r\nx: 1\r\n\r\n";
        let chunks = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}H");
        let message = response(chunks.as_bytes(), By::Backend, false, false).unwrap().unwrap();
        assert_eq!((&message.body[..], message.length), (&b"ok"[..], chunks.len() - 1));
        assert_eq!(message.trailers, [("x".to_owned(), b"1".to_vec())]);
        assert!(response(chunks.as_bytes(), By::Us, false, false).is_err());
        for bytes in [
            "HTTP/1.1 99 x\r\n\r\n",
            "HTTP/2 200 x\r\n\r\n",
            "HTTP/1.1 200 a\0\r\n\r\n",
            "HTTP/1.1 200 a\r\nx: a\rb\r\n\r\n",
            "HTTP/1.1 200 a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n",
            "HTTP/1.0 200 a\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 a\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(after(bytes, false).is_err(), "{bytes}");
        }
    }
}
