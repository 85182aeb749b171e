//! A client of HTTP/2 that sends exactly its frames, and reads what comes back to the letter of RFC
//! 9113.

pub mod frames;
pub mod hpack;
mod huffman;
mod response;
mod static_table;

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use self::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, PING,
    PREFACE, PRIORITY, RST_STREAM, SETTINGS,
};
pub use self::response::are_valid;
use crate::{
    client::{self, End, Rest},
    message::Message,
};

/// Of the client: no dynamic table, which nobody here could read (hpack.rs), and no pushes (§6.5.2).
const OURS: &[u8] = b"\0\x01\0\0\0\0\0\x02\0\0\0\0";

/// What is meant by a reset or a GOAWAY (§7), each at the place of its number.
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// What is meant by a reset or a GOAWAY.
#[must_use]
pub fn code(number: u32) -> &'static str {
    CODES.get(number as usize).copied().unwrap_or("an unknown code")
}

/// What came back on one stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The answers before the answer.
    pub interim: Vec<Message>,
    /// The answer, once its head is there.
    pub answer: Option<Message>,
    /// Whether it has come to its end.
    pub is_whole: bool,
    /// The code that it was reset with.
    pub reset: Option<&'static str>,
    /// Whether its client has reset it.
    is_left: bool,
}

impl Stream {
    /// Whether nothing more is to come on it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.is_whole || self.reset.is_some() || self.is_left
    }
}

/// A client's connection, with everything that came on it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    /// The streams that were asked for, and what came on them.
    pub streams: BTreeMap<u32, Stream>,
    /// The code that the whole connection was ended with.
    pub goaway: Option<&'static str>,
    /// How it ended, if it did.
    pub end: End,
    /// What came that is not HTTP/2.
    pub invalid: Option<String>,
    /// A head that has not come to its end.
    head: Option<Frame>,
}

impl Connection {
    /// Connects and begins with the preface and settings.
    ///
    /// # Errors
    /// No connection is made.
    pub fn open(proxy: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = client::connect(proxy, patience)?;
        let (unread, streams) = (Vec::new(), BTreeMap::new());
        let (goaway, end, invalid, head) = (None, End::Open, None, None);
        let mut connection = Self { stream, unread, streams, goaway, end, invalid, head };
        connection.send(&[PREFACE, &frames::frame(SETTINGS, 0, 0, OURS)].concat());
        Ok(connection)
    }

    /// Sends frames, and others once an answer to them has begun, and reads until all that they ask for
    /// has ended, or the connection has, or nothing has come for as long as its client is patient.
    pub fn exchange(&mut self, request: &[u8], mut after_answer: &[u8]) {
        self.ask(request);
        self.send(request);
        let begins = |stream: &Stream| !stream.interim.is_empty() || stream.answer.is_some();
        loop {
            if !after_answer.is_empty() && self.streams.values().any(begins) {
                self.send(std::mem::take(&mut after_answer));
            }
            if self.streams.values().all(Stream::has_ended) || !self.read() {
                return;
            }
        }
    }

    /// Asks for something else on the same connection. What came of it, and of nothing before it.
    pub fn next(&mut self, target: &str) -> Stream {
        let number = self.streams.keys().max().map_or(1, |newest| (newest | 1) + 2);
        let block = frames::get(target, &[]);
        self.exchange(&frames::head(END_STREAM, number, &block), &[]);
        self.streams.remove(&number).unwrap_or_default()
    }

    /// Whether more can be asked for on it.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.goaway.is_none() && self.end == End::Open
    }

    /// What is left of answers that have not come to their end.
    #[must_use]
    pub fn rest(&self) -> Rest {
        let is_cut = |stream: &Stream| stream.answer.is_some() && !stream.is_whole;
        match &self.invalid {
            Some(why) => Rest::Invalid(why.clone()),
            None if self.streams.values().any(is_cut) => Rest::Cut,
            None => Rest::Nothing,
        }
    }

    /// Takes note of what these frames ask for.
    fn ask(&mut self, request: &[u8]) {
        let mut left = request.to_vec();
        while let Some(Frame { kind, stream, .. }) = Frame::take(&mut left) {
            match kind {
                HEADERS => drop(self.streams.entry(stream).or_default()),
                RST_STREAM => {
                    self.streams.entry(stream).and_modify(|stream| stream.is_left = true);
                }
                _ => {}
            }
        }
    }

    /// Who has ended the connection need not take it.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads some more; whether there can be more still.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 65_536];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.end = End::Closed,
            Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.end = End::Reset,
        }
        while let Some(frame) = Frame::take(&mut self.unread) {
            if let Err(why) = self.see(frame) {
                self.invalid.get_or_insert(why);
            }
        }
        self.end == End::Open
    }

    fn see(&mut self, frame: Frame) -> Result<(), String> {
        if self.head.is_some() && frame.kind != CONTINUATION {
            return Err("a frame within a head".to_owned());
        }
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => self.send(&frames::frame(SETTINGS, ACK, 0, &[])),
            PING if frame.flags & ACK == 0 => {
                self.send(&frames::frame(PING, ACK, 0, &frame.payload));
            }
            GOAWAY => self.goaway = Some(code(number(frame.payload.get(4..8)))),
            RST_STREAM => {
                let reset = code(number(frame.payload.get(..4)));
                self.stream_of(&frame)?.reset = Some(reset);
            }
            HEADERS => {
                let payload = frame.unpadded()?;
                self.see_head(Frame { payload, ..frame })?;
            }
            CONTINUATION => {
                let mut head = self.head.take().ok_or("a continuation of nothing")?;
                head.flags |= frame.flags & END_HEADERS;
                head.payload.extend(frame.payload);
                self.see_head(head)?;
            }
            DATA => {
                let (ends, data) = (frame.flags & END_STREAM != 0, frame.unpadded()?);
                self.stream_of(&frame)?.see_data(&data, ends)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn see_head(&mut self, head: Frame) -> Result<(), String> {
        if head.flags & END_HEADERS == 0 {
            self.head = Some(head);
            return Ok(());
        }
        let fields = hpack::fields(&head.payload)?;
        self.stream_of(&head)?.see_fields(fields, head.flags & END_STREAM != 0)
    }

    fn stream_of(&mut self, frame: &Frame) -> Result<&mut Stream, String> {
        let stream = self.streams.get_mut(&frame.stream);
        stream.ok_or_else(|| format!("a frame of stream {}, which nobody asked for", frame.stream))
    }
}

impl Frame {
    /// What is in it without what says nothing, and without whose turn it is (§6.1, §6.2).
    ///
    /// # Errors
    /// There is less in it than that.
    pub fn unpadded(&self) -> Result<Vec<u8>, String> {
        let mut payload = &self.payload[..];
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            padding = *payload.split_off_first().ok_or("no length of what says nothing")?;
        }
        if self.kind == HEADERS && self.flags & PRIORITY != 0 {
            payload.split_off(..5).ok_or("no priority")?;
        }
        let end = payload.len().checked_sub(padding.into()).ok_or("less than what says nothing")?;
        Ok(payload[..end].to_vec())
    }
}

fn number(bytes: Option<&[u8]>) -> u32 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes)
}
