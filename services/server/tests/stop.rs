//! Stopping without a failed request.

mod common;

use chassis::shutdown::Stop;
use common::{PATIENCE, long_stop, short_stop, start};
use tokio::{io::AsyncReadExt, net::TcpStream};

#[tokio::test]
async fn while_stopping_the_server_is_unready_alive_and_still_serves() {
    let server = start(|settings| settings.stop = long_stop());
    server.stop(Stop::Graceful);
    let response = server.get("/readyz").await;
    assert_eq!(response.status(), 503);
    assert!(response.text().await.unwrap().contains("stopping"));
    assert_eq!(server.get("/healthz").await.status(), 200);
    let response = server.get("/").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["connection"], "close");
    server.metric_becomes("evenkeel_server_ready", 0.0).await;
    server.put("/admin/ready", r#"{"ready":true}"#).await;
    assert_eq!(server.get("/readyz").await.status(), 503);
    assert_eq!(server.metric("evenkeel_server_ready").await, 0.0);
}

#[tokio::test]
async fn a_request_in_flight_is_finished_before_the_server_leaves() {
    let server = start(|settings| settings.stop = short_stop());
    // Long enough for both to be seen in flight on a busy machine.
    let delayed = tokio::spawn(server.client.get(server.url("/delay/5s")).send());
    let lines = tokio::spawn(server.client.get(server.url("/stream/6?interval=1s")).send());
    server.metric_becomes("evenkeel_server_in_flight", 2.0).await;
    server.stop(Stop::Graceful);
    let address = server.address;
    server.stopped().await;
    // Both ended by themselves, so the answers are there at once.
    assert_eq!(delayed.await.unwrap().unwrap().status(), 200);
    let lines = lines.await.unwrap().unwrap().text().await.unwrap();
    assert_eq!(lines.lines().count(), 6);
    assert!(TcpStream::connect(address).await.is_err(), "the port is still open");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_a_stop() {
    let server = start(|settings| settings.stop = short_stop());
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    server.get("/").await;
    server.stop(Stop::Prompt);
    server.stopped().await;
    let read = tokio::time::timeout(PATIENCE, idle.read(&mut [0])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
}
