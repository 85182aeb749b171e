//! The settings of the server: the one list of names, defaults and help texts.

use std::net::{IpAddr, SocketAddr};

use chassis::{
    net,
    secret::Secret,
    settings::{self, Mistakes},
    shutdown::StopPlan,
    telemetry::LogSettings,
    units,
};

/// Longer names make unreadable tables; 253 is the limit of a DNS name, so a host name always fits.
const NAME_LENGTH_MAX: usize = 253;

/// What the server runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Address to listen on.
    pub bind: IpAddr,
    /// The replica's name, valid as the value of a header.
    pub name: String,
    /// What to show as the version of the service instead of the binary's own.
    pub version_label: Option<String>,
    /// Whether faults may be injected.
    pub faults: bool,
    /// Makes injected faults strike the same requests in each run.
    pub fault_seed: Option<u64>,
    /// What must be shown to change something; without it only callers on this machine may.
    pub admin_token: Option<Secret>,
    /// How to stop.
    pub stop: StopPlan,
    /// How to log.
    pub log: LogSettings,
}

/// The settings as text. Each field is the variable of the same name in capitals.
#[derive(clap::Args, serde::Deserialize)]
pub struct Raw {
    /// Port to listen on
    #[arg(long, value_name = "PORT", default_value = "8081")]
    server_port: String,
    /// Address to listen on; :: is every address, IPv4 included
    #[arg(long, value_name = "IP", default_value = "::")]
    server_bind: String,
    /// Name of this replica, shown in answers and in X-Served-By [default: the host name]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Version to show in answers, to tell a rollout's old and new replicas apart [default: the
    /// binary's version]
    #[arg(long, value_name = "TEXT")]
    server_version_label: Option<String>,
    /// Allow faults to be injected through /admin/faults (true or false)
    #[arg(long, value_name = "BOOL", default_value = "false")]
    server_faults: String,
    /// Whole number that makes injected faults repeatable [default: random]
    #[arg(long, value_name = "N")]
    server_fault_seed: Option<String>,
    /// Token for changes through /admin; without one they are accepted from this machine only
    #[arg(long, value_name = "TOKEN")]
    server_admin_token: Option<String>,
    /// File with the token for changes through /admin
    #[arg(long, value_name = "PATH")]
    server_admin_token_file: Option<String>,
    /// At a stop: stop accepting after this time without a new request
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    server_stop_quiet: String,
    /// At a stop: stop accepting after this time in any case
    #[arg(long, value_name = "DURATION", default_value = "25s")]
    server_stop_max: String,
    /// Log level, or directives such as info,hyper=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    server_log: String,
    /// Log format: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    server_log_format: String,
}

impl settings::Settings for Settings {
    const PROGRAM: &'static str = "evenkeel-server";
    const ABOUT: &'static str =
        "The demo and test backend: identity, echo, delay, streams, WebSocket, injectable faults";
    const PREFIXES: &'static [&'static str] = &["server_"];
    type Raw = Raw;

    fn parse(raw: Raw, mistakes: &mut Mistakes) -> Option<Self> {
        let port = mistakes.parse("server_port", &raw.server_port, units::port);
        let bind = mistakes.parse("server_bind", &raw.server_bind, units::address);
        let name = match &raw.server_name {
            Some(name) => mistakes.parse("server_name", name, header_text),
            None => Some(host_name()),
        };
        let version_label = optional(raw.server_version_label.as_deref(), |label| {
            mistakes.parse("server_version_label", label, header_text)
        });
        let faults = mistakes.parse("server_faults", &raw.server_faults, units::switch);
        let fault_seed = optional(raw.server_fault_seed.as_deref(), |seed| {
            mistakes.parse("server_fault_seed", seed, |text| {
                text.parse().map_err(|_| format!("a whole number from 0 to {}", u64::MAX))
            })
        });
        let admin_token = Secret::parse(
            "server_admin_token",
            raw.server_admin_token.as_deref(),
            raw.server_admin_token_file.as_deref(),
            mistakes,
        );
        let stop =
            StopPlan::parse("server_", &raw.server_stop_quiet, &raw.server_stop_max, mistakes);
        let log = LogSettings::parse("server_", &raw.server_log, &raw.server_log_format, mistakes);
        Some(Self {
            port: port?,
            bind: bind?,
            name: name?,
            version_label: version_label?,
            faults: faults?,
            fault_seed: fault_seed?,
            // A token that could not be read has left a mistake, and a mistake refuses everything.
            admin_token,
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

/// The defaults of the command line, for whoever starts a server without one.
impl Default for Settings {
    fn default() -> Self {
        match settings::load::<Self>(["evenkeel-server".into()], []) {
            Ok(loaded) => loaded.settings,
            Err(refusal) => unreachable!("the defaults above are valid: {refusal:?}"),
        }
    }
}

/// Parses a value that may be missing: outer `None` is a mistake, inner `None` is "not set".
fn optional<T>(value: Option<&str>, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    value.map_or(Some(None), |value| parse(value).map(Some))
}

fn header_text(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if (1..=NAME_LENGTH_MAX).contains(&text.len()) && visible {
        Ok(text.to_owned())
    } else {
        Err(format!("1 to {NAME_LENGTH_MAX} visible ASCII characters"))
    }
}

/// The host name, where a header can carry it.
fn host_name() -> String {
    header_text(&net::host_name()).unwrap_or_else(|_| "server".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chassis::settings::{Refusal, Settings as _, load};

    use super::*;

    fn read(env: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match load::<Settings>(["evenkeel-server".into()], env) {
            Ok(loaded) => Ok(loaded.settings),
            Err(Refusal::Mistakes(all)) => Err(all.into_iter().map(|one| one.name).collect()),
            Err(Refusal::CommandLine(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let settings = Settings::default();
        assert_eq!(settings.port, 8081);
        assert_eq!(settings.health_address().to_string(), "127.0.0.1:8081");
        assert_eq!(settings.name, host_name());
        assert!(!settings.name.is_empty() && !settings.faults && settings.admin_token.is_none());
        assert_eq!(settings.stop.quiet, Duration::from_secs(2));
        assert_eq!(settings.stop.max, Duration::from_secs(25));
    }

    #[test]
    fn a_name_that_no_header_can_carry_is_refused() {
        assert_eq!(read(&[("SERVER_NAME", "replica 1")]).unwrap().name, "replica 1");
        for name in ["größer", "a\tb", "a\nb", &"x".repeat(254)] {
            assert_eq!(read(&[("SERVER_NAME", name)]).unwrap_err(), ["SERVER_NAME"], "{name}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mistakes = read(&[
            ("SERVER_PORT", "x"),
            ("SERVER_BIND", "localhost"),
            ("SERVER_FAULTS", "perhaps"),
            ("SERVER_FAULT_SEED", "-1"),
            ("SERVER_ADMIN_TOKEN", "short"),
            ("SERVER_STOP_QUIET", "30s"),
            ("SERVER_LOG_FORMAT", "xml"),
        ])
        .unwrap_err();
        assert_eq!(
            mistakes,
            [
                "SERVER_PORT",
                "SERVER_BIND",
                "SERVER_FAULTS",
                "SERVER_FAULT_SEED",
                "SERVER_ADMIN_TOKEN",
                "SERVER_STOP_QUIET",
                "SERVER_LOG_FORMAT"
            ]
        );
    }
}
