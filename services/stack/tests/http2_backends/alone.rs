//! Requests that may end their connection, by a long head or by fields after their body: they have it for
//! themselves, one after the other.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;

use crate::{
    PROTOCOL_ERROR,
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM},
        http2::{Body, connect},
    },
    echo::Backend,
    peer::{accepted, over_raw},
};

const WITHOUT_PROBES: [(&str, &str); 1] = [("PROXY_PROBE", "off")];

/// A request with more fields than one may have that shares its connection.
fn long(world: &World, path: &str) -> reqwest::RequestBuilder {
    world.client.get(world.url(path)).header("cookie", "x".repeat(9_000))
}

/// One with a field after its body.
fn announcing() -> Request<Body> {
    let fields = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(fields)].map(Ok);
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    Request::post("http://api.example/").header("trailer", "x-sum").body(body).unwrap()
}

#[tokio::test]
async fn a_request_without_a_body_shares_its_connection_whatever_it_announces() {
    let backend = Backend::start(100).await;
    let world = backend.world(&WITHOUT_PROBES).await;
    assert_eq!(world.get("/").await.0, 200);
    let url = world.url("/");
    for request in [world.client.get(&url), world.client.head(&url), world.client.post(&url)] {
        let answer = request.header("trailer", "x-sum").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let request = Request::get("http://api.example/").header("trailer", "x-sum");
    let request = request.body(Empty::new().boxed()).unwrap();
    let answer = connect(world.proxy.address).await.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let heads = backend.heads.lock().unwrap();
    assert_eq!(heads.iter().filter(|head| head.headers.contains_key("trailer")).count(), 4);
    assert_eq!(backend.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn requests_that_may_end_their_connection_have_the_same_one_after_the_other() {
    let backend = Backend::start(100).await;
    let world = backend.world(&WITHOUT_PROBES).await;
    let mut client = connect(world.proxy.address).await;
    for _ in 0..25 {
        assert_eq!(world.get("/").await.0, 200);
        assert_eq!(long(&world, "/").send().await.unwrap().status(), 200);
        let answer = client.send_request(announcing()).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    }
    assert_eq!(backend.connections.load(Ordering::Relaxed), 2, "with the one that is shared");
}

#[tokio::test]
async fn two_of_them_at_once_have_two_and_one_that_is_not_answered_leaves_its_own_to_nobody() {
    let backend = Backend::start(100).await;
    let world = backend.world(&WITHOUT_PROBES).await;
    let connections = || backend.connections.load(Ordering::Relaxed);
    let standing = tokio::spawn(long(&world, "/never").send());
    let has_begun = async || !backend.heads.lock().unwrap().is_empty();
    world.until("the first to begin", has_begun).await;
    for _ in 0..2 {
        assert_eq!(long(&world, "/").send().await.unwrap().status(), 200);
        assert_eq!(connections(), 2);
    }
    assert_eq!(world.get("/").await.0, 200);
    assert_eq!(connections(), 3, "it shares with neither");
    standing.abort();
    let id = backend.address.to_string();
    let has_ended = async || world.backend(&id).await["in_flight"] == 0;
    world.until("the first to be given up", has_ended).await;
    let both = [(); 2].map(|()| long(&world, "/slow").send());
    for answer in futures_util::future::join_all(both).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(connections(), 4);
}

/// As a backend made with Go does over fields that come after its answer, which it learns of later than
/// the client of the answer.
#[tokio::test]
async fn a_connection_that_ends_over_a_request_ends_nobody_elses() {
    let (world, listener) = over_raw(&[]).await;
    let id = listener.local_addr().unwrap().to_string();
    let answer_to = |head: &frames::Frame| {
        frames::frame(frames::HEADERS, END_HEADERS | END_STREAM, head.stream, &[0x88])
    };
    let other = tokio::spawn(world.client.get(world.url("/")).send());
    let mut shared = accepted(&listener, &[]).await;
    let others = shared.until(frames::HEADERS).await.unwrap();

    let mut client = connect(world.proxy.address).await;
    let first = tokio::spawn(client.send_request(announcing()));
    let mut peer = accepted(&listener, &[]).await;
    let head = peer.until(frames::HEADERS).await.unwrap();
    peer.until(frames::HEADERS).await.expect("the fields after its body");
    tokio::io::AsyncWriteExt::write_all(&mut peer.0, &answer_to(&head)).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);

    let mut next = tokio::spawn(client.send_request(announcing()));
    let has_begun = async || world.backend(&id).await["in_flight"] == 2;
    world.until("the next to begin", has_begun).await;
    let goodbye = [head.stream.to_be_bytes(), PROTOCOL_ERROR.to_be_bytes()].concat();
    peer.send(frames::GOAWAY, 0, 0, &goodbye).await;
    drop(peer);
    let mut peer = tokio::select! {
        peer = accepted(&listener, &[]) => peer,
        answer = &mut next => panic!("{:?}", answer.unwrap()),
    };
    for (peer, head) in [(&mut shared, Some(others)), (&mut peer, None)] {
        let head = match head {
            Some(head) => head,
            None => peer.until(frames::HEADERS).await.unwrap(),
        };
        tokio::io::AsyncWriteExt::write_all(&mut peer.0, &answer_to(&head)).await.unwrap();
    }
    assert_eq!(next.await.unwrap().unwrap().status(), 200);
    assert_eq!(other.await.unwrap().unwrap().status(), 200);
    assert_eq!(world.backend(&id).await["traffic"]["failures_total"], 0);
}
