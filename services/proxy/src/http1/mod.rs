//! HTTP/1.1 as it is spoken to backends: what is written, and how what comes back is read.
//!
//! A general client runs each connection as a task of its own, and hands requests, responses and
//! each part of a body from one task to the other. A proxy needs none of that: whoever serves the
//! client reads and writes the backend's socket itself. This is why it is ours; bytes are read by
//! `httparse`, the reader that hyper has too.

mod framing;
mod incoming;
mod request;
mod response;

pub(crate) use self::{
    framing::Framing,
    incoming::Incoming,
    request::{Head, NotSent, Outgoing},
    response::{HEAD_BYTES_MAX, ResponseHead, read_head},
};

use http::HeaderName;

/// A message that breaks the rules in a way that leaves open what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Whether a field may come after a body: none that frames or routes the message, or that asks for
/// something which had to be known before (RFC 9110 §6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "expect"
            | "host"
            | "keep-alive"
            | "max-forwards"
            | "proxy-authorization"
            | "proxy-connection"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}
