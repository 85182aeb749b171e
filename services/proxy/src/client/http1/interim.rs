//! Interim responses as a client of HTTP/1.1 gets them.

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use hyper::ext::ReasonPhrase;

use super::{answer::write_status, wire::SharedWire};
use crate::http1::write_fields;

/// What may wait for a client that does not read. What comes beyond that it does without.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Where interim responses go.
#[derive(Debug)]
pub(crate) struct Interim(SharedWire);

impl Interim {
    pub(super) fn new(wire: &SharedWire) -> Self {
        Self(wire.clone())
    }

    /// Passes one on.
    pub(in crate::client) fn send(
        &self,
        status: StatusCode,
        reason: Option<&ReasonPhrase>,
        headers: &HeaderMap,
    ) {
        let bytes = write_interim(status, reason, headers);
        let mut wire = self.0.borrow_mut();
        if wire.out.len() + bytes.len() <= WAITING_BYTES_MAX {
            wire.say(&bytes);
        }
    }
}

pub(crate) fn write_interim(
    status: StatusCode,
    reason: Option<&ReasonPhrase>,
    headers: &HeaderMap,
) -> BytesMut {
    let mut bytes = BytesMut::new();
    write_status(&mut bytes, status, reason, true);
    write_fields(headers, &mut bytes);
    bytes.extend_from_slice(b"\r\n");
    bytes
}
