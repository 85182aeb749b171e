//! The settings of the bundle: those of each service, made to fit each other.

use std::{collections::BTreeMap, net::SocketAddr};

use chassis::{
    command,
    settings::{self, Mistakes, Refusal},
    telemetry::LogSettings,
    units,
};

use crate::ports;

/// More would only fill the terminal of whoever tries it out.
const SERVERS_MAX: u32 = 100;

/// The valid settings of all services.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The proxy's.
    pub proxy: proxy::settings::Settings,
    /// Those of each server.
    pub servers: Vec<server::Settings>,
    /// The dashboard's.
    pub dashboard: dashboard::Settings,
}

/// The raw text. The services' own variables count too.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub struct Raw {
    /// Servers to start, on ports from SERVER_PORT on
    #[arg(long, value_name = "N", default_value = "3")]
    evenkeel_servers: String,
}

impl settings::Settings for Settings {
    const PROGRAM: &'static str = "evenkeel";
    const ABOUT: &'static str = "Proxy, three servers and dashboard in one process, to try it \
                                 out. The variables of each (PROXY_*, SERVER_*, DASHBOARD_*) count.";
    const PREFIXES: &'static [&'static str] = &["evenkeel_"];
    type Raw = Raw;

    fn parse(raw: Raw, mistakes: &mut Mistakes) -> Option<Self> {
        let count = mistakes.parse("evenkeel_servers", &raw.evenkeel_servers, |text| {
            units::whole(text, 1, SERVERS_MAX)
        });
        // A number that cannot be used hides no mistake in the services' own variables.
        let settings = Self::from_variables(count.unwrap_or(1), command::environment(), mistakes);
        count.and(settings)
    }

    fn health_address(&self) -> SocketAddr {
        settings::Settings::health_address(&self.proxy)
    }

    fn log(&self) -> &LogSettings {
        &self.proxy.log
    }

    fn warnings(env: &[(String, String)]) -> Vec<String> {
        [
            settings::warnings::<Self>(env),
            settings::warnings::<server::Settings>(env),
            settings::warnings::<proxy::settings::Settings>(env),
            settings::warnings::<dashboard::Settings>(env),
        ]
        .concat()
    }
}

impl Settings {
    /// Settings from variables. What is not set is made to fit: the proxy's backends are the
    /// servers, the dashboard looks at the proxy.
    pub fn from_variables(
        servers: u32,
        variables: impl IntoIterator<Item = (String, String)>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        // As each service reads them: in any case, and an empty one is not set.
        let mut variables: BTreeMap<String, String> = variables
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(name, value)| (name.to_uppercase(), value))
            .collect();
        ports::check(&variables, servers, mistakes);
        // Each is loaded even if one before has mistakes, so that all are told at once.
        let is_named = variables.contains_key("SERVER_NAME");
        let first: Option<server::Settings> = load(&variables, mistakes);
        let servers = many(first.unwrap_or_default(), servers, is_named, mistakes);
        let urls: Vec<String> = servers
            .iter()
            .flatten()
            .map(|server| format!("http://localhost:{}", server.port))
            .collect();
        variables.entry("PROXY_BACKENDS".to_owned()).or_insert(urls.join(","));
        let proxy: Option<proxy::settings::Settings> = load(&variables, mistakes);
        if let Some(proxy) = &proxy {
            let mut default = |name: &str, port: u16| {
                let url = format!("http://localhost:{port}");
                variables.entry(name.to_owned()).or_insert(url);
            };
            default("LOAD_BALANCER_URL", proxy.port);
            default("LOAD_BALANCER_ADMIN_URL", proxy.admin_port);
        }
        let dashboard: Option<dashboard::Settings> = load(&variables, mistakes);
        let (proxy, servers, dashboard) = (proxy?, servers?, dashboard?);
        Some(Self { proxy, servers, dashboard })
    }
}

fn load<S: settings::Settings>(
    variables: &BTreeMap<String, String>,
    mistakes: &mut Mistakes,
) -> Option<S> {
    match settings::load::<S>([S::PROGRAM.into()], variables.clone()) {
        Ok(loaded) => Some(loaded.settings),
        Err(Refusal::Mistakes(found)) => {
            mistakes.extend(found);
            None
        }
        Err(Refusal::CommandLine(error)) => {
            mistakes.note(S::PROGRAM, "", error.to_string());
            None
        }
    }
}

/// Servers on ports from the first one's on, with numbered names.
fn many(
    first: server::Settings,
    count: u32,
    is_named: bool,
    mistakes: &mut Mistakes,
) -> Option<Vec<server::Settings>> {
    let name = if is_named { first.name.as_str() } else { "server" };
    if first.port == 0 {
        mistakes.note("server_port", "0", "a port that the proxy can be told before it is open");
        return None;
    }
    let servers: Option<Vec<server::Settings>> = (0..count)
        .map(|index| {
            let port = first.port.checked_add(u16::try_from(index).ok()?)?;
            let name = format!("{name}-{}", index + 1);
            Some(server::Settings { port, name, ..first.clone() })
        })
        .collect();
    if servers.is_none() {
        let port = first.port.to_string();
        mistakes.note("server_port", &port, format!("a port that {} others can follow", count - 1));
    }
    servers
}
