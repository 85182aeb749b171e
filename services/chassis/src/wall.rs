//! The wall clock: the time since 1970, and how it is written.

use std::time::{Duration, SystemTime};

/// The end of the year 9999: RFC 3339 can write no later moment.
const LAST: Duration = Duration::from_millis(253_402_300_799_999);

/// The time since 1970 by the machine's clock; nothing where that is before.
#[must_use]
pub fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The same in whole milliseconds.
#[must_use]
pub fn millis(since_1970: Duration) -> u64 {
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// A moment so many milliseconds after 1970, as RFC 3339 text.
#[must_use]
pub fn text(millis: u64) -> String {
    let since_1970 = Duration::from_millis(millis).min(LAST);
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since_1970).to_string()
}

/// How many milliseconds after 1970 a moment is that is written so; none of what is no such moment.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let moment = humantime::parse_rfc3339(text).ok()?;
    moment.duration_since(SystemTime::UNIX_EPOCH).ok().map(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_to_the_millisecond() {
        for moment in [0, 1, 1_769_860_800_123, millis(LAST)] {
            assert_eq!(parse(&text(moment)), Some(moment));
        }
        assert_eq!(text(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_moment_since_1970_is_none() {
        for bad in ["", "noon", "1969-12-31T23:59:59Z", "2026-01-31"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
