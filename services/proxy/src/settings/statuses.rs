//! Sets of HTTP statuses, written `502-504` or `500,503`.

use chassis::units;
use http::StatusCode;

/// A set of statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Whether a status is one of them.
    pub(crate) fn contains(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }

    /// Parses single ones and ranges, of which none may be below `least`.
    pub(super) fn parse(text: &str, least: u32) -> Option<Self> {
        let number = |text: &str| units::whole(text.trim(), least, 599).ok().map(|n| n as u16);
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        };
        let ranges = units::list(text).map(range).collect::<Option<Vec<_>>>()?;
        (!ranges.is_empty()).then_some(Self(ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_ones_and_ranges() {
        let statuses = Statuses::parse("429, 502-504", 400).unwrap();
        let contains = |status| statuses.contains(StatusCode::from_u16(status).unwrap());
        assert!(contains(429) && contains(502) && contains(503) && contains(504));
        assert!(!contains(200) && !contains(428) && !contains(500) && !contains(505));
    }

    #[test]
    fn what_is_no_set_of_statuses_is_refused() {
        for text in ["", "x", "504-502", "200", "600", "500-", "-500", "500 502"] {
            assert_eq!(Statuses::parse(text, 400), None, "{text}");
        }
    }
}
