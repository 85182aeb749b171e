//! The settings of how a backend is chosen: `PROXY_POLICY` and `PROXY_HASH_KEY`.

use balance::Policy;
use chassis::settings::Mistakes;

use crate::hash_key::HashKey;

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct PolicyRaw {
    /// Balancing policy: round_robin, least_request, p2c (the less loaded of two), least_time, random,
    /// first or hash; other proxies' names for them too, of which ip_hash, uri_hash, header, cookie and
    /// query say what to hash
    #[arg(long, value_name = "NAME", default_value = "round_robin")]
    proxy_policy: String,
    /// What the hash policy goes by: client_address, path, header:NAME, cookie:NAME or query:NAME
    /// [default: what the policy's name says, or else client_address]
    #[arg(long, value_name = "KEY")]
    proxy_hash_key: Option<String>,
}

impl PolicyRaw {
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<(Policy, HashKey)> {
        let name = self.proxy_policy.trim();
        let policy = mistakes.parse("proxy_policy", name, |name| {
            Policy::from_name(name).ok_or_else(Policy::all_names)
        });
        let given = self.proxy_hash_key.as_deref();
        let key = given.map(|key| mistakes.parse("proxy_hash_key", key, HashKey::parse));
        // Which key it should have been is of no interest where there is none.
        let (policy, key) = (policy?, key.map_or(Some(None), |key| key.map(Some))?);
        HashKey::beside(name, key, &HashKey::ClientAddress)
            .map_err(|expected| {
                mistakes.note("proxy_hash_key", given.unwrap_or_default(), expected);
            })
            .ok()
            .map(|key| (policy, key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, tests::mistakes};

    fn variables<'a>(name: &'a str, key: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
        let key = key.map(|key| ("PROXY_HASH_KEY", key));
        [("PROXY_POLICY", name)].into_iter().chain(key).collect()
    }

    #[test]
    fn a_policy_by_another_proxys_name_hashes_what_that_proxy_would() {
        let cases = [
            ("hash", None, "client_address"),
            ("HRW", None, "client_address"),
            ("consistent", Some("query:user"), "query:user"),
            ("ip_hash", None, "client_address"),
            ("source", None, "client_address"),
            ("uri_hash", None, "path"),
            ("uri", Some("path"), "path"),
            ("header", Some("header:x-user"), "header:x-user"),
            ("cookie", Some("cookie:session"), "cookie:session"),
            ("query", Some("query:user"), "query:user"),
        ];
        for (name, key, expected) in cases {
            let variables = variables(name, key);
            let settings = Settings::from_variables(&variables);
            let found = (settings.policy.as_str(), settings.hash_key.to_string());
            assert_eq!(found, ("hash", expected.to_owned()), "{variables:?}");
        }
    }

    #[test]
    fn a_key_that_is_missing_or_that_the_name_contradicts_is_told_with_both_settings() {
        let cases = [
            ("header", None, "PROXY_HASH_KEY=\"\": expected header:NAME"),
            ("cookie", None, "PROXY_HASH_KEY=\"\": expected cookie:NAME"),
            ("cookie", Some("header:a"), "PROXY_HASH_KEY=\"header:a\": expected cookie:NAME"),
            ("uri_hash", Some("cookie:a"), "PROXY_HASH_KEY=\"cookie:a\": expected path"),
            ("ip_hash", Some("path"), "PROXY_HASH_KEY=\"path\": expected client_address"),
        ];
        for (name, key, expected) in cases {
            let variables = variables(name, key);
            let found = mistakes(&variables);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(expected), "{found:?}");
            assert!(found[0].contains(&format!("the policy {name}")), "{found:?}");
        }
        let both = mistakes(&[("PROXY_POLICY", "magic"), ("PROXY_HASH_KEY", "mood")]);
        assert_eq!(both.len(), 2, "{both:?}");
    }
}
