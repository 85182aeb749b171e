//! One connection to a backend.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Mutex,
    time::Duration,
};

use super::{Answer, Late, NEXT_LINE, PATIENCE, Seen, Shared, lock, wait_while};
use crate::{
    message::{self, Message, Reading},
    steps,
};

/// Answers what comes until the connection ends or is given up.
pub(super) fn serve(mut stream: &TcpStream, seen: &Mutex<Seen>, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut unread = Vec::new();
    loop {
        let has_head = wait_for_request(stream, seen, &mut unread, shared)?;
        if !has_head {
            return Ok(());
        }
        let answer = lock(&shared.answer).clone();
        match answer {
            Answer::Keep(bytes) | Answer::Early(bytes) | Answer::Continue(bytes) => {
                stream.write_all(&bytes)?;
            }
            Answer::Echo => {
                let target = lock(seen).messages.last().map(Message::target).unwrap_or_default();
                let length = target.len();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}")?;
            }
            Answer::Late(bytes, more) => {
                stream.write_all(&bytes)?;
                wait_while(shared, Late::Held);
                let written = stream.write_all(&more);
                shared.tell(Late::Said);
                written?;
            }
            Answer::Held(bytes, held) => {
                stream.write_all(&bytes)?;
                return hold(stream, seen, &held);
            }
            Answer::Switch(bytes, steps) => {
                stream.write_all(&bytes)?;
                let done = steps::follow(stream, unread, &steps);
                let _all = lock(&shared.seen);
                lock(seen).switched = Some(done);
                shared.switches.notify_all();
                return Ok(());
            }
            Answer::Silent => {}
            Answer::Reset(bytes) => {
                stream.write_all(&bytes)?;
                return reset(stream);
            }
            Answer::Close(bytes) | Answer::EarlyClose(bytes) => {
                stream.write_all(&bytes)?;
                stream.shutdown(Shutdown::Write)?;
                // Closing with something unread would reset the connection, answer and all.
                return drain(stream, seen);
            }
        }
    }
}

/// Reads until a request is there as far as its answer needs it; whether there is one.
fn wait_for_request(
    mut stream: &TcpStream,
    seen: &Mutex<Seen>,
    unread: &mut Vec<u8>,
    shared: &Shared,
) -> io::Result<bool> {
    let mut buffer = [0; 65_536];
    let (mut is_answered, mut is_asked) = (false, false);
    loop {
        match message::request(unread) {
            Reading::Whole(message, length) => {
                unread.drain(..length);
                lock(seen).messages.push(message);
                if !is_answered {
                    return Ok(true);
                }
                is_answered = false;
                continue;
            }
            Reading::Invalid(why) => {
                lock(seen).invalid = Some(why);
                return Ok(false);
            }
            Reading::Partial => {}
        }
        let has_head = unread.windows(4).any(|end| end == b"\r\n\r\n");
        if has_head && !is_answered {
            match lock(&shared.answer).clone() {
                Answer::Early(bytes) => {
                    is_answered = true;
                    stream.write_all(&bytes)?;
                }
                Answer::EarlyClose(_) | Answer::Held(..) => return Ok(true),
                Answer::Continue(_) if !is_asked => {
                    is_asked = true;
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                _ => {}
            }
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        lock(seen).bytes.extend_from_slice(&buffer[..count]);
        unread.extend_from_slice(&buffer[..count]);
    }
}

/// Says what it has held back as the answer to what comes next, whoever that is from.
fn hold(mut stream: &TcpStream, seen: &Mutex<Seen>, held: &[u8]) -> io::Result<()> {
    let (mut came, mut buffer) = (Vec::new(), [0; 65_536]);
    let next = NEXT_LINE.as_bytes();
    while !came.windows(next.len()).any(|part| part == next) {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        lock(seen).bytes.extend_from_slice(&buffer[..count]);
        came.extend_from_slice(&buffer[..count]);
    }
    stream.write_all(held)?;
    // The next row is another one.
    stream.shutdown(Shutdown::Write)?;
    drain(stream, seen)
}

/// Reads what still comes, and records it.
fn drain(mut stream: &TcpStream, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut buffer = [0; 65_536];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        lock(seen).bytes.extend_from_slice(&buffer[..count]);
    }
}

/// Makes the closing of a connection a reset.
fn reset(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
