//! The bodies of requests, and those that wait to be asked for.

use super::row;
use crate::{
    backend::Answer,
    row::{
        Check::{
            Body, ClientBody, ClientHas, Has, Interim, Lacks, Line, Messages, Trailer, TrailerLacks,
        },
        OK, Row, Want,
    },
};

pub(super) fn framings() -> Vec<Row> {
    vec![
        row(
            "a body with a length is passed on",
            "9112 §6.2",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            vec![Body(b"hello"), Lacks("transfer-encoding")],
        ),
        row(
            "a body of no bytes keeps its length",
            "§8.6",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            vec![Body(b""), Lacks("transfer-encoding"), Has("content-length", "0")],
        ),
        row(
            "a length with zeros before it is a length",
            "§8.6",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\nConnection: close\r\n\r\nhello",
            vec![Body(b"hello")],
        ),
        row(
            "a chunked body is passed on",
            "9112 §7.1",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
             5\r\nhello\r\n1;ext=\"a b\"\r\n!\r\n00\r\n\r\n",
            vec![Body(b"hello!")],
        ),
        row(
            "a coding is told without its letters' case",
            "9112 §7",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  CHUNKED \r\nConnection: close\r\n\r\n\
             A\r\n0123456789\r\n0\r\n\r\n",
            vec![Body(b"0123456789")],
        ),
        row(
            "a GET with a body keeps it",
            "§9.3.1",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
             3\r\nabc\r\n0\r\n\r\n",
            vec![Body(b"abc")],
        ),
        row(
            "a body with a coding is not decoded",
            "§7.7",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\
             Connection: close\r\n\r\nnope",
            vec![Body(b"nope"), Has("content-encoding", "gzip")],
        ),
        row(
            "trailers are passed on",
            "§6.5",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\
             Connection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
            vec![Body(b"abc"), Trailer("x-sum", "7")],
        ),
        row(
            "trailers that were not announced are passed on",
            "§6.6.2",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
            vec![Body(b"abc"), Trailer("x-sum", "7")],
        ),
        row(
            "a trailer cannot frame or route a message",
            "§6.5.1",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
             Trailer: content-length, host, transfer-encoding\r\nConnection: close\r\n\r\n\
             3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: b\r\nTransfer-Encoding: x\r\n\r\n",
            vec![
                Body(b"abc"),
                Has("host", "a"),
                TrailerLacks("content-length"),
                TrailerLacks("host"),
                TrailerLacks("transfer-encoding"),
            ],
        ),
        row(
            "a trailer cannot say who the client is",
            "§6.5.1",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
             Trailer: authorization, cookie, x-forwarded-for\r\nConnection: close\r\n\r\n\
             3\r\nabc\r\n0\r\nAuthorization: b\r\nCookie: b=1\r\nX-Forwarded-For: ::1\r\n\r\n",
            vec![
                Body(b"abc"),
                TrailerLacks("authorization"),
                TrailerLacks("cookie"),
                TrailerLacks("x-forwarded-for"),
            ],
        ),
    ]
}

/// Bodies that wait to be asked for (§10.1.1).
pub(super) fn expectations() -> Vec<Row> {
    let refused = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    let expecting = |name, answer, request: &str, want| Row {
        answer,
        ..Row::request(name, "§10.1.1", request, want)
    };
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n";
    let closing = format!("{post}Connection: close\r\n\r\nhello");
    let asked = || {
        let is_whole = [Interim(&[100]), Body(b"hello"), Has("expect", "100-continue")];
        Want::Served(&[200], is_whole.to_vec())
    };
    vec![
        expecting(
            "a body is asked for when the backend asks for it",
            Answer::Continue(OK.to_vec()),
            &closing,
            asked(),
        ),
        expecting(
            "a body is asked for when the backend has said nothing for some time",
            Answer::Keep(OK.to_vec()),
            &closing,
            asked(),
        ),
        expecting(
            "an answer before a body was asked for is passed on, and the body is not",
            Answer::Early(refused.to_vec()),
            &format!("{post}\r\n"),
            Want::Served(
                &[413],
                vec![
                    Messages(0),
                    Interim(&[]),
                    ClientHas("connection", "close"),
                    ClientBody(b"no"),
                ],
            ),
        ),
        expecting(
            "a body that came without being asked for is not taken for the next request",
            Answer::Early(refused.to_vec()),
            &format!("{post}\r\nhelloGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            Want::Served(&[413, 413], vec![Messages(1), Interim(&[]), Line("GET /2 HTTP/1.1")]),
        ),
        expecting(
            "an expectation without a body is passed on, and nothing waits",
            Answer::Continue(OK.to_vec()),
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            Want::Served(&[200], vec![Has("expect", "100-continue")]),
        ),
        expecting(
            "an expectation in HTTP/1.0 is none",
            Answer::Continue(OK.to_vec()),
            "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
            Want::Served(&[200], vec![Interim(&[]), Body(b"hello"), Lacks("expect")]),
        ),
    ]
}
