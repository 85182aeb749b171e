//! Interim responses of a backend, which a client of HTTP/1.1 gets before the answer (RFC 9110 §15.2).

use bytes::BytesMut;

use super::{answer::write_status, wire::SharedWire};
use crate::{
    headers,
    http1::{ResponseHead, write_fields},
};

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
    pub(crate) fn send(&self, response: ResponseHead) {
        let ResponseHead { status, reason, mut headers, .. } = response;
        headers::prepare_interim(&mut headers);
        let mut bytes = BytesMut::new();
        write_status(&mut bytes, status, reason.as_ref(), true);
        write_fields(&headers, &mut bytes);
        bytes.extend_from_slice(b"\r\n");
        let mut wire = self.0.borrow_mut();
        if wire.out.len() + bytes.len() <= WAITING_BYTES_MAX {
            wire.say(&bytes);
        }
    }
}
