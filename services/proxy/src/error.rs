//! What can go wrong with a request: who is at fault, what the client is told, whether to retry.
//!
//! This is the one place that makes status codes. The text of the underlying error goes to the
//! log, never to a client.

use std::io;

use balance::Outcome;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// The system's error at the root of a library's.
pub(crate) fn io_source<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return Some(error);
        }
        source = inner.source();
    }
    None
}

/// Why a request failed. The names are the reason tokens of logs, metrics and `Proxy-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reason {
    /// The client's message is not valid.
    BadRequest,
    /// A method or protocol that we do not forward.
    NotSupported,
    /// The client wants something to be met first that nobody here knows.
    ExpectationFailed,
    /// The client stalled while it sent its request.
    RequestTimeout,
    /// The body's length is unknown, and the backend speaks HTTP/1.0.
    LengthRequired,
    /// The request's target is longer than we take.
    TargetTooLong,
    /// The request's head has more than we take.
    HeadTooLarge,
    /// As many requests are under way as we take, or as we have file descriptors for.
    Overloaded,
    /// The client left, or broke off its request.
    ClientGone,
    /// No backend is up and ready, and none has come back in time.
    NoBackend,
    /// An operator took the backend out just now, and there is no other.
    Draining,
    /// Each backend has as many requests as it may have, or none can serve for the moment, and so
    /// many wait that no more may.
    QueueFull,
    /// Each backend has as many requests as it may have, and no room came in time.
    QueueTimeout,
    /// Nobody listens at the backend's address.
    ConnectRefused,
    /// The backend did not take the connection in time.
    ConnectTimeout,
    /// The connection failed otherwise, such as without a route.
    ConnectFailed,
    /// The connection broke after something was sent and before a response.
    ResetBeforeHeaders,
    /// The connection broke within the response.
    ResetMidBody,
    /// No response in time.
    ResponseTimeout,
    /// The response stalled.
    ReadTimeout,
    /// The backend's response is not valid HTTP.
    ProtocolError,
}

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Whoever sent the request.
    Client,
    /// Whoever should have answered it.
    Backend,
    /// We, for want of a backend.
    Proxy,
}

impl Reason {
    /// All of them.
    pub(crate) const ALL: [Self; 21] = [
        Self::BadRequest,
        Self::NotSupported,
        Self::ExpectationFailed,
        Self::RequestTimeout,
        Self::LengthRequired,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::Overloaded,
        Self::ClientGone,
        Self::NoBackend,
        Self::Draining,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::ResetBeforeHeaders,
        Self::ResetMidBody,
        Self::ResponseTimeout,
        Self::ReadTimeout,
        Self::ProtocolError,
    ];

    /// What an attempt that failed for this reason says of its backend.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::BadRequest
            | Self::NotSupported
            | Self::ExpectationFailed
            | Self::RequestTimeout
            | Self::LengthRequired
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::Overloaded
            | Self::ClientGone
            | Self::NoBackend
            | Self::Draining
            | Self::QueueFull
            | Self::QueueTimeout => Outcome::Unknown,
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectFailed
            | Self::ResetBeforeHeaders
            | Self::ResetMidBody
            | Self::ResponseTimeout
            | Self::ReadTimeout
            | Self::ProtocolError => Outcome::Failure,
        }
    }

    pub(crate) fn token(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotSupported => "not_supported",
            Self::ExpectationFailed => "expectation_failed",
            Self::RequestTimeout => "request_timeout",
            Self::LengthRequired => "length_required",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::Overloaded => "overloaded",
            Self::ClientGone => "client_gone",
            Self::NoBackend => "no_backend",
            Self::Draining => "draining",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::ResetBeforeHeaders => "reset_before_headers",
            Self::ResetMidBody => "reset_mid_body",
            Self::ResponseTimeout => "response_timeout",
            Self::ReadTimeout => "read_timeout",
            Self::ProtocolError => "protocol_error",
        }
    }

    pub(crate) fn source(self) -> Source {
        match self {
            Self::BadRequest
            | Self::NotSupported
            | Self::ExpectationFailed
            | Self::RequestTimeout
            | Self::LengthRequired
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::ClientGone => Source::Client,
            Self::NoBackend
            | Self::Draining
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Overloaded => Source::Proxy,
            _ => Source::Backend,
        }
    }

    /// The status for the client; for one that left, what is recorded.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotSupported => StatusCode::NOT_IMPLEMENTED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Self::ClientGone => client_closed_request(),
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::NoBackend
            | Self::Draining
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimeout | Self::ResponseTimeout | Self::ReadTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::ConnectRefused
            | Self::ConnectFailed
            | Self::ResetBeforeHeaders
            | Self::ResetMidBody
            | Self::ProtocolError => StatusCode::BAD_GATEWAY,
        }
    }

    /// The error type of RFC 9209 §2.3 that comes nearest.
    fn proxy_status_type(self) -> &'static str {
        match self {
            Self::BadRequest
            | Self::NotSupported
            | Self::ExpectationFailed
            | Self::RequestTimeout
            | Self::LengthRequired
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::ClientGone => "http_request_error",
            Self::Overloaded => "connection_limit_reached",
            Self::NoBackend | Self::Draining => "destination_unavailable",
            Self::QueueFull | Self::QueueTimeout => "connection_limit_reached",
            Self::ConnectRefused => "connection_refused",
            Self::ConnectTimeout => "connection_timeout",
            Self::ConnectFailed => "destination_ip_unroutable",
            Self::ResetBeforeHeaders => "connection_terminated",
            Self::ResetMidBody => "http_response_incomplete",
            Self::ResponseTimeout => "http_response_timeout",
            Self::ReadTimeout => "connection_read_timeout",
            Self::ProtocolError => "http_protocol_error",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is not valid HTTP.",
            Self::NotSupported => "This proxy does not forward such requests.",
            Self::ExpectationFailed => "The request expects what this proxy does not know.",
            Self::RequestTimeout => "The request did not arrive in time.",
            Self::LengthRequired => "The request has to say how long its body is.",
            Self::TargetTooLong => "The address is too long.",
            Self::HeadTooLarge => "The request has too many or too long fields.",
            Self::Overloaded => "Too many requests are under way. Please try again in a moment.",
            Self::ClientGone => "The request was broken off.",
            Self::NoBackend | Self::Draining => {
                "No backend can take the request right now. Try again shortly."
            }
            Self::QueueFull | Self::QueueTimeout => {
                "All backends are busy right now. Try again shortly."
            }
            Self::ConnectRefused | Self::ConnectFailed => "The backend cannot be reached.",
            Self::ConnectTimeout => "The backend did not take the connection in time.",
            Self::ResetBeforeHeaders | Self::ResetMidBody => {
                "The backend broke off the connection."
            }
            Self::ResponseTimeout | Self::ReadTimeout => "The backend did not answer in time.",
            Self::ProtocolError => "The backend's answer is not valid HTTP.",
        }
    }
}

/// nginx's code for a client that left, which logs and metrics have adopted; no client sees it.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// Seconds after which trying again makes sense when no backend is up: two probes of a backend
/// that recovers, at the transition interval. When all are busy, sooner would only add to it.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Marks our own answer to a request that ends for what it is, and not for want of a backend: it costs no
/// other client anything. A backend it may have cost a connection, or a part of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndsHere;

/// Our own answer to a request that failed.
pub(crate) fn response(reason: Reason) -> Response<Bytes> {
    let status = match reason {
        // A client that is still there after all broke off only its body.
        Reason::ClientGone => StatusCode::BAD_REQUEST,
        reason => reason.status(),
    };
    let text = format!("{status}\n{} ({})\n", reason.sentence(), reason.token());
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    if reason.source() == Source::Client {
        response.extensions_mut().insert(EndsHere);
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let proxy_status =
        format!("evenkeel; error={}; details=\"{}\"", reason.proxy_status_type(), reason.token());
    if let Ok(value) = HeaderValue::try_from(proxy_status) {
        headers.insert("proxy-status", value);
    }
    match reason {
        Reason::NoBackend
        | Reason::Draining
        | Reason::QueueFull
        | Reason::QueueTimeout
        | Reason::Overloaded => {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        // After a message that we did not understand, the next one cannot be found for sure. Nor after
        // one whose client may keep its body for itself.
        Reason::BadRequest
        | Reason::ExpectationFailed
        | Reason::RequestTimeout
        | Reason::ClientGone => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

/// Our own answer in a backend's stead, to OPTIONS that may go no further (RFC 9110 §7.6.2). It is no
/// failure.
pub(crate) fn last_hop() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.extensions_mut().insert(EndsHere);
    let proxy_status = HeaderValue::from_static("evenkeel; details=\"max_forwards\"");
    response.headers_mut().insert("proxy-status", proxy_status);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_status_and_token() {
        let cases = [
            (Reason::NoBackend, 503, "no_backend"),
            (Reason::QueueFull, 503, "queue_full"),
            (Reason::QueueTimeout, 503, "queue_timeout"),
            (Reason::ConnectRefused, 502, "connect_refused"),
            (Reason::ConnectTimeout, 504, "connect_timeout"),
            (Reason::ResponseTimeout, 504, "response_timeout"),
            (Reason::ProtocolError, 502, "protocol_error"),
            (Reason::BadRequest, 400, "bad_request"),
            (Reason::ExpectationFailed, 417, "expectation_failed"),
        ];
        for (reason, status, token) in cases {
            let response = response(reason);
            assert_eq!(response.status().as_u16(), status);
            let value = response.headers()["proxy-status"].to_str().unwrap();
            assert!(value.contains(&format!("details=\"{token}\"")), "{value}");
        }
    }

    #[test]
    fn without_a_backend_the_client_is_told_when_to_come_back() {
        assert_eq!(response(Reason::NoBackend).headers()[header::RETRY_AFTER], "1");
    }
}
