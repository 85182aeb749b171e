//! The form of a change.

use chassis::problem::Problem;
use http::StatusCode;
use serde::Deserialize;

use crate::{address::Shown, wish::Wish, word::What};

/// What the form says.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ChangeForm {
    #[serde(default)]
    state: String,
    #[serde(default)]
    /// Nothing, empty where a number is still to be typed, or what is wanted; so is the next.
    weight: Option<String>,
    #[serde(default)]
    max_in_flight: Option<String>,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) ttl: String,
    #[serde(default)]
    pub(super) force: bool,
    /// When the newest word was said that the page showed; empty where nothing is known of that.
    #[serde(default)]
    seen: String,
    /// How the page was shown before; so is the next.
    window: Option<String>,
    sort: Option<String>,
    still: Option<String>,
}

impl ChangeForm {
    pub(super) fn wish(&self) -> Result<Wish, Problem> {
        let number = |field: &Option<String>| field.clone().unwrap_or_default();
        Wish::parse(&self.state, &number(&self.weight), &number(&self.max_in_flight))
    }

    pub(super) fn seen(&self) -> Result<Option<u64>, Problem> {
        let bad = |_| Problem::new(StatusCode::BAD_REQUEST, "seen must be a whole number");
        let seen = Some(&*self.seen).filter(|seen| !seen.is_empty());
        seen.map(|seen| seen.parse().map_err(bad)).transpose()
    }

    /// How the page was shown that all of this began on.
    pub(super) fn shown(&self) -> Shown {
        Shown::parse(self.window.as_deref(), self.sort.as_deref(), self.still.as_deref())
    }

    /// Whether a number is still to be typed, and of what.
    pub(super) fn asks_for(&self) -> Option<What> {
        match (&*self.state, self.weight.as_deref(), self.max_in_flight.as_deref()) {
            ("", Some(""), None) => Some(What::Weight),
            ("", None, Some("")) => Some(What::Limit),
            _ => None,
        }
    }
}
