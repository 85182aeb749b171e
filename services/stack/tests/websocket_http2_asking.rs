//! What a client of HTTP/2 asks for a WebSocket with (RFC 8441), and what is and is not one.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use common::{
    PATIENCE, World,
    bootstrap::{
        accepted, ask, connect, field, heard, opened, over, switching, until_none_is_left, wish,
    },
    closed_port,
    frames::{self, END_HEADERS, RawClient},
};
use h2::{Reason, client::Builder};
use http::{HeaderMap, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// RFC 8441 §5, RFC 6455 §4.1.
#[tokio::test]
async fn a_backend_of_http_1_is_asked_for_a_websocket_as_it_knows_it() {
    let (world, listener) = over(&[]).await;
    let client = connect(world.proxy.address, &Builder::new()).await;
    let theirs = [
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "chat, other"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("origin", "http://shop.example"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("x-forwarded-for", "6.6.6.6"),
        ("expect", "100-continue"),
    ];
    let mut keys = Vec::new();
    for _ in 0..2 {
        let answered = async {
            let (mut backend, head) = accepted(&listener).await;
            let fields = "Sec-WebSocket-Protocol: chat\r\nKeep-Alive: timeout=5\r\n\
                          Content-Length: 5\r\nX-Own: 1\r\n";
            let answer = switching(&head, fields) + "hello";
            backend.write_all(answer.as_bytes()).await.unwrap();
            (backend, head)
        };
        let asked = ask(&client, wish("websocket", &theirs));
        let ((status, headers, mut stream), (_backend, head)) = tokio::join!(asked, answered);
        assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
        for (name, value) in [
            ("host", "shop.example"),
            ("connection", "upgrade, te"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat, other"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("origin", "http://shop.example"),
            ("cookie", "a=1; b=2"),
            ("te", "trailers"),
            ("via", "2.0 evenkeel"),
            ("x-forwarded-for", "127.0.0.1"),
        ] {
            assert_eq!(field(&head, name), [value], "{name} in:\n{head}");
        }
        for name in ["expect", "content-length", "transfer-encoding", ":protocol"] {
            assert_eq!(field(&head, name), [""; 0], "{name} in:\n{head}");
        }
        keys.extend(field(&head, "sec-websocket-key").into_iter().map(str::to_owned));
        assert_eq!(status, 200);
        assert!(headers["sec-websocket-protocol"] == "chat" && headers["x-own"] == "1");
        let of_http1 =
            ["connection", "upgrade", "sec-websocket-accept", "keep-alive", "content-length"];
        for name in of_http1 {
            assert!(!headers.contains_key(name), "{name} in {headers:?}");
        }
        assert_eq!(&heard::<5>(&mut stream).await, b"hello");
    }
    // Sixteen random bytes.
    assert!(keys.iter().all(|key| key.len() == 24 && key.ends_with("==")), "{keys:?}");
    assert!(keys.len() == 2 && keys[0] != keys[1] && !keys.contains(&theirs[0].1.to_owned()));
}

/// What a backend answers to a head.
type Answer<'a> = &'a dyn Fn(&str) -> String;

/// What becomes of an answer that is no WebSocket.
async fn refused(answer: Answer<'_>) -> (u16, HeaderMap, String, World) {
    let (world, listener) = over(&[]).await;
    let client = connect(world.proxy.address, &Builder::new()).await;
    let answered = async {
        let (mut backend, head) = accepted(&listener).await;
        backend.write_all(answer(&head).as_bytes()).await.unwrap();
        backend
    };
    let asked = ask(&client, wish("websocket", &[]));
    let ((status, headers, mut stream), _backend) = tokio::join!(asked, answered);
    let text = stream.rest().await;
    until_none_is_left(&world, &listener).await;
    (status, headers, text, world)
}

#[tokio::test]
async fn a_refusal_passes_as_the_answer_that_it_is() {
    for (status, fields) in [
        ("403 Forbidden", "x-own: 1\r\n"),
        ("302 Found", "x-own: 1\r\nlocation: /login\r\n"),
        ("426 Upgrade Required", "x-own: 1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"),
        ("500 Internal Server Error", "x-own: 1\r\n"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{fields}content-length: 2\r\n\r\nno");
        let (code, headers, text, _) = refused(&|_| answer.clone()).await;
        assert!(status.starts_with(&code.to_string()), "{code}");
        assert!(headers["x-own"] == "1" && text == "no", "{headers:?} {text}");
        assert!(!headers.contains_key("upgrade") && !headers.contains_key("connection"));
    }
}

/// RFC 9110 §9.3.6: passed as it is, an answer without a WebSocket would be one.
#[tokio::test]
async fn nothing_else_is_taken_for_a_websocket() {
    let wrong = |head: &str| {
        let right = derive_accept_key(field(head, "sec-websocket-key")[0].as_bytes());
        switching(head, "").replace(&right, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    };
    let answers: [(&str, Answer<'_>); 4] = [
        ("not asked", &|_| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into()),
        ("wrong key", &wrong),
        ("no key", &|head| switching(head, "").replace("Sec-WebSocket-Accept", "X-Accept")),
        ("other protocol", &|head| switching(head, "").replace("websocket", "other")),
    ];
    for (what, answer) in answers {
        let (status, headers, text, world) = refused(answer).await;
        assert_eq!(status, 502, "{what}");
        assert!(headers["proxy-status"].to_str().unwrap().contains("protocol_error"), "{what}");
        assert!(text.contains("protocol_error"), "{what}: {text}");
        assert_eq!(world.metric("evenkeel_tunnels{").await, 0.0, "{what}");
    }
}

/// RFC 9220 §3 for what is not known.
#[tokio::test]
async fn what_cannot_be_asked_for_never_reaches_a_backend() {
    let (world, _listener) = over(&[]).await;
    let client = connect(world.proxy.address, &Builder::new()).await;
    for (protocol, fields, expected) in [
        ("connect-udp", &[][..], 501),
        ("h2c", &[], 501),
        ("websocket", &[("content-length", "5")][..], 400),
        ("websocket", &[("content-length", "0")], 400),
        ("websocket", &[("host", "other.example")], 400),
    ] {
        let (status, ..) = ask(&client, wish(protocol, fields)).await;
        assert_eq!(status, expected, "{protocol} {fields:?}");
    }
    let proper = Request::builder().method("CONNECT").uri("shop.example:443").body(()).unwrap();
    assert_eq!(ask(&client, proper).await.0, 501);

    let (over_h2c, _listener) = over(&[("PROXY_BACKEND_PROTOCOL", "h2c")]).await;
    let client = connect(over_h2c.proxy.address, &Builder::new()).await;
    assert_eq!(ask(&client, wish("websocket", &[])).await.0, 501);
}

/// RFC 8441 §4, RFC 9113 §8.1.1.
#[tokio::test]
async fn a_protocol_beside_another_method_or_without_a_target_is_malformed() {
    const PROTOCOL: (&str, &str) = (":protocol", "websocket");
    const SCHEME: (&str, &str) = (":scheme", "http");
    let (world, _listener) = over(&[]).await;
    for fields in [
        vec![(":method", "GET"), PROTOCOL, SCHEME, (":authority", "a"), (":path", "/")],
        vec![(":method", "CONNECT"), PROTOCOL, (":authority", "a")],
        vec![(":method", "CONNECT"), PROTOCOL, SCHEME, (":authority", "a")],
        vec![(":method", "CONNECT"), PROTOCOL, (":authority", "a"), (":path", "/")],
        vec![
            (":method", "CONNECT"),
            PROTOCOL,
            PROTOCOL,
            SCHEME,
            (":authority", "a"),
            (":path", "/"),
        ],
        vec![(":method", "CONNECT"), PROTOCOL, SCHEME, (":path", "/")],
        vec![(":method", "CONNECT"), PROTOCOL, SCHEME, (":authority", "a"), (":path", "*")],
        vec![(":method", "CONNECT"), PROTOCOL, ("upgrade", "x"), SCHEME, (":authority", "a")],
    ] {
        let mut client = RawClient::connect(world.proxy.address, &[]).await;
        client.send(frames::HEADERS, END_HEADERS, 1, &frames::block(&fields)).await;
        client.until_refused(1).await;
    }
}

#[tokio::test]
async fn a_wish_that_reached_nobody_goes_to_somebody_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backends = format!("http://{},http://{}", closed_port(), listener.local_addr().unwrap());
    let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(2).await;
    let client = connect(world.proxy.address, &Builder::new()).await;
    for _ in 0..3 {
        let (mut stream, mut backend) = opened(&client, &listener).await;
        stream.write_all(b"x").await.unwrap();
        assert_eq!(&heard::<1>(&mut backend).await, b"x");
    }
}

#[tokio::test]
async fn a_wish_whose_client_leaves_is_broken_off_at_its_backend() {
    let (world, listener) = over(&[]).await;
    let client = connect(world.proxy.address, &Builder::new()).await;
    let mut client = client.ready().await.unwrap();
    let (response, mut send) = client.send_request(wish("websocket", &[]), false).unwrap();
    let (mut backend, _) = accepted(&listener).await;
    send.send_reset(Reason::CANCEL);
    drop(response);
    assert!(matches!(timeout(PATIENCE, backend.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)));
    until_none_is_left(&world, &listener).await;
    let gone = format!(
        "evenkeel_failures_total{{pool=\"default\",backend=\"{}\",reason=\"client_gone\"}}",
        listener.local_addr().unwrap()
    );
    assert_eq!(world.metric(&gone).await, 1.0);
}
