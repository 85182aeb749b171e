//! What follows an attempt that failed: where the next one goes, and when.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{World, raw::read_head};
use tokio::{io::AsyncWriteExt, net::TcpListener};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A backend that answers so many requests on each connection, and does `then` with the next.
struct Backend {
    address: SocketAddr,
    /// Requests that arrived.
    requests: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Then {
    Close,
}

impl Backend {
    async fn start(answers: usize, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    for served in 0.. {
                        if read_head(&mut stream).await.is_empty() {
                            return;
                        }
                        counted.fetch_add(1, Ordering::Relaxed);
                        match then {
                            _ if served < answers => stream.write_all(OK).await.unwrap(),
                            Then::Close => return,
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn over(backends: &[&Backend], variables: &[(&str, &str)]) -> World {
    let list = backends.iter().map(|backend| format!("http://{}", backend.address));
    let list = list.collect::<Vec<_>>().join(",");
    let always = [("PROXY_PROBE", "off"), ("PROXY_EJECT", "false"), ("PROXY_WORKERS", "1")];
    let world = World::over(&list, &[&always, variables].concat(), vec![]);
    world.until_eligible(backends.len()).await;
    world
}

#[tokio::test]
async fn an_attempt_that_failed_does_not_stand_in_the_way_of_the_next_at_the_same_backend() {
    let only = Backend::start(1, Then::Close).await;
    let world = over(&[&only], &[("PROXY_MAX_IN_FLIGHT", "1")]).await;
    for _ in 0..2 {
        assert_eq!(world.client.get(world.url("/")).send().await.unwrap().status(), 200);
    }
    assert_eq!(only.requests(), 3, "the second request was made twice");
}
