//! Heads as they arrive on the other side, and those that do not.

use tokio::io::AsyncWriteExt;

use crate::{
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
        http2::connect,
        raw::{OK, RawBackend, over},
    },
    request, whole,
};

/// RFC 9113 §8.3.1 (:authority), §8.2.3 (cookies); RFC 9110 §7.6.3 (Via).
#[tokio::test]
async fn the_head_that_arrives_at_a_backend_of_http_1_says_the_same() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let mut request = request("GET", "/a%20b?c=d", b"");
    let headers = request.headers_mut();
    headers.append("cookie", "a=1".parse().unwrap());
    headers.append("cookie", "b=2".parse().unwrap());
    headers.append("te", "trailers".parse().unwrap());
    headers.append("x-forwarded-for", "6.6.6.6".parse().unwrap());
    headers.append("expect", "100-continue".parse().unwrap());
    let response = connect(world.proxy.address).await.send_request(request).await.unwrap();
    let (status, headers, body, _) = whole(response).await;
    assert_eq!((status, &body[..]), (200, &b"ok"[..]));
    assert!(headers.contains_key("x-request-id") && !headers.contains_key("connection"));
    let head = backend.last_head().await;
    for line in [
        "GET /a%20b?c=d HTTP/1.1\r\n",
        "host: shop.example\r\n",
        "cookie: a=1; b=2\r\n",
        "te: trailers\r\n",
        "connection: te\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: shop.example\r\n",
        "via: 2.0 evenkeel\r\n",
        "x-request-id: ",
    ] {
        assert!(head.contains(line), "{line:?} is missing in:\n{head}");
    }
    assert!(!head.contains("expect") && !head.contains("6.6.6.6"), "{head}");
}

#[tokio::test]
async fn a_target_of_an_asterisk_is_forwarded_as_such() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let fields = [(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a"), (":path", "*")];
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::block(&fields)).await;
    client.until(frames::DATA).await.unwrap();
    let head = backend.last_head().await;
    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n") && head.contains("host: a\r\n"), "{head}");
}

/// RFC 9110 §8.6: a client of HTTP/2 takes such an answer for malformed.
#[tokio::test]
async fn an_answer_without_a_body_tells_no_length_but_of_what_it_stands_for() {
    for (answer, method, expected) in [
        (
            &b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"[..],
            "GET",
            None,
        ),
        (
            b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\nconnection: close\r\n\r\n",
            "HEAD",
            None,
        ),
        (
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\nconnection: close\r\n\r\n",
            "GET",
            Some("5"),
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n", "HEAD", Some("5")),
    ] {
        let backend = RawBackend::start(answer).await;
        let world = over(&backend, &[]).await;
        let mut client = connect(world.proxy.address).await;
        let response = client.send_request(request(method, "/", b"")).await.unwrap();
        let length = response.headers().get("content-length").cloned();
        assert_eq!(length.as_ref().map(|length| length.to_str().unwrap()), expected, "{method}");
        assert_eq!(whole(response).await.2, "");
    }
}

/// RFC 9113 §8.2.2: an answer that named one would be malformed.
#[tokio::test]
async fn an_answer_that_asks_for_another_protocol_names_none_to_who_cannot_change_to_it() {
    let backend = RawBackend::start(
        b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\n\
          connection: upgrade, close\r\ncontent-length: 2\r\n\r\nws",
    )
    .await;
    let world = over(&backend, &[]).await;
    let mut client = connect(world.proxy.address).await;
    let response = client.send_request(request("GET", "/", b"")).await.unwrap();
    let (status, headers, body, _) = whole(response).await;
    assert_eq!((status, &body[..], headers.get("upgrade")), (426, &b"ws"[..], None));
}

/// RFC 9110 §9.3.2.
#[tokio::test]
async fn an_error_of_our_own_has_no_text_for_who_wants_only_the_head() {
    let nobody = World::over("http://127.0.0.1:1", &[("PROXY_PROBE", "off")], vec![]);
    let mut client = connect(nobody.proxy.address).await;
    let mut length = |method| {
        let asked = client.send_request(request(method, "/", b""));
        async {
            let (status, headers, body, _) = whole(asked.await.unwrap()).await;
            assert!(status >= 500 && headers.contains_key("proxy-status"), "{status}");
            (headers["content-length"].clone(), body.len())
        }
    };
    let (told, bytes) = length("GET").await;
    assert_eq!(told, bytes.to_string());
    // The error itself may be another one by now.
    let (told, bytes) = length("HEAD").await;
    assert!(told != "0" && bytes == 0, "{told:?} {bytes}");
}

/// RFC 9113 §8.1.1, §8.2.1, §8.2.2, §8.3: what would smuggle once it is written as HTTP/1, in one frame or
/// in two.
#[tokio::test]
async fn malformed_requests_never_reach_a_backend() {
    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let with = |fields: &[(&'static str, &'static str)]| [&GET[..], fields].concat();
    let without = |name: &str| -> Vec<_> { GET.into_iter().filter(|(n, _)| *n != name).collect() };
    let replaced = |name: &'static str, value: &'static str| -> Vec<_> {
        GET.into_iter().map(|(n, v)| if n == name { (n, value) } else { (n, v) }).collect()
    };
    let cases = [
        with(&[("transfer-encoding", "chunked")]),
        with(&[("connection", "close")]),
        with(&[("proxy-connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("upgrade", "websocket")]),
        with(&[("te", "gzip")]),
        with(&[("Upper", "1")]),
        with(&[("a b", "1")]),
        with(&[("a:b", "1")]),
        with(&[("", "1")]),
        with(&[("x\"y", "1")]),
        with(&[("x", "1\r\nhost: b")]),
        with(&[("x", "1\n")]),
        with(&[("x", "\0")]),
        with(&[("x", " 1")]),
        with(&[("x", "1\t")]),
        with(&[("host", "b")]),
        with(&[("host", "a"), ("host", "a")]),
        with(&[("content-length", "5")]),
        with(&[("content-length", "0"), ("content-length", "0")]),
        with(&[("content-length", "+0")]),
        with(&[("content-length", "x")]),
        with(&[("content-length", "")]),
        with(&[(":path", "/")]),
        with(&[(":path", "/again")]),
        with(&[(":status", "200")]),
        with(&[(":made-up", "1")]),
        with(&[("x", "1"), (":authority", "b")]),
        with(&[(":protocol", "websocket")]),
        without(":method"),
        without(":scheme"),
        without(":path"),
        without(":authority"),
        vec![(":method", "GET"), (":scheme", "http"), ("host", "a")],
        vec![(":method", "OPTIONS"), (":scheme", "http"), ("host", "a")],
        replaced(":path", ""),
        replaced(":path", "*"),
        replaced(":path", "x"),
        replaced(":path", "?a"),
        replaced(":path", "/\u{e9}"),
        replaced(":path", "/?q=\u{e9}"),
        replaced(":path", "/ HTTP/1.1"),
        replaced(":path", "/\r\nx: y"),
        replaced(":authority", ""),
        replaced(":authority", "u@a"),
        replaced(":authority", "a/b"),
        replaced(":authority", "a b"),
        replaced(":method", "GET /x HTTP/1.1"),
        replaced(":method", ""),
        replaced(":method", "CONNECT"),
    ];
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    for fields in &cases {
        let block = frames::block(fields);
        let whole = frames::frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block);
        for head in [whole].into_iter().chain(frames::each_cut(END_STREAM, 1, &block)) {
            let mut client = RawClient::connect(world.proxy.address, &[]).await;
            client.0.write_all(&head).await.unwrap();
            client.until_refused(1).await;
        }
        assert_eq!(backend.heads.lock().await.len(), 0, "{fields:?}");
    }
    let invalid =
        "evenkeel_failures_total{pool=\"default\",backend=\"_none\",reason=\"bad_request\"}";
    assert!(world.metric(invalid).await > 0.0);
}

/// RFC 7541 §6.2.3, §7.1.3.
#[tokio::test]
async fn cookies_that_are_set_are_never_indexed() {
    let answer = b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: e=f\r\n\r\n\
                   HTTP/1.1 204 No Content\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX: y\r\n\r\n";
    let world = over(&RawBackend::start(answer).await, &[]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::get("/", &[])).await;
    for cookies in [1, 2] {
        let block = client.until(frames::HEADERS).await.unwrap().payload;
        // Literals that are never indexed, with the 55th name of the static table (Appendix A).
        let never_indexed = block.windows(2).filter(|bytes| *bytes == [0x1f, 55 - 15]).count();
        // The same bytes may stand for other things too.
        assert!(never_indexed >= cookies, "{block:x?}");
    }
}
