//! What a proxy must pass on, change and leave out. Sections are those of RFC 9110 unless another
//! one is named.

mod answers;
mod bodies;
mod heads;

use self::{
    answers::answers,
    bodies::{expectations, framings},
    heads::{heads, last_hops},
};
use crate::{
    backend::Answer,
    row::{
        Check::{self, BodyOf, ClientBodies, ClientBody, ClientLacks, Messages},
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
