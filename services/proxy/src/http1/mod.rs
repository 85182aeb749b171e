//! HTTP/1.1 as it is spoken to backends: what is written, and how what comes back is read. What is
//! spoken to clients is in `client::http1`; where bodies end is the same for both.
//!
//! A general client runs each connection as a task of its own, and hands requests, responses and
//! each part of a body from one task to the other. A proxy needs none of that: whoever serves the
//! client reads and writes the backend's socket itself. This is why it is ours; bytes are read by
//! `httparse`, the reader that hyper has too.

mod extension;
mod framing;
mod incoming;
mod named;
mod request;
mod response;
pub(crate) mod room;

pub(crate) use self::{
    framing::Framing,
    incoming::Incoming,
    named::Named,
    request::{Head, NotSent, Outgoing, write_field, write_fields, write_head, write_last_chunk},
    response::{ResponseHead, has_body, read_head},
};

use http::HeaderName;

use crate::{fields::is_claim, limits::Limit};

/// A message that breaks the rules in a way that leaves open what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Why a message is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Invalid,
    /// Its fields exceed this bound.
    Beyond(Limit),
}

impl From<Invalid> for Unfit {
    fn from(_: Invalid) -> Self {
        Self::Invalid
    }
}

/// Whether a field may come after a body: none that frames or routes the message, that asks for
/// something which had to be known before (RFC 9110 §6.5.1), or that says who the client is, which a
/// server that puts trailers among the headers would believe.
pub(crate) fn may_trail(name: &HeaderName) -> bool {
    let has_no_place = matches!(
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
            | "http2-settings"
            | "keep-alive"
            | "max-forwards"
            | "proxy-authorization"
            | "proxy-connection"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "via"
            | "x-request-id"
    );
    !has_no_place && !is_claim(name.as_str())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    /// RFC 9110 §6.5.
    #[test]
    fn of_the_fields_after_a_body_those_go_on_that_may_stand_there() {
        let trailers = [("x-sum", "1"), ("x-sum", "2"), ("host", "b"), ("x-mine", "3")];
        let trailers =
            trailers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let mut written = Vec::new();
        write_last_chunk(&HeaderMap::from_iter(trailers), &mut written);
        assert_eq!(written, b"0\r\nx-sum: 1\r\nx-sum: 2\r\nx-mine: 3\r\n\r\n");
    }
}
