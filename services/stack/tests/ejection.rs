//! Backends that pass their probes and fail their requests.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{
    World, even,
    raw::{OK, RawBackend, read_head, status},
    server,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const EJECTIONS: &str =
    "evenkeel_ejections_total{pool=\"default\",reason=\"consecutive_failures\"}";

/// Lets every request of a server fail with 503, or none.
async fn fault(world: &World, index: usize, is_on: bool) {
    let address = world.servers[index].as_ref().unwrap().address;
    let share = if is_on { "100%" } else { "0%" };
    let url = format!("http://{address}/admin/faults");
    let request = world.client.put(url).json(&json!({"error_share": share}));
    assert_eq!(request.send().await.unwrap().status(), 200);
}

async fn health(world: &World, index: usize) -> Value {
    world.backend(&world.id(index)).await["health"].clone()
}

#[tokio::test]
async fn a_backend_that_answers_503_is_ejected() {
    let times = [("PROXY_EJECT_TIME", "1h"), ("PROXY_EJECT_TIME_MAX", "1h")];
    let world = World::start(3, &times).await;
    fault(&world, 0, true).await;
    world
        .until("the ejection", async || {
            world.get("/").await;
            health(&world, 0).await == "ejected"
        })
        .await;
    assert_eq!(world.spread(10).await, even(&["s1", "s2"], 5));
    assert_eq!(world.metric(EJECTIONS).await, 1.0);
    let backend = world.backend(&world.id(0)).await;
    let reasons = backend["reasons"].to_string();
    assert!(reasons.contains("5 failures in a row"), "{reasons}");
    assert!(backend["health_until"].is_string() && backend["eligible"] == false, "{backend}");
    let events = world.admin_json("/v1/events").await.to_string();
    assert!(events.contains(": 5 failures in a row"), "{events}");
}

#[tokio::test]
async fn a_backend_that_was_ejected_comes_back_when_it_has_recovered() {
    let world = World::start(3, &[("PROXY_EJECT_TIME", "100ms")]).await;
    fault(&world, 0, true).await;
    world
        .until("the ejection", async || {
            world.get("/").await;
            world.metric(EJECTIONS).await >= 1.0
        })
        .await;
    fault(&world, 0, false).await;
    world.until_eligible(3).await;
    assert_eq!(world.spread(30).await, even(&["s0", "s1", "s2"], 10));
}

#[tokio::test]
async fn a_backend_that_breaks_off_its_responses_is_ejected() {
    let broken = RawBackend::start(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    let servers = vec![server(0, common::any_port())];
    let urls = format!("http://{},http://{}", broken.address, servers[0].address);
    let world = World::over(&urls, &[], servers);
    world.until_eligible(2).await;
    world
        .until("the ejection", async || {
            let answer = world.client.get(world.url("/")).send().await.unwrap();
            let _ = answer.bytes().await;
            world.metric(EJECTIONS).await == 1.0
        })
        .await;
    assert_eq!(world.spread(4).await, even(&["s0"], 4));
}

#[tokio::test]
async fn clients_that_leave_and_backends_that_say_500_or_404_eject_nobody() {
    let answers: [&[u8]; 2] = [
        b"HTTP/1.1 500 Bug\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
    ];
    for answer in answers {
        let backend = RawBackend::start(answer).await;
        let servers = vec![server(0, common::any_port())];
        let urls = format!("http://{},http://{}", backend.address, servers[0].address);
        let world = World::over(&urls, &[], servers);
        world.until_eligible(2).await;
        for _ in 0..30 {
            world.get("/").await;
            let hanging = world.client.get(world.url("/delay/20s")).send();
            let left = tokio::time::timeout(std::time::Duration::from_millis(2), hanging).await;
            assert!(left.is_err() || left.unwrap().is_ok());
        }
        assert_eq!(world.admin_json("/v1/pools/default").await["counts"]["eligible"], 2);
    }
}

/// A backend that reads something and closes without a word after a while, as one does that waited for more.
async fn closing(after: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4_096]).await;
                tokio::time::sleep(after).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_backend_that_gives_up_waiting_for_uploads_is_not_ejected_but_one_that_resets_them_is() {
    for (after, ejections) in [(Duration::ZERO, 1.0), (Duration::from_millis(1_500), 0.0)] {
        let good = [RawBackend::start(OK).await, RawBackend::start(OK).await];
        let [one, other] = [good[0].address, good[1].address];
        let backends = format!("http://{},http://{one},http://{other}", closing(after).await);
        let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
        world.until_eligible(3).await;
        let begun = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhe";
        let proxy = world.proxy.address;
        let uploads: JoinSet<u16> = (0..18)
            .map(|_| async move {
                let mut upload = TcpStream::connect(proxy).await.unwrap();
                upload.write_all(begun).await.unwrap();
                status(&read_head(&mut upload).await)
            })
            .collect();
        let statuses = uploads.join_all().await;
        assert!(statuses.iter().filter(|status| **status == 502).count() >= 5, "{statuses:?}");
        if ejections > 0.0 {
            world.until("the ejection", async || world.metric(EJECTIONS).await > 0.0).await;
        }
        assert_eq!(world.metric(EJECTIONS).await, ejections, "after {after:?}");
    }
}
