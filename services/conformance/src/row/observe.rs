//! How a row is run: over HTTP/1, or over HTTP/2, or over what it changes to.

use std::io;

use super::{Client, Observed, Row, Target, Want, ensure};
use crate::{
    backend::{Answer, NEXT_LINE},
    client::{self, End, Got, Rest},
    http2::{Connection, Stream},
    message::{self, Message},
    steps::{self, Step},
};

/// What the request after a row's is answered with.
const NEXT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext";

impl Row {
    /// Runs the row.
    ///
    /// # Errors
    /// The proxy takes no connection.
    pub fn observe(&self, target: &Target<'_>) -> io::Result<Observed> {
        target.backend.answer_with(self.answer.clone());
        target.backend.forget();
        match &self.client {
            Client::Http1 => self.over_http1(target),
            Client::Http2 => self.over_http2(target),
            Client::Switching(steps) => self.switching(target, steps),
        }
    }

    fn over_http1(&self, target: &Target<'_>) -> io::Result<Observed> {
        let &Target { proxy, backend, patience, .. } = target;
        let got = client::exchange_in_two(proxy, [&self.request, &self.after_answer], patience)?;
        self.let_say_more(target);
        let seen = backend.seen();
        let next = match self.want {
            Want::Failed(_) | Want::Cut | Want::Clean(_) => Some(next_is_served(target)?),
            _ => None,
        };
        Ok(Observed { seen, next, ..self.observed(got) })
    }

    fn switching(&self, target: &Target<'_>, steps: &[Step]) -> io::Result<Observed> {
        let &Target { proxy, backend, patience, .. } = target;
        let (got, client) = steps::exchange(proxy, &self.request, steps, patience)?;
        let (seen, server) = (backend.seen(), backend.switched(patience));
        let next = Some(next_is_served(target)?);
        Ok(Observed { seen, next, switched: Some([client, server]), ..self.observed(got) })
    }

    fn over_http2(&self, target: &Target<'_>) -> io::Result<Observed> {
        let &Target { http2, backend, patience, .. } = target;
        let mut connection = Connection::open(http2, patience)?;
        connection.exchange(&self.request, &self.after_answer);
        self.let_say_more(target);
        let seen = backend.seen();
        let mut next = next_on(&mut connection, target);
        if matches!(self.want, Want::Ended(_) | Want::Broken) && !connection.goes_on() {
            next = next_on(&mut Connection::open(http2, patience)?, target);
        }
        let rest = connection.rest();
        let Connection { streams, goaway, .. } = connection;
        let is_open = goaway.is_none() && !streams.values().all(Stream::has_ended);
        let resets = streams.values().filter_map(|stream| stream.reset).collect();
        let (mut answers, mut interim) = (Vec::new(), Vec::new());
        for stream in streams.into_values() {
            interim.extend(stream.interim);
            answers.extend(stream.answer.filter(|_| stream.is_whole));
        }
        Ok(Observed {
            answers,
            interim,
            rest,
            // Of the streams: the connection goes on in any case.
            end: if is_open { End::Open } else { End::Closed },
            resets,
            goaway,
            seen,
            next: Some(next),
            ..Observed::default()
        })
    }

    /// What came back to a client of HTTP/1.
    fn observed(&self, got: Got) -> Observed {
        let (answers, interim, rest) = got.messages(message::method_of(&self.request));
        let Got { bytes, end } = got;
        Observed { bytes, answers, interim, rest, end, ..Observed::default() }
    }

    /// Lets the backend say what it says later, if it does.
    fn let_say_more(&self, target: &Target<'_>) {
        if matches!(self.answer, Answer::Late(..)) {
            (target.until_put_back)();
            target.backend.say_more();
        }
    }
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

/// Whether the next request on the same connection gets its own answer, and nothing else is asked for.
fn next_on(connection: &mut Connection, target: &Target<'_>) -> Result<(), String> {
    target.backend.answer_with(Answer::Keep(NEXT.to_vec()));
    target.backend.forget();
    let Stream { answer, is_whole, .. } = connection.next("/next");
    let messages = target.backend.messages();
    let lines: Vec<&str> = messages.iter().map(|message| &*message.start).collect();
    let is_answered = is_whole && answer.as_ref().is_some_and(|answer| answer.body == b"next");
    ensure(is_answered && lines == [NEXT_LINE], || {
        let status = answer.as_ref().map(Message::status);
        format!("the next request arrives as {lines:?} and is answered {status:?}")
    })
}
