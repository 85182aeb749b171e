//! The settings of discovery: `PROXY_BACKENDS` and whom to ask for names.

use std::net::{IpAddr, SocketAddr};

use chassis::{settings::Mistakes, units};
use url::Url;

use crate::source::{self, Source};

/// Where DNS is served unless something else is said (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// Where backends come from, and how they are found.
#[derive(Clone, Debug)]
pub struct Discovering {
    /// Where the backends come from.
    pub source: Source,
    /// Whom to ask for names; if empty, the system.
    pub name_servers: Vec<SocketAddr>,
    /// The Kubernetes API, if the source needs it.
    pub kubernetes: Option<KubernetesApi>,
}

/// Where the Kubernetes API is, and what is needed to ask it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesApi {
    /// With `http` or `https`, a host, and nothing more.
    pub url: Url,
    /// A file with the token to show.
    pub token_file: Option<String>,
    /// A file with the certificates of whom to believe.
    pub ca_file: Option<String>,
}

/// What every pod has that may ask the API (Kubernetes documentation, "Accessing the Kubernetes
/// API from a Pod").
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct DiscoveryRaw {
    /// Backends: URLs separated by commas (http://host:port; ;weight=3, ;tier=1 or ;backup allowed),
    /// dns://name:port for every address of a name, srv://_http._tcp.name for the targets of its SRV
    /// records, or kubernetes://service.namespace:port for the pods of a Service
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
    /// Kubernetes API to watch, such as http://127.0.0.1:8001 [default: that of the cluster that
    /// this process is a pod of, with its service account]
    #[arg(long, value_name = "URL")]
    proxy_kubernetes_api: Option<String>,
    /// File with the token for the Kubernetes API; read anew for each question
    #[arg(long, value_name = "PATH")]
    proxy_kubernetes_token_file: Option<String>,
    /// File with the CA of the Kubernetes API
    #[arg(long, value_name = "PATH")]
    proxy_kubernetes_ca_file: Option<String>,
}

impl DiscoveryRaw {
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<Discovering> {
        let source = source(&self.proxy_backends, mistakes);
        let name_servers = self.proxy_name_servers.as_deref().unwrap_or_default();
        let name_servers = mistakes.parse("proxy_name_servers", name_servers, name_servers_of);
        let source = source?;
        let kubernetes = match source {
            Source::Kubernetes(_) => {
                Some(self.kubernetes(|name| std::env::var(name).ok(), mistakes)?)
            }
            _ => None,
        };
        Some(Discovering { source, name_servers: name_servers?, kubernetes })
    }

    /// The API that is set, or else that of the cluster, whose place `variable` tells.
    fn kubernetes(
        &self,
        variable: impl Fn(&str) -> Option<String>,
        mistakes: &mut Mistakes,
    ) -> Option<KubernetesApi> {
        let (token_file, ca_file) =
            (self.proxy_kubernetes_token_file.clone(), self.proxy_kubernetes_ca_file.clone());
        if let Some(text) = &self.proxy_kubernetes_api {
            let url = mistakes.parse("proxy_kubernetes_api", text, api_url)?;
            if url.scheme() == "https" && ca_file.is_none() {
                let expected = "PROXY_KUBERNETES_CA_FILE beside an https:// URL";
                mistakes.note("proxy_kubernetes_api", text, expected);
                return None;
            }
            return Some(KubernetesApi { url, token_file, ca_file });
        }
        let of_account = |name: &str| Some(format!("{SERVICE_ACCOUNT}/{name}"));
        let (host, port) =
            (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"));
        let url = host.zip(port).and_then(|(host, port)| {
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            Url::parse(&format!("https://{host}:{port}")).ok()
        });
        let Some(url) = url else {
            let expected = "to run in a pod of the cluster (KUBERNETES_SERVICE_HOST and _PORT are \
                            not set), or PROXY_KUBERNETES_API";
            mistakes.note("proxy_backends", &self.proxy_backends, expected);
            return None;
        };
        Some(KubernetesApi {
            url,
            token_file: token_file.or_else(|| of_account("token")),
            ca_file: ca_file.or_else(|| of_account("ca.crt")),
        })
    }
}

fn api_url(text: &str) -> Result<Url, String> {
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
    };
    Url::parse(text)
        .ok()
        .filter(is_plain)
        .ok_or_else(|| "a URL such as https://10.0.0.1:6443 or http://127.0.0.1:8001".to_owned())
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

fn source(text: &str, mistakes: &mut Mistakes) -> Option<Source> {
    let note = |bad: Vec<source::Bad>| {
        bad.iter().for_each(|bad| mistakes.note("proxy_backends", &bad.entry, &*bad.expected));
    };
    Source::parse(text.trim()).map_err(note).ok()
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

    fn kubernetes(
        variables: &[(&str, &str)],
        [api, token_file, ca_file]: [Option<&str>; 3],
    ) -> Result<KubernetesApi, String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let raw = DiscoveryRaw {
            proxy_backends: "kubernetes://web.shop:http".to_owned(),
            proxy_name_servers: None,
            proxy_kubernetes_api: own(api),
            proxy_kubernetes_token_file: own(token_file),
            proxy_kubernetes_ca_file: own(ca_file),
        };
        let variable = |name: &str| {
            let known = variables.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        };
        let mut mistakes = Mistakes::default();
        raw.kubernetes(variable, &mut mistakes).ok_or_else(|| format!("{mistakes:?}"))
    }

    #[test]
    fn the_api_of_the_cluster_is_found_by_the_variables_and_files_of_a_pod() {
        let variables =
            [("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "6443")];
        let api = kubernetes(&variables, [None; 3]).unwrap();
        assert_eq!(api.url.as_str(), "https://[fd00::1]:6443/");
        assert_eq!(api.token_file, Some(format!("{SERVICE_ACCOUNT}/token")));
        assert_eq!(api.ca_file, Some(format!("{SERVICE_ACCOUNT}/ca.crt")));
        let api = kubernetes(&variables, [None, Some("/token"), Some("/ca")]).unwrap();
        assert_eq!(
            (api.token_file.as_deref(), api.ca_file.as_deref()),
            (Some("/token"), Some("/ca"))
        );
        let error = kubernetes(&[], [None; 3]).unwrap_err();
        assert!(error.contains("KUBERNETES_SERVICE_HOST"), "{error}");
    }

    #[test]
    fn an_api_that_is_named_gets_a_token_only_if_one_is_named_too() {
        let api = kubernetes(&[], [Some("http://127.0.0.1:8001"), None, None]).unwrap();
        assert_eq!((api.token_file, api.ca_file), (None, None));
        let error = kubernetes(&[], [Some("https://127.0.0.1:6443"), None, None]).unwrap_err();
        assert!(error.contains("PROXY_KUBERNETES_CA_FILE"), "{error}");
        for wrong in ["10.0.0.1:6443", "https://a/api", "ftp://a", "https://u@a"] {
            let error = kubernetes(&[], [Some(wrong), None, Some("/ca")]).unwrap_err();
            assert!(error.contains("such as https"), "{wrong}: {error}");
        }
    }
}
