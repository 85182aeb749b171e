//! Clients of HTTP/1, whose requests are bytes.

use evenkeel_conformance::{
    client::{self, End, Rest},
    message::{self, Message, Reading},
};
use fastrand::Rng;

use super::{
    Case, Essence, Field, METHODS, NAMES, PATIENCE_WITH_ODD, TARGETS, VALUES, common::PATIENCE,
    is_equal, pick, sent_essence, trailers,
};

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
    WITHIN,
    b"0\r\n\r\n",
    b"Trailer: x-sum, host\r\n",
    b"X-Sum: 3\r\n",
];

/// The beginning of a request within another, whose host its case ends.
const WITHIN: &[u8] = b"GET / HTTP/1.1\r\nHost: c";

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
            let (last, announced) =
                if random.bool() { trailers(random) } else { Default::default() };
            if !last.is_empty() {
                fields.push(format!("Trailer: {announced}"));
            }
            chunked(random, &body, &last)
        }
    };
    random.shuffle(&mut fields);
    for field in fields {
        head.push_str(&field);
        head.push_str("\r\n");
    }
    [head.as_bytes(), b"\r\n", &framed].concat()
}

fn chunked(random: &mut Rng, mut body: &[u8], trailers: &[Field]) -> Vec<u8> {
    let mut chunks = Vec::new();
    while !body.is_empty() {
        let (chunk, rest) = body.split_at(random.usize(1..=body.len()));
        let extension = pick(random, &["", "", ";a", " ; a=b", ";a=\"b;c\""]);
        chunks.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
        body = rest;
    }
    chunks.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        chunks.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    chunks.extend_from_slice(b"\r\n");
    chunks
}

/// A good request with something put in, taken out or written twice.
fn odd(random: &mut Rng, seed: u64) -> Vec<u8> {
    let mut request = good(random, seed);
    for _ in 0..random.usize(1..=2) {
        let at = random.usize(..request.len());
        let end = (at + random.usize(1..6)).min(request.len());
        match random.u8(..4) {
            0 | 1 => {
                let mut piece = pick(random, ODD).to_vec();
                if piece == WITHIN {
                    piece.extend(format!("{seed}\r\n\r\n").bytes());
                }
                drop(request.splice(at..at, piece));
            }
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

/// Runs one case; whether anything arrived.
pub(crate) fn run(case: &Case<'_>) -> Result<bool, String> {
    let &Case { seed, proxy, backend, .. } = case;
    let mut random = Rng::with_seed(seed);
    let is_good = random.bool();
    let request = if is_good { good(&mut random, seed) } else { odd(&mut random, seed) };
    // Whatever came before: after this one the proxy closes.
    let end = format!("GET /end HTTP/1.1\r\nHost: {seed}.example:80\r\nConnection: close\r\n\r\n");
    let request = [&request[..], end.as_bytes()].concat();
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
    let sent: Vec<Essence> = messages_in(&request).iter().map(sent_essence).collect();
    // One after the other.
    let is_sent = |got: &[Essence]| sent.starts_with(got);
    is_equal(&sent, is_sent, case).map_err(|why| why + &told())?;
    let is_served = statuses == [200, 200] && rest == Rest::Nothing && got.end == End::Closed;
    if is_good && !is_served {
        return Err(format!("a good request is answered {statuses:?}{}", told()));
    }
    Ok(statuses.first() == Some(&200))
}
