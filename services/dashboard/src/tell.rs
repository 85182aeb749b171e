//! Telling a change to every proxy, and what came of it.
//!
//! One proxy is told first: if it refuses, nobody else is bothered and nothing has changed. The
//! others are told together. One that does not answer gets the change when it returns; see
//! `intent`.

use chassis::secret::Secret;
use futures_util::future::join_all;
use http::StatusCode;

use crate::{
    admin::{Change, Fault, Verdict},
    poll::View,
    replica::Proxy,
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
}

/// Changes one backend on all proxies of `view` on behalf of `actor`.
pub(crate) async fn all(
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
        outcome.note(proxy, proxy.api.change(key, change, token, actor).await);
        if !outcome.refused.is_empty() {
            return outcome;
        }
    }
    let rest = waiting.iter().map(|proxy| proxy.api.change(key, change, token, actor));
    for (proxy, result) in waiting.iter().zip(join_all(rest).await) {
        outcome.note(proxy, result);
    }
    outcome
}

impl Outcome {
    fn note(&mut self, proxy: &Proxy, result: Result<Verdict, Fault>) {
        let name = proxy.name.clone();
        match result {
            Ok(Verdict::Done(not_saved)) => {
                self.unsaved.extend(not_saved.map(|why| (name.clone(), why)));
                self.done.push(name);
            }
            Ok(Verdict::Refused(status, sentence)) => self.refused.push((name, status, sentence)),
            Err(fault) => self.silent.push((proxy.clone(), fault)),
        }
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
            [(name, why), ..] => {
                let who = if self.done.len() > 1 { name.as_str() } else { "the proxy" };
                format!(" It is not saved, and a restart of {who} would undo it: {why}.")
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
