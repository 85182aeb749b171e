//! HTTP/2 by hand: frames in and out, for what no well-behaved client would send.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITY: u8 = 0x20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literal fields (RFC 7541 §6.2.2), in which anything can be written.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            bytes.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// A head, or trailers, in two frames, cut everywhere: some as they are, some padded, some with a
/// priority too (RFC 9113 §6.2).
pub fn each_cut(flags: u8, stream: u32, block: &[u8]) -> Vec<Vec<u8>> {
    let cut = |end| {
        let (first, rest) = block.split_at(end);
        let (more, first) = match end % 3 {
            0 => (0, first.to_vec()),
            1 => (PADDED, [b"\x02", first, b"\0\0"].concat()),
            _ => (PADDED | PRIORITY, [b"\x01\0\0\0\0\x0f", first, b"\0"].concat()),
        };
        let head = frame(HEADERS, flags | more, stream, &first);
        [head, frame(CONTINUATION, END_HEADERS, stream, rest)].concat()
    };
    (0..=block.len()).map(cut).collect()
}

/// A head, or trailers, in frames of no more than so many bytes.
pub fn cut(flags: u8, stream: u32, block: &[u8], size: usize) -> Vec<u8> {
    let mut pieces: Vec<&[u8]> = block.chunks(size).collect();
    let last = pieces.pop().unwrap();
    let mut bytes = frame(HEADERS, flags, stream, &[]);
    pieces.iter().for_each(|piece| bytes.extend(frame(CONTINUATION, 0, stream, piece)));
    bytes.extend(frame(CONTINUATION, END_HEADERS, stream, last));
    bytes
}

/// The pseudo-header fields of a good request, and others.
pub fn get(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut all =
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)];
    all.extend(fields);
    block(&all)
}

pub struct RawClient(pub TcpStream);

impl RawClient {
    /// Connects and sends the preface and `settings`.
    pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &payload)).await.unwrap();
        Self(stream)
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
    }

    /// The next frame, if the connection is not closed before. Answers pings.
    pub async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_exact(&mut head));
        read.await.expect("no frame and no end").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        if kind == PING && flags & ACK == 0 {
            let _ = self.0.write_all(&frame(PING, ACK, 0, &payload)).await;
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind, flags, stream, payload })
    }

    /// Reads until a request is refused as a bad one, on its stream, by our own answer or by the
    /// library's, or with the connection.
    pub async fn until_refused(&mut self, stream: u32) {
        /// Of the static table (RFC 7541, Appendix A).
        const BAD_REQUEST: u8 = 0x8c;
        loop {
            let frame = self.read().await.expect("closed without a word");
            match frame.kind {
                HEADERS if frame.stream == stream => {
                    assert_eq!(frame.payload[0], BAD_REQUEST, "{frame:?}");
                    return;
                }
                RST_STREAM if frame.stream == stream => return,
                GOAWAY => return,
                _ => {}
            }
        }
    }

    /// The next frame of a kind.
    pub async fn until(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// All frames until the connection is closed.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read().await {
            frames.push(frame);
        }
        frames
    }
}
