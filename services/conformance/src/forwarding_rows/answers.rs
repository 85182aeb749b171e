//! Answers.

use super::answered;
use crate::{
    backend::Answer,
    row::{
        Check::{
            ClientBody, ClientHas, ClientLacks, ClientTrailer, ClientTrailerLacks, ClientValues,
            Interim, InterimHas, InterimLacks,
        },
        Row, Want,
    },
};

pub(super) fn answers() -> Vec<Row> {
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
