//! What is said before the answer, and what a client waits for before it sends its body.

use std::{future::poll_fn, net::SocketAddr, task::Context};

use bytes::Bytes;
use http::{Request, Response};
use tokio::net::TcpStream;

use crate::{
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
        http2::connect,
        raw::{RawBackend, over},
    },
    request,
};

/// Sends a request that may be told something before its answer; what that is, and the answer.
async fn interims(
    address: SocketAddr,
    request: Request<()>,
    body: Option<&'static [u8]>,
) -> (Vec<Response<()>>, Response<h2::RecvStream>) {
    let socket = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let (mut response, mut stream) = sender.send_request(request, body.is_none()).unwrap();
    let mut heads = Vec::new();
    let next = |response: &mut h2::client::ResponseFuture, context: &mut Context<'_>| {
        response.poll_informational(context)
    };
    while let Some(head) = poll_fn(|context| next(&mut response, context)).await {
        let head = head.unwrap();
        if let Some(body) = body.filter(|_| head.status() == 100) {
            stream.send_data(Bytes::from_static(body), true).unwrap();
        }
        heads.push(head);
    }
    (heads, response.await.unwrap())
}

fn expecting() -> Request<()> {
    let request = Request::post("http://shop.example/echo").header("expect", "100-continue");
    request.body(()).unwrap()
}

/// RFC 9110 §15.2.
#[tokio::test]
async fn what_a_backend_says_before_its_answer_arrives_before_it() {
    let backend = RawBackend::start(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nkeep-alive: 1\r\n\r\n\
          HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    )
    .await;
    let get = || Request::get("http://shop.example/").body(()).unwrap();
    let world = over(&backend, &[]).await;
    let (heads, response) = interims(world.proxy.address, get(), None).await;
    let links: Vec<_> = heads
        .iter()
        .map(|head| (head.status().as_u16(), head.headers()["link"].as_bytes()))
        .collect();
    assert_eq!(links, [(103, &b"</a.css>"[..]), (103, b"</b.css>")]);
    assert!(!heads[0].headers().contains_key("keep-alive"));
    assert_eq!((response.status().as_u16(), response.headers().get("link")), (200, None));
    let silent = over(&backend, &[("PROXY_INTERIM_RESPONSES", "false")]).await;
    let (heads, response) = interims(silent.proxy.address, get(), None).await;
    assert_eq!((heads.len(), response.status().as_u16()), (0, 200));
}

/// RFC 9110 §10.1.1.
#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked_once_a_backend_takes_it() {
    let world = World::start(1, &[]).await;
    let (heads, response) = interims(world.proxy.address, expecting(), Some(b"the body")).await;
    assert_eq!(heads.iter().map(|head| head.status().as_u16()).collect::<Vec<_>>(), [100]);
    assert_eq!(response.status(), 200);
    let nobody = World::over("http://127.0.0.1:1", &[("PROXY_PROBE", "off")], vec![]);
    let (heads, response) = interims(nobody.proxy.address, expecting(), Some(b"the body")).await;
    assert!(heads.is_empty() && response.status().is_server_error(), "{heads:?} {response:?}");
}

/// RFC 9110 §10.1.1.
#[tokio::test]
async fn a_body_needs_no_100_and_other_expectations_are_answered_417() {
    let world = World::start(1, &[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let target =
        [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/echo")];
    let block = frames::block(&[&target[..], &[("expect", "100-continue")]].concat());
    client.send(frames::HEADERS, END_HEADERS, 1, &block).await;
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"] == 1;
    world.until("the request to be in flight", in_flight).await;
    client.send(frames::DATA, END_STREAM, 1, b"hello").await;
    assert_eq!(client.until(frames::DATA).await.unwrap().payload, b"hello");
    let mut request = request("POST", "/", b"hello");
    request.headers_mut().insert("expect", "x".parse().unwrap());
    let answer = connect(world.proxy.address).await.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 417);
    let said = answer.headers()["proxy-status"].to_str().unwrap();
    assert!(said.contains("expectation_failed"), "{said}");
}
