//! What the heads of requests become on the way to a backend of HTTP/1.

use super::{Field, GET, get, request, served};
use crate::row::{
    Check::{Contains, Has, Lacks, Line, Messages, Values},
    Row, Want,
};

/// A GET with one other pseudo-header.
fn set(name: &'static str, value: &'static str) -> Vec<u8> {
    request(&GET.map(|field| if field.0 == name { (name, value) } else { field }))
}

fn options(path: &'static str, fields: &[Field]) -> Vec<u8> {
    let target =
        [(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a"), (":path", path)];
    request(&[&target, fields].concat())
}

pub(super) fn heads() -> Vec<Row> {
    [targets(), fields()].concat()
}

fn targets() -> Vec<Row> {
    let no_authority = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "b:81")];
    vec![
        served(
            ":path is the target as it is",
            "§8.3.1",
            set(":path", "/a/../b//c/%2e%2E/%7Ed;e=f?g=/../%20&h=[i]"),
            vec![Line("GET /a/../b//c/%2e%2E/%7Ed;e=f?g=/../%20&h=[i] HTTP/1.1")],
        ),
        served(
            ":authority is Host",
            "§8.3.1",
            set(":authority", "Shop.Example:8080"),
            vec![Values("host", &["Shop.Example:8080"]), Lacks(":authority")],
        ),
        served(
            "Host is the host where there is no :authority",
            "§8.3.1",
            request(&no_authority),
            vec![Values("host", &["b:81"])],
        ),
        served(
            ":authority and a Host that agree are one Host",
            "§8.3.1",
            get(&[("host", "a")]),
            vec![Values("host", &["a"])],
        ),
        served(
            ":authority and Host agree without their letters' case",
            "9110 §4.2.3",
            get(&[("host", "A")]),
            vec![Values("host", &["a"])],
        ),
        served(
            "a :scheme of a proxy in front is HTTP",
            "9110 §4.2.2",
            set(":scheme", "https"),
            vec![Line("GET / HTTP/1.1")],
        ),
        served(
            "a fragment goes no further",
            "9110 §4.2.5",
            set(":path", "/a?b#c"),
            vec![Line("GET /a?b HTTP/1.1")],
        ),
        served(
            "OPTIONS may ask for everything",
            "§8.3.1",
            options("*", &[]),
            vec![Line("OPTIONS * HTTP/1.1"), Has("host", "a")],
        ),
        served(
            "a method that nobody knows is passed on",
            "9110 §9.1",
            set(":method", "BREW"),
            vec![Line("BREW / HTTP/1.1")],
        ),
        served(
            "a method is told by its letters' case",
            "9110 §9.1",
            set(":method", "get"),
            vec![Line("get / HTTP/1.1")],
        ),
    ]
}

fn fields() -> Vec<Row> {
    vec![
        served(
            "cookies in fields of their own are one field",
            "§8.2.3",
            get(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3"), ("cookie", "d=4")]),
            vec![Values("cookie", &["a=1; b=2; c=3; d=4"]), Has("x", "y")],
        ),
        served(
            "cookies in one field stay so",
            "§8.2.3",
            get(&[("cookie", "a=1; b=2")]),
            vec![Values("cookie", &["a=1; b=2"])],
        ),
        served(
            "Via names the version that was received",
            "9110 §7.6.3",
            get(&[("via", "1.0 first")]),
            vec![Has("via", "1.0 first"), Contains("via", "2.0 ")],
        ),
        served(
            "a client cannot say who it is",
            "7239 §8.1",
            get(&[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")]),
            vec![Values("x-forwarded-for", &["127.0.0.1"]), Lacks("forwarded")],
        ),
        served(
            "a proxy that takes trailers says so of its own connection",
            "9110 §10.1.4",
            get(&[("te", "trailers")]),
            vec![Has("te", "trailers"), Has("connection", "te")],
        ),
        served(
            "who does not take trailers is not said to",
            "9110 §10.1.4",
            get(&[]),
            vec![Lacks("te"), Lacks("upgrade"), Lacks("transfer-encoding")],
        ),
        served(
            "lines of a field keep their order",
            "9110 §5.3",
            get(&[("x", "1"), ("y", "z"), ("x", "2")]),
            vec![Values("x", &["1", "2"]), Has("y", "z")],
        ),
        served(
            "a value may be empty, or have a tab or a colon in it",
            "9110 §5.5",
            get(&[("x", ""), ("y", "a\tb: c")]),
            vec![Has("x", ""), Has("y", "a\tb: c")],
        ),
        served(
            "a value beyond ASCII is passed on",
            "9110 §5.5",
            get(&[("x", "é")]),
            vec![Has("x", "é")],
        ),
        served(
            "a field of HTTP/1 that changes to HTTP/2 is left out",
            "§3.1",
            get(&[("http2-settings", "AAMAAABk")]),
            vec![Lacks("http2-settings")],
        ),
    ]
}

pub(super) fn last_hops() -> Vec<Row> {
    let limited = |method: &'static str, left: &'static str| {
        let target = [(":method", method), (":scheme", "http"), (":authority", "a")];
        request(&[&target[..], &[(":path", "/"), ("max-forwards", left)]].concat())
    };
    let ends = |name, frames, statuses| {
        Row::http2(name, "9110 §7.6.2", frames, Want::Served(statuses, vec![Messages(0)]))
    };
    vec![
        served(
            "OPTIONS may pass one proxy less after each",
            "9110 §7.6.2",
            options("/", &[("max-forwards", "3")]),
            vec![Has("max-forwards", "2")],
        ),
        served(
            "other methods pass as many proxies as there are",
            "9110 §7.6.2",
            limited("GET", "0"),
            vec![Line("GET / HTTP/1.1")],
        ),
        ends("OPTIONS that may pass no proxy is answered by it", limited("OPTIONS", "0"), &[204]),
        ends("TRACE that may pass no proxy ends at it", limited("TRACE", "0"), &[501]),
        Row::http2(
            "a number of proxies to pass that is none",
            "9110 §7.6.2",
            limited("OPTIONS", "-1"),
            Want::Refused(400),
        ),
    ]
}
