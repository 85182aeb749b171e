//! The heads of requests, and those that go no further than a proxy.

use super::row;
use crate::row::{
    Check::{Body, Contains, Has, Lacks, Line, Messages, Values},
    Row, Want,
};

pub(super) fn heads() -> Vec<Row> {
    vec![
        row(
            "fields of one connection are left out",
            "§7.6.1",
            "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
             Upgrade: x\r\nConnection: close\r\n\r\n",
            vec![Lacks("keep-alive"), Lacks("proxy-connection"), Lacks("upgrade")],
        ),
        row(
            "fields that Connection names are left out",
            "§7.6.1",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One, close\r\nConnection: x-TWO\r\n\
             X-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\r\n",
            vec![Lacks("x-one"), Lacks("x-two"), Has("x-three", "3")],
        ),
        row(
            "Connection cannot take away Host or the length",
            "§7.6.1",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
             Connection: host, content-length, close\r\n\r\nhello",
            vec![Has("host", "a"), Body(b"hello")],
        ),
        row(
            "an upgrade to h2c is not passed on",
            "9113 §3.1",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            vec![Lacks("upgrade"), Lacks("http2-settings")],
        ),
        row(
            "Via names the version that was received",
            "§7.6.3",
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 first\r\nConnection: close\r\n\r\n",
            vec![Has("via", "1.0 first"), Contains("via", "1.1 ")],
        ),
        row(
            "Via names HTTP/1.0 where that was received",
            "§7.6.3",
            "GET / HTTP/1.0\r\nHost: a\r\nVia: 1.1 first\r\n\r\n",
            vec![Has("via", "1.1 first"), Contains("via", "1.0 ")],
        ),
        row(
            "Host is passed on as it is",
            "§7.2",
            "GET / HTTP/1.1\r\nHost: Shop.Example:8080\r\nConnection: close\r\n\r\n",
            vec![Has("host", "Shop.Example:8080")],
        ),
        row(
            "an absolute target becomes a path, its authority Host",
            "9112 §3.2.2",
            "GET http://b.example:81/x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            vec![Line("GET /x?y HTTP/1.1"), Has("host", "b.example:81")],
        ),
        row(
            "an absolute target without a path becomes a slash",
            "9112 §3.2.1",
            "GET http://b.example HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n",
            vec![Line("GET / HTTP/1.1")],
        ),
        row(
            "an absolute target without a path but with a query gets a slash",
            "9112 §3.2.1",
            "GET http://b.example?x HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n",
            vec![Line("GET /?x HTTP/1.1")],
        ),
        row(
            "OPTIONS may ask for everything",
            "9112 §3.2.4",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            vec![Line("OPTIONS * HTTP/1.1")],
        ),
        row(
            "OPTIONS of a host without a path asks for everything",
            "9112 §3.2.4",
            "OPTIONS http://a:80 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            vec![Line("OPTIONS * HTTP/1.1"), Has("host", "a:80")],
        ),
        row(
            "OPTIONS of a host's root is about that",
            "9112 §3.2.4",
            "OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            vec![Line("OPTIONS / HTTP/1.1")],
        ),
        row(
            "a target is passed on as it is",
            "§7.7",
            "GET /a/../b//c/%2e%2E/%7Ed;e=f?g=/../%20&h=[i] HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            vec![Line("GET /a/../b//c/%2e%2E/%7Ed;e=f?g=/../%20&h=[i] HTTP/1.1")],
        ),
        row(
            "a method that nobody knows is passed on",
            "§9.1",
            "BREW /pot HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            vec![Line("BREW /pot HTTP/1.1")],
        ),
        row(
            "a method is told by its letters' case",
            "§9.1",
            "get / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            vec![Line("get / HTTP/1.1")],
        ),
        row(
            "lines of a field keep their order",
            "§5.3",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: z\r\nX: 2\r\nConnection: close\r\n\r\n",
            vec![Values("x", &["1", "2"]), Has("y", "z")],
        ),
        row(
            "space around a value is no part of it",
            "9112 §5.1",
            "GET / HTTP/1.1\r\nHost:a\r\nX: \t y\tz \t\r\nEmpty:\r\nConnection: close\r\n\r\n",
            vec![Has("host", "a"), Has("x", "y\tz"), Has("empty", "")],
        ),
        row(
            "a value beyond ASCII is passed on",
            "§5.5",
            "GET / HTTP/1.1\r\nHost: a\r\nX: é\r\nConnection: close\r\n\r\n",
            vec![Has("x", "é")],
        ),
        row(
            "an empty line before a request is skipped",
            "9112 §2.2",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            vec![Line("GET / HTTP/1.1")],
        ),
        row(
            "TE goes no further than its connection",
            "§10.1.4",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: close, te\r\n\r\n",
            vec![Lacks("te")],
        ),
        row(
            "a proxy that takes trailers says so of its own connection",
            "§10.1.4",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, te\r\n\r\n",
            vec![Has("te", "trailers"), Has("connection", "te")],
        ),
        row(
            "that trailers are taken is one member of TE",
            "§10.1.4",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5, Trailers\r\nConnection: close, te\r\n\r\n",
            vec![Has("te", "trailers"), Has("connection", "te")],
        ),
    ]
}

pub(super) fn last_hops() -> Vec<Row> {
    let ends = |name, request, statuses| {
        Row::request(name, "§7.6.2", request, Want::Served(statuses, vec![Messages(0)]))
    };
    vec![
        row(
            "OPTIONS may pass one proxy less after each",
            "§7.6.2",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\nConnection: close\r\n\r\n",
            vec![Has("max-forwards", "2")],
        ),
        row(
            "TRACE may pass one proxy less after each",
            "§7.6.2",
            "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\nConnection: close\r\n\r\n",
            vec![Has("max-forwards", "0")],
        ),
        row(
            "other methods pass as many proxies as there are",
            "§7.6.2",
            "GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n",
            vec![Line("GET / HTTP/1.1")],
        ),
        ends(
            "OPTIONS that may pass no proxy is answered by it",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n",
            &[204],
        ),
        ends(
            "TRACE that may pass no proxy ends at it",
            "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n",
            &[501],
        ),
        ends(
            "Connection cannot take away how many proxies it may pass",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: max-forwards, close\r\n\r\n",
            &[204],
        ),
    ]
}
