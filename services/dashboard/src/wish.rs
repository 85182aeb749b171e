//! What somebody wants of a backend: another state or another weight.

use chassis::problem::Problem;
use http::StatusCode;

use crate::{admin::Change, model::Admin, word::What};

/// The largest weight that proxies take.
pub(crate) const WEIGHT_MOST: u32 = 256;
/// How a form says that the weight is to be the configured one.
pub(crate) const CONFIGURED: &str = "configured";

/// What somebody wants of a backend. Of two that were said at the same time, which is left to
/// those who say it twice, the greater one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// A state.
    State(Admin),
    /// A weight; none is the configured one.
    Weight(Option<u32>),
}

impl Wish {
    /// What a form says, whose fields are empty where they are not meant.
    pub(crate) fn parse(state: &str, weight: &str) -> Result<Self, Problem> {
        let bad = |detail: String| Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        match (state, weight.trim()) {
            (state, "") => Admin::parse(state)
                .map(Self::State)
                .map_or_else(|| bad("state must be one of ready, drain, maint".to_owned()), Ok),
            ("", CONFIGURED) => Ok(Self::Weight(None)),
            ("", weight) => match weight.parse() {
                Ok(weight @ 0..=WEIGHT_MOST) => Ok(Self::Weight(Some(weight))),
                _ => bad(format!("weight must be a whole number from 0 to {WEIGHT_MOST}")),
            },
            _ => bad("change either the state or the weight".to_owned()),
        }
    }

    /// What it is about.
    pub(crate) fn what(self) -> What {
        match self {
            Self::State(_) => What::State,
            Self::Weight(_) => What::Weight,
        }
    }

    /// As the end of "it is set to …".
    pub(crate) fn words(self) -> String {
        match self {
            Self::State(state) => state.word().to_lowercase(),
            Self::Weight(Some(weight)) => format!("weight {weight}"),
            Self::Weight(None) => "its configured weight".to_owned(),
        }
    }

    /// The field of a form and its value.
    pub(crate) fn field(self) -> (&'static str, String) {
        match self {
            Self::State(state) => ("state", state.key().to_owned()),
            Self::Weight(Some(weight)) => ("weight", weight.to_string()),
            Self::Weight(None) => ("weight", CONFIGURED.to_owned()),
        }
    }

    /// As the admin API takes it.
    pub(crate) fn change(self) -> Change {
        match self {
            Self::State(state) => Change { state: Some(state.key()), ..Change::default() },
            Self::Weight(weight) => Change { weight: Some(weight), ..Change::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_wants_either_a_state_or_a_weight() {
        let parsed = |state, weight| Wish::parse(state, weight);
        assert_eq!(parsed("drain", "").unwrap(), Wish::State(Admin::Drain));
        assert_eq!(parsed("", " 256 ").unwrap(), Wish::Weight(Some(256)));
        assert_eq!(parsed("", "configured").unwrap(), Wish::Weight(None));
        for (state, weight, words) in [
            ("", "", "one of ready"),
            ("gone", "", "one of ready"),
            ("", "257", "from 0 to 256"),
            ("", "-1", "from 0 to 256"),
            ("", "1.5", "from 0 to 256"),
            ("ready", "1", "either"),
        ] {
            let problem = parsed(state, weight).unwrap_err();
            assert!(problem.status() == 400 && problem.detail().contains(words), "{problem:?}");
        }
    }

    #[test]
    fn the_admin_api_is_told_null_for_the_configured_weight_and_nothing_of_what_stays() {
        let body = |wish: Wish| serde_json::to_string(&wish.change()).unwrap();
        assert_eq!(body(Wish::State(Admin::Maint)), "{\"state\":\"maint\"}");
        assert_eq!(body(Wish::Weight(Some(3))), "{\"weight\":3}");
        assert_eq!(body(Wish::Weight(None)), "{\"weight\":null}");
    }
}
