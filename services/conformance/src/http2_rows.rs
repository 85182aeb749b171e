//! Clients of HTTP/2 in front of a backend of HTTP/1: what is no request, and what the others become.
//! Sections are those of RFC 9113 unless another one is named.

mod answers;
mod bodies;
mod connections;
mod forwarded;
mod heads;

use crate::{
    http2::frames::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, frame},
    row::{Check, Row, Want},
};

/// Requests that are none. Each is refused on its stream, and the others go on.
#[must_use]
pub fn request_rows() -> Vec<Row> {
    [heads::heads(), heads::refused(), bodies::broken()].concat()
}

/// Frames that no connection can go on after, and some that seem to be such.
#[must_use]
pub fn connection_rows() -> Vec<Row> {
    [connections::ended(), connections::going_on()].concat()
}

/// What must be passed on, changed and left out, both ways.
#[must_use]
pub fn forwarding_rows() -> Vec<Row> {
    [
        forwarded::heads(),
        forwarded::last_hops(),
        bodies::passed_on(),
        answers::expectations(),
        answers::answers(),
        answers::cut(),
    ]
    .concat()
}

type Field = (&'static str, &'static str);

const GET: [Field; 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
const POST: [Field; 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];

/// A request without a body.
fn request(fields: &[Field]) -> Vec<u8> {
    frames::head(END_STREAM, 1, &frames::block(fields))
}

/// A GET with more fields.
fn get(fields: &[Field]) -> Vec<u8> {
    request(&[&GET[..], fields].concat())
}

/// The head of a POST with more fields.
fn post(fields: &[Field]) -> Vec<u8> {
    frames::head(0, 1, &frames::block(&[&POST[..], fields].concat()))
}

/// Fields without a body in frames of no more than so many bytes.
fn in_pieces(block: &[u8], size: usize) -> Vec<u8> {
    let mut pieces = block.chunks(size);
    let mut bytes = frame(HEADERS, END_STREAM, 1, pieces.next().unwrap_or_default());
    pieces.for_each(|piece| bytes.extend(frame(CONTINUATION, 0, 1, piece)));
    [bytes, frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
}

/// A part of a body.
fn data(text: &str) -> Vec<u8> {
    frame(DATA, 0, 1, text.as_bytes())
}

/// The last part of a body.
fn last_data(text: &str) -> Vec<u8> {
    frame(DATA, END_STREAM, 1, text.as_bytes())
}

/// The fields after a body.
fn trailers(fields: &[Field]) -> Vec<u8> {
    frames::head(END_STREAM, 1, &frames::block(fields))
}

/// Frames that are answered 200.
fn served(
    name: &'static str,
    rfc: &'static str,
    frames: impl AsRef<[u8]>,
    checks: Vec<Check>,
) -> Row {
    Row::http2(name, rfc, frames, Want::Served(&[200], checks))
}
