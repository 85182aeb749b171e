//! Random 502 from a reused idle connection: caddyserver/caddy#6452, traefik/traefik#10932,
//! sozu-proxy/sozu#1442, prosopo/captcha#3072 ("POST cannot be retried").

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::common::{World, raw::read_head};

const BODY: &str = "a body that may be sent only once";

/// A backend that closes connections on which no request has come for some time.
struct Backend {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Closes all idle connections now.
    close: watch::Sender<()>,
}

impl Backend {
    async fn start(idle: Duration, fields: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (close, closing) = watch::channel(());
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, idle, fields, closing.clone()));
            }
        });
        Self { address, connections, close }
    }

    async fn world(&self) -> World {
        let variables = [("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1")];
        let world = World::over(&format!("http://{}", self.address), &variables, vec![]);
        world.until_eligible(1).await;
        world
    }
}

async fn serve(
    mut stream: TcpStream,
    idle: Duration,
    fields: &str,
    mut closing: watch::Receiver<()>,
) {
    loop {
        closing.borrow_and_update();
        let head = tokio::select! {
            head = tokio::time::timeout(idle, read_head(&mut stream)) => head,
            _ = closing.changed() => return,
        };
        match head {
            Ok(head) if !head.is_empty() => {}
            _ => return,
        }
        let mut body = vec![0; BODY.len()];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn post(world: &World) -> u16 {
    world.client.post(world.url("/")).body(BODY).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn posts_right_at_the_edge_of_a_limit_that_was_seen_are_all_answered() {
    let idle = Duration::from_millis(400);
    let backend = Backend::start(idle, "").await;
    let world = backend.world().await;
    assert_eq!(post(&world).await, 200);
    let closed = "evenkeel_backend_idle_closed_total";
    world.until("the backend to close once", async || world.metric(closed).await == 1.0).await;
    assert_eq!(post(&world).await, 200);
    for step in 0..8 {
        tokio::time::sleep(idle + Duration::from_millis(2 * step) - Duration::from_millis(7)).await;
        assert_eq!(post(&world).await, 200);
    }
    let connections = backend.connections.load(Ordering::Relaxed);
    assert_eq!(connections, 10, "none was used for so long that it might have been closing");
}

/// Less than the time between two looks at idle connections, which cannot tell such a limit from the
/// end of a process until it is seen again.
#[tokio::test]
async fn posts_right_at_the_edge_of_a_limit_that_is_short_are_all_answered() {
    let idle = Duration::from_millis(110);
    let backend = Backend::start(idle, "").await;
    let world = backend.world().await;
    let closed = async || world.metric("evenkeel_backend_idle_closed_total").await;
    for count in 1..=5 {
        assert_eq!(post(&world).await, 200);
        world.until("the backend to close", async || closed().await == f64::from(count)).await;
    }
    for step in 0..8 {
        tokio::time::sleep(idle + Duration::from_millis(2 * step) - Duration::from_millis(7)).await;
        assert_eq!(post(&world).await, 200);
    }
    let connections = backend.connections.load(Ordering::Relaxed);
    assert_eq!(connections, 13, "none was used for so long that it might have been closing");
}

#[tokio::test]
async fn posts_right_at_the_edge_of_a_limit_that_was_told_are_all_answered() {
    let idle = Duration::from_secs(1);
    let backend = Backend::start(idle, "keep-alive: timeout=1\r\n").await;
    let world = backend.world().await;
    assert_eq!(post(&world).await, 200);
    assert_eq!(post(&world).await, 200);
    for _ in 0..2 {
        tokio::time::sleep(idle - Duration::from_millis(1)).await;
        assert_eq!(post(&world).await, 200);
    }
    let connections = backend.connections.load(Ordering::Relaxed);
    assert!(connections >= 3, "none was used close to its limit; {connections}");
    assert_eq!(world.metric("evenkeel_backend_idle_closed_total").await, 0.0);
}

#[tokio::test]
async fn posts_right_after_the_backend_closed_everything_are_all_answered() {
    let backend = Backend::start(Duration::from_secs(60), "").await;
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
