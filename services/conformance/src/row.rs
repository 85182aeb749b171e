//! What a row is, how it is run, and how what happened is judged.

mod check;
mod observe;
mod observed;

use std::{net::SocketAddr, time::Duration};

pub use self::{check::Check, observed::Observed};
use crate::{
    backend::{Answer, Backend},
    client::{End, Rest},
    steps::Step,
};

/// A good answer, for rows that are about the request.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What backends are asked in rows that are about their answers.
pub(crate) const ASKED: &[u8] =
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";

/// One rule.
#[derive(Clone, Debug)]
pub struct Row {
    /// What happens, as a sentence.
    pub name: &'static str,
    /// Where it is written.
    pub rfc: &'static str,
    /// Who sends it.
    pub client: Client,
    /// What the client sends.
    pub request: Vec<u8>,
    /// What it sends of that only when it has been answered.
    pub after_answer: Vec<u8>,
    /// What the backend does.
    pub answer: Answer,
    /// What may come of it.
    pub want: Want,
}

/// What a row's client speaks.
#[derive(Clone, Debug)]
pub enum Client {
    /// HTTP/1.
    Http1,
    /// HTTP/1, and once it is told to change to another protocol, what is said then.
    Switching(Vec<Step>),
    /// HTTP/2, after the preface and settings. Each row leaves its connection as it was for others: on it
    /// the next request is served, unless it says otherwise.
    Http2,
}

/// What may come of a row.
#[derive(Clone, Debug)]
pub enum Want {
    /// An answer with this status, a closed connection if it is one of HTTP/1, and not a byte at the
    /// backend.
    Refused(u16),
    /// No request of HTTP/2 (RFC 9113 §8.1.1): an answer of 400 or a stream that is reset for it, and not
    /// a byte at the backend.
    Malformed,
    /// No connection of HTTP/2: it is ended with one of these codes, and not a byte is at the backend. A
    /// new one is served.
    Ended(&'static [&'static str]),
    /// The head was good, the body is not: the backend never gets a whole message, the client a
    /// 400 or none, and its connection is closed. Over HTTP/2 its stream is reset, or the connection is
    /// ended and a new one is served.
    Broken,
    /// These statuses, in this order, and what else is to be seen at both ends.
    Served(&'static [u16], Vec<Check>),
    /// Another protocol: 101, what else is to be seen at both ends, and each of them does all that it is
    /// to do then.
    Switched(Vec<Check>),
    /// The backend's fault: one of these statuses, and the next request is served.
    Failed(&'static [u16]),
    /// The backend's fault after it had begun: the client can see that the answer is not whole,
    /// and the next request is served.
    Cut,
    /// The backend's answer is good, what came with it is not: the client gets the answer, and the
    /// next one nothing of the rest.
    Clean(&'static [u8]),
}

/// Where rows are run.
#[expect(missing_debug_implementations, reason = "a closure has none")]
pub struct Target<'a> {
    /// The proxy.
    pub proxy: SocketAddr,
    /// The same for clients of HTTP/2, which may be a port of their own.
    pub http2: SocketAddr,
    /// The only backend that it has.
    pub backend: &'a Backend,
    /// How long a client waits for anything more.
    pub patience: Duration,
    /// Waits until the proxy has put back a connection whose answer its client has.
    pub until_put_back: &'a dyn Fn(),
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
        Self { name, rfc, client: Client::Http1, request, after_answer, answer, want }
    }

    /// A request in frames, and what may come of it.
    #[must_use]
    pub fn http2(
        name: &'static str,
        rfc: &'static str,
        frames: impl AsRef<[u8]>,
        want: Want,
    ) -> Self {
        Self { client: Client::Http2, ..Self::request(name, rfc, frames, want) }
    }

    /// An answer to a POST, which nobody may send twice, and what may come of it.
    #[must_use]
    pub fn answer(name: &'static str, rfc: &'static str, answer: Answer, want: Want) -> Self {
        Self { answer, ..Self::request(name, rfc, ASKED, want) }
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
            Want::Malformed => observed.is_malformed(),
            Want::Ended(codes) => observed.is_ended(codes),
            Want::Broken => observed.is_broken(),
            Want::Served(statuses, checks) => observed.is_served(statuses, checks),
            Want::Switched(checks) => observed.is_switched(checks),
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
