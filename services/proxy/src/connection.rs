//! One connection of HTTP/1.1 to a backend: made, used for one request at a time, and looked at
//! before each.
//!
//! No task of its own drives it. Whoever serves the client writes the request and reads the
//! response; while it is idle nobody does, and its end is found out by [`Connection::is_silent`].

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    mem::MaybeUninit,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use balance::Member;
use bytes::{Bytes, BytesMut};
use http::{
    Method, StatusCode,
    header::{EXPECT, TRANSFER_ENCODING},
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, Interest},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};

use crate::{
    body::{RequestBody, Upload},
    buffered::{LEAST_BYTES, MOST_BYTES},
    client::Interim,
    connect::{self, Lead},
    error::Reason,
    http1::{self, NotSent, Outgoing, ResponseHead, Unfit},
    limits::FieldLimits,
    pipe::Pipe,
    sending::Sending,
    stats::{Counted, Gauges},
};

/// Interim responses before the one that counts. More are no help to anybody.
pub(crate) const INTERIM_MAX: u32 = 32;

/// With less room than this in the buffer, a read would be worth too little.
const ROOM_BYTES_MIN: usize = 1024;

/// A connection that can send one request at a time. In a box, as each request moves it from those that
/// are idle to its response's body and back.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: OwnedReadHalf,
    writer: Writer,
    /// What was read and belongs to nobody yet.
    pub(crate) buffer: BytesMut,
    /// What to read at once, where there is room for it: more of a response that keeps coming.
    read_bytes: usize,
    /// What to read at once at most.
    read_bytes_max: usize,
    /// Whether the response that came last, if any, leaves it open for another request.
    is_kept: bool,
    /// The response that came last had no body, which some backends send all the same.
    may_say_more: bool,
    /// How many interim responses to its request have come.
    interims: u32,
    /// Since when it waits for a request.
    idle_since: Instant,
    pub(crate) lead: Lead,
    /// What the fields of a response may be.
    limits: FieldLimits,
    counted: Counted,
}

/// The half of a connection that is written to.
#[derive(Debug)]
enum Writer {
    Here(OwnedWriteHalf),
    /// A body goes on being written, though the response has come.
    Busy(Sending<Option<OwnedWriteHalf>>),
    /// It owes a body that was announced and will not come. It stays open until the response has ended:
    /// to many a backend the end of its requests is that of its client.
    #[allow(dead_code)] // Held, not used.
    Owing(OwnedWriteHalf),
    /// Something went wrong with it.
    Gone,
}

/// Why no response came on a connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing of the request was sent, and this is its body.
    Unsent(RequestBody),
    /// What the backend did before it asked for the request's body, which this is.
    Unasked(Reason, RequestBody),
    /// The request's own body failed.
    Body,
    /// What the backend did.
    Backend(Reason),
}

/// What 100 (Continue) from a backend means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Continue {
    /// It asks for the request's body, which waits for that.
    Asks,
    /// The body is on its way. Who waited to be asked for it was; all others are told (RFC 9110 §15.2).
    Late,
    /// There is no body, and the client is told.
    Passed,
}

/// Makes a connection to a backend, trying its addresses in turn.
///
/// # Errors
/// The reason, with nothing sent.
pub(crate) async fn open(
    member: &Member,
    timeout: Duration,
    gauges: &Arc<Gauges>,
    limits: FieldLimits,
) -> Result<Box<Connection>, Reason> {
    let (stream, lead) = connect::to(member, timeout).await?;
    let (reader, writer) = stream.into_split();
    Ok(Box::new(Connection {
        reader,
        writer: Writer::Here(writer),
        buffer: BytesMut::new(),
        read_bytes: LEAST_BYTES,
        read_bytes_max: MOST_BYTES,
        is_kept: true,
        may_say_more: false,
        interims: 0,
        idle_since: Instant::now(),
        lead,
        limits,
        counted: Counted::new(gauges, |gauges| &gauges.backend_open),
    }))
}

impl Connection {
    /// Whether the backend has neither sent anything nor closed: bytes that nobody asked for make a
    /// connection as useless as its end. Without `asks_kernel`, as far as we have heard, which costs
    /// no system call; with it, what has not come to us yet is seen too.
    pub(crate) fn is_silent(&self, asks_kernel: bool) -> bool {
        let stream = self.reader.as_ref();
        let peek = || SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
        let asks_kernel = asks_kernel || self.may_say_more;
        let peeked = if asks_kernel { peek() } else { stream.try_io(Interest::READABLE, peek) };
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Takes note that the response has ended. Whether the request's body has to end yet. Where that
    /// goes on, the backend has not waited for it, and may take what is left for another request, whose
    /// answer must not go to anybody: the connection gets no more of them.
    pub(crate) fn end_response(&mut self) -> bool {
        let Writer::Busy(sending) = &self.writer else { return false };
        self.is_kept &= sending.has_ended();
        true
    }

    /// Waits until the body has gone out, for as long as it moves: no longer than `timeout` for any
    /// part of it.
    pub(crate) async fn finish_sending(&mut self, upload: &Upload, timeout: Duration) {
        if let Writer::Busy(sending) = &mut self.writer {
            let writer = sending.finish(upload, timeout).await.flatten();
            self.writer = writer.map_or(Writer::Gone, Writer::Here);
        }
    }

    /// Prepares it to wait for a request. Whether it can serve one.
    pub(crate) fn begin_idle(&mut self, now: Instant) -> bool {
        self.idle_since = now;
        (self.read_bytes, self.read_bytes_max) = (LEAST_BYTES, MOST_BYTES);
        self.is_kept && self.buffer.is_empty() && matches!(self.writer, Writer::Here(_))
    }

    /// Gives its buffer back: it will not be needed soon.
    pub(crate) fn rest(&mut self) {
        self.buffer = BytesMut::new();
    }

    /// For how long it has been idle.
    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        now.duration_since(self.idle_since)
    }

    /// Sends a request and reads the head of its response; `interim` gets those before it. What comes
    /// of a body after that goes on being sent by itself. With `wait` it is asked for only when the
    /// backend does, or has said nothing for so long (RFC 9110 §10.1.1).
    ///
    /// # Errors
    /// No response came. The connection is of no use any more.
    pub(crate) async fn exchange(
        &mut self,
        head: &http1::Head,
        body: RequestBody,
        wait: Option<Duration>,
        interim: Option<&Interim>,
    ) -> Result<ResponseHead, Failure> {
        let Writer::Here(mut writer) = std::mem::replace(&mut self.writer, Writer::Gone) else {
            return Err(Failure::Backend(Reason::ResetBeforeHeaders));
        };
        self.interims = 0;
        let has_body = matches!(body, RequestBody::Client(..));
        let outgoing = Outgoing::new(head, body);
        if has_body {
            return self.exchange_with_body(writer, outgoing, head, (wait, interim)).await;
        }
        match outgoing.send(&mut writer).await {
            Ok(()) => self.writer = Writer::Here(writer),
            Err(NotSent::Unsent(body)) => return Err(Failure::Unsent(body)),
            // Perhaps it has answered before it closed.
            Err(_) => {}
        }
        let read = self.read_head(head, interim, Continue::Passed).await;
        answer(read)
    }

    /// The same, where the response may come before the request has gone out, or instead.
    async fn exchange_with_body(
        &mut self,
        mut writer: OwnedWriteHalf,
        mut outgoing: Outgoing,
        head: &http1::Head,
        (wait, interim): (Option<Duration>, Option<&Interim>),
    ) -> Result<ResponseHead, Failure> {
        if let Some(wait) = wait {
            // In a box: few bodies wait, and it would be a part of every request.
            let asking = self.until_asked(&mut writer, &mut outgoing, head, (wait, interim));
            if let Some(answer) = Box::pin(asking).await? {
                // Nobody wants the body any more.
                self.writer = Writer::Owing(writer);
                return Ok(answer);
            }
        }
        let mut sending = Box::pin(async move {
            let sent = outgoing.send(&mut writer).await;
            (writer, sent)
        });
        let mut sent = None;
        let mut reading = Box::pin(self.read_head(head, interim, Continue::Late));
        let read = poll_fn(|context| {
            if sent.is_none()
                && let Poll::Ready((writer, result)) = sending.as_mut().poll(context)
            {
                sent = Some(match result {
                    Ok(()) => Writer::Here(writer),
                    Err(NotSent::Body) => return Poll::Ready(Err(Failure::Body)),
                    // What it may have said is no answer to this request.
                    Err(NotSent::Unsent(body)) => return Poll::Ready(Err(Failure::Unsent(body))),
                    Err(NotSent::Closed) => Writer::Gone,
                });
            }
            reading.as_mut().poll(context).map(answer)
        });
        let head = read.await?;
        drop(reading);
        self.writer = sent.unwrap_or_else(|| {
            Writer::Busy(Sending::start(async move {
                let (writer, sent) = sending.await;
                sent.is_ok().then_some(writer)
            }))
        });
        Ok(head)
    }

    /// Sends a head alone, and waits until the backend asks for the body or has said nothing for so long.
    /// What it answers instead, if it does.
    async fn until_asked(
        &mut self,
        writer: &mut OwnedWriteHalf,
        outgoing: &mut Outgoing,
        head: &http1::Head,
        (wait, interim): (Duration, Option<&Interim>),
    ) -> Result<Option<ResponseHead>, Failure> {
        if !outgoing.send_head(writer).await {
            return Err(Failure::Unsent(outgoing.take_body()));
        }
        let reading = self.read_head(head, interim, Continue::Asks);
        match tokio::time::timeout(wait, reading).await {
            Ok(Ok(Some(answer))) => Ok(Some(answer)),
            Ok(Ok(None)) | Err(_) => {
                outgoing.ask_for_body();
                Ok(None)
            }
            Ok(Err(reason)) => Err(Failure::Unasked(reason, outgoing.take_body())),
        }
    }

    /// Reads the head of the response that counts; `None` if the backend asks for the request's body
    /// first.
    async fn read_head(
        &mut self,
        request: &http1::Head,
        interim: Option<&Interim>,
        on_continue: Continue,
    ) -> Result<Option<ResponseHead>, Reason> {
        let is_for_head = request.method == Method::HEAD;
        loop {
            let head = self.read_any_head(is_for_head).await?;
            let is_switch = head.status == StatusCode::SWITCHING_PROTOCOLS;
            if is_switch || !head.status.is_informational() {
                // Who speaks HTTP/1.0 may take chunks for requests (RFC 9112 §6.1).
                let has_chunks = || request.headers.contains_key(TRANSFER_ENCODING);
                self.is_kept = head.keeps_connection && (head.is_http11 || !has_chunks());
                self.may_say_more = is_for_head
                    || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
                return Ok(Some(head));
            }
            if self.interims == INTERIM_MAX {
                return Err(Reason::ProtocolError);
            }
            self.interims += 1;
            let is_passed_on = match on_continue {
                _ if head.status != StatusCode::CONTINUE => true,
                Continue::Asks => return Ok(None),
                // The client has been asked for its body here, if it waited for that.
                Continue::Late => !request.headers.contains_key(EXPECT),
                Continue::Passed => true,
            };
            if let Some(interim) = interim.filter(|_| is_passed_on) {
                interim.send(head.status, head.reason.as_ref(), head.headers);
            }
        }
    }

    /// Reads the next head, be it of an interim response.
    async fn read_any_head(&mut self, is_for_head: bool) -> Result<ResponseHead, Reason> {
        // What was looked at in vain: only a new line can make a head of it.
        let mut seen = 0;
        loop {
            let is_worth_it = seen == 0
                || self.buffer.len() >= self.limits.bytes as usize
                || memchr::memchr(b'\n', &self.buffer[seen..]).is_some();
            if is_worth_it && !self.buffer.is_empty() {
                let read = http1::read_head(&mut self.buffer, is_for_head, self.limits);
                match read.map_err(|unfit| self.refuse(unfit))? {
                    Some(head) => return Ok(head),
                    None => seen = self.buffer.len(),
                }
            }
            match poll_fn(|context| self.poll_fill(context)).await {
                Ok(0) | Err(_) => return Err(Reason::ResetBeforeHeaders),
                Ok(_) => {}
            }
        }
    }

    /// Why no more of a response is read that is not as it should be.
    pub(crate) fn refuse(&self, unfit: Unfit) -> Reason {
        if let Unfit::Beyond(limit) = unfit {
            self.counted.gauges().limits.hit(limit);
        }
        Reason::ProtocolError
    }

    /// Reads more into the buffer; nothing if the backend has closed.
    pub(crate) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < ROOM_BYTES_MIN {
            self.make_room();
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let count = ready!(pin!(self.reader.read_buf(&mut self.buffer)).poll(context))?;
        if count == room {
            self.read_bytes = (self.read_bytes * 2).min(MOST_BYTES);
        }
        Poll::Ready(Ok(count))
    }

    /// Takes what has come, at most so many bytes, into an empty pipe; nothing if the backend has closed.
    pub(crate) fn poll_pipe(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let most = most.min(self.counted.gauges().buffered.share()).min(self.read_bytes_max);
        let stream = self.reader.as_ref();
        loop {
            match pipe.fill(stream, most) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(stream.poll_read_ready(context))?;
                }
                filled => return Poll::Ready(filled),
            }
        }
    }

    fn make_room(&mut self) {
        let most = self.counted.gauges().buffered.share().min(self.read_bytes_max);
        self.give_back(most);
        self.buffer.reserve(self.read_bytes.min(most));
    }

    /// Has no more than this read at once of the response that is coming.
    pub(crate) fn read_at_most(&mut self, bytes: usize) {
        self.read_bytes_max = bytes;
        self.give_back(bytes);
    }

    /// Gives a buffer back that is larger than what is to be read at once. It would go on being as
    /// large, and holds what was read into it, however little of that is left.
    fn give_back(&mut self, most: usize) {
        if self.read_bytes > most && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The socket, and what has come on it already, once both sides have switched to another
    /// protocol. `None` if a body was being sent on it.
    pub(crate) fn into_switched(self) -> Option<(TcpStream, Bytes)> {
        let Writer::Here(writer) = self.writer else { return None };
        let stream = self.reader.reunite(writer).ok()?;
        // A copy: a tunnel lives long, and would hold all of the buffer.
        Some((stream, Bytes::copy_from_slice(&self.buffer)))
    }
}

/// What was read where the body, if there is one, need not be asked for any more.
fn answer(read: Result<Option<ResponseHead>, Reason>) -> Result<ResponseHead, Failure> {
    read.and_then(|head| head.ok_or(Reason::ProtocolError)).map_err(Failure::Backend)
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::upstream::tests::member;

    async fn opened(member: &Member, limit: Duration) -> Box<Connection> {
        open(member, limit, &Arc::default(), FieldLimits::USUAL).await.unwrap()
    }

    #[tokio::test]
    async fn a_body_that_outlives_its_response_has_its_time_for_each_part() {
        let run = async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let member = member(listener.local_addr().unwrap());
            let limit = Duration::from_secs(30);
            let mut connection = opened(&member, limit).await;
            // It never ends.
            connection.writer = Writer::Busy(Sending::start(std::future::pending()));
            tokio::time::pause();
            let (upload, start) = (Upload::begun(), Instant::now());
            let moving = async {
                tokio::time::sleep(Duration::from_secs(20)).await;
                upload.took(1);
            };
            tokio::join!(moving, connection.finish_sending(&upload, limit));
            let expected = Duration::from_secs(20) + limit;
            // Timers go by the millisecond.
            let late = expected + Duration::from_millis(4);
            assert!((expected..late).contains(&start.elapsed()), "{:?}", start.elapsed());
            assert!(!connection.begin_idle(Instant::now()), "it is of no use any more");
        };
        LocalSet::new().run_until(run).await;
    }

    #[tokio::test]
    async fn a_connection_serves_another_request_if_its_last_one_ended_before_the_response() {
        let run = async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let member = member(listener.local_addr().unwrap());
            let limit = Duration::from_secs(30);
            for is_first in [true, false] {
                let mut connection = opened(&member, limit).await;
                let Writer::Here(writer) = std::mem::replace(&mut connection.writer, Writer::Gone)
                else {
                    panic!("nothing was sent");
                };
                connection.writer = Writer::Busy(Sending::start(async { Some(writer) }));
                if is_first {
                    // Its task has its turn.
                    tokio::task::yield_now().await;
                }
                assert!(connection.end_response());
                connection.finish_sending(&Upload::begun(), limit).await;
                assert_eq!(connection.begin_idle(Instant::now()), is_first);
            }
        };
        LocalSet::new().run_until(run).await;
    }
}
