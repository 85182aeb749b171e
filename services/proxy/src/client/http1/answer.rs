//! A response, as a client of HTTP/1 gets it (RFC 9112 §4, §6, §9.3).

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING, UPGRADE},
    response::Parts,
};
use http_body::Frame;
use hyper::ext::ReasonPhrase;

use super::{super::date, head::Said, out::Out};
use crate::{
    headers::members,
    http1::{write_field, write_last_chunk},
    numbers,
};

/// What of a head is no field of the backend's, about: the status, the date, the framing.
const HEAD_BYTES: usize = 128;

/// A field with its separators, about.
const FIELD_BYTES: usize = 40;

/// An answer whose head has been written, and whose body is.
#[derive(Debug)]
pub(crate) struct Answer {
    framing: Framing,
    /// Whether another one may follow.
    pub(crate) keeps_connection: bool,
}

/// How the client is told where the body ends (RFC 9112 §6.3).
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// There is none, whatever comes.
    None,
    /// After so many more bytes.
    Length(u64),
    /// After its last chunk, and the fields behind that if they are welcome.
    Chunked { takes_trailers: bool },
    /// With the connection.
    Close,
}

impl Framing {
    fn takes_trailers(&self) -> bool {
        matches!(self, Self::Chunked { takes_trailers: true })
    }
}

/// A body that is not as long as was said.
#[derive(Debug)]
pub(crate) struct WrongLength;

impl Answer {
    /// Writes the head of an answer whose body has this size, if it is known, to a request that said this.
    pub(crate) fn begin(
        out: &mut Out,
        parts: &Parts,
        size: Option<u64>,
        said: &Said,
        is_for_head: bool,
    ) -> Self {
        let Parts { status, headers, .. } = parts;
        let (status, is_http11) = (*status, said.version == Version::HTTP_11);
        let framing = framing(status, size, said, is_for_head);
        let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
        let mut keeps_connection = said.keeps_connection && framing != Framing::Close;
        let head = out.tail();
        head.reserve(HEAD_BYTES + FIELD_BYTES * headers.len());
        write_status(head, status, parts.extensions.get(), is_http11);
        let (mut has_date, mut length) = (false, None);
        for (name, value) in headers {
            if *name == CONTENT_LENGTH {
                length = length.or(Some(value));
            } else if *name == CONNECTION && !is_switch {
                let closes = |token: &[u8]| token.eq_ignore_ascii_case(b"close");
                keeps_connection &= !members(value).any(closes);
            } else if *name == TRANSFER_ENCODING || (*name == TRAILER && !framing.takes_trailers())
            {
                // The framing is ours.
            } else if !is_http11 && *name == UPGRADE {
                // HTTP/1.0 cannot change to another protocol (RFC 9110 §7.8).
            } else {
                has_date |= *name == DATE;
                write_field(name.as_str().as_bytes(), value, head);
            }
        }
        match &framing {
            Framing::Length(size) => write_length(head, *size, length),
            Framing::Chunked { .. } => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Framing::None if is_for_head && may_have_length(status) => match (length, size) {
                (Some(length), _) => write_field(b"content-length", length, head),
                (None, Some(size @ 1..)) => write_length(head, size, None),
                (None, _) => {}
            },
            Framing::None | Framing::Close => {}
        }
        let closes = !keeps_connection && !is_switch;
        let is_426 = status == StatusCode::UPGRADE_REQUIRED;
        let asks_for_upgrade = is_426 && is_http11 && headers.contains_key(UPGRADE);
        head.extend_from_slice(match (closes, asks_for_upgrade) {
            (true, false) => b"connection: close\r\n",
            (true, true) => b"connection: close, upgrade\r\n",
            (false, true) => b"connection: upgrade\r\n",
            (false, false) if !is_http11 => b"connection: keep-alive\r\n",
            (false, false) => b"",
        });
        if !has_date {
            head.extend_from_slice(b"date: ");
            head.extend_from_slice(&date::now());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Self { framing, keeps_connection }
    }

    /// Writes a part of the body.
    ///
    /// # Errors
    /// It is more than was said.
    pub(crate) fn push(&mut self, frame: Frame<Bytes>, out: &mut Out) -> Result<(), WrongLength> {
        match (frame.into_data(), &mut self.framing) {
            (Ok(data), Framing::Length(left)) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                out.push(data);
            }
            (Ok(data), Framing::Chunked { .. }) if !data.is_empty() => {
                write_size(data.len(), out.tail());
                out.push(data);
                out.tail().extend_from_slice(b"\r\n");
            }
            (Ok(data), Framing::Close) => out.push(data),
            (Err(frame), Framing::Chunked { takes_trailers }) => {
                let trailers = frame.into_trailers().ok().filter(|_| *takes_trailers);
                write_last_chunk(&trailers.unwrap_or_default(), out.tail());
                // Nothing comes after it.
                self.framing = Framing::Length(0);
            }
            (Ok(_) | Err(_), _) => {}
        }
        Ok(())
    }

    /// Notes that so many bytes of the body are about to go out by another way.
    ///
    /// # Errors
    /// It is more than was said.
    pub(super) fn pass(&mut self, bytes: usize) -> Result<(), WrongLength> {
        let Framing::Length(left) = &mut self.framing else { return Err(WrongLength) };
        *left = left.checked_sub(bytes as u64).ok_or(WrongLength)?;
        Ok(())
    }

    /// Whether the body goes out as it is.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.framing, Framing::Length(_))
    }

    /// Writes the end of the body.
    ///
    /// # Errors
    /// It was less than was said.
    pub(crate) fn end(&mut self, out: &mut Out) -> Result<(), WrongLength> {
        match self.framing {
            Framing::Length(1..) => return Err(WrongLength),
            Framing::Chunked { .. } => write_last_chunk(&HeaderMap::new(), out.tail()),
            Framing::None | Framing::Length(0) | Framing::Close => {}
        }
        self.framing = Framing::None;
        Ok(())
    }

    /// Whether the end of the connection looks like the end of the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.framing == Framing::Close
    }
}

/// How a body of this size, if it is known, is framed.
fn framing(status: StatusCode, size: Option<u64>, said: &Said, is_for_head: bool) -> Framing {
    let has_none = is_for_head || !may_have_length(status) || status == StatusCode::NOT_MODIFIED;
    match size {
        _ if has_none => Framing::None,
        Some(size) => Framing::Length(size),
        None if said.version < Version::HTTP_11 => Framing::Close,
        None => Framing::Chunked { takes_trailers: said.takes_trailers },
    }
}

/// Whether an answer may tell a length (RFC 9110 §8.6).
fn may_have_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT
}

/// Writes the first line, in the version of the request. RFC 9110 §2.5 would rather have HTTP/1.1 there
/// for a client of HTTP/1.0, and so do nginx and HAProxy. But some such clients took no answer in another
/// version than their own (Apache has `force-response-1.0` for them), and none is known that gains by
/// it: what follows is framed as HTTP/1.0 has it. Envoy and Go do the same.
pub(super) fn write_status(
    head: &mut BytesMut,
    status: StatusCode,
    reason: Option<&ReasonPhrase>,
    is_http11: bool,
) {
    if status == StatusCode::OK && reason.is_none() && is_http11 {
        return head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    head.extend_from_slice(if is_http11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    head.extend_from_slice(status.as_str().as_bytes());
    head.extend_from_slice(b" ");
    let usual = || status.canonical_reason().unwrap_or_default().as_bytes();
    head.extend_from_slice(reason.map_or_else(usual, ReasonPhrase::as_bytes));
    head.extend_from_slice(b"\r\n");
}

/// Writes a length, as the backend `said` it if that is the same.
fn write_length(head: &mut BytesMut, size: u64, said: Option<&HeaderValue>) {
    match said.filter(|said| numbers::length(said.as_bytes()) == Some(size)) {
        Some(said) => write_field(b"content-length", said, head),
        None => {
            // Writing to memory does not fail.
            let _ = write!(head, "content-length: {size}\r\n");
        }
    }
}

/// Writes a chunk's size (RFC 9112 §7.1).
fn write_size(size: usize, out: &mut BytesMut) {
    // Writing to memory does not fail.
    let _ = write!(out, "{size:X}\r\n");
}

#[cfg(test)]
mod tests {
    use http::Response;
    use http_body::Body as _;

    use super::*;
    use crate::body::ResponseBody;

    const SAID: Said = Said { keeps_connection: true, ..Said::NOTHING };

    const OLD: Said = Said { version: Version::HTTP_10, ..SAID };

    /// The head of an answer, its date left out, and whether the connection is kept.
    fn head(
        status: u16,
        fields: &[(&'static str, &'static str)],
        body: Option<&'static str>,
        said: &Said,
        is_for_head: bool,
    ) -> (String, bool) {
        let body = ResponseBody::Own(body.map(Bytes::from));
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let (parts, body) = response.into_parts();
        let mut out = Out::default();
        let answer = Answer::begin(&mut out, &parts, body.size_hint().exact(), said, is_for_head);
        let head = String::from_utf8(out.tail().to_vec()).unwrap();
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        let lines = head.trim_end().split("\r\n").filter(|line| !line.starts_with("date: "));
        (lines.collect::<Vec<_>>().join("|"), answer.keeps_connection)
    }

    /// RFC 9112 §6.3, RFC 9110 §8.6.
    #[test]
    fn a_head_says_where_its_body_ends() {
        let length = [("content-length", "2")];
        for (status, fields, body, is_for_head, expected) in [
            (200, &[][..], None, false, "HTTP/1.1 200 OK|content-length: 0"),
            (200, &[][..], Some("ok"), false, "HTTP/1.1 200 OK|content-length: 2"),
            (404, &length[..], Some("no"), false, "HTTP/1.1 404 Not Found|content-length: 2"),
            (
                200,
                &[("content-length", "9")],
                Some("ok"),
                false,
                "HTTP/1.1 200 OK|content-length: 2",
            ),
            (200, &length, None, true, "HTTP/1.1 200 OK|content-length: 2"),
            (200, &[], None, true, "HTTP/1.1 200 OK"),
            (503, &[], Some("no"), true, "HTTP/1.1 503 Service Unavailable|content-length: 2"),
            (204, &length, None, false, "HTTP/1.1 204 No Content"),
            (204, &length, None, true, "HTTP/1.1 204 No Content"),
            (304, &length, None, false, "HTTP/1.1 304 Not Modified"),
            (304, &length, None, true, "HTTP/1.1 304 Not Modified|content-length: 2"),
            (299, &[("transfer-encoding", "x")], None, false, "HTTP/1.1 299 |content-length: 0"),
        ] {
            let told = head(status, fields, body, &SAID, is_for_head);
            assert_eq!(told, (expected.to_owned(), true), "{status} {fields:?} {is_for_head}");
        }
    }

    /// RFC 9112 §9.3.
    #[test]
    fn a_head_says_whether_the_connection_goes_on() {
        let closing = Said { keeps_connection: false, ..SAID };
        let close = [("connection", "close")];
        let upgrade = [("upgrade", "x")];
        for (status, fields, said, expected, keeps) in [
            (200, &[][..], SAID, "HTTP/1.1 200 OK|content-length: 0", true),
            (200, &[], closing, "HTTP/1.1 200 OK|content-length: 0|connection: close", false),
            (200, &close, SAID, "HTTP/1.1 200 OK|content-length: 0|connection: close", false),
            (200, &[], OLD, "HTTP/1.0 200 OK|content-length: 0|connection: keep-alive", true),
            (200, &close, OLD, "HTTP/1.0 200 OK|content-length: 0|connection: close", false),
            (
                101,
                &[("connection", "upgrade")],
                SAID,
                "HTTP/1.1 101 Switching Protocols|connection: upgrade",
                true,
            ),
            (
                426,
                &upgrade,
                SAID,
                "HTTP/1.1 426 Upgrade Required|upgrade: x|content-length: 0|connection: upgrade",
                true,
            ),
            (
                426,
                &upgrade,
                closing,
                "HTTP/1.1 426 Upgrade Required|upgrade: x|content-length: 0|connection: close, upgrade",
                false,
            ),
            (
                426,
                &upgrade,
                OLD,
                "HTTP/1.0 426 Upgrade Required|content-length: 0|connection: keep-alive",
                true,
            ),
        ] {
            assert_eq!(head(status, fields, None, &said, false), (expected.to_owned(), keeps));
        }
    }

    #[test]
    fn a_date_is_added_where_there_is_none() {
        for (fields, expected) in [(&[][..], 1), (&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")], 1)]
        {
            let mut response = Response::new(ResponseBody::Own(None));
            for (name, value) in fields {
                response.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            let (parts, body) = response.into_parts();
            let mut out = Out::default();
            Answer::begin(&mut out, &parts, body.size_hint().exact(), &SAID, false);
            let head = String::from_utf8(out.tail().to_vec()).unwrap();
            assert_eq!(head.matches("date: ").count(), expected, "{head}");
        }
    }

    fn written(answer: &mut Answer, frames: Vec<Frame<Bytes>>) -> Result<String, WrongLength> {
        let mut out = Out::default();
        frames.into_iter().try_for_each(|frame| answer.push(frame, &mut out))?;
        answer.end(&mut out)?;
        Ok(String::from_utf8(out.tail().to_vec()).unwrap())
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_body_of_unknown_size_is_chunked_for_who_can_read_that() {
        let said = Said { takes_trailers: true, ..SAID };
        let trailers = || {
            let names = ["x-sum", "x-other"].map(|name| name.parse().unwrap());
            let fields = names.map(|name| (name, HeaderValue::from_static("7")));
            Frame::trailers(HeaderMap::from_iter(fields))
        };
        for (said, frames, expected) in [
            (
                SAID,
                vec![data("0123456789"), data(""), data("x")],
                "A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n",
            ),
            (SAID, vec![trailers()], "0\r\n\r\n"),
            (said, vec![data("x"), trailers()], "1\r\nx\r\n0\r\nx-sum: 7\r\nx-other: 7\r\n\r\n"),
            (OLD, vec![data("a"), data("b"), trailers()], "ab"),
        ] {
            let framing = framing(StatusCode::OK, None, &said, false);
            assert_eq!(framing.takes_trailers(), said.takes_trailers);
            let mut answer = Answer { framing, keeps_connection: true };
            assert_eq!(written(&mut answer, frames).unwrap(), expected, "{said:?}");
        }
    }

    #[test]
    fn a_body_of_another_length_than_was_said_is_not_passed_on_as_whole() {
        for (frames, is_whole) in [
            (vec![data("abc")], true),
            (vec![data("ab"), data("c")], true),
            (vec![data("ab")], false),
            (vec![data("ab"), data("cd")], false),
        ] {
            let mut answer = Answer { framing: Framing::Length(3), keeps_connection: true };
            assert_eq!(written(&mut answer, frames).is_ok(), is_whole);
        }
    }
}
