//! Why a change was not made, or not everywhere, and what is told of it.

use std::iter;

use chassis::{problem::Problem, secret::Secret};
use http::StatusCode;

use crate::{
    admin::Fault, headline::capital, model::Backend, poll::View, replica::Proxy, tell::Outcome,
    wish::Wish, word::What,
};

/// Why a change was not made.
pub(super) struct Refusal {
    /// In metrics.
    pub(super) label: &'static str,
    pub(super) problem: Problem,
    /// When the newest word was said, if it is one that the page had not shown: somebody else's, or
    /// this one, where some of the proxies have done it or may have.
    pub(super) seen: Option<u64>,
    /// Whether that stands against the change. It takes no force, it only has to be seen: the guard is
    /// still to be asked.
    pub(super) is_unseen: bool,
}

impl From<(&'static str, Problem)> for Refusal {
    fn from((label, problem): (&'static str, Problem)) -> Self {
        Self { label, problem, seen: None, is_unseen: false }
    }
}

/// What somebody has said of a backend whom the page had not shown.
pub(super) fn unseen(now: &Backend, what: What) -> String {
    let heard = what.heard(now);
    let word = heard.map_or_else(|| what.nobodys(), |heard| heard.in_force());
    let by = word.actor.map(|actor| format!(" by {actor}")).unwrap_or_default();
    let why = word.reason.map(|reason| format!(": “{reason}”")).unwrap_or_default();
    let (id, wish) = (&now.id, word.wish.words());
    format!("{id} was changed meanwhile, and is set to {wish}{by}{why}. It stays as it is.")
}

/// What takes a change back: what was wanted before it, or else the usual; nothing if that is the same.
pub(super) fn way_back(view: &View, (pool, id): (&str, &str), wish: &Wish) -> Option<Wish> {
    let picture = view.picture.as_ref();
    let backend = picture.and_then(|picture| picture.answer.backend(pool, id));
    let before = backend.and_then(|backend| Some(wish.what().heard(backend)?.in_force().wish));
    [before, Some(wish.what().usual())].into_iter().flatten().find(|back| back != wish)
}

/// What each proxy said of a change that not all of them made, and that those which did not are told
/// again, unless it is taken `back`.
pub(super) fn refused(
    outcome: &Outcome,
    (id, back): (&str, Option<&Wish>),
    token: &Result<Option<Secret>, String>,
) -> Problem {
    let mut refused: Vec<_> = outcome.refused.iter().collect();
    // What stands against the change itself counts most: it may be insisted on.
    refused.sort_by_key(|(_, status, _)| *status != StatusCode::CONFLICT);
    let sentences: Vec<(&str, String)> = refused
        .iter()
        .map(|(name, status, sentence)| (name.as_str(), refusal(token, *status, sentence)))
        .collect();
    let named = |(name, sentence): &(&str, String)| format!("{name} refused: {sentence}");
    let told = match (&sentences[..], outcome.done.is_empty()) {
        ([(_, sentence)], true) if outcome.silent.is_empty() => sentence.clone(),
        (all, true) => {
            // One that gave no answer may have made it all the same.
            let silent = (!outcome.silent.is_empty()).then(|| unanswered(&outcome.silent));
            all.iter().map(named).chain(silent).collect::<Vec<_>>().join(" ")
        }
        (all, false) => {
            let all: Vec<String> = all.iter().map(named).collect();
            let again = match &sentences[..] {
                [(name, _)] => format!(" {name} is told again until it takes it"),
                _ => " They are told again until they take it".to_owned(),
            };
            let back = back.map(|back| format!("; to take it back, set {id} to {}", back.words()));
            let rest = again + &back.unwrap_or_default() + "." + &outcome.unsaved();
            let rest = rest + &outcome.missing();
            format!("{id} is set{}, but {}{rest}", outcome.places(), all.join(" "))
        }
    };
    // The proxy's refusal of *our* token is not the visitor's fault: 401 would send them to a
    // sign-in that cannot help.
    let status = match refused.first().map(|(_, status, _)| *status) {
        None | Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => StatusCode::BAD_GATEWAY,
        Some(status) => status,
    };
    Problem::new(status, told)
}

/// What is known where no proxy has made the change and these gave no answer.
pub(super) fn unanswered(silent: &[(Proxy, Fault)]) -> String {
    let known = if silent.iter().all(|(_, fault)| fault.is_unheard()) {
        "Nothing was changed."
    } else {
        "Whether it was changed is not known: the page shows it once the proxy answers."
    };
    let whys = silent.iter().map(|(proxy, fault)| proxy.api.explain(fault));
    iter::once(known.to_owned()).chain(whys).collect::<Vec<_>>().join(" ")
}

/// What a proxy said, with what to do about it.
fn refusal(token: &Result<Option<Secret>, String>, status: StatusCode, sentence: &str) -> String {
    let hint = match (token, status) {
        (_, StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) => "",
        (Err(why), _) => &format!(" The dashboard could not show its token: {why}."),
        (Ok(None), _) => {
            " The dashboard has no admin token: set LOAD_BALANCER_ADMIN_TOKEN or \
             LOAD_BALANCER_ADMIN_TOKEN_FILE to the proxy's."
        }
        (Ok(Some(_)), StatusCode::UNAUTHORIZED) => {
            " The dashboard's LOAD_BALANCER_ADMIN_TOKEN is not the proxy's."
        }
        _ => "",
    };
    let sentence = capital(sentence);
    let stop = if sentence.ends_with('.') { "" } else { "." };
    format!("{sentence}{stop}{hint}")
}
