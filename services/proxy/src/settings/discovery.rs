//! The settings of discovery: `PROXY_BACKENDS` and whom to ask for names.

use std::net::{IpAddr, SocketAddr};

use chassis::{settings::Mistakes, units};

use crate::source::Source;

/// Where DNS is served unless something else is said (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// Where backends come from, and how they are found.
#[derive(Clone, Debug)]
pub struct Discovering {
    /// Where the backends come from.
    pub source: Source,
    /// Whom to ask for names; if empty, the system.
    pub name_servers: Vec<SocketAddr>,
}

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct DiscoveryRaw {
    /// Backends: URLs separated by commas (http://host:port, ;weight=3 allowed), dns://name:port
    /// for every address of a name, or srv://_http._tcp.name for the targets of its SRV records
    #[arg(
        long,
        value_name = "LIST",
        default_value = "http://localhost:8081,http://localhost:8082,http://localhost:8083"
    )]
    proxy_backends: String,
    /// Name servers to ask for the names of backends (IP or IP:port, separated by commas)
    /// [default: the system's]
    #[arg(long, value_name = "LIST")]
    proxy_name_servers: Option<String>,
}

impl DiscoveryRaw {
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<Discovering> {
        let source = mistakes.parse("proxy_backends", &self.proxy_backends, Source::parse);
        let name_servers = self.proxy_name_servers.as_deref().unwrap_or_default();
        let name_servers = mistakes.parse("proxy_name_servers", name_servers, name_servers_of);
        Some(Discovering { source: source?, name_servers: name_servers? })
    }
}

fn name_servers_of(text: &str) -> Result<Vec<SocketAddr>, String> {
    let server = |part: &str| {
        let ip = part.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
        ip.or_else(|_| part.parse::<SocketAddr>()).ok().filter(|server| server.port() != 0)
    };
    units::list(text).map(server).collect::<Option<_>>().ok_or_else(|| {
        "IP addresses such as 10.0.0.2, 127.0.0.1:8600 or [::1]:53, separated by commas".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_addresses_with_or_without_a_port() {
        let servers = name_servers_of("10.0.0.2, 127.0.0.1:8600,::1,[::1]:54").unwrap();
        let expected = ["10.0.0.2:53", "127.0.0.1:8600", "[::1]:53", "[::1]:54"];
        assert_eq!(servers, expected.map(|text| text.parse().unwrap()));
        assert_eq!(name_servers_of(""), Ok(vec![]));
        for wrong in ["localhost", "10.0.0.2:0", "10.0.0.2 10.0.0.3", "http://10.0.0.2"] {
            assert!(name_servers_of(wrong).unwrap_err().contains("IP addresses"), "{wrong}");
        }
    }
}
