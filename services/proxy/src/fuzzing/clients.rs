//! Clients of a proxy that read what they are told by themselves.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use h2::client;
use http::Request;

use super::{
    messages::{self, By, Message, in_order},
    world::PATIENCE,
};

/// What follows is what a request for it is answered with.
pub(super) const NUMBER: &str = "/number/";

/// As many times a request is made to which the proxy has no answer: its backend may have closed a
/// connection just now.
const TRIES: usize = 3;

/// What a client has heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) interims: Vec<Message>,
    /// None if the connection ended before it did.
    pub(super) message: Option<Message>,
    /// What came after it.
    pub(super) rest: Vec<u8>,
}

/// A client of HTTP/1.
pub(super) struct Http1 {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Http1 {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Sends a request, and reads up to the end of its answer or of the connection.
    ///
    /// # Panics
    /// What comes is no HTTP, or there is no end of it.
    pub(super) fn ask(&mut self, request: &[u8], is_for_head: bool) -> Heard {
        let connect = || {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        let mut stream = self.stream.take().unwrap_or_else(connect);
        // The proxy may close at any point.
        let _ = stream.write_all(request);
        let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
        loop {
            let count = match stream.read(&mut piece) {
                Ok(count) => Some(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("no end of {:?}", String::from_utf8_lossy(&bytes))
                }
                Err(_) => None,
            };
            bytes.extend_from_slice(&piece[..count.unwrap_or(0)]);
            let is_closed = count == Some(0);
            let read = messages::responses(&bytes, By::Us, is_for_head, is_closed);
            let Ok((interims, message)) = read else {
                panic!("{read:?}: {:?}", String::from_utf8_lossy(&bytes))
            };
            let is_switch = message.as_ref().is_some_and(|message| message.status() == 101);
            let is_end = is_closed || count.is_none();
            if is_end || (message.is_some() && !is_switch) {
                let of_interims: usize = interims.iter().map(|interim| interim.length).sum();
                let length = message.as_ref().map_or(bytes.len(), |m| of_interims + m.length);
                let keeps = message.as_ref().is_some_and(|message| {
                    let mut members = message.values("connection");
                    !members.any(|value| value.starts_with(b"close"))
                });
                self.stream = Some(stream).filter(|_| keeps && !is_end);
                return Heard { interims, message, rest: bytes.split_off(length) };
            }
        }
    }

    /// Asks for a number that nobody has asked for, of which the backend may be `told`.
    ///
    /// # Panics
    /// The answer is another one.
    pub(super) fn ask_number(&mut self, told: impl Fn(&str)) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..TRIES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
            told(&number);
            let request = format!("GET {NUMBER}{number} HTTP/1.1\r\nhost: a\r\n\r\n");
            let heard = self.ask(request.as_bytes(), false);
            assert!(heard.interims.is_empty() && heard.rest.is_empty(), "{heard:?}");
            // It may have closed after the last answer.
            let Some(message) = heard.message else { continue };
            if message.status() == 200 {
                return assert_eq!(message.body, number.as_bytes(), "somebody else's answer");
            }
            assert!(message.values("proxy-status").count() == 1, "{message:?}");
        }
        panic!("no answer");
    }
}

/// Asks as a client of HTTP/2 does.
pub(super) fn ask_http2(address: SocketAddr, method: &str, path: &str) -> Heard {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let heard = tokio::time::timeout(PATIENCE, ask_on(stream, method, path)).await;
        heard.expect("no end of an answer")
    };
    Heard { message: runtime.block_on(asked), ..Heard::default() }
}

/// Asks on a connection of HTTP/2. `None` if there is no whole answer.
pub(super) async fn ask_on<S>(stream: S, method: &str, path: &str) -> Option<Message>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = client::handshake(stream).await.ok()?;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.ok()?;
    let uri = format!("http://a{path}");
    let request = Request::builder().method(method).uri(uri).header("te", "trailers");
    let (response, mut body) =
        sender.send_request(request.body(()).unwrap(), method != "POST").ok()?;
    if method == "POST" {
        body.send_data(Bytes::from_static(b"abc"), true).ok()?;
    }
    let (head, mut body) = response.await.ok()?.into_parts();
    let mut message = Message {
        start: format!("HTTP/2 {} ", head.status.as_u16()).into_bytes(),
        fields: in_order(&head.headers),
        ..Message::default()
    };
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        let _ = body.flow_control().release_capacity(data.len());
        message.body.extend_from_slice(&data);
    }
    if let Some(trailers) = body.trailers().await.ok()? {
        message.trailers = in_order(&trailers);
    }
    Some(message)
}
