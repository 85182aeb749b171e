//! Bodies after a head that is good: those that are none, which end for nobody, and what others become.

use super::{Field, GET, data, get, in_pieces, last_data, post, served, trailers};
use crate::{
    http2::frames::{self, CONTINUATION, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame},
    row::{
        Check::{Body, Has, Lacks, Line, Trailer, TrailerLacks},
        Row, Want,
    },
};

/// The code of a client that wants no answer any more (§7).
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

type Case = (&'static str, &'static str, Field);

pub(super) fn broken() -> Vec<Row> {
    let broken =
        |name, rfc, frames: Vec<Vec<u8>>| Row::http2(name, rfc, frames.concat(), Want::Broken);
    let sized = |length| post(&[("content-length", length)]);
    let sum = || trailers(&[("x-sum", "7")]);
    let with_trailers = |(name, rfc, field): &Case| {
        broken(name, rfc, vec![post(&[]), data("hello"), trailers(&[*field, ("x-sum", "7")])])
    };
    let mut rows = vec![
        broken("a body shorter than its length", "§8.1.1", vec![sized("5"), last_data("abc")]),
        broken("a body longer than its length", "§8.1.1", vec![sized("2"), last_data("abc")]),
        broken("a body where its length is 0", "§8.1.1", vec![sized("0"), last_data("abc")]),
        broken(
            "a body in two parts longer than its length",
            "§8.1.1",
            vec![sized("4"), data("abc"), last_data("GET /odd HTTP/1.1\r\n\r\n")],
        ),
        broken("no body where there is a length", "§8.1.1", vec![sized("5"), last_data("")]),
        broken(
            "fields before a body is as long as its length",
            "§8.1.1",
            vec![sized("5"), data("abc"), sum()],
        ),
        broken(
            "fields after a body that do not end it",
            "§8.1",
            vec![post(&[]), data("hello"), frames::head(0, 1, &frames::block(&[("x-sum", "7")]))],
        ),
        broken(
            "a body that its client breaks off",
            "§8.1",
            vec![post(&[]), data("hello"), frame(RST_STREAM, 0, 1, &CANCEL)],
        ),
        broken(
            "a body with a length that its client breaks off",
            "§8.1",
            vec![sized("10"), data("hello"), frame(RST_STREAM, 0, 1, &CANCEL)],
        ),
    ];
    rows.extend(TRAILERS.iter().map(with_trailers));
    rows.push(broken(
        "an odd field after a body, cut in two",
        "§8.2.2",
        vec![
            post(&[]),
            data("hello"),
            in_pieces(&frames::block(&[("connection", "x-sum"), ("x-sum", "7")]), 20),
        ],
    ));
    rows.push(cut_head());
    rows
}

/// Before a field that is good, so that who only leaves it out passes the other on.
const TRAILERS: &[Case] = &[
    ("a pseudo-header that nobody knows after a body", "§8.1", (":odd", "1")),
    ("Connection after a body", "§8.2.2", ("connection", "x-sum")),
    ("Transfer-Encoding after a body", "§8.2.2", ("transfer-encoding", "chunked")),
    ("Keep-Alive after a body", "§8.2.2", ("keep-alive", "timeout=5")),
    ("TE with another member than trailers after a body", "§8.2.2", ("te", "gzip")),
    ("a name in upper case after a body", "§8.2.1", ("X-One", "1")),
    ("a name with a colon after a body", "§8.2.1", ("x:one", "1")),
    ("a value with a NUL after a body", "§8.2.1", ("x", "y\0z")),
    ("a value with a second field after a body", "§8.2.1", ("x", "y\r\nz: 1")),
    ("a value that ends with a space after a body", "§8.2.1", ("x", "y ")),
];

/// Where the second frame begins within the field that is good.
fn cut_head() -> Row {
    let whole = get(&[("connection", "x-one"), ("x-one", "1")]);
    let block = &whole[frames::HEADER_BYTES..];
    let (first, rest) = block.split_at(block.len() - 3);
    let cut = [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)];
    Row::http2("an odd field in a head that is cut", "§8.1.1", cut.concat(), Want::Malformed)
}

pub(super) fn passed_on() -> Vec<Row> {
    let odd = "GET /odd HTTP/1.1\r\nhost: c\r\n\r\n";
    vec![
        served(
            "a body with a length keeps it",
            "9112 §6.2",
            [post(&[("content-length", "5")]), data("hel"), last_data("lo")].concat(),
            vec![Body(b"hello"), Has("content-length", "5"), Lacks("transfer-encoding")],
        ),
        served(
            "a body without a length gets a framing of HTTP/1",
            "9112 §6.1",
            [post(&[]), data("hel"), last_data("lo")].concat(),
            vec![Body(b"hello"), Line("POST / HTTP/1.1")],
        ),
        served(
            "a body of no bytes keeps its length",
            "9110 §8.6",
            frames::head(
                END_STREAM,
                1,
                &frames::block(&[
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":authority", "a"),
                    (":path", "/"),
                    ("content-length", "0"),
                ]),
            ),
            vec![Body(b""), Has("content-length", "0"), Lacks("transfer-encoding")],
        ),
        served(
            "a GET without a body has no framing",
            "9110 §8.6",
            get(&[]),
            vec![Body(b""), Lacks("content-length"), Lacks("transfer-encoding")],
        ),
        served(
            "a GET with a body keeps it",
            "9110 §9.3.1",
            [frames::head(0, 1, &frames::block(&GET)), last_data(odd)].concat(),
            vec![Body(b"GET /odd HTTP/1.1\r\nhost: c\r\n\r\n"), Line("GET / HTTP/1.1")],
        ),
        served(
            "a body with a coding is not decoded",
            "9110 §7.7",
            [post(&[("content-encoding", "gzip")]), last_data("nope")].concat(),
            vec![Body(b"nope"), Has("content-encoding", "gzip")],
        ),
        served(
            "what looks like a chunk's end is part of a body",
            "9112 §7.1",
            [post(&[]), data("0\r\n\r\n"), last_data(odd)].concat(),
            vec![Body(b"0\r\n\r\nGET /odd HTTP/1.1\r\nhost: c\r\n\r\n")],
        ),
        served(
            "trailers are passed on",
            "§8.1",
            [post(&[("trailer", "x-sum")]), data("abc"), trailers(&[("x-sum", "7")])].concat(),
            vec![Body(b"abc"), Trailer("x-sum", "7")],
        ),
        served(
            "trailers that were not announced are passed on",
            "9110 §6.6.2",
            [post(&[]), data("abc"), trailers(&[("x-sum", "7")])].concat(),
            vec![Body(b"abc"), Trailer("x-sum", "7")],
        ),
        served(
            "a body with a length and trailers keeps its bytes",
            "9110 §6.5.1",
            [post(&[("content-length", "3")]), data("abc"), trailers(&[("x-sum", "7")])].concat(),
            vec![Body(b"abc")],
        ),
        // No message, to the letter of the section. The library leaves them out and tells nobody.
        served(
            "a pseudo-header after a body goes no further",
            "§8.1",
            [
                post(&[]),
                data("abc"),
                trailers(&[(":path", "/odd"), (":status", "500"), ("x-sum", "7")]),
            ]
            .concat(),
            vec![
                Line("POST / HTTP/1.1"),
                Body(b"abc"),
                TrailerLacks(":path"),
                TrailerLacks(":status"),
                Trailer("x-sum", "7"),
            ],
        ),
        served(
            "a trailer cannot frame or route a message, or say who its client is",
            "9110 §6.5.1",
            [
                post(&[("trailer", "content-length, host, cookie, x-forwarded-for, x-sum")]),
                data("abc"),
                trailers(&[
                    ("content-length", "9"),
                    ("host", "b"),
                    ("cookie", "b=1"),
                    ("x-forwarded-for", "::1"),
                    ("x-sum", "7"),
                ]),
            ]
            .concat(),
            vec![
                Body(b"abc"),
                Has("host", "a"),
                TrailerLacks("content-length"),
                TrailerLacks("host"),
                TrailerLacks("cookie"),
                TrailerLacks("x-forwarded-for"),
                Trailer("x-sum", "7"),
            ],
        ),
    ]
}
