//! Load with faults in the backends: what clients sent, what they got and what backends saw add up
//! to what the metrics say, and nothing is left when it ends.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use chassis::net::closed_port;
use common::{Proxy, wait_for};
use evenkeel_conformance::{
    backend::{Answer, Backend},
    client,
    message::Message,
};

const CLIENTS: usize = 8;
const REQUESTS: usize = 30;
/// How many requests each client leaves.
const LEAVING: usize = 10;

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
const ODD: &[u8] = b"HTTP/1.1 abc\r\n\r\n";

/// The length of the answer that one who reads slowly gets: more than all sockets between hold.
const LARGE: usize = 16 << 20;

/// One faulty backend of each sort. None may be asked twice for a POST.
fn faults() -> [Answer; 7] {
    [
        Answer::Keep(GOOD.to_vec()),
        Answer::Close(GOOD.to_vec()),
        Answer::Keep(BUSY.to_vec()),
        Answer::Reset(Vec::new()),
        Answer::Close(HALF.to_vec()),
        Answer::Keep(ODD.to_vec()),
        Answer::Silent,
    ]
}

/// How one request ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Answered(u16),
    Cut,
}

const POST: &[u8] =
    b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";

/// May be sent twice.
const GET: &[u8] = b"GET /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A client's requests, of which every other one may be sent twice.
fn load(proxy: SocketAddr) -> Vec<End> {
    let one = |index: usize| {
        let request = if index.is_multiple_of(2) { POST } else { GET };
        let got = client::exchange(proxy, request, common::PATIENCE).unwrap();
        let (answers, _) = got.answers("POST");
        answers.first().map(Message::status).map_or(End::Cut, End::Answered)
    };
    (0..REQUESTS).map(one).collect()
}

/// The same of a client of HTTP/2, on one connection.
fn load_http2(proxy: SocketAddr) -> Vec<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(proxy).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut ends = Vec::new();
        for index in 0..REQUESTS {
            let method = if index.is_multiple_of(2) { "POST" } else { "GET" };
            let request = http::Request::builder().method(method).uri("http://a/count");
            let request = request.body(()).unwrap();
            std::future::poll_fn(|context| client.poll_ready(context)).await.unwrap();
            let (answer, mut body) = client.send_request(request, method == "GET").unwrap();
            if method == "POST" {
                // One that is answered without it need not take it.
                let _ = body.send_data("body".into(), true);
            }
            ends.push(http2_end(answer).await);
        }
        ends
    })
}

async fn http2_end(answer: h2::client::ResponseFuture) -> End {
    let Ok(answer) = answer.await else { return End::Cut };
    let (head, mut body) = answer.into_parts();
    while let Some(part) = body.data().await {
        let Ok(part) = part else { return End::Cut };
        body.flow_control().release_capacity(part.len()).unwrap();
    }
    End::Answered(head.status.as_u16())
}

/// Sends requests until the answer is a large one of this backend, and reads nothing of it until the proxy
/// holds some of it. How the ones before ended, and the connection with the last one's answer.
fn until_held(proxy: &Proxy, backend: &Backend) -> (Vec<End>, TcpStream) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
    backend.answer_with(Answer::Keep([head.as_bytes(), &vec![b'x'; LARGE]].concat()));
    let mut ends = Vec::new();
    loop {
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        stream.write_all(GET).unwrap();
        let mut head = [0; 1024];
        let peeked = stream.peek(&mut head).unwrap();
        if head[..peeked].windows(5).any(|part| part == b"\r\n\r\nx") {
            wait_for("the proxy to hold some of the answer", || buffered(&proxy.metrics()) > 0);
            return (ends, stream);
        }
        ends.push(rest(stream));
    }
}

/// How an answer ends for one who reads all of it.
fn rest(mut stream: TcpStream) -> End {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let (answers, _) = client::Got { bytes, end: client::End::Closed }.answers("GET");
    answers.first().map(Message::status).map_or(End::Cut, End::Answered)
}

fn buffered(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("evenkeel_buffered_bytes "));
    line.unwrap().parse::<f64>().unwrap() as u64
}

/// Sends a request and closes as soon as the proxy has it, without reading the answer.
fn leave(proxy: SocketAddr) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream.write_all(POST).unwrap();
    // The first byte of an answer, or its absence, says that the request was counted or will be.
    stream.read_exact(&mut [0]).unwrap_or_default();
}

/// Sends requests until one is with the backend that never answers, and leaves then. How many.
fn leave_before_the_answer(proxy: SocketAddr, silent: &Backend) -> u64 {
    let before = silent.messages().len();
    for count in 1.. {
        let mut stream = TcpStream::connect(proxy).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        stream.write_all(POST).unwrap();
        wait_for("an answer, or that there will be none", || {
            silent.messages().len() > before || stream.peek(&mut [0]).is_ok()
        });
        if silent.messages().len() > before {
            return count;
        }
    }
    unreachable!("each backend has its turn")
}

/// The samples of a metric, each with its labels, summed by the value of one of them.
fn sums(metrics: &str, name: &str, label: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with(&format!("{name}{{"))) {
        let (labels, value) = line.rsplit_once(' ').unwrap();
        let start = format!("{label}=\"");
        let value: f64 = value.parse().unwrap();
        let label = labels.split(&start).nth(1).and_then(|rest| rest.split('"').next());
        *sums.entry(label.unwrap_or_default().to_owned()).or_default() += value as u64;
    }
    sums
}

fn total(metrics: &str, name: &str) -> u64 {
    sums(metrics, name, "pool").values().sum()
}

/// A backend of each sort, and a proxy over them.
fn world() -> (Vec<Backend>, Proxy) {
    let backends: Vec<Backend> = faults()
        .into_iter()
        .map(|answer| {
            let backend = Backend::start().unwrap();
            backend.answer_with(answer);
            backend
        })
        .collect();
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let variables = [
        ("PROXY_RESPONSE_TIMEOUT", "2s"),
        ("PROXY_UPSTREAM_IDLE_TIMEOUT", "1s"),
        ("PROXY_EJECT", "off"),
    ];
    let proxy = Proxy::over(&addresses, &variables);
    (backends, proxy)
}

/// The metrics once all requests are counted.
fn settled(proxy: &Proxy, sent: u64) -> String {
    let is_settled = || total(&proxy.metrics(), "evenkeel_requests_total") == sent;
    wait_for("every request to be counted", is_settled);
    proxy.metrics()
}

fn until_nothing_is_left(proxy: &Proxy) {
    wait_for("nothing to be left", || {
        let metrics = proxy.metrics();
        let in_flight = total(&metrics, "evenkeel_in_flight");
        let connections: u64 = sums(&metrics, "evenkeel_connections", "side").values().sum();
        in_flight == 0 && connections == 0 && buffered(&metrics) == 0
    });
}

fn arrived(backends: &[Backend]) -> u64 {
    backends.iter().map(|backend| backend.messages().len() as u64).sum()
}

#[test]
fn what_is_sent_answered_failed_and_forwarded_adds_up_and_nothing_is_left() {
    let (backends, proxy) = world();
    let address = proxy.address();
    let loads = [load, load_http2];
    let clients: Vec<_> =
        (0..CLIENTS).map(|index| thread::spawn(move || loads[index % 2](address))).collect();
    let mut all: Vec<End> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let (others, held) = until_held(&proxy, &backends[0]);
    all.extend(others);
    all.push(rest(held));
    let mut ends: BTreeMap<End, u64> = BTreeMap::new();
    all.iter().for_each(|end| *ends.entry(*end).or_default() += 1);
    let sent = all.len() as u64;

    let metrics = settled(&proxy, sent);
    let codes = sums(&metrics, "evenkeel_requests_total", "code");
    let failures = sums(&metrics, "evenkeel_failures_total", "reason");
    let retries = total(&metrics, "evenkeel_retries_total");
    let durations = total(&metrics, "evenkeel_request_duration_seconds_count");
    assert_eq!(durations, sent, "each request has one duration");

    // What clients got is what was counted.
    let answered = |code: u16| ends.get(&End::Answered(code)).copied().unwrap_or(0);
    let cut = ends.get(&End::Cut).copied().unwrap_or(0);
    let told = format!("{ends:?}\n{codes:?}\n{failures:?}\n{retries} retries");
    for (code, count) in &codes {
        let code: u16 = code.parse().unwrap();
        assert_eq!(*count, answered(code) + if code == 200 { cut } else { 0 }, "{code}: {told}");
    }
    let each = [cut, retries, answered(200), answered(502), answered(503), answered(504)];
    assert!(each.iter().all(|count| *count > 0), "{told}");

    // What failed has a reason, and each code of ours, or each retry, one.
    let failed = |reason: &str| failures.get(reason).copied().unwrap_or(0);
    let coded = |code: &str| codes.get(code).copied().unwrap_or(0);
    assert_eq!(failed("response_timeout"), coded("504"), "{told}");
    let before = failed("reset_before_headers") + failed("protocol_error");
    assert_eq!(before, coded("502") + retries, "{told}");
    assert_eq!(failed("reset_mid_body"), cut, "{told}");

    // What the backends saw is what was forwarded.
    assert_eq!(arrived(&backends), sent + retries, "{told}");
    until_nothing_is_left(&proxy);
}

#[test]
fn clients_that_leave_are_counted_as_they_left_and_leave_nothing() {
    let (backends, proxy) = world();
    let address = proxy.address();
    let leaving = || (0..LEAVING).for_each(|_| leave(address));
    thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(leaving))));
    let early = leave_before_the_answer(address, backends.last().unwrap());
    // One of them while the proxy holds what it does not take.
    let (others, held) = until_held(&proxy, &backends[0]);
    drop(held);
    let sent = (CLIENTS * LEAVING + others.len() + 1) as u64 + early;
    let metrics = settled(&proxy, sent);
    let codes = sums(&metrics, "evenkeel_requests_total", "code");
    let failures = sums(&metrics, "evenkeel_failures_total", "reason");
    let told = format!("{codes:?}\n{failures:?}");
    assert!(codes["499"] > 0, "{told}");
    assert_eq!(failures["client_gone"], codes["499"], "{told}");
    let retries = total(&metrics, "evenkeel_retries_total");
    assert_eq!(arrived(&backends), sent + retries, "{told}");
    until_nothing_is_left(&proxy);
}

/// Asks for something that may be sent twice, of a proxy whose backends all do this, and waits until it
/// is counted. The metrics then.
fn asked_over(backends: &[SocketAddr]) -> String {
    let proxy = Proxy::over(backends, &[("PROXY_EJECT", "off")]);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let got = client::exchange(proxy.address(), request, common::PATIENCE).unwrap();
    assert_eq!(got.answers("GET").0.first().map(Message::status), Some(502));
    let settled = || total(&proxy.metrics(), "evenkeel_requests_total") == 1;
    wait_for("the request to be counted", settled);
    proxy.metrics()
}

#[test]
fn each_attempt_that_failed_is_counted_once_and_only_a_retry_that_was_made() {
    for count in 1..=3 {
        let backends: Vec<Backend> = (0..count).map(|_| Backend::start().unwrap()).collect();
        backends.iter().for_each(|backend| backend.answer_with(Answer::Reset(Vec::new())));
        let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
        let metrics = asked_over(&addresses);
        let arrived: usize = backends.iter().map(|backend| backend.messages().len()).sum();
        // One retry is allowed, of which there is none without another backend.
        assert_eq!(arrived, count.min(2));
        let failures = sums(&metrics, "evenkeel_failures_total", "reason");
        let retries = sums(&metrics, "evenkeel_retries_total", "reason");
        let reset = "reset_before_headers";
        assert_eq!((failures[reset], retries[reset]), (arrived as u64, arrived as u64 - 1));
    }
}

#[test]
fn each_backend_that_refuses_is_one_failure_and_each_but_the_last_one_retry() {
    for count in 1..=3_usize {
        let addresses: Vec<SocketAddr> = (0..count).map(|_| closed_port()).collect();
        let metrics = asked_over(&addresses);
        let failures = sums(&metrics, "evenkeel_failures_total", "reason");
        let retries = sums(&metrics, "evenkeel_retries_total", "reason");
        let refused = "connect_refused";
        assert_eq!((failures[refused], retries[refused]), (count as u64, count as u64 - 1));
    }
}
