use std::net::TcpListener;

use balance::BackendId;
use chassis::net::closed_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::connect::tests::silent;

async fn run_probe(kind: &str, address: SocketAddr) -> ProbeResult {
    probe_with_wish(kind, address).await.0
}

fn client(settings: &Probing) -> reqwest::Client {
    http::client(&settings.probe, settings.protocol()).unwrap()
}

async fn probe_with_wish(kind: &str, address: SocketAddr) -> (ProbeResult, Option<String>) {
    probe_with(&[("PROXY_PROBE", kind)], address).await
}

async fn probe_with(
    variables: &[(&str, &str)],
    address: SocketAddr,
) -> (ProbeResult, Option<String>) {
    let variables = [variables, &[("PROXY_PROBE_TIMEOUT", "200ms")]].concat();
    let settings = Probing::new(&Settings::from_variables(&variables));
    let id = BackendId::new(&address.to_string());
    let order = ProbeOrder { id, generation: 1, sequence: 1, addresses: vec![address] };
    probe(&settings, &client(&settings), &order).await.unwrap()
}

#[test]
fn what_we_want_for_is_our_fault_and_no_failure_of_a_backend() {
    // Of the latter ones, 99 is that all ports of ours are in use.
    let own = [24, 23, 12, 99].map(|number| (number, true));
    for (number, is_own) in own.into_iter().chain([(111, false), (104, false)]) {
        let error = io::Error::from_raw_os_error(number);
        let failure = told(ConnectError::Io(error), Duration::from_secs(1));
        assert_eq!(matches!(failure, Failure::Own(_)), is_own, "{failure:?}");
    }
    let slow = told(ConnectError::Timeout, Duration::from_secs(1));
    assert_eq!(slow, Failure::Backend("no connection within 1s".to_owned()));
}

/// A server that answers each connection with `answer` and closes it.
async fn server(answer: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// All stands still between the question and the end of its time.
#[tokio::test(start_paused = true)]
async fn a_probe_that_ends_long_after_its_timeout_was_not_made() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for (stands_still, is_made) in [(0, true), (30, false)] {
        let settings = Probing::new(&Settings::from_variables(&[("PROXY_PROBE", "http")]));
        let id = BackendId::new("a");
        let order = ProbeOrder { id, generation: 1, sequence: 1, addresses: vec![address] };
        let probe = async { probe(&settings, &client(&settings), &order).await };
        let silence = async {
            let _stream = listener.accept().await.unwrap();
            tokio::time::advance(Duration::from_secs(stands_still)).await;
            std::future::pending::<()>().await;
        };
        let result = tokio::select! {
            result = probe => result,
            () = silence => unreachable!(),
        };
        assert_eq!(result.is_ok(), is_made, "{result:?}");
        assert!(result.is_err() || !result.unwrap().0.passed, "it had no answer");
    }
}

/// With TCP nobody takes the connection, with the others nobody says anything on it.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_not_answered_takes_its_timeout() {
    let (full, _filled) = silent();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = listener.local_addr().unwrap();
    for (kind, address, lacking) in
        [("tcp", full, "connection"), ("http", mute, "answer"), ("grpc", mute, "answer")]
    {
        for (text, timeout) in [("200ms", 200), ("1500ms", 1_500)] {
            let variables = [("PROXY_PROBE", kind), ("PROXY_PROBE_TIMEOUT", text)];
            let settings = Probing::new(&Settings::from_variables(&variables));
            let id = BackendId::new("a");
            let order = ProbeOrder { id, generation: 1, sequence: 1, addresses: vec![address] };
            let start = Instant::now();
            let (result, _) = probe(&settings, &client(&settings), &order).await.unwrap();
            let detail = format!("no {lacking} within {:?}", Duration::from_millis(timeout));
            assert_eq!((result.passed, result.detail), (false, detail), "{kind}");
            assert_eq!(result.answer, None);
            let (after, expected) = (start.elapsed(), Duration::from_millis(timeout));
            // Timers go by the millisecond.
            let late = expected + Duration::from_millis(4);
            assert!((expected..late).contains(&after), "{kind}: {after:?} of {expected:?}");
        }
    }
}

#[tokio::test]
async fn a_tcp_probe_passes_when_a_connection_opens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let result = run_probe("tcp", listener.local_addr().unwrap()).await;
    assert!(result.passed && result.detail.starts_with("connected, "), "{result:?}");
    let result = run_probe("tcp", closed_port()).await;
    assert_eq!((result.passed, result.detail.as_str()), (false, "connection refused"));
}

#[tokio::test]
async fn an_http_probe_passes_by_the_status() {
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true, "answered 200"),
        ("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", true, "answered 302"),
        ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", false, "answered 503"),
        ("garbage\r\n\r\n", false, "the answer was no HTTP response"),
    ];
    for (answer, passed, detail) in cases {
        let result = run_probe("http", server(answer).await).await;
        assert_eq!(result.passed, passed, "{answer}: {result:?}");
        assert!(result.detail.starts_with(detail), "{answer}: {result:?}");
    }
    assert_eq!(run_probe("http", closed_port()).await.detail, "connection refused");
}

#[tokio::test]
async fn an_http_probe_may_want_other_statuses_and_a_text_and_shows_what_it_got() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nstatus: warm";
    let bad = "HTTP/1.1 503 No\r\ncontent-length: 11\r\n\r\nno database";
    let cases = [
        (ok, "PROXY_PROBE_BODY", "warm", true, "answered 200 with \"warm\""),
        (ok, "PROXY_PROBE_BODY", "hot", false, "answered 200 without \"hot\": status: warm"),
        (ok, "PROXY_PROBE_STATUS", "204", false, "answered 200: status: warm"),
        (bad, "PROXY_PROBE_STATUS", "200,503", true, "answered 503"),
        (bad, "PROXY_PROBE_STATUS", "200-299", false, "answered 503: no database"),
    ];
    for (answer, name, value, passed, detail) in cases {
        let variables = [("PROXY_PROBE", "http"), (name, value)];
        let (result, _) = probe_with(&variables, server(answer).await).await;
        assert_eq!(result.passed, passed, "{name}={value}: {result:?}");
        assert!(result.detail.starts_with(detail), "{name}={value}: {result:?}");
    }
}

#[tokio::test]
async fn the_answer_to_an_http_probe_is_kept_whatever_came_of_it() {
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n\
        0123456789012345678901234567890123456789012345678901234567890123456789\
        012345678901234567890123456789";
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n", 200, "ok\\n".to_owned()),
        ("HTTP/1.1 503 No\r\ncontent-length: 11\r\n\r\nno database", 503, "no database".to_owned()),
        ("HTTP/1.1 204 No\r\n\r\n", 204, String::new()),
        (long, 200, "0123456789".repeat(7)[..64].to_owned()),
    ];
    for (answer, code, first_bytes) in cases {
        let result = run_probe("http", server(answer).await).await;
        assert_eq!(result.answer, Some(ProbeAnswer { code, first_bytes }), "{result:?}");
    }
    assert_eq!(run_probe("http", closed_port()).await.answer, None);
}

/// A gRPC server whose health service answers with this message, if it has one.
async fn grpc_server(message: Option<&'static [u8]>) -> SocketAddr {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |request: ::http::Request<hyper::body::Incoming>| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let response = ::http::Response::builder().header("content-type", "application/grpc");
        let response = match message {
            Some(_) => response,
            None => response.header("grpc-status", "12"),
        };
        let body = bytes::Bytes::from_static(message.unwrap_or_default());
        Ok::<_, std::convert::Infallible>(response.body(http_body_util::Full::new(body)).unwrap())
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(answer);
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let serve = server.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(serve.await) });
        }
    });
    address
}

#[tokio::test]
async fn a_grpc_probe_asks_the_health_service() {
    let cases: [(Option<&'static [u8]>, bool, &str); 4] = [
        (Some(&[0, 0, 0, 0, 2, 8, 1]), true, "answered SERVING"),
        (Some(&[0, 0, 0, 0, 2, 8, 2]), false, "answered NOT_SERVING"),
        (Some(&[9]), false, "the answer was no message"),
        (None, false, "answered with grpc-status 12"),
    ];
    for (message, passed, detail) in cases {
        let address = grpc_server(message).await;
        let variables = [("PROXY_PROBE", "grpc"), ("PROXY_PROBE_SERVICE", "shop")];
        let (result, _) = probe_with(&variables, address).await;
        assert_eq!(result.passed, passed, "{result:?}");
        assert!(result.detail.starts_with(detail), "{result:?}");
    }
    assert_eq!(run_probe("grpc", closed_port()).await.detail, "connection refused");
}

#[tokio::test]
async fn an_answer_to_a_probe_may_ask_to_spare_the_backend() {
    let answer = "HTTP/1.1 200 OK\r\nx-evenkeel-degraded: cold cache\r\ncontent-length: 0\r\n\r\n";
    let (result, degraded) = probe_with_wish("http", server(answer).await).await;
    assert!(result.passed);
    assert_eq!(degraded.as_deref(), Some("cold cache"));
}

#[tokio::test(start_paused = true)]
async fn an_http_probe_of_several_addresses_gives_the_one_that_works_its_time() {
    // As somebody always has something to do, no time passes but where it is told to.
    let busy = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            // Longer than an equal part of the time for each of five addresses.
            tokio::time::advance(Duration::from_millis(300)).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let variables = [("PROXY_PROBE", "http"), ("PROXY_PROBE_TIMEOUT", "1s")];
    let settings = Probing::new(&Settings::from_variables(&variables));
    let addresses = vec![address, closed_port(), closed_port(), closed_port(), closed_port()];
    let order = ProbeOrder { id: BackendId::new("many:80"), generation: 1, sequence: 1, addresses };
    let (result, _) = probe(&settings, &client(&settings), &order).await.unwrap();
    assert!(result.passed && result.detail.starts_with("answered 200"), "{result:?}");
    busy.abort();
}

#[tokio::test]
async fn a_body_that_does_not_come_neither_fails_a_probe_nor_makes_it_long() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await;
        std::future::pending::<()>().await;
    });
    let start = Instant::now();
    let result = run_probe("http", address).await;
    assert!(result.passed, "{result:?}");
    assert!(result.duration + http::BODY_SOON <= start.elapsed(), "{result:?}");
    assert_eq!(result.answer, Some(ProbeAnswer { code: 200, first_bytes: String::new() }));
}
