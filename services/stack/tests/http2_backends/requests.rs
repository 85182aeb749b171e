//! Requests and calls that pass, and what the backend says of them.

use std::{collections::BTreeSet, net::SocketAddr};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::net::TcpListener;

use crate::{
    common::{
        http2::connect,
        raw::{exchange, status},
    },
    echo::{Backend, call},
    over,
};

/// RFC 9113 §8.3.1.
#[tokio::test]
async fn an_absolute_target_without_a_path_gets_one() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[]).await;
    for (target, expected) in [("http://shop.example", "/"), ("http://shop.example?x", "/?x")] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&exchange(world.proxy.address, &request).await), 200, "{target}");
        let head = backend.heads.lock().unwrap().pop().unwrap();
        assert_eq!(head.uri.path_and_query().unwrap().as_str(), expected, "{target}");
    }
}

#[tokio::test]
async fn a_grpc_call_passes_with_its_trailers_and_so_do_trailers_without_a_body() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[]).await;
    let mut client = connect(world.proxy.address).await;
    let response = client.send_request(call("/pkg.Service/Method", b"hello")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "hello");
    let response = client.send_request(call("/refuse", b"hello")).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());

    let heads = backend.heads.lock().unwrap();
    let head = &heads[0];
    assert_eq!(head.uri, "http://api.example/pkg.Service/Method");
    assert_eq!(head.headers["te"], "trailers");
    assert!(!head.headers.contains_key("connection"));
    assert_eq!(head.headers["via"], "2.0 evenkeel");
    assert_eq!(head.headers["x-forwarded-for"], "127.0.0.1");
    for gone in ["host", "transfer-encoding", "connection"] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn clients_of_http_1_are_served_too_whatever_the_body() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[]).await;
    for body in ["", "hello"] {
        let answer = world.client.post(world.url("/")).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), body);
    }
}

/// RFC 9110 §7.8.
#[tokio::test]
async fn a_wish_for_another_protocol_is_passed_over_unless_nothing_else_will_do() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_PROBE", "off")]).await;
    for (protocol, expected) in [("TLS/1.0", 200), ("TLS/1.0, x", 200), ("WebSocket", 501)] {
        let upgrade = world.client.get(world.url("/")).header("connection", "upgrade");
        let answer = upgrade.header("upgrade", protocol).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{protocol}");
    }
    assert_eq!(backend.heads.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_http_probe_speaks_the_backends_protocol() {
    let backend = Backend::start(100).await;
    let world = backend.world(&[("PROXY_PROBE", "http"), ("PROXY_PROBE_PATH", "/ready")]).await;
    assert_eq!(world.get("/").await.0, 200);
    let heads = backend.heads.lock().unwrap();
    let paths: BTreeSet<_> = heads.iter().map(|head| head.uri.path().to_owned()).collect();
    assert!(paths.contains("/ready"), "{paths:?}");
}

/// A backend that says this twice before each answer.
async fn hinting(hint: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    for link in ["</a.css>", "</b.css>"] {
                        let hint = Response::builder().status(hint).header("link", link);
                        respond.send_informational(hint.body(()).unwrap()).unwrap();
                    }
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from_static(b"the answer"), true).unwrap();
                }
            });
        }
    });
    address
}

/// RFC 9110 §15.2, RFC 9113 §8.6.
#[tokio::test]
async fn what_a_backend_says_before_its_answer_arrives_before_it() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let world = over(&[hinting(103).await], &[]).await;
    let answer = exchange(world.proxy.address, request).await;
    let heads: Vec<&str> = answer.split("\r\n\r\n").collect();
    for (head, link) in heads.iter().zip(["</a.css>", "</b.css>"]) {
        assert!(
            head.starts_with("HTTP/1.1 103 Early Hints\r\n") && head.contains(link),
            "{answer}"
        );
    }
    assert!(heads[2].starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("the answer"), "{answer}");
    let going_on = over(&[hinting(100).await], &[]).await;
    let answer = exchange(going_on.proxy.address, request).await;
    assert_eq!(answer.matches("HTTP/1.1 100 Continue\r\n").count(), 2, "{answer}");
    let switching = over(&[hinting(101).await], &[]).await;
    let answer = exchange(switching.proxy.address, request).await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains("http_protocol_error"), "{answer}");
}
