//! The fields that a message's `Connection` names: they concern this connection only, after a body as well
//! as before it (RFC 9110 §7.6.1).
//!
//! Those before it are taken out once, with the others of a connection (headers.rs). Those after it come
//! when nobody looks at the head any more, so that their names have to be kept till then.

use http::HeaderName;

/// Nobody names so many; who does gets none of the fields after a body through. A head has room for tens
/// of thousands, which each of those would have to be compared with.
const NAMED_MAX: usize = 16;

/// Names of fields, as far as they have been heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named(Vec<HeaderName>);

impl Named {
    /// Takes note of a member of `Connection`.
    pub(crate) fn hear(&mut self, member: &[u8]) {
        // What nearly all of them are, and no field after a body.
        let is_usual = |usual: &[u8]| member.eq_ignore_ascii_case(usual);
        let usual: [&[u8]; 4] = [b"close", b"keep-alive", b"upgrade", b"te"];
        if self.0.len() <= NAMED_MAX
            && !usual.into_iter().any(is_usual)
            && let Ok(name) = HeaderName::from_bytes(member)
        {
            self.0.push(name);
        }
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        self.0.len() > NAMED_MAX || self.0.contains(name)
    }
}
