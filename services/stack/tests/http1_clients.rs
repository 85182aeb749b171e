//! Clients of HTTP/1, and what they do beside sending one request after the other.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use chassis::shutdown::Stop;
use common::{
    PATIENCE, World,
    raw::{RawBackend, exchange, read_head, status},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// RFC 9110 §15.2.
#[tokio::test]
async fn an_interim_response_is_passed_on_before_the_answer_is_there_unless_that_is_off() {
    for (is_on, expected) in
        [("true", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), ("false", "")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backends = format!("http://{}", listener.local_addr().unwrap());
        let (told, hints) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await.unwrap();
            hints.await.unwrap();
            stream.write_all(OK).await.unwrap();
        });
        let variables = [("PROXY_PROBE", "off"), ("PROXY_INTERIM_RESPONSES", is_on)];
        let world = World::over(&backends, &variables, vec![]);
        world.until_eligible(1).await;
        let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        if !expected.is_empty() {
            assert_eq!(read_head(&mut client).await, expected);
        }
        told.send(()).unwrap();
        assert_eq!(status(&read_head(&mut client).await), 200);
    }
}

/// RFC 9110 §15.2: all but what the proxy has asked for.
#[tokio::test]
async fn a_100_that_nobody_asked_for_is_passed_on_to_who_may_get_one() {
    let backend = RawBackend::start(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )
    .await;
    let backends = format!("http://{}", backend.address);
    let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(1).await;
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1),
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", 1),
        // Whoever asks is told once.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\
             Expect: 100-continue\r\n\r\nab",
            1,
        ),
        ("GET / HTTP/1.0\r\n\r\n", 0),
    ] {
        let answer = exchange(world.proxy.address, request).await;
        let told = answer.matches("HTTP/1.1 100 Continue\r\n\r\n").count();
        assert_eq!((told, answer.matches(" 200 OK\r\n").count()), (expected, 1), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_as_such_and_gives_its_ticket_back() {
    let world = World::start(1, &[]).await;
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.write_all(b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"].clone();
    world.until("the request to be in flight", async || in_flight().await == 1).await;
    drop(stream);
    world.until("the ticket to be given back", async || in_flight().await == 0).await;
    let backend = world.id(0);
    let gone = format!(
        "evenkeel_requests_total{{pool=\"default\",backend=\"{backend}\",method=\"GET\",code=\"499\"}}"
    );
    assert_eq!(world.metric(&gone).await, 1.0);
    assert_eq!(world.backend(&backend).await["traffic"]["failures_total"], 0);
}

/// What a client has sent by the time at which it leaves.
#[tokio::test]
async fn a_client_that_leaves_while_it_waits_in_line_is_gone_whatever_it_has_sent() {
    let world =
        World::start(1, &[("PROXY_MAX_IN_FLIGHT", "1"), ("PROXY_QUEUE_TIMEOUT", "60s")]).await;
    let address = world.proxy.address;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let id = world.id(0);
    world.until("it to be full", async || world.backend(&id).await["in_flight"] == 1).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    let whole = format!("{post}{}", "x".repeat(100_000));
    let pipelined = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
    for sent in [
        &format!("{post}abc"),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc",
        &whole,
        &pipelined,
    ] {
        for resets in [false, true] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(sent.as_bytes()).await.unwrap();
            let waiting = async || world.metric("evenkeel_queue_length{pool=\"default\"}").await;
            world.until("it to wait", async || waiting().await == 1.0).await;
            leave(client, resets);
            world.until("its place to be free", async || waiting().await == 0.0).await;
        }
    }
}

/// Closes a connection, or has it reset.
fn leave(client: TcpStream, resets: bool) {
    if resets {
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(client);
}

#[tokio::test]
async fn a_client_that_leaves_is_not_held_against_a_backend_that_takes_no_upload() {
    // It takes connections, and nobody reads from them.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = listener.local_addr().unwrap().to_string();
    let variables =
        [("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1"), ("PROXY_RESPONSE_TIMEOUT", "1h")];
    let world = World::over(&format!("http://{backend}"), &variables, vec![]);
    world.until_eligible(1).await;
    let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n";
    client.write_all(head).await.unwrap();
    let sent = AtomicUsize::new(0);
    let fill = async {
        while let Ok(count) = client.write(&[0; 65_536]).await {
            sent.fetch_add(count, Ordering::Relaxed);
        }
    };
    // Until nothing goes any more. A close would wait behind it; a reset does not.
    tokio::select! {
        () = fill => panic!("the connection ended"),
        _ = world.settled(async || sent.load(Ordering::Relaxed)) => {}
    }
    leave(client, true);
    let series = format!(
        "evenkeel_failures_total{{pool=\"default\",backend=\"{backend}\",reason=\"client_gone\"}}"
    );
    world.until("it to be gone", async || world.metric(&series).await == 1.0).await;
    assert_eq!(world.backend(&backend).await["in_flight"], 0);
}

/// RFC 9112 §9.6: closing at once would have a reset overtake the answer.
#[tokio::test]
async fn a_client_that_goes_on_sending_gets_the_answer_to_what_was_not_taken() {
    let world = World::start(1, &[]).await;
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nX\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nContent-Length: 1000000\r\n\r\n",
    ] {
        let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        client.readable().await.unwrap();
        for _ in 0..4 {
            client.write_all(&[b'x'; 50_000]).await.unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

/// A backend that answers as soon as it has a head, and keeps the connection.
async fn hasty_backend() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while !read_head(&mut stream).await.is_empty() {
                    let _ =
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
            });
        }
    });
    address
}

/// RFC 9110 §10.1.1: such a client may go on with the body or with another request.
#[tokio::test]
async fn a_connection_whose_body_was_not_asked_for_ends_with_the_answer() {
    let world = World::start(1, &[]).await;
    let head = "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nContent-Length: 5\r\n";
    let answer =
        exchange(world.proxy.address, &format!("{head}Expect: 100-continue\r\n\r\n")).await;
    assert_eq!(status(&answer), 204, "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// RFC 9110 §10.1.1.
#[tokio::test]
async fn what_expects_more_than_to_be_asked_for_its_body_is_answered_417() {
    let world = World::start(1, &[]).await;
    for (expect, expected) in [("x", 417), ("100-continue, x=\"1\"", 417), ("100-Continue", 200)] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: {expect}");
        let answer = exchange(world.proxy.address, &format!("{head}\r\n\r\n")).await;
        assert_eq!(status(&answer), expected, "{expect}: {answer}");
    }
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: x\r\n\r\n";
    let answer = exchange(world.proxy.address, head).await;
    assert!(answer.contains("connection: close"), "its body may come or not: {answer}");
}

/// A backend of HTTP/2 that answers the first stream at once and does not care what comes of it.
async fn careless_http2_backend() -> std::net::SocketAddr {
    const SETTINGS: [u8; 18] = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    // `:status: 200` on stream 1, which ends with it (RFC 9113 §6.2, RFC 7541 appendix A).
    const OK: [u8; 10] = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).await.unwrap();
                stream.write_all(&SETTINGS).await.unwrap();
                let mut head = [0; 9];
                while stream.read_exact(&mut head).await.is_ok() {
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
                    if head[3] == 1 {
                        stream.write_all(&OK).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

/// A client that has the whole answer to its upload, most of which is to come.
async fn answered_upload(world: &World) -> TcpStream {
    let mut upload = TcpStream::connect(world.proxy.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc";
    upload.write_all(head).await.unwrap();
    assert_eq!(status(&read_head(&mut upload).await), 200);
    upload
}

#[tokio::test]
async fn an_upload_that_stalls_after_its_answer_has_ended_is_given_up() {
    for (protocol, backend) in
        [("http1", hasty_backend().await), ("h2c", careless_http2_backend().await)]
    {
        let variables = [
            ("PROXY_PROBE", "off"),
            ("PROXY_BACKEND_PROTOCOL", protocol),
            ("PROXY_RESPONSE_TIMEOUT", "2s"),
        ];
        let world = World::over(&format!("http://{backend}"), &variables, vec![]);
        world.until_eligible(1).await;
        let mut upload = answered_upload(&world).await;
        let mut rest = Vec::new();
        let read = upload.read_to_end(&mut rest);
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.expect("the connection stays open").unwrap();
    }
}

#[tokio::test]
async fn an_upload_that_outlives_its_response_keeps_nobody_else_waiting() {
    let backends = format!("http://{}", hasty_backend().await);
    let variables =
        [("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1"), ("PROXY_RESPONSE_TIMEOUT", "1h")];
    let world = World::over(&backends, &variables, vec![]);
    world.until_eligible(1).await;
    let upload = answered_upload(&world).await;
    for _ in 0..3 {
        let answer = world.client.get(world.url("/")).send().await;
        assert_eq!(answer.unwrap().status(), 200);
    }
    let id = backends.trim_start_matches("http://");
    assert_eq!(world.backend(id).await["in_flight"], 1, "the upload is still on its way");
    drop(upload);
    world
        .until("the ticket to be given back", async || world.backend(id).await["in_flight"] == 0)
        .await;
}

#[tokio::test]
async fn an_upload_that_outlives_its_response_is_a_request_under_way_until_it_ends() {
    for (protocol, backend) in
        [("http1", hasty_backend().await), ("h2c", careless_http2_backend().await)]
    {
        let variables = [
            ("PROXY_PROBE", "off"),
            ("PROXY_BACKEND_PROTOCOL", protocol),
            ("PROXY_REQUESTS_MAX", "1"),
            ("PROXY_RESPONSE_TIMEOUT", "1h"),
            ("PROXY_WORKERS", "1"),
        ];
        let world = World::over(&format!("http://{backend}"), &variables, vec![]);
        world.until_eligible(1).await;
        let upload = answered_upload(&world).await;
        let another = world.client.get(world.url("/")).send().await;
        assert_eq!(another.unwrap().status(), 503, "{protocol}");
        let active = "evenkeel_connections{side=\"client\",state=\"active\"";
        assert_eq!(world.metric(active).await, 1.0);
        drop(upload);
        world.until("it to be over", async || world.metric(active).await == 0.0).await;
    }
}

/// A backend that answers at a request's head, and cuts its answer if the request is cut.
async fn strict_backend() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_head(&mut stream).await;
                let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
                stream.write_all(begun).await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_client_that_breaks_its_upload_off_while_it_is_answered_is_to_blame_itself() {
    for (end, code) in [("", 499), ("zz\r\n", 200)] {
        let id = strict_backend().await.to_string();
        let variables = [("PROXY_PROBE", "off")];
        let world = World::over(&format!("http://{id}"), &variables, vec![]);
        world.until_eligible(1).await;
        let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
        client.write_all(head).await.unwrap();
        assert_eq!(status(&read_head(&mut client).await), 200);
        client.write_all(end.as_bytes()).await.unwrap();
        if end.is_empty() {
            drop(client);
        } else {
            let _ = client.read_to_end(&mut Vec::new()).await;
        }
        let requests = format!(
            "evenkeel_requests_total{{pool=\"default\",backend=\"{id}\",method=\"POST\",code=\"{code}\"}}"
        );
        world.until("it to be over", async || world.metric(&requests).await == 1.0).await;
        let failures = format!(
            "evenkeel_failures_total{{pool=\"default\",backend=\"{id}\",reason=\"reset_mid_body\"}}"
        );
        assert_eq!(world.metric(&failures).await, 0.0, "{end:?}");
    }
}

/// A backend whose answer goes on for as long as it is taken, or `pauses` after its first part.
async fn endless_backend(pauses: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {
            if pauses {
                std::future::pending::<()>().await;
            }
        }
    });
    address
}

/// RFC 9112 §6.3: without a length, a client of HTTP/1.0 takes the end of the connection for that of the
/// answer.
#[tokio::test]
async fn an_answer_of_http_1_0_that_is_cut_by_a_limit_or_a_stop_does_not_look_whole() {
    // It has read the head before.
    let limit = ("PROXY_WRITE_TIMEOUT", "2s");
    let stop = ("PROXY_STOP_MAX", "300ms");
    for (variable, is_stop) in [(limit, false), (stop, true)] {
        let backends = format!("http://{}", endless_backend(is_stop).await);
        let world = World::over(&backends, &[("PROXY_PROBE", "off"), variable], vec![]);
        world.until_eligible(1).await;
        let mut client = TcpStream::connect(world.proxy.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let head = read_head(&mut client).await;
        assert!(status(&head) == 200 && !head.contains("content-length"), "{head}");
        if is_stop {
            client.read_exact(&mut [0; 0x10000]).await.unwrap();
            world.proxy.ask_to_stop(Stop::Graceful);
        } else {
            let timeouts = "evenkeel_client_timeouts_total{phase=\"write\"}";
            world.until("the cut", async || world.metric(timeouts).await == 1.0).await;
        }
        let end = client.read_to_end(&mut Vec::new()).await;
        assert!(end.is_err(), "{variable:?}: {end:?}");
    }
}

/// RFC 9110 §9.3.2.
#[tokio::test]
async fn a_head_that_is_refused_as_it_is_read_gets_no_body() {
    let world = World::start(1, &[]).await;
    for (method, has_text) in [("HEAD", false), ("\r\n\r\nHEAD", false), ("GET", true)] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n");
        let answer = exchange(world.proxy.address, &request).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("content-length: "),
            "{answer}"
        );
        assert_eq!(!answer.ends_with("\r\n\r\n"), has_text, "{answer}");
    }
}
