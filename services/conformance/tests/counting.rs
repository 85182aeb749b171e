//! Load with faults in the backends: what clients sent, what they got and what backends saw add up
//! to what the metrics say, and nothing is left when it ends.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use common::{Proxy, wait_for};
use evenkeel_conformance::{
    backend::{Answer, Backend},
    client,
    message::Message,
};

const CLIENTS: usize = 8;
const REQUESTS: usize = 30;

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
const ODD: &[u8] = b"HTTP/1.1 abc\r\n\r\n";

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
    /// The client left before the answer.
    Left,
}

const REQUEST: &[u8] =
    b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";

/// A client's requests, of which every tenth is given up at once.
fn load(proxy: SocketAddr) -> Vec<End> {
    let one = |index: usize| {
        if index % 10 == 9 {
            leave(proxy);
            return End::Left;
        }
        let got = client::exchange(proxy, REQUEST, common::PATIENCE).unwrap();
        let (answers, _) = got.answers("POST");
        answers.first().map(Message::status).map_or(End::Cut, End::Answered)
    };
    (0..REQUESTS).map(one).collect()
}

/// Sends a request and closes as soon as the proxy has it, without reading the answer.
fn leave(proxy: SocketAddr) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream.write_all(REQUEST).unwrap();
    // The first byte of an answer, or its absence, says that the request was counted or will be.
    stream.read_exact(&mut [0]).unwrap_or_default();
}

/// Sends requests until one is with the backend that never answers, and leaves then. How many.
fn leave_before_the_answer(proxy: SocketAddr, silent: &Backend) -> u64 {
    let before = silent.messages().len();
    for count in 1.. {
        let mut stream = TcpStream::connect(proxy).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        stream.write_all(REQUEST).unwrap();
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

#[test]
fn what_is_sent_answered_failed_and_forwarded_adds_up_and_nothing_is_left() {
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
    let address = proxy.address();
    let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(move || load(address))).collect();
    let mut ends: BTreeMap<End, u64> = BTreeMap::new();
    for client in clients {
        client.join().unwrap().into_iter().for_each(|end| *ends.entry(end).or_default() += 1);
    }
    let early = leave_before_the_answer(address, backends.last().unwrap());
    *ends.entry(End::Left).or_default() += early;
    let sent = (CLIENTS * REQUESTS) as u64 + early;

    let settled = || total(&proxy.metrics(), "evenkeel_requests_total") == sent;
    wait_for("every request to be counted", settled);
    let metrics = proxy.metrics();
    let codes = sums(&metrics, "evenkeel_requests_total", "code");
    let failures = sums(&metrics, "evenkeel_failures_total", "reason");
    let durations = total(&metrics, "evenkeel_request_duration_seconds_count");
    assert_eq!(durations, sent, "each request has one duration");

    // What clients got is what was counted, but for those that left without looking.
    let left = ends.get(&End::Left).copied().unwrap_or(0);
    let answered = |code: u16| ends.get(&End::Answered(code)).copied().unwrap_or(0);
    let cut = ends.get(&End::Cut).copied().unwrap_or(0);
    let told = format!("{ends:?}\n{codes:?}\n{failures:?}");
    let mut unseen = 0;
    for (code, count) in &codes {
        let code: u16 = code.parse().unwrap();
        let seen = answered(code) + if code == 200 { cut } else { 0 };
        assert!(*count >= seen && *count <= seen + left, "{code}: {told}");
        unseen += count - seen;
    }
    assert_eq!(unseen, left, "{told}");
    assert!(
        cut > 0 && answered(200) > 0 && answered(502) > 0 && answered(503) > 0 && answered(504) > 0,
        "{told}"
    );

    // What failed has a reason, and each code of ours one.
    let failed = |reason: &str| failures.get(reason).copied().unwrap_or(0);
    let coded = |code: &str| codes.get(code).copied().unwrap_or(0);
    assert_eq!(failed("response_timeout"), coded("504"), "{told}");
    assert!(coded("499") > 0, "{told}");
    assert_eq!(failed("client_gone"), coded("499"), "{told}");
    assert_eq!(failed("reset_before_headers") + failed("protocol_error"), coded("502"), "{told}");
    assert!(failed("reset_mid_body") >= cut, "{told}");

    // A POST is sent once: what the backends saw is what was forwarded.
    let arrived: usize = backends.iter().map(|backend| backend.messages().len()).sum();
    assert_eq!(arrived as u64, sent, "{told}");

    wait_for("nothing to be left", || {
        let metrics = proxy.metrics();
        let in_flight = total(&metrics, "evenkeel_in_flight");
        let connections: u64 = sums(&metrics, "evenkeel_connections", "side").values().sum();
        let buffered = metrics.lines().find(|line| line.starts_with("evenkeel_buffered_bytes "));
        in_flight == 0 && connections == 0 && buffered == Some("evenkeel_buffered_bytes 0")
    });
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
        let closed = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners: Vec<TcpListener> = (0..count).map(|_| closed()).collect();
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        drop(listeners);
        let metrics = asked_over(&addresses);
        let failures = sums(&metrics, "evenkeel_failures_total", "reason");
        let retries = sums(&metrics, "evenkeel_retries_total", "reason");
        let refused = "connect_refused";
        assert_eq!((failures[refused], retries[refused]), (count as u64, count as u64 - 1));
    }
}
