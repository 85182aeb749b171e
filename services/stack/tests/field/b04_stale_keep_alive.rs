//! Random 502 from a reused idle connection: caddyserver/caddy#6452, traefik/traefik#10932,
//! sozu-proxy/sozu#1442, prosopo/captcha#3072 ("POST cannot be retried"). What happens to the millisecond
//! around the end of a backend's idle time, `proxy/src/client/tests/stale.rs` shows.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::common::{World, raw::read_head};

const BODY: &str = "a body that may be sent only once";

/// A backend that closes idle connections when it is told to.
struct Backend {
    address: SocketAddr,
    /// Closes all idle connections now.
    close: watch::Sender<()>,
}

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (close, closing) = watch::channel(());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, closing.clone()));
            }
        });
        Self { address, close }
    }

    async fn world(&self) -> World {
        let variables = [("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1")];
        let world = World::over(&format!("http://{}", self.address), &variables, vec![]);
        world.until_eligible(1).await;
        world
    }
}

async fn serve(mut stream: TcpStream, mut closing: watch::Receiver<()>) {
    loop {
        closing.borrow_and_update();
        let head = tokio::select! {
            head = read_head(&mut stream) => head,
            _ = closing.changed() => return,
        };
        if head.is_empty() {
            return;
        }
        let mut body = vec![0; BODY.len()];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

async fn post(world: &World) -> u16 {
    world.client.post(world.url("/")).body(BODY).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn posts_right_after_the_backend_closed_everything_are_all_answered() {
    let backend = Backend::start().await;
    let world = backend.world().await;
    for _ in 0..50 {
        assert_eq!(post(&world).await, 200);
        let open = backend.close.receiver_count();
        backend.close.send_replace(());
        // Each connection's task holds a receiver until its socket is closed.
        world
            .until("the connections to be closed", async || backend.close.receiver_count() < open)
            .await;
    }
}
