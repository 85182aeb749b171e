//! What a proxy must pass on, change and leave out. Sections are those of RFC 9110 unless another
//! one is named.

use crate::{
    backend::Answer,
    row::{
        Check::{
            self, Body, BodyOf, ClientBodies, ClientBody, ClientHas, ClientLacks, ClientTrailer,
            ClientTrailerLacks, ClientValues, Contains, Has, Interim, InterimHas, InterimLacks,
            Lacks, Line, Messages, Trailer, TrailerLacks, Values,
        },
        OK, Row, Want,
    },
};

/// All of them.
#[must_use]
pub fn rows() -> Vec<Row> {
    [heads(), last_hops(), framings(), answers(), expectations(), connections()].concat()
}

fn row(name: &'static str, rfc: &'static str, request: &'static str, checks: Vec<Check>) -> Row {
    Row::request(name, rfc, request, Want::Served(&[200], checks))
}

/// A GET that is answered like this.
fn answered(
    name: &'static str,
    rfc: &'static str,
    answer: &'static str,
    status: &'static [u16],
    checks: Vec<Check>,
) -> Row {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, te\r\n\r\n";
    let row = Row::request(name, rfc, request, Want::Served(status, checks));
    Row { answer: Answer::Keep(answer.as_bytes().to_vec()), ..row }
}

fn heads() -> Vec<Row> {
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

fn last_hops() -> Vec<Row> {
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

/// Bodies that wait to be asked for (§10.1.1).
fn expectations() -> Vec<Row> {
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

fn framings() -> Vec<Row> {
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

fn answers() -> Vec<Row> {
    vec![
        answered(
            "an answer loses the fields of its connection",
            "§7.6.1",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
             Connection: keep-alive, x-hop\r\nX-End: 2\r\n\r\nok",
            &[200],
            vec![ClientLacks("keep-alive"), ClientLacks("x-hop"), ClientHas("x-end", "2")],
        ),
        answered(
            "an answer that asks for another protocol says for which",
            "§15.5.22",
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Content-Length: 0\r\n\r\n",
            &[426],
            vec![ClientHas("upgrade", "websocket")],
        ),
        answered(
            "an answer's chunks are passed on",
            "9112 §7.1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no \r\n1\r\nk\r\n0\r\n\r\n",
            &[200],
            vec![ClientBody(b"o k")],
        ),
        answered(
            "an answer's trailers are passed on",
            "§6.5",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
            &[200],
            vec![ClientBody(b"ok"), ClientTrailer("x-sum", "7")],
        ),
        answered(
            "an answer's trailers that were not announced are passed on",
            "§6.6.2",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
            &[200],
            vec![ClientBody(b"ok"), ClientTrailer("x-sum", "7")],
        ),
        Row {
            answer: Answer::Keep(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                  2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
                    .to_vec(),
            ),
            ..Row::request(
                "a client that did not ask for trailers is not promised any",
                "§10.1.4",
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                Want::Served(
                    &[200],
                    vec![ClientBody(b"ok"), ClientLacks("trailer"), ClientTrailerLacks("x-sum")],
                ),
            )
        },
        answered(
            "an answer's trailer cannot frame it or set a cookie",
            "§6.5.1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
             Trailer: content-length, transfer-encoding, set-cookie\r\n\r\n2\r\nok\r\n0\r\n\
             Content-Length: 9\r\nTransfer-Encoding: x\r\nSet-Cookie: a=1\r\n\r\n",
            &[200],
            vec![
                ClientBody(b"ok"),
                ClientTrailerLacks("content-length"),
                ClientTrailerLacks("transfer-encoding"),
                ClientTrailerLacks("set-cookie"),
            ],
        ),
        answered(
            "204 has no body and no length",
            "§8.6",
            "HTTP/1.1 204 No Content\r\nX: y\r\nContent-Length: 5\r\n\r\n",
            &[204],
            vec![
                ClientHas("x", "y"),
                ClientLacks("content-length"),
                ClientLacks("transfer-encoding"),
            ],
        ),
        answered(
            "304 has no body, whatever its length",
            "§8.6",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"a\"\r\n\r\n",
            &[304],
            vec![ClientBody(b""), ClientHas("etag", "\"a\"")],
        ),
        Row {
            answer: Answer::Keep(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec()),
            ..Row::request(
                "HEAD keeps the length of what it stands for",
                "§8.6",
                "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                Want::Served(&[200], vec![ClientHas("content-length", "1000"), ClientBody(b"")]),
            )
        },
        answered(
            "a status that nobody knows is passed on",
            "§15",
            "HTTP/1.1 299 Whatever\r\nContent-Length: 2\r\n\r\nok",
            &[299],
            vec![ClientBody(b"ok")],
        ),
        answered(
            "an answer after interim ones is the answer",
            "§15.2",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            &[200],
            vec![ClientBody(b"ok"), ClientLacks("link")],
        ),
        answered(
            "interim answers are passed on, without the fields of their connection",
            "§15.2",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Hop: 1\r\nConnection: x-hop\r\n\r\n\
             HTTP/1.1 102 Processing\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            &[200],
            vec![
                Interim(&[103, 102]),
                InterimHas("link", "</a>"),
                InterimLacks("x-hop"),
                InterimLacks("connection"),
                ClientBody(b"ok"),
            ],
        ),
        Row {
            answer: Answer::Keep(
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                    .to_vec(),
            ),
            ..Row::request(
                "a client of HTTP/1.0 gets no interim answers",
                "§15.2",
                "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
                Want::Served(&[200], vec![Interim(&[]), ClientBody(b"ok")]),
            )
        },
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
            "lines of a field of an answer keep their order",
            "§5.3",
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 2\r\nSet-Cookie: b=2\r\n\r\nok",
            &[200],
            vec![ClientValues("set-cookie", &["a=1", "b=2"])],
        ),
        answered(
            "an answer with a coding is not decoded",
            "§7.7",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
            &[200],
            vec![ClientBody(b"nope"), ClientHas("content-encoding", "gzip")],
        ),
    ]
}

fn connections() -> Vec<Row> {
    let two = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
               GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let bodies = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                  5\r\nhello\r\n0\r\n\r\n\
                  POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nworld\
                  GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    vec![
        Row {
            answer: Answer::Echo,
            ..Row::request(
                "requests sent at once are answered in order",
                "9112 §9.3.2",
                two,
                Want::Served(&[200, 200], vec![Messages(2), ClientBodies(&[b"/1", b"/2"])]),
            )
        },
        Row::request(
            "bodies sent at once are told apart",
            "9112 §9.3.2",
            bodies,
            Want::Served(
                &[200, 200, 200],
                vec![
                    Messages(3),
                    BodyOf("/1", b"hello"),
                    BodyOf("/2", b"world"),
                    BodyOf("/3", b""),
                ],
            ),
        ),
        Row::request(
            "a client of HTTP/1.0 gets no chunks",
            "9112 §6.1",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            Want::Served(
                &[200],
                vec![
                    ClientBody(OK.last_chunk::<2>().unwrap_or(b"??")),
                    ClientLacks("transfer-encoding"),
                ],
            ),
        ),
        Row {
            answer: Answer::Keep(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                    .to_vec(),
            ),
            ..Row::request(
                "a client of HTTP/1.0 gets the chunks' bytes",
                "9112 §7.1",
                "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
                Want::Served(&[200], vec![ClientBody(b"ok"), ClientLacks("transfer-encoding")]),
            )
        },
    ]
}
