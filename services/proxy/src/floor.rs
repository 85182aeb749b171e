//! How many backends an operator's change must leave in service, as a number or a share.

use chassis::units::{self, Share};

/// What must be left of a pool's backends.
#[derive(Clone, Copy, Debug)]
pub enum Floor {
    /// So many.
    Count(usize),
    /// This share of all, rounded up.
    Share(Share),
}

impl Floor {
    /// A floor from text such as `2` or `50%`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let floor = if text.ends_with('%') {
            units::share(text).map(Self::Share).ok()
        } else {
            units::whole(text, 1, 100_000).map(|count| Self::Count(count as usize)).ok()
        };
        floor.ok_or_else(|| "a number of backends such as 1, or a share such as 50%".to_owned())
    }

    /// The floor of a pool of so many; at least one, or nobody would be served.
    pub(crate) fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => (share.get() * total as f64).ceil() as usize,
        }
        .max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_and_one_is_the_least() {
        let cases = [("1", 9, 1), ("3", 2, 3), ("50%", 5, 3), ("50%", 4, 2), ("0%", 4, 1)];
        for (text, total, floor) in cases {
            assert_eq!(Floor::parse(text).unwrap().of(total), floor, "{text} of {total}");
        }
        for text in ["", "0", "half", "-1", "1.5", "200%"] {
            assert!(Floor::parse(text).unwrap_err().contains("50%"), "{text}");
        }
    }
}
