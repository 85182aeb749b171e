//! A connection of HTTP/2 to a backend, as those know it who take a place on it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    io::ErrorKind,
    mem::MaybeUninit,
    rc::Weak,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use balance::Member;
use h2::client::SendRequest;
use http::HeaderMap;
use socket2::Socket;
use tokio::{sync::oneshot, time::Instant};

use super::{
    STREAM_WINDOW_BYTES, STREAMS_MAX, alone::Doubt, leaving::Left, opening::Driver,
    outgoing::SMALL_MAX, queued::Part,
};
use crate::{
    connect::Lead,
    error::Reason,
    limits::FieldLimits,
    stats::{Counted, Gauges},
};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: RefCell<SendRequest<Part>>,
    /// Requests on it.
    pub(super) streams: Cell<usize>,
    /// Its task owns it, so that nothing holds the socket once that has ended.
    pub(super) running: Weak<Running>,
    /// When we began to make it.
    pub(super) made: Instant,
    /// Whom it was made to.
    pub(super) member: Arc<Member>,
    pub(super) lead: Lead,
    /// Whether it has one request at a time, which may end it.
    pub(super) is_alone: bool,
    /// Whether the last one has, if it is for those.
    pub(super) doubt: Doubt,
    /// When the last one ended.
    pub(super) used: Cell<Instant>,
    /// Whether a request was answered on it.
    pub(super) has_served: Cell<bool>,
    /// It gets no new requests: one got no answer in time, and perhaps nobody is there any more; or
    /// the backend has said goodbye, or has closed it.
    pub(super) is_retired: Cell<bool>,
    pub(super) left: Left,
    /// Small frames of bodies that the backend may not have read, beyond what each request has of them.
    pub(super) small_frames: Cell<u32>,
    pub(super) gauges: Arc<Gauges>,
    /// What the fields of an answer may be.
    pub(super) limits: FieldLimits,
    /// Dropped with it, this tells its task that nobody has it any more.
    pub(super) _in_use: oneshot::Sender<()>,
}

/// What runs as long as the connection is open.
#[derive(Debug)]
pub(super) struct Running {
    /// It knows how many streams the backend allows.
    pub(super) driver: RefCell<Driver>,
    /// Wakes what moves it on.
    pub(super) waker: OnceCell<Waker>,
    /// The driver's, to look at. Only without a file descriptor to spare there is none.
    pub(super) socket: Option<Socket>,
    /// What counts it as idle while nobody uses it.
    pub(super) idle: RefCell<Option<Counted>>,
    pub(super) open: Counted,
}

/// What a connection that nobody uses has brought and nobody has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Nothing,
    /// Something that the driver is about to read: perhaps a goodbye.
    Something,
    /// Its end.
    End,
}

impl Running {
    /// Sends the backend SETTINGS that change nothing, if it has acknowledged those before.
    pub(super) fn send_settings(&self) -> bool {
        let sent = self.driver.borrow_mut().set_initial_window_size(STREAM_WINDOW_BYTES);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
        sent.is_ok()
    }
}

impl Connection {
    pub(super) fn is_alive(&self) -> bool {
        !self.is_closed() && !self.is_retired.get()
    }

    /// Whether it takes no requests any more, as it has ended or the backend has said goodbye.
    pub(super) fn is_closed(&self) -> bool {
        let context = &mut Context::from_waker(Waker::noop());
        matches!(self.sender.borrow_mut().poll_ready(context), Poll::Ready(Err(_)))
    }

    /// Whether it leads to the backend as it is now. One that does not is of no use any more.
    pub(super) fn is_of(&self, member: &Member) -> bool {
        let is_of = self.lead.is_to(member);
        if !is_of {
            self.is_retired.set(true);
        }
        is_of
    }

    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Has it counted as idle or not, for as long as it is open.
    pub(super) fn note_idle(&self) {
        let Some(running) = self.running.upgrade() else { return };
        if running.idle.borrow().is_some() != self.is_idle() {
            let idle = self.is_idle().then(|| running.open.also(|gauges| &gauges.backend_idle));
            running.idle.replace(idle);
        }
    }

    /// Asks the kernel, as the loop hears of what came only in its next turn.
    pub(super) fn look(&self) -> Look {
        let Some(running) = self.running.upgrade() else { return Look::End };
        let Some(socket) = &running.socket else { return Look::Nothing };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Look::Nothing,
            Ok(0) | Err(_) => Look::End,
            Ok(_) => Look::Something,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.is_alive()
            && self.small_frames.get() < SMALL_MAX
            && self.streams.get() < self.allowed().unwrap_or(0)
    }

    /// Checks the fields of an answer.
    pub(super) fn check(&self, fields: &HeaderMap) -> Result<(), Reason> {
        self.limits.check(fields).map_err(|limit| {
            self.gauges.limits.hit(limit);
            Reason::ProtocolError
        })
    }

    /// As many requests at once as the backend and we allow; none once it has ended.
    pub(super) fn allowed(&self) -> Option<usize> {
        let running = self.running.upgrade()?;
        let allowed = running.driver.borrow().max_concurrent_send_streams();
        Some(allowed.min(if self.is_alone { 1 } else { STREAMS_MAX }))
    }
}
