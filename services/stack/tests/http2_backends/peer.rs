//! The backend's end of a connection, frame by frame.

use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::{
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
    },
    over,
};

// RFC 9113 §6.5.2.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// A proxy over a backend of raw frames.
pub(crate) async fn over_raw(variables: &[(&str, &str)]) -> (World, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let all = [&[("PROXY_PROBE", "off")], variables].concat();
    let world = over(&[listener.local_addr().unwrap()], &all).await;
    (world, listener)
}

/// The backend's end of the proxy's connection.
pub(crate) async fn accepted(listener: &TcpListener, settings: &[u8]) -> RawClient {
    let mut stream = listener.accept().await.unwrap().0;
    stream.set_nodelay(true).unwrap();
    stream.read_exact(&mut [0; frames::PREFACE.len()]).await.unwrap();
    let mut peer = RawClient(stream);
    peer.send(frames::SETTINGS, 0, 0, settings).await;
    peer
}

/// The same, which has no room for bodies until it makes some.
pub(crate) async fn without_room(listener: &TcpListener) -> RawClient {
    accepted(listener, &[&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &[0; 4]].concat()).await
}

/// A client that has begun to upload, and its backend, which answers nevertheless: with the head alone,
/// or with all of it. It is told the stream to the backend too.
pub(crate) async fn answered_upload(
    world: &World,
    listener: &TcpListener,
    (window, body_flags, answer_flags): (u32, u8, u8),
) -> (RawClient, RawClient, u32) {
    let settings = [(INITIAL_WINDOW_SIZE, window)];
    let mut client = RawClient::connect(world.proxy.address, &settings).await;
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    client.send(frames::HEADERS, END_HEADERS, 1, &frames::block(&head)).await;
    client.send(frames::DATA, body_flags, 1, b"the whole").await;
    let mut peer = without_room(listener).await;
    let stream = peer.until(frames::HEADERS).await.unwrap().stream;
    // The 200 of the static table (RFC 7541, Appendix A).
    peer.send(frames::HEADERS, END_HEADERS | answer_flags, stream, &[0x88]).await;
    let answer = client.until(frames::HEADERS).await.unwrap();
    assert_eq!(answer.flags & END_STREAM, answer_flags);
    (client, peer, stream)
}

/// So many frames with as many bytes each.
pub(crate) fn small_frames(stream: u32, count: usize, bytes: usize) -> Vec<u8> {
    frames::frame(frames::DATA, 0, stream, &vec![b'x'; bytes]).repeat(count)
}

/// Waits until the other side has read all that was sent.
pub(crate) async fn all_read(peer: &mut RawClient) {
    peer.send(frames::PING, 0, 0, b"all read").await;
    while peer.until(frames::PING).await.expect("it closed").flags & frames::ACK == 0 {}
}

/// What comes of bodies until so many have ended.
pub(crate) async fn bodies(peer: &mut RawClient, mut count: usize) -> usize {
    let mut bytes = 0;
    while count > 0 {
        let body = peer.until(frames::DATA).await.expect("it closed");
        bytes += body.payload.len();
        count -= usize::from(body.flags & END_STREAM != 0);
    }
    bytes
}
