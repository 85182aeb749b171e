//! A client's socket with what was read from it and what is to be written, for those who use it: the
//! connection, and the body of its request, which may go on being read by another task when the
//! response has ended.
//!
//! All of it is on one thread, and nobody holds it while waiting.

use std::{
    cell::RefCell,
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, Interest};

use super::{
    head::{self, RequestHead, Search},
    out::Out,
};
use crate::{
    buffered::Waiting,
    client::{Socket, activity::Activity},
    http1::Framing,
    http2::whole_heads::PREFACE,
    limits::Refusal,
    settings::Limits,
    stats::Gauges,
};

/// What is read at once at first: most requests, whole.
const READ_BYTES: usize = 8 * 1024;

/// With less room than this, what comes next may not fit, which costs a system call.
const ROOM_BYTES_MIN: usize = 4 * 1024;

/// What is read at once at most, of a fast upload. More would cost memory and save hardly a call.
const READ_BYTES_MAX: usize = 256 * 1024;

/// What of a body is read and thrown away to keep a connection. Beyond that a new one costs less.
const DRAINED_BYTES_MAX: usize = 64 * 1024;

/// The answer to a body that waits to be asked for (RFC 9110 §15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's socket, for all who use it.
pub(super) type SharedWire = Rc<RefCell<Wire>>;

/// A client's socket.
#[derive(Debug)]
pub(super) struct Wire {
    /// None once the connection has ended.
    socket: Option<Socket>,
    activity: Rc<Activity>,
    pub(super) gauges: Arc<Gauges>,
    /// What was read and belongs to nobody yet.
    pub(super) read: BytesMut,
    read_size: ReadSize,
    pub(super) out: Out,
    search: Search,
    /// What counts as waiting: what has come of a head that has not ended.
    waiting: Waiting<Arc<Gauges>>,
    /// What comes may be HTTP/2: nothing has been read as HTTP/1 yet.
    is_new: bool,
    pub(super) upload: Uploading,
    /// Bytes of bodies that were read.
    pub(super) uploaded: u64,
    /// The body waits to be asked for.
    pub(super) wants_continue: bool,
    /// The connection ends though the client did not ask for it: it may be sending the next request.
    pub(super) is_cut_short: bool,
    /// An answer has begun and not gone out whole whose end is that of the connection: closed now, it
    /// would look whole.
    pub(super) is_open_ended: bool,
    /// Who waits for more of the body.
    reader: Option<Waker>,
    /// Whether it waits now. If not, it has something to do first, such as to write.
    pub(super) is_awaited: bool,
    /// Whether perhaps nobody reads, so that nobody would hear of the client's end. It has to be looked
    /// for.
    pub(super) is_unread: bool,
    /// The connection, where it waits for what somebody else does to the wire.
    connection: Option<Waker>,
}

/// How far the body of the request is that is being served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Uploading {
    /// All of it was read, or there is none.
    Done,
    /// Nobody has begun to read it.
    Announced,
    /// Somebody reads it.
    Coming,
    /// Nobody wants the rest.
    Dropped(Framing),
    /// It was not valid: what comes next is unknown.
    Broken,
    /// Its client broke it off.
    Gone,
}

/// What comes on a connection between two requests.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One of them, for as long as it takes to pass it on.
pub(super) enum Next {
    Request(RequestHead),
    /// Of a request whose answer has no body, if it is one for HEAD.
    Refused {
        refusal: Refusal,
        is_for_head: bool,
    },
    /// The preface of HTTP/2.
    Http2,
    /// Its end.
    End,
}

impl Wire {
    /// `is_new` if nothing has been read from the socket before.
    pub(super) fn new(
        socket: Socket,
        is_new: bool,
        activity: &Rc<Activity>,
        (gauges, read_bytes_max): (&Arc<Gauges>, usize),
    ) -> SharedWire {
        Rc::new(RefCell::new(Self {
            socket: Some(socket),
            activity: Rc::clone(activity),
            gauges: Arc::clone(gauges),
            read: BytesMut::new(),
            read_size: ReadSize::up_to(read_bytes_max.min(READ_BYTES_MAX)),
            out: Out::default(),
            search: Search::default(),
            waiting: Waiting::new(Arc::clone(gauges)),
            is_new,
            upload: Uploading::Done,
            uploaded: 0,
            wants_continue: false,
            is_cut_short: false,
            is_open_ended: false,
            reader: None,
            is_awaited: false,
            is_unread: false,
            connection: None,
        }))
    }

    /// Takes the socket and what was read from it. For all others, the connection has ended.
    pub(super) fn take(&mut self) -> Option<(Socket, BytesMut)> {
        self.waiting.set(0);
        let socket = self.socket.take()?;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Some((socket, std::mem::take(&mut self.read)))
    }

    /// Writes as much as there is room for at once.
    pub(super) fn write_what_fits(&mut self) {
        // The client may be gone; then it needs no answer.
        let _ = self.poll_flush(&mut Context::from_waker(Waker::noop()));
    }

    /// Reads more; nothing if the client has closed.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let size = self.size_to_read();
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let least = if size > READ_BYTES { size } else { ROOM_BYTES_MIN };
        if self.read.capacity() - self.read.len() < least {
            // A client that says nothing needs no room.
            ready!(socket.stream.poll_read_ready(context))?;
            self.read.reserve(size);
        }
        let room = self.read.capacity() - self.read.len();
        let read = pin!(socket.stream.read_buf(&mut self.read)).poll(context);
        if read.is_pending() && self.is_new && self.read.is_empty() {
            // A socket that was just accepted is taken for one that has something to say.
            self.read = BytesMut::new();
        }
        let count = ready!(read)?;
        self.read_size.note(count, room);
        Poll::Ready(Ok(count))
    }

    /// How much to read at once. It may be less than the last time of a fast upload, as it may have to
    /// wait in memory: then what was read into before goes, which would go on being as large.
    fn size_to_read(&mut self) -> usize {
        let size = self.read_size.bytes;
        if size <= READ_BYTES {
            return size;
        }
        let most = self.gauges.buffered.share();
        if size > most && self.read.is_empty() {
            self.read = BytesMut::new();
        }
        size.min(most)
    }

    /// Writes all that is to be written.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while !self.out.is_empty() {
            let written = self.out.poll_send(&mut socket.stream, context);
            self.activity.wrote(written.is_pending());
            ready!(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// The next request.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>, limits: &Limits) -> Poll<Next> {
        let next = self.look_for_next(context, limits);
        let waits = next.is_pending() && !self.read.is_empty();
        self.waiting.set(if waits { self.read.capacity() } else { 0 });
        next
    }

    fn look_for_next(&mut self, context: &mut Context<'_>, limits: &Limits) -> Poll<Next> {
        loop {
            if !self.read.is_empty() {
                if self.is_new {
                    if self.read.starts_with(PREFACE) {
                        return Poll::Ready(Next::Http2);
                    }
                    self.is_new = PREFACE.starts_with(&self.read);
                }
                if !self.is_new {
                    // Of what is refused nothing is left to tell by.
                    let is_for_head = self.is_for_head();
                    let Self { read, search, .. } = self;
                    match head::read_head(read, search, limits) {
                        Ok(Some(head)) => return Poll::Ready(Next::Request(head)),
                        Ok(None) => {}
                        Err(refusal) => return Poll::Ready(Next::Refused { refusal, is_for_head }),
                    }
                }
                // An empty line begins nothing (RFC 9112 §2.2), nor does half of one.
                if !self.read.is_empty() && *self.read != *b"\r" {
                    self.activity.begin_head();
                }
            }
            match ready!(self.poll_fill(context)) {
                Ok(0) | Err(_) => return Poll::Ready(Next::End),
                Ok(_) => {}
            }
        }
    }

    /// Whether what has been read begins a request for a head alone, perhaps after empty lines (RFC 9112 §2.2).
    pub(super) fn is_for_head(&self) -> bool {
        let mut read = &self.read[..];
        while let Some(rest) = read.strip_prefix(b"\r\n") {
            read = rest;
        }
        read.starts_with(b"HEAD ")
    }

    /// Whether the client has left while it is being served. What comes before it leaves, such as
    /// the next request, waits; beyond [`READ_BYTES`] of it nobody reads.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.is_unread = false;
        match self.upload {
            // Whoever reads it sees. The connection is told when they are through.
            Uploading::Coming => {
                self.wait(context);
                // It may be another task, which tells nobody that it has something else to do.
                self.is_unread = true;
                return if self.is_awaited { Poll::Pending } else { self.look_for_end() };
            }
            Uploading::Broken => return Poll::Pending,
            Uploading::Gone => return Poll::Ready(()),
            Uploading::Announced => self.wait(context),
            Uploading::Done | Uploading::Dropped(_) => {}
        }
        while self.read.len() < READ_BYTES {
            if !matches!(ready!(self.poll_fill(context)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
        self.look_for_end()
    }

    /// Whether the client has left, with things on their way that nobody reads. Nobody is woken for
    /// that: it is asked about now and then.
    fn look_for_end(&mut self) -> Poll<()> {
        self.is_unread = true;
        let Some(socket) = &self.socket else { return Poll::Ready(()) };
        let ended = pin!(socket.stream.ready(Interest::PRIORITY | Interest::ERROR));
        ended.poll(&mut Context::from_waker(Waker::noop())).map(drop)
    }

    /// Whether there is, or may be, more from the client than was taken.
    pub(super) fn has_more(&self) -> bool {
        self.is_cut_short || self.upload != Uploading::Done || !self.read.is_empty()
    }

    /// Whether the body of the request is out of the way, so that another request may follow. A
    /// small rest that nobody wanted is thrown away.
    pub(super) fn poll_uploaded(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        match &self.upload {
            Uploading::Done => Poll::Ready(true),
            Uploading::Broken | Uploading::Gone => Poll::Ready(false),
            Uploading::Announced | Uploading::Coming => {
                self.wait(context);
                Poll::Pending
            }
            Uploading::Dropped(_) => Poll::Ready(self.drain(context)),
        }
    }

    /// The same before the answer begins, for a body that nobody wants; one that is still wanted may
    /// yet be read to its end. Where it waits to be asked for, it is too late for that, and it may
    /// come after the answer or not (RFC 9110 §10.1.1).
    pub(super) fn may_end(&mut self, context: &mut Context<'_>) -> bool {
        let is_asked_for = !std::mem::take(&mut self.wants_continue);
        match self.is_wanted() {
            true => is_asked_for,
            false => self.poll_uploaded(context) == Poll::Ready(true),
        }
    }

    /// Whether somebody reads the body of the request, or will.
    pub(super) fn is_wanted(&self) -> bool {
        matches!(self.upload, Uploading::Announced | Uploading::Coming)
    }

    /// Throws away what has come of a body. Whether that is all of it.
    fn drain(&mut self, context: &mut Context<'_>) -> bool {
        let Uploading::Dropped(mut framing) =
            std::mem::replace(&mut self.upload, Uploading::Broken)
        else {
            return false;
        };
        let mut drained = 0;
        while drained < DRAINED_BYTES_MAX {
            match framing.next(&mut self.read) {
                Ok(Some(frame)) => drained += frame.data_ref().map_or(0, bytes::Bytes::len),
                Ok(None) if framing.is_done() => {
                    self.upload = Uploading::Done;
                    return true;
                }
                Ok(None) if matches!(self.poll_fill(context), Poll::Ready(Ok(1..))) => {}
                Ok(None) | Err(_) => return false,
            }
        }
        false
    }

    /// Asks for the body, if it waits for that and the answer has not begun.
    pub(super) fn ask_for_body(&mut self) {
        if std::mem::take(&mut self.wants_continue) {
            self.say(CONTINUE);
        }
    }

    /// Has the connection write something that comes before the answer.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.out.tail().extend_from_slice(bytes);
        self.wake_connection();
    }

    /// Notes how the body ended.
    pub(super) fn end_upload(&mut self, end: Uploading) {
        self.upload = end;
        self.wake_connection();
    }

    /// Remembers who waits for more of the body.
    pub(super) fn wait_for_body(&mut self, context: &Context<'_>) {
        self.is_awaited = true;
        remember(&mut self.reader, context);
    }

    fn wait(&mut self, context: &Context<'_>) {
        remember(&mut self.connection, context);
    }

    pub(super) fn wake_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.wake();
        }
    }
}

fn remember(slot: &mut Option<Waker>, context: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(context.waker()),
        None => *slot = Some(context.waker().clone()),
    }
}

/// How much to read at once: twice as much if all the room was used, half if two reads in a row
/// needed no more.
#[derive(Debug)]
struct ReadSize {
    bytes: usize,
    most: usize,
    was_small: bool,
}

impl ReadSize {
    fn up_to(most: usize) -> Self {
        Self { bytes: READ_BYTES, most, was_small: false }
    }

    fn note(&mut self, read: usize, room: usize) {
        let half = self.bytes / 2;
        if read == room {
            self.bytes = (self.bytes * 2).min(self.most);
        } else if read < half && self.was_small {
            self.bytes = half.max(READ_BYTES);
        }
        self.was_small = read < half;
    }
}

#[cfg(test)]
pub(super) mod tests;
