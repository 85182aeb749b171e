//! What the `hash` policy goes by: which part of a request decides its backend.

use balance::hash_of;
use http::{HeaderMap, HeaderName, Uri, header::COOKIE};
use ipnet::IpNet;

use crate::headers::Client;

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
            Self::Cookie(name) => cookie(headers, name).map(|value| hash_of(value.as_bytes())),
            Self::Path => Some(hash_of(uri.path().as_bytes())),
            Self::Query(name) => parameter(uri.query()?, name).map(|v| hash_of(v.as_bytes())),
        }
    }
}

/// A cookie's value (RFC 6265 §4.2).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().split_once('=').filter(|(found, _)| *found == name))
        .map(|(_, value)| value)
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
    fn other_parts_are_refused_with_what_is_expected() {
        for text in ["", "cookie", "cookie:", "body:x", "header:a b"] {
            assert!(HashKey::parse(text).unwrap_err().contains("cookie:NAME"), "{text}");
        }
    }
}
