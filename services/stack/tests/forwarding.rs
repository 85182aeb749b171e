//! What arrives at a backend and what comes back, byte by byte where it matters.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common::{
    World,
    raw::{OK, RawBackend, exchange, over, read_head, status},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn the_head_that_arrives_is_the_clients_with_the_proxys_fields() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let request = "GET /a%20b?c=d HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\n\
                   traceparent: 00-1-2-01\r\nX-Forwarded-For: 6.6.6.6\r\nTE: gzip\r\n\
                   Connection: close, X-Hop\r\nX-Hop: 1\r\n\r\n";
    let answer = exchange(world.proxy.address, request).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.ends_with("ok") && answer.contains("x-request-id: "), "{answer}");
    assert!(answer.contains("connection: close"), "the client asked for it: {answer}");
    let head = backend.last_head().await;
    for line in [
        "GET /a%20b?c=d HTTP/1.1\r\n",
        "host: shop.example\r\n",
        "accept: */*\r\n",
        "traceparent: 00-1-2-01\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: shop.example\r\n",
        "via: 1.1 evenkeel\r\n",
        "x-request-id: ",
    ] {
        assert!(head.contains(line), "{line:?} is missing in:\n{head}");
    }
    for gone in ["x-hop", "connection", "\r\nte:", "6.6.6.6"] {
        assert!(!head.contains(gone), "{gone:?} is in:\n{head}");
    }
}

#[tokio::test]
async fn what_a_backend_does_wrong_becomes_a_clear_status() {
    let cases: [(&'static [u8], u16, &str); 4] = [
        (b"garbage\r\n\r\n", 502, "protocol_error"),
        (b"", 502, "reset_before_headers"),
        (b"HTTP/1.1 200", 502, "reset_before_headers"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", 502, "protocol_error"),
    ];
    for (answer, expected, token) in cases {
        let backend = RawBackend::start(answer).await;
        let world = over(&backend, &[]).await;
        let request =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let answer = exchange(world.proxy.address, request).await;
        assert_eq!(status(&answer), expected, "{answer}");
        assert!(answer.contains(&format!("details=\"{token}\"")), "{answer}");
        assert_eq!(backend.heads.lock().await.len(), 1, "a POST must not be sent twice");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_visibly_cut() {
    let backend = RawBackend::start(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let world = over(&backend, &[]).await;
    let answer = exchange(world.proxy.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("content-length: 10") && answer.ends_with("half"), "{answer}");
    let series = format!(
        "evenkeel_failures_total{{pool=\"default\",backend=\"{}\",reason=\"reset_mid_body\"}}",
        backend.address
    );
    world.until("the failure to be counted", async || world.metric(&series).await == 1.0).await;
}

#[tokio::test]
async fn a_silent_backend_is_a_504_and_is_not_asked_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backends = format!("http://{}", listener.local_addr().unwrap());
    let variables = [("PROXY_PROBE", "off"), ("PROXY_RESPONSE_TIMEOUT", "200ms")];
    let world = World::over(&backends, &variables, vec![]);
    world.until_eligible(1).await;
    let answer = world.client.get(world.url("/")).send().await.unwrap();
    assert_eq!(answer.status(), 504);
    let proxy_status = answer.headers()["proxy-status"].to_str().unwrap();
    assert!(proxy_status.contains("response_timeout"), "{proxy_status}");
}

#[tokio::test]
async fn a_response_that_stalls_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backends = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        std::future::pending::<()>().await;
    });
    let variables = [("PROXY_PROBE", "off"), ("PROXY_READ_TIMEOUT", "200ms")];
    let world = World::over(&backends, &variables, vec![]);
    world.until_eligible(1).await;
    let answer = exchange(world.proxy.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.ends_with("half"), "{answer}");
}

#[tokio::test]
async fn a_refused_post_goes_to_another_backend_because_nothing_was_sent() {
    let backend = RawBackend::start(OK).await;
    let closed = common::closed_port();
    let backends = format!("http://{closed},http://{}", backend.address);
    let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(2).await;
    for _ in 0..4 {
        let answer = world.client.post(world.url("/")).body("body").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(backend.heads.lock().await.len(), 4);
}

#[tokio::test]
async fn an_idempotent_request_that_got_no_answer_goes_to_another_backend() {
    let (silent, good) = (RawBackend::start(b"").await, RawBackend::start(OK).await);
    let backends = format!("http://{},http://{}", silent.address, good.address);
    let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(2).await;
    for _ in 0..4 {
        assert_eq!(world.client.get(world.url("/")).send().await.unwrap().status(), 200);
    }
    assert_eq!(silent.heads.lock().await.len(), 2);
    let statuses = async || {
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let answer = world.client.post(world.url("/")).send().await.unwrap();
            statuses.push(answer.status().as_u16());
        }
        statuses.sort_unstable();
        statuses
    };
    assert_eq!(statuses().await, [200, 502], "a POST is not sent twice");
}

#[tokio::test]
async fn a_message_that_two_parties_could_read_differently_never_reaches_a_backend() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let cases = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ];
    for request in cases {
        let answer = exchange(world.proxy.address, request).await;
        assert_eq!(status(&answer), 400, "{request:?}: {answer}");
        let told = "proxy-status: evenkeel; error=http_request_error; details=\"bad_request\"\r\n";
        assert!(answer.contains(told), "{request:?}: {answer}");
    }
    let connect = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&exchange(world.proxy.address, connect).await), 501);
    assert_eq!(backend.heads.lock().await.len(), 0);
}

#[tokio::test]
async fn an_absolute_target_is_forwarded_in_origin_form() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let request = "GET http://b.example/x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&exchange(world.proxy.address, request).await), 200);
    let head = backend.last_head().await;
    assert!(
        head.starts_with("GET /x?y HTTP/1.1\r\n") && head.contains("host: b.example"),
        "{head}"
    );
}

/// RFC 9110 §7.6.2, §9.3.7; RFC 9112 §3.2.2, §3.2.4.
#[tokio::test]
async fn options_and_trace_end_where_they_are_told_to_and_reach_the_server_itself() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let cases = [
        ("OPTIONS /x", "Max-Forwards: 0\r\n", 204, None),
        ("TRACE /x", "Max-Forwards: 0\r\n", 501, None),
        ("OPTIONS /x", "Max-Forwards: x\r\n", 400, None),
        ("OPTIONS /x", "Max-Forwards: 2\r\n", 200, Some(("OPTIONS /x ", "max-forwards: 1\r\n"))),
        ("TRACE /x", "", 200, Some(("TRACE /x ", "via: "))),
        ("OPTIONS *", "", 200, Some(("OPTIONS * ", "host: a\r\n"))),
        ("OPTIONS http://b.example/", "", 200, Some(("OPTIONS / ", "host: b.example\r\n"))),
        ("GET http://b.example", "", 200, Some(("GET / ", "host: b.example\r\n"))),
    ];
    for (start, fields, expected, arrives) in cases {
        let request = format!("{start} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
        let answer = exchange(world.proxy.address, &request).await;
        assert_eq!(status(&answer), expected, "{start}: {answer}");
        let head = backend.heads.lock().await.pop();
        match (head, arrives) {
            (None, None) => {}
            (Some(head), Some((first, field))) => {
                assert!(head.starts_with(first) && head.contains(field), "{start}: {head}");
            }
            (head, _) => panic!("{start}: {head:?}"),
        }
        // What is said here says so, and by which name it is known.
        let is_own = arrives.is_none();
        assert_eq!(answer.contains("\r\nproxy-status: evenkeel"), is_own, "{start}: {answer}");
        assert!(answer.contains("\r\nx-request-id: "), "{start}: {answer}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_is_served() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let answer = exchange(world.proxy.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(status(&answer) == 200 && answer.ends_with("ok"), "{answer}");
    assert!(backend.last_head().await.contains("host: localhost\r\n"));
}

/// A backend of HTTP/1.0 that keeps connections and takes no chunks for a body; the heads that it gets, and
/// on how many connections.
async fn old_backend() -> (std::net::SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (seen, made) = (Arc::clone(&heads), Arc::clone(&connections));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            made.fetch_add(1, Ordering::Relaxed);
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                loop {
                    let head = read_head(&mut stream).await;
                    if head.is_empty() {
                        return;
                    }
                    if !head.contains(" HTTP/") {
                        // It waits for what makes sense of this.
                        continue;
                    }
                    seen.fetch_add(1, Ordering::Relaxed);
                    let answer =
                        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    (address, heads, connections)
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                       Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";

/// RFC 9112 §6.1.
#[tokio::test]
async fn a_body_of_unknown_length_goes_to_nobody_who_speaks_http_1_0() {
    let (old, heads, _) = old_backend().await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_POLICY", "first"), ("PROXY_WORKERS", "1")];
    let alone = World::over(&format!("http://{old}"), &variables, vec![]);
    alone.until_eligible(1).await;
    assert_eq!(alone.get("/").await.0, 200);
    let answer = exchange(alone.proxy.address, CHUNKED).await;
    assert_eq!(status(&answer), 411, "{answer}");
    assert!(answer.contains("details=\"length_required\""), "{answer}");
    assert_eq!(heads.load(Ordering::Relaxed), 1);
    let new = RawBackend::start(OK).await;
    let list = format!("http://{old},http://{}", new.address);
    let both = World::over(&list, &variables, vec![]);
    both.until_eligible(2).await;
    assert_eq!(both.get("/").await.0, 200);
    assert_eq!(status(&exchange(both.proxy.address, CHUNKED).await), 200);
    assert_eq!((heads.load(Ordering::Relaxed), new.heads.lock().await.len()), (2, 1));
}

/// RFC 9112 §6.1: what is left of the body on it may be taken for requests.
#[tokio::test]
async fn a_connection_is_not_kept_on_which_chunks_were_answered_in_http_1_0() {
    let (old, _, connections) = old_backend().await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1")];
    let world = World::over(&format!("http://{old}"), &variables, vec![]);
    world.until_eligible(1).await;
    assert_eq!(status(&exchange(world.proxy.address, CHUNKED).await), 200);
    for expected in [2, 2] {
        assert_eq!(world.get("/").await.0, 200);
        assert_eq!(connections.load(Ordering::Relaxed), expected);
    }
}

#[tokio::test]
async fn bodies_pass_both_ways_whole_whatever_their_framing() {
    let world = World::start(2, &[]).await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sized = world.client.post(world.url("/echo")).body(body.clone()).send().await.unwrap();
    assert_eq!(sized.bytes().await.unwrap(), body);
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                Connection: close\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("hello") && answer.contains('!'), "{answer}");
    let head = world.client.head(world.url("/bytes/1000")).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &"1000".parse().unwrap())
    );
}

#[tokio::test]
async fn a_get_with_a_chunked_body_keeps_its_framing() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                   Connection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(status(&exchange(world.proxy.address, request).await), 200);
    // Without it, the backend would take the body for the next request.
    assert!(backend.last_head().await.contains("transfer-encoding: chunked\r\n"));
}

/// A backend that takes connections and whatever comes on them, and says nothing.
async fn silent_backend(reads: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if reads {
                tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
            } else {
                held.push(stream);
            }
        }
    });
    address
}

#[tokio::test]
async fn an_upload_that_stalls_is_the_clients_fault_and_one_that_is_not_taken_the_backends() {
    // The one that goes on sending must have its turn within the time.
    for (reads, length, time, expected) in
        [(true, 10, "300ms", 408), (false, 100_000_000, "2s", 504)]
    {
        let backends = format!("http://{}", silent_backend(reads).await);
        let variables = [("PROXY_PROBE", "off"), ("PROXY_RESPONSE_TIMEOUT", time)];
        let world = World::over(&backends, &variables, vec![]);
        world.until_eligible(1).await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let stream = TcpStream::connect(world.proxy.address).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        tokio::spawn(async move {
            writer.write_all(head.as_bytes()).await.unwrap();
            // The one stalls at its first byte, the other sends for as long as anybody reads.
            while length > 10 && writer.write_all(&[0; 65_536]).await.is_ok() {}
            std::future::pending::<()>().await;
        });
        let mut answer = vec![0; 12];
        reader.read_exact(&mut answer).await.unwrap();
        assert_eq!(status(std::str::from_utf8(&answer).unwrap()), expected);
    }
}

#[tokio::test]
async fn a_body_that_is_not_valid_is_the_clients_fault() {
    let backends = format!("http://{}", silent_backend(true).await);
    let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(1).await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n";
    let answer = exchange(world.proxy.address, request).await;
    assert_eq!(status(&answer), 400, "{answer}");
}

#[tokio::test]
async fn a_kept_connection_that_broke_costs_no_request_even_with_one_backend() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backends = format!("http://{}", listener.local_addr().unwrap());
    // Answers the first request of each connection and closes it at the second.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                read_head(&mut stream).await;
            });
        }
    });
    let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(1).await;
    for _ in 0..6 {
        assert_eq!(world.client.get(world.url("/")).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_backend_that_closes_each_connection_costs_no_request() {
    let backend = RawBackend::start(OK).await;
    let world = over(&backend, &[]).await;
    for _ in 0..5 {
        assert_eq!(world.client.post(world.url("/")).send().await.unwrap().status(), 200);
    }
    assert_eq!(backend.heads.lock().await.len(), 5);
}

#[tokio::test]
async fn a_connection_to_a_backend_is_kept_for_its_idle_time_and_no_longer() {
    for (time, is_kept) in [("1h", true), ("50ms", false)] {
        let variables = [("PROXY_UPSTREAM_IDLE_TIMEOUT", time), ("PROXY_WORKERS", "1")];
        let world = World::start(1, &variables).await;
        let made = format!(
            "evenkeel_connect_duration_seconds_count{{pool=\"default\",backend=\"{}\"}}",
            world.id(0)
        );
        let idle = "evenkeel_connections{side=\"backend\",state=\"idle\"}";
        for _ in 0..3 {
            assert_eq!(world.get("/").await.0, 200);
            let is_closed = async || is_kept || world.metric(idle).await == 0.0;
            world.until("the idle connection to be closed", is_closed).await;
        }
        assert_eq!(world.metric(&made).await, if is_kept { 1.0 } else { 3.0 }, "{time}");
    }
}

#[tokio::test]
async fn a_dying_backend_among_healthy_ones_costs_no_idempotent_request() {
    // Takes each connection and closes it at the first request, as a process in trouble does.
    let dying = RawBackend::start(b"").await;
    let good = [RawBackend::start(OK).await, RawBackend::start(OK).await];
    let backends =
        format!("http://{},http://{},http://{}", dying.address, good[0].address, good[1].address);
    let world = World::over(&backends, &[("PROXY_PROBE", "off")], vec![]);
    world.until_eligible(3).await;
    for _ in 0..30 {
        assert_eq!(world.client.get(world.url("/")).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn an_upload_whose_backend_closed_gives_its_ticket_back_at_once() {
    let backend = RawBackend::start(
        b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )
    .await;
    let world = over(&backend, &[("PROXY_RESPONSE_TIMEOUT", "600s")]).await;
    let mut upload = TcpStream::connect(world.proxy.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc";
    upload.write_all(head).await.unwrap();
    assert_eq!(status(&read_head(&mut upload).await), 413);
    drop(upload);
    let id = backend.address.to_string();
    world
        .until("the ticket to be given back", async || world.backend(&id).await["in_flight"] == 0)
        .await;
}
