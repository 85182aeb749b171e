//! The command line, with hard bounds: a load that runs by itself must end by itself.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, value_parser};
use hyper::{Method, Uri};

/// The longest load; an acceptance suite has minutes, not hours.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(10 * 60);
/// How long a load lasts when neither time nor number is given.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// About what one core sends in the longest load.
const REQUESTS_MAX: u64 = 5_000_000;

/// Sends HTTP requests, never repeats one, and prints as JSON how each of them ended.
///
/// Exits with 0 if there were answers and each was complete and 2xx, 1 if not, 64 for bad
/// arguments.
#[derive(Debug, Parser)]
#[command(name = "evenkeel-load", version)]
pub(crate) struct Options {
    /// Where to send, such as http://localhost:8080/; several take turns
    #[arg(long = "url", required = true, value_parser = url)]
    pub(crate) urls: Vec<Uri>,
    /// Requests in flight at once, each on its own connection
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u16).range(1..=1000))]
    pub(crate) concurrency: u16,
    /// Stop sending after this time, at most 10m [default: 10s, or 10m with --requests]
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Stop after this many requests
    #[arg(long, value_parser = value_parser!(u64).range(1..=REQUESTS_MAX))]
    pub(crate) requests: Option<u64>,
    /// Requests per second; latency then counts from when each was due, so that a stall shows
    #[arg(long, value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: Option<u32>,
    /// Method of the requests; they have no body
    #[arg(long, default_value = "GET")]
    pub(crate) method: Method,
    /// Open a connection for each request instead of keeping them
    #[arg(long)]
    pub(crate) new_connections: bool,
    /// Give up on a request after this time, from connecting to the last byte
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Stop when this file exists
    #[arg(long)]
    pub(crate) stop_file: Option<PathBuf>,
    /// Write a line a second to standard error
    #[arg(long)]
    pub(crate) progress: bool,
}

impl Options {
    pub(crate) fn duration(&self) -> Duration {
        let default = if self.requests.is_some() { DURATION_MAX } else { DURATION_DEFAULT };
        self.duration.unwrap_or(default)
    }
}

fn url(text: &str) -> Result<Uri, String> {
    text.parse::<Uri>()
        .ok()
        .filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some_and(|h| !h.is_empty()))
        .ok_or_else(|| "expected a URL such as http://localhost:8080/".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| !duration.is_zero() && *duration <= DURATION_MAX)
        .ok_or_else(|| "expected a duration above 0 and at most 10m, such as 250ms".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(format!("evenkeel-load {arguments}").split_whitespace())
    }

    #[test]
    fn a_load_always_has_an_end() {
        let options = read("--url http://h/").unwrap();
        assert_eq!(options.duration(), DURATION_DEFAULT);
        let options = read("--url http://h/ --requests 10").unwrap();
        assert_eq!(options.duration(), DURATION_MAX);
        let options = read("--url http://h/ --requests 10 --duration 1s").unwrap();
        assert_eq!(options.duration(), Duration::from_secs(1));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for bad in [
            "",
            "--url localhost:80",
            "--url https://h/",
            "--url http://h/ --duration 11m",
            "--url http://h/ --duration 0s",
            "--url http://h/ --requests 0",
            "--url http://h/ --requests 5000001",
            "--url http://h/ --concurrency 1001",
            "--url http://h/ --rate 0",
            "--url http://h/ --timeout 5",
        ] {
            assert!(read(bad).is_err(), "{bad:?} was taken");
        }
    }
}
