//! Answers of a backend of HTTP/2 that may be any frames, through a real proxy to real clients.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    clients::{Heard, Http1, ask_http2, ask_on},
    frames::{Frame, each_frame},
    messages::Message,
    passed_on::{self, Asked, FIELDS, is_fit, is_late, is_refusal},
    world::{PATIENCE, Proxy, listen},
};

// RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const PADDED: u8 = 8;

/// Where the first request of a connection is answered; others are not there, or the connection's.
const ITS_STREAM: u8 = 1;

/// The settings of the backend, of which none is said.
const SETTINGS_FRAME: [u8; 9] = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];

/// What the backend does.
struct Script {
    /// What it says to a request, if that may be anything.
    frames: Option<Vec<u8>>,
    /// What it answers with otherwise.
    number: String,
    streams: Vec<TcpStream>,
}

static SCRIPT: Mutex<Script> =
    Mutex::new(Script { frames: None, number: String::new(), streams: Vec::new() });

fn script() -> MutexGuard<'static, Script> {
    SCRIPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frames of a backend, after one byte that says who asks for what. Each is four bytes, its kind, flags,
/// stream and length, and a payload; 1 is the stream of the request.
///
/// # Panics
/// A client gets what is not one answer, or another one than the backend's, or none of a valid one, or the
/// next request gets anything of it, or something of it stays.
pub fn backend_frames(data: &[u8]) {
    let Some((kind, frames)) = data.split_first() else { return };
    let proxy = proxy();
    let (is_http2, is_for_head) = (kind & 1 != 0, kind & 2 != 0);
    let method = if is_for_head { "HEAD" } else { "GET" };
    let te = if kind & 4 == 0 { "" } else { "te: trailers\r\nconnection: te\r\n" };
    let theirs = read(frames, method);
    script().frames = Some(frames.to_vec());
    let mut client = Http1::new(proxy.traffic);
    let heard = if is_http2 {
        ask_http2(proxy.traffic, method, "/odd")
    } else {
        let request = format!("{method} /odd HTTP/1.1\r\nhost: a\r\n{te}\r\n");
        client.ask(request.as_bytes(), is_for_head)
    };
    script().frames = None;
    let takes_trailers = is_http2 || !te.is_empty();
    let asked =
        Asked { is_http2, is_http11: !is_http2, is_for_head, takes_trailers, may_switch: false };
    check(&heard, theirs.as_ref(), frames, &asked);
    client.ask_number(|number| script().number = number.to_owned());
    drop(client);
    proxy.settle();
    // The next one finds nothing that this one has left.
    script().streams.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
}

/// Checks what a client has heard of an answer in these frames.
fn check(heard: &Heard, theirs: Option<&Message>, frames: &[u8], asked: &Asked) {
    let is_due = is_plain(frames) && theirs.is_some_and(|theirs| is_taken(theirs, frames, asked));
    let Some(ours) = &heard.message else {
        return assert!(!is_due, "cut off, of {theirs:?}");
    };
    // A refusal is right only for what is no such answer. Any other is compared, and is not what the
    // backend said.
    if is_late(ours) || (is_refusal(ours) && !is_due) {
        return;
    }
    assert!(heard.rest.is_empty(), "{:?} after an answer", heard.rest);
    assert!(ours.fields.iter().all(|(name, _)| !name.starts_with(':')), "{ours:?}");
    if !asked.is_for_head && !matches!(ours.status(), 204 | 304) {
        // Who is told a length has all of it before the stream ends.
        let is_told = !asked.is_http2 && ours.values("content-length").next().is_some();
        let (body, has_end) = body_of(frames);
        assert!(has_end || is_told, "{ours:?} of what has no end");
        // More than that, which is malformed, may come after the client has heard all.
        let is_begun = is_told && theirs.is_none() && body.starts_with(&ours.body);
        assert!(is_begun || ours.body == body, "{} bytes of {}", ours.body.len(), body.len());
    }
    // What is cut the library reads otherwise, unless it comes in one (http2/whole_heads.rs).
    let is_cut = each_frame(frames).any(|frame| frame.kind == CONTINUATION);
    if let Some(theirs) = theirs.filter(|_| !is_cut) {
        let mut theirs = theirs.clone();
        if asked.is_for_head || matches!(ours.status(), 204 | 304) {
            theirs.body.clear();
        }
        if !asked.is_http2 && ours.values("transfer-encoding").next().is_none() {
            // Only chunks leave room for them.
            theirs.trailers.clear();
        }
        passed_on::check(&theirs, ours, asked);
    }
}

/// Whether these are the frames of one answer and no others: a head, its body and perhaps fields after
/// that. What the library makes of others may depend on when they come.
fn is_plain(frames: &[u8]) -> bool {
    let count = each_frame(frames).count();
    each_frame(frames).enumerate().all(|(at, frame)| {
        let is_last = at + 1 == count;
        let is_kind = match frame.kind {
            HEADERS => at == 0 || is_last,
            DATA => at > 0,
            _ => false,
        };
        is_kind && frame.stream == ITS_STREAM && is_last == (frame.flags & END_STREAM != 0)
    })
}

/// Whether the proxy takes such an answer, if the library does: it knows some more that is malformed.
fn is_taken(theirs: &Message, frames: &[u8], asked: &Asked) -> bool {
    let mut names = theirs.fields.iter().chain(&theirs.trailers).map(|(name, _)| name);
    let has_body = each_frame(frames).any(|frame| frame.kind == DATA && !frame.payload.is_empty());
    let may_have_body = !asked.is_for_head && !matches!(theirs.status(), 204 | 304);
    is_fit(theirs, false)
        && theirs.trails_within(FIELDS)
        && (may_have_body || !has_body)
        && !names.any(|name| name.contains('"'))
}

/// The body of an answer in these frames, as far as it is valid, and whether it has an end.
fn body_of(frames: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    for Frame { kind, flags, stream, payload } in each_frame(frames) {
        if stream != ITS_STREAM {
            continue;
        }
        if kind == DATA && flags & PADDED == 0 {
            body.extend_from_slice(payload);
        } else if kind == DATA {
            let data = payload
                .split_first()
                .and_then(|(padding, data)| data.get(..data.len().checked_sub((*padding).into())?));
            let Some(data) = data else { return (body, false) };
            body.extend_from_slice(data);
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return (body, true);
        }
    }
    (body, false)
}

/// The frames as they are sent on a connection whose request is on this stream.
fn written(frames: &[u8], its: [u8; 4]) -> Vec<u8> {
    let frame = |Frame { kind, flags, stream, payload }: Frame<'_>| {
        let stream = if stream == ITS_STREAM { its } else { [0, 0, 0, stream] };
        [&[0, 0, payload.len() as u8, kind, flags][..], &stream, payload].concat()
    };
    each_frame(frames).flat_map(frame).collect()
}

/// What the library reads of such an answer by itself.
fn read(frames: &[u8], method: &str) -> Option<Message> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let bytes = [&SETTINGS_FRAME[..], &written(frames, [0, 0, 0, 1])].concat();
        let answering = async {
            // What comes before its request is no answer to it.
            theirs.read_exact(&mut [0; 24]).await.ok()?;
            loop {
                let mut header = [0; 9];
                theirs.read_exact(&mut header).await.ok()?;
                let [a, b, c, kind, ..] = header;
                let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                theirs.read_exact(&mut payload).await.ok()?;
                if kind == HEADERS {
                    break;
                }
            }
            theirs.write_all(&bytes).await.ok()?;
            theirs.shutdown().await.ok()
        };
        let asking = tokio::time::timeout(PATIENCE, ask_on(ours, method, "/odd"));
        let mut message = tokio::join!(asking, answering).0.ok()??;
        for (_, value) in message.fields.iter_mut().chain(&mut message.trailers) {
            // Blanks at the ends are no part of them.
            *value = value.trim_ascii().to_vec();
        }
        Some(message)
    })
}

/// The one proxy.
fn proxy() -> &'static Proxy {
    static PROXY: OnceLock<Proxy> = OnceLock::new();
    PROXY.get_or_init(|| {
        let retries = [("PROXY_RETRY_BUDGET", "100%"), ("PROXY_RETRY_BACKOFF", "1ms")];
        Proxy::start(listen(serve), &[("PROXY_BACKEND_PROTOCOL", "h2c"), retries[0], retries[1]])
    })
}

/// A backend's connection, up to its end.
fn serve(mut stream: TcpStream) -> Option<()> {
    script().streams.push(stream.try_clone().ok()?);
    stream.write_all(&SETTINGS_FRAME).ok()?;
    stream.read_exact(&mut [0; 24]).ok()?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).ok()?;
        let [a, b, c, kind, flags, its @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).ok()?;
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let length = if kind == PING { 8 } else { 0 };
                let head = [0, 0, length, kind, ACK, 0, 0, 0, 0];
                let payload = &payload[..length.into()];
                stream.write_all(&[&head[..], payload].concat()).ok()?;
            }
            HEADERS => answer(&mut stream, its)?,
            _ => {}
        }
    }
}

/// Answers a request; `None` if nothing may follow.
fn answer(stream: &mut TcpStream, its: [u8; 4]) -> Option<()> {
    let frames = script().frames.clone();
    if let Some(frames) = frames {
        stream.write_all(&written(&frames, its)).ok()?;
        let ends = |frame: Frame<'_>| {
            let is_end = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
            frame.stream == ITS_STREAM && (is_end || frame.kind == RST_STREAM)
        };
        if !each_frame(&frames).any(ends) {
            // Whatever else would be waited for in vain.
            stream.shutdown(Shutdown::Both).ok()?;
        }
        return Some(());
    }
    let number = script().number.clone().into_bytes();
    // :status 200, and a body that ends the stream.
    let head = [&[0, 0, 1, HEADERS, 4][..], &its, &[0x88]].concat();
    let body = [&[0, 0, number.len() as u8, DATA, END_STREAM][..], &its, &number].concat();
    stream.write_all(&[head, body].concat()).ok()
}
