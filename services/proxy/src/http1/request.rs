//! A request, as a backend of HTTP/1.1 gets it (RFC 9112 §3, §6).

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::Poll,
};

use bytes::{BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, uri::PathAndQuery};
use http_body::{Body as _, Frame};
use tokio::{io::AsyncWriteExt as _, net::tcp::OwnedWriteHalf};

use super::may_trail;
use crate::{body::RequestBody, error::Reason, headers};

/// What of a head is no field, about: method, version, line ends.
const REQUEST_LINE_BYTES: usize = 32;

/// A field with its separators, about.
const FIELD_BYTES: usize = 32;

/// A request without its body.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Head {
    /// As HTTP/2 has it.
    ///
    /// # Errors
    /// [`Reason::BadRequest`] if its host cannot be written there.
    pub(crate) fn in_http2_form(&self) -> Result<Self, Reason> {
        let mut head = self.clone();
        headers::in_http2_form(&mut head.headers, &mut head.uri)?;
        Ok(head)
    }

    /// As the HTTP/2 library has it.
    pub(crate) fn into_request(self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}

/// Writes a head in the form that a server is sent (RFC 9112 §3.2.1).
pub(crate) fn write_head(head: &Head) -> Vec<u8> {
    let target = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let room = REQUEST_LINE_BYTES + target.len() + FIELD_BYTES * head.headers.len();
    let mut bytes = Vec::with_capacity(room);
    bytes.extend_from_slice(head.method.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(target.as_bytes());
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(&head.headers, &mut bytes);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

pub(crate) fn write_fields<'a>(
    fields: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    bytes: &mut impl BufMut,
) {
    for (name, value) in fields {
        write_field(name.as_str().as_bytes(), value, bytes);
    }
}

/// Writes the end of a body of chunks, with those fields that may stand there. Whether the head has
/// announced them does not matter: that is a courtesy (RFC 9110 §6.6.2), and whoever reads chunks reads
/// what comes after the last one, too.
pub(crate) fn write_last_chunk(trailers: &HeaderMap, bytes: &mut impl BufMut) {
    bytes.put_slice(b"0\r\n");
    write_fields(trailers.iter().filter(|(name, _)| may_trail(name)), bytes);
    bytes.put_slice(b"\r\n");
}

pub(crate) fn write_field(name: &[u8], value: &HeaderValue, bytes: &mut impl BufMut) {
    bytes.put_slice(name);
    bytes.put_slice(b": ");
    bytes.put_slice(value.as_bytes());
    bytes.put_slice(b"\r\n");
}

/// Why a request was not sent whole.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// Its body broke off, or was not as long as announced: the client's fault.
    Body,
    /// The backend took none of it: here is its body, as it was.
    Unsent(RequestBody),
    /// The backend did not take all of it, and may have answered all the same.
    Closed,
}

/// What there is of a body.
enum Next {
    /// Nothing yet.
    Pending,
    Data(Bytes),
    /// Its end, with the fields after it.
    End(HeaderMap),
    Failed,
}

/// A request that is being sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// What of it has been made and not yet written.
    unsent: Vec<u8>,
    body: RequestBody,
    /// Whether the system has taken something of it, so that the backend may have got it.
    is_begun: bool,
}

impl Outgoing {
    pub(crate) fn new(head: &Head, body: RequestBody) -> Self {
        Self { unsent: write_head(head), body, is_begun: false }
    }

    /// Has the client's time for its body begin.
    pub(crate) fn ask_for_body(&self) {
        if let Some(upload) = self.body.upload() {
            upload.ask();
        }
    }

    /// Its body, of which nothing was taken.
    pub(crate) fn take_body(&mut self) -> RequestBody {
        std::mem::take(&mut self.body)
    }

    /// Writes the head alone, before its body is asked for. Whether the backend may have got some of it:
    /// if not all, it has closed, perhaps with an answer.
    pub(crate) async fn send_head(&mut self, writer: &mut OwnedWriteHalf) -> bool {
        if write_all(writer, &mut self.is_begun, [&self.unsent, &[], &[]]).await.is_ok() {
            self.unsent.clear();
        }
        self.is_begun
    }

    /// Writes the head and the body behind it, as it comes from the client.
    ///
    /// # Errors
    /// Either side broke off.
    pub(crate) async fn send(mut self, writer: &mut OwnedWriteHalf) -> Result<(), NotSent> {
        let mut left = self.body.size_hint().exact();
        let mut some = self.is_begun;
        loop {
            // A head must not wait for a body that may wait for an answer to it.
            let next = next(&mut self.body, self.unsent.is_empty()).await;
            let (data, trailers) = match next {
                Next::Pending => (Bytes::new(), None),
                Next::Data(data) => (data, None),
                Next::End(trailers) => (Bytes::new(), Some(trailers)),
                Next::Failed => return Err(NotSent::Body),
            };
            let is_lost = |fields: &&HeaderMap| !some && !fields.is_empty();
            let taken = trailers.as_ref().filter(is_lost).cloned();
            let is_end = trailers.is_some();
            let mut after = Vec::new();
            match &mut left {
                Some(left) => *left = left.checked_sub(data.len() as u64).ok_or(NotSent::Body)?,
                None if !data.is_empty() => {
                    self.unsent.extend_from_slice(format!("{:X}\r\n", data.len()).as_bytes());
                    after.extend_from_slice(b"\r\n");
                }
                None => {}
            }
            if let (None, Some(trailers)) = (left, trailers) {
                write_last_chunk(&trailers, &mut after);
            }
            if write_all(writer, &mut some, [&self.unsent, &data, &after]).await.is_err() {
                if some {
                    return Err(NotSent::Closed);
                }
                let taken = taken.map(Frame::trailers);
                if let Some(frame) = taken.or((!data.is_empty()).then(|| Frame::data(data))) {
                    self.body.put_back(frame);
                }
                return Err(NotSent::Unsent(self.body));
            }
            self.unsent.clear();
            if is_end || (left == Some(0) && self.body.is_end_stream()) {
                return if left.unwrap_or(0) == 0 { Ok(()) } else { Err(NotSent::Body) };
            }
        }
    }
}

/// The next part of a body; unless we `wait` for it, as far as it is there.
async fn next(body: &mut RequestBody, wait: bool) -> Next {
    poll_fn(|context| match Pin::new(&mut *body).poll_frame(context) {
        Poll::Pending if wait => Poll::Pending,
        Poll::Pending => Poll::Ready(Next::Pending),
        Poll::Ready(None) => Poll::Ready(Next::End(HeaderMap::new())),
        Poll::Ready(Some(Err(_))) => Poll::Ready(Next::Failed),
        Poll::Ready(Some(Ok(frame))) => Poll::Ready(match frame.into_data() {
            Ok(data) => Next::Data(data),
            Err(frame) => Next::End(Frame::into_trailers(frame).unwrap_or_default()),
        }),
    })
    .await
}

/// Writes all parts, with as few system calls as it takes, and notes that `some` went out: what the
/// system has taken, the backend may have got, and what it has not, nobody has.
async fn write_all(
    writer: &mut OwnedWriteHalf,
    some: &mut bool,
    parts: [&[u8]; 3],
) -> io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut left = &mut slices[..];
    // Those that are empty would be written as well.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match writer.write_vectored(left).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => IoSlice::advance_slices(&mut left, count),
        }
        *some = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_as_a_server_is_sent_it() {
        for (target, line) in [("/a?b=c", "GET /a?b=c HTTP/1.1\r\n"), ("*", "GET * HTTP/1.1\r\n")] {
            let mut headers = HeaderMap::new();
            headers.append("host", HeaderValue::from_static("a"));
            headers.append("x", HeaderValue::from_bytes(b"\xe9").unwrap());
            headers.append("x", HeaderValue::from_static("z"));
            let head = Head { method: Method::GET, uri: target.parse().unwrap(), headers };
            let fields = b"host: a\r\nx: \xe9\r\nx: z\r\n\r\n";
            assert_eq!(write_head(&head), [line.as_bytes(), fields].concat(), "{target}");
        }
    }
}
