//! What backends answer that is not valid, or that not everybody may see.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::common::{
    World,
    frames::{self, DATA, END_HEADERS, END_STREAM, HEADERS, RawClient, block, frame},
};

/// A backend of raw frames.
struct Backend {
    address: SocketAddr,
    /// How many requests it was sent.
    requests: Arc<AtomicUsize>,
}

impl Backend {
    /// One that sends what `answer` makes for the stream of each request.
    async fn start(answer: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, answer) = (Arc::<AtomicUsize>::default(), Arc::new(answer));
        let count = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (count, answer) = (Arc::clone(&count), Arc::clone(&answer));
                tokio::spawn(async move {
                    let _ = stream.read_exact(&mut [0; frames::PREFACE.len()]).await;
                    let mut peer = RawClient(stream);
                    peer.send(frames::SETTINGS, 0, 0, &[]).await;
                    while let Some(head) = peer.until(HEADERS).await {
                        count.fetch_add(1, Ordering::Relaxed);
                        if peer.0.write_all(&answer(head.stream)).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// How many requests it was sent since this was asked last.
    fn take_requests(&self) -> usize {
        self.requests.swap(0, Ordering::Relaxed)
    }

    async fn failures(&self, world: &World, reason: &str) -> f64 {
        let backend = self.address;
        let labels = format!("pool=\"default\",backend=\"{backend}\",reason=\"{reason}\"");
        world.metric(&format!("evenkeel_failures_total{{{labels}}}")).await
    }
}

async fn over(backends: &[&Backend]) -> World {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    crate::over(&addresses, &[("PROXY_PROBE", "off")]).await
}

/// 204, of the static table (RFC 7541, Appendix A).
fn no_content(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x89])
}

/// A head with these fields.
fn head(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(fields))
}

type Answer = fn(u32) -> Vec<u8>;

/// Answers whose head is not valid (RFC 9113 §8.1.1, §8.2, §8.3.2).
const INVALID: &[(&str, Answer)] = &[
    ("no length", |stream| head(stream, &[(":status", "200"), ("content-length", "x")])),
    ("a field of a connection", |stream| head(stream, &[(":status", "200"), ("connection", "x")])),
    ("an upper-case name", |stream| head(stream, &[(":status", "200"), ("Upper", "x")])),
    ("a quote in a name", |stream| head(stream, &[(":status", "200"), ("x\"y", "1")])),
    ("a status after a field", |stream| head(stream, &[("x", "y"), (":status", "200")])),
    ("a status that is a word", |stream| head(stream, &[(":status", "abc")])),
    ("lengths that differ", |stream| {
        head(stream, &[(":status", "200"), ("content-length", "1"), ("content-length", "2")])
    }),
    ("a length and no body", |stream| {
        let fields = block(&[(":status", "200"), ("content-length", "1")]);
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields)
    }),
    ("an empty length", |stream| head(stream, &[(":status", "200"), ("content-length", "")])),
    ("another protocol", |stream| head(stream, &[(":status", "101")])),
    ("a body before its head", |stream| frame(DATA, END_STREAM, stream, b"hello")),
    ("a push that nobody allowed", |stream| frame(5, END_HEADERS, stream, &[0, 0, 0, 2, 0x88])),
];

#[tokio::test]
async fn an_answer_that_is_not_valid_is_told_from_none_and_its_backend_is_ejected() {
    let good = Backend::start(no_content).await;
    for (name, answer) in INVALID {
        let bad = Backend::start(answer).await;
        let alone = over(&[&bad]).await;
        for method in [Method::POST, Method::GET] {
            let request = alone.client.request(method.clone(), alone.url("/"));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 502, "{name}: {method}");
            let said = answer.headers()["proxy-status"].to_str().unwrap();
            assert!(said.contains("details=\"protocol_error\""), "{name}: {method}: {said}");
            assert_eq!(bad.take_requests(), 1, "{name}: {method}");
        }
        let world = over(&[&bad, &good]).await;
        let health = async || world.backend(&bad.address.to_string()).await["health"].clone();
        for _ in 0..5 {
            // Also where requests share their connection with others that are answered.
            let asked = [(); 4].map(|()| world.client.post(world.url("/")).send());
            futures_util::future::join_all(asked).await;
        }
        world.until("it to be ejected", async || health().await == "ejected").await;
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_its_head_says_is_not_valid_and_not_broken_off() {
    for body in ["longer", "less"] {
        let backend = Backend::start(move |stream| {
            let head = head(stream, &[(":status", "200"), ("content-length", "5")]);
            [head, frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
        })
        .await;
        let world = over(&[&backend]).await;
        let answer = world.client.get(world.url("/")).send().await.unwrap();
        answer.bytes().await.unwrap_err();
        let is_told = async || backend.failures(&world, "protocol_error").await == 1.0;
        world.until("it to be told", is_told).await;
    }
}

/// One on a connection is answered with what ends the connection: who else waits there, and may be sent
/// again, is.
#[tokio::test]
async fn what_one_answer_ends_costs_no_other_that_may_be_sent_again() {
    let backend = Backend::start(|stream| match stream {
        // Nobody is answered until both are there.
        1 => Vec::new(),
        3 => frame(DATA, END_STREAM, 0, b"on no stream"),
        _ => no_content(stream),
    })
    .await;
    let good = Backend::start(no_content).await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_POLICY", "first")];
    let world = crate::over(&[backend.address, good.address], &variables).await;
    let asked = [(); 2].map(|()| world.client.get(world.url("/")).send());
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.unwrap().status(), 204);
    }
    assert_eq!((backend.take_requests(), good.take_requests()), (2, 2));
}

/// What a client of HTTP/2 is answered.
async fn answer(world: &World) -> Response<Incoming> {
    let io = TokioIo::new(TcpStream::connect(world.proxy.address).await.unwrap());
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let handshake = builder.max_header_list_size(1 << 20).handshake(io);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
    sender.send_request(request).await.unwrap()
}

/// What comes to it of the fields after the answer's body, if that is not cut.
async fn trailers(world: &World) -> Option<HeaderMap> {
    let body = answer(world).await.into_body().collect().await.ok()?;
    Some(body.trailers().cloned().unwrap_or_default())
}

/// RFC 9110 §6.5.1.
#[tokio::test]
async fn of_the_fields_after_an_answer_those_arrive_that_may_stand_there() {
    let backend = Backend::start(|stream| {
        let fields = [("x-sum", "1"), ("set-cookie", "a=b"), ("x-request-id", "forged")];
        let fields = block(&[&fields[..], &[("content-length", "77")]].concat());
        let end = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
        [frame(HEADERS, END_HEADERS, stream, &[0x88]), end].concat()
    })
    .await;
    let kept = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
    assert_eq!(trailers(&over(&[&backend]).await).await, Some(kept));
}

/// RFC 9113 §8.2.1.
#[tokio::test]
async fn an_answer_is_cut_after_which_comes_what_is_no_field() {
    let backend = Backend::start(|stream| {
        let fields = block(&[("x\"y", "1")]);
        let end = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
        [frame(HEADERS, END_HEADERS, stream, &[0x88]), end].concat()
    })
    .await;
    let world = over(&[&backend]).await;
    assert_eq!(trailers(&world).await, None);
    let is_told = async || backend.failures(&world, "protocol_error").await == 1.0;
    world.until("it to be told", is_told).await;
}

/// RFC 9113 §8.2.1. A status of gRPC may have such a message.
#[tokio::test]
async fn blanks_around_values_do_not_arrive() {
    let backend = Backend::start(|stream| {
        let fields = block(&[("grpc-message", "of what: ")]);
        let end = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
        [head(stream, &[(":status", "200"), ("x", " y\t"), ("z", " ")]), end].concat()
    })
    .await;
    let answer = answer(&over(&[&backend]).await).await;
    assert_eq!(
        (&answer.headers()["x"], &answer.headers()["z"]),
        (&"y".parse().unwrap(), &"".parse().unwrap())
    );
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-message"], "of what:");
}

/// RFC 9113 §8.1.1, RFC 9110 §8.6.
#[tokio::test]
async fn a_length_that_is_told_twice_is_passed_on_once() {
    let backend = Backend::start(|stream| {
        let twice = [(":status", "200"), ("content-length", "2"), ("content-length", "2")];
        [head(stream, &twice), frame(DATA, END_STREAM, stream, b"ok")].concat()
    })
    .await;
    let answer = answer(&over(&[&backend]).await).await;
    assert_eq!(answer.headers().get_all("content-length").iter().collect::<Vec<_>>(), ["2"]);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
}

/// A backend whose answer has so many bytes of fields before its body, and after it; with how many
/// requests it was sent.
async fn saying(before: usize, after: usize) -> Backend {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&requests);
    // Of several, as in most heads none is that long.
    let fields = |name: &str, bytes: usize| {
        let value = HeaderValue::try_from("x".repeat(bytes / 2)).unwrap();
        let name = |end: &str| HeaderName::try_from(format!("{name}{end}")).unwrap();
        HeaderMap::from_iter([(name("a"), value.clone()), (name("b"), value)])
    };
    let (before, after) = (fields("x-before-", before), fields("x-after-", after));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (count, before, after) = (Arc::clone(&count), before.clone(), after.clone());
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    count.fetch_add(1, Ordering::Relaxed);
                    let mut response = Response::new(());
                    response.headers_mut().extend(before.clone());
                    let mut stream = respond.send_response(response, false).unwrap();
                    stream.send_trailers(after.clone()).unwrap();
                }
            });
        }
    });
    Backend { address, requests }
}

#[tokio::test]
async fn a_head_arrives_that_would_over_http_1_and_a_longer_one_is_not_asked_for_twice() {
    for kibibytes in [1, 20, 59, 61, 300, 900] {
        let (one, other) = (saying(kibibytes * 1024, 0).await, saying(kibibytes * 1024, 0).await);
        let world = over(&[&one, &other]).await;
        let answer = world.client.get(world.url("/")).send().await.unwrap();
        if kibibytes < 60 {
            assert_eq!(answer.status(), 200, "{kibibytes}");
            assert_eq!(answer.headers()["x-before-b"].len(), kibibytes * 512);
        } else {
            assert_eq!(answer.status(), 502, "{kibibytes}");
            let said = answer.headers()["proxy-status"].to_str().unwrap();
            assert!(said.contains("details=\"protocol_error\""), "{kibibytes}: {said}");
        }
        assert_eq!(one.take_requests() + other.take_requests(), 1, "{kibibytes}");
    }
}

#[tokio::test]
async fn the_fields_after_an_answer_arrive_whole_or_it_is_cut() {
    for kibibytes in [1, 20, 59, 61, 300, 1_500] {
        let backend = saying(0, kibibytes * 1024).await;
        let world = over(&[&backend]).await;
        let trailers = trailers(&world).await;
        let bytes = trailers.map(|trailers| trailers.values().map(HeaderValue::len).sum::<usize>());
        assert_eq!(bytes, (kibibytes < 60).then_some(kibibytes * 1024), "{kibibytes}");
        let failures = async || backend.failures(&world, "protocol_error").await;
        let expected = f64::from(u8::from(kibibytes > 60));
        world.until("it to be told", async || failures().await == expected).await;
    }
}

/// RFC 9110 §8.6, §15.4.5.
#[tokio::test]
async fn an_answer_that_has_no_body_ends_with_its_head_wherever_its_stream_does() {
    for (method, status) in [(Method::GET, "304"), (Method::GET, "204"), (Method::HEAD, "200")] {
        let backend = Backend::start(move |stream| {
            let head = head(stream, &[(":status", status), ("content-length", "5")]);
            [head, frame(DATA, END_STREAM, stream, &[])].concat()
        })
        .await;
        let world = over(&[&backend]).await;
        let mut client = RawClient::connect(world.proxy.address, &[]).await;
        let fields = [(":scheme", "http"), (":authority", "a"), (":path", "/")];
        let request = block(&[&[(":method", method.as_str())], &fields[..]].concat());
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &request).await;
        let head = client.until(HEADERS).await.unwrap();
        assert_eq!(head.flags & END_STREAM, END_STREAM, "{method} {status}");
        let requests = format!(
            "evenkeel_requests_total{{pool=\"default\",backend=\"{}\",method=\"{method}\",code=\"{status}\"}}",
            backend.address
        );
        world.until("it to be counted", async || world.metric(&requests).await == 1.0).await;
        for reason in ["protocol_error", "reset_mid_body"] {
            assert_eq!(backend.failures(&world, reason).await, 0.0, "{method} {status}: {reason}");
        }
    }
}
