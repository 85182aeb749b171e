//! The time limits of the request path.

use std::time::Duration;

use chassis::{settings::Mistakes, units};

use super::Raw;

/// Time limits of the request path.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To a connection to a backend.
    pub connect: Duration,
    /// From the last byte sent to the response's head.
    pub response: Duration,
    /// The same for one attempt, after which the request is tried elsewhere if it may be.
    pub attempt: Option<Duration>,
    /// Between two reads of a response's body.
    pub read: Duration,
    /// From the first byte of a request's head to its last.
    pub header: Duration,
    /// For a client to make room for more of its response. The kernel tells of room only when about
    /// a third of its buffer is free, so that a steady but very slow reader needs a long one.
    pub write: Duration,
    /// Of a client's connection between two requests.
    pub idle: Duration,
    /// After which an idle client's connection gives its buffers back.
    pub rest: Duration,
    /// Of an upgraded connection on which nothing moves.
    pub tunnel: Duration,
    /// Of a backend's connection between two requests.
    pub upstream_idle: Duration,
}

pub(super) fn timeouts(raw: &Raw, mistakes: &mut Mistakes) -> Option<Timeouts> {
    let mut read = |name, text: &str| mistakes.parse(name, text, units::positive_duration);
    let connect = read("proxy_connect_timeout", &raw.proxy_connect_timeout);
    let response = read("proxy_response_timeout", &raw.proxy_response_timeout);
    let body = read("proxy_read_timeout", &raw.proxy_read_timeout);
    let header = read("proxy_header_timeout", &raw.proxy_header_timeout);
    let write = read("proxy_write_timeout", &raw.proxy_write_timeout);
    let tunnel = read("proxy_tunnel_timeout", &raw.proxy_tunnel_timeout);
    let idle = read("proxy_idle_timeout", &raw.proxy_idle_timeout);
    let rest = read("proxy_rest_after", &raw.proxy_rest_after);
    let upstream_idle = read("proxy_upstream_idle_timeout", &raw.proxy_upstream_idle_timeout);
    let attempt = mistakes.parse("proxy_try_timeout", &raw.proxy_try_timeout, |text| {
        let attempt = units::duration(text)?;
        match response {
            Some(all) if attempt >= all => Err("less than PROXY_RESPONSE_TIMEOUT".to_owned()),
            _ => Ok(Some(attempt).filter(|attempt| !attempt.is_zero())),
        }
    });
    Some(Timeouts {
        connect: connect?,
        response: response?,
        attempt: attempt?,
        read: body?,
        header: header?,
        write: write?,
        idle: idle?,
        rest: rest?,
        tunnel: tunnel?,
        upstream_idle: upstream_idle?,
    })
}
