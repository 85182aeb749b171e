//! Requests right when a backend closes a connection that was idle, of those that may be sent only once
//! (caddyserver/caddy#6452, sozu-proxy/sozu#1442): such a connection is let go of before.

use std::cell::Cell;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::*;
use crate::upstream::LOOK_EVERY;

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab";

/// A client that posts now and then, and a backend that closes connections on which no request has come
/// for some time.
struct Posts {
    bench: Bench,
    client: std::net::TcpStream,
    /// That the backend has had.
    connections: Rc<Cell<usize>>,
}

impl Posts {
    async fn over(idle: Duration, field: &'static str) -> Self {
        let (address, connections) = backend(idle, field).await;
        let bench = Bench::new(&[], address);
        let (session, socket, client) = connect(&bench, b"");
        client.set_nonblocking(true).unwrap();
        start(session, socket, true);
        let worker = Rc::clone(&bench.worker);
        tokio::task::spawn_local(async move {
            loop {
                // As a worker does.
                sleep(LOOK_EVERY).await;
                worker.upstreams.borrow().look(worker.settings.timeouts.upstream_idle);
            }
        });
        Self { bench, client, connections }
    }

    /// One more, which is answered before any time passes.
    async fn post(&mut self) {
        self.client.write_all(POST.as_bytes()).unwrap();
        let mut heard = Vec::new();
        until(|| {
            let _ = self.client.read_to_end(&mut heard);
            heard.ends_with(b"\r\n\r\n")
        })
        .await;
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
        settle().await;
    }

    /// As many as it takes to be just before, at and after the end of `idle`.
    async fn posts_around(&mut self, idle: Duration) {
        for late in 0..14 {
            sleep(idle + Duration::from_millis(late) - Duration::from_millis(7)).await;
            self.post().await;
        }
    }

    /// Connections that were seen to be closed.
    fn closed(&self) -> u64 {
        self.bench.worker.gauges.backend_idle_closed.load(Ordering::Relaxed)
    }
}

async fn backend(idle: Duration, field: &'static str) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, connections) = (listener.local_addr().unwrap(), Rc::<Cell<usize>>::default());
    let counted = Rc::clone(&connections);
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.update(|count| count + 1);
            tokio::task::spawn_local(async move {
                let mut read = Vec::new();
                while let Ok(Ok(1..)) = timeout(idle, stream.read_buf(&mut read)).await {
                    if read.ends_with(b"\r\n\r\nab") {
                        let answer = format!("HTTP/1.1 200 OK\r\n{field}content-length: 0\r\n\r\n");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        read.clear();
                    }
                }
            });
        }
    });
    (address, connections)
}

#[tokio::test(start_paused = true)]
async fn posts_right_at_the_edge_of_a_limit_that_was_seen_are_all_answered() {
    // The last is less than the time between two looks at idle connections, which cannot tell such a limit
    // from the end of a process until it is seen again.
    for (idle, closes) in [(400, 1), (1_000, 1), (110, 5)] {
        let idle = Duration::from_millis(idle);
        let run = async {
            let mut posts = Posts::over(idle, "").await;
            for count in 1..=closes {
                posts.post().await;
                sleep(seconds(2)).await;
                assert_eq!(posts.closed(), count);
            }
            posts.post().await;
            posts.posts_around(idle).await;
            // None was used for so long that it might have been closing.
            assert_eq!(posts.connections.get() as u64, closes + 1 + 14);
        };
        LocalSet::new().run_until(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn posts_right_at_the_edge_of_a_limit_that_was_told_are_all_answered() {
    let run = async {
        let idle = seconds(1);
        let mut posts = Posts::over(idle, "keep-alive: timeout=1\r\n").await;
        posts.post().await;
        posts.post().await;
        assert_eq!(posts.connections.get(), 1, "it is used for some time");
        posts.posts_around(idle).await;
        assert_eq!((posts.connections.get(), posts.closed()), (1 + 14, 0));
    };
    LocalSet::new().run_until(run).await;
}
