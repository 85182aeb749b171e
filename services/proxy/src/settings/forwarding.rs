//! The settings of what is passed on: whom to believe, and what not every client can take.

use chassis::{settings::Mistakes, units};
use ipnet::IpNet;

/// What is passed on between clients and backends.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// Networks whose forwarded headers and request ids are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether clients get the interim responses of backends (RFC 9110 §15.2).
    pub interim_responses: bool,
}

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct ForwardingRaw {
    /// Networks of proxies in front whose X-Forwarded-* and X-Request-Id are believed
    #[arg(long, value_name = "CIDRS")]
    proxy_trusted_proxies: Option<String>,
    /// Whether clients get the interim responses of backends, such as 103; false for clients that
    /// take them for the answer
    #[arg(long, value_name = "BOOL", default_value = "true")]
    proxy_interim_responses: String,
}

impl ForwardingRaw {
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<Forwarding> {
        let trusted_proxies = mistakes.parse(
            "proxy_trusted_proxies",
            self.proxy_trusted_proxies.as_deref().unwrap_or_default(),
            units::networks,
        );
        let interim_responses =
            mistakes.parse("proxy_interim_responses", &self.proxy_interim_responses, units::switch);
        Some(Forwarding {
            trusted_proxies: trusted_proxies?,
            interim_responses: interim_responses?,
        })
    }
}
