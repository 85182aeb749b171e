//! Bodies that come in small frames, or in empty ones, and what waits for them and what does not.

use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::{
    CANCEL,
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
    },
    peer::{
        INITIAL_WINDOW_SIZE, accepted, all_read, answered_upload, bodies, over_raw, small_frames,
        without_room,
    },
};

#[tokio::test]
async fn responses_in_small_frames_wait_for_clients_without_room_however_many_frames() {
    const FRAMES: usize = 40_000;
    const STREAMS: [u32; 4] = [1, 3, 5, 7];
    let (world, listener) = over_raw(&[]).await;
    let settings = [(INITIAL_WINDOW_SIZE, 0)];
    let mut client = RawClient::connect(world.proxy.address, &settings).await;
    for stream in STREAMS {
        let head = frames::get("/", &[]);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &head).await;
    }
    let mut peer = without_room(&listener).await;
    for _ in STREAMS {
        let stream = peer.until(frames::HEADERS).await.unwrap().stream;
        peer.send(frames::HEADERS, END_HEADERS, stream, &[0x88]).await;
        peer.0.write_all(&small_frames(stream, FRAMES, 1)).await.unwrap();
        peer.send(frames::DATA, END_STREAM, stream, b"").await;
    }
    all_read(&mut peer).await;
    for stream in [0].into_iter().chain(STREAMS) {
        client.send(frames::WINDOW_UPDATE, 0, stream, &1_000_000_u32.to_be_bytes()).await;
    }
    assert_eq!(bodies(&mut client, STREAMS.len()).await, STREAMS.len() * FRAMES);
}

#[tokio::test]
async fn an_upload_in_small_frames_waits_for_a_backend_without_room_however_many_frames() {
    const FRAMES: usize = 12_000;
    const BYTES: usize = 20;
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = answered_upload(&world, &listener, (1024, 0, 0)).await;
    // Without which the window is the first one of all (RFC 9113 §6.9.2).
    client.send(frames::SETTINGS, frames::ACK, 0, &[]).await;
    client.0.write_all(&small_frames(1, FRAMES, BYTES)).await.unwrap();
    client.send(frames::DATA, END_STREAM, 1, b"").await;
    all_read(&mut client).await;
    for stream in [0, stream] {
        peer.send(frames::WINDOW_UPDATE, 0, stream, &1_000_000_u32.to_be_bytes()).await;
    }
    assert_eq!(bodies(&mut peer, 1).await, b"the whole".len() + FRAMES * BYTES);
}

/// Answers with the head alone, which the client takes and then leaves. The stream to the backend.
async fn left_within_the_answer(client: &mut RawClient, peer: &mut RawClient, stream: u32) -> u32 {
    let head = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &head).await;
    let at_backend = peer.until(frames::HEADERS).await.expect("it closed").stream;
    peer.send(frames::HEADERS, END_HEADERS, at_backend, &[0x88]).await;
    client.until(frames::HEADERS).await.expect("it closed");
    client.send(frames::RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).await;
    assert_eq!(peer.until(frames::RST_STREAM).await.unwrap().stream, at_backend);
    at_backend
}

/// More streams than the proxy remembers to have reset, so that what comes of others looks wrong to it.
#[tokio::test]
async fn a_connection_outlives_whatever_comes_late_for_clients_that_left() {
    const STREAMS: u32 = 1500;
    let (world, listener) = over_raw(&[("PROXY_HTTP2_RESETS_MAX", "100000")]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let head = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
    let mut peer = without_room(&listener).await;
    let waits = peer.until(frames::HEADERS).await.unwrap().stream;
    client.0.set_nodelay(true).unwrap();
    let mut left = Vec::new();
    for stream in (1..=STREAMS).map(|number| 2 * number + 1) {
        left.push(left_within_the_answer(&mut client, &mut peer, stream).await);
    }
    for _ in 0..5 {
        let late = left.iter().flat_map(|stream| small_frames(*stream, 1, 1));
        peer.0.write_all(&late.collect::<Vec<_>>()).await.unwrap();
        all_read(&mut peer).await;
    }
    peer.send(frames::HEADERS, END_HEADERS | END_STREAM, waits, &[0x89]).await;
    let answer = client.until(frames::HEADERS).await.expect("it closed");
    assert_eq!((answer.stream, answer.payload[0]), (1, 0x89));
}

/// A client that waits for an answer and uploads beside it, and its backend with the stream of that.
async fn uploading_beside_another(
    world: &World,
    listener: &TcpListener,
) -> (RawClient, RawClient, u32) {
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    client.0.set_nodelay(true).unwrap();
    let head = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
    let mut peer = accepted(listener, &[]).await;
    peer.until(frames::HEADERS).await.unwrap();
    client.send(frames::HEADERS, END_HEADERS, 3, &head).await;
    let stream = peer.until(frames::HEADERS).await.unwrap().stream;
    (client, peer, stream)
}

/// The frames and bytes that come until a body has ended.
async fn frames_of_body(peer: &mut RawClient) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    loop {
        let body = peer.until(frames::DATA).await.expect("it closed");
        (count, bytes) = (count + 1, bytes + body.payload.len());
        if body.flags & END_STREAM != 0 {
            return (count, bytes);
        }
    }
}

#[tokio::test]
async fn small_parts_of_an_upload_that_come_at_once_go_on_at_once() {
    const PARTS: usize = 3000;
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, _) = uploading_beside_another(&world, &listener).await;
    client.0.write_all(&small_frames(3, PARTS, 1)).await.unwrap();
    client.send(frames::DATA, END_STREAM, 3, b"").await;
    let (count, bytes) = frames_of_body(&mut peer).await;
    assert_eq!(bytes, PARTS);
    assert!(count < 100, "{count} frames");
}

/// What is whole never waits, so that what waits comes after it.
#[tokio::test]
async fn small_parts_wait_for_nothing_however_many_were_not_answered() {
    const PARTS: usize = 300;
    const WHOLE: &[u8] = &[b'w'; 256];
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, one_way) = uploading_beside_another(&world, &listener).await;
    let mut streams = vec![(3, one_way)];
    for stream in [5, 7] {
        client.send(frames::HEADERS, END_HEADERS, stream, &frames::get("/", &[])).await;
        streams.push((stream, peer.until(frames::HEADERS).await.unwrap().stream));
    }
    let [_, (5, talk), (7, wholes)] = streams[..] else { unreachable!() };
    for stream in [0, wholes] {
        peer.send(frames::WINDOW_UPDATE, 0, stream, &1_000_000_u32.to_be_bytes()).await;
    }
    peer.send(frames::HEADERS, END_HEADERS, talk, &[0x88]).await;
    client.until(frames::HEADERS).await.unwrap();
    for (stream, to_backend) in &streams[..2] {
        for number in 0..PARTS {
            client.send(frames::DATA, 0, *stream, b"x").await;
            all_read(&mut client).await;
            client.send(frames::DATA, 0, 7, WHOLE).await;
            for (stream, payload) in [(*to_backend, &b"x"[..]), (wholes, WHOLE)] {
                let part = peer.until(frames::DATA).await.expect("it closed");
                assert_eq!((part.stream, &part.payload[..]), (stream, payload), "{number}");
            }
        }
    }
}

/// hyper ends a connection over 2,000.
#[tokio::test]
async fn new_requests_go_elsewhere_while_many_small_parts_are_not_answered() {
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = uploading_beside_another(&world, &listener).await;
    for _ in 0..150 {
        client.send(frames::DATA, 0, 3, b"x").await;
        assert_eq!(peer.until(frames::DATA).await.unwrap().payload, b"x");
    }
    let head = frames::get("/", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 5, &head).await;
    accepted(&listener, &[]).await.until(frames::HEADERS).await.unwrap();
    peer.send(frames::HEADERS, END_HEADERS, stream, &[0x88]).await;
    client.until(frames::HEADERS).await.unwrap();
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 7, &head).await;
    assert!(peer.until(frames::HEADERS).await.unwrap().stream > stream, "it has read them");
}

#[tokio::test]
async fn small_parts_of_a_conversation_wait_for_nothing() {
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = uploading_beside_another(&world, &listener).await;
    peer.send(frames::HEADERS, END_HEADERS, stream, &[0x88]).await;
    for _ in 0..500 {
        client.send(frames::DATA, 0, 3, b"x").await;
        assert_eq!(peer.until(frames::DATA).await.unwrap().payload, b"x");
        peer.send(frames::DATA, 0, stream, b"y").await;
        assert_eq!(client.until(frames::DATA).await.unwrap().payload, b"y");
    }
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 5, &frames::get("/", &[])).await;
    assert!(peer.until(frames::HEADERS).await.unwrap().stream > stream, "it goes the same way");
}

/// The library ends a connection that has brought more than 100 of them.
#[tokio::test]
async fn empty_parts_end_no_connection_however_many() {
    const PARTS: usize = 150;
    let empty = |stream| frames::frame(frames::DATA, 0, stream, b"").repeat(PARTS);
    let (world, listener) = over_raw(&[]).await;
    let (mut client, mut peer, stream) = answered_upload(&world, &listener, (1024, 0, 0)).await;
    for stream in [0, stream] {
        peer.send(frames::WINDOW_UPDATE, 0, stream, &1024_u32.to_be_bytes()).await;
    }
    client.0.write_all(&empty(1)).await.unwrap();
    client.send(frames::DATA, END_STREAM, 1, b" of it").await;
    assert_eq!(bodies(&mut peer, 1).await, b"the whole of it".len());
    peer.0.write_all(&empty(stream)).await.unwrap();
    peer.send(frames::DATA, END_STREAM, stream, b"all").await;
    assert_eq!(bodies(&mut client, 1).await, b"all".len());
}

/// Libraries end a connection over 100 of them.
#[tokio::test]
async fn an_answer_that_ends_with_an_empty_part_has_none_before_its_end() {
    const BYTES: usize = 2000;
    let (world, listener) = over_raw(&[]).await;
    let settings = [(INITIAL_WINDOW_SIZE, 1024)];
    let mut client = RawClient::connect(world.proxy.address, &settings).await;
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::get("/", &[])).await;
    let mut peer = accepted(&listener, &[]).await;
    let stream = peer.until(frames::HEADERS).await.unwrap().stream;
    peer.send(frames::HEADERS, END_HEADERS, stream, &[0x88]).await;
    peer.0.write_all(&small_frames(stream, 1, BYTES)).await.unwrap();
    let mut bytes = client.until(frames::DATA).await.unwrap().payload.len();
    peer.send(frames::DATA, END_STREAM, stream, b"").await;
    all_read(&mut peer).await;
    client.send(frames::WINDOW_UPDATE, 0, 1, &1024_u32.to_be_bytes()).await;
    loop {
        let part = client.until(frames::DATA).await.expect("it closed");
        bytes += part.payload.len();
        if part.flags & END_STREAM != 0 {
            break;
        }
        assert!(!part.payload.is_empty(), "after {bytes} bytes");
    }
    assert_eq!(bytes, BYTES);
}
