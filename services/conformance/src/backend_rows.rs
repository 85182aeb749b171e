//! Backends that break off, lie, or say too much. The client gets a clear error or an answer that
//! is visibly cut, never a wrong one or another client's, and the next request is served.
//!
//! Sections are those of RFC 9112 unless another one is named.

mod out_of_turn;

use self::out_of_turn::{before_the_body, too_much};
use crate::{
    backend::Answer,
    row::{Row, Want},
};

/// All of them but [`late_rows`].
#[must_use]
pub fn rows() -> Vec<Row> {
    let invalid = INVALID.iter().map(|(name, rfc, answer)| {
        Row::answer(name, rfc, Answer::Keep(answer.to_vec()), Want::Failed(&[502]))
    });
    let cut = CUT.iter().flat_map(|(closed, reset, rfc, answer)| {
        let answer = || answer.to_vec();
        [
            Row::answer(closed, rfc, Answer::Close(answer()), Want::Cut),
            Row::answer(reset, rfc, Answer::Reset(answer()), Want::Cut),
        ]
    });
    let early = EARLY.iter().flat_map(|(closed, reset, answer)| {
        let answer = || answer.to_vec();
        [
            Row::answer(closed, "§9.6", Answer::Close(answer()), Want::Failed(&[502])),
            Row::answer(reset, "§9.6", Answer::Reset(answer()), Want::Failed(&[502])),
        ]
    });
    invalid
        .chain(cut)
        .chain(early)
        .chain(long())
        .chain(until_the_end())
        .chain(too_much())
        .chain(before_the_body())
        .collect()
}

/// Backends that say nothing, or stop. For a proxy whose time limits are short.
#[must_use]
pub fn late_rows() -> Vec<Row> {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
    let chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec();
    let head = b"HTTP/1.1 200 OK\r\nContent-Le".to_vec();
    let failed = Want::Failed(&[504]);
    vec![
        Row::answer("no answer", "9110 §15.6.5", Answer::Silent, failed.clone()),
        Row::answer("half a head and no more", "9110 §15.6.5", Answer::Keep(head), failed),
        Row::answer("half a body and no more", "§8", Answer::Keep(half), Want::Cut),
        Row::answer("a chunk and no more", "§8", Answer::Keep(chunk), Want::Cut),
    ]
}

type Case = (&'static str, &'static str, &'static [u8]);

/// Answers that cannot be passed on.
const INVALID: &[Case] = &[
    ("an answer that is not HTTP", "§4", b"garbage\r\n\r\n"),
    ("an answer without a head", "§4", b"<html>hello</html>\r\n\r\n"),
    ("a status line without a version", "§4", b"200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a version in lower case", "§2.3", b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a version 2.0", "§2.3", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("another protocol's status line", "§4", b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status that is a word", "§4", b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status of two digits", "§4", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status of four digits", "§4", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status below 100", "9110 §15", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status of zero", "9110 §15", b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a protocol that nobody asked for", "9110 §15.2.2", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ("both framings", "§6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("both framings, the coding first", "§6.3", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("two lengths that differ", "§6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    ("a list of lengths that differ", "§6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!"),
    ("a length with a plus", "§6.3", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
    ("a length below zero", "§6.3", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
    ("a hexadecimal length", "§6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello"),
    ("a length of twenty digits", "§6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello"),
    ("a coding that nobody knows", "§6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nhello"),
    ("another coding before chunked", "§6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "§6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked in HTTP/1.0", "§6.1", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a space before a colon", "§5.1", b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
    ("a folded field", "§5.2", b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n"),
    ("a line without a colon", "§5", b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n"),
    ("a NUL in a value", "9110 §5.5", b"HTTP/1.1 200 OK\r\nX: y\0z\r\nContent-Length: 0\r\n\r\n"),
    ("a control character in a value", "9110 §5.5", b"HTTP/1.1 200 OK\r\nX: y\x01z\r\nContent-Length: 0\r\n\r\n"),
    ("a bare CR in a value", "§2.2", b"HTTP/1.1 200 OK\r\nX: y\rSet-Cookie: z\r\nContent-Length: 0\r\n\r\n"),
    ("a bare LF after the status line", "§2.2", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ("a bare LF after a field", "§2.2", b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n"),
    ("a bare LF after the last field", "§2.2", b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n"),
    ("a bare LF after a head", "§2.2", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n"),
    ("an empty line before a head", "§2.2", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a bare CR in the reason", "§2.2", b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"),
];

/// Answers that end within their body: when closed, when reset.
const CUT: &[(&str, &str, &str, &[u8])] = &[
    (
        "closed at the body's first byte",
        "reset at the body's first byte",
        "§8",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
    ),
    (
        "closed within a body",
        "reset within a body",
        "§8",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
    ),
    (
        "closed before the first chunk",
        "reset before the first chunk",
        "§8",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "closed within a chunk's size",
        "reset within a chunk's size",
        "§8",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1",
    ),
    (
        "closed within a chunk",
        "reset within a chunk",
        "§8",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ),
    (
        "closed between two chunks",
        "reset between two chunks",
        "§8",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ),
    (
        "closed after the last chunk's size",
        "reset after the last chunk's size",
        "§8",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ),
    (
        "a chunk whose size is no number, closed",
        "a chunk whose size is no number, reset",
        "§7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
    ),
    (
        "a chunk longer than its size, closed",
        "a chunk longer than its size, reset",
        "§7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
    ),
];

/// Answers that end before their body: when closed, when reset.
const EARLY: &[(&str, &str, &[u8])] = &[
    ("closed instead of an answer", "reset instead of an answer", b""),
    ("closed within the status line", "reset within the status line", b"HTTP/1.1 20"),
    ("closed after the status line", "reset after the status line", b"HTTP/1.1 200 OK\r\n"),
    ("closed within a field", "reset within a field", b"HTTP/1.1 200 OK\r\nContent-Length: 1"),
    (
        "closed before the empty line",
        "reset before the empty line",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
    ),
    (
        "closed after an interim answer",
        "reset after an interim answer",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    ),
];

fn long() -> Vec<Row> {
    let field = |value: usize| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(value));
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(2_000));
    let failed = |name, answer: String| {
        Row::answer(name, "9110 §5.4", Answer::Keep(answer.into_bytes()), Want::Failed(&[502]))
    };
    vec![
        failed("an answer's field of 1 MB", field(1_000_000)),
        failed("an answer with 2,000 fields", fields),
        failed("a status line of 1 MB", format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(1_000_000))),
    ]
}

/// Answers whose body ends with the connection. A reset is no such end, and a client for whom it would be
/// its own must see that.
fn until_the_end() -> Vec<Row> {
    let broken = || Answer::Reset(b"HTTP/1.1 200 OK\r\n\r\nhalf".to_vec());
    let old = Row::answer(
        "reset within a body that ends with the connection, to HTTP/1.0",
        "§8",
        broken(),
        Want::Cut,
    );
    vec![
        Row::answer("reset within a body that ends with the connection", "§8", broken(), Want::Cut),
        Row {
            request: b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody".to_vec(),
            ..old
        },
    ]
}
