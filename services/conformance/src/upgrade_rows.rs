//! Connections that change to another protocol, and those that do not. Sections are those of RFC 9110
//! unless another one is named.

mod not_changed;

use self::not_changed::{not_asked_for, not_taken_up};
use crate::{
    backend::Answer,
    peers::SWITCHING,
    row::{
        Check::{self, Body, ClientHas, ClientLacks, Has, Interim, Lacks},
        Client, Row, Want,
    },
    steps::Step::{self, End, Hear, HearEnd, Reset, Say},
};

/// All of them.
#[must_use]
pub fn rows() -> Vec<Row> {
    [heads(), directions(), websockets(), bodies(), not_taken_up(), not_asked_for()].concat()
}

const CHANGES: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

/// A request with these fields, and what comes after it.
fn asking(fields: &str, after: &str) -> String {
    format!("GET {SWITCHING} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{after}")
}

/// A request for the protocol x, and what comes after it.
fn for_x(after: &str) -> String {
    asking("Connection: upgrade\r\nUpgrade: x\r\n", after)
}

fn say(text: &str) -> Step {
    Say(text.into())
}

fn hear(text: &str) -> Step {
    Hear(text.into())
}

/// A request that is answered so, after which its client and its backend do this.
fn switched(
    name: &'static str,
    rfc: &'static str,
    [request, answer]: [&str; 2],
    [client, backend]: [Vec<Step>; 2],
    checks: Vec<Check>,
) -> Row {
    Row {
        client: Client::Switching(client),
        answer: Answer::Switch(answer.into(), backend),
        ..Row::request(name, rfc, request, Want::Switched(checks))
    }
}

/// Each says something, and each ends: the client first.
fn talk() -> [Vec<Step>; 2] {
    [vec![say("ping"), hear("pong"), End, HearEnd], vec![hear("ping"), say("pong"), HearEnd, End]]
}

fn heads() -> Vec<Row> {
    let row = |name, rfc, fields: &str, answer: &str, checks| {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{answer}\r\n");
        switched(name, rfc, [&asking(fields, ""), &answer], talk(), checks)
    };
    let hinted = format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{CHANGES}");
    vec![
        row(
            "another protocol is asked for and changed to",
            "§7.8",
            "Connection: upgrade\r\nUpgrade: x\r\nX-Asks: 1\r\n",
            "Connection: upgrade\r\nUpgrade: x\r\nX-Says: 2\r\n",
            vec![
                Has("connection", "upgrade"),
                Has("upgrade", "x"),
                Has("x-asks", "1"),
                ClientHas("connection", "upgrade"),
                ClientHas("upgrade", "x"),
                ClientHas("x-says", "2"),
                ClientLacks("content-length"),
                ClientLacks("transfer-encoding"),
            ],
        ),
        row(
            "one of several protocols is changed to",
            "§7.8",
            "Connection: upgrade\r\nUpgrade: x/2, Y\r\n",
            "Connection: upgrade\r\nUpgrade: y\r\n",
            vec![Has("upgrade", "x/2, Y"), ClientHas("upgrade", "y")],
        ),
        row(
            "other fields of the connection go no further",
            "§7.6.1",
            "Connection: upgrade, x-one\r\nUpgrade: x\r\nX-One: 1\r\nKeep-Alive: timeout=5\r\n",
            "Connection: upgrade, x-two\r\nUpgrade: x\r\nX-Two: 2\r\nKeep-Alive: timeout=5\r\n",
            vec![
                Lacks("x-one"),
                Lacks("keep-alive"),
                ClientLacks("x-two"),
                ClientLacks("keep-alive"),
            ],
        ),
        row(
            "the length of a body that another protocol has not goes no further",
            "§8.6",
            "Connection: upgrade\r\nUpgrade: x\r\n",
            "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 4\r\n",
            vec![ClientHas("upgrade", "x"), ClientLacks("content-length")],
        ),
        row(
            "nor does its coding",
            "9112 §6.1",
            "Connection: upgrade\r\nUpgrade: x\r\n",
            "Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n",
            vec![ClientHas("upgrade", "x"), ClientLacks("transfer-encoding")],
        ),
        switched(
            "an interim answer before another protocol is passed on",
            "§15.2",
            [&for_x(""), &hinted],
            talk(),
            vec![Interim(&[103]), ClientLacks("link")],
        ),
    ]
}

fn directions() -> Vec<Row> {
    let row = |name, request: &str, answer: &str, steps| {
        switched(name, "§7.8", [request, answer], steps, vec![])
    };
    let plain = |name, steps| row(name, &for_x(""), CHANGES, steps);
    let [client, backend] = talk();
    let after = |first: Step, steps: &[Step]| [&[first], steps].concat();
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let large = vec![b'x'; 1_000_000];
    let request = "GET /odd HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nodd";
    vec![
        row(
            "what a client says with its request arrives",
            &for_x("early"),
            CHANGES,
            [client.clone(), after(hear("early"), &backend)],
        ),
        row(
            "what a backend says with its answer arrives",
            &for_x(""),
            &format!("{CHANGES}hello"),
            [after(hear("hello"), &client), backend],
        ),
        plain(
            "what looks like HTTP is none any more",
            [
                vec![say(request), hear(answer), End, HearEnd],
                vec![hear(request), say(answer), HearEnd, End],
            ],
        ),
        plain(
            "all bytes are passed on as they are",
            [
                vec![Say(bytes.clone()), Hear(bytes.clone()), End, HearEnd],
                vec![Hear(bytes.clone()), Say(bytes), HearEnd, End],
            ],
        ),
        plain(
            "a direction that its client ends leaves the other one open",
            [
                vec![say("last words"), End, hear("an answer to them"), HearEnd],
                vec![hear("last words"), HearEnd, say("an answer to "), say("them"), End],
            ],
        ),
        plain(
            "a direction that its backend ends leaves the other one open",
            [
                vec![hear("last words"), HearEnd, Say(large.clone()), End],
                vec![say("last words"), End, Hear(large), HearEnd],
            ],
        ),
        plain(
            "a backend that breaks off ends it for its client",
            [
                vec![say("ping"), hear("pong"), say("ping"), HearEnd],
                vec![hear("ping"), say("pong"), hear("ping"), Reset],
            ],
        ),
    ]
}

/// RFC 6455: frames of a client are masked, and here by zeros (§5.3).
fn websockets() -> Vec<Row> {
    let asks = "Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answers = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let frame = |head: &[u8], text: &[u8]| [head, text].concat();
    // 4001 and why, of the client; 1000 without a word, of the backend.
    let leaves = frame(b"\x88\x85\0\0\0\0", b"\x0f\xa1bye");
    let text = frame(b"\x81\x82\0\0\0\0", b"hi");
    let ends = frame(b"\x88\x02", b"\x03\xe8");
    let row = |name, rfc, steps| {
        let checks = vec![
            Has("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            Has("sec-websocket-version", "13"),
            ClientHas("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        switched(name, rfc, [&asking(asks, ""), answers], steps, checks)
    };
    vec![
        row(
            "a WebSocket's close codes are passed on both ways",
            "6455 §7.1.5",
            [
                vec![Say(text.clone()), Say(leaves.clone()), Hear(ends.clone()), HearEnd, End],
                vec![Hear(text), Hear(leaves), Say(ends), End, HearEnd],
            ],
        ),
        row(
            "a WebSocket whose backend says no good-bye is given none",
            "6455 §7.1.5",
            [vec![HearEnd, End], vec![End, HearEnd]],
        ),
        row(
            "a WebSocket whose client says no good-bye is given none",
            "6455 §7.1.5",
            [vec![End, HearEnd], vec![HearEnd, End]],
        ),
    ]
}

fn bodies() -> Vec<Row> {
    let row = |name, framed: &str| {
        let request = format!(
            "POST {SWITCHING} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n{framed}"
        );
        switched(name, "§7.8", [&request, CHANGES], talk(), vec![Body(b"hello")])
    };
    let [client, backend] = talk();
    let after = switched(
        "what a client says after its body arrives after it",
        "§7.8",
        [
            &format!(
                "POST {SWITCHING} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\
                 Content-Length: 5\r\n\r\nhelloearly"
            ),
            CHANGES,
        ],
        [client, [&[hear("early")], &backend[..]].concat()],
        vec![Body(b"hello")],
    );
    vec![
        row("a body with a length comes before another protocol", "Content-Length: 5\r\n\r\nhello"),
        row(
            "a chunked body comes before another protocol",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        after,
    ]
}
