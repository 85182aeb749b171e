//! The settings of ejection: `PROXY_EJECT` and all that begins with it.

use balance::EjectionPlan;
use chassis::{settings::Mistakes, units};
use http::StatusCode;

use super::statuses::Statuses;

/// When backends are ejected.
#[derive(Clone, Debug)]
pub struct Ejecting {
    /// The plan of the pool.
    pub plan: EjectionPlan,
    /// Statuses of responses that count as failures.
    statuses: Statuses,
}

impl Ejecting {
    /// Whether a response of this status counts as a failure.
    pub(crate) fn is_failure(&self, status: StatusCode) -> bool {
        // Nearly every response is done here.
        status.as_u16() >= 400 && self.statuses.contains(status)
    }
}

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct EjectionRaw {
    /// Take a backend out for a while when its requests fail, whatever its probes say
    #[arg(long, value_name = "BOOL", default_value = "true")]
    proxy_eject: String,
    /// Failed attempts in a row that eject a backend; 0 is never
    #[arg(long, value_name = "N", default_value = "5")]
    proxy_eject_consecutive: String,
    /// Failing share of a backend's attempts within the window that ejects it; 0% is never
    #[arg(long, value_name = "SHARE", default_value = "50%")]
    proxy_eject_ratio: String,
    /// Attempts within the window below which the failing share says nothing
    #[arg(long, value_name = "N", default_value = "20")]
    proxy_eject_volume: String,
    /// Length of that window
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    proxy_eject_window: String,
    /// Time of a first ejection, give or take 10 %; the n-th takes n times as long, and one is
    /// forgiven for each such time without
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    proxy_eject_time: String,
    /// Longest time of an ejection
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    proxy_eject_time_max: String,
    /// Share of the backends in service that may be out at once
    #[arg(long, value_name = "SHARE", default_value = "50%")]
    proxy_eject_share_max: String,
    /// Backends that must be left to serve, or none is ejected
    #[arg(long, value_name = "N", default_value = "1")]
    proxy_eject_floor: String,
    /// Statuses of responses that count as failures, such as 502-504 or 500,503, or off; failures
    /// to connect, broken connections and timeouts always do
    #[arg(long, value_name = "STATUSES", default_value = "502-504")]
    proxy_eject_status: String,
}

/// A window shorter than this has no room for its ten samples.
const SHORTEST_WINDOW_MS: u64 = 100;

impl EjectionRaw {
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<Ejecting> {
        let is_on = mistakes.parse("proxy_eject", &self.proxy_eject, units::switch);
        let consecutive =
            mistakes.parse("proxy_eject_consecutive", &self.proxy_eject_consecutive, |text| {
                units::whole(text, 0, 1_000_000)
            });
        let ratio = mistakes.parse("proxy_eject_ratio", &self.proxy_eject_ratio, units::share);
        let volume = mistakes.parse("proxy_eject_volume", &self.proxy_eject_volume, |text| {
            units::whole(text, 1, 1_000_000)
        });
        let window = mistakes.parse("proxy_eject_window", &self.proxy_eject_window, |text| {
            units::duration(text)
                .ok()
                .filter(|window| window.as_millis() >= SHORTEST_WINDOW_MS.into())
                .ok_or_else(|| {
                    format!(
                        "a duration of at least {SHORTEST_WINDOW_MS}ms with its unit, such as 10s"
                    )
                })
        });
        let time =
            mistakes.parse("proxy_eject_time", &self.proxy_eject_time, units::positive_duration);
        let time_max = mistakes.parse("proxy_eject_time_max", &self.proxy_eject_time_max, |text| {
            units::positive_duration(text).and_then(|longest| match time {
                Some(first) if longest < first => Err("at least PROXY_EJECT_TIME".to_owned()),
                _ => Ok(longest),
            })
        });
        let pool_share =
            mistakes.parse("proxy_eject_share_max", &self.proxy_eject_share_max, units::share);
        let floor = mistakes.parse("proxy_eject_floor", &self.proxy_eject_floor, |text| {
            units::whole(text, 0, 1_000_000)
        });
        let statuses =
            mistakes.parse("proxy_eject_status", &self.proxy_eject_status, |text| match text {
                "off" => Ok(Statuses::default()),
                text => Statuses::parse(text, 400)
                    .ok_or_else(|| "error statuses such as 502-504 or 500,503, or off".to_owned()),
            });
        let plan = EjectionPlan {
            consecutive: consecutive?,
            ratio: ratio?.get(),
            volume: volume?,
            window: window?,
            time: time?,
            time_max: time_max?,
            pool_share: pool_share?.get(),
            floor: floor? as usize,
        };
        let plan = if is_on? { plan } else { EjectionPlan::off() };
        Some(Ejecting { plan, statuses: statuses? })
    }
}

#[cfg(test)]
mod tests {
    use chassis::settings::{Refusal, load};

    use super::{super::Settings, *};

    fn mistake(name: &str, value: &str) -> String {
        let variables = [(name.to_owned(), value.to_owned())];
        match load::<Settings>(["evenkeel-proxy".into()], variables) {
            Err(Refusal::Mistakes(mistakes)) => mistakes[0].to_string(),
            other => panic!("expected a mistake, got {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_core() {
        let ejecting = Settings::from_variables(&[]).ejecting;
        assert_eq!(ejecting.plan, EjectionPlan::default());
        let fails = |status| ejecting.is_failure(StatusCode::from_u16(status).unwrap());
        assert!(fails(502) && fails(504) && !fails(500) && !fails(200));
    }

    #[test]
    fn it_can_be_switched_off() {
        let ejecting = Settings::from_variables(&[("PROXY_EJECT", "off")]).ejecting;
        assert_eq!(ejecting.plan, EjectionPlan::off());
        let ejecting = Settings::from_variables(&[("PROXY_EJECT_STATUS", "off")]).ejecting;
        assert!(!ejecting.is_failure(StatusCode::BAD_GATEWAY));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let cases = [
            ("PROXY_EJECT", "maybe", "true or false"),
            ("PROXY_EJECT_CONSECUTIVE", "-1", "whole number"),
            ("PROXY_EJECT_RATIO", "0.5", "20%"),
            ("PROXY_EJECT_VOLUME", "0", "from 1"),
            ("PROXY_EJECT_WINDOW", "1ms", "at least 100ms"),
            ("PROXY_EJECT_TIME_MAX", "1s", "at least PROXY_EJECT_TIME"),
            ("PROXY_EJECT_SHARE_MAX", "101%", "20%"),
            ("PROXY_EJECT_STATUS", "200", "502-504"),
            ("PROXY_EJECT_STATUS", "504-502", "502-504"),
        ];
        for (name, value, expected) in cases {
            let mistake = mistake(name, value);
            assert!(mistake.starts_with(name) && mistake.contains(expected), "{mistake}");
        }
    }
}
