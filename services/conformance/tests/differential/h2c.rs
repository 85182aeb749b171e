//! A backend of HTTP/2, which reads frames by hand as the client of the rows does: what the proxy's library
//! gets wrong on both of its sides alike is seen here.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use evenkeel_conformance::{
    backend::Seen,
    http2::{
        are_valid,
        frames::{
            self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PREFACE,
            RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
        },
        hpack,
    },
    message::{Fields, Message, number},
};

use super::Recorder;

/// No dynamic table, which the reader of fields has none of (RFC 9113 §6.5.2).
const NO_TABLE: &[u8] = b"\0\x01\0\0\0\0";

/// 200, of the static table (RFC 7541 appendix A).
const OK: &[u8] = b"\x88";

/// It listens until the process ends, and answers each whole request with 200.
pub(crate) struct H2cBackend {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl H2cBackend {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let heard = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&heard);
                thread::spawn(move || {
                    let mut connection =
                        Connection { stream, streams: BTreeMap::new(), head: None, seen };
                    // Whoever waits for an answer learns of an error by getting none.
                    let _ = connection.serve();
                });
            }
        });
        Self { address, seen }
    }
}

impl Recorder for H2cBackend {
    fn forget(&self) {
        *self.seen.lock().unwrap() = Seen::default();
    }

    fn seen(&self) -> Vec<Seen> {
        vec![self.seen.lock().unwrap().clone()]
    }
}

struct Connection {
    stream: TcpStream,
    /// The requests that have not come to their end.
    streams: BTreeMap<u32, Message>,
    /// A head that has not.
    head: Option<Frame>,
    seen: Arc<Mutex<Seen>>,
}

impl Connection {
    fn serve(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.write_all(&frame(SETTINGS, 0, 0, NO_TABLE))?;
        self.stream.read_exact(&mut [0; PREFACE.len()])?;
        let (mut unread, mut buffer) = (Vec::new(), [0; 65_536]);
        loop {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            unread.extend_from_slice(&buffer[..count]);
            while let Some(frame) = Frame::take(&mut unread) {
                if let Err(why) = self.see(frame)? {
                    self.seen.lock().unwrap().invalid = Some(why);
                    return Ok(());
                }
            }
        }
    }

    fn see(&mut self, frame: Frame) -> io::Result<Result<(), String>> {
        let Frame { kind, flags, stream, .. } = frame;
        if self.head.is_some() && kind != CONTINUATION {
            return Ok(Err("a frame within a head".to_owned()));
        }
        let seen = match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let payload = if kind == PING { &frame.payload[..] } else { &[] };
                self.stream.write_all(&frames::frame(kind, ACK, 0, payload))?;
                return Ok(Ok(()));
            }
            RST_STREAM => {
                self.streams.remove(&stream);
                return Ok(Ok(()));
            }
            HEADERS | CONTINUATION => self.see_head(frame),
            DATA => self.see_data(&frame)?,
            _ => return Ok(Ok(())),
        };
        match seen {
            Ok(Some(stream)) => self.answer(stream).map(Ok),
            other => Ok(other.map(|_| ())),
        }
    }

    /// The stream that has come to its end with it, if one has.
    fn see_head(&mut self, frame: Frame) -> Result<Option<u32>, String> {
        let mut head = match self.head.take() {
            Some(mut head) => {
                head.payload.extend(frame.payload);
                head
            }
            None => Frame { payload: frame.unpadded()?, ..frame },
        };
        head.flags |= frame.flags & END_HEADERS;
        if head.flags & END_HEADERS == 0 {
            self.head = Some(head);
            return Ok(None);
        }
        let fields = hpack::fields(&head.payload)?;
        let ends = head.flags & END_STREAM != 0;
        match self.streams.get_mut(&head.stream) {
            Some(_) if !ends => return Err("fields after a body that are not its end".to_owned()),
            Some(message) => {
                are_valid(&fields)?;
                message.trailers = fields;
            }
            None => drop(self.streams.insert(head.stream, request(fields)?)),
        }
        Ok(ends.then_some(head.stream))
    }

    fn see_data(&mut self, frame: &Frame) -> io::Result<Result<Option<u32>, String>> {
        // One that has been reset by its client may have some more on its way only before that.
        let Some(message) = self.streams.get_mut(&frame.stream) else {
            return Ok(Err("a body without a head".to_owned()));
        };
        match frame.unpadded() {
            Ok(data) => message.body.extend(data),
            Err(why) => return Ok(Err(why)),
        }
        let room = (frame.payload.len() as u32).to_be_bytes();
        if !frame.payload.is_empty() {
            self.stream.write_all(&frames::frame(WINDOW_UPDATE, 0, 0, &room))?;
        }
        Ok(Ok((frame.flags & END_STREAM != 0).then_some(frame.stream)))
    }

    fn answer(&mut self, stream: u32) -> io::Result<()> {
        let message = self.streams.remove(&stream).unwrap();
        let length = message.body.len();
        let mut seen = self.seen.lock().unwrap();
        if message.values("content-length").any(|told| number(told) != Some(length)) {
            seen.invalid = Some("a body that is not as long as it says".to_owned());
        }
        seen.messages.push(message);
        drop(seen);
        let answer = [frames::head(0, stream, OK), frame(DATA, END_STREAM, stream, b"ok")];
        self.stream.write_all(&answer.concat())
    }
}

/// The message of HTTP/1.1 that says the same. Each pseudo-header is there once, before all else (RFC 9113
/// §8.3.1).
fn request(fields: Fields) -> Result<Message, String> {
    let is_pseudo = |field: &(String, Vec<u8>)| field.0.starts_with(':');
    let end = fields.iter().position(|field| !is_pseudo(field)).unwrap_or(fields.len());
    let (mut pseudo, mut fields) = (fields.clone(), fields[end..].to_vec());
    pseudo.truncate(end);
    are_valid(&fields)?;
    pseudo.sort();
    let [(a, authority), (m, method), (p, path), (s, _)] = &pseudo[..] else {
        return Err(format!("the pseudo-headers {pseudo:?}"));
    };
    if [a.as_str(), m, p, s] != [":authority", ":method", ":path", ":scheme"] {
        return Err(format!("the pseudo-headers {pseudo:?}"));
    }
    let text = String::from_utf8_lossy;
    let start = format!("{} {} HTTP/1.1", text(method), text(path));
    fields.push(("host".to_owned(), authority.clone()));
    Ok(Message { start, fields, ..Message::default() })
}
