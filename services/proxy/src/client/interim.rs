//! Interim responses of a backend, which a client gets before the answer (RFC 9110 §15.2).

use std::rc::Rc;

use http::{HeaderMap, StatusCode};
use hyper::ext::ReasonPhrase;

use super::{http1, streams::Progress};
use crate::headers;

/// Where interim responses go.
#[derive(Debug)]
pub(crate) enum Interim {
    /// To a client of HTTP/1.1.
    Http1(http1::Interim),
    /// To one of HTTP/2, on the stream of its request.
    Http2(Rc<Progress>),
}

impl Interim {
    /// Passes one on. What waits for a client that does not read is bounded; the rest it does without.
    pub(crate) fn send(
        &self,
        status: StatusCode,
        reason: Option<&ReasonPhrase>,
        mut fields: HeaderMap,
    ) {
        headers::prepare_interim(&mut fields);
        match self {
            Self::Http1(interim) => interim.send(status, reason, &fields),
            Self::Http2(progress) => progress.tell(status, fields),
        }
    }
}
