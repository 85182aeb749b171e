//! Which of the fields that a proxy acts on a message has.
//!
//! Looking a field up in a `HeaderMap` hashes its name. A request that has none of them, as most do,
//! would pay that some twenty times to learn that there is nothing to do; one walk over the three
//! to fifteen fields that it does have costs less than two look-ups.

use http::HeaderMap;

/// A set of field names. A name that is not in it is not in the message; one that is may have been
/// removed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields(u16);

impl Fields {
    pub(crate) const CONNECTION: Self = Self(1);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 1);
    pub(crate) const TE: Self = Self(1 << 2);
    pub(crate) const EXPECT: Self = Self(1 << 3);
    pub(crate) const UPGRADE: Self = Self(1 << 4);
    pub(crate) const X_FORWARDED_FOR: Self = Self(1 << 5);
    pub(crate) const X_FORWARDED_PROTO: Self = Self(1 << 6);
    pub(crate) const X_FORWARDED_HOST: Self = Self(1 << 7);
    pub(crate) const X_REQUEST_ID: Self = Self(1 << 8);
    /// What a client might claim of itself, beside the above.
    pub(crate) const OTHER_CLAIM: Self = Self(1 << 9);
    /// What concerns one connection only, beside the above.
    pub(crate) const OTHER_HOP: Self = Self(1 << 10);

    /// Walks over a message's fields once.
    pub(crate) fn among(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self(0), |fields, name| fields.with(Self::of(name.as_str())))
    }

    fn of(name: &str) -> Self {
        match name {
            "connection" => Self::CONNECTION,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "te" => Self::TE,
            "expect" => Self::EXPECT,
            "upgrade" => Self::UPGRADE,
            "x-forwarded-for" => Self::X_FORWARDED_FOR,
            "x-forwarded-proto" => Self::X_FORWARDED_PROTO,
            "x-forwarded-host" => Self::X_FORWARDED_HOST,
            "x-request-id" => Self::X_REQUEST_ID,
            "keep-alive" | "http2-settings" | "proxy-connection" => Self::OTHER_HOP,
            name if is_claim(name) => Self::OTHER_CLAIM,
            _ => Self(0),
        }
    }

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of `names` is in it.
    pub(crate) const fn has(self, names: Self) -> bool {
        self.0 & names.0 != 0
    }
}

/// Whether a field says who sent a request, or how: what a client says of itself there is not to be
/// believed. Programs that get fields as CGI's variables (RFC 3875 §4.1.18) cannot tell `_` from `-`.
pub(crate) fn is_claim(name: &str) -> bool {
    const BEGINNING: &str = "x-forwarded-";
    let reads_as = |name: &str, known: &str| {
        let mut both = name.bytes().zip(known.bytes());
        both.all(|(byte, known)| byte == known || (byte, known) == (b'_', b'-'))
    };
    match name.as_bytes() {
        b"forwarded" => true,
        [b'x', ..] => match name.len() {
            9 => reads_as(name, "x-real-ip"),
            12 => reads_as(name, "x-request-id") && name != "x-request-id",
            length => length > BEGINNING.len() && reads_as(name, BEGINNING),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::http1::may_trail;

    fn fields(name: &HeaderName) -> Fields {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static("x"));
        Fields::among(&headers)
    }

    /// Were one forgotten here, it would be passed on, and after a body it is no better than before it.
    #[test]
    fn every_field_that_is_removed_is_seen() {
        for name in crate::headers::HOP_BY_HOP {
            assert!(fields(&name).has(crate::headers::HAS_HOP_BY_HOP), "{name}");
            assert!(!may_trail(&name), "{name}");
        }
        for name in ["forwarded", "x-real-ip", "x-forwarded-proto", "x-forwarded-host"]
            .into_iter()
            .chain(["x-forwarded-port", "x-forwarded-prefix", "x_forwarded_for", "x_real-ip"])
            .chain(["x_request_id"])
        {
            let name = HeaderName::from_static(name);
            assert!(fields(&name).has(crate::headers::HAS_CLAIMS), "{name}");
            assert!(is_claim(name.as_str()), "{name}");
            assert!(!may_trail(&name), "{name}");
        }
    }

    #[test]
    fn a_message_without_any_has_none() {
        assert_eq!(fields(&http::header::HOST), Fields(0));
        assert_eq!(Fields::among(&HeaderMap::new()), Fields(0));
    }
}
