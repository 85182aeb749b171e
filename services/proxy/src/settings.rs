//! The proxy's settings: the valid type that the raw text of variables and flags (raw.rs) becomes.

mod degraded;
mod discovery;
mod ejection;
mod forwarding;
mod limits;
mod policy;
mod probe;
mod queue;
mod raw;
mod state_file;
mod statuses;
mod sticky;
mod timeouts;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use balance::{MAX_IN_FLIGHT_MAX, Policy};
use chassis::{
    secret::Secret,
    settings::{Mistakes, Settings as _},
    shutdown::StopPlan,
    telemetry::LogSettings,
    token::Token,
    units::{self, Share},
};

pub use self::{
    degraded::Degrading,
    discovery::{Discovering, KubernetesApi},
    ejection::Ejecting,
    forwarding::Forwarding,
    limits::{Http2, Limits},
    probe::{Probe, ProbeKind},
    queue::Queue,
    raw::Raw,
    sticky::Sticky,
    timeouts::Timeouts,
};
use crate::{floor::Floor, hash_key::HashKey};

/// Everything the proxy can be told. See `evenkeel-proxy --help` for what each is for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Traffic port.
    pub port: u16,
    /// Address of the traffic port.
    pub bind: IpAddr,
    /// Admin port.
    pub admin_port: u16,
    /// Address of the admin port.
    pub admin_bind: IpAddr,
    /// How this proxy is called on the page.
    pub name: String,
    /// Worker threads.
    pub workers: usize,
    /// Where the backends come from.
    pub discovering: Discovering,
    /// What is spoken to the backends.
    pub backend_protocol: BackendProtocol,
    /// How a backend is chosen.
    pub policy: Policy,
    /// What the `hash` policy goes by.
    pub hash_key: HashKey,
    /// How visitors are kept on their backends, if they are.
    pub sticky: Option<Sticky>,
    /// How backends are probed.
    pub probe: Probe,
    /// When backends are ejected.
    pub ejecting: Ejecting,
    /// How long backends that come up climb to their weight.
    pub slow_start: Duration,
    /// The share of a tier's weight that must be able to serve, or the next one joins.
    pub tier_min: Share,
    /// How a backend asks to be spared.
    pub degrading: Degrading,
    /// The time limits of the request path.
    pub timeouts: Timeouts,
    /// What clients may do.
    pub limits: Limits,
    /// What a client may do on a connection of HTTP/2.
    pub http2: Http2,
    /// Idle connections kept per backend and worker.
    pub upstream_idle_max: usize,
    /// Requests in flight at a backend, at most.
    pub max_in_flight: Option<u32>,
    /// What happens to requests for which no backend has room, or which nobody can serve.
    pub queue: Queue,
    /// Retries per request after something was sent.
    pub retries: u32,
    /// Retries as a share of the requests.
    pub retry_budget: Share,
    /// The most that a retry on the same backend waits; later ones may wait longer.
    pub retry_backoff: Duration,
    /// What is passed on between clients and backends.
    pub forwarding: Forwarding,
    /// Where operators' changes are kept over a restart.
    pub state_file: Option<String>,
    /// The share of successful requests of which it is recorded why they went where they did.
    pub decisions: Share,
    /// How many backends an operator's change must leave in service.
    pub floor: Floor,
    /// How to stop.
    pub stop: StopPlan,
    /// Needed for changes over the admin API.
    pub admin_token: Option<Token>,
    /// A file to make with a random admin token when the proxy starts, if it does not exist.
    pub admin_token_to_make: Option<String>,
    /// Needed for reading over the admin API.
    pub admin_read_token: Option<Token>,
    /// Where it is written who changed what.
    pub audit_log: Option<String>,
    /// How to log.
    pub log: LogSettings,
}

/// What is spoken to the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge, without TLS.
    Http2,
}

impl chassis::settings::Settings for Settings {
    const PROGRAM: &'static str = "evenkeel-proxy";
    const ABOUT: &'static str = "Spreads HTTP requests over backends, watches their health and \
                                 routes around failures.";
    const PREFIXES: &'static [&'static str] = &["proxy_"];
    type Raw = Raw;

    fn parse(raw: Raw, mistakes: &mut Mistakes) -> Option<Self> {
        let port = mistakes.parse("proxy_port", &raw.proxy_port, units::port);
        let bind = mistakes.parse("proxy_bind", &raw.proxy_bind, units::address);
        let admin_port = mistakes.parse("proxy_admin_port", &raw.proxy_admin_port, units::port);
        let admin_bind = mistakes.parse("proxy_admin_bind", &raw.proxy_admin_bind, units::address);
        let workers = mistakes.parse("proxy_workers", &raw.proxy_workers, workers);
        let discovering = raw.discovery.parse(mistakes);
        let backend_protocol =
            mistakes.parse("proxy_backend_protocol", &raw.proxy_backend_protocol, protocol);
        let policy = raw.policy.parse(mistakes);
        let sticky = raw.sticky.parse(mistakes);
        let upstream_idle_max =
            mistakes.parse("proxy_upstream_idle_max", &raw.proxy_upstream_idle_max, |text| {
                units::whole(text, 0, 100_000)
            });
        let max_in_flight =
            mistakes.parse("proxy_max_in_flight", &raw.proxy_max_in_flight, |text| {
                units::whole(text, 0, MAX_IN_FLIGHT_MAX)
            });
        let queue = raw.queue.parse(mistakes);
        let retries =
            mistakes.parse("proxy_retries", &raw.proxy_retries, |text| units::whole(text, 0, 10));
        let retry_budget =
            mistakes.parse("proxy_retry_budget", &raw.proxy_retry_budget, units::share);
        let retry_backoff =
            mistakes.parse("proxy_retry_backoff", &raw.proxy_retry_backoff, units::duration);
        let forwarding = raw.forwarding.parse(mistakes);
        let decisions = mistakes.parse("proxy_decisions", &raw.proxy_decisions, units::share);
        let floor = mistakes.parse("proxy_floor", &raw.proxy_floor, Floor::parse);
        let stop = StopPlan::parse("proxy_", &raw.proxy_stop_quiet, &raw.proxy_stop_max, mistakes);
        if port.is_some_and(|port| port != 0 && Some(port) == admin_port) {
            mistakes.note(
                "proxy_admin_port",
                &raw.proxy_admin_port,
                "another port than PROXY_PORT",
            );
        }
        let probe = raw.probe.parse(mistakes);
        let slow_start = mistakes.parse("proxy_slow_start", &raw.proxy_slow_start, units::duration);
        let tier_min = mistakes.parse("proxy_tier_min", &raw.proxy_tier_min, units::share);
        let ejecting = raw.ejecting.parse(mistakes);
        let degrading = raw.degrading.parse(mistakes);
        let timeouts = timeouts::timeouts(&raw, mistakes);
        let limits = raw.limits.parse(mistakes);
        let http2 = raw.limits.parse_http2(mistakes);
        let state_file = state_file::parse(raw.proxy_state_file.as_deref(), mistakes);
        let admin_token_to_make = token_to_make(&raw, mistakes);
        let admin_token_file =
            raw.proxy_admin_token_file.as_deref().filter(|_| admin_token_to_make.is_none());
        let admin_token = Token::parse(
            "proxy_admin_token",
            raw.proxy_admin_token.as_deref(),
            admin_token_file,
            mistakes,
        );
        let admin_read_token = Token::parse(
            "proxy_admin_read_token",
            raw.proxy_admin_read_token.as_deref(),
            raw.proxy_admin_read_token_file.as_deref(),
            mistakes,
        );
        let log = LogSettings::parse("proxy_", &raw.proxy_log, &raw.proxy_log_format, mistakes);
        let (policy, hash_key) = policy?;
        Some(Self {
            port: port?,
            bind: bind?,
            admin_port: admin_port?,
            admin_bind: admin_bind?,
            name: raw.proxy_name.unwrap_or_else(chassis::net::host_name),
            workers: workers?,
            discovering: discovering?,
            backend_protocol: backend_protocol?,
            policy,
            hash_key,
            sticky: sticky?,
            probe: probe?,
            ejecting: ejecting?,
            degrading: degrading?,
            slow_start: slow_start?,
            tier_min: tier_min?,
            timeouts: timeouts?,
            limits: limits?,
            http2: http2?,
            upstream_idle_max: upstream_idle_max? as usize,
            max_in_flight: Some(max_in_flight?).filter(|limit| *limit > 0),
            queue: queue?,
            retries: retries?,
            retry_budget: retry_budget?,
            retry_backoff: retry_backoff?,
            forwarding: forwarding?,
            state_file: state_file?,
            decisions: decisions?,
            floor: floor?,
            stop: stop?,
            admin_token,
            admin_token_to_make,
            admin_read_token,
            audit_log: raw.proxy_audit_log,
            log: log?,
        })
    }

    fn health_address(&self) -> SocketAddr {
        chassis::net::reachable(self.admin_bind, self.admin_port)
    }

    fn log(&self) -> &LogSettings {
        &self.log
    }
}

impl Settings {
    /// Makes the admin token's file if that is to be done, and reads it.
    ///
    /// # Errors
    /// The file cannot be made or read.
    pub(crate) fn make_token(mut self) -> std::io::Result<Self> {
        if let Some(path) = self.admin_token_to_make.take() {
            let made = Secret::make_file(&path).and_then(|()| Token::from_file(&path));
            let describe =
                |expected| format!("PROXY_ADMIN_TOKEN_FILE={path:?}: expected {expected}");
            self.admin_token = Some(made.map_err(|e| std::io::Error::other(describe(e)))?);
        }
        Ok(self)
    }

    /// The settings that the given variables make, without the process's own environment: for
    /// tests and for programs that contain a proxy.
    ///
    /// # Panics
    /// If a variable is wrong.
    #[must_use]
    pub fn from_variables(variables: &[(&str, &str)]) -> Self {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match chassis::settings::load::<Self>([Self::PROGRAM.into()], variables) {
            Ok(loaded) => loaded.settings,
            Err(refusal) => panic!("these settings are wrong: {refusal:?}"),
        }
    }
}

fn workers(text: &str) -> Result<usize, String> {
    match units::whole(text, 0, 256)? {
        0 => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        number => Ok(number as usize),
    }
}

fn protocol(text: &str) -> Result<BackendProtocol, String> {
    match text {
        "http1" => Ok(BackendProtocol::Http1),
        "h2c" => Ok(BackendProtocol::Http2),
        _ => Err("http1 or h2c".to_owned()),
    }
}

/// The token file to make at the start. Reading settings must not write anything: `--check` and
/// `healthcheck` read them too.
fn token_to_make(raw: &Raw, mistakes: &mut Mistakes) -> Option<String> {
    let is_wanted =
        mistakes.parse("proxy_admin_token_create", &raw.proxy_admin_token_create, units::switch)?;
    match raw.proxy_admin_token_file.as_deref() {
        None if is_wanted => {
            mistakes.note("proxy_admin_token_create", "true", "PROXY_ADMIN_TOKEN_FILE beside it");
            None
        }
        Some(path) if is_wanted && !Path::new(path).exists() => Some(path.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use chassis::settings::{Refusal, load};

    use super::*;
    use crate::source::Source;

    pub(super) fn mistakes(variables: &[(&str, &str)]) -> Vec<String> {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match load::<Settings>(["evenkeel-proxy".into()], variables) {
            Err(Refusal::Mistakes(mistakes)) => {
                mistakes.into_iter().map(|mistake| mistake.to_string()).collect()
            }
            other => panic!("expected mistakes, got {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let settings = Settings::from_variables(&[]);
        assert_eq!((settings.port, settings.admin_port), (8080, 9901));
        let Source::Static(backends) = &settings.discovering.source else { panic!("not a list") };
        let ids: Vec<&str> = backends.iter().map(|backend| backend.id.as_str()).collect();
        assert_eq!(ids, ["localhost:8081", "localhost:8082", "localhost:8083"]);
        assert_eq!(settings.timeouts.upstream_idle, Duration::from_secs(4));
        assert_eq!(settings.probe.kind, ProbeKind::Tcp);
    }

    #[test]
    fn all_mistakes_are_told_at_once_each_with_its_name() {
        let found = mistakes(&[
            ("PROXY_PORT", "x"),
            ("PROXY_BACKENDS", "x"),
            ("PROXY_PROBE_INTERVAL", "0s"),
            ("PROXY_RETRY_BUDGET", "2"),
            ("PROXY_RETRY_BACKOFF", "25"),
            ("PROXY_MAX_IN_FLIGHT", "many"),
            ("PROXY_QUEUE_MAX", "-1"),
            ("PROXY_QUEUE_TIMEOUT", "0s"),
            ("PROXY_LAST_RESORT_WAIT", "3"),
            ("PROXY_POLICY", "magic"),
            ("PROXY_TRY_TIMEOUT", "30s"),
            ("PROXY_ADMIN_TOKEN", "x"),
            ("PROXY_ADMIN_TOKEN_CREATE", "true"),
            ("PROXY_STATE_FILE", "/"),
        ]);
        let names: Vec<&str> = found.iter().filter_map(|text| text.split('=').next()).collect();
        assert_eq!(
            names,
            [
                "PROXY_PORT",
                "PROXY_BACKENDS",
                "PROXY_POLICY",
                "PROXY_MAX_IN_FLIGHT",
                "PROXY_QUEUE_MAX",
                "PROXY_QUEUE_TIMEOUT",
                "PROXY_LAST_RESORT_WAIT",
                "PROXY_RETRY_BUDGET",
                "PROXY_RETRY_BACKOFF",
                "PROXY_PROBE_INTERVAL",
                "PROXY_TRY_TIMEOUT",
                "PROXY_STATE_FILE",
                "PROXY_ADMIN_TOKEN_CREATE",
                "PROXY_ADMIN_TOKEN",
            ]
        );
    }
}
