//! Answers that are followed by something, and those that come before the request's body is read.

use crate::{
    backend::Answer,
    row::{Check, OK, Row, Want},
};

/// What another answer could begin with, for whoever gets it.
const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

/// Bytes after the answer's end.
pub(super) fn too_much() -> Vec<Row> {
    let row = |name, rfc, request: &[u8], answer, want| {
        let mut row = Row::answer(name, rfc, answer, want);
        if !request.is_empty() {
            row.request = request.to_vec();
        }
        row
    };
    let more = |answer: &[u8]| Answer::Keep([answer, POISON].concat());
    let late = |answer: &[u8]| Answer::Late(answer.to_vec(), POISON.to_vec());
    let held = |answer: &[u8]| Answer::Held(answer.to_vec(), POISON.to_vec());
    let head: &[u8] = b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let chunked: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let empty: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let no_content: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
    let with_length: &[u8] = b"HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n";
    let with_coding: &[u8] = b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n";
    let not_modified: &[u8] = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 40\r\n\r\n";
    let for_head: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n";
    vec![
        row("an answer after a body", "§9.2", b"", more(OK), Want::Clean(b"ok")),
        row("an answer after a chunked body", "§9.2", b"", more(chunked), Want::Clean(b"ok")),
        row("an answer after an empty body", "§9.2", b"", more(empty), Want::Clean(b"")),
        row("a body after 204", "9110 §15.3.5", b"", more(no_content), Want::Clean(b"")),
        row("a body after 304", "9110 §15.4.5", b"", more(not_modified), Want::Clean(b"")),
        row("a body after HEAD", "9110 §9.3.2", head, more(for_head), Want::Clean(b"")),
        row("an answer on an idle connection", "§9.2", b"", late(OK), Want::Clean(b"ok")),
        row("a body some time after 204", "9110 §15.3.5", b"", late(no_content), Want::Clean(b"")),
        row(
            "a body some time after 304",
            "9110 §15.4.5",
            b"",
            late(not_modified),
            Want::Clean(b""),
        ),
        row("a body some time after HEAD", "9110 §9.3.2", head, late(for_head), Want::Clean(b"")),
        row(
            "a length in 204, and its body later",
            "9110 §8.6",
            b"",
            held(with_length),
            Want::Clean(b""),
        ),
        row(
            "a coding in 204, and its body later",
            "§6.1",
            b"",
            held(with_coding),
            Want::Clean(b""),
        ),
        row(
            "a chunk after the last one",
            "§7.1",
            b"",
            Answer::Keep([chunked, b"2\r\nno\r\n0\r\n\r\n"].concat()),
            Want::Clean(b"ok"),
        ),
        row(
            "a body of another length than HEAD told",
            "9110 §9.3.2",
            head,
            Answer::Keep([for_head, b"short"].concat()),
            Want::Clean(b""),
        ),
    ]
}

/// Answers that come before the request's body is read.
pub(super) fn before_the_body() -> Vec<Row> {
    let request = || {
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\nConnection: close\r\n\r\n";
        [head.as_bytes(), &[b'x'; 400_000]].concat()
    };
    let row =
        |name, answer, want| Row { request: request(), ..Row::answer(name, "§9.3", answer, want) };
    let refused = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno".to_vec();
    let closing =
        b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    let request: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        request.len()
    );
    let held = Answer::Held(OK.to_vec(), POISON.to_vec());
    vec![
        row("an answer before the body", Answer::Early(refused), Want::Clean(b"no")),
        Row {
            request: head.into_bytes(),
            after_answer: request.to_vec(),
            ..row(
                "an answer before the body, which is taken for a request",
                held,
                Want::Clean(b"ok"),
            )
        },
        row(
            "an answer before the body, closed",
            Answer::EarlyClose(closing.to_vec()),
            Want::Clean(b"no"),
        ),
        row(
            "an answer and a second one before the body",
            Answer::Early([OK, POISON].concat()),
            Want::Clean(b"ok"),
        ),
        Row::request(
            "an answer to a chunked body that is not valid",
            "§7.1",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            Want::Served(&[400], vec![Check::Messages(0)]),
        ),
    ]
}
