//! WebSockets over HTTP/2 (RFC 8441): a client that asks for them, and a backend of HTTP/1 that has them.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, SendRequest},
    ext::Protocol,
};
use http::{HeaderMap, Request};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{PATIENCE, World, raw::read_head, wait_for};

pub type Client = SendRequest<Bytes>;

/// A client's end of a WebSocket.
pub struct Stream {
    pub send: SendStream<Bytes>,
    recv: RecvStream,
    rest: Bytes,
}

impl Stream {
    /// How it ends, if it is reset.
    pub async fn reset(&mut self) -> Option<Reason> {
        let error = timeout(PATIENCE, self.read_to_end(&mut Vec::new())).await.unwrap().err()?;
        error.downcast::<h2::Error>().unwrap().reason()
    }

    /// What comes to the end of it.
    pub async fn rest(&mut self) -> String {
        let mut text = String::new();
        timeout(PATIENCE, self.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { recv, rest, .. } = self.get_mut();
        while rest.is_empty() {
            let Some(data) = ready!(recv.poll_data(context)) else { return Poll::Ready(Ok(())) };
            *rest = data.map_err(io::Error::other)?;
        }
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        rest.advance(count);
        recv.flow_control().release_capacity(count).unwrap();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = &mut self.get_mut().send;
        send.reserve_capacity(bytes.len());
        while send.capacity() == 0 {
            let Some(Ok(_)) = ready!(send.poll_capacity(context)) else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
        }
        let count = send.capacity().min(bytes.len());
        let sent = send.send_data(Bytes::copy_from_slice(&bytes[..count]), false);
        Poll::Ready(sent.map(|()| count).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.get_mut().send.send_data(Bytes::new(), true);
        Poll::Ready(sent.map_err(io::Error::other))
    }
}

/// A client that has been told that it may ask for WebSockets.
pub async fn connect(address: SocketAddr, builder: &Builder) -> Client {
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) = builder.handshake(socket).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let may_ask = wait_for(async || client.is_extended_connect_protocol_enabled()).await;
    assert!(may_ask, "the setting never comes");
    client
}

pub fn wish(protocol: &'static str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method("CONNECT")
        .uri("http://shop.example/chat?room=1")
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

pub async fn ask(client: &Client, request: Request<()>) -> (u16, HeaderMap, Stream) {
    let mut client = client.clone().ready().await.unwrap();
    let (response, send) = client.send_request(request, false).unwrap();
    let (head, recv) = timeout(PATIENCE, response).await.unwrap().unwrap().into_parts();
    (head.status.as_u16(), head.headers, Stream { send, recv, rest: Bytes::new() })
}

/// A proxy over a backend that is this listener.
pub async fn over(variables: &[(&str, &str)]) -> (World, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut all = vec![("PROXY_PROBE", "off")];
    all.extend(variables);
    let backends = format!("http://{}", listener.local_addr().unwrap());
    let world = World::over(&backends, &all, vec![]);
    world.until_eligible(1).await;
    (world, listener)
}

/// The next connection to a backend, with the head of the request on it.
pub async fn accepted(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let head = read_head(&mut stream).await;
    (stream, head)
}

pub fn field<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

/// The answer to a request for a WebSocket, after these fields.
pub fn switching(head: &str, fields: &str) -> String {
    let accept = derive_accept_key(field(head, "sec-websocket-key")[0].as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\n{fields}Connection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// Both ends of a WebSocket.
pub async fn opened(client: &Client, listener: &TcpListener) -> (Stream, TcpStream) {
    let answered = async {
        let (mut backend, head) = accepted(listener).await;
        backend.write_all(switching(&head, "").as_bytes()).await.unwrap();
        backend
    };
    let ((status, _, stream), backend) =
        tokio::join!(ask(client, wish("websocket", &[])), answered);
    assert_eq!(status, 200);
    (stream, backend)
}

/// A proxy over a listener, and both ends of a WebSocket through it.
pub async fn open(variables: &[(&str, &str)]) -> (World, TcpListener, Stream, TcpStream) {
    let (world, listener) = over(variables).await;
    let client = connect(world.proxy.address, &Builder::new()).await;
    let (stream, backend) = opened(&client, &listener).await;
    (world, listener, stream, backend)
}

pub async fn heard<const N: usize>(from: &mut (impl AsyncRead + Unpin)) -> [u8; N] {
    let mut bytes = [0; N];
    timeout(PATIENCE, from.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

pub async fn until_none_is_left(world: &World, listener: &TcpListener) {
    let id = listener.local_addr().unwrap().to_string();
    let is_over = async || {
        let backend = world.backend(&id).await;
        (&backend["tunnels"], &backend["in_flight"]) == (&json!(0), &json!(0))
    };
    world.until("the ticket to be given back", is_over).await;
}
