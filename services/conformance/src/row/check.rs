//! What can be seen of a row at both ends.

use super::Observed;
use crate::message::Message;

/// One thing to be seen, of the first message if nothing else is said.
#[derive(Clone, Debug)]
pub enum Check {
    /// The request line at the backend.
    Line(&'static str),
    /// A field at the backend, with exactly this value among its values.
    Has(&'static str, &'static str),
    /// All values of a field at the backend, in their order.
    Values(&'static str, &'static [&'static str]),
    /// A field at the backend that contains this.
    Contains(&'static str, &'static str),
    /// No such field at the backend.
    Lacks(&'static str),
    /// The body at the backend.
    Body(&'static [u8]),
    /// A field after the body at the backend.
    Trailer(&'static str, &'static str),
    /// No such field after the body at the backend.
    TrailerLacks(&'static str),
    /// The body of the message at the backend that has this target.
    BodyOf(&'static str, &'static [u8]),
    /// So many whole messages at the backend. One if nothing is said.
    Messages(usize),
    /// A field of the answer.
    ClientHas(&'static str, &'static str),
    /// All values of a field of the answer, in their order.
    ClientValues(&'static str, &'static [&'static str]),
    /// No such field in the answer.
    ClientLacks(&'static str),
    /// The answer's body.
    ClientBody(&'static [u8]),
    /// A field after the answer's body.
    ClientTrailer(&'static str, &'static str),
    /// No such field after the answer's body.
    ClientTrailerLacks(&'static str),
    /// The bodies of all answers, in their order.
    ClientBodies(&'static [&'static [u8]]),
    /// Interim answers with these statuses, in this order. Anything may come if nothing is said.
    Interim(&'static [u16]),
    /// A field of the first of them.
    InterimHas(&'static str, &'static str),
    /// No such field in the first of them.
    InterimLacks(&'static str),
}

impl Check {
    /// What the word of a check that does not hold begins with.
    pub const FAILED: &'static str = "this does not hold: ";

    pub(super) fn holds(&self, observed: &Observed) -> bool {
        let (nobody, nothing) = (Message::default(), Message::default());
        let messages = observed.messages();
        let message = messages.first().copied().unwrap_or(&nobody);
        let answer = observed.answers.first().unwrap_or(&nothing);
        let interim = &observed.interim;
        let has = |message: &Message, name, value: &str| {
            message.values(name).any(|other| other == value.as_bytes())
        };
        let are = |message: &Message, name, values: &[&str]| {
            message.values(name).eq(values.iter().map(|value| value.as_bytes()))
        };
        let trails = |message: &Message, name: &str, value: &str| {
            message.trailers.iter().any(|field| field.0 == name && field.1 == value.as_bytes())
        };
        let trails_not =
            |message: &Message, name| message.trailers.iter().all(|field| field.0 != name);
        match *self {
            Self::Line(line) => message.start == line,
            Self::Has(name, value) => has(message, name, value),
            Self::Values(name, values) => are(message, name, values),
            Self::Contains(name, part) => {
                message.values(name).any(|value| String::from_utf8_lossy(value).contains(part))
            }
            Self::Lacks(name) => !message.has(name),
            Self::Body(body) => message.body == body,
            Self::Trailer(name, value) => trails(message, name, value),
            Self::TrailerLacks(name) => trails_not(message, name),
            Self::BodyOf(target, body) => {
                messages.iter().any(|message| message.target() == target && message.body == body)
            }
            Self::Messages(_) => true,
            Self::ClientHas(name, value) => has(answer, name, value),
            Self::ClientValues(name, values) => are(answer, name, values),
            Self::ClientLacks(name) => !answer.has(name),
            Self::ClientBody(body) => answer.body == body,
            Self::ClientTrailer(name, value) => trails(answer, name, value),
            Self::ClientTrailerLacks(name) => trails_not(answer, name),
            Self::ClientBodies(bodies) => {
                observed.answers.iter().map(|answer| &*answer.body).eq(bodies.iter().copied())
            }
            Self::Interim(statuses) => {
                interim.iter().map(Message::status).eq(statuses.iter().copied())
            }
            Self::InterimHas(name, value) => {
                interim.first().is_some_and(|first| has(first, name, value))
            }
            Self::InterimLacks(name) => interim.first().is_some_and(|first| !first.has(name)),
        }
    }
}
