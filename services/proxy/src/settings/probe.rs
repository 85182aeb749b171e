//! The settings of probes: `PROXY_PROBE` and all that begins with it.

use std::time::Duration;

use chassis::{settings::Mistakes, units};

use super::statuses::Statuses;

/// How backends are probed.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What a probe does.
    pub kind: ProbeKind,
    /// Statuses with which an HTTP probe passes.
    pub(crate) statuses: Statuses,
    /// What the body of an HTTP answer must contain.
    pub body: Option<String>,
    /// Between probes.
    pub interval: Duration,
    /// Of one probe.
    pub timeout: Duration,
    /// Failures in a row that take a backend down.
    pub fall: u32,
    /// Passes in a row that bring it back.
    pub rise: u32,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Opens a connection.
    Tcp,
    /// Asks for this path.
    Http(String),
    /// Asks the gRPC health service about this service; an empty name is the server as a whole.
    Grpc(String),
    /// Nothing: every backend counts as up.
    Off,
}

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct ProbeRaw {
    /// Health probe: tcp (a connection opens), http (a path answers), grpc (the standard health
    /// service answers SERVING, over HTTP/2 without TLS) or off
    #[arg(long, value_name = "KIND", default_value = "tcp")]
    proxy_probe: String,
    /// Path that an HTTP probe asks for
    #[arg(long, value_name = "PATH", default_value = "/readyz")]
    proxy_probe_path: String,
    /// Statuses with which an HTTP probe passes, such as 200-399 or 200,204
    #[arg(long, value_name = "STATUSES", default_value = "200-399")]
    proxy_probe_status: String,
    /// Text that the first 64 KiB of an HTTP probe's answer must contain
    #[arg(long, value_name = "TEXT")]
    proxy_probe_body: Option<String>,
    /// Service that a gRPC probe asks about; without one, the server as a whole
    #[arg(long, value_name = "NAME")]
    proxy_probe_service: Option<String>,
    /// Time between two probes of a backend, give or take 10 %; 500ms while its health changes
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    proxy_probe_interval: String,
    /// Time limit of one probe
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    proxy_probe_timeout: String,
    /// Failed probes in a row that take a backend down
    #[arg(long, value_name = "N", default_value = "3")]
    proxy_probe_fall: String,
    /// Passed probes in a row that bring a backend back
    #[arg(long, value_name = "N", default_value = "2")]
    proxy_probe_rise: String,
}

/// More than a hundred probes a second of one backend are a load, not a check.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Names of gRPC services are short; one byte tells the length of such a one (a protobuf varint).
const SERVICE_LONGEST: usize = 127;

impl ProbeRaw {
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<Probe> {
        let path = mistakes.parse("proxy_probe_path", &self.proxy_probe_path, probe_path);
        let service = self.proxy_probe_service.as_deref().unwrap_or_default();
        let service = mistakes.parse("proxy_probe_service", service, probe_service);
        let kind = mistakes.parse("proxy_probe", &self.proxy_probe, |text| match text {
            "tcp" => Ok(ProbeKind::Tcp),
            "http" => Ok(ProbeKind::Http(path.clone().unwrap_or_default())),
            "grpc" => Ok(ProbeKind::Grpc(service.clone().unwrap_or_default())),
            "off" => Ok(ProbeKind::Off),
            _ => Err("tcp, http, grpc or off".to_owned()),
        });
        let statuses = mistakes.parse("proxy_probe_status", &self.proxy_probe_status, |text| {
            Statuses::parse(text, 100)
                .ok_or_else(|| "statuses such as 200-399 or 200,204".to_owned())
        });
        let interval = mistakes.parse("proxy_probe_interval", &self.proxy_probe_interval, |text| {
            units::duration(text).ok().filter(|interval| *interval >= SHORTEST_INTERVAL).ok_or_else(
                || format!("a duration of {SHORTEST_INTERVAL:?} or more with its unit, such as 2s"),
            )
        });
        let timeout = mistakes.parse(
            "proxy_probe_timeout",
            &self.proxy_probe_timeout,
            units::positive_duration,
        );
        let streak = |text: &str| units::whole(text, 1, 100);
        let fall = mistakes.parse("proxy_probe_fall", &self.proxy_probe_fall, streak);
        let rise = mistakes.parse("proxy_probe_rise", &self.proxy_probe_rise, streak);
        Some(Probe {
            kind: kind?,
            statuses: statuses?,
            body: self.proxy_probe_body.clone(),
            interval: interval?,
            timeout: timeout?,
            fall: fall?,
            rise: rise?,
        })
    }
}

fn probe_path(text: &str) -> Result<String, String> {
    let valid = text.starts_with('/')
        && !text.contains('#')
        && text.parse::<http::uri::PathAndQuery>().is_ok();
    valid.then(|| text.to_owned()).ok_or_else(|| "a path such as /readyz".to_owned())
}

fn probe_service(text: &str) -> Result<String, String> {
    (text.len() <= SERVICE_LONGEST)
        .then(|| text.to_owned())
        .ok_or_else(|| format!("a service's name of at most {SERVICE_LONGEST} bytes"))
}
