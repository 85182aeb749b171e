//! A client that sends exactly its bytes and reads whatever comes back.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::message::{self, Message, Reading};

/// How a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The proxy closed it.
    #[default]
    Closed,
    /// The proxy reset it.
    Reset,
    /// It was still open when the client's patience was over.
    Open,
}

/// What came back on a connection.
#[derive(Clone, Debug)]
pub struct Got {
    /// All of it.
    pub bytes: Vec<u8>,
    /// How it ended.
    pub end: End,
}

/// What was left after the last whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    #[default]
    Nothing,
    /// Part of an answer.
    Cut,
    /// Something that is not HTTP, and why.
    Invalid(String),
}

impl Got {
    /// The answers, interim ones left out, to a request with `method` and others with GET.
    #[must_use]
    pub fn answers(&self, method: &str) -> (Vec<Message>, Rest) {
        let (answers, _, rest) = self.messages(method);
        (answers, rest)
    }

    /// The answers, the interim ones among them, and what was left.
    #[must_use]
    pub fn messages(&self, method: &str) -> (Vec<Message>, Vec<Message>, Rest) {
        let (mut answers, mut interim, mut at) = (Vec::new(), Vec::new(), 0);
        let is_closed = self.end == End::Closed;
        while at < self.bytes.len() {
            let method = if answers.is_empty() { method } else { "GET" };
            match message::response(&self.bytes[at..], method, is_closed) {
                Reading::Whole(message, length) => {
                    at += length;
                    let is_interim = matches!(message.status(), 100 | 102..=199);
                    if is_interim { &mut interim } else { &mut answers }.push(message);
                }
                Reading::Partial => return (answers, interim, Rest::Cut),
                Reading::Invalid(why) => return (answers, interim, Rest::Invalid(why)),
            }
        }
        (answers, interim, Rest::Nothing)
    }
}

/// Sends bytes on a new connection and reads until it ends or nothing has come for `patience`.
///
/// # Errors
/// No connection is made.
pub fn exchange(proxy: SocketAddr, request: &[u8], patience: Duration) -> io::Result<Got> {
    exchange_in_two(proxy, [request, &[]], patience)
}

/// The same, with a second part that is sent once the first was answered.
///
/// # Errors
/// No connection is made.
pub fn exchange_in_two(
    proxy: SocketAddr,
    [first, second]: [&[u8]; 2],
    patience: Duration,
) -> io::Result<Got> {
    let stream = connect(proxy, patience)?;
    std::thread::scope(|scope| {
        // A long request must not wait for an answer that comes before its end.
        let writer = scope.spawn(|| (&stream).write_all(first));
        let got = read_to_end(&stream, second);
        // A proxy that has refused a request need not take the rest of it.
        drop(writer.join());
        Ok(got)
    })
}

/// A connection that waits for nothing any longer than `patience`.
pub(crate) fn connect(proxy: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(proxy)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// Reads all that comes; `after_answer` is sent after the first whole answer.
fn read_to_end(mut stream: &TcpStream, mut after_answer: &[u8]) -> Got {
    read_until(stream, |bytes| {
        let read = || message::response(bytes, "GET", false);
        if !after_answer.is_empty() && matches!(read(), Reading::Whole(..)) {
            // Who does not take it is about to close.
            let _ = stream.write_all(std::mem::take(&mut after_answer));
        }
        false
    })
}

/// Reads until that is enough, or the connection ends, or nothing has come for some time.
pub(crate) fn read_until(mut stream: &TcpStream, mut is_enough: impl FnMut(&[u8]) -> bool) -> Got {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 65_536]);
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break End::Closed,
            Ok(count) => {
                bytes.extend_from_slice(&buffer[..count]);
                if is_enough(&bytes) {
                    break End::Open;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break End::Open;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break End::Reset,
        }
    };
    Got { bytes, end }
}
