//! What the answers of a backend of HTTP/1 become, and those that come before a request's end.

use super::{data, get, last_data, post, request, served};
use crate::{
    backend::Answer,
    backend_rows,
    row::{
        ASKED,
        Check::{
            self, Body, ClientBody, ClientHas, ClientLacks, ClientTrailer, ClientTrailerLacks,
            ClientValues, Has, Interim, InterimHas, InterimLacks, Lacks, Messages,
        },
        Client, OK, Row, Want,
    },
};

/// A GET that is answered like this.
fn answered(
    name: &'static str,
    rfc: &'static str,
    answer: &'static str,
    status: &'static [u16],
    checks: Vec<Check>,
) -> Row {
    let row = Row::http2(name, rfc, get(&[("te", "trailers")]), Want::Served(status, checks));
    Row { answer: Answer::Keep(answer.as_bytes().to_vec()), ..row }
}

/// A HEAD that is answered like this.
fn for_head(
    name: &'static str,
    rfc: &'static str,
    answer: &'static str,
    status: &'static [u16],
    checks: Vec<Check>,
) -> Row {
    let head = [(":method", "HEAD"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    Row { request: request(&head), ..answered(name, rfc, answer, status, checks) }
}

pub(super) fn answers() -> Vec<Row> {
    [fields(), bodies(), empty(), interim()].concat()
}

fn fields() -> Vec<Row> {
    vec![
        answered(
            "an answer loses the fields of its connection",
            "§8.2.2",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
             Connection: keep-alive, x-hop\r\nProxy-Connection: close\r\nX-End: 2\r\n\r\nok",
            &[200],
            vec![ClientLacks("x-hop"), ClientHas("x-end", "2")],
        ),
        answered(
            "an answer that asks for another protocol names none",
            "§8.2.2",
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Content-Length: 2\r\n\r\nws",
            &[426],
            vec![ClientBody(b"ws")],
        ),
        answered(
            "lines of a field of an answer keep their order",
            "9110 §5.3",
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 2\r\nSet-Cookie: b=2\r\n\r\nok",
            &[200],
            vec![ClientValues("set-cookie", &["a=1", "b=2"])],
        ),
        answered(
            "an answer with a coding is not decoded",
            "9110 §7.7",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
            &[200],
            vec![ClientBody(b"nope"), ClientHas("content-encoding", "gzip")],
        ),
        answered(
            "a status that nobody knows is passed on",
            "9110 §15",
            "HTTP/1.1 299 Whatever\r\nContent-Length: 2\r\n\r\nok",
            &[299],
            vec![ClientBody(b"ok")],
        ),
    ]
}

fn bodies() -> Vec<Row> {
    vec![
        answered(
            "an answer's length is kept",
            "9110 §8.6",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            &[200],
            vec![ClientBody(b"ok"), ClientHas("content-length", "2")],
        ),
        answered(
            "an answer's chunks are its bytes",
            "§8.1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no \r\n1;a\r\nk\r\n0\r\n\r\n",
            &[200],
            vec![ClientBody(b"o k")],
        ),
        Row {
            answer: Answer::Close(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()),
            ..answered(
                "an answer that ends with its connection is whole",
                "9112 §6.3",
                "",
                &[200],
                vec![ClientBody(b"until the end")],
            )
        },
        answered(
            "an answer's trailers are passed on",
            "§8.1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
            &[200],
            vec![ClientBody(b"ok"), ClientTrailer("x-sum", "7")],
        ),
        answered(
            "an answer's trailers that were not announced are passed on",
            "9110 §6.6.2",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
            &[200],
            vec![ClientBody(b"ok"), ClientTrailer("x-sum", "7")],
        ),
        answered(
            "an answer's trailer cannot frame it or set a cookie",
            "9110 §6.5.1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
             Trailer: content-length, transfer-encoding, set-cookie, x-sum\r\n\r\n2\r\nok\r\n0\r\n\
             Content-Length: 9\r\nTransfer-Encoding: x\r\nSet-Cookie: a=1\r\nX-Sum: 7\r\n\r\n",
            &[200],
            vec![
                ClientBody(b"ok"),
                ClientTrailerLacks("content-length"),
                ClientTrailerLacks("set-cookie"),
                ClientTrailer("x-sum", "7"),
            ],
        ),
    ]
}

fn empty() -> Vec<Row> {
    vec![
        answered(
            "204 has no body and no length",
            "9110 §8.6",
            "HTTP/1.1 204 No Content\r\nX: y\r\nContent-Length: 5\r\n\r\n",
            &[204],
            vec![ClientHas("x", "y"), ClientLacks("content-length"), ClientBody(b"")],
        ),
        answered(
            "304 has no body, whatever its length",
            "9110 §8.6",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"a\"\r\n\r\n",
            &[304],
            vec![ClientBody(b""), ClientHas("etag", "\"a\"")],
        ),
        for_head(
            "HEAD keeps the length of what it stands for",
            "9110 §8.6",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            &[200],
            vec![ClientHas("content-length", "1000"), ClientBody(b"")],
        ),
        for_head(
            "HEAD that stands for chunks has none",
            "9110 §9.3.2",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            &[200],
            vec![ClientLacks("content-length"), ClientBody(b"")],
        ),
        for_head(
            "HEAD that is answered 204 has no length either",
            "9110 §8.6",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            &[204],
            vec![ClientLacks("content-length")],
        ),
    ]
}

fn interim() -> Vec<Row> {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    vec![
        answered(
            "interim answers are passed on, without the fields of their connection",
            "9110 §15.2",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Hop: 1\r\nConnection: x-hop\r\n\r\n\
             HTTP/1.1 102 Processing\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            &[200],
            vec![
                Interim(&[103, 102]),
                InterimHas("link", "</a>"),
                InterimLacks("x-hop"),
                ClientBody(b"ok"),
                ClientLacks("link"),
            ],
        ),
        Row {
            want: Want::Failed(&[502]),
            ..answered("another protocol, which HTTP/2 has none of", "§8.6", switching, &[], vec![])
        },
    ]
}

/// Bodies that wait to be asked for, and answers that come before they have come to their end.
pub(super) fn expectations() -> Vec<Row> {
    let refused = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    let expecting = post(&[("expect", "100-continue")]);
    let asking = |name, checks| Row {
        after_answer: last_data("hello"),
        ..served(name, "9110 §10.1.1", &expecting, checks)
    };
    let early = |name, rfc, request, checks| Row {
        answer: Answer::Early(refused.to_vec()),
        ..Row::http2(name, rfc, request, Want::Served(&[413], checks))
    };
    vec![
        Row {
            answer: Answer::Continue(OK.to_vec()),
            ..asking(
                "a body is asked for when the backend asks for it",
                vec![Interim(&[100]), Body(b"hello")],
            )
        },
        asking(
            "a body is asked for when the backend has said nothing for some time",
            vec![Interim(&[100]), Body(b"hello"), Lacks("content-length")],
        ),
        Row {
            request: post(&[("expect", ""), ("expect", ", 100-continue")]),
            ..asking(
                "a body is asked for by an expectation in a list, on another line",
                vec![Interim(&[100]), Body(b"hello")],
            )
        },
        served(
            "an expectation without a body asks for nothing",
            "9110 §10.1.1",
            get(&[("expect", "100-continue")]),
            vec![Has("host", "a")],
        ),
        early(
            "an answer before a body was asked for is passed on",
            "9110 §10.1.1",
            expecting.clone(),
            vec![Messages(0), ClientBody(b"no")],
        ),
        early(
            "an answer before a body's end is passed on",
            "§8.1",
            [post(&[]), data("hello")].concat(),
            vec![Messages(0), ClientBody(b"no")],
        ),
    ]
}

/// The rows of backends that break off within a body, for clients of HTTP/2.
pub(super) fn cut() -> Vec<Row> {
    let asked = [post(&[("content-length", "4")]), last_data("body")].concat();
    let cut = backend_rows::rows().into_iter().filter(|row| matches!(row.want, Want::Cut));
    let of_http1_1 = cut.filter(|row| row.request == ASKED);
    of_http1_1.map(|row| Row { client: Client::Http2, request: asked.clone(), ..row }).collect()
}
