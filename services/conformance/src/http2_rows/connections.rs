//! Frames that say something of the whole connection: those that it cannot go on after, and those that
//! it can.

use super::{GET, data, get, in_pieces, last_data, post, request, served};
use crate::{
    http2::frames::{
        self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING,
        PRIORITY, PRIORITY_FRAME, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
    },
    row::{Check, Row, Want},
};

type Codes = &'static [&'static str];

const PROTOCOL: Codes = &["PROTOCOL_ERROR"];
const SIZE: Codes = &["FRAME_SIZE_ERROR"];
const FLOW: Codes = &["FLOW_CONTROL_ERROR"];

// Of frames that it cannot read the library says no more than that; the connection ends all the same.
const PROTOCOL_OR_SIZE: Codes = &["FRAME_SIZE_ERROR", "PROTOCOL_ERROR"];
const PROTOCOL_OR_FLOW: Codes = &["FLOW_CONTROL_ERROR", "PROTOCOL_ERROR"];
const PROTOCOL_OR_COMPRESSION: Codes = &["COMPRESSION_ERROR", "PROTOCOL_ERROR"];

/// The most that a frame may have where nothing else was said (§4.2), and one byte more.
const TOO_LARGE: usize = 16_385;

/// A setting (§6.5.1).
fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// A head that has no end yet.
fn begun() -> Vec<u8> {
    frame(HEADERS, END_STREAM, 1, &frames::block(&GET))
}

fn row(name: &'static str, rfc: &'static str, frames: Vec<Vec<u8>>, codes: Codes) -> Row {
    Row::http2(name, rfc, frames.concat(), Want::Ended(codes))
}

pub(super) fn ended() -> Vec<Row> {
    [heads(), others()].concat()
}

fn heads() -> Vec<Row> {
    let block = frames::block(&GET);
    vec![
        row("a head of no stream", "§6.2", vec![frames::head(END_STREAM, 0, &block)], PROTOCOL),
        row(
            "a head of a server's stream",
            "§5.1.1",
            vec![frames::head(END_STREAM, 2, &block)],
            PROTOCOL,
        ),
        row("a frame within a head", "§6.10", vec![begun(), frame(PING, 0, 0, &[0; 8])], PROTOCOL),
        row(
            "another head within a head",
            "§6.10",
            vec![begun(), frames::head(END_STREAM, 3, &block)],
            PROTOCOL,
        ),
        row(
            "an unknown frame within a head",
            "§5.5",
            vec![begun(), frame(0xee, 0, 1, b"")],
            PROTOCOL,
        ),
        row(
            "a continuation of another stream's head",
            "§6.10",
            vec![begun(), frame(CONTINUATION, END_HEADERS, 3, b"")],
            PROTOCOL,
        ),
        row(
            "a continuation of nothing",
            "§6.10",
            vec![frame(CONTINUATION, END_HEADERS, 1, &block)],
            PROTOCOL,
        ),
        row(
            "a head with more padding than there is",
            "§6.2",
            vec![frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\x09\x82\x86")],
            PROTOCOL,
        ),
        row(
            "a field that nobody has said",
            "§4.3",
            vec![frames::head(END_STREAM, 1, b"\xbe")],
            PROTOCOL_OR_COMPRESSION,
        ),
        row(
            "a field number 0",
            "7541 §6.1",
            vec![frames::head(END_STREAM, 1, b"\x80")],
            PROTOCOL_OR_COMPRESSION,
        ),
        row(
            "a field that is cut",
            "§4.3",
            vec![frames::head(END_STREAM, 1, b"\x00\x05ab")],
            PROTOCOL_OR_COMPRESSION,
        ),
        row(
            "a request from a client as from a server",
            "§8.4",
            vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[b"\0\0\0\x02", &block[..]].concat())],
            PROTOCOL,
        ),
        row(
            "a head that is too large for a frame",
            "§4.2",
            vec![frames::head(END_STREAM, 1, &[0; TOO_LARGE])],
            SIZE,
        ),
    ]
}

fn others() -> Vec<Row> {
    vec![
        row("a body of no stream", "§6.1", vec![frame(DATA, END_STREAM, 0, b"x")], PROTOCOL),
        row("a body before its head", "§5.1", vec![frame(DATA, END_STREAM, 1, b"x")], PROTOCOL),
        row("a reset of no stream", "§6.4", vec![frame(RST_STREAM, 0, 0, &[0; 4])], PROTOCOL),
        row("a reset before its head", "§5.1", vec![frame(RST_STREAM, 0, 1, &[0; 4])], PROTOCOL),
        row(
            "a reset of three bytes",
            "§6.4",
            vec![frame(RST_STREAM, 0, 1, &[0; 3])],
            PROTOCOL_OR_SIZE,
        ),
        row("settings of a stream", "§6.5", vec![frame(SETTINGS, 0, 1, &[])], PROTOCOL),
        row(
            "settings of five bytes",
            "§6.5",
            vec![frame(SETTINGS, 0, 0, &[0; 5])],
            PROTOCOL_OR_SIZE,
        ),
        row(
            "an answer to settings with something in it",
            "§6.5",
            vec![frame(SETTINGS, ACK, 0, &[0; 6])],
            PROTOCOL_OR_SIZE,
        ),
        row("pushes that are allowed twice", "§6.5.2", vec![setting(2, 2)], PROTOCOL),
        row("a window that is too large", "§6.5.2", vec![setting(4, 1 << 31)], PROTOCOL_OR_FLOW),
        row("frames that are too small", "§6.5.2", vec![setting(5, 16_383)], PROTOCOL),
        row("a ping of a stream", "§6.7", vec![frame(PING, 0, 1, &[0; 8])], PROTOCOL),
        row("a ping of seven bytes", "§6.7", vec![frame(PING, 0, 0, &[0; 7])], PROTOCOL_OR_SIZE),
        row("a GOAWAY of a stream", "§6.8", vec![frame(GOAWAY, 0, 1, &[0; 8])], PROTOCOL),
        row("no more room", "§6.9", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 4])], PROTOCOL),
        row(
            "more room in three bytes",
            "§6.9",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            PROTOCOL_OR_SIZE,
        ),
        row(
            "more room before its head",
            "§5.1",
            vec![frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])],
            PROTOCOL,
        ),
        row(
            "more room than there can be",
            "§6.9.1",
            vec![frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")],
            FLOW,
        ),
        row(
            "a ping that is too large for a frame",
            "§4.2",
            vec![frame(PING, 0, 0, &[0; TOO_LARGE])],
            SIZE,
        ),
    ]
}

/// What may be, or is no fault of anything else on the connection.
pub(super) fn going_on() -> Vec<Row> {
    let block = frames::block(&GET);
    let (first, rest) = block.split_at(block.len() / 2);
    let prioritized = [b"\x01\0\0\0\0\x0f", first, b"\0"].concat();
    let padded = |text: &[u8]| [b"\x03", text, b"\0\0\0"].concat();
    let hello = || vec![Check::Body(b"hello")];
    let asks = || vec![Check::Line("GET / HTTP/1.1"), Check::Has("host", "a")];
    let around = [frame(0xee, 0xff, 0, b"x"), get(&[]), frame(0xee, 0xff, 1, b"x")];
    let control = [setting(0xeeee, 7), frame(PING, 0, 0, &[0; 8]), get(&[])];
    vec![
        served("a frame that nobody knows is passed over", "§5.5", around.concat(), asks()),
        served("a setting that nobody knows is passed over", "§6.5.2", control.concat(), asks()),
        served(
            "a priority is passed over",
            "§5.3.2",
            [frame(PRIORITY_FRAME, 0, 1, b"\0\0\0\0\x0f"), get(&[])].concat(),
            asks(),
        ),
        served(
            "a head may come in two frames, cut within a field",
            "§4.3",
            [
                frame(HEADERS, END_STREAM | PADDED | PRIORITY, 1, &prioritized),
                frame(CONTINUATION, END_HEADERS, 1, rest),
            ]
            .concat(),
            asks(),
        ),
        served(
            "a head may come in many frames, of which the last one is empty",
            "§4.3",
            in_pieces(&block, 1),
            asks(),
        ),
        served(
            "a head may come in many frames, of which the first one is empty",
            "§4.3",
            frames::cut(END_STREAM, 1, &block, 1),
            asks(),
        ),
        served(
            "fields after a body may come in many frames",
            "§4.3",
            [
                post(&[("trailer", "x-sum")]),
                data("hello"),
                in_pieces(&frames::block(&[("x-sum", "7")]), 1),
            ]
            .concat(),
            vec![Check::Body(b"hello"), Check::Trailer("x-sum", "7")],
        ),
        served(
            "a body's parts may be padded",
            "§6.1",
            [
                post(&[]),
                frame(DATA, PADDED, 1, &padded(b"hel")),
                frame(DATA, PADDED | END_STREAM, 1, &padded(b"lo")),
            ]
            .concat(),
            hello(),
        ),
        served(
            "a body's parts may be empty",
            "§6.1",
            [post(&[]), data(""), data("hello"), last_data("")].concat(),
            hello(),
        ),
        Row::http2(
            "requests side by side are told apart",
            "§5.1.1",
            [
                post(&[]),
                data("hel"),
                frames::head(
                    END_STREAM,
                    3,
                    &frames::block(&[
                        (":method", "GET"),
                        (":scheme", "http"),
                        (":authority", "a"),
                        (":path", "/2"),
                    ]),
                ),
                last_data("lo"),
            ]
            .concat(),
            Want::Served(
                &[200, 200],
                vec![Check::Messages(2), Check::BodyOf("/", b"hello"), Check::BodyOf("/2", b"")],
            ),
        ),
        Row::http2(
            "a window of a stream that can get no larger",
            "§6.9.1",
            [post(&[]), frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), last_data("hello")]
                .concat(),
            Want::Broken,
        ),
        served(
            "fields may come in any order",
            "§8.3",
            request(&[
                (":path", "/"),
                (":authority", "a"),
                (":scheme", "http"),
                (":method", "GET"),
            ]),
            asks(),
        ),
    ]
}
