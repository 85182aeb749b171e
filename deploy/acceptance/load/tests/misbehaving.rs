//! Each way in which a server can fail a request is counted as what it is, once.

// A helper that fails should panic as its test would.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::net::TcpSocket;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nx-served-by: one\r\ncontent-length: 2\r\n\r\nok";
const OK_AND_CLOSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive, Close\r\n\r\n";

/// How late `/slow` answers.
const SLOW: Duration = Duration::from_millis(500);

/// A server that behaves as the path says, and how often each path was asked for.
struct Misbehaving {
    address: SocketAddr,
    seen: Arc<Mutex<HashMap<String, u64>>>,
}

impl Misbehaving {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let counted = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let counted = Arc::clone(&counted);
                thread::spawn(move || serve(&stream.unwrap(), &counted));
            }
        });
        Self { address, seen }
    }

    fn seen(&self, path: &str) -> u64 {
        self.seen.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    /// Runs a load and gives its exit code and its report.
    fn load(&self, path: &str, arguments: &str) -> (i32, Value) {
        load(&format!("--url http://{}{path} {arguments}", self.address))
    }
}

/// Answers requests until a path says to hang up, which dropping the stream does.
fn serve(stream: &TcpStream, seen: &Mutex<HashMap<String, u64>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => head.push(line),
            }
        }
        let path = head[0].split(' ').nth(1).unwrap().to_owned();
        *seen.lock().unwrap().entry(path.clone()).or_default() += 1;
        let (answer, goes_on): (&[u8], bool) = match path.as_str() {
            "/ok" => (OK, true),
            "/slow" => {
                thread::sleep(SLOW);
                (OK, true)
            }
            "/stale" => (OK, false),
            "/close" => (OK_AND_CLOSE, false),
            "/error" => (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", true),
            "/reset" => (b"", false),
            "/half-head" => (b"HTTP/1.1 200 OK\r\ncontent-le", false),
            "/truncated" => (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this", false),
            "/truncated-chunk" => {
                (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", false)
            }
            "/garbage" => (b"this is not HTTP\r\n\r\n", false),
            "/hang" => (b"", true),
            other => panic!("unknown path {other}"),
        };
        if (&*stream).write_all(answer).is_err() || !goes_on {
            return;
        }
    }
}

fn load(arguments: &str) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel-load"));
    let output = command.args(arguments.split_whitespace()).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), report)
}

#[test]
fn each_failure_is_counted_as_its_kind_and_never_sent_again() {
    let server = Misbehaving::start();
    for (path, kind) in [
        ("/reset", "reset"),
        ("/half-head", "reset"),
        ("/truncated", "truncated"),
        ("/truncated-chunk", "truncated"),
        ("/garbage", "other"),
        ("/hang", "timeout"),
    ] {
        // Short only for what runs into it: on a busy machine others would too.
        let timeout = if kind == "timeout" { "300ms" } else { "20s" };
        let arguments = format!("--requests 6 --concurrency 2 --timeout {timeout}");
        let (code, report) = server.load(path, &arguments);
        assert_eq!(code, 1, "{path}");
        assert_eq!(report["failures"][kind], 6, "{path}: {report}");
        assert_eq!((&report["sent"], &report["ok"]), (&json!(6), &json!(0)), "{path}: {report}");
        assert_eq!(report["failed"], 6, "{path}: {report}");
        assert_eq!(report["examples"].as_array().unwrap().len(), 6, "{path}: {report}");
        assert_eq!(server.seen(path), 6, "{path}: requests were sent again");
    }
}

#[test]
fn an_answer_that_is_not_2xx_is_counted_by_status_and_fails_the_load() {
    let server = Misbehaving::start();
    let (code, report) = server.load("/error", "--requests 5 --concurrency 1");
    assert_eq!(code, 1);
    assert_eq!(report["statuses"], json!({"500": 5}));
    assert_eq!((&report["failed"], &report["not_ok"]), (&json!(0), &json!(5)));
    assert_eq!(report["connections"], 1);
}

#[test]
fn a_refused_connection_is_a_failure_to_connect() {
    // Bound as long as the load runs: a server of another test would be given a closed socket's port.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = closed.local_addr().unwrap();
    let (code, report) = load(&format!("--url http://{address}/ --requests 3"));
    assert_eq!(code, 1);
    assert_eq!(report["failures"]["connect"], 3, "{report}");
    assert_eq!(report["connections"], 0);
}

#[test]
fn a_load_without_failures_exits_with_zero_and_tells_who_served() {
    let server = Misbehaving::start();
    let (code, report) = server.load("/ok", "--requests 1000 --concurrency 4");
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["served_by"], json!({"one": 1000}));
    assert_eq!((&report["sent"], &report["ok"]), (&json!(1000), &json!(1000)));
    assert_eq!((&report["connections"], &report["bytes"]), (&json!(4), &json!(2000)));
    assert_eq!(report["stale_reconnects"], 0);
    assert_eq!(server.seen("/ok"), 1000);
}

#[test]
fn latency_is_that_of_the_answers() {
    let server = Misbehaving::start();
    let urls = format!("--url http://{0}/ok --url http://{0}/ok", server.address);
    let (code, report) = server.load("/slow", &format!("{urls} --requests 12 --concurrency 1"));
    assert_eq!(code, 0);
    let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
    // A third is slow: beyond the median, within the 95th percentile.
    assert!(latency("p50") < latency("p95") && latency("p95") >= 500.0, "{report}");
    assert!(latency("max") >= latency("p99") && latency("p99") >= latency("p95"), "{report}");
    let all = report["duration_seconds"].as_f64().unwrap() * 1000.0;
    // Each from its own begin: the other slow ones took their time beside the slowest.
    assert!(all >= 4.0 * 500.0 && latency("max") <= all - 2.0 * 500.0, "{report}");
}

#[test]
fn with_a_rate_latency_counts_from_when_a_request_was_due() {
    let server = Misbehaving::start();
    // One worker at 500 ms a request cannot keep up with one each 10 ms.
    let (_, report) = server.load("/slow", "--requests 4 --concurrency 1 --rate 100");
    assert!(report["latency_ms"]["max"].as_f64().unwrap() >= 4.0 * 500.0 - 30.0, "{report}");
}

#[test]
fn connections_are_kept_or_not_as_asked_and_as_the_server_says() {
    let server = Misbehaving::start();
    let (code, report) = server.load("/ok", "--requests 20 --concurrency 1 --new-connections");
    assert_eq!((code, &report["connections"]), (0, &json!(20)));
    let (code, report) = server.load("/close", "--requests 20 --concurrency 1");
    assert_eq!((code, &report["connections"]), (0, &json!(20)));
    assert_eq!(report["stale_reconnects"], 0, "the server had said that it closes");
}

#[test]
fn a_connection_closed_while_idle_is_replaced_and_counted_apart() {
    let server = Misbehaving::start();
    // At this rate the close has long arrived when the next request is due.
    let (code, report) = server.load("/stale", "--requests 5 --concurrency 1 --rate 2");
    assert_eq!(code, 0, "{report}");
    assert_eq!((&report["ok"], &report["stale_reconnects"]), (&json!(5), &json!(4)));
    assert_eq!(server.seen("/stale"), 5);
}

#[test]
fn several_targets_take_turns() {
    let server = Misbehaving::start();
    let other = format!("--url http://{}/error --requests 10", server.address);
    let (code, report) = server.load("/ok", &other);
    assert_eq!(code, 1);
    assert_eq!(report["statuses"], json!({"200": 5, "500": 5}));
}

#[test]
fn a_pause_in_service_shows_as_the_largest_gap() {
    let server = Misbehaving::start();
    // One success in three, 100 ms apart.
    let urls = format!("--url http://{0}/error --url http://{0}/error", server.address);
    let (_, report) = server.load("/ok", &format!("{urls} --requests 7 --concurrency 1 --rate 10"));
    let gap = report["largest_gap_ms"].as_f64().unwrap();
    assert!((250.0..2000.0).contains(&gap), "{report}");
}

#[test]
fn a_load_ends_at_its_time() {
    let server = Misbehaving::start();
    // All 200 would take ten times as long, which is more than a busy machine adds.
    let (code, report) = server.load("/ok", "--duration 2s --rate 10 --requests 200 --timeout 20s");
    assert_eq!(code, 0);
    assert!((1..200).contains(&report["sent"].as_u64().unwrap()), "{report}");
    assert!(report["duration_seconds"].as_f64().unwrap() >= 2.0, "{report}");
}

#[test]
fn a_load_that_sent_nothing_proves_nothing() {
    let server = Misbehaving::start();
    let (code, report) = server.load("/ok", "--stop-file /");
    assert_eq!((code, &report["sent"]), (1, &json!(0)));
}

#[test]
fn a_load_ends_at_its_stop_file_and_reports() {
    let file = std::env::temp_dir().join(format!("evenkeel-load-{}", std::process::id()));
    ends_when(&["--stop-file", file.to_str().unwrap()], |_| std::fs::write(&file, "").unwrap());
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_load_ends_at_a_signal_and_reports() {
    ends_when(&[], |load| {
        let kill = Command::new("kill").args(["-TERM", &load.id().to_string()]).status();
        assert!(kill.unwrap().success());
    });
}

/// Starts a load of ten minutes, ends it once it has told its progress, and reads its report.
fn ends_when(arguments: &[&str], end: impl FnOnce(&Child)) {
    let server = Misbehaving::start();
    let url = format!("http://{}/ok", server.address);
    let mut load = Command::new(env!("CARGO_BIN_EXE_evenkeel-load"))
        .args(["--url", &url, "--duration", "10m", "--rate", "50", "--progress"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(load.stderr.take().unwrap());
    let mut line = String::new();
    progress.read_line(&mut line).unwrap();
    assert!(line.contains("failed 0"), "{line}");
    end(&load);
    let output = load.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(report["ok"], server.seen("/ok"));
}

#[test]
fn bad_arguments_exit_with_64() {
    for bad in ["", "--url nonsense", "--url http://h/ --concurrency 1001", "--unknown"] {
        assert_eq!(load(bad).0, 64, "{bad:?}");
    }
    assert_eq!(load("--help").0, 0);
}
