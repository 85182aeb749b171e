//! Bodies both ways, and the fields after them.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
        http2::connect,
    },
    request, whole,
};

#[tokio::test]
async fn bodies_and_statuses_without_one_pass_whole() {
    let world = World::start(1, &[]).await;
    let mut client = connect(world.proxy.address).await;
    let body: &[u8] = vec![7; 3_000_000].leak();
    let response = client.send_request(request("POST", "/echo", body)).await.unwrap();
    assert_eq!(whole(response).await.2, body);
    let response = client.send_request(request("HEAD", "/bytes/1000", b"")).await.unwrap();
    let (status, headers, body, _) = whole(response).await;
    assert_eq!(
        (status, &headers["content-length"], body.len()),
        (200, &"1000".parse().unwrap(), 0)
    );
    for code in [204, 304] {
        let path = format!("/status/{code}");
        let response = client.send_request(request("GET", &path, b"")).await.unwrap();
        let (status, headers, body, _) = whole(response).await;
        assert_eq!((status, headers.get("content-length"), body.len()), (code, None, 0));
    }
}

/// RFC 9110 §6.5.
#[tokio::test]
async fn trailers_pass_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backends = format!("http://{}", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut heard, mut buffer) = (String::new(), [0; 4096]);
        while !heard.contains("\r\n0\r\n") || !heard.ends_with("\r\n\r\n") {
            let count = stream.read(&mut buffer).await.unwrap();
            heard.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                       2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        heard
    });
    let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(1).await;
    let trailers = HeaderMap::from_iter([("x-mine".parse().unwrap(), "2".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed();
    let request = Request::post("http://a/").header("trailer", "x-mine").body(body).unwrap();
    let response = connect(world.proxy.address).await.send_request(request).await.unwrap();
    let (_, _, body, trailers) = whole(response).await;
    assert_eq!((&body[..], &trailers.unwrap()["x-sum"]), (&b"ok"[..], &"1".parse().unwrap()));
    let heard = heard.await.unwrap();
    assert!(heard.contains("\r\nhello\r\n0\r\nx-mine: 2\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_never_passes_as_whole() {
    for (length, body) in [("5", "abc"), ("2", "abc")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backends = format!("http://{}", listener.local_addr().unwrap());
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            String::from_utf8(heard).unwrap()
        });
        let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
        world.until_eligible(1).await;
        let mut client = RawClient::connect(world.proxy.address, &[]).await;
        let block = frames::get("/", &[("content-length", length)]);
        client.send(frames::HEADERS, END_HEADERS, 1, &block).await;
        // Once the backend has the head.
        let id = backends.trim_start_matches("http://");
        let in_flight = async || world.backend(id).await["in_flight"] == 1;
        world.until("the request to be in flight", in_flight).await;
        client.send(frames::DATA, END_STREAM, 1, body.as_bytes()).await;
        assert_eq!(client.until(frames::RST_STREAM).await.unwrap().stream, 1);
        let heard = heard.await.unwrap();
        let (_, sent) = heard.split_once("\r\n\r\n").unwrap();
        assert!(sent.len() < length.parse().unwrap(), "{heard}");
    }
}
