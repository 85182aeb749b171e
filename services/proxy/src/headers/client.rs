//! Who sent a request: what a backend is told of it, and what of the client's own word is believed.

use std::{cell::RefCell, net::IpAddr};

use chassis::access;
use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{HOST, VIA},
};
use ipnet::IpNet;

use super::{is_host, tokens};
use crate::fields::{Fields, is_claim};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What a client that is not trusted may not say of itself ([`is_claim`]), beside `X-Forwarded-For`, as
/// a set.
pub(crate) const HAS_CLAIMS: Fields =
    Fields::OTHER_CLAIM.with(Fields::X_FORWARDED_PROTO).with(Fields::X_FORWARDED_HOST);

/// Longer names than DNS knows (255) are not worth a client's memory.
const REMEMBERED_HOST_MAX: usize = 255;

/// What is the same for all requests of a client, by its address.
#[derive(Debug)]
pub(crate) struct Client {
    peer: IpAddr,
    address: HeaderValue,
    pub(super) is_trusted: bool,
    /// The last `Host` that was found valid: most clients ask for the same one each time, and
    /// comparing costs a tenth of parsing.
    valid_host: RefCell<Option<HeaderValue>>,
}

impl Client {
    pub(crate) fn new(peer: IpAddr, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let address = HeaderValue::try_from(peer.to_string())
            .expect("an address is written in visible ASCII");
        let is_trusted = access::is_within(peer, trusted);
        Self { peer, address, is_trusted, valid_host: RefCell::default() }
    }

    /// Whether connections from this address are its.
    pub(crate) fn is_at(&self, peer: IpAddr) -> bool {
        self.peer == peer.to_canonical()
    }

    /// Whether a `Host` names a host.
    pub(super) fn is_valid_host(&self, host: &HeaderValue) -> bool {
        let mut valid = self.valid_host.borrow_mut();
        if valid.as_ref() == Some(host) {
            return true;
        }
        let is_valid = is_host(host);
        if is_valid && host.len() <= REMEMBERED_HOST_MAX {
            // A copy: the client's own bytes are part of the whole head's, which it would keep.
            *valid = HeaderValue::from_bytes(host.as_bytes()).ok();
        }
        is_valid
    }

    /// Who sent the request: the last address on the way that is not a trusted proxy's. What
    /// stands before it in `X-Forwarded-For` anybody could have written.
    pub(crate) fn origin<'a>(&'a self, headers: &'a HeaderMap, trusted: &[IpNet]) -> &'a [u8] {
        if !self.is_trusted {
            return self.address.as_bytes();
        }
        let is_trusted = |address: &&[u8]| {
            let text = std::str::from_utf8(address).unwrap_or_default();
            text.parse().is_ok_and(|address| access::is_within(address, trusted))
        };
        let told: Vec<&[u8]> = tokens(headers, &X_FORWARDED_FOR).collect();
        told.into_iter()
            .rev()
            .find(|address| !is_trusted(address))
            .unwrap_or(self.address.as_bytes())
    }
}

/// Says who the client is. What it says of itself is believed only of a trusted proxy: anybody
/// could send these headers.
pub(super) fn forward_identity(
    headers: &mut HeaderMap,
    version: Version,
    client: &Client,
    fields: Fields,
) {
    if client.is_trusted && fields.has(Fields::X_FORWARDED_FOR) {
        let forwarded = joined(headers, &client.address);
        headers.insert(X_FORWARDED_FOR, forwarded);
    } else {
        headers.insert(X_FORWARDED_FOR, client.address.clone());
    }
    if !client.is_trusted && fields.has(HAS_CLAIMS) {
        remove_claims(headers);
    }
    if !(fields.has(Fields::X_FORWARDED_PROTO) && headers.contains_key(X_FORWARDED_PROTO)) {
        // What the connection is, not what an absolute target claims.
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !(fields.has(Fields::X_FORWARDED_HOST) && headers.contains_key(X_FORWARDED_HOST))
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    let via = HeaderValue::from_static(match version {
        Version::HTTP_2 => "2.0 evenkeel",
        Version::HTTP_10 => "1.0 evenkeel",
        _ => "1.1 evenkeel",
    });
    headers.append(VIA, via);
}

/// Removes what the client says of itself. `X-Forwarded-For` is ours by now.
fn remove_claims(headers: &mut HeaderMap) {
    let is_its_own = |name: &&HeaderName| is_claim(name.as_str()) && **name != X_FORWARDED_FOR;
    let names: Vec<HeaderName> = headers.keys().filter(is_its_own).cloned().collect();
    names.iter().for_each(|name| drop(headers.remove(name)));
}

/// What `X-Forwarded-For` says on all its lines, and `address` last.
fn joined(headers: &HeaderMap, address: &HeaderValue) -> HeaderValue {
    let mut list = Vec::new();
    for before in headers.get_all(X_FORWARDED_FOR) {
        list.extend_from_slice(before.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(address.as_bytes());
    HeaderValue::from_bytes(&list).unwrap_or_else(|_| address.clone())
}
