//! Answers of backends: read, rewritten and written to clients of HTTP/1.

use std::{
    io,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use http_body::Frame;
use hyper::ext::ReasonPhrase;
use tokio::io::AsyncWrite;

use super::{
    LIMITS,
    messages::{self, By, Message},
    passed_on::{self, Asked, PROTOCOL, going_on, without},
};
use crate::{
    client::{Answer, Out, Said, write_interim},
    headers,
    http1::{self, Framing},
    settings::Settings,
};

/// A part of a body that is at least as long as this is written from where it is, and how long bodies are
/// made that have several.
const PART_BYTES: usize = 5_000;
const LONG_BYTES: usize = 3 * PART_BYTES;

/// Bytes as a backend's connection brings them, after two that say in which pieces, whether a HEAD is
/// answered, who the client is and how much it takes at once.
///
/// # Panics
/// What is read depends on the pieces, is not what somebody else reads, or is not what the client is
/// told.
pub fn answer(data: &[u8]) {
    let [kind, client, bytes @ ..] = data else { return };
    let (size, is_for_head) = (usize::from(kind >> 1).max(1), kind & 1 == 1);
    let whole = read(bytes, bytes.len().max(1), is_for_head);
    assert_eq!(whole, read(bytes, size, is_for_head), "in pieces of {size}");
    let Some(mut answered) = whole else { return };
    let is_http11 = client & 1 == 0;
    let said = Said {
        version: if is_http11 { Version::HTTP_11 } else { Version::HTTP_10 },
        keeps_connection: client & 2 == 0,
        takes_trailers: client & 4 == 0,
        may_switch: is_http11 && client & 8 != 0,
        ..Said::NOTHING
    };
    let most = usize::from(client >> 4) * 7 + 1;
    let times = if client & 16 == 0 { 1 } else { answered.make_long() };
    let mut sink = Sink { heard: Vec::new(), most };
    let told: Vec<Vec<u8>> = answered.interims.drain(..).map(interim).collect();
    let Some(keeps_connection) = answered.write(&said, is_for_head, &mut sink) else { return };
    let is_closed = answered.is_whole && !keeps_connection;
    let read = messages::response(&sink.heard, By::Us, is_for_head, is_closed);
    let Ok(ours) = read else { panic!("{read:?}: {:?}", String::from_utf8_lossy(&sink.heard)) };
    // One that was cut off must not look whole.
    assert_eq!(ours.is_some(), answered.is_whole, "{:?}", String::from_utf8_lossy(&sink.heard));
    let (interims, theirs) = match messages::responses(bytes, By::Backend, is_for_head, true) {
        Ok((interims, Some(theirs))) if answered.is_whole => (interims, theirs),
        // Either may see sooner that there is something wrong.
        Ok((_, None)) | Err(_) if !answered.is_whole => return,
        other => panic!("{answered:?} is {other:?} to others"),
    };
    check_interims(&interims, &told);
    let Some(ours) = ours else { return };
    assert_eq!(ours.length, sink.heard.len(), "more than a message");
    check_connection(&ours, is_http11, keeps_connection);
    let takes_trailers = said.takes_trailers && is_http11;
    let may_switch = said.may_switch;
    let asked = Asked { is_http2: false, is_http11, is_for_head, takes_trailers, may_switch };
    let theirs = Message { body: theirs.body.repeat(times), ..theirs };
    passed_on::check(&theirs, &ours, &asked);
}

/// A response as far as it was read.
#[derive(Debug, PartialEq)]
struct Answered {
    interims: Vec<(StatusCode, Option<ReasonPhrase>, HeaderMap)>,
    status: StatusCode,
    reason: Option<ReasonPhrase>,
    headers: HeaderMap,
    /// The length that its head says.
    size: Option<u64>,
    body: Vec<u8>,
    trailers: HeaderMap,
    is_whole: bool,
}

/// What is read of an answer; `None` if it is not valid, or has not come as far as its body.
fn read(bytes: &[u8], size: usize, is_for_head: bool) -> Option<Answered> {
    let (mut read, mut interims, mut found) = (BytesMut::new(), Vec::new(), None);
    let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
    for piece in bytes.chunks(size) {
        read.extend_from_slice(piece);
        while found.is_none() {
            let Some(head) = http1::read_head(&mut read, is_for_head, LIMITS.of_response()).ok()?
            else {
                break;
            };
            if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                interims.push((head.status, head.reason, head.headers));
            } else {
                found = Some((head.framing.left(), head));
            }
        }
        let Some((_, head)) = &mut found else { continue };
        while let Some(frame) = head.framing.next(&mut read).ok()? {
            match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().unwrap(),
            }
        }
        if head.framing.is_done() {
            break;
        }
    }
    let (size, head) = found?;
    let is_whole = head.framing.is_done() || head.framing == Framing::Close;
    let http1::ResponseHead { status, reason, headers, .. } = head;
    Some(Answered { interims, status, reason, headers, size, body, trailers, is_whole })
}

impl Answered {
    /// Repeats its body until that is long. How often.
    fn make_long(&mut self) -> usize {
        let times = if self.body.is_empty() { 1 } else { LONG_BYTES / self.body.len() + 1 };
        self.body = self.body.repeat(times);
        self.size = self.size.map(|size| size * times as u64);
        times
    }

    /// Has it written as a client gets it. Whether the client's connection is kept; `None` if the client
    /// gets another answer.
    fn write(&self, said: &Said, is_for_head: bool, sink: &mut Sink) -> Option<bool> {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        if let Some(reason) = self.reason.clone() {
            response.extensions_mut().insert(reason);
        }
        check_degraded(response.headers_mut());
        if self.status == StatusCode::SWITCHING_PROTOCOLS {
            let mut request = HeaderMap::new();
            request.insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
            if !said.may_switch || !headers::are_asked_for(response.headers(), &request) {
                return None;
            }
            headers::prepare_switching(response.headers_mut());
            check_switching(response.headers());
        } else {
            let id = HeaderValue::from_static("id");
            headers::prepare_response(response.headers_mut(), self.status, Some(&id)).ok()?;
        }
        let (parts, mut out) = (response.into_parts().0, Out::default());
        let mut answer = Answer::begin(&mut out, &parts, self.size, said, is_for_head);
        let keeps_connection = answer.keeps_connection;
        for part in self.body.chunks(PART_BYTES - 1) {
            let frame = Frame::data(Bytes::copy_from_slice(part));
            answer.push(frame, &mut out).unwrap();
            sink.take_some(&mut out);
        }
        if !self.trailers.is_empty() {
            answer.push(Frame::trailers(self.trailers.clone()), &mut out).unwrap();
        }
        if self.is_whole {
            answer.end(&mut out).unwrap();
        } else if self.size.is_some() {
            assert!(answer.end(&mut out).is_err(), "whole though it was cut");
        }
        while !out.is_empty() {
            sink.take_some(&mut out);
        }
        Some(keeps_connection)
    }
}

/// A wish to be spared is for us, and is told as a short text.
fn check_degraded(headers: &mut HeaderMap) {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| Settings::from_variables(&[]));
    let before = headers.len();
    let wishes = headers.get_all("x-evenkeel-degraded").iter().count();
    let reason = settings.degrading.take(headers);
    assert_eq!((reason.is_some(), headers.len()), (wishes > 0, before - wishes));
    if let Some(reason) = reason {
        assert!(reason.chars().count() <= 200 && !reason.contains(char::is_control), "{reason:?}");
    }
}

/// A switch names one protocol, and nothing else of the connection (RFC 9110 §7.8).
fn check_switching(headers: &HeaderMap) {
    let values = |name| headers.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(values("connection"), ["upgrade"]);
    assert!(values("upgrade").len() < 2);
    for name in ["keep-alive", "proxy-connection", "transfer-encoding"] {
        assert!(!headers.contains_key(name), "{name} in a switch");
    }
}

/// An interim response as a client gets it.
fn interim((status, reason, mut fields): (StatusCode, Option<ReasonPhrase>, HeaderMap)) -> Vec<u8> {
    headers::prepare_interim(&mut fields);
    write_interim(status, reason.as_ref(), &fields).to_vec()
}

/// Each is one message without a body, and says what the backend said.
fn check_interims(theirs: &[Message], ours: &[Vec<u8>]) {
    assert_eq!(theirs.len(), ours.len());
    for (theirs, bytes) in theirs.iter().zip(ours) {
        let read = messages::response(bytes, By::Us, false, false);
        let Ok(Some(ours)) = read else { panic!("{read:?} as an interim response") };
        assert_eq!((ours.length, ours.status()), (bytes.len(), theirs.status()));
        let said = without(&going_on(&theirs.fields), &["content-length"]);
        assert_eq!(said, without(&ours.fields, &[]), "an interim response");
    }
}

/// The client is told when its connection ends, and when it does not where it may doubt that (RFC 9112
/// §9.3).
fn check_connection(ours: &Message, is_http11: bool, keeps_connection: bool) {
    if ours.status() == 101 {
        return;
    }
    let members: Vec<String> = ours
        .values("connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|member| String::from_utf8_lossy(member).trim().to_owned())
        .collect();
    let has = |member: &str| members.iter().any(|found| found == member);
    assert_eq!(has("close"), !keeps_connection);
    assert_eq!(has("keep-alive"), keeps_connection && !is_http11);
}

/// A socket that takes so many bytes at once.
struct Sink {
    heard: Vec<u8>,
    most: usize,
}

impl Sink {
    /// Takes once of what is to be written.
    fn take_some(&mut self, out: &mut Out) {
        if out.is_empty() {
            return;
        }
        let (before, left) = (self.heard.len(), out.len());
        let written = out.poll_write(Pin::new(&mut *self), &mut Context::from_waker(Waker::noop()));
        assert!(matches!(written, Poll::Ready(Ok(()))));
        assert_eq!(left - out.len(), self.heard.len() - before, "what was taken is gone");
        assert_eq!(out.written(), self.heard.len() as u64);
        if left.is_multiple_of(3) {
            out.compact();
        }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let before = self.heard.len();
        let most = self.most;
        let taken: Vec<u8> =
            parts.iter().flat_map(|part| part.iter().copied()).take(most).collect();
        self.heard.extend(taken);
        Poll::Ready(Ok(self.heard.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
