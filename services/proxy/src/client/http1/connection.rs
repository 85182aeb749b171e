//! What comes on a client's connection of HTTP/1: requests one after the other, each answered before
//! the next is read.
//!
//! It is one future without tasks. While it waits for a backend it also looks whether the client has
//! left.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use socket2::SockRef;

use super::{
    answer::Answer,
    backlog::Backlog,
    head::{RequestHead, Said},
    interim::Interim as WireInterim,
    turns::Turn,
    upload::WireBody,
    wire::{Next, SharedWire, Uploading, Wire},
};
use crate::{
    body::{ClientBody, ResponseBody},
    client::{Interim, Socket, Then, activity::Activity, activity::Phase},
    error::{self, Reason},
    forward::{Origin, forward},
    headers::{Client, spare},
    limits::Refusal,
    worker::{Stage, Worker},
};

/// A client's connection.
pub(super) struct Connection<'a> {
    worker: &'a Rc<Worker>,
    client: &'a Rc<Client>,
    activity: &'a Activity,
    wire: SharedWire,
}

/// The client is gone, or can be told no more.
struct Gone;

/// What came of a look at a body.
enum Taken {
    Part,
    End,
    /// The answer is not whole.
    Cut,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        worker: &'a Rc<Worker>,
        client: &'a Rc<Client>,
        activity: &'a Activity,
        wire: &SharedWire,
    ) -> Self {
        Self { worker, client, activity, wire: Rc::clone(wire) }
    }

    /// Takes the socket and what was read from it. For all others, the connection has ended.
    pub(super) fn take(&self) -> Option<(Socket, BytesMut)> {
        self.wire.borrow_mut().take()
    }

    /// Whether nobody hears of the client's end, and somebody should look for it now and then.
    pub(super) fn is_unread(&self) -> bool {
        self.wire.borrow().is_unread
    }

    /// Whether nothing has come since the last request, not even half an empty line.
    pub(super) fn has_read_nothing(&self) -> bool {
        self.wire.borrow().read.is_empty()
    }

    /// Serves requests until the connection is to be closed or is no longer HTTP/1.
    pub(super) async fn requests(&self) -> Then {
        let limits = &self.worker.settings.limits;
        loop {
            let next = poll_fn(|context| self.wire.borrow_mut().poll_next(context, limits)).await;
            let kept = match next {
                Next::Request(head) => self.serve(head).await,
                Next::Refused { refusal, is_for_head } => self.refuse(refusal, is_for_head).await,
                Next::Http2 => {
                    return self
                        .take()
                        .map_or(Then::Close, |(socket, read)| Then::Http2(socket, read));
                }
                Next::End => Err(Gone),
            };
            match kept {
                Ok(true) if !self.is_finishing() => self.activity.enter(Phase::Idle),
                Ok(is_kept) => {
                    self.wire.borrow_mut().is_cut_short |= is_kept;
                    return self.close();
                }
                Err(Gone) => return Then::Close,
            }
        }
    }

    /// Ends the connection after an answer that has gone out whole.
    pub(super) fn close(&self) -> Then {
        let has_more = self.wire.borrow().has_more();
        match self.take() {
            Some((socket, _)) if has_more => Then::Linger(socket),
            _ => Then::Close,
        }
    }

    fn is_finishing(&self) -> bool {
        self.worker.is_draining.get() && *self.worker.stage.borrow() >= Stage::Finishing
    }

    /// Serves a request. Whether another one may follow.
    async fn serve(&self, head: RequestHead) -> Result<bool, Gone> {
        let RequestHead { method, uri, headers, framing, said } = head;
        self.activity.serve();
        let body = WireBody::new(&self.wire, framing, said.expects_continue);
        let is_for_head = method == Method::HEAD;
        let mut request = Request::new(body.map_or(ClientBody::None, ClientBody::Http1));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = said.version;
        *request.headers_mut() = headers;
        let response = self.forward(request, &said).await?;
        self.answer(response, said, is_for_head).await
    }

    /// Has a request answered, for as long as its client is there.
    async fn forward(
        &self,
        request: Request<ClientBody>,
        said: &Said,
    ) -> Result<Response<ResponseBody>, Gone> {
        let takes_interim =
            said.version == Version::HTTP_11 && self.worker.settings.forwarding.interim_responses;
        let interim = takes_interim.then(|| Interim::Http1(WireInterim::new(&self.wire)));
        let origin = Origin { client: Rc::clone(self.client), busy: None, interim };
        let mut forwarding = pin!(forward(Rc::clone(self.worker), origin, request));
        poll_fn(|context| {
            if let Poll::Ready(response) = forwarding.as_mut().poll(context) {
                return Poll::Ready(Ok(response));
            }
            let mut wire = self.wire.borrow_mut();
            if let Poll::Ready(Err(_)) = wire.poll_flush(context) {
                return Poll::Ready(Err(Gone));
            }
            wire.poll_gone(context).map(|()| Err(Gone))
        })
        .await
    }

    /// Writes an answer. Whether another request may follow.
    async fn answer(
        &self,
        response: Response<ResponseBody>,
        mut said: Said,
        is_for_head: bool,
    ) -> Result<bool, Gone> {
        let (parts, mut body) = response.into_parts();
        let asks_for_more = said.keeps_connection;
        let may_end = poll_fn(|context| Poll::Ready(self.wire.borrow_mut().may_end(context))).await;
        // What comes after a request for another protocol is of that protocol, or of this one: which
        // of them, the client cannot have known when it sent it (RFC 9110 §7.8).
        said.keeps_connection &= may_end && !said.may_switch;
        let size = body.size_hint().exact();
        let mut answer = {
            let mut wire = self.wire.borrow_mut();
            let answer = Answer::begin(&mut wire.out, &parts, size, &said, is_for_head);
            wire.is_open_ended = answer.ends_with_connection();
            spare::give(parts.headers);
            wire.is_cut_short = asks_for_more && !answer.keeps_connection;
            answer
        };
        if let ResponseBody::Switched(tunnel) = body {
            poll_fn(|context| self.wire.borrow_mut().poll_flush(context))
                .await
                .map_err(|_| Gone)?;
            let (socket, early) = self.take().ok_or(Gone)?;
            tunnel.start(socket, early);
            return Err(Gone);
        }
        self.send(&mut answer, &mut body).await?;
        drop(body);
        // Also if nothing may follow: the backend may not have read all of it yet.
        let is_uploaded = may_end && self.is_uploaded().await;
        Ok(answer.keeps_connection && is_uploaded)
    }

    /// Waits until the body of a request that was answered is out of the way, for as long as it
    /// moves. Whether it is.
    async fn is_uploaded(&self) -> bool {
        while self.wire.borrow().is_wanted() {
            let before = self.wire.borrow().uploaded;
            let uploaded = poll_fn(|context| self.wire.borrow_mut().poll_uploaded(context));
            let limit = self.worker.settings.timeouts.response;
            let is_late = tokio::time::timeout(limit, uploaded).await.is_err();
            if is_late && self.wire.borrow().uploaded == before {
                return false;
            }
        }
        poll_fn(|context| Poll::Ready(self.wire.borrow_mut().poll_uploaded(context))).await
            == Poll::Ready(true)
    }

    /// Writes the body of an answer behind its head, as it comes from the backend: what is there is
    /// gathered, and no more is taken before that has gone out.
    async fn send(&self, answer: &mut Answer, body: &mut ResponseBody) -> Result<(), Gone> {
        let (mut gathers, mut is_done) = (true, body.is_end_stream());
        let mut turn = Turn::begin(self.wire.borrow().out.written());
        let rate_min = self.worker.settings.limits.download_rate;
        let mut backlog = Backlog::new(&self.worker.gauges, rate_min);
        let mut is_cut = is_done && answer.end(&mut self.wire.borrow_mut().out).is_err();
        let sent = poll_fn(|context| {
            loop {
                let mut waits = false;
                while gathers && !is_done {
                    let Poll::Ready(taken) = self.poll_part(answer, body, context) else {
                        waits = true;
                        break;
                    };
                    let out = &mut self.wire.borrow_mut().out;
                    is_done = !matches!(taken, Taken::Part) || body.is_end_stream();
                    is_cut = matches!(taken, Taken::Cut) || (is_done && answer.end(out).is_err());
                    is_done |= is_cut;
                    gathers = out.takes_more() && out.len() < backlog.gathered();
                }
                let mut wire = self.wire.borrow_mut();
                let flushed = wire.poll_flush(context);
                if let Poll::Ready(Err(_)) = flushed {
                    return Poll::Ready(Err(Gone));
                }
                gathers = flushed.is_ready();
                if !gathers {
                    body.take_in(context);
                }
                if backlog.note(gathers, self.activity, &mut wire.out, body).is_err() {
                    is_cut = true;
                    return Poll::Ready(Ok(()));
                }
                match flushed {
                    Poll::Ready(_) if is_done => return Poll::Ready(Ok(())),
                    Poll::Ready(_) if !waits => {
                        if turn.is_over(wire.out.written(), context) {
                            return Poll::Pending;
                        }
                    }
                    Poll::Pending if !is_done && body.ends(context) => {
                        is_done = true;
                        is_cut = answer.end(&mut wire.out).is_err();
                    }
                    // Either side has to move. Perhaps the client does not want to any more.
                    _ => return wire.poll_gone(context).map(|()| Err(Gone)),
                }
            }
        });
        let sent = sent.await;
        self.wire.borrow_mut().out.end_pipe();
        sent?;
        if is_cut {
            return Err(Gone);
        }
        self.wire.borrow_mut().is_open_ended = false;
        Ok(())
    }

    /// Takes the next part of a body into what is to be written.
    fn poll_part(
        &self,
        answer: &mut Answer,
        body: &mut ResponseBody,
        context: &mut Context<'_>,
    ) -> Poll<Taken> {
        let pipeable = if answer.is_plain() { body.pipeable() } else { 0 };
        // The wire is let go of meanwhile: with a body that fails, an upload on the same wire may end.
        let pipe = self.wire.borrow_mut().out.take_pipe(pipeable, &self.worker.gauges);
        let pushed = if let Some(mut pipe) = pipe {
            let piped = body.poll_pipe(context, &mut pipe);
            let out = &mut self.wire.borrow_mut().out;
            out.put_pipe(pipe);
            if matches!(piped, Poll::Ready(Some(Ok(0)))) {
                out.refuse_pipe();
            }
            ready!(piped).map(|piped| piped.map(|bytes| answer.pass(bytes)))
        } else {
            let frame = ready!(Pin::new(body).poll_frame(context));
            let out = &mut self.wire.borrow_mut().out;
            frame.map(|frame| frame.map(|frame| answer.push(frame, out)))
        };
        Poll::Ready(match pushed {
            Some(Ok(Ok(()))) => Taken::Part,
            Some(Ok(Err(_)) | Err(_)) => Taken::Cut,
            None => Taken::End,
        })
    }

    /// Answers a request that is not taken, after which nothing is read.
    async fn refuse(&self, refusal: Refusal, is_for_head: bool) -> Result<bool, Gone> {
        let gauges = &self.worker.gauges;
        gauges.invalid_heads.fetch_add(1, Ordering::Relaxed);
        if let Some(limit) = refusal.limit {
            gauges.limits.hit(limit);
        }
        self.activity.serve();
        self.write_refusal(refusal.reason, is_for_head);
        let flushed = poll_fn(|context| self.wire.borrow_mut().poll_flush(context)).await;
        flushed.map(|()| false).map_err(|_| Gone)
    }

    fn write_refusal(&self, reason: Reason, is_for_head: bool) {
        let (parts, text) = error::response(reason).into_parts();
        let mut wire = self.wire.borrow_mut();
        let Wire { out, upload, .. } = &mut *wire;
        // What comes after it is unknown.
        *upload = Uploading::Broken;
        let length = Some(text.len() as u64);
        let mut answer = Answer::begin(out, &parts, length, &Said::NOTHING, is_for_head);
        if !is_for_head {
            // It is as long as it says of itself.
            let _ = answer.push(http_body::Frame::data(text), out);
        }
    }

    /// Ends a connection whose client took too long, which it is told if that was over a head.
    pub(super) fn time_out(&self) -> Then {
        if self.activity.is(Phase::Head) && !self.activity.is_blocked() {
            let is_for_head = self.wire.borrow().is_for_head();
            self.write_refusal(Reason::RequestTimeout, is_for_head);
            self.wire.borrow_mut().write_what_fits();
            return self.close();
        }
        Then::Close
    }
}

impl Drop for Connection<'_> {
    /// Whatever ends it comes here: an error, a limit of time, the end of a stop.
    fn drop(&mut self) {
        let is_open_ended = self.wire.borrow().is_open_ended;
        // A body that is still being sent on ends with it.
        if let Some((socket, _)) = self.take()
            && is_open_ended
        {
            // With a reset, which nobody takes for the end of the answer. Fails only if the client
            // is gone.
            let _ = SockRef::from(&socket.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::{client::http1::wire::tests::connected, http1::Framing, worker::tests::Bench};

    /// After how long a connection is given up whose request's body goes on after so many seconds.
    async fn given_up_after(parts: &[u64]) -> Duration {
        let (_client, wire, activity) = connected().await;
        let bench = Bench::new(&[], ([127, 0, 0, 1], 9).into());
        let client = Rc::new(Client::new([127, 0, 0, 1].into(), &[]));
        let connection = Connection::new(&bench.worker, &client, &activity, &wire);
        // Somebody reads it, and it does not end.
        let _body = WireBody::new(&wire, Framing::Length(10), false);
        tokio::time::pause();
        let start = Instant::now();
        let moving = async {
            for part in parts {
                tokio::time::sleep_until(start + Duration::from_secs(*part)).await;
                wire.borrow_mut().uploaded += 1;
            }
        };
        let ((), is_uploaded) = tokio::join!(moving, connection.is_uploaded());
        assert!(!is_uploaded);
        start.elapsed()
    }

    #[tokio::test]
    async fn a_body_that_outlives_its_answer_has_its_time_as_long_as_it_moves() {
        let limit = 30;
        for (parts, seconds) in [(&[][..], limit), (&[20], 2 * limit), (&[1, 29, 59], 3 * limit)] {
            let after = given_up_after(parts).await;
            let expected = Duration::from_secs(seconds);
            // Timers go by the millisecond.
            let late = expected + Duration::from_millis(4);
            assert!((expected..late).contains(&after), "{after:?} for {parts:?}");
            tokio::time::resume();
        }
    }
}
