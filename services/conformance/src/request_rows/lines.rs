//! Request lines, and requests that go no further than a proxy.

use super::Case;

pub(super) const LINES: &[Case] = &[
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
pub(super) const LAST_HOPS: &[Case] = &[
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
