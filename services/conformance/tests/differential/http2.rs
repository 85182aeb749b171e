//! Clients of HTTP/2, whose requests are fields and data in frames (RFC 9113 §4, RFC 7541 §6.2.2). Only
//! here can a field have any name and value, so that what becomes of it is for the proxy to see to.

use std::time::Duration;

use evenkeel_conformance::{
    client::Rest,
    http2::{
        Connection, Stream,
        frames::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, frame},
    },
    message::{Message, number},
};
use fastrand::Rng;

use super::{
    Case, Essence, Field, METHODS, NAMES, PATIENCE_WITH_ODD, TARGETS, VALUES,
    common::{PATIENCE, Proxy},
    is_equal, pick, sent_essence, trailers,
};

/// What is put into a good request to make it one that is not quite.
const ODD: &[(&str, &str)] = &[
    ("transfer-encoding", "chunked"),
    ("content-length", "3"),
    ("content-length", "+0"),
    ("connection", "x-one"),
    ("connection", "close"),
    ("keep-alive", "1"),
    ("upgrade", "h2c"),
    ("te", "gzip"),
    ("te", "trailers"),
    ("host", "b"),
    ("host", "b\r\nx-one: 1"),
    ("X-One", "1"),
    ("x one", "1"),
    ("x-one:", "1"),
    ("x-one: 1\r\nx-two", "2"),
    ("", "1"),
    ("x-one", "1\r\n\r\nGET /odd HTTP/1.1\r\nhost: c"),
    ("x-one", "1\nx-two: 2"),
    ("x-one", "\0"),
    ("x-one", "\u{7f}"),
    ("x-one", " 1"),
    ("x-one", "1\t"),
    (":path", "/odd"),
    (":path", "/ HTTP/1.1\r\nhost: c\r\n\r\n"),
    (":path", "/a b"),
    (":path", ""),
    (":path", "*"),
    (":path", "a"),
    (":path", "http://c/"),
    (":path", "/#a"),
    (":method", "GET / HTTP/1.1\r\nx-one:"),
    (":method", "GE T"),
    (":method", ""),
    (":scheme", "gopher"),
    (":scheme", "http://"),
    (":authority", "b"),
    (":authority", "a@b"),
    (":authority", "b\r\nx-one: 1"),
    (":authority", "b/odd"),
    (":authority", ""),
    (":protocol", "websocket"),
    (":status", "200"),
    (":odd", "1"),
];

/// A request, as its client means it.
#[derive(Debug)]
struct Request {
    fields: Vec<Field>,
    body: Vec<u8>,
    trailers: Vec<Field>,
    /// Whether it comes to its end.
    is_whole: bool,
}

fn field(name: &str, value: &str) -> Field {
    (name.to_owned(), value.as_bytes().to_vec())
}

/// A good request, whose authority names its case.
fn good(random: &mut Rng, seed: u64) -> Request {
    let mut pseudo = vec![
        field(":method", pick(random, METHODS)),
        field(":scheme", pick(random, &["http", "https"])),
        field(":authority", &format!("{seed}.example:80")),
        field(":path", pick(random, TARGETS)),
    ];
    random.shuffle(&mut pseudo);
    let others = random.usize(..4);
    let mut fields: Vec<Field> = (0..others)
        .map(|_| field(&pick(random, NAMES).to_ascii_lowercase(), pick(random, VALUES)))
        .collect();
    let length = if random.bool() { random.usize(..40) } else { 0 };
    let body: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
    let has_trailers = random.u8(..4) == 0;
    let (mut trailers, announced) =
        if has_trailers { trailers(random) } else { Default::default() };
    trailers.iter_mut().for_each(|field| field.0.make_ascii_lowercase());
    if has_trailers {
        fields.push(field("trailer", &announced));
    } else if random.bool() {
        fields.push(field("content-length", &body.len().to_string()));
    }
    random.shuffle(&mut fields);
    Request { fields: [pseudo, fields].concat(), body, trailers, is_whole: true }
}

/// A good request with something put in, taken out, written twice or in another place.
fn odd(random: &mut Rng, seed: u64) -> Request {
    let mut request = good(random, seed);
    for _ in 0..random.usize(1..=2) {
        let fields = &mut request.fields;
        let at = random.usize(..fields.len());
        let (name, value) = pick(random, ODD);
        match random.u8(..8) {
            0 | 1 => fields.insert(at, field(name, value)),
            // In the place of a good one, if there is one of that name.
            2 | 3 => match fields.iter_mut().find(|field| field.0 == name) {
                Some(good) => good.1 = value.as_bytes().to_vec(),
                None => fields.push(field(name, value)),
            },
            4 => drop(fields.remove(at)),
            5 => fields.insert(at, fields[random.usize(..fields.len())].clone()),
            6 => request.trailers.push(field(name, value)),
            _ if random.bool() => request.is_whole = false,
            _ => request.body.push(b'x'),
        }
        if request.fields.is_empty() {
            return good(random, seed);
        }
    }
    request
}

impl Request {
    /// What it is, if it is taken: the message of HTTP/1.1 that says the same.
    fn essence(&self) -> Essence {
        let value = |name: &str| {
            let found = self.fields.iter().find(|field| field.0 == name);
            found.map(|field| field.1.clone())
        };
        let text =
            |name: &str| String::from_utf8_lossy(&value(name).unwrap_or_default()).into_owned();
        // One without a name says nothing; the library leaves it out too.
        let is_regular = |field: &&Field| !field.0.is_empty() && !field.0.starts_with(':');
        let regular = self.fields.iter().filter(is_regular);
        let mut fields: Vec<Field> = regular.cloned().collect();
        // An authority is the host, whatever a field says beside it (RFC 9113 §8.3.1).
        if let Some(authority) = value(":authority").filter(|authority| !authority.is_empty()) {
            fields.retain(|field| field.0 != "host");
            fields.push(("host".to_owned(), authority));
        }
        // Crumbs of cookies are one field elsewhere (§8.2.3).
        let is_cookie = |field: &Field| field.0 == "cookie";
        let crumbs: Vec<Vec<u8>> =
            fields.iter().filter(|field| is_cookie(field)).map(|field| field.1.clone()).collect();
        if crumbs.len() > 1 {
            fields.retain(|field| !is_cookie(field));
            // One that is empty leaves no blank, which is no part of a value (RFC 9110 §5.5).
            let joined = crumbs.join(&b"; "[..]).trim_ascii().to_vec();
            fields.push(("cookie".to_owned(), joined));
        }
        // A fragment is none of a target (RFC 9112 §3.2), and the library leaves it out.
        let path = text(":path");
        let path = path.split('#').next().unwrap_or_default();
        let start = format!("{} {path} HTTP/1.1", text(":method"));
        let mut body = self.body.clone();
        // As long as it said it is: a body goes on as it comes, and may be all there by the time that
        // more of it comes and the stream is reset.
        let length = number(text("content-length").as_bytes());
        body.truncate(length.unwrap_or(body.len()));
        sent_essence(&Message { start, fields, body, trailers: self.trailers.clone() })
    }

    /// Its frames, cut somehow.
    fn frames(&self, random: &mut Rng, stream: u32) -> Vec<u8> {
        let has_data = !self.body.is_empty() || random.u8(..4) == 0;
        let has_more = has_data || !self.trailers.is_empty() || !self.is_whole;
        let mut bytes = head(random, &self.fields, stream, if has_more { 0 } else { END_STREAM });
        if has_data {
            bytes.extend(self.data(random, stream));
        }
        if !self.trailers.is_empty() {
            let end = if self.is_whole { END_STREAM } else { 0 };
            bytes.extend(head(random, &self.trailers, stream, end));
        }
        bytes
    }

    /// Its body in parts, of which some are padded and some are empty.
    fn data(&self, random: &mut Rng, stream: u32) -> Vec<u8> {
        let (mut bytes, mut rest) = (Vec::new(), &self.body[..]);
        loop {
            let size = if rest.len() < 4 { rest.len() } else { random.usize(..=rest.len()) };
            let (part, after) = rest.split_at(size);
            rest = after;
            let ends = rest.is_empty() && self.trailers.is_empty() && self.is_whole;
            let end = if ends { END_STREAM } else { 0 };
            bytes.extend(match random.u8(..3) {
                0 => frame(DATA, end, stream, part),
                padding => {
                    let padded = [&[padding], part, &[0; 2][..padding.into()]].concat();
                    frame(DATA, end | PADDED, stream, &padded)
                }
            });
            if rest.is_empty() {
                return bytes;
            }
        }
    }
}

/// Fields in HEADERS, of which the rest may follow in a CONTINUATION.
fn head(random: &mut Rng, fields: &[Field], stream: u32, flags: u8) -> Vec<u8> {
    let block = frames::block(fields);
    if random.u8(..4) > 0 {
        return frame(HEADERS, flags | END_HEADERS, stream, &block);
    }
    let (first, rest) = block.split_at(random.usize(..=block.len()));
    [frame(HEADERS, flags, stream, first), frame(CONTINUATION, END_HEADERS, stream, rest)].concat()
}

/// How a stream ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Ok,
    Refused,
}

/// Sends frames on a new connection and reads until these streams have ended, or the connection has, or
/// nothing has come for so long.
fn exchange(
    proxy: &Proxy,
    frames: &[u8],
    streams: [u32; 2],
    patience: Duration,
) -> Result<[Answer; 2], String> {
    let connection = Connection::open(proxy.address(), patience);
    let mut connection = connection.map_err(|error| error.to_string())?;
    connection.exchange(frames, &[]);
    if let Rest::Invalid(why) = connection.rest() {
        return Err(format!("the client gets what is not HTTP/2: {why}"));
    }
    let answer = |stream: u32| match connection.streams.get(&stream) {
        Some(Stream { answer: Some(answer), reset: None, .. }) if answer.status() == 200 => {
            Answer::Ok
        }
        Some(Stream { answer: None, reset: None, .. }) | None => Answer::None,
        Some(_) => Answer::Refused,
    };
    Ok(streams.map(answer))
}

/// Whether each message that arrived is one that was sent, and none came twice.
fn are_sent(sent: &[Essence], got: &[Essence]) -> bool {
    let count = |all: &[Essence], one| all.iter().filter(|other| *other == one).count();
    got.iter().all(|one| count(got, one) <= count(sent, one))
}

/// Runs one case; whether it was answered by the backend.
pub(crate) fn run(case: &Case<'_>) -> Result<bool, String> {
    let &Case { seed, proxy, backend, .. } = case;
    let mut random = Rng::with_seed(seed);
    let is_good = random.bool();
    let request = if is_good { good(&mut random, seed) } else { odd(&mut random, seed) };
    // Beside whatever the other is, and perhaps after it to the same backend.
    let mut end = good(&mut random, seed);
    end.fields.retain(|field| field.0 != ":path");
    end.fields.insert(0, field(":path", "/end"));
    let mut frames = request.frames(&mut random, 1);
    frames.extend(end.frames(&mut random, 3));
    backend.forget();
    let patience = if is_good { PATIENCE } else { PATIENCE_WITH_ODD };
    let answers = exchange(proxy, &frames, [1, 3], patience)?;
    let told = || format!("\n{request:?}\n{end:?}\n{answers:?}");
    let sent = [request.essence(), end.essence()];
    let is_sent = |got: &[Essence]| are_sent(&sent, got);
    is_equal(&sent, is_sent, case).map_err(|why| why + &told())?;
    if is_good && answers != [Answer::Ok; 2] {
        return Err(format!("a good request is answered {answers:?}{}", told()));
    }
    Ok(answers[0] == Answer::Ok)
}
