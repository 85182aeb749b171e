//! The dashboard's settings.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use chassis::{
    net,
    secret::Secret,
    settings::{Mistakes, Settings as ServiceSettings},
    shutdown::StopPlan,
    telemetry::LogSettings,
    token::Token,
    units,
};
use ipnet::IpNet;
use url::Url;

/// The port of the proxy's admin API, on the host of `LOAD_BALANCER_URL`.
const ADMIN_PORT: u16 = 9901;

/// The word in `DASHBOARD_TRUSTED_CLIENTS` that stands for the container's default gateway.
const GATEWAY: &str = "gateway";

/// Valid settings of the dashboard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The port to listen on; 0 lets the system choose.
    pub port: u16,
    /// The address to listen on.
    pub bind: IpAddr,
    /// Where clients reach the proxy: shown on the page.
    pub load_balancer_url: Url,
    /// The admin APIs of the proxies; each name stands for all its addresses.
    pub admin_urls: Vec<Url>,
    /// Whether they were set, rather than made of `load_balancer_url`.
    pub admin_url_is_set: bool,
    /// Where the admin token comes from.
    pub token: TokenSource,
    /// Needed to read the page, if it is set; the admin token does as well.
    pub read_token: Option<Token>,
    /// How often the proxy is asked, and the shortest time between two live updates.
    pub interval: Duration,
    /// Whether clients on this machine may change things without signing in.
    pub trust_local: bool,
    /// Networks whose clients may do so, too.
    pub trusted_clients: Vec<IpNet>,
    /// Whether the default gateway of this container is such a client too.
    pub trust_gateway: bool,
    /// Show the table in this terminal instead of serving the page.
    pub text: bool,
    /// How to stop.
    pub stop: StopPlan,
    /// How to log.
    pub log: LogSettings,
}

/// Where the admin token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// None: a proxy on the same machine accepts changes without one.
    None,
    /// It was given.
    Given(Secret),
    /// In a file that is read at each use: the proxy may make it after we started, or replace it.
    File(PathBuf),
}

impl TokenSource {
    /// The token as it is now.
    ///
    /// # Errors
    /// A sentence for whoever set the dashboard up.
    pub fn read(&self) -> Result<Option<Secret>, String> {
        match self {
            Self::None => Ok(None),
            Self::Given(secret) => Ok(Some(secret.clone())),
            Self::File(path) => {
                let name = path.to_string_lossy();
                Secret::from_file(&name).map(Some).map_err(|expected| {
                    format!("LOAD_BALANCER_ADMIN_TOKEN_FILE={name}: expected {expected}")
                })
            }
        }
    }
}

/// The settings as text: one field per environment variable and flag.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub struct Raw {
    /// Port of the page
    #[arg(long, value_name = "PORT", default_value = "8090")]
    dashboard_port: String,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "::")]
    dashboard_bind: String,
    /// Where clients reach the proxy
    #[arg(long, value_name = "URL", default_value = "http://localhost:8080")]
    load_balancer_url: String,
    /// The proxy's admin API, if not on port 9901 of the same host; several proxies are found by
    /// all addresses of the name, or as a list of URLs
    #[arg(long, value_name = "URLS")]
    load_balancer_admin_url: Option<String>,
    /// Admin token of the proxy, for changes; also signs in on the page
    #[arg(long, value_name = "TOKEN")]
    load_balancer_admin_token: Option<String>,
    /// File with the admin token; read at each use, so it may be made or replaced later
    #[arg(long, value_name = "FILE")]
    load_balancer_admin_token_file: Option<String>,
    /// Token that reading the page, its feed and its JSON needs, in a sign-in or as bearer; the admin
    /// token does as well, and whoever may change things without one. Without it everybody may read
    /// who reaches the page, whatever the proxy asks of its own readers
    #[arg(long, value_name = "TOKEN")]
    dashboard_read_token: Option<String>,
    /// File with the token for reading; a new one takes effect at once
    #[arg(long, value_name = "FILE")]
    dashboard_read_token_file: Option<String>,
    /// How often the proxy is asked
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    dashboard_interval: String,
    /// Clients that may change things without signing in, besides this machine: networks such as
    /// 10.0.0.0/8, and 'gateway' for this container's default gateway, from which connections to
    /// a port published by Docker arrive; publish it on 127.0.0.1 only
    #[arg(long, value_name = "NETWORKS")]
    dashboard_trusted_clients: Option<String>,
    /// Whether clients on this machine may change things without signing in; false where a reverse
    /// proxy runs here that says of no request that it passed it on, as nginx unless it is told to
    #[arg(long, value_name = "BOOL", default_value = "true")]
    dashboard_trust_local: String,
    /// Show the table of backends in this terminal, live, instead of serving the page; once where
    /// standard output is no terminal
    #[arg(long, value_name = "BOOL", default_value = "false", num_args = 0..=1, default_missing_value = "true")]
    dashboard_text: String,
    /// When stopping: stop accepting after this long without a request
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    dashboard_stop_quiet: String,
    /// When stopping: stop accepting after this long in any case
    #[arg(long, value_name = "DURATION", default_value = "25s")]
    dashboard_stop_max: String,
    /// What is logged: error, warn, info, debug, trace or directives
    #[arg(long, value_name = "FILTER", default_value = "info")]
    dashboard_log: String,
    /// Shape of log lines: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    dashboard_log_format: String,
}

impl ServiceSettings for Settings {
    const PROGRAM: &'static str = "evenkeel-dashboard";
    const ABOUT: &'static str = "The operator's page: every backend live, and the controls to take one out and bring it \
         back";
    const PREFIXES: &'static [&'static str] = &["dashboard_", "load_balancer_"];
    type Raw = Raw;

    fn parse(raw: Raw, mistakes: &mut Mistakes) -> Option<Self> {
        let port = mistakes.parse("dashboard_port", &raw.dashboard_port, units::port);
        let bind = mistakes.parse("dashboard_bind", &raw.dashboard_bind, units::address);
        let url = mistakes.parse("load_balancer_url", &raw.load_balancer_url, units::http_url);
        let admin_urls = match &raw.load_balancer_admin_url {
            Some(text) => mistakes.parse("load_balancer_admin_url", text, admin_urls),
            None => url.clone().map(|url| vec![at_admin_port(url)]),
        };
        let token = token(&raw, mistakes);
        let read_token = Token::parse(
            "dashboard_read_token",
            raw.dashboard_read_token.as_deref(),
            raw.dashboard_read_token_file.as_deref(),
            mistakes,
        );
        let interval = mistakes.parse("dashboard_interval", &raw.dashboard_interval, |text| {
            // Faster than the eye is only load; slower than the history's slots leaves holes.
            units::duration(text)
                .ok()
                .filter(|time| (Duration::from_millis(50)..=Duration::from_secs(60)).contains(time))
                .ok_or_else(|| "a duration from 50ms to 60s".to_owned())
        });
        let trusted = mistakes.parse(
            "dashboard_trusted_clients",
            raw.dashboard_trusted_clients.as_deref().unwrap_or_default(),
            trusted_clients,
        );
        let trust_local =
            mistakes.parse("dashboard_trust_local", &raw.dashboard_trust_local, units::switch);
        let text = mistakes.parse("dashboard_text", &raw.dashboard_text, units::switch);
        let stop = StopPlan::parse(
            "dashboard_",
            &raw.dashboard_stop_quiet,
            &raw.dashboard_stop_max,
            mistakes,
        );
        let log = LogSettings::parse(
            "dashboard_",
            // Lines of the log would tear the table; what is wrong stands above it.
            if text == Some(true) { "off" } else { &raw.dashboard_log },
            &raw.dashboard_log_format,
            mistakes,
        );
        let (trusted_clients, trust_gateway) = trusted?;
        Some(Self {
            port: port?,
            bind: bind?,
            load_balancer_url: url?,
            admin_urls: admin_urls?,
            admin_url_is_set: raw.load_balancer_admin_url.is_some(),
            token: token?,
            read_token,
            interval: interval?,
            trust_local: trust_local?,
            trusted_clients,
            trust_gateway,
            text: text?,
            stop: stop?,
            log: log?,
        })
    }

    fn health_address(&self) -> SocketAddr {
        net::reachable(self.bind, self.port)
    }

    fn log(&self) -> &LogSettings {
        &self.log
    }
}

fn at_admin_port(mut url: Url) -> Url {
    // Fails only for URLs without a host, which `units::http_url` does not give.
    let _ = url.set_port(Some(ADMIN_PORT));
    url
}

fn admin_urls(text: &str) -> Result<Vec<Url>, String> {
    let urls: Vec<Url> = units::list(text).map(units::http_url).collect::<Result<_, _>>()?;
    if urls.is_empty() {
        Err("a URL such as http://localhost:9901, or several".to_owned())
    } else {
        Ok(urls)
    }
}

fn token(raw: &Raw, mistakes: &mut Mistakes) -> Option<TokenSource> {
    let name = "load_balancer_admin_token";
    match (&raw.load_balancer_admin_token, &raw.load_balancer_admin_token_file) {
        (None, None) => Some(TokenSource::None),
        (None, Some(file)) => Some(TokenSource::File(PathBuf::from(file))),
        (value, file) => {
            Secret::parse(name, value.as_deref(), file.as_deref(), mistakes).map(TokenSource::Given)
        }
    }
}

fn trusted_clients(text: &str) -> Result<(Vec<IpNet>, bool), String> {
    let (gateway, networks): (Vec<&str>, Vec<&str>) =
        units::list(text).partition(|part| *part == GATEWAY);
    let networks = units::networks(&networks.join(","))
        .map_err(|expected| format!("{expected}; or the word {GATEWAY}"))?;
    Ok((networks, !gateway.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chassis::settings::{Refusal, load};

    fn read(env: &[(&str, &str)]) -> Result<Settings, String> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match load::<Settings>(["evenkeel-dashboard".into()], env) {
            Ok(loaded) => Ok(loaded.settings),
            Err(Refusal::CommandLine(error)) => Err(error.to_string()),
            Err(Refusal::Mistakes(mistakes)) => {
                Err(mistakes.iter().map(|mistake| format!("{mistake}\n")).collect())
            }
        }
    }

    #[test]
    fn the_admin_api_is_found_from_the_load_balancers_url_alone() {
        let first = |settings: Settings| settings.admin_urls[0].to_string();
        assert_eq!(first(read(&[]).unwrap()), "http://localhost:9901/");
        let elsewhere = read(&[("LOAD_BALANCER_URL", "http://[::1]:80")]).unwrap();
        assert_eq!(first(elsewhere), "http://[::1]:9901/");
        let told = read(&[("LOAD_BALANCER_ADMIN_URL", "http://proxy:7000")]).unwrap();
        assert_eq!(first(told), "http://proxy:7000/");
        let several = read(&[("LOAD_BALANCER_ADMIN_URL", "http://a:1, http://b:2")]).unwrap();
        assert_eq!(several.admin_urls.len(), 2);
    }

    #[test]
    fn trusted_clients_are_networks_and_the_word_gateway() {
        let settings = read(&[("DASHBOARD_TRUSTED_CLIENTS", "gateway, 10.0.0.0/8")]).unwrap();
        assert!(settings.trust_gateway);
        assert_eq!(settings.trusted_clients, ["10.0.0.0/8".parse().unwrap()]);
        assert!(!read(&[]).unwrap().trust_gateway && read(&[]).unwrap().trust_local);
        assert!(!read(&[("DASHBOARD_TRUST_LOCAL", "false")]).unwrap().trust_local);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let told = read(&[
            ("DASHBOARD_PORT", "many"),
            ("DASHBOARD_INTERVAL", "1ms"),
            ("DASHBOARD_TRUSTED_CLIENTS", "everybody"),
            ("DASHBOARD_TRUST_LOCAL", "perhaps"),
            ("LOAD_BALANCER_ADMIN_URL", "proxy:9901"),
            ("LOAD_BALANCER_ADMIN_TOKEN", "short"),
            ("DASHBOARD_READ_TOKEN", "brief"),
        ])
        .unwrap_err();
        assert_eq!(told.lines().count(), 7, "{told}");
        for secret in ["short", "brief"] {
            assert!(!told.contains(secret), "a secret is not shown: {told}");
        }
        // Unlike the admin token, which the proxy may make later: without it the page would be open.
        let missing = read(&[("DASHBOARD_READ_TOKEN_FILE", "/does/not/exist")]).unwrap_err();
        assert!(missing.contains("DASHBOARD_READ_TOKEN_FILE=\"/does/not/exist\""), "{missing}");
        assert!(told.contains("the word gateway"));
    }

    #[test]
    fn a_token_file_that_is_not_there_yet_is_no_mistake() {
        let path = std::env::temp_dir().join(format!("evenkeel-late-{}", std::process::id()));
        let name = path.to_str().unwrap();
        let settings = read(&[("LOAD_BALANCER_ADMIN_TOKEN_FILE", name)]).unwrap();
        assert!(settings.token.read().unwrap_err().contains(name));
        std::fs::write(&path, "correct-horse\n").unwrap();
        assert!(settings.token.read().unwrap().unwrap().matches("correct-horse"));
        std::fs::remove_file(path).unwrap();
    }
}
