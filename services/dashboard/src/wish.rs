//! What somebody wants of a backend: another state, another weight, or another limit of requests in
//! flight.

use chassis::problem::Problem;
use http::StatusCode;

use crate::{admin::Change, model::Admin, word::What, words::plain};

/// The largest weight that proxies take.
pub(crate) const WEIGHT_MOST: u32 = 256;
/// The largest limit of requests in flight that they take.
pub(crate) const LIMIT_MOST: u32 = 1_000_000;
/// How a form says that a number is to be the configured one.
pub(crate) const CONFIGURED: &str = "configured";

/// What somebody wants of a backend, or of a pool. Of two that were said at the same time, which is
/// left to those who say it twice, the greater one holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// A state.
    State(Admin),
    /// A weight; none is the configured one.
    Weight(Option<u32>),
    /// A limit of requests in flight, of which 0 is none; none is the configured one.
    Limit(Option<u32>),
    /// How a pool is to choose its backends; none is as configured. The page has no form for it.
    Policy(Option<Plan>),
}

/// How a pool chooses its backends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Plan {
    pub(crate) policy: String,
    /// What the policy hash goes by; empty with any other.
    pub(crate) hash_key: String,
}

impl Plan {
    /// A policy, and the key that its proxy tells beside it. That is also there with a policy other
    /// than hash, of a hash of before or of the settings, and then is no part of what anybody wants:
    /// a proxy could not be told of it, and would differ for ever.
    pub(crate) fn new(policy: &str, hash_key: &str) -> Self {
        let hash_key = if policy == "hash" { hash_key } else { "" };
        Self { policy: policy.to_owned(), hash_key: hash_key.to_owned() }
    }

    /// As people say it, with the key as it is.
    pub(crate) fn words(&self) -> String {
        let Self { policy, hash_key } = self;
        let policy = plain(policy);
        if hash_key.is_empty() { policy } else { format!("{policy} by {hash_key}") }
    }
}

impl Wish {
    /// What a form says, whose fields are empty where they are not meant.
    pub(crate) fn parse(state: &str, weight: &str, limit: &str) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let number = |text: &str, what: &str, most: u32| match text.parse() {
            _ if text == CONFIGURED => Ok(None),
            Ok(number) if number <= most => Ok(Some(number)),
            _ => Err(bad(format!("{what} must be a whole number from 0 to {most}"))),
        };
        match (state, weight.trim(), limit.trim()) {
            (state, "", "") => Admin::parse(state)
                .map(Self::State)
                .ok_or_else(|| bad("state must be one of ready, drain, maint".to_owned())),
            ("", weight, "") => number(weight, "weight", WEIGHT_MOST).map(Self::Weight),
            ("", "", limit) => number(limit, "max_in_flight", LIMIT_MOST).map(Self::Limit),
            _ => Err(bad("change one thing: state, weight or max_in_flight".to_owned())),
        }
    }

    /// What it is about.
    pub(crate) fn what(&self) -> What {
        match self {
            Self::State(_) => What::State,
            Self::Weight(_) => What::Weight,
            Self::Limit(_) => What::Limit,
            Self::Policy(_) => What::Policy,
        }
    }

    /// As the end of "it is set to …".
    pub(crate) fn words(&self) -> String {
        match self {
            Self::State(state) => state.word().to_lowercase(),
            Self::Weight(Some(weight)) => format!("weight {weight}"),
            Self::Weight(None) => "its configured weight".to_owned(),
            Self::Limit(Some(0)) => "no limit of requests in flight".to_owned(),
            Self::Limit(Some(limit)) => format!("at most {limit} in flight"),
            Self::Limit(None) => "its configured limit of requests in flight".to_owned(),
            Self::Policy(Some(plan)) => format!("policy {}", plan.policy),
            Self::Policy(None) => "its configured policy".to_owned(),
        }
    }

    /// The field of a form and its value.
    pub(crate) fn field(&self) -> (&'static str, String) {
        let number =
            |number: Option<u32>| number.map_or(CONFIGURED.to_owned(), |it| it.to_string());
        match self {
            Self::State(state) => ("state", state.key().to_owned()),
            Self::Weight(weight) => ("weight", number(*weight)),
            Self::Limit(limit) => ("max_in_flight", number(*limit)),
            Self::Policy(_) => ("policy", self.words()),
        }
    }

    /// As the admin API takes it.
    pub(crate) fn change(&self) -> Change {
        let nothing = Change::default();
        match self {
            Self::State(state) => Change { state: Some(state.key()), ..nothing },
            Self::Weight(weight) => Change { weight: Some(*weight), ..nothing },
            Self::Limit(limit) => Change { max_in_flight: Some(*limit), ..nothing },
            Self::Policy(plan) => {
                // Only hash takes a key; with another policy a proxy keeps the one that there is.
                let key = plan.as_ref().filter(|plan| plan.policy == "hash");
                Change {
                    policy: Some(plan.as_ref().map(|plan| plan.policy.clone())),
                    hash_key: key.map(|plan| plan.hash_key.clone()),
                    ..nothing
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_wants_a_state_or_a_weight_or_a_limit() {
        let parsed = Wish::parse;
        assert_eq!(parsed("drain", "", "").unwrap(), Wish::State(Admin::Drain));
        assert_eq!(parsed("", " 256 ", "").unwrap(), Wish::Weight(Some(256)));
        assert_eq!(parsed("", "configured", "").unwrap(), Wish::Weight(None));
        assert_eq!(parsed("", "", "1000000").unwrap(), Wish::Limit(Some(1_000_000)));
        assert_eq!(parsed("", "", "configured").unwrap(), Wish::Limit(None));
        for (state, weight, limit, words) in [
            ("", "", "", "one of ready"),
            ("gone", "", "", "one of ready"),
            ("", "257", "", "from 0 to 256"),
            ("", "-1", "", "from 0 to 256"),
            ("", "1.5", "", "from 0 to 256"),
            ("", "", "1000001", "from 0 to 1000000"),
            ("ready", "1", "", "one thing"),
            ("ready", "", "1", "one thing"),
            ("", "1", "1", "one thing"),
        ] {
            let problem = parsed(state, weight, limit).unwrap_err();
            assert!(problem.status() == 400 && problem.detail().contains(words), "{problem:?}");
        }
    }

    #[test]
    fn the_admin_api_is_told_null_for_what_is_configured_and_nothing_of_what_stays() {
        let body = |wish: Wish| serde_json::to_string(&wish.change()).unwrap();
        assert_eq!(body(Wish::State(Admin::Maint)), "{\"state\":\"maint\"}");
        assert_eq!(body(Wish::Weight(Some(3))), "{\"weight\":3}");
        assert_eq!(body(Wish::Weight(None)), "{\"weight\":null}");
        assert_eq!(body(Wish::Limit(Some(0))), "{\"max_in_flight\":0}");
        assert_eq!(body(Wish::Limit(None)), "{\"max_in_flight\":null}");
        let plan = |policy: &str| Plan::new(policy, "path");
        let hash = "{\"policy\":\"hash\",\"hash_key\":\"path\"}";
        assert_eq!(body(Wish::Policy(Some(plan("hash")))), hash);
        assert_eq!(body(Wish::Policy(Some(plan("first")))), "{\"policy\":\"first\"}");
        assert_eq!(body(Wish::Policy(None)), "{\"policy\":null}");
    }
}
