//! Requests for another protocol that go on in this one, and backends that change to one all the same.

use super::{asking, for_x};
use crate::{
    backend::Answer,
    peers::SWITCHING,
    row::{
        Check::{ClientBody, ClientHas, ClientLacks, Has, Lacks, Line, Messages},
        OK, Row, Want,
    },
};

/// Requests for another protocol that their backend answers in this one.
pub(super) fn not_taken_up() -> Vec<Row> {
    let asks = asking("Connection: close, upgrade\r\nUpgrade: x\r\n", "");
    let with_more = for_x("GET /odd HTTP/1.1\r\nHost: a\r\n\r\n");
    let row = |name, request: &str, answer: &[u8], status, checks| Row {
        answer: Answer::Keep(answer.to_vec()),
        ..Row::request(name, "§7.8", request, Want::Served(status, checks))
    };
    let forbids = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let requires = b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: y\r\n\
                     Content-Length: 2\r\n\r\nno";
    let requires_two = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: y\r\nConnection: upgrade\r\n\
                         Upgrade: z\r\nContent-Length: 2\r\n\r\nno";
    vec![
        row(
            "another protocol may be passed over",
            &asks,
            OK,
            &[200],
            vec![Has("upgrade", "x"), ClientBody(b"ok"), ClientLacks("upgrade")],
        ),
        row("another protocol may be refused", &asks, forbids, &[403], vec![ClientBody(b"no")]),
        row(
            "another protocol may be refused for a third one",
            &asks,
            requires,
            &[426],
            vec![ClientHas("upgrade", "y"), ClientBody(b"no")],
        ),
        Row {
            rfc: "§5.3",
            ..row(
                "another protocol may be refused for two others, on two lines",
                &asks,
                requires_two,
                &[426],
                vec![ClientHas("upgrade", "y, z"), ClientBody(b"no")],
            )
        },
        row(
            "bytes after a request for another protocol that is refused are no request",
            &with_more,
            requires,
            &[426],
            vec![Messages(1), Line("GET /switching HTTP/1.1")],
        ),
    ]
}

/// What is no request for another protocol, and backends that change to one all the same.
pub(super) fn not_asked_for() -> Vec<Row> {
    let old =
        format!("GET {SWITCHING} HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let unnamed = asking("Connection: close\r\nUpgrade: x\r\n", "");
    let named = asking("Connection: close, upgrade\r\nUpgrade: x\r\n", "");
    let h2c = asking("Connection: close, upgrade\r\nUpgrade: h2c\r\n", "");
    let nothing = asking("Connection: close\r\n", "");
    let passed_over = |name, rfc, request: &str| {
        Row::request(name, rfc, request, Want::Served(&[200], vec![Lacks("upgrade")]))
    };
    let changed = |name, request: &str, protocol: &str| {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{protocol}\r\n");
        Row {
            answer: Answer::Keep(answer.into_bytes()),
            ..Row::request(name, "§15.2.2", request, Want::Failed(&[502]))
        }
    };
    let to_x = "Connection: upgrade\r\nUpgrade: x\r\n";
    let to_y = "Connection: upgrade\r\nUpgrade: y\r\n";
    let to_both = "Connection: upgrade\r\nUpgrade: x, y\r\n";
    vec![
        passed_over("another protocol in HTTP/1.0 is none", "§7.8", &old),
        passed_over("another protocol that Connection does not name is none", "§7.8", &unnamed),
        passed_over("HTTP/2 is no protocol to change to", "9113 §3.1", &h2c),
        changed("a protocol that nobody asked for", &nothing, to_x),
        changed("a protocol that HTTP/1.0 cannot ask for", &old, to_x),
        changed("a protocol that Connection did not name", &unnamed, to_x),
        changed("another protocol than was asked for", &named, to_y),
        changed("another protocol beside the one that was asked for", &named, to_both),
        changed("a protocol that nobody names", &named, "Connection: upgrade\r\n"),
    ]
}
