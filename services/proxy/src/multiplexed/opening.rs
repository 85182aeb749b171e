//! Making a connection of HTTP/2 to a backend.
//!
//! It counts as made when the backend has said how many streams it allows, and allows one, as gRPC's
//! clients have it too. What is sent before is a guess: it may be refused, or wait in the library for
//! room that does not come, where nobody can say any more whether it was sent.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use balance::Member;
use h2::client::{self, Builder};
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use super::{Connection, Running, STREAMS_MAX, alone::Doubt, leaving::Left, queued::Part};
use crate::{
    connect,
    error::Reason,
    http2::{
        self,
        whole_heads::{HeadLimits, WholeHeads, is_endless},
    },
    limits::FieldLimits,
    settings::Timeouts,
    stats::{Counted, Gauges},
};

/// What a backend may have sent of a response before its client has taken it.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// The same over all responses. Enough for each: were it less, some slow clients could stop the
/// responses of all others.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;

/// What the frames that nobody has asked for yet may cost beside what is in them, over all responses:
/// those of a response that comes a byte at a time. They are asked for at each turn of the loop
/// (`Incoming::take_in`), so that only a backend comes to it that sends more than that at once.
const FRAMES_BYTES: usize = STREAM_WINDOW_BYTES as usize * 256;

/// What of a request's body may wait for a slow backend.
pub(super) const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// So many times what we take of the fields before a body or after it is held: what is not much more than
/// this ends the connection, with all who are on it.
const HEADS_HELD: u32 = 16;

/// Streams that are known for a second as those whose clients have left, so that what is still on its
/// way for them is passed over. What comes for others is answered with a reset each.
const LEFT_MAX: usize = 10 * STREAMS_MAX;

/// What moves a connection on.
pub(super) type Driver = client::Connection<WholeHeads<TcpStream>, Part>;

/// Makes a connection that has room for a request.
///
/// # Errors
/// There is none by the deadline. Nobody has sent anything on it.
pub(super) async fn open(
    member: &Arc<Member>,
    deadline: Instant,
    (gauges, timeouts, limits): (&Arc<Gauges>, &Timeouts, FieldLimits),
) -> Result<Connection, Reason> {
    let made = Instant::now();
    let (stream, lead) = connect::to(member, deadline - made).await?;
    let socket = SockRef::from(&stream).try_clone().ok();
    let head_limits = HeadLimits::new(limits, HEADS_HELD);
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .data_frame_budget(FRAMES_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(head_limits.read())
        .max_frame_size(head_limits.held)
        .max_concurrent_reset_streams(LEFT_MAX)
        // Clients that leave bring them about, and over the life of a connection that is any number. At
        // most one waits to go out for each stream that there was.
        .max_local_error_reset_streams(None)
        .enable_push(false)
        // Until the backend tells.
        .initial_max_send_streams(0)
        .handshake(WholeHeads::of_backend(stream, head_limits, gauges));
    let ready = async {
        let (sender, mut driver) = handshake.await.map_err(|_| Reason::ConnectFailed)?;
        until_streams(&mut driver).await.map(|()| (sender, driver))
    };
    let (sender, mut driver) =
        timeout_at(deadline, ready).await.map_err(|_| Reason::ConnectTimeout)??;
    let left = Left::new(driver.ping_pong(), timeouts.response);
    let counted = Counted::new(gauges, |gauges| &gauges.backend_open);
    let (driver, waker, idle) = (RefCell::new(driver), OnceCell::new(), RefCell::default());
    let running = Rc::new(Running { driver, waker, socket, idle, open: counted });
    let connection_running = Rc::downgrade(&running);
    let (in_use, unused) = oneshot::channel();
    let goodbye = timeouts.connect;
    tokio::task::spawn_local(async move {
        let driving = poll_fn(|context| {
            running.waker.get_or_init(|| context.waker().clone());
            Pin::new(&mut *running.driver.borrow_mut()).poll(context)
        });
        let mut driving = pin!(driving);
        let end = tokio::select! {
            end = &mut driving => Some(end),
            // All that is left is to say goodbye, which a backend that reads nothing would never let us.
            _ = unused => timeout(goodbye, driving).await.ok(),
        };
        // Whoever waits for a response learns of an error there.
        if let Some(Err(error)) = end
            && is_endless(&error)
        {
            running.open.gauges().limits.hit(limits.too_large());
        }
    });
    Ok(Connection {
        sender: RefCell::new(sender),
        running: connection_running,
        member: Arc::clone(member),
        lead,
        streams: Cell::new(0),
        made,
        is_alone: false,
        doubt: Doubt::default(),
        used: Cell::new(Instant::now()),
        has_served: Cell::new(false),
        is_retired: Cell::new(false),
        left,
        small_frames: Cell::new(0),
        gauges: Arc::clone(gauges),
        limits,
        _in_use: in_use,
    })
}

/// Waits until the backend allows streams on a connection.
///
/// # Errors
/// The connection has ended; with what is no HTTP/2, if the backend speaks something else.
async fn until_streams(driver: &mut Driver) -> Result<(), Reason> {
    poll_fn(|context| {
        if let Poll::Ready(end) = Pin::new(&mut *driver).poll(context) {
            let broke = Reason::ResetBeforeHeaders;
            return Poll::Ready(Err(end.err().map_or(broke, |error| http2::blame(&error, broke))));
        }
        let has_streams = driver.max_concurrent_send_streams() > 0;
        if has_streams { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}
