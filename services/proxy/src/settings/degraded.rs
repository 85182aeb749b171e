//! The settings of backends that ask to be spared: `PROXY_DEGRADED_…`.

use std::time::Duration;

use chassis::{settings::Mistakes, units};
use http::{HeaderMap, HeaderName};

/// How a backend asks to be spared, and for how long that holds.
#[derive(Clone, Debug)]
pub struct Degrading {
    /// The field of a response that says so; its value is the reason.
    header: Option<HeaderName>,
    /// How long it holds.
    pub time: Duration,
}

/// Longer reasons do not help on a page.
const REASON_LONGEST: usize = 200;

impl Degrading {
    /// Takes out the field if it is there, and gives the reason that it names. It is meant for us:
    /// clients need not know how a backend is doing.
    pub(crate) fn take(&self, headers: &mut HeaderMap) -> Option<String> {
        let value = headers.remove(self.header.as_ref()?)?;
        let text = String::from_utf8_lossy(value.as_bytes());
        Some(text.chars().filter(|char| !char.is_control()).take(REASON_LONGEST).collect())
    }
}

/// The raw text.
#[derive(Debug, clap::Args, serde::Deserialize)]
pub(super) struct DegradedRaw {
    /// Response header by which a backend asks to be spared while others serve, in answers to
    /// requests and to HTTP probes; its value is the reason; or off
    #[arg(long, value_name = "NAME", default_value = "x-evenkeel-degraded")]
    proxy_degraded_header: String,
    /// How long that holds unless it is said again
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    proxy_degraded_time: String,
}

impl DegradedRaw {
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<Degrading> {
        let header =
            mistakes.parse(
                "proxy_degraded_header",
                &self.proxy_degraded_header,
                |text| match text {
                    "off" => Ok(None),
                    name => name.parse().map(Some).map_err(|_| {
                        "a header's name such as x-evenkeel-degraded, or off".to_owned()
                    }),
                },
            );
        let time = mistakes.parse(
            "proxy_degraded_time",
            &self.proxy_degraded_time,
            units::positive_duration,
        );
        Some(Degrading { header: header?, time: time? })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Settings, *};

    fn take(setting: &str, name: &'static str, value: &[u8]) -> (Option<String>, usize) {
        let settings = Settings::from_variables(&[("PROXY_DEGRADED_HEADER", setting)]);
        let mut headers = HeaderMap::new();
        headers.insert(name, http::HeaderValue::from_bytes(value).unwrap());
        (settings.degrading.take(&mut headers), headers.len())
    }

    #[test]
    fn the_field_is_taken_out_and_its_value_is_the_reason() {
        let name = "x-evenkeel-degraded";
        assert_eq!(take(name, name, b"cold cache"), (Some("cold cache".to_owned()), 0));
        assert_eq!(take("X-Envoy-Degraded", "x-envoy-degraded", b""), (Some(String::new()), 0));
        assert_eq!(take("off", name, b"cold cache"), (None, 1));
        assert_eq!(take(name, "etag", b"x"), (None, 1));
        let (long, _) = take(name, name, &[b'a'; 5_000]);
        assert_eq!(long.unwrap().len(), REASON_LONGEST);
        assert_eq!(take(name, name, b"a\tb\xFF").0.as_deref(), Some("ab\u{FFFD}"));
    }
}
