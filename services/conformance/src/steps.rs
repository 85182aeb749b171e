//! What the two sides of a connection do once they have changed to another protocol (RFC 9110 §7.8): bytes
//! of no form, and each direction ends by itself.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    client::{self, End, Got},
    message::{self, Reading},
};

/// What one side does, each once the one before is done.
#[derive(Clone, Debug)]
pub enum Step {
    /// Says this.
    Say(Vec<u8>),
    /// Hears this next.
    Hear(Vec<u8>),
    /// Ends its direction.
    End,
    /// Hears the end of the other direction next.
    HearEnd,
    /// Breaks off, as a process that is killed may do.
    Reset,
}

/// Does all of them, with what has been heard before.
///
/// # Errors
/// The first one that cannot be done.
pub(crate) fn follow(
    mut stream: &TcpStream,
    mut heard: Vec<u8>,
    steps: &[Step],
) -> Result<(), String> {
    for step in steps {
        match step {
            Step::Say(bytes) => {
                let said = stream.write_all(bytes);
                said.map_err(|error| format!("cannot say {}: {error}", shown(bytes)))?;
            }
            Step::Hear(expected) => {
                let end = listen(stream, &mut heard, expected.len())?;
                if heard.get(..expected.len()) != Some(expected) {
                    let (heard, expected) = (shown(&heard), shown(expected));
                    return Err(format!("hears {heard} instead of {expected}{end}"));
                }
                heard.drain(..expected.len());
            }
            Step::End => {
                let ended = stream.shutdown(Shutdown::Write);
                ended.map_err(|error| format!("cannot end its direction: {error}"))?;
            }
            Step::HearEnd => {
                let end = listen(stream, &mut heard, 1)?;
                if !heard.is_empty() || end != ENDED {
                    return Err(format!("hears {} instead of an end{end}", shown(&heard)));
                }
            }
            Step::Reset => {
                let set = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
                set.map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(())
}

/// What is told of a direction that has ended.
const ENDED: &str = ", and then the end";

/// Listens until so much has been heard, or the end; whether that was it.
fn listen(
    mut stream: &TcpStream,
    heard: &mut Vec<u8>,
    count: usize,
) -> Result<&'static str, String> {
    let mut buffer = [0; 65_536];
    while heard.len() < count {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(ENDED),
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("hears {} and then: {error}", shown(heard))),
        }
    }
    Ok("")
}

/// As much of some bytes as a person reads.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]);
    match bytes.len() {
        ..=MOST => format!("{text:?}"),
        length => format!("{text:?}... of {length} bytes"),
    }
}

/// Sends a request for another protocol on a new connection, and does these steps if it is changed to:
/// what came before them, and whether they are done.
///
/// # Errors
/// No connection is made.
pub(crate) fn exchange(
    proxy: SocketAddr,
    request: &[u8],
    steps: &[Step],
    patience: Duration,
) -> io::Result<(Got, Result<(), String>)> {
    let stream = client::connect(proxy, patience)?;
    // Who has refused it need not take the rest.
    let _ = (&stream).write_all(request);
    let mut got = client::read_until(&stream, |bytes| switched_at(bytes).is_some());
    let Some(length) = switched_at(&got.bytes) else {
        return Ok((got, Err("is not told to change".to_owned())));
    };
    let heard = got.bytes.split_off(length);
    got.end = End::Closed;
    let done = follow(&stream, heard, steps);
    Ok((got, done))
}

/// Where the answers end of which the last one says that the protocol changes.
fn switched_at(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let Reading::Whole(message, length) = message::response(&bytes[at..], "GET", false) else {
            return None;
        };
        at += length;
        match message.status() {
            101 => return Some(at),
            100..=199 => {}
            _ => return None,
        }
    }
}
