//! Values as people write them in settings: `250ms`, `64KiB`, `20%`, a port, a list of networks.
//!
//! Each parser answers with the valid value or with what would have been expected, in words that
//! follow "expected".

use std::{fmt, net::IpAddr, time::Duration};

use ipnet::IpNet;
use url::Url;

/// A share between 0 and 1, written `20%`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// The share as a number from 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}%", self.0 * 100.0)
    }
}

/// A share such as `20%` (0 % to 100 %).
///
/// # Errors
/// What was expected.
pub fn share(text: &str) -> Result<Share, String> {
    text.strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok())
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| Share(percent / 100.0))
        .ok_or_else(|| "a share from 0% to 100%, such as 20%".to_owned())
}

/// A TCP port; 0 lets the system choose one.
///
/// # Errors
/// What was expected.
pub fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a port number from 0 to 65535".to_owned())
}

/// A duration such as `250ms`, `2s`, `1m 30s`. More than a day is taken for a slip.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| *duration <= DAY)
        .ok_or_else(|| "a duration of at most a day with its unit, such as 250ms or 2s".to_owned())
}

/// A duration greater than zero, where zero would mean "at once" and never work.
///
/// # Errors
/// What was expected.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| {
        "a duration greater than 0 and of at most a day with its unit, such as 250ms or 2s"
            .to_owned()
    })
}

/// A size in bytes such as `64KiB`.
///
/// # Errors
/// What was expected.
pub fn size(text: &str) -> Result<usize, String> {
    text.parse::<bytesize::ByteSize>()
        .ok()
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .ok_or_else(|| "a size such as 64KiB or 1MiB".to_owned())
}

/// A whole number within bounds.
///
/// # Errors
/// What was expected.
pub fn whole(text: &str, least: u32, most: u32) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("a whole number from {least} to {most}"))
}

/// `true` or `false`; also `on`, `off`, `yes`, `no`, `1` and `0`.
///
/// # Errors
/// What was expected.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

/// An IP address to listen on, such as `127.0.0.1`, `0.0.0.0` or `::` (all, both families).
///
/// # Errors
/// What was expected.
pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "an IP address such as 127.0.0.1, 0.0.0.0 or ::".to_owned())
}

/// An `http://` URL with a host; no path, query or user.
///
/// # Errors
/// What was expected.
pub fn http_url(text: &str) -> Result<Url, String> {
    Url::parse(text)
        .ok()
        .filter(|url| {
            url.scheme() == "http"
                && url.has_host()
                && url.username().is_empty()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.path() == "/"
        })
        .ok_or_else(|| "a URL such as http://localhost:8080".to_owned())
}

/// Networks in CIDR notation or single addresses, separated by commas.
///
/// # Errors
/// What was expected.
pub fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    list(text)
        .map(|part| part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)))
        .collect::<Result<_, _>>()
        .map_err(|_| "networks such as 10.0.0.0/8,192.168.1.7, separated by commas".to_owned())
}

/// The non-empty parts of a list separated by commas.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(share("20%").map(Share::get), Ok(0.2));
        assert_eq!(whole("3", 1, 10), Ok(3));
        assert_eq!(switch("On"), Ok(true));
        assert_eq!(networks("10.0.0.0/8, ::1").map(|networks| networks.len()), Ok(2));
        assert_eq!(http_url("http://localhost:8080").map(|url| url.port()), Ok(Some(8080)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_was_expected() {
        assert!(duration("5").unwrap_err().contains("unit"));
        assert!(duration("3 days").is_err());
        for out_of_bounds in ["0s", "48h"] {
            let expected = positive_duration(out_of_bounds).unwrap_err();
            assert!(expected.contains("greater than 0 and of at most a day"), "{expected}");
        }
        assert!(share("120%").is_err() && share("0.2").is_err() && share("NaN%").is_err());
        assert!(whole("11", 1, 10).unwrap_err().contains("1 to 10"));
        assert!(port("65536").is_err());
        assert!(networks("10.0.0.0/40").is_err());
        for url in
            ["localhost:8080", "https://x", "http://", "http://u@h", "http://h/path", "http://h/#x"]
        {
            assert!(http_url(url).is_err(), "{url}");
        }
    }
}
