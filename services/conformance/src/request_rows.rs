//! Requests that could be read in two ways. Each is refused, and none reaches a backend.
//!
//! Sections are those of RFC 9112 unless another one is named.

mod chunks;
mod fields;
mod framing;
mod lines;

use self::{
    chunks::{CHUNKS, TRAILERS},
    fields::{FIELDS, HOSTS},
    framing::FRAMING,
    lines::{LAST_HOPS, LINES},
};
use crate::row::{Check, Row, Want};

type Case = (&'static str, &'static str, &'static [u8]);

/// All of them.
#[must_use]
pub fn rows() -> Vec<Row> {
    let refused = [FRAMING, FIELDS, HOSTS, LINES, LAST_HOPS].into_iter().flatten();
    let broken = CHUNKS.iter().chain(TRAILERS);
    refused
        .map(|(name, rfc, request)| Row::refused(name, rfc, request))
        .chain(broken.map(|(name, rfc, body)| Row::request(name, rfc, chunked(body), Want::Broken)))
        .chain(long())
        .chain(followed())
        .collect()
}

/// A request with a chunked body, and a second request for whoever takes it for one.
fn chunked(body: &[u8]) -> Vec<u8> {
    let head: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    [head, body].concat()
}

/// What is longer than anybody needs.
fn long() -> Vec<Row> {
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000));
    let value = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1_000_000));
    let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(2_000));
    let last_hop = format!(
        "OPTIONS /{} HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n",
        "x".repeat(20_000)
    );
    let two_hosts = format!("GET /{} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "x".repeat(20_000));
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000));
    vec![
        Row::request("a request line of 70 KB", "§3", target, Want::Refused(414)),
        Row::request(
            "a target of 20 KB in OPTIONS that goes no further",
            "9110 §4.1",
            last_hop,
            Want::Refused(414),
        ),
        Row::refused("two Hosts beside a target of 20 KB", "§3.2", two_hosts),
        Row::request("a field of 1 MB", "9110 §5.4", value, Want::Refused(431)),
        Row::request("2,000 fields", "9110 §5.4", fields, Want::Refused(431)),
        Row::request(
            "an extension of 100 KB",
            "§7.1.1",
            chunked(extension.as_bytes()),
            Want::Broken,
        ),
        Row::request(
            "CONNECT",
            "9110 §9.3.6",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Want::Refused(501),
        ),
    ]
}

/// A good request and what follows it on the same connection: only the first may arrive.
fn followed() -> Vec<Row> {
    let first = || vec![Check::Messages(1), Check::Line("POST /first HTTP/1.1")];
    let sized: &[u8] = b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked: &[u8] = b"POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n0\r\n\r\n";
    let row = |name, rfc, first_request: &[u8], rest: &[u8]| {
        let request = [first_request, rest].concat();
        Row::request(name, rfc, request, Want::Served(&[200, 400], first()))
    };
    vec![
        row("garbage after a body with a length", "§6.3", sized, b"GARBAGE\r\n\r\n"),
        row("garbage after a chunked body", "§7.1", chunked, b"GARBAGE\r\n\r\n"),
        row(
            "a bare LF in the request after a length",
            "§2.2",
            sized,
            b"GET /second HTTP/1.1\nHost: a\r\n\r\n",
        ),
        row(
            "a bare LF in the request after a chunked body",
            "§2.2",
            chunked,
            b"GET /second HTTP/1.1\nHost: a\r\n\r\n",
        ),
        row(
            "both framings in the request after a chunked body",
            "§6.3",
            chunked,
            b"POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
              Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        row(
            "two Hosts in the request after a length",
            "§3.2",
            sized,
            b"GET /second HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        ),
        Row::request(
            "bytes after a request for another protocol that is not taken up",
            "9110 §7.8",
            "GET /first HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\
             GET /second HTTP/1.1\r\nHost: a\r\n\r\n",
            Want::Served(&[200], vec![Check::Messages(1), Check::Line("GET /first HTTP/1.1")]),
        ),
    ]
}
