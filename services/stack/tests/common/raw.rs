//! Raw bytes in and out: a backend that says exactly what it is told, a client that reads it all.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

use super::World;

/// An answer of [`RawBackend`].
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// A backend that reads one request per connection, answers with fixed bytes and closes.
pub struct RawBackend {
    pub address: SocketAddr,
    /// The heads that arrived, in order.
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl RawBackend {
    pub async fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let head = read_head(&mut stream).await;
                    // Probes open a connection and say nothing.
                    if !head.is_empty() {
                        seen.lock().await.push(head);
                        let _ = stream.write_all(answer).await;
                        // Closing with something unread would reset the connection, answer and all.
                        let _ = stream.shutdown().await;
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                    }
                });
            }
        });
        Self { address, heads }
    }

    pub async fn last_head(&self) -> String {
        self.heads.lock().await.last().cloned().unwrap_or_default()
    }
}

/// A proxy over one raw backend that counts as up without probes.
pub async fn over(backend: &RawBackend, variables: &[(&str, &str)]) -> World {
    let mut all = vec![("PROXY_PROBE", "off")];
    all.extend(variables);
    let world = World::over(&format!("http://{}", backend.address), &all, vec![]);
    world.until_eligible(1).await;
    world
}

/// Reads up to the empty line that ends a head.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Sends bytes on a new connection and reads until the other side closes.
pub async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let result = tokio::time::timeout(super::PATIENCE, read).await;
    result.expect("the connection stays open").unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}
