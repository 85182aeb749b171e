//! Random requests, good ones and some that are not quite, through a real proxy: what a backend gets
//! is one message, equal to what was sent, or nothing.
//!
//! A failure prints the seed of its case; `EVENKEEL_SEED=<seed>` runs that one alone.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

#[path = "../common/mod.rs"]
mod common;
mod http1;
mod http2;

use std::time::Duration;

use common::Proxy;
use evenkeel_conformance::{
    backend::{Answer, Backend},
    message::Message,
    row::OK,
};
use fastrand::Rng;

/// As many as take a few seconds.
const CASES: u64 = 1_000;

/// How long a client waits for more when it may have sent half a request.
const PATIENCE_WITH_ODD: Duration = Duration::from_millis(150);

/// The first seed of a run: the same in each, so that a failure is not of one machine only.
const FIRST_SEED: u64 = 0x0e7e_6be1;

const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW", "get"];
const TARGETS: &[&str] = &[
    "/",
    "/a/b",
    "/a?b=c",
    "//x",
    "/%00",
    "/%2e%2e/",
    "/a;b,c",
    "/?",
    "/?a=%0d%0aX:+y",
    "/~'()[]",
];
const NAMES: &[&str] = &["x-one", "Accept", "Cookie", "X_Two", "x.three", "If-Match", "Range"];
const VALUES: &[&str] = &["", "1", "a b", "a, b", "\"q\"", "\u{e9}", "a\tb", ":", "chunked", "5"];

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(..from.len())]
}

type Essence = (String, Vec<(String, Vec<u8>)>, Vec<u8>);

/// What both ends must agree on: the request line, the fields that go from end to end, the body.
fn essence(message: &Message) -> Essence {
    let named: Vec<String> = message
        .values("connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
        .collect();
    // What a proxy sets or takes out by itself, or may write in another way.
    let own = [
        "connection",
        "content-length",
        "transfer-encoding",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-request-id",
        "forwarded",
        "x-real-ip",
        "via",
        "keep-alive",
        "te",
        "upgrade",
        "expect",
        "proxy-connection",
        "http2-settings",
    ];
    let is_end_to_end = |field: &&(String, Vec<u8>)| {
        field.0 == "host" || !own.contains(&field.0.as_str()) && !named.contains(&field.0)
    };
    let mut fields: Vec<_> = message.fields.iter().filter(is_end_to_end).cloned().collect();
    if message.start.ends_with("HTTP/1.0") && !message.has("host") {
        // What the proxy names to a backend, which needs a host, for a client that names none.
        fields.push(("host".to_owned(), b"localhost".to_vec()));
    }
    // Fields of different names have no order among them.
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    let start = message.start.replace("HTTP/1.0", "HTTP/1.1");
    (start, fields, message.body.clone())
}

fn shown(messages: &[Essence]) -> String {
    let field =
        |field: &(String, Vec<u8>)| format!("{}: {:?}", field.0, String::from_utf8_lossy(&field.1));
    let one = |(start, fields, body): &Essence| {
        let fields: Vec<String> = fields.iter().map(field).collect();
        format!("\n  {start} {fields:?} {:?}", String::from_utf8_lossy(body))
    };
    messages.iter().map(one).collect()
}

/// The case that a message belongs to.
fn case(message: &Message) -> Option<u64> {
    let host = String::from_utf8_lossy(message.values("host").next()?).into_owned();
    host.strip_suffix(".example:80")?.parse().ok()
}

/// Whether what the backend got is some of what was sent, or nothing. What an earlier case has left on
/// its way, whose client had gone, may still arrive.
fn is_equal(
    sent: &[Essence],
    is_sent: impl Fn(&[Essence]) -> bool,
    backend: &Backend,
    seed: u64,
) -> Result<(), String> {
    let seen = backend.seen();
    if let Some(why) = seen.iter().find_map(|seen| seen.invalid.clone()) {
        return Err(format!("the backend got something invalid: {why}"));
    }
    let is_earlier =
        |message: &&Message| case(message).is_some_and(|case| (FIRST_SEED..seed).contains(&case));
    let got = seen.iter().flat_map(|seen| &seen.messages).filter(|message| !is_earlier(message));
    let got: Vec<_> = got.map(essence).collect();
    if is_sent(&got) {
        return Ok(());
    }
    Err(format!("sent {}, got {}", shown(sent), shown(&got)))
}

/// Runs the cases of one kind of client.
fn run_all(run: fn(u64, &Proxy, &Backend) -> Result<bool, String>) {
    let backend = Backend::start().unwrap();
    let proxy = Proxy::over(&[backend.address], &[]);
    backend.answer_with(Answer::Keep(OK.to_vec()));
    let only = std::env::var("EVENKEEL_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = only.map_or(FIRST_SEED..FIRST_SEED + CASES, |seed| seed..seed + 1);
    let results = seeds.map(|seed| {
        run(seed, &proxy, &backend).unwrap_or_else(|why| panic!("EVENKEEL_SEED={seed}: {why}"))
    });
    let (served, refused): (Vec<bool>, Vec<bool>) = results.partition(|is_served| *is_served);
    let counts = (served.len() as u64, refused.len() as u64);
    // A fuzz that only ever sees one side of the proxy shows nothing.
    assert!(only.is_some() || (counts.0 > CASES / 2 && counts.1 > CASES / 20), "{counts:?}");
}

#[test]
fn what_a_backend_gets_is_what_was_sent_or_nothing() {
    run_all(http1::run);
}

#[test]
fn what_a_backend_gets_of_http_2_is_what_was_sent_or_nothing() {
    run_all(http2::run);
}
