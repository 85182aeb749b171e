//! Reading a change that somebody sends: what changes of all things have in common.

use std::time::Duration;

use balance::SaidAt;
use chassis::problem::Problem;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::clock;

/// In characters. Longer reasons do not help on a page; the whole log of a day does not belong here.
const REASON_LONGEST: usize = 500;

/// How long an override may last. A day is too short for maintenance over a weekend, or for parts that
/// take a fortnight to come. What is to hold for longer than a month is no override but how things are
/// by now, which takes a change without an end; and thirty years are a slip for thirty minutes.
const TTL_MOST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How far the clock of whoever says something may be ahead of ours. It has room for a clock of
/// another time zone: a change that the other proxies have taken is worth more than an exact time,
/// and blocks nothing, since the next one is said after it. But a slip that names a year to come is
/// not to outrank all that is said until then.
const AHEAD_MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// The answer to a change that is not what is expected.
pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// The body of a change, a JSON object.
///
/// # Errors
/// It is not sent as JSON, or is not what is expected.
pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // Asking for JSON keeps forms of other sites out: browsers send them without asking first.
    if !content_type.is_some_and(|kind| kind.starts_with("application/json")) {
        let detail = "send the change as JSON, with Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    chassis::json::object(body).map_err(bad)
}

/// A field that may be there, be null, or not be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Given<T> {
    #[default]
    Nothing,
    Null,
    Value(T),
}

impl<T> Given<T> {
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing | Self::Null => None,
        }
    }
}

/// Reads a field that is there.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Given<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map_or(Given::Null, Given::Value))
}

/// A reason, if it says anything.
///
/// # Errors
/// It is too long, or not one line.
pub(super) fn reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    if reason.as_ref().is_some_and(|reason| reason.chars().count() > REASON_LONGEST) {
        return Err(bad(format!("reason: expected at most {REASON_LONGEST} characters")));
    }
    if reason.as_ref().is_some_and(|reason| reason.chars().any(char::is_control)) {
        return Err(bad("reason: expected one line of text"));
    }
    Ok(reason.filter(|reason| !reason.trim().is_empty()))
}

/// How long a change is to hold.
///
/// # Errors
/// It is no duration above zero, or longer than an override may last.
pub(super) fn ttl(ttl: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(text) = ttl else { return Ok(None) };
    let ttl = humantime::parse_duration(text).ok();
    let ttl = ttl.filter(|ttl| !ttl.is_zero() && *ttl <= TTL_MOST);
    ttl.map(Some).ok_or_else(|| {
        bad(
            "ttl: expected a duration greater than 0 and of at most 30 days with its unit, such as \
             30m, 8h or 3days; a change that is to hold for longer takes none",
        )
    })
}

/// When a change was said, where `now` is.
///
/// # Errors
/// It is no time since 1970, or further ahead than clocks should differ.
pub(super) fn said_at(text: Option<&str>, now: SaidAt) -> Result<Option<SaidAt>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let said_at = clock::said_at(text).ok_or_else(|| {
        bad(format!("said_at: expected a time such as 2026-01-31T12:00:00.000Z, not {text:?}"))
    })?;
    let ahead = Duration::from_millis(said_at.0.saturating_sub(now.0));
    if ahead > AHEAD_MOST {
        let now = clock::said_text(now);
        return Err(bad(format!(
            "said_at: expected at most a day after this proxy's clock, which says {now}; set the \
             clocks right, or leave it out"
        )));
    }
    Ok(Some(said_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_lasts_for_up_to_a_month_and_a_refusal_tells_so() {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        for (text, length) in [("48h", days(2)), ("3days", days(3)), ("30d", days(30))] {
            assert_eq!(ttl(Some(text)).unwrap(), Some(length));
        }
        for text in ["0s", "721h", "30", "30 years"] {
            let refused = ttl(Some(text)).unwrap_err();
            let bounds = "ttl: expected a duration greater than 0 and of at most 30 days";
            assert!(refused.detail().contains(bounds), "{text}: {refused:?}");
        }
    }

    #[test]
    fn a_reason_is_as_long_as_the_document_says_in_any_language() {
        for char in ["x", "ö", "漢"] {
            assert!(reason(Some(char.repeat(REASON_LONGEST))).is_ok(), "{char}");
            let refused = reason(Some(char.repeat(REASON_LONGEST + 1))).unwrap_err();
            assert!(refused.detail().contains("at most 500 characters"), "{char}: {refused:?}");
        }
    }
}
