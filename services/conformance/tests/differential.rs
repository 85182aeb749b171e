//! Random requests, good ones and some that are not quite, through a real proxy: what a backend gets
//! is one message, equal to what was sent, or nothing.
//!
//! A failure prints the seed of its case; `EVENKEEL_SEED=<seed>` runs that one alone.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::time::Duration;

use common::{PATIENCE, Proxy};
use evenkeel_conformance::{
    backend::{Answer, Backend},
    client::{self, End, Rest},
    message::{self, Message, Reading},
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
/// What is put into a good request to make it one that is not quite.
const ODD: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\r\n",
    b"\r\n ",
    b"\x7F",
    b"\xFF",
    b"#",
    b";",
    b",",
    b"0",
    b"x",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"\r\n\r\n",
    b"Connection: content-length, x-one\r\n",
    b"GET / HTTP/1.1\r\nHost: c\r\n\r\n",
    b"0\r\n\r\n",
];

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(..from.len())]
}

/// A good request, whose host names its case.
fn good(random: &mut Rng, seed: u64) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\n", pick(random, METHODS), pick(random, TARGETS));
    let mut fields = vec![format!("Host: {seed}.example:80"), "Connection: keep-alive".to_owned()];
    for _ in 0..random.usize(..4) {
        fields.push(format!("{}: {}", pick(random, NAMES), pick(random, VALUES)));
    }
    let body: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
    let framed = match random.u8(..3) {
        0 => Vec::new(),
        1 => {
            fields.push(format!("Content-Length: {}", body.len()));
            body
        }
        _ => {
            fields.push("Transfer-Encoding: chunked".to_owned());
            chunked(random, &body)
        }
    };
    random.shuffle(&mut fields);
    for field in fields {
        head.push_str(&field);
        head.push_str("\r\n");
    }
    [head.as_bytes(), b"\r\n", &framed].concat()
}

fn chunked(random: &mut Rng, mut body: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    while !body.is_empty() {
        let (chunk, rest) = body.split_at(random.usize(1..=body.len()));
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
        body = rest;
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    chunks
}

/// A good request with something put in, taken out or written twice.
fn odd(random: &mut Rng, seed: u64) -> Vec<u8> {
    let mut request = good(random, seed);
    for _ in 0..random.usize(1..=2) {
        let at = random.usize(..request.len());
        let end = (at + random.usize(1..6)).min(request.len());
        match random.u8(..4) {
            0 | 1 => drop(request.splice(at..at, pick(random, ODD).iter().copied())),
            2 => drop(request.drain(at..end)),
            _ => {
                let piece = request[at..end].to_vec();
                drop(request.splice(at..at, piece));
            }
        }
        if request.is_empty() {
            return good(random, seed);
        }
    }
    request
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

/// The messages in the bytes of a client, up to the first that is none.
fn messages_in(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        // RFC 9112 §2.2.
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        let Reading::Whole(message, length) = message::request(bytes) else { return messages };
        bytes = &bytes[length..];
        messages.push(message);
    }
}

/// The case that a message belongs to.
fn case(message: &Message) -> Option<u64> {
    let host = String::from_utf8_lossy(message.values("host").next()?).into_owned();
    host.strip_suffix(".example:80")?.parse().ok()
}

/// Whether what the backend got is what was sent, or nothing. What an earlier case has left on its
/// way, whose client had gone, may still arrive.
fn is_equal(request: &[u8], backend: &Backend, seed: u64) -> Result<(), String> {
    let seen = backend.seen();
    if let Some(why) = seen.iter().find_map(|seen| seen.invalid.clone()) {
        return Err(format!("the backend got something invalid: {why}"));
    }
    let sent: Vec<_> = messages_in(request).iter().map(essence).collect();
    let is_earlier =
        |message: &&Message| case(message).is_some_and(|case| (FIRST_SEED..seed).contains(&case));
    let got = seen.iter().flat_map(|seen| &seen.messages).filter(|message| !is_earlier(message));
    let got: Vec<_> = got.map(essence).collect();
    let is_prefix = got.len() <= sent.len() && got.iter().zip(&sent).all(|(got, sent)| got == sent);
    if is_prefix { Ok(()) } else { Err(format!("sent {}, got {}", shown(&sent), shown(&got))) }
}

/// Runs one case; whether anything arrived.
fn run(seed: u64, proxy: &Proxy, backend: &Backend) -> Result<bool, String> {
    let mut random = Rng::with_seed(seed);
    let is_good = random.bool();
    let request = if is_good { good(&mut random, seed) } else { odd(&mut random, seed) };
    // Whatever came before: after this one the proxy closes.
    let request =
        [&request[..], b"GET /end HTTP/1.1\r\nHost: z\r\nConnection: close\r\n\r\n"].concat();
    backend.forget();
    let patience = if is_good { PATIENCE } else { PATIENCE_WITH_ODD };
    let got =
        client::exchange(proxy.address(), &request, patience).map_err(|error| error.to_string())?;
    let (answers, rest) = got.answers(message::method_of(&request));
    let statuses: Vec<u16> = answers.iter().map(Message::status).collect();
    let told = || {
        let (request, answer) =
            (String::from_utf8_lossy(&request), String::from_utf8_lossy(&got.bytes));
        format!("\n{request:?}\n{answer:?}")
    };
    is_equal(&request, backend, seed).map_err(|why| why + &told())?;
    let is_served = statuses == [200, 200] && rest == Rest::Nothing && got.end == End::Closed;
    if is_good && !is_served {
        return Err(format!("a good request is answered {statuses:?}{}", told()));
    }
    Ok(statuses.first() == Some(&200))
}

#[test]
fn what_a_backend_gets_is_what_was_sent_or_nothing() {
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
