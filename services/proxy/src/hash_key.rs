//! What the `hash` policy goes by: which part of a request decides its backend.

use std::{fmt, sync::Arc};

use balance::{Policy, PolicyPlan, hash_of};
use http::{HeaderMap, HeaderName, Uri};
use ipnet::IpNet;

use crate::{cookies, headers::Client, worker::Worker};

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// Who sent it; behind trusted proxies, whom they name in `X-Forwarded-For`.
    ClientAddress,
    /// A header's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(String),
    /// The path, without the query.
    Path,
    /// The value of a parameter of the query, as it is written.
    Query(String),
}

impl fmt::Display for HashKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientAddress => formatter.write_str("client_address"),
            Self::Header(name) => write!(formatter, "header:{name}"),
            Self::Cookie(name) => write!(formatter, "cookie:{name}"),
            Self::Path => formatter.write_str("path"),
            Self::Query(name) => write!(formatter, "query:{name}"),
        }
    }
}

impl HashKey {
    /// Parses `client_address`, `header:NAME`, `cookie:NAME`, `path` or `query:NAME`.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let named = text.split_once(':').filter(|(_, name)| !name.is_empty());
        match (text, named) {
            ("client_address", _) => Some(Self::ClientAddress),
            ("path", _) => Some(Self::Path),
            (_, Some(("header", name))) => HeaderName::try_from(name).map(Self::Header).ok(),
            (_, Some(("cookie", name))) => Some(Self::Cookie(name.to_owned())),
            (_, Some(("query", name))) => Some(Self::Query(name.to_owned())),
            _ => None,
        }
        .ok_or_else(|| "client_address, path, header:NAME, cookie:NAME or query:NAME".to_owned())
    }

    /// The key that goes with a policy's `name`: what `wanted` says beside it, or else the one that the
    /// name implies, or the `usual` one. Other proxies' names for hash say what they go by, and a key
    /// that contradicts them is a mistake in one of the two.
    ///
    /// # Errors
    /// The key that was expected.
    pub(crate) fn beside(name: &str, wanted: Option<Self>, usual: &Self) -> Result<Self, String> {
        let Some(part) = part_of(name) else { return Ok(wanted.unwrap_or_else(|| usual.clone())) };
        let is_unsaid = wanted.is_none();
        match (wanted.unwrap_or_else(|| usual.clone()), part) {
            (key, part) if key.part() == part => Ok(key),
            (_, "client_address") if is_unsaid => Ok(Self::ClientAddress),
            (_, "path") if is_unsaid => Ok(Self::Path),
            (_, "client_address" | "path") => {
                Err(format!("{part} beside the policy {name}; hash goes by any key"))
            }
            _ => Err(format!("{part}:NAME beside the policy {name}; hash goes by any key")),
        }
    }

    /// What it begins with when it is written.
    fn part(&self) -> &'static str {
        match self {
            Self::ClientAddress => "client_address",
            Self::Header(_) => "header",
            Self::Cookie(_) => "cookie",
            Self::Path => "path",
            Self::Query(_) => "query",
        }
    }

    /// The key of a request, if it has that part.
    pub(crate) fn of(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        client: &Client,
        trusted: &[IpNet],
    ) -> Option<u64> {
        match self {
            Self::ClientAddress => Some(hash_of(client.origin(headers, trusted))),
            Self::Header(name) => headers.get(name).map(|value| hash_of(value.as_bytes())),
            Self::Cookie(name) => cookies::values(headers, name).next().map(hash_of),
            Self::Path => Some(hash_of(uri.path().as_bytes())),
            Self::Query(name) => parameter(uri.query()?, name).map(|v| hash_of(v.as_bytes())),
        }
    }
}

/// The part of a request that a policy's name says to hash, as other proxies' names do.
fn part_of(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "ip_hash" | "client_ip_hash" | "source" => Some("client_address"),
        "uri_hash" | "uri" => Some("path"),
        "header" => Some("header"),
        "cookie" => Some("cookie"),
        "query" => Some("query"),
        _ => None,
    }
}

/// The part of a request that the pool's plan names, as a worker knows it: read anew only when an
/// operator has changed the plan.
#[derive(Debug, Default)]
pub(crate) struct KnownKey {
    words: Arc<str>,
    key: Option<HashKey>,
}

impl KnownKey {
    fn of(&mut self, plan: &PolicyPlan) -> Option<&HashKey> {
        if !Arc::ptr_eq(&self.words, &plan.hash_key) {
            self.words = Arc::clone(&plan.hash_key);
            self.key = HashKey::parse(&plan.hash_key).ok();
        }
        self.key.as_ref()
    }
}

impl Worker {
    /// The key that a request has for the policy in force, if that goes by one.
    pub(crate) fn key_of(&self, headers: &HeaderMap, uri: &Uri, client: &Client) -> Option<u64> {
        let mut picker = self.picker.borrow_mut();
        let plan = picker.plan();
        if plan.policy != Policy::Hash {
            return None;
        }
        let mut known = self.hash_key.borrow_mut();
        known.of(plan)?.of(headers, uri, client, &self.settings.forwarding.trusted_proxies)
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn key(key: &str, headers: &[(&'static str, &str)], uri: &str) -> Option<u64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let trusted = chassis::units::networks("10.0.0.0/8").unwrap();
        let client = Client::new(IpAddr::from([10, 0, 0, 1]), &trusted);
        HashKey::parse(key).unwrap().of(&map, &uri.parse().unwrap(), &client, &trusted)
    }

    #[test]
    fn each_part_of_a_request_can_be_the_key() {
        let cookies = [("cookie", "a=1; session=xyz"), ("cookie", "b=2")];
        assert_eq!(key("cookie:session", &cookies, "/"), Some(hash_of(b"xyz")));
        assert_eq!(key("cookie:b", &cookies, "/"), Some(hash_of(b"2")));
        assert_eq!(key("header:X-User", &[("x-user", "ada")], "/"), Some(hash_of(b"ada")));
        assert_eq!(key("path", &[], "/a/b?c"), Some(hash_of(b"/a/b")));
        assert_eq!(key("query:user", &[], "/?x=1&user=ada"), Some(hash_of(b"ada")));
        assert_eq!(key("client_address", &[], "/"), Some(hash_of(b"10.0.0.1")));
        // The first is what the client wrote itself, the last a trusted proxy before the one here.
        let forwarded = [("x-forwarded-for", "6.6.6.6, 1.2.3.4"), ("x-forwarded-for", "10.0.0.9")];
        assert_eq!(key("client_address", &forwarded, "/"), Some(hash_of(b"1.2.3.4")));
    }

    #[test]
    fn a_request_without_the_part_has_no_key() {
        for part in ["cookie:session", "header:x-user", "query:user"] {
            assert_eq!(key(part, &[("cookie", "sessions=1")], "/?users=1"), None, "{part}");
        }
    }

    #[test]
    fn a_key_is_written_as_it_is_read() {
        for text in ["client_address", "path", "header:x-user", "cookie:session", "query:user"] {
            assert_eq!(HashKey::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_parts_are_refused_with_what_is_expected() {
        for text in ["", "cookie", "cookie:", "body:x", "header:a b"] {
            assert!(HashKey::parse(text).unwrap_err().contains("cookie:NAME"), "{text}");
        }
    }
}
