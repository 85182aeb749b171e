//! The bounds on what clients and backends can make the proxy hold or do, by the names that they have in
//! `evenkeel_limits_hit_total`.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, Version, header::COOKIE, request::Parts};

use crate::{error::Reason, settings::Limits};

/// A bound that was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Connections of all clients.
    Connections,
    /// Connections of one client's address.
    ConnectionsPerClient,
    /// Requests under way.
    Requests,
    /// Bytes of a request's head.
    HeaderBytes,
    /// Fields of a request's head.
    Headers,
    /// Bytes of an answer's fields, before its body or after it.
    ResponseHeaderBytes,
    /// Those fields.
    ResponseHeaders,
    /// Bytes of a request's target.
    TargetBytes,
    /// The rate of a request's body.
    UploadRate,
    /// The rate of a response's body.
    DownloadRate,
    /// Bytes that wait for clients, or for backends, which do not take them.
    BufferedBytes,
    /// Requests at once on a connection of HTTP/2.
    Streams,
    /// Streams that a client of HTTP/2 resets.
    Resets,
    /// Frames of HTTP/2 that belong to no request, or add nothing to one.
    ControlFrames,
    /// Header blocks of HTTP/2 without an end, and what its library bounds by itself: streams that are
    /// reset before they are seen, data in tiny frames, malformed streams without end.
    Excess,
}

impl Limit {
    pub(crate) const ALL: [Self; 15] = [
        Self::Connections,
        Self::ConnectionsPerClient,
        Self::Requests,
        Self::HeaderBytes,
        Self::Headers,
        Self::ResponseHeaderBytes,
        Self::ResponseHeaders,
        Self::TargetBytes,
        Self::UploadRate,
        Self::DownloadRate,
        Self::BufferedBytes,
        Self::Streams,
        Self::Resets,
        Self::ControlFrames,
        Self::Excess,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections_per_client",
            Self::Requests => "requests",
            Self::HeaderBytes => "header_bytes",
            Self::Headers => "headers",
            Self::ResponseHeaderBytes => "response_header_bytes",
            Self::ResponseHeaders => "response_headers",
            Self::TargetBytes => "target_bytes",
            Self::UploadRate => "upload_rate",
            Self::DownloadRate => "download_rate",
            Self::BufferedBytes => "buffered_bytes",
            Self::Streams => "http2_streams",
            Self::Resets => "http2_resets",
            Self::ControlFrames => "http2_control_frames",
            Self::Excess => "http2_excess",
        }
    }
}

impl Limits {
    /// Checks a request's head.
    ///
    /// # Errors
    /// What it has too much of, and how to say so.
    pub(crate) fn check(&self, request: &Parts) -> Result<(), (Limit, Reason)> {
        let Parts { method, uri, headers, .. } = request;
        let target = uri.path_and_query().map_or(0, |path| path.as_str().len())
            + uri.authority().map_or(0, |authority| authority.as_str().len());
        if target > self.target_bytes {
            return Err((Limit::TargetBytes, Reason::TargetTooLong));
        }
        // A head of HTTP/1 that is larger is not read.
        if request.version == Version::HTTP_2 {
            let limits = self.of_request();
            // A method is as long as its client likes, there too.
            let method = u32::try_from(method.as_str().len()).unwrap_or(u32::MAX);
            let left = limits.bytes.checked_sub(method).ok_or(limits.too_large());
            let within = left.and_then(|bytes| FieldLimits { bytes, ..limits }.check(headers));
            within.map_err(|limit| (limit, Reason::HeadTooLarge))?;
        }
        Ok(())
    }

    /// What the fields of a request may be.
    pub(crate) fn of_request(&self) -> FieldLimits {
        let (bytes, count) = (self.header_bytes as u32, self.headers as u32);
        FieldLimits { sender: Sender::Client, bytes, count }
    }

    /// What those of its answer may be.
    pub(crate) fn of_response(&self) -> FieldLimits {
        let (bytes, count) = (self.response_header_bytes as u32, self.response_headers as u32);
        FieldLimits { sender: Sender::Backend, bytes, count }
    }
}

/// What the fields of a message may be, those before its body and those after it. With 32 bits, as each
/// request carries them along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldLimits {
    pub(crate) sender: Sender,
    pub(crate) bytes: u32,
    pub(crate) count: u32,
}

#[cfg(test)]
impl FieldLimits {
    /// Those that are usual for a backend.
    pub(crate) const USUAL: Self = Self { sender: Sender::Backend, bytes: 60 * 1024, count: 100 };
}

/// Whose fields they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Backend,
}

impl FieldLimits {
    /// Checks fields of HTTP/2.
    ///
    /// # Errors
    /// The bound that they exceed.
    pub(crate) fn check(&self, fields: &HeaderMap) -> Result<(), Limit> {
        // A client's cookie may come in parts, and is one field (RFC 9113 §8.2.3).
        let parts = || match self.sender {
            Sender::Client => fields.get_all(COOKIE).iter().skip(1).count(),
            Sender::Backend => 0,
        };
        if fields.len() > self.count as usize && fields.len() - parts() > self.count as usize {
            return Err(self.too_many());
        }
        if http2_size(fields) > self.bytes as usize {
            return Err(self.too_large());
        }
        Ok(())
    }

    /// The bound on how many there are.
    pub(crate) fn too_many(&self) -> Limit {
        match self.sender {
            Sender::Client => Limit::Headers,
            Sender::Backend => Limit::ResponseHeaders,
        }
    }

    /// The bound on how much they are.
    pub(crate) fn too_large(&self) -> Limit {
        match self.sender {
            Sender::Client => Limit::HeaderBytes,
            Sender::Backend => Limit::ResponseHeaderBytes,
        }
    }
}

/// Why something of a client's is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// The bound that it exceeds.
    pub(crate) limit: Option<Limit>,
}

impl Refusal {
    /// Of fields that exceed a bound.
    pub(crate) const fn beyond(limit: Limit) -> Self {
        Self { reason: Reason::HeadTooLarge, limit: Some(limit) }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, limit: None }
    }
}

/// What HTTP/2 counts for a field beside its name and value (RFC 9113 §10.5.1, RFC 7541 §4.1).
pub(crate) const HTTP2_FIELD: usize = 32;

/// The size of these fields as HTTP/2 has it.
pub(crate) fn http2_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HTTP2_FIELD).sum()
}

/// How often each bound was hit.
#[derive(Debug, Default)]
pub(crate) struct LimitCounts([AtomicU64; Limit::ALL.len()]);

impl LimitCounts {
    pub(crate) fn hit(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn of(&self, limit: Limit) -> u64 {
        self.0[limit as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn each_limit_has_a_count_of_its_own() {
        let counts = LimitCounts::default();
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| counts.hit(limit));
        }
        let all = Limit::ALL.map(|limit| counts.of(limit));
        assert!(all.iter().copied().eq(1..=Limit::ALL.len() as u64), "{all:?}");
    }

    fn checked(method: &str, fields: &[(&'static str, &str)]) -> Result<(), (Limit, Reason)> {
        let mut limits = Settings::from_variables(&[]).limits;
        (limits.header_bytes, limits.headers) = (1_000, 3);
        let mut request = Request::builder().method(method).version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        limits.check(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_method_of_http_2_counts_as_a_part_of_its_head() {
        assert_eq!(checked(&"A".repeat(960), &[("x", "1")]), Ok(()));
        let too_large = Err((Limit::HeaderBytes, Reason::HeadTooLarge));
        assert_eq!(checked(&"A".repeat(970), &[("x", "1")]), too_large);
        assert_eq!(checked(&"A".repeat(70_000), &[]), too_large);
    }

    /// RFC 9113 §8.2.3.
    #[test]
    fn a_cookie_in_parts_is_one_field() {
        let parts =
            [("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("cookie", "c=3"), ("y", "2")];
        assert_eq!(checked("GET", &parts), Ok(()));
        let too_many = Err((Limit::Headers, Reason::HeadTooLarge));
        assert_eq!(checked("GET", &[&parts[..], &[("z", "3")]].concat()), too_many);
    }
}
