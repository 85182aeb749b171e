//! Who may change something over HTTP.
//!
//! Three dangers: a stranger on the network, a page of another site in the operator's browser
//! (CSRF), and a page of another site whose name was rebound to 127.0.0.1 (DNS rebinding). A
//! token answers the first; comparing `Origin` with `Host` the second; asking that `Host` be a
//! name of this machine, where no token was shown, the third.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use ipnet::IpNet;
use url::{Host, Url};

use crate::{problem::Problem, secret::Secret};

/// Whether a request that changes something comes from a page of another site.
///
/// Browsers send `Sec-Fetch-Site` or `Origin` with such requests; other clients send neither and
/// hold no cookies that could be abused.
#[must_use]
pub fn is_cross_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    is_of_another_name(headers)
}

/// Whether a browser asked for another name than `Host`, as far as it told.
fn is_of_another_name(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = origin.to_str().unwrap_or_default();
    origin.split_once("://").is_none_or(|(_, authority)| authority != host)
}

/// Whether `Host` names this machine by address or as `localhost`. A rebound name does not.
#[must_use]
pub fn host_is_address(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let url = Url::parse(&format!("http://{host}/"));
    match url.as_ref().ok().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    }
}

/// Whether a peer is this machine itself. IPv4 addresses mapped into IPv6, as a dual-stack socket
/// reports them, count as IPv4.
#[must_use]
pub fn is_local(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// Whether a peer is in one of `networks`, mapped as with [`is_local`].
#[must_use]
pub fn is_within(peer: IpAddr, networks: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    networks.iter().any(|network| network.contains(&peer))
}

/// Whom an address belongs to: an IPv6 host has a whole /64 of them (RFC 4291 §2.5.4).
#[must_use]
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

/// Whether something passed this request on: a reverse proxy or a mesh's sidecar on this machine
/// would otherwise make all its clients local.
///
/// nginx as it comes adds none of these headers and sends its own idea of `Host`. A browser behind
/// it gives that away by its `Origin`, whatever `Sec-Fetch-Site` says; for a script nothing does.
#[must_use]
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    ["x-forwarded-for", "forwarded", "via", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name))
        || is_of_another_name(headers)
}

/// The token of an `Authorization: Bearer` header.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Checks a bearer token.
///
/// # Errors
/// 401 with a sentence that says how to send one.
pub fn check_token(headers: &HeaderMap, token: &Secret) -> Result<(), Problem> {
    let detail = match bearer(headers) {
        Some(candidate) if token.matches(candidate) => return Ok(()),
        Some(_) => "this token is not the right one",
        None => "send the token as 'Authorization: Bearer TOKEN'",
    };
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// Checks a request that changes something: with a token configured it must be shown; without,
/// only callers on this machine may change anything.
///
/// # Errors
/// 401 or 403 with a sentence that says what to do.
pub fn check_change(
    peer: IpAddr,
    headers: &HeaderMap,
    token: Option<&Secret>,
) -> Result<(), Problem> {
    if is_cross_site(headers) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "changes from other sites are refused"));
    }
    if let Some(token) = token {
        return check_token(headers, token);
    }
    if is_local(peer) && host_is_address(headers) && !is_forwarded(headers) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "without an admin token, changes are accepted from this machine only: \
         set an admin token to change things from elsewhere",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn changes_are_granted_and_refused_by_caller_and_token() {
        let token = Secret::new("correct-horse").unwrap();
        let here = IpAddr::from([127, 0, 0, 1]);
        let there = IpAddr::from([10, 0, 0, 9]);
        let local = ("host", "localhost:9901");
        let right = ("authorization", "Bearer correct-horse");
        let wrong = ("authorization", "Bearer incorrect-horse");
        let foreign = ("origin", "http://evil.example");
        type Case<'a> = (&'a str, IpAddr, &'a [(&'static str, &'a str)], bool, Option<u16>);
        let behind = ("origin", "https://ops.example");
        let fetched = ("sec-fetch-site", "same-origin");
        let cases: [Case<'_>; 13] = [
            ("no token set, here", here, &[local], false, None),
            ("no token set, here by IPv6", "::1".parse().unwrap(), &[local], false, None),
            ("no token set, mapped", "::ffff:127.0.0.1".parse().unwrap(), &[local], false, None),
            ("no token set, elsewhere", there, &[local], false, Some(403)),
            ("no token set, rebound name", here, &[("host", "evil.example")], false, Some(403)),
            (
                "no token set, through a reverse proxy here",
                here,
                &[local, ("x-forwarded-for", "10.0.0.9")],
                false,
                Some(403),
            ),
            ("no token set, nginx here", here, &[local, behind, fetched], false, Some(403)),
            ("no token set, other site", here, &[local, foreign], false, Some(403)),
            ("token set, none sent, here", here, &[local], true, Some(401)),
            ("token set, wrong one", there, &[local, wrong], true, Some(401)),
            ("token set, right one", there, &[local, right], true, None),
            ("token set, right one, other site", there, &[local, right, foreign], true, Some(403)),
            ("token set, not bearer", there, &[("authorization", "Basic x")], true, Some(401)),
        ];
        for (name, peer, pairs, with_token, refused) in cases {
            let result = check_change(peer, &headers(pairs), with_token.then_some(&token));
            let status = result.err().map(|problem| problem.status().as_u16());
            assert_eq!(status, refused, "{name}");
        }
    }

    #[test]
    fn a_page_of_the_same_origin_is_not_cross_site() {
        let same = [("host", "localhost:8090"), ("origin", "http://localhost:8090")];
        assert!(!is_cross_site(&headers(&same)));
        assert!(is_cross_site(&headers(&[("sec-fetch-site", "same-site")])));
        assert!(is_cross_site(&headers(&[("host", "localhost:8090"), ("origin", "null")])));
    }
}
