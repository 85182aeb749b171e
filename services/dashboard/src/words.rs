//! Numbers, times and states as people read them.

use std::time::{Duration, SystemTime};

use chassis::wall;

use crate::model::{Admin, Backend, Effective, Health};

/// A number with three significant digits or fewer: `0.42`, `7.3`, `128`, `12.4k`.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 999_950.0 => format!("{:.1}M", value / 1e6),
        value if value >= 9_999.5 => format!("{:.1}k", value / 1e3),
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => trim(format!("{value:.1}")),
        value if value > 0.0 => trim(format!("{value:.2}")),
        _ => "0".to_owned(),
    }
}

fn trim(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A latency in milliseconds with its unit; a dash when nothing was measured.
pub(crate) fn millis(value: Option<f64>) -> String {
    match value {
        Some(value) if value >= 1_000.0 => format!("{} s", number(value / 1_000.0)),
        Some(value) => format!("{} ms", number(value)),
        None => "–".to_owned(),
    }
}

/// A share from 0 to 1 in percent. What is not zero is not shown as zero.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        value if value > 0.0 && value < 0.01 => "<0.01%".to_owned(),
        value if value < 10.0 => format!("{}%", trim(format!("{value:.2}"))),
        value => format!("{value:.0}%"),
    }
}

/// A duration in its largest unit: `12 s`, `3 min`, `2 h`, `5 days`.
pub(crate) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// How long ago an RFC 3339 time was. A time that cannot be read gives nothing; one in the
/// future, by clocks that differ, counts as now.
pub(crate) fn since(time: Option<&str>, now: SystemTime) -> Option<String> {
    let time = humantime::parse_rfc3339(time?).ok()?;
    Some(span(now.duration_since(time).unwrap_or_default()))
}

/// How long ago, as people say it.
pub(crate) fn ago(since: &str) -> String {
    if since == "0 s" { "just now".to_owned() } else { format!("{since} ago") }
}

/// The time of day of an RFC 3339 timestamp, UTC, as far as it is one.
pub(crate) fn clock(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}

/// The same with the day before it, unless that is today, and with the year, unless that is this one.
/// Only between day and time a line may be broken.
pub(crate) fn moment(time: &str, now: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let today = wall::text(wall::millis(now));
    let clock = clock(time);
    let parts = || {
        humantime::parse_rfc3339(time).ok()?;
        let (year, month, day) = (time.get(..4)?, time.get(5..7)?, time.get(8..10)?);
        let month = MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?;
        let day = day.trim_start_matches('0');
        let year = if today.starts_with(year) { String::new() } else { format!("\u{a0}{year}") };
        Some(format!("{day}\u{a0}{month}{year} {clock}"))
    };
    let is_today = time.get(..10).is_some_and(|day| today.starts_with(day));
    if is_today { clock.to_owned() } else { parts().unwrap_or_else(|| clock.to_owned()) }
}

/// A policy's or a state's identifier as words.
pub(crate) fn plain(identifier: &str) -> String {
    // The policies of proxies that differ are words already, and their keys are somebody's names.
    if identifier.contains(" / ") {
        return identifier.to_owned();
    }
    identifier.replace('_', " ")
}

/// `1 backend`, `3 backends`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The tone of something: its colour and shape, never alone but always beside a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Busy,
    Idle,
    Bad,
}

impl Tone {
    /// Its CSS class.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Idle => "idle",
            Self::Bad => "bad",
        }
    }
}

impl Tone {
    /// How much it wants attention, for sorting.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Idle => 1,
            Self::Busy => 2,
            Self::Bad => 3,
        }
    }
}

impl Backend {
    /// The word, the tone and the icon of all that is known of it.
    pub(crate) fn show(&self) -> (&'static str, Tone, &'static str) {
        if !self.opinions.is_empty() && self.serves() {
            return ("Disputed", Tone::Busy, "split");
        }
        if self.is_degraded() {
            return Effective::Degraded.show();
        }
        self.effective.show()
    }
}

impl Effective {
    /// The word, the tone, and the id of the icon.
    pub(crate) fn show(self) -> (&'static str, Tone, &'static str) {
        match self {
            Self::Serving => ("Serving", Tone::Good, "check"),
            Self::Degraded => ("Degraded", Tone::Busy, "low"),
            Self::Checking => ("Checking", Tone::Busy, "clock"),
            Self::Down => ("Down", Tone::Bad, "cross"),
            Self::Draining => ("Draining", Tone::Busy, "drain"),
            Self::Drained => ("Drained", Tone::Idle, "pause"),
            Self::Maint => ("Not ready", Tone::Idle, "stop"),
            Self::Ejected => ("Ejected", Tone::Bad, "eject"),
            Self::Standby => ("Standby", Tone::Idle, "pause"),
            Self::Terminating => ("Leaving", Tone::Idle, "drain"),
            Self::Unknown => ("Unknown", Tone::Busy, "question"),
        }
    }
}

impl Health {
    /// The word, the tone, and the id of the icon.
    pub(crate) fn show(self) -> (&'static str, Tone, &'static str) {
        match self {
            Self::Checking => ("Checking", Tone::Busy, "clock"),
            Self::Up => ("Up", Tone::Good, "check"),
            Self::Degraded => ("Degraded", Tone::Busy, "low"),
            Self::Down => ("Down", Tone::Bad, "cross"),
            Self::Ejected => ("Ejected", Tone::Bad, "eject"),
            Self::Unknown => ("Unknown", Tone::Busy, "question"),
        }
    }
}

impl Admin {
    /// The word on the page.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Drain => "Drain",
            Self::Maint => "Not ready",
            Self::Unknown => "Unknown",
        }
    }

    /// The word in forms and in the admin API.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
            Self::Unknown => "unknown",
        }
    }

    /// What a form may ask for. `not ready` is how people say it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "ready" => Some(Self::Ready),
            "drain" => Some(Self::Drain),
            "maint" | "not ready" => Some(Self::Maint),
            _ => None,
        }
    }
}

/// What is wrong with a backend that does not serve, as the end of a sentence.
pub(crate) fn predicate(backend: &Backend) -> &'static str {
    if !backend.opinions.is_empty() && backend.serves() {
        return "serves on some proxies only";
    }
    if backend.is_degraded() {
        return "is degraded";
    }
    match backend.effective {
        Effective::Serving => "serves",
        Effective::Degraded => "is degraded and spared",
        Effective::Checking => "is being checked",
        Effective::Down => "is down",
        Effective::Draining => "is draining",
        Effective::Drained => "is drained",
        Effective::Maint => "is set not ready",
        Effective::Ejected => "is ejected",
        Effective::Standby => "stands by",
        Effective::Terminating => "is leaving",
        Effective::Unknown => "does not serve",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_honest() {
        for (value, text) in [
            (0.0, "0"),
            (0.4, "0.4"),
            (7.346, "7.35"),
            (12.04, "12"),
            (128.4, "128"),
            (9_999.0, "9999"),
            (12_420.0, "12.4k"),
            (2_500_000.0, "2.5M"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(percent(0.00001), "<0.01%");
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(0.0125), "1.25%");
        assert_eq!(percent(0.334), "33%");
        assert_eq!(millis(Some(1_250.0)), "1.25 s");
        assert_eq!(millis(None), "–");
    }

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let now = humantime::parse_rfc3339("2026-11-23T15:00:00Z").unwrap();
        let told = |time: &str| since(Some(time), now);
        assert_eq!(told("2026-11-23T14:59:48.5Z").as_deref(), Some("11 s"));
        assert_eq!(told("2026-11-23T14:57:00Z").as_deref(), Some("3 min"));
        assert_eq!(told("2026-11-20T14:57:00Z").as_deref(), Some("3 days"));
        assert_eq!(told("2026-11-23T15:00:09Z").as_deref(), Some("0 s"), "clocks that differ");
        assert_eq!(told("yesterday"), None);
        assert_eq!(clock("2026-11-23T14:57:01.250Z"), "14:57:01");
        let told = |time: &str| moment(time, now).replace('\u{a0}', " ");
        assert_eq!(told("2026-11-23T00:00:01.250Z"), "00:00:01");
        assert_eq!(told("2026-11-22T23:59:59Z"), "22 Nov 23:59:59");
        assert_eq!(told("2026-02-03T14:57:01Z"), "3 Feb 14:57:01");
        assert_eq!(told("2025-11-23T14:57:01Z"), "23 Nov 2025 14:57:01");
        assert_eq!(told("2026-13-23 whenever"), "whenever", "as far as it is one");
        assert_eq!(told(""), "");
    }
}
