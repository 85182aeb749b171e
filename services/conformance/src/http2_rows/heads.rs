//! Heads that are none (§8.1.1): what would be two requests, or another one, once it is written as HTTP/1.

use self::Change::{Only, Set, With, Without};
use super::{Field, GET, get, in_pieces, request};
use crate::{
    http2::frames,
    row::{Row, Want},
};

/// How a head differs from one of a good GET.
enum Change {
    /// One more field.
    With(&'static str, &'static str),
    /// Another value.
    Set(&'static str, &'static str),
    /// One field less.
    Without(&'static str),
    /// All others.
    Only(&'static [Field]),
}

type Case = (&'static str, &'static str, Change);

pub(super) fn heads() -> Vec<Row> {
    let malformed = [OF_CONNECTIONS, BLANKS, PSEUDO, TARGETS, HOSTS, LENGTHS, CONNECT];
    let row =
        |(name, rfc, change): &Case, want| Row::http2(name, rfc, request(&changed(change)), want);
    let malformed = malformed.into_iter().flatten().map(|case| row(case, Want::Malformed));
    // What is no field at all ends more than its stream: the library cannot tell what comes after it,
    // and may do so (§5.4.1).
    let no_fields = [NAMES, VALUES, METHODS].into_iter().flatten();
    malformed.chain(no_fields.map(|case| row(case, Want::Ended(&["PROTOCOL_ERROR"])))).collect()
}

fn changed(change: &Change) -> Vec<Field> {
    match *change {
        With(name, value) => [&GET[..], &[(name, value)]].concat(),
        Set(name, value) => {
            let changed = |field: Field| if field.0 == name { (name, value) } else { field };
            GET.into_iter().map(changed).collect()
        }
        Without(name) => GET.into_iter().filter(|field| field.0 != name).collect(),
        Only(fields) => fields.to_vec(),
    }
}

const OF_CONNECTIONS: &[Case] = &[
    ("Connection", "§8.2.2", With("connection", "close")),
    (
        "Connection that names a field",
        "§8.2.2",
        Only(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
            ("connection", "x-one"),
            ("x-one", "1"),
        ]),
    ),
    ("Proxy-Connection", "§8.2.2", With("proxy-connection", "keep-alive")),
    ("Keep-Alive", "§8.2.2", With("keep-alive", "timeout=5")),
    ("Transfer-Encoding", "§8.2.2", With("transfer-encoding", "chunked")),
    ("Upgrade", "§8.2.2", With("upgrade", "websocket")),
    ("TE with another member than trailers", "§8.2.2", With("te", "gzip")),
    ("TE with trailers and another member", "§8.2.2", With("te", "trailers, gzip")),
];

const BLANKS: &[Case] = &[
    ("a value that begins with a space", "§8.2.1", With("x", " y")),
    ("a value that ends with a tab", "§8.2.1", With("x", "y\t")),
];

const NAMES: &[Case] = &[
    ("a name in upper case", "§8.2.1", With("X-One", "1")),
    ("a name with a space", "§8.2.1", With("x one", "1")),
    ("a name with a colon", "§8.2.1", With("x:one", "1")),
    ("a name with a line's end", "§8.2.1", With("x: y\r\nx-two", "1")),
    ("a name with a NUL", "§8.2.1", With("x\0", "1")),
    ("a name with a delete", "§8.2.1", With("x\x7F", "1")),
    ("a name beyond ASCII", "§8.2.1", With("x\u{e9}", "1")),
    ("a name with a bracket", "9110 §5.1", With("x(y", "1")),
    ("a name of no characters", "9110 §5.1", With("", "1")),
];

const VALUES: &[Case] = &[
    ("a value with a NUL", "§8.2.1", With("x", "y\0z")),
    ("a value with a CR", "§8.2.1", With("x", "y\rz")),
    ("a value with an LF", "§8.2.1", With("x", "y\nz: 1")),
    ("a value with a second field", "§8.2.1", With("x", "y\r\nz: 1")),
    ("a value with a second request", "§8.2.1", With("x", "y\r\n\r\nGET /odd HTTP/1.1\r\nhost: c")),
    ("a value with a control character", "9110 §5.5", With("x", "y\x01z")),
    ("a value with a delete", "9110 §5.5", With("x", "y\x7Fz")),
];

const METHODS: &[Case] = &[
    ("an empty :method", "§8.3.1", Set(":method", "")),
    ("a :method with a space", "§8.3.1", Set(":method", "GET /odd")),
    ("a :method with a line's end", "§8.3.1", Set(":method", "GET / HTTP/1.1\r\nx:")),
    ("a :method with a bracket", "9110 §9.1", Set(":method", "GE(T")),
    ("a pseudo-header that nobody knows", "§8.3", With(":odd", "1")),
    ("a pseudo-header in upper case", "§8.2.1", With(":PATH", "/odd")),
];

const PSEUDO: &[Case] = &[
    ("no :method", "§8.3.1", Without(":method")),
    ("no :scheme", "§8.3.1", Without(":scheme")),
    ("no :path", "§8.3.1", Without(":path")),
    ("two of :method", "§8.3", With(":method", "GET")),
    ("two of :scheme", "§8.3", With(":scheme", "http")),
    ("two of :authority", "§8.3", With(":authority", "a")),
    ("two of :path that agree", "§8.3", With(":path", "/")),
    ("two of :path that differ", "§8.3", With(":path", "/odd")),
    ("a pseudo-header of answers", "§8.3", With(":status", "200")),
    (
        "a pseudo-header after a field",
        "§8.3",
        Only(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            ("x", "y"),
            (":authority", "a"),
        ]),
    ),
    ("nothing but fields", "§8.3.1", Only(&[("host", "a"), ("x", "y")])),
];

const TARGETS: &[Case] = &[
    ("an empty :path", "§8.3.1", Set(":path", "")),
    ("a :path without a slash", "§8.3.1", Set(":path", "x")),
    ("a :path that is a query", "§8.3.1", Set(":path", "?x")),
    ("a :path that is a whole URI", "§8.3.1", Set(":path", "http://c/")),
    ("an asterisk without OPTIONS", "§8.3.1", Set(":path", "*")),
    ("a :path with a space", "§8.3.1", Set(":path", "/a b")),
    ("a :path with a request line's end", "§8.3.1", Set(":path", "/ HTTP/1.1\r\nx: y")),
    ("a :path with a NUL", "§8.3.1", Set(":path", "/\0")),
    ("a :path with a delete", "§8.3.1", Set(":path", "/\x7F")),
    ("a :path beyond ASCII", "§8.3.1", Set(":path", "/\u{e9}")),
    ("an empty :scheme", "§8.3.1", Set(":scheme", "")),
    ("a :scheme that is a URI's beginning", "§8.3.1", Set(":scheme", "http://a/?")),
    ("a :scheme that is not HTTP", "9110 §4.2", Set(":scheme", "ftp")),
    ("a :scheme with a space", "§8.3.1", Set(":scheme", "http /odd")),
];

const HOSTS: &[Case] = &[
    ("neither :authority nor Host", "§8.3.1", Without(":authority")),
    ("an empty :authority", "§8.3.1", Set(":authority", "")),
    ("an :authority with a user", "§8.3.1", Set(":authority", "u@a")),
    ("an :authority with a path", "§8.3.1", Set(":authority", "a/odd")),
    ("an :authority with a space", "§8.3.1", Set(":authority", "a b")),
    ("an :authority with a line's end", "§8.3.1", Set(":authority", "a\r\nx: y")),
    ("an :authority whose port is a word", "§8.3.1", Set(":authority", "a:b")),
    ("an :authority whose port is too large", "§8.3.1", Set(":authority", "a:65536")),
    (":authority and Host that differ", "§8.3.1", With("host", "b")),
    (":authority and Host whose ports differ", "§8.3.1", With("host", "a:81")),
    (":authority and an empty Host", "§8.3.1", With("host", "")),
    (
        ":authority and two Hosts",
        "9112 §3.2",
        Only(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
            ("host", "a"),
            ("host", "a"),
        ]),
    ),
    (
        "two Hosts instead of :authority",
        "9112 §3.2",
        Only(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            ("host", "a"),
            ("host", "b"),
        ]),
    ),
];

/// Of a request that has no body.
const LENGTHS: &[Case] = &[
    ("a length without a body", "§8.1.1", With("content-length", "5")),
    ("a length that is a word", "§8.1.1", With("content-length", "x")),
    ("an empty length", "9110 §8.6", With("content-length", "")),
    ("a length with a plus", "9110 §8.6", With("content-length", "+0")),
    ("a length below zero", "9110 §8.6", With("content-length", "-1")),
    ("a list of lengths", "9110 §8.6", With("content-length", "0, 0")),
    ("a length that overflows to 0", "9110 §8.6", With("content-length", "18446744073709551616")),
    (
        "two lengths that agree",
        "9110 §8.6",
        Only(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
            ("content-length", "0"),
            ("content-length", "0"),
        ]),
    ),
];

const CONNECT: &[Case] = &[
    ("CONNECT with :scheme and :path", "§8.5", Set(":method", "CONNECT")),
    (
        "CONNECT with :path",
        "§8.5",
        Only(&[(":method", "CONNECT"), (":authority", "a:80"), (":path", "/")]),
    ),
    (
        "CONNECT with :scheme",
        "§8.5",
        Only(&[(":method", "CONNECT"), (":scheme", "http"), (":authority", "a:80")]),
    ),
    ("CONNECT without :authority", "§8.5", Only(&[(":method", "CONNECT")])),
    (":protocol without CONNECT", "8441 §4", With(":protocol", "websocket")),
];

/// What is longer than anybody needs, and what is not offered.
pub(super) fn refused() -> Vec<Row> {
    let target = format!("/{}", "x".repeat(20_000));
    let long =
        GET.map(|(name, value)| (name, if name == ":path" { target.as_str() } else { value }));
    let long = in_pieces(&frames::block(&long), 16_000);
    let connect = request(&[(":method", "CONNECT"), (":authority", "a:80")]);
    let expecting = get(&[("expect", "x")]);
    let row = |name, rfc, frames, status| Row::http2(name, rfc, frames, Want::Refused(status));
    vec![
        row("a :path of 20 KB", "9110 §4.1", long, 414),
        row("CONNECT", "9110 §9.3.6", connect, 501),
        row("an expectation that nobody knows", "9110 §10.1.1", expecting, 417),
    ]
}
