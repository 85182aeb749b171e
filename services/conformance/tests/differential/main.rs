//! Random requests, good ones and some that are not quite, through a real proxy: what a backend gets
//! is one message, equal to what was sent, or nothing.
//!
//! A failure prints the seed of its case; `EVENKEEL_SEED=<seed>` runs that one alone.
//! `EVENKEEL_FRESH_SECONDS=<seconds>` runs others than each run does, those from such a seed on if there is
//! one.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A failing helper panics at its line.

#[path = "../common/mod.rs"]
mod common;
mod h2c;
mod http1;
mod http2;

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use common::Proxy;
use evenkeel_conformance::{
    backend::{Answer, Backend, Seen},
    message::Message,
    row::OK,
};
use fastrand::Rng;
use h2c::H2cBackend;

/// As many as take a few seconds.
const CASES: u64 = 1_000;

/// How long a client waits for more when it may have sent half a request.
const PATIENCE_WITH_ODD: Duration = Duration::from_millis(150);

/// So many messages of earlier cases may still arrive.
const EARLIER: usize = 200;

/// The first seed of a run of `cargo test`: the same in each, so that a failure is not of one machine only.
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

/// What may come after a body, and what may not (RFC 9110 §6.5.1), though a client announces it.
const TRAILERS: &[&str] =
    &["x-sum", "X-Last", "host", "content-length", "cookie", "x-forwarded-for", "authorization"];

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(..from.len())]
}

type Field = (String, Vec<u8>);

/// Some fields for after a body, and the value of the `Trailer` that announces them.
fn trailers(random: &mut Rng) -> (Vec<Field>, String) {
    let count = random.usize(1..4);
    let names: Vec<&str> = (0..count).map(|_| pick(random, TRAILERS)).collect();
    let field = |name: &&str| ((*name).to_owned(), pick(random, VALUES).as_bytes().to_vec());
    (names.iter().map(field).collect(), names.join(", "))
}

type Essence = (String, Vec<Field>, Vec<u8>, Vec<Field>);

/// What a client means that sends this. What may not come after a body is dropped.
fn sent_essence(message: &Message) -> Essence {
    let mut essence = essence(message);
    essence.3.retain(|field| !is_misplaced(field));
    essence
}

/// Whether a field after a body would frame or route its message, or say who its client is.
fn is_misplaced((name, _): &Field) -> bool {
    let of_connections =
        ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "trailer"];
    let of_messages = ["content-length", "transfer-encoding", "host", "expect"];
    let of_clients = ["cookie", "authorization", "x-forwarded-for"];
    let all = [&of_connections[..], &of_messages, &of_clients].concat();
    all.contains(&name.to_ascii_lowercase().as_str())
}

/// The members of lists in all fields of a name.
fn members(message: &Message, name: &str) -> Vec<String> {
    let members = message.values(name).flat_map(|value| value.split(|byte| *byte == b','));
    members.map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase()).collect()
}

/// What comes after a body, as far as both ends must agree on it: what was announced, unless there is a
/// length, and nothing that may not stand there.
fn trailers_of(message: &Message) -> Vec<Field> {
    let announced = members(message, "trailer");
    let has_length = message.has("content-length");
    let counts = |field: &&Field| {
        is_misplaced(field) || (!has_length && announced.contains(&field.0.to_ascii_lowercase()))
    };
    let mut trailers: Vec<Field> = message.trailers.iter().filter(counts).cloned().collect();
    trailers.sort_by(|one, other| one.0.cmp(&other.0));
    trailers
}

/// What both ends must agree on: the request line, the fields that go from end to end, the body, the
/// fields after it.
fn essence(message: &Message) -> Essence {
    let named = members(message, "connection");
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
    let is_end_to_end = |field: &&Field| {
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
    (start, fields, message.body.clone(), trailers_of(message))
}

fn shown(messages: &[Essence]) -> String {
    let shown = |fields: &[Field]| -> Vec<String> {
        let one = |field: &Field| format!("{}: {:?}", field.0, String::from_utf8_lossy(&field.1));
        fields.iter().map(one).collect()
    };
    let one = |(start, fields, body, trailers): &Essence| {
        let (fields, trailers) = (shown(fields), shown(trailers));
        format!("\n  {start} {fields:?} {:?} {trailers:?}", String::from_utf8_lossy(body))
    };
    messages.iter().map(one).collect()
}

/// One request, or a few at once, through a proxy.
struct Case<'a> {
    seed: u64,
    /// What those before it have sent.
    earlier: &'a RefCell<Vec<Essence>>,
    proxy: &'a Proxy,
    backend: &'a dyn Recorder,
}

/// A backend that keeps what it gets.
trait Recorder {
    fn forget(&self);
    fn seen(&self) -> Vec<Seen>;
}

impl Recorder for Backend {
    fn forget(&self) {
        self.forget();
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen()
    }
}

/// Whether what the backend got is some of what was sent, or nothing. What an earlier case has left on
/// its way, whose client had gone, may still arrive.
fn is_equal(
    sent: &[Essence],
    is_sent: impl Fn(&[Essence]) -> bool,
    case: &Case<'_>,
) -> Result<(), String> {
    let seen = case.backend.seen();
    if let Some(why) = seen.iter().find_map(|seen| seen.invalid.clone()) {
        return Err(format!("the backend got something invalid: {why}"));
    }
    let got = seen.iter().flat_map(|seen| &seen.messages).map(essence);
    let mut earlier = case.earlier.borrow_mut();
    let got: Vec<_> = got.filter(|one| sent.contains(one) || !earlier.contains(one)).collect();
    earlier.extend_from_slice(sent);
    let old = earlier.len().saturating_sub(EARLIER);
    earlier.drain(..old);
    if is_sent(&got) {
        return Ok(());
    }
    Err(format!("sent {}, got {}", shown(sent), shown(&got)))
}

/// The seeds of a run: the same ones in each, or one alone, or for some time others, from that one on or
/// from any.
fn seeds() -> Box<dyn Iterator<Item = u64>> {
    let variable =
        |name| std::env::var(name).ok().map(|value: String| value.parse::<u64>().unwrap());
    match (variable("EVENKEEL_SEED"), variable("EVENKEEL_FRESH_SECONDS")) {
        (None, None) => Box::new(FIRST_SEED..FIRST_SEED + CASES),
        (Some(seed), None) => Box::new(seed..=seed),
        (seed, Some(seconds)) => {
            let first = seed.unwrap_or_else(|| fastrand::u64(..1 << 48));
            let end = Instant::now() + Duration::from_secs(seconds);
            println!("fresh seeds from {first}");
            Box::new((first..).take_while(move |_| Instant::now() < end))
        }
    }
}

/// Runs the cases of one kind of client.
fn run_all(run: fn(&Case<'_>) -> Result<bool, String>, backend: &dyn Recorder, proxy: &Proxy) {
    let (seeds, earlier) = (seeds(), RefCell::default());
    let results = seeds.map(|seed| {
        let case = Case { seed, earlier: &earlier, proxy, backend };
        run(&case).unwrap_or_else(|why| panic!("EVENKEEL_SEED={seed}: {why}"))
    });
    let (served, refused): (Vec<bool>, Vec<bool>) = results.partition(|is_served| *is_served);
    let (served, all) = (served.len(), served.len() + refused.len());
    println!("{served} of {all} cases were served");
    // A fuzz that only ever sees one side of the proxy shows nothing.
    assert!(
        all < CASES as usize || (served > all / 2 && served < all - all / 20),
        "{served} of {all}"
    );
}

fn over_http1(run: fn(&Case<'_>) -> Result<bool, String>) {
    let backend = Backend::start().unwrap();
    backend.answer_with(Answer::Keep(OK.to_vec()));
    run_all(run, &backend, &Proxy::over(&[backend.address], &[]));
}

fn over_h2c(run: fn(&Case<'_>) -> Result<bool, String>) {
    let backend = H2cBackend::start();
    let variables = [("PROXY_BACKEND_PROTOCOL", "h2c")];
    run_all(run, &backend, &Proxy::over(&[backend.address], &variables));
}

#[test]
fn what_a_backend_gets_is_what_was_sent_or_nothing() {
    over_http1(http1::run);
}

#[test]
fn what_a_backend_gets_of_http_2_is_what_was_sent_or_nothing() {
    over_http1(http2::run);
}

#[test]
fn what_a_backend_of_http_2_gets_is_what_was_sent_or_nothing() {
    over_h2c(http1::run);
}

#[test]
fn what_a_backend_of_http_2_gets_of_http_2_is_what_was_sent_or_nothing() {
    over_h2c(http2::run);
}
