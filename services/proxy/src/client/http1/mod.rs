//! A client's connection of HTTP/1.1 or 1.0: its limits of time. What comes on it is in
//! `connection`.
//!
//! A general server hands requests and each part of a body from one place to the other, repairs what
//! it can and answers by itself what it cannot. A proxy needs none of that, and must not do some of
//! it; this is why it is ours. Bytes are read by `httparse`, the reader that others have too.
//!
//! One timer looks now and then at what the connection is doing and since when, which costs a
//! request nothing.

mod answer;
mod backlog;
mod connection;
mod head;
mod interim;
mod out;
mod turns;
mod upload;
mod wire;

pub(crate) use self::{
    answer::Answer,
    head::{Said, Search, read_head},
    interim::{Interim, write_interim},
    out::Out,
    upload::WireBody,
};

#[cfg(test)]
pub(crate) use self::upload::tests::uploading;

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use self::{connection::Connection, wire::Wire};
use super::{
    FIRST_REQUEST, Socket, Then,
    activity::{Activity, Phase},
};
use crate::{
    headers::Client,
    worker::{Stage, Worker},
};

/// How soon the end of a client is found that has sent more than anybody reads.
const END_LOOK: Duration = Duration::from_millis(500);

/// What happens to a connection.
enum Event {
    Ended(Then),
    /// It is time to look at what it is doing.
    Look,
    /// A stop has come to where connections close.
    Finishing,
}

/// Serves a client's connection to its end, or until it turns out to be one of HTTP/2 or rests.
/// `is_new` if nothing has come on it before.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    socket: Socket,
    is_new: bool,
    client: &Rc<Client>,
    activity: &Rc<Activity>,
) -> Then {
    let place = (&worker.gauges, worker.settings.limits.header_bytes);
    let wire = Wire::new(socket, is_new, activity, place);
    let connection = Connection::new(worker, client, activity, &wire);
    let mut requests = std::pin::pin!(connection.requests());
    let mut finishing = worker.stage.clone();
    let mut finishing = std::pin::pin!(finishing.wait_for(|stage| *stage >= Stage::Finishing));
    let mut is_finishing = false;
    let timeouts = &worker.settings.timeouts;
    // The shortest of the limits: nothing can end sooner.
    let look = timeouts.header.min(timeouts.idle).min(timeouts.write).min(timeouts.rest);
    let mut timer = std::pin::pin!(tokio::time::sleep(look));
    loop {
        let event = poll_fn(|context| {
            if let Poll::Ready(then) = requests.as_mut().poll(context) {
                return Poll::Ready(Event::Ended(then));
            }
            if activity.is(Phase::Busy) && !activity.is_blocked() {
                if !connection.is_unread() {
                    // Neither has a say, and looking at them costs. What comes after it is seen here
                    // too.
                    return Poll::Pending;
                }
                let soon = Instant::now() + END_LOOK;
                if timer.deadline() > soon {
                    timer.as_mut().reset(soon);
                }
            }
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Event::Look);
            }
            let has_come = !is_finishing && is_ready(finishing.as_mut(), context);
            if has_come { Poll::Ready(Event::Finishing) } else { Poll::Pending }
        });
        match event.await {
            Event::Ended(then) => return then,
            Event::Look => {
                let now = Instant::now();
                let is_idle = activity.is(Phase::Idle) && !activity.is_blocked();
                if is_finishing && is_idle {
                    return Then::Close;
                }
                if activity.may_rest(now, timeouts.rest) && connection.has_read_nothing() {
                    return connection.take().map_or(Then::Close, |(socket, _)| Then::Rest(socket));
                }
                match activity.deadline(timeouts) {
                    Some(deadline) if deadline <= now => {
                        activity.count_timeout(&worker.gauges);
                        return connection.time_out();
                    }
                    deadline => {
                        let look = if is_finishing { look.min(FIRST_REQUEST) } else { look };
                        next_look(timer.as_mut(), now + look, deadline);
                    }
                }
            }
            Event::Finishing => {
                is_finishing = true;
                timer.as_mut().reset(Instant::now() + FIRST_REQUEST);
                // What is sending a head, is taking its last response or has yet to say anything
                // gets its time; responses ask to close by now. Those that are being served close
                // after that.
                if activity.is(Phase::Idle)
                    && !activity.is_blocked()
                    && !activity.awaits_first_request()
                {
                    return Then::Close;
                }
            }
        }
    }
}

fn is_ready(future: std::pin::Pin<&mut impl Future>, context: &mut Context<'_>) -> bool {
    future.poll(context).is_ready()
}

fn next_look(timer: std::pin::Pin<&mut Sleep>, latest: Instant, deadline: Option<Instant>) {
    timer.reset(deadline.map_or(latest, |deadline| deadline.min(latest)));
}
