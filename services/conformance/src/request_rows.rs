//! Requests that could be read in two ways. Each is refused, and none reaches a backend.
//!
//! Sections are those of RFC 9112 unless another one is named.

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

const FRAMING: &[Case] = &[
    (
        "a length before a coding",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding before a length",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "a length and a coding, written oddly and apart",
        "§6.3",
        b"POST / HTTP/1.1\r\ntRANSFER-eNCODING:\tchunked\r\nHost: a\r\nX: y\r\ncONTENT-lENGTH:4\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding and a length that Connection names",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\
          Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths that differ",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ),
    (
        "two lengths that agree",
        "9110 §8.6",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    ),
    (
        "a list of lengths that differ",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello!",
    ),
    (
        "a list of lengths that agree",
        "9110 §8.6",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    ),
    (
        "a length with a plus",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    ),
    (
        "a length below zero",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nhello",
    ),
    (
        "a hexadecimal length",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
    ),
    (
        "a length in two parts",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 0\r\n\r\nhello",
    ),
    (
        "a length with a fraction",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello",
    ),
    (
        "a length with a semicolon",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5;\r\n\r\nhello",
    ),
    (
        "a length in quotes",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nhello",
    ),
    (
        "an empty length",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello",
    ),
    (
        "a length in other digits",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xD9\xA5\r\n\r\nhello",
    ),
    (
        "a length of twenty digits",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
    ),
    (
        "a length that is the largest number",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nhello",
    ),
    (
        "a length that overflows to 5",
        "§6.3",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
    ),
    (
        "a coding that nobody knows",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "the coding identity",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
    ),
    (
        "another coding before chunked",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "another coding after chunked",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice in a list",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked on two lines",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked and something else on two lines",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked with a parameter",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in quotes",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked after a comma",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "an empty coding",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
    ),
    (
        "chunked after a vertical tab",
        "§6.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0Bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in HTTP/1.0",
        "§6.1",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding whose value is folded",
        "§5.2",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding with a space before its colon",
        "§5.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a length with a tab before its colon",
        "§5.1",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 5\r\n\r\nhello",
    ),
];

const FIELDS: &[Case] = &[
    ("a folded field", "§5.2", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
    ("a field folded with a tab", "§5.2", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n"),
    ("a space before the first field", "§2.2", b"GET / HTTP/1.1\r\n Host: a\r\nX: y\r\n\r\n"),
    ("a space before the colon", "§5.1", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    ("a line without a colon", "§5", b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"),
    ("a field without a name", "§5", b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
    ("a space in a name", "§5", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n"),
    ("a bracket in a name", "9110 §5.1", b"GET / HTTP/1.1\r\nHost: a\r\nX(Y: z\r\n\r\n"),
    (
        "a letter beyond ASCII in a name",
        "9110 §5.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\xC3\xA9: z\r\n\r\n",
    ),
    ("a NUL in a name", "9110 §5.1", b"GET / HTTP/1.1\r\nHost: a\r\nX\0: z\r\n\r\n"),
    (
        "a control character in a name",
        "9110 §5.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\x01: z\r\n\r\n",
    ),
    ("a NUL in a value", "9110 §5.5", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n"),
    (
        "a control character in a value",
        "9110 §5.5",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x01z\r\n\r\n",
    ),
    ("a form feed in a value", "9110 §5.5", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x0Cz\r\n\r\n"),
    ("an escape in a value", "9110 §5.5", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x1B[0mz\r\n\r\n"),
    ("a delete in a value", "9110 §5.5", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x7Fz\r\n\r\n"),
    (
        "a bare CR in a value",
        "§2.2",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 5\r\n\r\n",
    ),
    ("a bare CR in a name", "§2.2", b"GET / HTTP/1.1\r\nHost: a\r\nX\rY: z\r\n\r\n"),
    ("a bare CR before a line's end", "§2.2", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n"),
    ("a bare LF after a field", "§2.2", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    (
        "a bare LF that hides a length",
        "§2.2",
        b"POST / HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 5\r\n\r\nhello",
    ),
    ("a bare LF as the empty line", "§2.2", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("bare LFs only", "§2.2", b"GET / HTTP/1.1\nHost: a\n\n"),
];

const HOSTS: &[Case] = &[
    ("no Host", "§3.2", b"GET / HTTP/1.1\r\n\r\n"),
    ("no Host beside an absolute target", "§3.2", b"GET http://a/ HTTP/1.1\r\n\r\n"),
    ("two Hosts that differ", "§3.2", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("two Hosts that agree", "§3.2", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("two Hosts in HTTP/1.0", "§3.2", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("two Hosts in a list", "§3.2", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("an empty Host", "9110 §4.2.1", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("a Host with a space", "§3.2", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("a Host with a path", "§3.2", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("a Host with a query", "§3.2", b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"),
    ("a Host with a user", "9110 §4.2.4", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("a Host whose port is a word", "§3.2", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    ("a Host whose port is too large", "§3.2", b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    ("a Host with two ports", "§3.2", b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"),
    ("a Host with an open bracket", "§3.2", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    ("a Host beyond ASCII", "§3.2", b"GET / HTTP/1.1\r\nHost: \xC3\xA9\r\n\r\n"),
    (
        "a good Host and one that Connection names",
        "9110 §7.6.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: host\r\n\r\n",
    ),
];

const LINES: &[Case] = &[
    ("HTTP/0.9", "§C.1", b"GET /\r\n\r\n"),
    ("a version 0.9", "§2.3", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    ("a version 2.0", "§2.3", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("a version of two digits", "§2.3", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    ("a version without a dot", "§2.3", b"GET / HTTP/11\r\nHost: a\r\n\r\n"),
    ("a version in lower case", "§2.3", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    ("a version with a space", "§2.3", b"GET / HTTP/ 1.1\r\nHost: a\r\n\r\n"),
    ("a space after the version", "§3", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    ("another protocol", "§2.3", b"GET / ICAP/1.0\r\nHost: a\r\n\r\n"),
    ("two spaces after the method", "§3", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two spaces before the version", "§3", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a tab after the method", "§3", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a tab before the version", "§3", b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a space before the method", "§3", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("no method", "§3", b"/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("no target", "§3", b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a bracket in the method", "§3.1", b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a NUL in the method", "§3.1", b"GE\0T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a space in the target", "§3.2", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a request within the target", "§3.2", b"GET / HTTP/1.1 /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a NUL in the target", "§3.2", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a control character in the target", "§3.2", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a delete in the target", "§3.2", b"GET /\x7F HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a bare CR in the target", "§2.2", b"GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a bare LF in the target", "§2.2", b"GET /\nx HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a bare CR after the request line", "§2.2", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    ("a bare LF after the request line", "§2.2", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("a bare LF before the request line", "§2.2", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a bare CR before the request line", "§2.2", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("letters beyond ASCII in the target", "§3.2", b"GET /\xC3\xA9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bytes that are no text in the target", "§3.2", b"GET /\xFF HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a fragment in the target", "§3.2", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target without a slash", "§3.2", b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target that is a query", "§3.2", b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an authority as a target", "§3.2.3", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an asterisk without OPTIONS", "§3.2.4", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "an absolute target without a host",
        "9110 §4.2.1",
        b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "an absolute target with a user",
        "9110 §4.2.4",
        b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    ("an absolute target of another scheme", "§3.2.2", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("the first bytes of TLS", "§3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03\r\n\r\n"),
];

/// Requests that a proxy answers itself if they are good (RFC 9110 §7.6.2).
const LAST_HOPS: &[Case] = &[
    (
        "two Hosts in OPTIONS that goes no further",
        "§3.2",
        b"OPTIONS / HTTP/1.1\r\nHost: a\r\nHost: b\r\nMax-Forwards: 0\r\n\r\n",
    ),
    (
        "no Host in OPTIONS that goes no further",
        "§3.2",
        b"OPTIONS / HTTP/1.1\r\nMax-Forwards: 0\r\n\r\n",
    ),
    (
        "a Host with a path and a user in OPTIONS that goes no further",
        "§3.2",
        b"OPTIONS / HTTP/1.1\r\nHost: a/b@c\r\nMax-Forwards: 0\r\n\r\n",
    ),
    (
        "a target with a user in OPTIONS that goes no further",
        "9110 §4.2.4",
        b"OPTIONS http://u:p@a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
    ),
    (
        "two Hosts in TRACE that goes no further",
        "§3.2",
        b"TRACE / HTTP/1.1\r\nHost: a\r\nHost: b\r\nMax-Forwards: 0\r\n\r\n",
    ),
    (
        "two numbers of proxies to pass",
        "9110 §7.6.2",
        b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nMax-Forwards: 1\r\n\r\n",
    ),
    (
        "a number of proxies to pass that is none",
        "9110 §7.6.2",
        b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: -1\r\n\r\n",
    ),
    ("two Hosts in CONNECT", "§3.2", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nHost: b:80\r\n\r\n"),
];

/// Bodies after a head that is good.
const CHUNKS: &[Case] = &[
    ("a chunk size that is no number", "§7.1", b"g\r\nhello\r\n0\r\n\r\n"),
    ("an empty chunk size", "§7.1", b"\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size with a plus", "§7.1", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size below zero", "§7.1", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size with a prefix", "§7.1", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("a space before a chunk size", "§7.1", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("a space after a chunk size", "§7.1", b"5 \r\nhello\r\n0\r\n\r\n"),
    ("a chunk size in two parts", "§7.1", b"5 0\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size that overflows to 5", "§7.1", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("a chunk size with a NUL", "§7.1", b"5\0\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF after a chunk size", "§2.2", b"5\nhello\r\n0\r\n\r\n"),
    ("a bare CR after a chunk size", "§2.2", b"5\rhello\r\n0\r\n\r\n"),
    ("a bare LF after a chunk", "§2.2", b"5\r\nhello\n0\r\n\r\n"),
    ("a chunk longer than its size", "§7.1", b"4\r\nhello\r\n0\r\n\r\n"),
    ("a chunk shorter than its size", "§7.1", b"6\r\nhello\r\n0\r\n\r\n"),
    ("an extension without a name", "§7.1.1", b"5;\r\nhello\r\n0\r\n\r\n"),
    ("an extension with an open quote", "§7.1.1", b"5;a=\"b\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF in an extension", "§7.1.1", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("a bare CR in an extension", "§7.1.1", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("a NUL in an extension", "§7.1.1", b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
    ("a control character in an extension", "§7.1.1", b"5;a=\"\x01\"\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF after the last chunk's size", "§2.2", b"5\r\nhello\r\n0\n\r\n"),
    ("a bare LF at the body's end", "§2.2", b"5\r\nhello\r\n0\r\n\n"),
];

const TRAILERS: &[Case] = &[
    ("a folded trailer", "§7.1.2", b"0\r\nX: y\r\n z\r\n\r\n"),
    ("a space before a trailer's colon", "§7.1.2", b"0\r\nX : y\r\n\r\n"),
    ("a trailer without a colon", "§7.1.2", b"0\r\nnonsense\r\n\r\n"),
    ("a bare LF after a trailer", "§2.2", b"0\r\nX: y\nZ: 1\r\n\r\n"),
    ("a NUL in a trailer", "§7.1.2", b"0\r\nX: y\0\r\n\r\n"),
    ("a bare CR in a trailer", "§2.2", b"0\r\nX: y\rz\r\n\r\n"),
];

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
