//! A client's connection: HTTP/1 or HTTP/2 on the same port, with limits on how long it may take.
//!
//! Each connection begins as HTTP/1. What is read first shows whether it is the preface of HTTP/2 (RFC
//! 9113 §3.4), which costs HTTP/1 neither a system call nor a copy.

mod activity;
mod frames;
mod http1;
mod http2;
mod io;
mod linger;
mod rest;
mod streams;

use std::{rc::Rc, time::Duration};

use bytes::BytesMut;
use tokio::net::TcpStream;

use self::activity::Activity;
pub(crate) use self::{
    activity::Busy,
    http1::{Interim, Search, WireBody, read_head},
};
use crate::{guests::Guest, headers::Client, worker::Worker};

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

/// Serves a client's connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    client: Client,
    guest: Option<Guest>,
) {
    let (client, activity) = (Rc::new(client), Activity::new());
    let (mut socket, mut is_new) = (Socket { stream, _guest: guest }, true);
    loop {
        // Boxed, so that a connection that rests does not carry the room for it.
        match Box::pin(http1::serve(&worker, socket, is_new, &client, &activity)).await {
            Then::Close => return,
            Then::Http2(socket, read) => {
                return Box::pin(http2::serve(&worker, socket, read, &client, &activity)).await;
            }
            Then::Linger(socket) => return linger::linger(socket).await,
            Then::Rest(resting) => match rest::rest(&worker, resting, &activity).await {
                Some(back) => socket = back,
                None => return,
            },
        }
        is_new = false;
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
