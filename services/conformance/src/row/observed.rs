//! What happened in a row, and whether it is what may happen.

use std::fmt;

use super::{Check, ensure};
use crate::{
    backend::Seen,
    client::{End, Rest},
    message::Message,
};

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub(super) bytes: Vec<u8>,
    pub(super) answers: Vec<Message>,
    pub(super) interim: Vec<Message>,
    pub(super) rest: Rest,
    pub(super) end: End,
    /// The codes that streams of HTTP/2 were reset with, and the one that their connection was ended with.
    pub(super) resets: Vec<&'static str>,
    pub(super) goaway: Option<&'static str>,
    pub(super) seen: Vec<Seen>,
    /// Whether each side has done all that it was to do over another protocol: the client, the backend.
    pub(super) switched: Option<[Result<(), String>; 2]>,
    pub(super) next: Option<Result<(), String>>,
}

impl Observed {
    pub(super) fn statuses(&self) -> Vec<u16> {
        self.answers.iter().map(Message::status).collect()
    }

    pub(super) fn messages(&self) -> Vec<&Message> {
        self.seen.iter().flat_map(|seen| &seen.messages).collect()
    }

    pub(super) fn is_refused(&self, status: u16) -> Result<(), String> {
        ensure(self.seen.is_empty(), || "something reached the backend".to_owned())?;
        ensure(self.statuses() == [status], || format!("not answered {status}"))?;
        ensure(self.rest == Rest::Nothing, || "something follows the answer".to_owned())?;
        ensure(self.end != End::Open, || "the connection stays open".to_owned())
    }

    pub(super) fn is_malformed(&self) -> Result<(), String> {
        ensure(self.seen.is_empty(), || "something reached the backend".to_owned())?;
        let is_told = match self.statuses()[..] {
            [] => self.resets == ["PROTOCOL_ERROR"],
            [status] => status == 400 && self.rest == Rest::Nothing,
            _ => false,
        };
        ensure(is_told, || "neither answered 400 nor reset for it".to_owned())
    }

    pub(super) fn is_ended(&self, codes: &[&str]) -> Result<(), String> {
        ensure(self.seen.is_empty(), || "something reached the backend".to_owned())?;
        let is_one = self.goaway.is_some_and(|code| codes.contains(&code));
        ensure(is_one, || format!("not ended with {}", codes.join(" or ")))
    }

    pub(super) fn is_switched(&self, checks: &[Check]) -> Result<(), String> {
        self.is_served(&[101], checks)?;
        let [client, backend] = self.switched.as_ref().ok_or("nobody switches")?;
        client.as_ref().map_err(|why| format!("the client {why}"))?;
        backend.as_ref().map_err(|why| format!("the backend {why}"))?;
        Ok(())
    }

    pub(super) fn is_broken(&self) -> Result<(), String> {
        ensure(self.messages().is_empty(), || "a whole message reached the backend".to_owned())?;
        let is_valid = self.seen.iter().all(|seen| seen.invalid.is_none());
        ensure(is_valid, || "something invalid reached the backend".to_owned())?;
        ensure(matches!(self.statuses()[..], [] | [400]), || "not answered 400".to_owned())?;
        ensure(self.end != End::Open, || "the connection stays open".to_owned())
    }

    pub(super) fn is_served(&self, statuses: &[u16], checks: &[Check]) -> Result<(), String> {
        ensure(self.statuses() == statuses, || format!("not answered {statuses:?}"))?;
        ensure(self.rest == Rest::Nothing, || "the last answer is cut".to_owned())?;
        // Whose request is answered before its end is told to stop, and that there is no fault (RFC 9113
        // §8.1).
        let has_fault = self.resets.iter().any(|code| *code != "NO_ERROR");
        ensure(!has_fault, || "a stream is reset".to_owned())?;
        let is_valid = self.seen.iter().all(|seen| seen.invalid.is_none());
        ensure(is_valid, || "something invalid reached the backend".to_owned())?;
        let messages = self.messages();
        let counted = checks.iter().find_map(|check| match check {
            Check::Messages(count) => Some(*count),
            _ => None,
        });
        ensure(messages.len() == counted.unwrap_or(1), || {
            format!("{} messages reached the backend", messages.len())
        })?;
        checks.iter().try_for_each(|check| {
            ensure(check.holds(self), || format!("{}{check:?}", Check::FAILED))
        })
    }
}

/// What happened in a few words, for a table.
impl fmt::Display for Observed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<String> =
            self.answers.iter().map(|answer| answer.status().to_string()).collect();
        let resets = self.resets.iter().map(|code| format!("reset: {code}"));
        let codes = resets.chain(self.goaway.map(|code| format!("ended: {code}")));
        let codes = codes.collect::<Vec<_>>().join(", ");
        let rest = match self.rest {
            Rest::Nothing if statuses.is_empty() && codes.is_empty() => "no answer",
            Rest::Nothing => "",
            Rest::Cut => "cut",
            Rest::Invalid(_) => "not HTTP",
        };
        let end = match self.end {
            End::Closed => "",
            End::Reset => "reset",
            End::Open => "left open",
        };
        let reached =
            match (self.messages().len(), self.seen.iter().find(|seen| seen.invalid.is_some())) {
                (_, Some(_)) => "invalid at the backend".to_owned(),
                (0, _) if self.seen.is_empty() => String::new(),
                (0, _) => "part at the backend".to_owned(),
                (1, _) => "at the backend".to_owned(),
                (count, _) => format!("{count} at the backend"),
            };
        let switched = match &self.switched {
            Some([Err(_), _]) if statuses == ["101"] => "the client is cut short",
            Some([_, Err(_)]) if statuses == ["101"] => "the backend is cut short",
            _ => "",
        };
        let next = match &self.next {
            Some(Err(_)) => "the next request fails",
            _ => "",
        };
        let parts = [&statuses.join(" "), rest, &codes, end, &reached, switched, next];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        formatter.write_str(&parts.join(", "))
    }
}
