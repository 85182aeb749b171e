//! A client's connection: HTTP/1 or HTTP/2 on the same port, with limits on how long it may take.
//!
//! hyper's own limit for reading a head also runs while a kept connection is idle, and costs an
//! allocation per request. Here one timer per connection looks now and then at what the
//! connection is doing and since when.
//!
//! Each connection begins as HTTP/1. [`io::ClientIo`] sees in what it reads first whether it is the
//! preface of HTTP/2 (RFC 9113 §3.4), which costs HTTP/1 neither a system call nor a copy.

mod activity;
mod frames;
mod http1;
mod http2;
mod io;
mod rest;
mod streams;
mod strict;

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::net::TcpStream;

use self::{activity::Activity, io::ClientIo};
pub(crate) use self::{activity::Busy, strict::Strict};
use crate::{guests::Guest, headers::Client, worker::Worker};

/// At the end of a stop, what a connection that was accepted but has not said anything yet gets to
/// send its request: a client that has just connected is about to.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Serves a client's connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    client: Client,
    guest: Option<Guest>,
) {
    let (client, activity) = (Rc::new(client), Activity::new());
    let mut io = ClientIo::new(stream, Arc::clone(&activity), guest);
    loop {
        // Boxed, so that a connection that rests does not carry the room for it.
        match Box::pin(http1::serve(&worker, io, &client, &activity)).await {
            Then::Close => return,
            Then::Http2(io) => {
                return Box::pin(http2::serve(&worker, io, &client, &activity)).await;
            }
            Then::Rest(resting) => match rest::rest(&worker, resting, &activity).await {
                Some(back) => io = back,
                None => return,
            },
        }
    }
}

/// What comes after serving a connection as HTTP/1.
enum Then {
    /// Nothing.
    Close,
    /// It is one of HTTP/2.
    Http2(ClientIo),
    /// It has been idle for a while.
    Rest(ClientIo),
}
