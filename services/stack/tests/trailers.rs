//! The fields after a request's body, and what becomes of those that may not go on.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use common::{
    World,
    frames::{self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RawClient, SETTINGS},
    raw::{RawBackend, exchange, status},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// An error of RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;

/// A backend of HTTP/2 such as those made with Go, for which fields after a body on a stream that it has
/// answered are a mistake of the whole connection. It answers nobody before so many bodies have ended.
struct Backend {
    address: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
    /// How many streams have begun.
    streams: Arc<AtomicUsize>,
}

impl Backend {
    async fn start(bodies: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, streams) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (made, begun) = (Arc::clone(&connections), Arc::clone(&streams));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                made.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, bodies, Arc::clone(&begun)));
            }
        });
        Self { address, connections, streams }
    }
}

async fn serve(mut stream: TcpStream, bodies: usize, begun: Arc<AtomicUsize>) -> Option<()> {
    stream.read_exact(&mut [0; frames::PREFACE.len()]).await.ok()?;
    let mut peer = RawClient(stream);
    peer.send(SETTINGS, 0, 0, &[]).await;
    let (mut known, mut ended) = (Vec::new(), Vec::new());
    loop {
        let frame = peer.read().await?;
        if frame.kind == HEADERS && known.contains(&frame.stream) {
            let goodbye = [frame.stream.to_be_bytes(), PROTOCOL_ERROR.to_be_bytes()].concat();
            peer.send(GOAWAY, 0, 0, &goodbye).await;
            return None;
        }
        if frame.kind == HEADERS {
            known.push(frame.stream);
            begun.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
            ended.push(frame.stream);
        }
        if ended.len() == bodies {
            for stream in std::mem::take(&mut ended) {
                // The 204 of the static table (RFC 7541, Appendix A).
                peer.send(HEADERS, END_HEADERS | END_STREAM, stream, &[0x89]).await;
            }
        }
    }
}

async fn over(backend: std::net::SocketAddr, protocol: &str) -> World {
    let variables = [("PROXY_BACKEND_PROTOCOL", protocol), ("PROXY_PROBE", "off")];
    let one_worker = [("PROXY_WORKERS", "1")];
    let variables = [&variables[..], &one_worker].concat();
    let world = World::over(&format!("http://{backend}"), &variables, vec![]);
    world.until_eligible(1).await;
    world
}

const CHUNKED: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n";

/// RFC 9110 §6.5, RFC 9112 §7.1.2. Announced, they arrive, on a connection that nobody else is on.
#[tokio::test]
async fn fields_after_one_body_end_nobody_elses_connection() {
    for (announcement, bodies, expected, connections) in
        [("", 3, 204, 1), ("Trailer: X-Sum\r\n", 2, 502, 2)]
    {
        let backend = Backend::start(bodies).await;
        let world = over(backend.address, "h2c").await;
        let mut others = Vec::new();
        for count in 1..=2 {
            let mut other = TcpStream::connect(world.proxy.address).await.unwrap();
            other.write_all(format!("{CHUNKED}\r\n").as_bytes()).await.unwrap();
            let have_begun = async || backend.streams.load(Ordering::Relaxed) == count;
            world.until("it to begin", have_begun).await;
            others.push(other);
        }
        others[0].write_all(b"0\r\n\r\n").await.unwrap();
        let request = format!("{CHUNKED}{announcement}\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n");
        let one = exchange(world.proxy.address, &request);
        let rest = async {
            let have_begun = async || backend.streams.load(Ordering::Relaxed) == 3;
            world.until("it to begin", have_begun).await;
            others[1].write_all(b"0\r\n\r\n").await.unwrap();
            let mut statuses = Vec::new();
            for other in &mut others {
                let mut answer = String::new();
                other.read_to_string(&mut answer).await.unwrap();
                statuses.push(status(&answer));
            }
            statuses
        };
        let (one, others) = tokio::join!(one, rest);
        assert_eq!((others, status(&one)), (vec![204, 204], expected), "{announcement:?}");
        assert_eq!(backend.connections.load(Ordering::Relaxed), connections, "{announcement:?}");
    }
}

/// A backend of HTTP/1.1 that keeps what it is sent, up to the end of the fields after a body of chunks.
async fn noting() -> (std::net::SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let noted = Arc::<Mutex<String>>::default();
    let note = Arc::clone(&noted);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut heard, mut buffer) = (String::new(), [0; 4096]);
            while !heard.contains("\r\n0\r\n") || !heard.ends_with("\r\n\r\n") {
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "it ends too soon: {heard}");
                heard.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
            }
            *note.lock().unwrap() = heard;
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    (address, noted)
}

/// RFC 9110 §7.6.1.
#[tokio::test]
async fn fields_that_connection_names_go_no_further_after_a_body_either() {
    let (backend, noted) = noting().await;
    let world = over(backend, "http1").await;
    let many: String = (0..20).map(|number| format!("X-Hop-{number}, ")).collect();
    for (named, expected) in [
        ("x-hop, close", "0\r\nx-end: 2\r\n\r\n"),
        // Nobody names so many, and then there are none.
        (&format!("{many}X-Hop, close"), "0\r\n\r\n"),
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: {named}\r\n\r\n\
             3\r\nabc\r\n0\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n"
        );
        assert_eq!(status(&exchange(world.proxy.address, &request).await), 200);
        let noted = noted.lock().unwrap().clone();
        assert!(noted.ends_with(&format!("3\r\nabc\r\n{expected}")), "{noted}");
    }
    let backend = RawBackend::start(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-hop, close\r\n\r\n\
          2\r\nok\r\n0\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n",
    )
    .await;
    let world = over(backend.address, "http1").await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te, close\r\n\r\n";
    let answer = exchange(world.proxy.address, request).await;
    assert!(answer.ends_with("2\r\nok\r\n0\r\nx-end: 2\r\n\r\n"), "{answer}");
}
