//! Backends that speak HTTP/1.0, and then perhaps no more, where only uploads come.

use std::cell::Cell;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::upstream::OLD_FOR;

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const UPLOAD: &str =
    "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";

/// A backend that answers whatever comes in this version.
async fn backend(version: &Rc<Cell<&'static str>>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, version) = (listener.local_addr().unwrap(), Rc::clone(version));
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let version = Rc::clone(&version);
            tokio::task::spawn_local(async move {
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n")
                    || (read.starts_with(b"POST") && !read.ends_with(b"\r\n0\r\n\r\n"))
                {
                    assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
                }
                let answer = format!("{} 200 OK\r\ncontent-length: 0\r\n\r\n", version.get());
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    address
}

/// The status that a client of its own gets, before any time passes.
async fn status(bench: &Bench, request: &str) -> String {
    let (session, socket, mut client) = connect(bench, request.as_bytes());
    client.set_nonblocking(true).unwrap();
    start(session, socket, true);
    let mut heard = Vec::new();
    until(|| {
        let _ = client.read_to_end(&mut heard);
        heard.len() > 12
    })
    .await;
    settle().await;
    String::from_utf8_lossy(&heard[9..12]).into_owned()
}

/// RFC 9112 §6.1.
#[tokio::test(start_paused = true)]
async fn a_backend_that_spoke_http_1_0_is_sent_an_upload_again_after_ten_seconds() {
    let run = async {
        for (then, next) in [("HTTP/1.1", "200"), ("HTTP/1.0", "411")] {
            let version = Rc::new(Cell::new("HTTP/1.0"));
            let bench = Bench::new(&[], backend(&version).await);
            assert_eq!(status(&bench, GET).await, "200");
            version.set(then);
            sleep(OLD_FOR - Duration::from_millis(1)).await;
            assert_eq!(status(&bench, UPLOAD).await, "411", "{then}");
            sleep(Duration::from_millis(1)).await;
            assert_eq!(status(&bench, UPLOAD).await, "200", "{then}");
            assert_eq!(status(&bench, UPLOAD).await, next, "{then}");
        }
    };
    LocalSet::new().run_until(run).await;
}

/// RFC 9112 §2.3.
#[tokio::test(start_paused = true)]
async fn a_backend_that_spoke_http_1_1_is_sent_uploads_whatever_it_answers_a_client() {
    let run = async {
        let version = Rc::new(Cell::new("HTTP/1.1"));
        let bench = Bench::new(&[], backend(&version).await);
        for said in ["HTTP/1.1", "HTTP/1.0"] {
            version.set(said);
            assert_eq!(status(&bench, GET).await, "200", "{said}");
        }
        assert_eq!(status(&bench, UPLOAD).await, "200");
    };
    LocalSet::new().run_until(run).await;
}
