//! Where the backends come from, as `PROXY_BACKENDS` says it.

use std::fmt;

use balance::{BackendId, WEIGHT_MAX};
use chassis::units;
use url::{Host, Url};

/// The lowest tier of a list. Nobody needs as many; it is a number that one sees to be a mistake.
const TIER_MAX: u32 = 9;

/// Where backends come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A list.
    Static(Vec<StaticBackend>),
    /// Every address of a name.
    Dns {
        /// The name.
        name: String,
        /// The port on each address.
        port: u16,
    },
    /// Every target of a name's SRV records.
    Srv {
        /// The name, such as `_http._tcp.web.example`.
        name: String,
    },
    /// The pods of a Service.
    Kubernetes(Service),
}

/// A Service of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The port of its pods.
    pub port: ServicePort,
}

/// A port of a Service's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePort {
    /// By its number at the pods.
    Number(u16),
    /// By the name that the Service gives it.
    Name(String),
}

/// A backend of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticBackend {
    /// Its name in the API: `host:port`.
    pub id: BackendId,
    /// Host name or address to look up.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Its share of the traffic relative to the others.
    pub weight: u32,
    /// How much it is wanted, 0 most.
    pub tier: u16,
}

impl Source {
    /// Parses `PROXY_BACKENDS`.
    ///
    /// # Errors
    /// What was expected, for each entry that is something else.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Bad>> {
        let parts: Vec<&str> = units::list(text).collect();
        let one =
            |parsed: Result<Self, String>| parsed.map_err(|expected| Bad::all_of(text, expected));
        if let [part] = parts[..] {
            match part.split_once("://") {
                Some(("dns", rest)) => return one(dns(rest)),
                Some(("srv", rest)) => return one(srv(rest)),
                Some(("kubernetes", rest)) => return one(kubernetes(rest)),
                _ => {}
            }
        }
        let mut backends: Vec<StaticBackend> = Vec::new();
        let mut bad = Vec::new();
        for part in parts {
            let backend = static_backend(part).and_then(|backend| {
                let is_known = backends.iter().any(|other| other.id == backend.id);
                let twice = || format!("each backend once; {} is there twice", backend.id);
                if is_known { Err(twice()) } else { Ok(backend) }
            });
            match backend {
                Ok(backend) => backends.push(backend),
                Err(expected) => bad.push(Bad { entry: part.to_owned(), expected }),
            }
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        if backends.is_empty() {
            let expected = "at least one URL such as http://host:8081, or dns://name:port";
            return Err(Bad::all_of(text, expected.to_owned()));
        }
        Ok(Self::Static(backends))
    }

    /// Its kind, as the admin API names it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Static(_) => "static",
            Self::Dns { .. } => "dns",
            Self::Srv { .. } => "srv",
            Self::Kubernetes(_) => "kubernetes",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(backends) => write!(formatter, "a list of {}", backends.len()),
            Self::Dns { name, port } => write!(formatter, "dns://{name}:{port}"),
            Self::Srv { name } => write!(formatter, "srv://{name}"),
            Self::Kubernetes(Service { name, namespace, port }) => {
                write!(formatter, "kubernetes://{name}.{namespace}:{port}")
            }
        }
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Name(name) => name.fmt(formatter),
        }
    }
}

/// An entry that is no backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) entry: String,
    pub(crate) expected: String,
}

impl Bad {
    fn all_of(text: &str, expected: String) -> Vec<Self> {
        vec![Self { entry: text.to_owned(), expected }]
    }
}

fn dns(rest: &str) -> Result<Source, String> {
    let expected = || "dns://name:port, alone, such as dns://server:8081".to_owned();
    let url = Url::parse(&format!("http://{rest}")).map_err(|_| expected())?;
    let port = url.port().or_else(|| rest.ends_with(":80").then_some(80)).ok_or_else(expected)?;
    let is_plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    match url.host() {
        Some(Host::Domain(name))
            if is_plain && url.username().is_empty() && port != 0 && is_host(name) =>
        {
            Ok(Source::Dns { name: name.to_owned(), port })
        }
        _ => Err(expected()),
    }
}

fn srv(name: &str) -> Result<Source, String> {
    // RFC 1035 §2.3.4; and hosts' letters with the underscores of RFC 2782.
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_plain)
    };
    let is_name =
        name.len() <= 253 && name.strip_suffix('.').unwrap_or(name).split('.').all(is_label);
    is_name.then(|| Source::Srv { name: name.to_ascii_lowercase() }).ok_or_else(|| {
        "srv://name, alone and without a port (its records have it), such as \
         srv://_http._tcp.web.example"
            .to_owned()
    })
}

fn kubernetes(rest: &str) -> Result<Source, String> {
    // Names of Kubernetes: those of RFC 1123, and of ports those of RFC 6335.
    let is_label = |label: &str, longest: usize| {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=longest).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let port = |text: &str| match text.parse() {
        Ok(number) => (number != 0).then_some(ServicePort::Number(number)),
        Err(_) => {
            let is_name = is_label(text, 15) && text.bytes().any(|b| b.is_ascii_lowercase());
            is_name.then(|| ServicePort::Name(text.to_owned()))
        }
    };
    let service = || {
        let (host, of_pods) = rest.split_once(':')?;
        let (name, namespace) = host.split_once('.')?;
        let are_labels = is_label(name, 63) && is_label(namespace, 63);
        let (name, namespace) = (name.to_owned(), namespace.to_owned());
        are_labels.then_some(Service { name, namespace, port: port(of_pods)? })
    };
    service().map(Source::Kubernetes).ok_or_else(|| {
        "kubernetes://service.namespace:port, alone, with the number or name of the pods' port, \
         such as kubernetes://web.shop:8080 or kubernetes://web.shop:http"
            .to_owned()
    })
}

/// Whether a name can stand in a list: an address may have what ends one in other letters, such as `%2C`.
fn is_host(name: &str) -> bool {
    !name.contains([',', ';'])
}

fn static_backend(text: &str) -> Result<StaticBackend, String> {
    let mut parts = text.split(';').map(str::trim);
    let address = parts.next().unwrap_or_default();
    let url = units::http_url(address).map_err(|_| match address.split_once("://") {
        Some((scheme @ ("dns" | "srv" | "kubernetes"), _)) => {
            format!("one {scheme}:// alone, or only http:// URLs")
        }
        Some(("https", _)) => "http:// URLs; https:// is not supported".to_owned(),
        _ => format!("URLs such as http://host:8081, where {address:?} is none"),
    })?;
    let (mut weight, mut tier) = (None, None);
    for option in parts {
        let before = match option.split_once('=').map_or((option, "1"), |pair| pair) {
            ("weight", number) if option != "weight" => {
                weight.replace(whole(option, number, WEIGHT_MAX)?)
            }
            ("tier", number) if option != "tier" => tier.replace(whole(option, number, TIER_MAX)?),
            // As nginx and HAProxy say it.
            ("backup", _) if option == "backup" => tier.replace(1),
            _ => return Err(format!(";weight=, ;tier= or ;backup behind a URL, not ;{option}")),
        };
        if before.is_some() {
            return Err(format!("one weight and one tier for each URL; {address} has more"));
        }
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    if !is_host(host) {
        return Err(format!("URLs of hosts, where {address:?} names none"));
    }
    if port == 0 {
        return Err(format!("URLs with a port, where {address} has 0"));
    }
    Ok(StaticBackend {
        id: BackendId::new(&format!("{host}:{port}")),
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        weight: weight.unwrap_or(1),
        // No larger than TIER_MAX.
        tier: tier.unwrap_or(0) as u16,
    })
}

fn whole(option: &str, number: &str, most: u32) -> Result<u32, String> {
    units::whole(number, 0, most)
        .map_err(|_| format!("a whole number from 0 to {most}, not ;{option}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_read_in_each_form() {
        let list = Source::parse("http://a:1;weight=3, http://[::1]:2").unwrap();
        let Source::Static(backends) = list else { panic!("not a list") };
        assert_eq!((backends[0].host.as_str(), backends[0].weight), ("a", 3));
        assert_eq!((backends[1].host.as_str(), backends[1].id.as_str()), ("::1", "[::1]:2"));
        let tiers = "http://a:1, http://b:1;weight=2;tier=3, http://c:1;backup;weight=0";
        let Source::Static(backends) = Source::parse(tiers).unwrap() else { panic!("not a list") };
        let read: Vec<_> = backends.iter().map(|backend| (backend.weight, backend.tier)).collect();
        assert_eq!(read, [(1, 0), (2, 3), (0, 1)]);
        let dns = Source::Dns { name: "server".to_owned(), port: 8081 };
        assert_eq!(Source::parse("dns://server:8081"), Ok(dns));
        let srv = Source::parse("srv://_HTTP._tcp.web.example.").unwrap();
        assert_eq!(srv, Source::Srv { name: "_http._tcp.web.example.".to_owned() });
        assert_eq!(
            (srv.kind(), srv.to_string().as_str()),
            ("srv", "srv://_http._tcp.web.example.")
        );
        for (text, port) in [
            ("kubernetes://web.shop:8080", ServicePort::Number(8080)),
            ("kubernetes://web.shop:http", ServicePort::Name("http".to_owned())),
        ] {
            let (name, namespace) = ("web".to_owned(), "shop".to_owned());
            let source = Source::parse(text).unwrap();
            assert_eq!(source, Source::Kubernetes(Service { name, namespace, port }));
            assert_eq!((source.kind(), source.to_string().as_str()), ("kubernetes", text));
        }
        assert_eq!(Source::parse("dns://x:80"), Ok(Source::Dns { name: "x".to_owned(), port: 80 }));
    }

    #[test]
    fn bad_backends_are_refused_with_the_reason() {
        let cases = [
            ("", "at least one"),
            ("localhost:8081", "none"),
            ("https://a:1", "https:// is not supported"),
            ("kubernetes://a.b:1,http://a:1", "alone"),
            ("kubernetes://a:1", "service.namespace:port"),
            ("kubernetes://a.b", "service.namespace:port"),
            ("kubernetes://a.b:0", "service.namespace:port"),
            ("kubernetes://a.b:65536", "service.namespace:port"),
            ("kubernetes://a.b.svc.cluster.local:1", "service.namespace:port"),
            ("kubernetes://a.b/c:1", "service.namespace:port"),
            ("kubernetes://A.b:1", "service.namespace:port"),
            ("kubernetes://a.b:-x", "service.namespace:port"),
            ("http://a:1,http://a:1", "twice"),
            ("http://a:1;weight=1000", "0 to 256"),
            ("http://a:1;size=2", "not ;size=2"),
            ("http://a:1;weight", "not ;weight"),
            ("http://a:1;backup=2", "not ;backup=2"),
            ("http://a:1;tier=10", "0 to 9, not ;tier=10"),
            ("http://a:1;weight=1;weight=2", "one weight"),
            ("http://a:1;tier=2;backup", "one tier"),
            ("http://a:0", "has 0"),
            ("http://a:1/#x", "none"),
            ("http://a%2Cb:1", "none"),
            ("http://a%3Bb:1", "none"),
            ("dns://a%2Cb:1", "dns://name:port"),
            ("dns://u@a:80", "dns://name:port"),
            ("dns://server", "dns://name:port"),
            ("dns://a:1,dns://b:1", "alone"),
            ("srv://", "srv://name"),
            ("srv://_http._tcp.web:80", "without a port"),
            ("srv://_http..web", "srv://name"),
            ("srv://a b", "srv://name"),
            ("srv://_http._tcp.web/", "srv://name"),
            ("srv://a,http://b:1", "alone"),
        ];
        for (text, expected) in cases {
            let bad = Source::parse(text).unwrap_err();
            assert!(bad[0].expected.contains(expected), "{text}: {bad:?}");
        }
    }

    #[test]
    fn every_bad_entry_is_told_and_no_good_one() {
        let bad =
            Source::parse("ftp://a:1, http://b:1, http://b:1;weight=x, http://c:0").unwrap_err();
        let entries: Vec<&str> = bad.iter().map(|bad| bad.entry.as_str()).collect();
        assert_eq!(entries, ["ftp://a:1", "http://b:1;weight=x", "http://c:0"]);
    }
}
