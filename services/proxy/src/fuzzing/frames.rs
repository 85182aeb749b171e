//! A client of HTTP/2 that sends any frames, to a real proxy over a backend that looks at each byte.
//!
//! h2 reads the frames; what is ours is the limits around them, what becomes of a stream that
//! ends at any point, and the request that a backend of HTTP/1 gets. So the target is the process and
//! not a function: one proxy and one backend, over loopback, serve all inputs. What counts the frames is
//! also looked at by itself.

use std::{
    cell::Cell,
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    rc::Rc,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    messages::message,
    world::{PATIENCE, Proxy, listen},
};
use crate::{
    client::{FrameWatch, RESETS_TIMES_MAX},
    settings::Http2,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const MARK: [u8; 8] = *b"evenkeel";

/// What a request takes that lacks nothing, mostly. It is what an input costs that lacks something.
const SOON: Duration = Duration::from_millis(10);

/// What a backend was sent and should not have been.
static ODD: Mutex<Option<String>> = Mutex::new(None);

/// Messages that it was sent.
static MESSAGES: AtomicUsize = AtomicUsize::new(0);

/// Frames that a client sends after a good preface. Each is four bytes, its kind, flags, stream and
/// length, and a payload.
///
/// # Panics
/// A connection stays open, the backend was sent what is not one message after the other, or the frames
/// are not counted for what they are.
pub fn frames(data: &[u8]) {
    check_counts(data);
    let proxy = proxy();
    let mut bytes = PREFACE.to_vec();
    // Settings, with nothing set.
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    each_frame(data).for_each(|frame| bytes.extend(frame.bytes()));
    // Its answer says that all before it was read.
    bytes.extend([0, 0, 8, PING, 0, 0, 0, 0, 0]);
    bytes.extend(MARK);
    let mut client = TcpStream::connect(proxy.traffic).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // The proxy may close at any point.
    let _ = client.write_all(&bytes);
    read_to_mark(&mut client);
    // Whoever waits for more from its client never ends; all others soon have.
    let start = Instant::now();
    while proxy.requests() > 0 && start.elapsed() < SOON {
        thread::sleep(Duration::from_millis(1));
    }
    drop(client);
    proxy.settle();
    let odd = ODD.lock().unwrap_or_else(PoisonError::into_inner).take();
    assert_eq!(odd, None, "the backend was sent it");
}

/// A frame of an input.
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u8,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    fn bytes(&self) -> Vec<u8> {
        let Self { kind, flags, stream, payload } = self;
        let head = [0, 0, payload.len() as u8, *kind, *flags, 0, 0, 0, *stream];
        [&head[..], payload].concat()
    }
}

/// Those that bytes have.
pub(super) fn each_frame(mut rest: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let [kind, flags, stream, length, after @ ..] = rest else { return None };
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        Some(Frame { kind: *kind, flags: *flags, stream: *stream, payload })
    })
}

/// What is counted of frames must be what they were made as, wherever they are cut, and be refused when
/// it is too much.
fn check_counts(data: &[u8]) {
    const RESETS: u32 = 3;
    const CONTROL: u32 = 5;
    let limits = Http2 { streams: 100, resets: RESETS, control_frames: CONTROL };
    let window = Rc::new(Cell::new(0));
    let mut watch = FrameWatch::new(limits, &Arc::default(), &Rc::default(), &window);
    let [mut streams, mut resets, mut control, mut explained] = [0; 4];
    let (mut is_in_head, mut room) = (false, 0);
    let mut requests = BTreeSet::from([0]);
    for frame in each_frame(data) {
        let Frame { kind, flags, stream, payload } = frame;
        match kind {
            HEADERS => {
                is_in_head = flags & END_HEADERS == 0;
                // What is not newer than all before is no request.
                let is_request = requests.last() < Some(&stream);
                requests.insert(stream);
                *(if is_request { &mut streams } else { &mut control }) += 1;
            }
            RST_STREAM => resets += 1,
            WINDOW_UPDATE => {}
            DATA if !payload.is_empty() => explained += 1,
            DATA if flags & END_STREAM > 0 => {}
            _ => control += 1,
        }
        is_in_head &= kind != CONTINUATION || flags & END_HEADERS == 0;
        if kind == SETTINGS {
            let of_window = |setting: &&[u8]| setting.starts_with(&[0, 4]);
            let last = payload.chunks_exact(6).rfind(of_window);
            room = last.map_or(room, |last| u32::from_be_bytes(last[2..].try_into().unwrap()));
        }
        let bytes = frame.bytes();
        let (one, other) = bytes.split_at(usize::from(stream) % bytes.len());
        let is_refused = watch.see(one, 0).and_then(|()| watch.see(other, 0)).is_err();
        assert_eq!(watch.counts(), [streams, resets, control, explained]);
        let is_too_much = (resets > RESETS
            && (resets > streams / 2 || resets > RESETS_TIMES_MAX * RESETS))
            || control > CONTROL + explained + streams;
        assert_eq!(is_refused, is_too_much);
        if is_refused {
            return;
        }
        assert_eq!((watch.is_in_head(), window.get()), (is_in_head, room));
    }
}

/// Reads until the answer to the ping, or the end.
///
/// # Panics
/// There is neither.
fn read_to_mark(client: &mut TcpStream) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while !bytes.windows(MARK.len()).any(|part| part == MARK) {
        match client.read(&mut piece) {
            Ok(0) => return,
            Err(error) => return assert_ne!(error.kind(), ErrorKind::WouldBlock, "it goes on"),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

/// The one proxy, which is never stopped.
fn proxy() -> &'static Proxy {
    static PROXY: OnceLock<Proxy> = OnceLock::new();
    PROXY.get_or_init(|| {
        let short = ["PROXY_HEADER_TIMEOUT", "PROXY_IDLE_TIMEOUT", "PROXY_WRITE_TIMEOUT"];
        Proxy::start(listen(serve), &short.map(|name| (name, "200ms")))
    })
}

/// A backend's connection.
fn serve(mut stream: TcpStream) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let length = match message(&bytes) {
            Ok(length) => length,
            Err(odd) => return tell(odd),
        };
        match length {
            Some(length) if length < bytes.len() => {
                return tell(format!("{} bytes after a message", bytes.len() - length));
            }
            Some(_) => {
                MESSAGES.fetch_add(1, Ordering::Relaxed);
                bytes.clear();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if stream.write_all(answer).is_err() {
                    return;
                }
            }
            None => match stream.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
            },
        }
    }
}

fn tell(odd: String) {
    ODD.lock().unwrap_or_else(PoisonError::into_inner).replace(odd);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_seen_and_so_is_what_arrives() {
        let (start, before) = (Instant::now(), MESSAGES.load(Ordering::Relaxed));
        while MESSAGES.load(Ordering::Relaxed) < before + 10 {
            assert!(start.elapsed() < PATIENCE);
            frames(include_bytes!("../../../../fuzz/seeds/frames/many"));
        }
        let client = TcpStream::connect(proxy().traffic).unwrap();
        while proxy().connections() == 0 {
            assert!(start.elapsed() < PATIENCE);
        }
        drop(client);
    }
}
