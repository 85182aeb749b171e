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
    model::Backend,
    poll::View,
    replica::Proxy,
    said::{self, Clock, Seen},
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
    /// When it was said.
    pub(crate) said: u64,
    /// When the newest word was said that any of them would not give up for an older one.
    pub(crate) newer: Option<u64>,
    /// What the backend is by a word that whoever asks has not seen; then nobody did it.
    pub(crate) unseen: Option<Box<Backend>>,
}

/// Tries to say something after the newest word. A proxy may have heard one a moment ago that we
/// have not seen yet; more than once in a row, somebody else is quicker.
const TRIES: usize = 3;

/// Changes one backend on all proxies of `view` on behalf of `actor`, with a word that is newer
/// than all before; unless, where it is known until when the actor has `seen` what was said, somebody
/// else has said something since.
pub(crate) async fn newest(
    view: &View,
    key: (&str, &str),
    (wish, change, clock): (&Wish, &Change, &Clock),
    seen: Option<u64>,
    token: Option<&Secret>,
    actor: &str,
) -> Outcome {
    let what = wish.what();
    let seen = seen.map(|until| Seen { what, until, own: clock.own(key, what, actor) });
    if let Some(unseen) = seen.as_ref().and_then(|seen| said::unseen(view, key, seen)) {
        return Outcome { unseen: Some(Box::new(unseen.clone())), ..Outcome::default() };
    }
    let mut newest = said::newest(view, key, what);
    let mut outcome = Outcome::default();
    for _ in 0..TRIES {
        let said = clock.next(key, what, newest, actor);
        let change = Change { said_at: Some(wall::text(said)), ..change.clone() };
        // What some have done by now is the actor's own word.
        let seen = seen.as_ref().filter(|_| outcome.done.is_empty());
        outcome = Outcome { said, ..all(view, key, (&change, seen), token, actor).await };
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
    (change, seen): (&Change, Option<&Seen>),
    token: Option<&Secret>,
    actor: &str,
) -> Outcome {
    let mut outcome = Outcome::default();
    // Those that answered last first; those that did not may by now.
    let mut waiting: Vec<&Proxy> = view.answering().chain(view.silent()).collect();
    while !waiting.is_empty() && outcome.done.is_empty() {
        let proxy = waiting.remove(0);
        outcome.note(proxy, tell_first(proxy, key, (change, seen), token, actor).await);
        if outcome.is_refused() || outcome.unseen.is_some() {
            return outcome;
        }
    }
    let rest = waiting.iter().map(|proxy| tell(proxy, key, change, None, token, actor));
    for (proxy, result) in waiting.iter().zip(join_all(rest).await) {
        outcome.note(proxy, result);
    }
    outcome
}

/// Tells one that decides for all, if somebody is asked to see first what was said: what another one
/// says at the same moment comes to this proxy too, before or after it.
async fn tell_first(
    proxy: &Proxy,
    key: (&str, &str),
    (change, seen): (&Change, Option<&Seen>),
    token: Option<&Secret>,
    actor: &str,
) -> Result<Verdict, Fault> {
    let Some(seen) = seen else {
        return tell(proxy, key, change, None, token, actor).await;
    };
    let known = proxy.picture.as_ref().and_then(|picture| picture.answer.backend(key.0, key.1));
    let mut tag = known.and_then(|backend| backend.etag.clone());
    let mut more = 1..TRIES;
    loop {
        match tell(proxy, key, change, tag.as_deref(), token, actor).await? {
            // An override has ended, or it was about something else.
            Verdict::Changed(now) if seen.has(&now) && more.next().is_some() => {
                tag = now.etag;
            }
            verdict => return Ok(verdict),
        }
    }
}

async fn tell(
    proxy: &Proxy,
    key: (&str, &str),
    change: &Change,
    tag: Option<&str>,
    token: Option<&Secret>,
    actor: &str,
) -> Result<Verdict, Fault> {
    let answer = proxy.picture.as_ref().map(|picture| &picture.answer);
    let takes_time = answer.is_some_and(said::is_taken_by);
    let said_at = change.said_at.clone().filter(|_| takes_time);
    let change = Change { said_at, ..change.clone() };
    match tag {
        Some(tag) => proxy.api.change_if(tag, key, &change, token, actor).await,
        None => proxy.api.change(key, &change, token, actor).await,
    }
}

/// Whether a refusal is one of the change, and not of the proxy's own trouble, or with us.
pub(crate) fn is_of_change(status: StatusCode) -> bool {
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
            Ok(Verdict::Changed(now)) => self.unseen = Some(now),
            Err(fault) => self.silent.push((proxy.clone(), fault)),
        }
    }

    /// Whether a proxy says no to the change itself.
    fn is_refused(&self) -> bool {
        self.refused.iter().any(|(_, status, _)| is_of_change(*status))
    }

    /// When it was said, if any proxy has heard it, or may have.
    pub(crate) fn heard(&self) -> Option<u64> {
        let may_have = self.silent.iter().any(|(_, fault)| !fault.is_unheard());
        (may_have || !self.done.is_empty()).then_some(self.said)
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
