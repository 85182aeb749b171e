//! HTTP/2 by hand: frames in and out, for what no well-behaved client would send.

use std::net::SocketAddr;

pub use conformance::http2::frames::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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
        let read = tokio::time::timeout(super::PATIENCE, self.0.read_exact(&mut head));
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
