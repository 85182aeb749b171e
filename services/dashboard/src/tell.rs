//! Telling a change to every proxy, and what came of it.
//!
//! One proxy is told first: if it refuses the change, nobody else is bothered and nothing has
//! changed. If it only cannot make it, such as one that has not found the backend yet, the next one
//! is told. The others are told together. One that does not answer gets the change when it returns;
//! see `intent`.

use chassis::{secret::Secret, wall};
use futures_util::future::join_all;
use http::StatusCode;

use crate::{
    admin::{Change, Fault, Verdict},
    poll::View,
    replica::Proxy,
    said::{self, Clock},
    wish::Wish,
};

/// What came of a change.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Proxies that did it.
    pub(crate) done: Vec<String>,
    /// Those of them that could not save it, with the reason.
    pub(crate) unsaved: Vec<(String, String)>,
    /// Proxies that said no, with the status and the sentence.
    pub(crate) refused: Vec<(String, StatusCode, String)>,
    /// Proxies that did not answer.
    pub(crate) silent: Vec<(Proxy, Fault)>,
    /// When the newest word was said that any of them would not give up for an older one.
    pub(crate) newer: Option<u64>,
}

/// Tries to say something after the newest word. A proxy may have heard one a moment ago that we
/// have not seen yet; more than once in a row, somebody else is quicker.
const TRIES: usize = 3;

/// Changes one backend on all proxies of `view` on behalf of `actor`, with a word that is newer
/// than all before.
pub(crate) async fn newest(
    view: &View,
    key: (&str, &str),
    (wish, change, clock): (&Wish, &Change, &Clock),
    token: Option<&Secret>,
    actor: &str,
) -> Outcome {
    let mut newest = said::newest(view, key, wish.what());
    let mut outcome = Outcome::default();
    for _ in 0..TRIES {
        let said_at = Some(wall::text(clock.next(key, wish.what(), newest)));
        let change = Change { said_at, ..change.clone() };
        outcome = all(view, key, &change, token, actor).await;
        newest = newest.max(outcome.newer);
        if outcome.newer.is_none() {
            break;
        }
    }
    outcome
}

/// Changes one backend on all proxies of `view` on behalf of `actor`.
async fn all(
    view: &View,
    key: (&str, &str),
    change: &Change,
    token: Option<&Secret>,
    actor: &str,
) -> Outcome {
    let mut outcome = Outcome::default();
    // Those that answered last first; those that did not may by now.
    let mut waiting: Vec<&Proxy> = view.answering().chain(view.silent()).collect();
    while !waiting.is_empty() && outcome.done.is_empty() {
        let proxy = waiting.remove(0);
        outcome.note(proxy, tell(proxy, key, change, token, actor).await);
        if outcome.is_refused() {
            return outcome;
        }
    }
    let rest = waiting.iter().map(|proxy| tell(proxy, key, change, token, actor));
    for (proxy, result) in waiting.iter().zip(join_all(rest).await) {
        outcome.note(proxy, result);
    }
    outcome
}

async fn tell(
    proxy: &Proxy,
    key: (&str, &str),
    change: &Change,
    token: Option<&Secret>,
    actor: &str,
) -> Result<Verdict, Fault> {
    let answer = proxy.picture.as_ref().map(|picture| &picture.answer);
    let takes_time = answer.is_some_and(said::is_taken_by);
    let said_at = change.said_at.clone().filter(|_| takes_time);
    proxy.api.change(key, &Change { said_at, ..change.clone() }, token, actor).await
}

/// Whether a refusal is one of the change, and not of the proxy's own trouble, or with us.
fn is_of_change(status: StatusCode) -> bool {
    let is_own = matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
    );
    status.is_client_error() && !is_own
}

impl Outcome {
    fn note(&mut self, proxy: &Proxy, result: Result<Verdict, Fault>) {
        let name = proxy.name.clone();
        match result {
            Ok(Verdict::Done(not_saved)) => {
                self.unsaved.extend(not_saved.map(|why| (name.clone(), why)));
                self.done.push(name);
            }
            Ok(Verdict::Superseded(at, sentence)) => {
                self.newer = self.newer.max(Some(at));
                self.refused.push((name, StatusCode::CONFLICT, sentence));
            }
            Ok(Verdict::Refused(status, sentence)) => self.refused.push((name, status, sentence)),
            Err(fault) => self.silent.push((proxy.clone(), fault)),
        }
    }

    /// Whether a proxy says no to the change itself.
    fn is_refused(&self) -> bool {
        self.refused.iter().any(|(_, status, _)| is_of_change(*status))
    }

    /// Where it was done, as the end of a sentence; nothing if there is only one proxy.
    pub(crate) fn places(&self) -> String {
        match (&self.done[..], self.refused.is_empty() && self.silent.is_empty()) {
            ([_], true) => String::new(),
            (all, true) => format!(" on all {} proxies", all.len()),
            (some, false) => format!(" on {}", some.join(", ")),
        }
    }

    /// Where a restart would undo it, as a sentence.
    pub(crate) fn unsaved(&self) -> String {
        match &self.unsaved[..] {
            [] => String::new(),
            [(_, why)] if self.done.len() == 1 => {
                format!(" It is not saved, and a restart of the proxy would undo it: {why}.")
            }
            all => {
                let whys: Vec<String> =
                    all.iter().map(|(name, why)| format!("of {name} ({why})")).collect();
                format!(" It is not saved: a restart {} would undo it.", whys.join(", "))
            }
        }
    }

    /// Who has yet to hear of it, as a sentence.
    pub(crate) fn missing(&self) -> String {
        let names: Vec<&str> = self.silent.iter().map(|(proxy, _)| proxy.name.as_str()).collect();
        match &names[..] {
            [] => String::new(),
            [one] => format!(" {one} does not answer; it is told when it returns."),
            more => format!(" {} do not answer; they are told when they return.", more.join(", ")),
        }
    }
}
