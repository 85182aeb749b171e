//! Uploads whose client leaves, and those that outlive their answer.

use crate::{
    CANCEL,
    common::frames::{self, END_HEADERS, END_STREAM, RawClient},
    peer::{accepted, answered_upload, over_raw},
};

#[tokio::test]
async fn a_backend_without_room_for_an_upload_hears_that_its_client_has_left() {
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = answered_upload(&world, &listener, (1024, 0, 0)).await;
    client.send(frames::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    assert_eq!(peer.until(frames::RST_STREAM).await.unwrap().stream, stream);
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_is_no_error_of_ours() {
    let (world, listener) = over_raw(&[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    client.send(frames::HEADERS, END_HEADERS, 1, &frames::block(&head)).await;
    client.send(frames::DATA, 0, 1, b"the first part").await;
    let mut peer = accepted(&listener, &[]).await;
    assert_eq!(peer.until(frames::DATA).await.unwrap().payload, b"the first part");
    client.send(frames::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    let reset = peer.until(frames::RST_STREAM).await.unwrap();
    assert_eq!(reset.payload, CANCEL.to_be_bytes());
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_hears_the_end_of_it_while_it_uploads() {
    let (world, listener) = over_raw(&[("PROXY_WRITE_TIMEOUT", "300ms")]).await;
    let (mut client, mut peer, stream) = answered_upload(&world, &listener, (0, 0, 0)).await;
    peer.send(frames::DATA, 0, stream, b"more than it has room for").await;
    assert_eq!(client.until(frames::RST_STREAM).await.unwrap().stream, 1);
    assert_eq!(peer.until(frames::RST_STREAM).await.unwrap().stream, stream);
}

#[tokio::test]
async fn an_upload_that_outlives_its_answer_arrives_whole_and_is_in_flight_till_then() {
    let (world, listener) = over_raw(&[]).await;
    let flags = (1024, END_STREAM, END_STREAM);
    let (_client, mut peer, stream) = answered_upload(&world, &listener, flags).await;
    let id = listener.local_addr().unwrap().to_string();
    let in_flight = async || world.backend(&id).await["in_flight"].clone();
    assert_eq!(in_flight().await, 1);
    peer.send(frames::WINDOW_UPDATE, 0, stream, &1024_u32.to_be_bytes()).await;
    let body = peer.until(frames::DATA).await.unwrap();
    assert_eq!(
        (body.stream, body.flags, &body.payload[..]),
        (stream, END_STREAM, &b"the whole"[..])
    );
    world.until("it to be through", async || in_flight().await == 0).await;
}

#[tokio::test]
async fn an_upload_that_outlives_its_answer_ends_when_its_backend_takes_none_of_it_in_time() {
    let (world, listener) = over_raw(&[("PROXY_RESPONSE_TIMEOUT", "500ms")]).await;
    let flags = (1024, END_STREAM, END_STREAM);
    let (_client, mut peer, stream) = answered_upload(&world, &listener, flags).await;
    assert_eq!(peer.until(frames::RST_STREAM).await.unwrap().stream, stream);
}
