//! What a row is, how it is run, and how what happened is judged.

mod check;
mod observed;

use std::{io, net::SocketAddr, time::Duration};

pub use self::{check::Check, observed::Observed};
use crate::{
    backend::{Answer, Backend, NEXT_LINE},
    client::{self, End, Got, Rest},
    message,
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
