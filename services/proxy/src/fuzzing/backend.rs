//! Answers of a backend of HTTP/1 that may be any bytes, through a real proxy to real clients of HTTP/1
//! and HTTP/2: interim responses, switches to another protocol, what is cut off, and what comes of the
//! connection afterwards.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Mutex, OnceLock, PoisonError},
};

use super::{
    clients::{Heard, Http1, NUMBER, ask_http2},
    messages::{self, By, Message},
    passed_on::{self, Asked, FIELDS, going_on, is_fit, is_late, is_refusal, is_within, without},
    world::{Proxy, listen},
};
use crate::connection::INTERIM_MAX;

/// What the backend says to who asks for [`ODD`], and whether it closes then.
static SCRIPT: Mutex<(Vec<u8>, bool)> = Mutex::new((Vec::new(), false));

/// What gets an answer that may be anything.
const ODD: &str = "/odd";

/// The ways to ask: a request line without its version, the version, and what follows the host.
const REQUESTS: [(&str, &str, &str); 8] = [
    ("GET /odd", "1.1", "\r\n"),
    ("HEAD /odd", "1.1", "\r\n"),
    ("GET /odd", "1.0", "connection: keep-alive\r\n\r\n"),
    ("GET /odd", "1.1", "te: trailers\r\nconnection: te\r\n\r\n"),
    ("GET /odd", "1.1", "connection: upgrade\r\nupgrade: websocket\r\n\r\n"),
    ("GET /odd", "1.1", "expect: 100-continue\r\n\r\n"),
    ("POST /odd", "1.1", "content-length: 3\r\n\r\nabc"),
    ("POST /odd", "1.1", "expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
];

/// Bytes of a backend, after one byte that says how it is asked, by whom, and whether it closes when it
/// has answered.
///
/// # Panics
/// A client gets what is not one answer, or another one than the backend's, or none of a valid one, or the
/// next request gets anything of it, or something of it stays.
pub fn backend(data: &[u8]) {
    let Some((kind, script)) = data.split_first() else { return };
    let (line, version, rest) = REQUESTS[usize::from(kind & 7)];
    let is_http2 = kind & 8 != 0;
    let is_for_head = line.starts_with("HEAD");
    let theirs = messages::responses(script, By::Backend, is_for_head, true);
    // Whatever else would be waited for in vain.
    let is_whole = messages::responses(script, By::Backend, is_for_head, false);
    let goes_on = matches!(is_whole, Ok((_, Some(ref last))) if last.status() != 101);
    let closes = kind & 16 != 0 || !goes_on;
    *SCRIPT.lock().unwrap_or_else(PoisonError::into_inner) = (script.to_vec(), closes);
    let proxy = proxy();
    let asked = Asked {
        is_http2,
        is_http11: version == "1.1" && !is_http2,
        is_for_head,
        takes_trailers: is_http2 || rest.starts_with("te:"),
        may_switch: !is_http2 && rest.contains("upgrade:"),
    };
    let mut client = Http1::new(proxy.traffic);
    let heard = if is_http2 {
        let method = line.split(' ').next().unwrap_or_default();
        ask_http2(proxy.traffic, method, ODD)
    } else {
        client.ask(format!("{line} HTTP/{version}\r\nhost: a\r\n{rest}").as_bytes(), is_for_head)
    };
    check(&heard, &theirs, script, &asked);
    // Who waits to be asked for a body is asked once, by whomever.
    let is_told =
        |status: &u16| *status != 100 || !(line.starts_with("POST") && rest.contains("expect:"));
    check_interims(&heard, &theirs, &asked, is_told);
    // What of it was left over is nobody's answer.
    client.ask_number(|_| {});
    Http1::new(proxy.traffic).ask_number(|_| {});
    drop(client);
    proxy.settle();
}

type Theirs = Result<(Vec<Message>, Option<Message>), String>;

/// Checks what a client has heard against what somebody else reads of what the backend said.
fn check(heard: &Heard, theirs: &Theirs, script: &[u8], asked: &Asked) {
    let none = (Vec::new(), None);
    let (interims, theirs) = theirs.as_ref().unwrap_or(&none);
    for ours in &heard.interims {
        // The one that asks for a body may be ours.
        let is_same = |theirs: &Message| {
            let said = without(&going_on(&theirs.fields), &["content-length"]);
            theirs.status() == ours.status() && said == without(&ours.fields, &[])
        };
        let is_plain = ours.status() == 100 && ours.fields.is_empty();
        assert!(is_plain || interims.iter().any(is_same) || theirs.is_none(), "{ours:?}");
    }
    let Some(ours) = &heard.message else {
        // Only what was cut off, or was no answer to its end or too much after a body, is cut off.
        let is_fit = |theirs: &Message| theirs.trails_within(FIELDS);
        return assert!(!theirs.as_ref().is_some_and(is_fit), "cut off, of {theirs:?}");
    };
    // A refusal is right only for what is no answer or more than may be. Any other is compared, and is not
    // what the backend said.
    let is_due = theirs.as_ref().is_some_and(|theirs| is_fit(theirs, asked.may_switch))
        && interims.len() <= INTERIM_MAX as usize
        && interims.iter().all(is_within);
    if is_late(ours) || (is_refusal(ours) && !is_due) {
        return;
    }
    let Some(theirs) = theirs else { panic!("{ours:?} of what is no answer") };
    assert!(interims.len() <= INTERIM_MAX as usize);
    passed_on::check(theirs, ours, asked);
    if ours.status() == 101 {
        let head: usize =
            interims.iter().map(|interim| interim.length).sum::<usize>() + theirs.length;
        assert_eq!(heard.rest, script[head..], "in another protocol");
    } else {
        assert!(heard.rest.is_empty(), "{:?} after an answer", heard.rest);
    }
}

/// Each interim response is passed on, a 100 that nobody waits for as well (RFC 9110 §15.2); those of whom
/// they are told only.
fn check_interims(heard: &Heard, theirs: &Theirs, asked: &Asked, is_told: impl Fn(&u16) -> bool) {
    let (Ok((interims, Some(_))), Some(ours)) = (theirs, &heard.message) else { return };
    if asked.is_http2 || is_refusal(ours) {
        return;
    }
    let statuses = |interims: &[Message]| -> Vec<u16> {
        interims.iter().map(Message::status).filter(&is_told).collect()
    };
    let expected = if asked.is_http11 { statuses(interims) } else { Vec::new() };
    assert_eq!(statuses(&heard.interims), expected, "interim responses");
}

/// The one proxy.
fn proxy() -> &'static Proxy {
    static PROXY: OnceLock<Proxy> = OnceLock::new();
    PROXY.get_or_init(|| {
        Proxy::start(
            listen(serve),
            &[("PROXY_RETRY_BUDGET", "100%"), ("PROXY_RETRY_BACKOFF", "1ms")],
        )
    })
}

/// A backend's connection.
fn serve(mut stream: TcpStream) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let mut is_answered = false;
    loop {
        let head = messages::request_head(&bytes, By::Us).unwrap();
        let target = head.map(|head| String::from_utf8_lossy(head.words()[1]).into_owned());
        let whole = messages::request(&bytes, By::Us).unwrap();
        if let Some(target) = target.filter(|_| !is_answered) {
            if target == ODD {
                let (script, closes) =
                    SCRIPT.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if stream.write_all(&script).is_err() {
                    return;
                }
                if closes {
                    let _ = stream.shutdown(Shutdown::Write);
                }
                is_answered = true;
            } else if whole.is_some() {
                let number = target.strip_prefix(NUMBER).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", number.len());
                if stream.write_all((head + number).as_bytes()).is_err() {
                    return;
                }
                is_answered = true;
            }
        }
        if let Some(message) = whole.filter(|_| is_answered) {
            bytes.drain(..message.length);
            is_answered = false;
            continue;
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
