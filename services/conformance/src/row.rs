//! What a row is, how it is run, and how what happened is judged.

use std::{fmt, io, net::SocketAddr, time::Duration};

use crate::{
    backend::{Answer, Backend, NEXT_LINE, Seen},
    client::{self, End, Got, Rest},
    message::{self, Message},
};

/// A good answer, for rows that are about the request.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the request after a backend's fault is answered with.
const NEXT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext";

/// One rule.
#[derive(Clone, Debug)]
pub struct Row {
    /// What happens, as a sentence.
    pub name: &'static str,
    /// Where it is written.
    pub rfc: &'static str,
    /// What the client sends.
    pub request: Vec<u8>,
    /// What it sends of that only when it has been answered.
    pub after_answer: Vec<u8>,
    /// What the backend does.
    pub answer: Answer,
    /// What may come of it.
    pub want: Want,
}

/// What may come of a row.
#[derive(Clone, Debug)]
pub enum Want {
    /// An answer with this status, a closed connection, and not a byte at the backend.
    Refused(u16),
    /// The head was good, the body is not: the backend never gets a whole message, the client a
    /// 400 or none, and its connection is closed.
    Broken,
    /// These statuses, in this order, and what else is to be seen at both ends.
    Served(&'static [u16], Vec<Check>),
    /// The backend's fault: one of these statuses, and the next request is served.
    Failed(&'static [u16]),
    /// The backend's fault after it had begun: the client can see that the answer is not whole,
    /// and the next request is served.
    Cut,
    /// The backend's answer is good, what came with it is not: the client gets the answer, and the
    /// next one nothing of the rest.
    Clean(&'static [u8]),
}

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

/// Where rows are run.
#[expect(missing_debug_implementations, reason = "a closure has none")]
pub struct Target<'a> {
    /// The proxy.
    pub proxy: SocketAddr,
    /// The only backend that it has.
    pub backend: &'a Backend,
    /// How long a client waits for anything more.
    pub patience: Duration,
    /// Waits until the proxy has put back a connection whose answer its client has.
    pub until_put_back: &'a dyn Fn(),
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Observed {
    bytes: Vec<u8>,
    answers: Vec<Message>,
    interim: Vec<Message>,
    rest: Rest,
    end: End,
    seen: Vec<Seen>,
    next: Option<Result<(), String>>,
}

impl Row {
    /// A request that is refused with 400.
    #[must_use]
    pub fn refused(name: &'static str, rfc: &'static str, request: impl AsRef<[u8]>) -> Self {
        Self::request(name, rfc, request, Want::Refused(400))
    }

    /// A request, and what may come of it.
    #[must_use]
    pub fn request(
        name: &'static str,
        rfc: &'static str,
        request: impl AsRef<[u8]>,
        want: Want,
    ) -> Self {
        let request = request.as_ref().to_vec();
        let (after_answer, answer) = (Vec::new(), Answer::Keep(OK.to_vec()));
        Self { name, rfc, request, after_answer, answer, want }
    }

    /// An answer to a POST, which nobody may send twice, and what may come of it.
    #[must_use]
    pub fn answer(name: &'static str, rfc: &'static str, answer: Answer, want: Want) -> Self {
        let request =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
        Self { answer, ..Self::request(name, rfc, request, want) }
    }

    /// Runs the row.
    ///
    /// # Errors
    /// The proxy takes no connection.
    pub fn observe(&self, target: &Target<'_>) -> io::Result<Observed> {
        let &Target { proxy, backend, patience, until_put_back } = target;
        backend.answer_with(self.answer.clone());
        backend.forget();
        let got = client::exchange_in_two(proxy, [&self.request, &self.after_answer], patience)?;
        let (answers, interim, rest) = got.messages(message::method_of(&self.request));
        if matches!(self.answer, Answer::Late(..)) {
            until_put_back();
            backend.say_more();
        }
        let seen = backend.seen();
        let next = match self.want {
            Want::Failed(_) | Want::Cut | Want::Clean(_) => Some(next_is_served(target)?),
            _ => None,
        };
        Ok(Observed { bytes: got.bytes, answers, interim, rest, end: got.end, seen, next })
    }

    /// Runs the row and judges what happened.
    ///
    /// # Errors
    /// What is wrong, with everything that was seen.
    pub fn run(&self, target: &Target<'_>) -> Result<(), String> {
        let observed = self.observe(target).map_err(|error| error.to_string())?;
        self.judge(&observed).map_err(|why| {
            let answer = String::from_utf8_lossy(&observed.bytes[..observed.bytes.len().min(300)]);
            format!("{}: {why}; there was: {observed}; {answer:?}", self.name)
        })
    }

    /// Whether what happened is what may happen.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge(&self, observed: &Observed) -> Result<(), String> {
        if let Rest::Invalid(why) = &observed.rest {
            return Err(format!("the client gets what is not HTTP: {why}"));
        }
        match &self.want {
            Want::Refused(status) => observed.is_refused(*status),
            Want::Broken => observed.is_broken(),
            Want::Served(statuses, checks) => observed.is_served(statuses, checks),
            Want::Failed(statuses) => {
                let is_one = |status: &u16| statuses.contains(status);
                ensure(observed.rest == Rest::Nothing, || "the answer is cut".to_owned())?;
                ensure(observed.statuses().iter().all(is_one), || "wrong status".to_owned())?;
                ensure(observed.answers.len() == 1, || "not one answer".to_owned())
            }
            Want::Cut => {
                // Before the first byte was passed on, an error or nothing at all says it as well.
                let is_visible = matches!(observed.statuses()[..], [] | [502]);
                ensure(is_visible && observed.end != End::Open, || {
                    "the client cannot see that the answer is cut".to_owned()
                })
            }
            Want::Clean(body) => {
                let bodies: Vec<&[u8]> =
                    observed.answers.iter().map(|answer| answer.body.as_slice()).collect();
                ensure(bodies == [*body], || "not exactly the answer".to_owned())
            }
        }?;
        observed.next.clone().unwrap_or(Ok(()))
    }
}

fn ensure(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

/// Whether another client's request gets its own answer and nothing else.
fn next_is_served(target: &Target<'_>) -> io::Result<Result<(), String>> {
    let &Target { proxy, backend, patience, .. } = target;
    backend.answer_with(Answer::Keep(NEXT.to_vec()));
    backend.forget();
    let request = format!("{NEXT_LINE}\r\nHost: b\r\nConnection: close\r\n\r\n");
    let got: Got = client::exchange(proxy, request.as_bytes(), patience)?;
    let (answers, rest) = got.answers("GET");
    // What is left of the row's request may still be on its way.
    let messages = backend.messages();
    let arrived = messages.iter().filter(|message| message.start == NEXT_LINE).count();
    let is_answered = rest == Rest::Nothing && matches!(&answers[..], [one] if one.body == b"next");
    Ok(ensure(is_answered && arrived == 1, || {
        let answer = String::from_utf8_lossy(&got.bytes);
        format!("the next request arrives {arrived} times and is answered {answer:?}")
    }))
}

impl Observed {
    fn statuses(&self) -> Vec<u16> {
        self.answers.iter().map(Message::status).collect()
    }

    fn messages(&self) -> Vec<&Message> {
        self.seen.iter().flat_map(|seen| &seen.messages).collect()
    }

    fn is_refused(&self, status: u16) -> Result<(), String> {
        ensure(self.seen.is_empty(), || "something reached the backend".to_owned())?;
        ensure(self.statuses() == [status], || format!("not answered {status}"))?;
        ensure(self.rest == Rest::Nothing, || "something follows the answer".to_owned())?;
        ensure(self.end != End::Open, || "the connection stays open".to_owned())
    }

    fn is_broken(&self) -> Result<(), String> {
        ensure(self.messages().is_empty(), || "a whole message reached the backend".to_owned())?;
        let is_valid = self.seen.iter().all(|seen| seen.invalid.is_none());
        ensure(is_valid, || "something invalid reached the backend".to_owned())?;
        ensure(matches!(self.statuses()[..], [] | [400]), || "not answered 400".to_owned())?;
        ensure(self.end != End::Open, || "the connection stays open".to_owned())
    }

    fn is_served(&self, statuses: &[u16], checks: &[Check]) -> Result<(), String> {
        ensure(self.statuses() == statuses, || format!("not answered {statuses:?}"))?;
        ensure(self.rest == Rest::Nothing, || "the last answer is cut".to_owned())?;
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

impl Check {
    /// What the word of a check that does not hold begins with.
    pub const FAILED: &'static str = "this does not hold: ";

    fn holds(&self, observed: &Observed) -> bool {
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

/// What happened in a few words, for a table.
impl fmt::Display for Observed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<String> =
            self.answers.iter().map(|answer| answer.status().to_string()).collect();
        let rest = match self.rest {
            Rest::Nothing if statuses.is_empty() => "no answer",
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
        let next = match &self.next {
            Some(Err(_)) => "the next request fails",
            _ => "",
        };
        let parts = [&statuses.join(" "), rest, end, &reached, next];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        formatter.write_str(&parts.join(", "))
    }
}
