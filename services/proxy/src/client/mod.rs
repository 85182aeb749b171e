//! A client's connection: HTTP/1 or HTTP/2 on the same port, with limits on how long it may take.
//!
//! Each connection begins as HTTP/1. What is read first shows whether it is the preface of HTTP/2 (RFC
//! 9113 §3.4), which costs HTTP/1 neither a system call nor a copy.

mod activity;
mod answer;
mod date;
mod frames;
mod http1;
mod http2;
mod interim;
mod io;
mod linger;
mod refusals;
mod rest;
mod streams;
#[cfg(test)]
mod tests;
mod untaken;

use std::{rc::Rc, time::Duration};

use bytes::BytesMut;
use tokio::net::TcpStream;

use self::activity::Activity;
#[cfg(test)]
pub(crate) use self::http1::uploading;
pub(crate) use self::{
    activity::Busy,
    frames::{FrameWatch, RESETS_TIMES_MAX},
    http1::{Answer, Out, Said, Search, WireBody, read_head, write_interim},
    interim::Interim,
    linger::linger,
    untaken::Taking,
};
use crate::{
    guests::Guest,
    headers::Client,
    stats::Counted,
    worker::{Open, Worker},
};

/// At the end of a stop, what a connection that was accepted but has not said anything yet gets to
/// send its request: a client that has just connected is about to.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    /// Held for as long as the socket is, also after an upgrade.
    pub(crate) _guest: Option<Guest>,
}

/// What belongs to a client's connection, whatever it is doing.
#[derive(Debug)]
pub(crate) struct Session {
    worker: Rc<Worker>,
    client: Rc<Client>,
    activity: Rc<Activity>,
    /// What counts it as open.
    _counted: (Open, Counted),
}

impl Session {
    pub(crate) fn new(worker: &Rc<Worker>, client: Rc<Client>, counted: (Open, Counted)) -> Self {
        let worker = Rc::clone(worker);
        Self { worker, client, activity: Activity::new(), _counted: counted }
    }
}

/// Serves a client's connection in a task of its own. `is_new` if nothing has come on it before.
pub(crate) fn start(session: Session, socket: Socket, is_new: bool) {
    // In a box, since a task moves its future some eight times until it is forgotten, which was a tenth
    // of the instructions of a connection for one request.
    tokio::task::spawn_local(Box::pin(serve(session, socket, is_new)));
}

/// Serves a connection until it ends or rests.
async fn serve(session: Session, socket: Socket, is_new: bool) {
    let Session { worker, client, activity, .. } = &session;
    match http1::serve(worker, socket, is_new, client, activity).await {
        Then::Close => {}
        Then::Linger(socket) => linger(socket).await,
        Then::Http2(socket, read) => {
            let served = Box::pin(http2::serve(worker, socket, read, client, activity)).await;
            if let Some(socket) = served {
                linger::linger_while_taken(socket, worker).await;
            }
        }
        Then::Rest(socket) => rest::start(session, socket),
    }
}

/// What comes after serving a connection as HTTP/1.
enum Then {
    /// Nothing.
    Close,
    /// The client has been told all, and may still be sending.
    Linger(Socket),
    /// It is one of HTTP/2, of which this was read.
    Http2(Socket, BytesMut),
    /// It has been idle for a while.
    Rest(Socket),
}
