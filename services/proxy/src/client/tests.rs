//! The limits of time of a client's connection. Bytes go over real sockets while time stands still, and
//! then it passes only where everybody waits: so each limit is seen to the millisecond.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chassis::net::closed_port;
use tokio::{
    task::LocalSet,
    time::{Instant, sleep},
};

use super::{activity::Phase, linger::LINGER, *};
use crate::{
    http2::whole_heads::PREFACE,
    limits::Limit,
    worker::{
        Stage,
        tests::{Bench, settle, until},
    },
};

mod attempts;
mod slow;
mod stale;
mod versions;

/// Longer than any limit here: what is not over by then never is.
const NEVER: Duration = Duration::from_secs(3_600);

/// Of each a different one, none of which can be taken for another.
const LIMITS: [(&str, &str); 5] = [
    ("PROXY_HEADER_TIMEOUT", "11s"),
    ("PROXY_IDLE_TIMEOUT", "70s"),
    ("PROXY_WRITE_TIMEOUT", "50s"),
    ("PROXY_REST_AFTER", "7s"),
    ("PROXY_STOP_MAX", "30s"),
];

/// What the proxy answers by itself.
const ASK: &str = "OPTIONS / HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n";

/// A client's connection that is yet to be served, and the client's end of it.
struct Case {
    bench: Bench,
    session: Session,
    socket: Option<Socket>,
    client: std::net::TcpStream,
}

impl Case {
    /// One on which the client has sent this.
    fn new(bytes: &[u8]) -> Self {
        Self::over(None, &LIMITS, bytes)
    }

    /// The same of a proxy over this backend, if it may not be one that does nothing.
    fn over(backend: Option<SocketAddr>, variables: &[(&str, &str)], bytes: &[u8]) -> Self {
        let bench = Bench::new(variables, backend.unwrap_or_else(closed_port));
        let (session, socket, client) = connect(&bench, bytes);
        Self { bench, session, socket: Some(socket), client }
    }

    fn activity(&self) -> Rc<Activity> {
        Rc::clone(&self.session.activity)
    }

    /// Serves it as HTTP/1, once that has come to where its time begins to pass. What comes after it,
    /// and after how long.
    async fn http1(&mut self, begins: impl FnMut() -> bool) -> (Then, Duration) {
        let socket = self.socket.take().unwrap();
        let Session { worker, client, activity, .. } = &self.session;
        let (worker, client) = (Rc::clone(worker), Rc::clone(client));
        let (activity, start) = (Rc::clone(activity), Instant::now());
        let serving = tokio::task::spawn_local(async move {
            http1::serve(&worker, socket, true, &client, &activity).await
        });
        until(begins).await;
        assert_eq!(start.elapsed(), Duration::ZERO, "time stands still");
        let then = tokio::time::timeout(NEVER, serving).await.expect("it goes on").unwrap();
        (then, start.elapsed())
    }

    /// Serves it as HTTP/2 of which this has come; after how long it ends.
    async fn http2(&mut self, read: &[u8]) -> Duration {
        let (socket, start) = (self.socket.take().unwrap(), Instant::now());
        let Session { worker, client, activity, .. } = &self.session;
        let serving = http2::serve(worker, socket, read.into(), client, activity);
        tokio::time::timeout(NEVER, serving).await.expect("it goes on");
        start.elapsed()
    }

    /// What the client gets, up to so many bytes or the end.
    fn hears(mut self, most: usize) -> String {
        drop(self.socket.take());
        let mut heard = vec![0; most];
        let count = self.client.read(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..count]).into_owned()
    }

    /// How often clients took too long over a head, between two requests, over a response.
    fn counts(&self) -> [u64; 3] {
        let gauges = &self.bench.worker.gauges;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [&gauges.header_timeouts, &gauges.idle_timeouts, &gauges.write_timeouts].map(count)
    }
}

/// A client's connection on which it has sent this, and its end of it.
fn connect(bench: &Bench, bytes: &[u8]) -> (Session, Socket, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // As on an Ethernet: of what is larger than the room that there is, the kernel sends nothing at first.
    client.set_tcp_mss(1460).unwrap();
    // So that what fills them is soon written.
    client.set_recv_buffer_size(4096).unwrap();
    client.connect(&address.into()).unwrap();
    let mut client: std::net::TcpStream = client.into();
    let stream = listener.accept().unwrap().0;
    socket2::SockRef::from(&stream).set_send_buffer_size(4096).unwrap();
    stream.set_nonblocking(true).unwrap();
    client.write_all(bytes).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let Worker { open, gauges, .. } = &*bench.worker;
    let counted = (Open::new(open), Counted::new(gauges, |gauges| &gauges.client_open));
    let who = Rc::new(Client::new(address.ip(), &[]));
    let session = Session::new(&bench.worker, who, counted);
    let stream = TcpStream::from_std(stream).unwrap();
    (session, Socket { stream, _guest: None }, client)
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    bytes.extend(payload);
    bytes
}

/// The preface and settings, of which the first window of a stream is one.
fn hello(window: u8) -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[0, 4, 0, 0, 0, window])].concat()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_answered_408_when_its_time_is_over() {
    let run = async {
        let mut case = Case::new(b"GET / HTTP/1.1\r\nHost:");
        let activity = case.activity();
        let (then, after) = case.http1(|| activity.is(Phase::Head)).await;
        assert!(matches!(then, Then::Linger(_)), "it may be sending");
        assert_eq!((after, case.counts()), (seconds(11), [1, 0, 0]));
        assert!(case.hears(12).starts_with("HTTP/1.1 408"));
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_of_http_2_that_does_not_end_ends_the_connection_when_its_time_is_over() {
    let run = async {
        let mut case = Case::new(b"");
        // HEADERS without END_HEADERS: the rest has to follow.
        let begun = [hello(0), frame(1, 1, 1, &[0x82])].concat();
        let after = case.http2(&begun).await;
        // As nothing else is going on, it is told first, and gets a second to say goodbye.
        assert_eq!((after, case.counts()), (seconds(11) + FIRST_REQUEST, [1, 0, 0]));
    };
    LocalSet::new().run_until(run).await;
}

/// Nothing of it is known to be valid before its end.
#[tokio::test(start_paused = true)]
async fn a_head_of_http_2_has_no_more_time_as_it_goes_on_and_nothing_of_it_is_left() {
    let run = async {
        let mut case = Case::new(b"");
        let mut client = case.client.try_clone().unwrap();
        let gauges = Arc::clone(&case.bench.worker.gauges);
        let mut held = Vec::new();
        let trickle = async {
            loop {
                tokio::time::sleep(seconds(5)).await;
                held.push(gauges.buffered.bytes());
                // CONTINUATION, of which more has to follow.
                let _ = client.write_all(&frame(9, 0, 1, b"abc"));
            }
        };
        let begun = [hello(0), frame(1, 1, 1, &[0x82])].concat();
        let after = tokio::select! {
            after = case.http2(&begun) => after,
            () = trickle => unreachable!("it never ends"),
        };
        assert_eq!((after, case.counts()), (seconds(11) + FIRST_REQUEST, [1, 0, 0]));
        assert!(held.len() == 2 && held.iter().all(|bytes| *bytes > 0), "{held:?}");
        assert_eq!(gauges.buffered.bytes(), 0);
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_left_when_its_time_is_over() {
    let run = async {
        let mut case = Case::new(b"");
        let (then, after) = case.http1(|| true).await;
        assert!(matches!(then, Then::Close));
        assert_eq!((after, case.counts()), (seconds(70), [0, 1, 0]));

        let mut case = Case::new(b"");
        let after = case.http2(&hello(0)).await;
        assert_eq!((after, case.counts()), (seconds(70) + FIRST_REQUEST, [0, 1, 0]));
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_answered_rests_soon_and_is_left_when_its_idle_time_is_over() {
    let run = async {
        let mut case = Case::new(ASK.as_bytes());
        let (activity, mut was_busy) = (case.activity(), false);
        let begins = || {
            was_busy |= !activity.awaits_first_request();
            was_busy && activity.is(Phase::Idle)
        };
        let (then, after) = case.http1(begins).await;
        let Then::Rest(socket) = then else { panic!("it does not rest") };
        assert_eq!((after, case.counts()), (seconds(7), [0, 0, 0]));
        let start = Instant::now();
        let back = tokio::time::timeout(NEVER, rest::is_back(&case.session, &socket)).await;
        assert_eq!(back, Ok(false));
        assert_eq!((start.elapsed(), case.counts()), (seconds(70 - 7), [0, 1, 0]));
    };
    LocalSet::new().run_until(run).await;
}

/// A part of it, or of an empty line before it (RFC 9112 §2.2).
#[tokio::test(start_paused = true)]
async fn what_has_come_of_the_next_request_is_kept_where_others_would_rest() {
    let run = async {
        for next in [ASK.to_owned(), format!("\r\n{ASK}")] {
            let (beginning, rest) = next.split_at(if next == ASK { 7 } else { 1 });
            let mut case = Case::new([ASK, beginning].concat().as_bytes());
            let (socket, activity) = (case.socket.take().unwrap(), case.activity());
            let Session { worker, client, .. } = &case.session;
            let (worker, client, its) = (Rc::clone(worker), Rc::clone(client), case.activity());
            let serving = tokio::task::spawn_local(async move {
                http1::serve(&worker, socket, true, &client, &its).await
            });
            // Both have come with one read.
            until(|| !activity.awaits_first_request() && !activity.is(Phase::Busy)).await;
            sleep(seconds(7 + 1)).await;
            assert!(!serving.is_finished(), "it rests");
            case.client.write_all(rest.as_bytes()).unwrap();
            case.client.set_nonblocking(true).unwrap();
            let mut heard = Vec::new();
            until(|| {
                let _ = case.client.read_to_end(&mut heard);
                String::from_utf8_lossy(&heard).matches("HTTP/1.1 204").count() == 2
            })
            .await;
            serving.abort();
        }
    };
    LocalSet::new().run_until(run).await;
}

/// It may be about to send its first request.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_nothing_yet_has_a_second_when_a_stop_closes_connections() {
    let run = async {
        let mut case = Case::new(b"");
        case.bench.come_to(Stage::Finishing);
        let (then, after) = case.http1(|| true).await;
        assert!(matches!(then, Then::Close));
        assert_eq!((after, case.counts()), (FIRST_REQUEST, [0, 0, 0]));

        let mut case = Case::new(b"");
        case.bench.come_to(Stage::Finishing);
        let after = case.http2(&hello(0)).await;
        // It is told so then, and has as long to send elsewhere what is on its way.
        assert_eq!((after, case.counts()), (2 * FIRST_REQUEST, [0, 0, 0]));
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_off_when_its_time_is_over() {
    let run = async {
        let mut case = Case::new(ASK.repeat(2_000).as_bytes());
        let (activity, start) = (case.activity(), Instant::now());
        let (then, after) = case.http1(|| activity.is_blocked()).await;
        assert!(matches!(then, Then::Close));
        // The system may have found room for more while time passed here.
        let since = activity.blocked_at() - start;
        assert_eq!((after, case.counts()), (since + seconds(50), [0, 0, 1]));
    };
    LocalSet::new().run_until(run).await;
}

/// `GET http://a/` on the first stream, which no backend answers.
fn get() -> Vec<u8> {
    frame(1, 5, 1, &[0x82, 0x84, 0x86, 0x41, 1, b'a'])
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_has_no_room_is_reset_when_its_time_is_over() {
    let run = async {
        let mut case = Case::new(b"");
        // The text that says that no backend answers has no room.
        let begun = [hello(0), get()].concat();
        let (gauges, start) = (Arc::clone(&case.bench.worker.gauges), Instant::now());
        let reset = async {
            while gauges.write_timeouts.load(Ordering::Relaxed) == 0 {
                sleep(seconds(1)).await;
            }
            start.elapsed()
        };
        let (after, end) = tokio::join!(tokio::time::timeout(NEVER, reset), case.http2(&begun));
        // It is looked for as often as the shortest limit.
        let after = after.expect("it stays");
        assert!((seconds(50)..=seconds(50 + 11)).contains(&after), "{after:?}");
        assert!(end > after, "the connection goes on without it");
        assert_eq!(case.counts(), [0, 1, 1]);
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_takes_a_byte_now_and_then_is_reset_and_its_connection_goes_on() {
    let run = async {
        let mut case = Case::new(b"");
        let mut client = case.client.try_clone().unwrap();
        let (gauges, start) = (Arc::clone(&case.bench.worker.gauges), Instant::now());
        let trickle = async {
            while gauges.limits.of(Limit::DownloadRate) == 0 {
                sleep(seconds(4)).await;
                let _ = client.write_all(&frame(8, 0, 1, &[0, 0, 0, 1]));
            }
            start.elapsed()
        };
        // There is room for a byte, for which the library is given all of the text.
        let begun = [hello(1), get()].concat();
        let (after, end) = tokio::join!(tokio::time::timeout(NEVER, trickle), case.http2(&begun));
        let after = after.expect("it stays");
        // It comes after 3 s, and is looked at as often as the shortest limit.
        assert!((seconds(10)..=seconds(3 + 10 + 11 + 4)).contains(&after), "{after:?}");
        // Idle from then on.
        let since = end.checked_sub(seconds(70) + FIRST_REQUEST).expect("it has not waited");
        assert!((seconds(10)..=seconds(3 + 10 + 11)).contains(&since), "{since:?}");
        assert_eq!((case.counts(), gauges.limits.of(Limit::DownloadRate)), ([0, 1, 0], 1));
    };
    LocalSet::new().run_until(run).await;
}

/// One that is on its way may be sent again only if it is said that it is not served (RFC 9113 §6.8).
#[tokio::test(start_paused = true)]
async fn a_client_of_http_2_that_has_asked_for_nothing_yet_is_told_before_a_stop_ends_its_connection()
 {
    let run = async {
        let mut case = Case::new(b"");
        case.bench.stop();
        case.bench.come_to(Stage::Finishing);
        let after = case.http2(&hello(0)).await;
        let mut heard = Vec::new();
        case.client.read_to_end(&mut heard).unwrap();
        let (mut rest, mut kinds) = (&heard[..], Vec::new());
        while let [_, high, low, kind, ..] = rest {
            kinds.push(*kind);
            rest = &rest[9 + usize::from(u16::from_be_bytes([*high, *low]))..];
        }
        assert!(kinds.contains(&7), "no GOAWAY: {kinds:?}");
        // It gets a second to ask for something, and one to say goodbye.
        assert_eq!((after, case.counts()), (FIRST_REQUEST * 2, [0, 0, 0]));
    };
    LocalSet::new().run_until(run).await;
}

/// What it says may be how much it has taken (RFC 9113 §6.9), or nothing.
#[tokio::test(start_paused = true)]
async fn a_client_of_http_2_that_talks_on_after_the_end_is_left_when_a_stop_waits_no_longer() {
    let run = async {
        // Without a stop, and so many seconds after one was asked for.
        for (stopped, expected) in
            [(None, seconds(50)), (Some(12), seconds(18)), (Some(40), LINGER)]
        {
            let mut case = Case::new(b"");
            let (socket, worker) = (case.socket.take().unwrap(), Rc::clone(&case.bench.worker));
            if let Some(since) = stopped {
                case.bench.stop();
                tokio::time::advance(seconds(since)).await;
            }
            let start = Instant::now();
            let talking = async {
                loop {
                    sleep(seconds(4)).await;
                    let _ = case.client.write_all(b"x");
                }
            };
            let lingering = linger::linger_while_taken(socket, &worker);
            tokio::select! {
                left = tokio::time::timeout(NEVER, lingering) => left.expect("it stays"),
                () = talking => {}
            }
            assert_eq!(start.elapsed(), expected, "{stopped:?}");
        }
    };
    LocalSet::new().run_until(run).await;
}

/// A connection to a backend that has read a head which asks whether to go on.
fn arrived(backend: &TcpListener, stream: &mut Option<std::net::TcpStream>) -> bool {
    let Some(stream) = stream else {
        *stream = backend.accept().ok().map(|(stream, _)| stream);
        return false;
    };
    stream.set_nonblocking(true).unwrap();
    let mut head = [0; 1024];
    let Ok(count) = stream.read(&mut head) else { return false };
    let head = String::from_utf8_lossy(&head[..count]).into_owned();
    assert!(head.contains("expect: 100-continue\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    true
}

/// RFC 9110 §10.1.1.
#[tokio::test(start_paused = true)]
async fn a_body_is_asked_for_when_its_backend_does_or_has_said_nothing_for_a_second() {
    let run = async {
        let millis = Duration::from_millis;
        for (says, timeout, is_old, expected) in [
            // One that answered in HTTP/1.0 before will never ask.
            ("", "30s", true, millis(0)),
            ("HTTP/1.1 100 Continue\r\n\r\n", "30s", false, millis(0)),
            (
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
                "30s",
                false,
                millis(0),
            ),
            ("", "30s", false, millis(1_000)),
            ("", "1s", false, millis(500)),
        ] {
            let backend = TcpListener::bind("127.0.0.1:0").unwrap();
            backend.set_nonblocking(true).unwrap();
            let head =
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
            let variables = [("PROXY_RESPONSE_TIMEOUT", timeout)];
            let mut case = Case::over(Some(backend.local_addr().unwrap()), &variables, head);
            let mut client = case.client.try_clone().unwrap();
            client.set_nonblocking(true).unwrap();
            let mut heard = Vec::new();
            let mut hears = move |what: &str| {
                let mut bytes = [0; 1024];
                let count = client.read(&mut bytes).unwrap_or(0);
                heard.extend_from_slice(&bytes[..count]);
                String::from_utf8_lossy(&heard).contains(what)
            };
            let socket = case.socket.take().unwrap();
            let Session { worker, client: who, activity, .. } = &case.session;
            let (worker, who, activity) = (Rc::clone(worker), Rc::clone(who), Rc::clone(activity));
            let ticket = worker.picker.borrow_mut().pick(None).unwrap();
            worker.upstreams.borrow_mut().of(ticket.member()).answered_in(!is_old);
            drop(ticket);
            let serving = tokio::task::spawn_local(async move {
                http1::serve(&worker, socket, true, &who, &activity).await
            });
            let (start, mut stream) = (Instant::now(), None);
            until(|| arrived(&backend, &mut stream)).await;
            let mut stream = stream.unwrap();
            stream.write_all(says.as_bytes()).unwrap();
            if let Some(before) = expected.checked_sub(millis(1)) {
                sleep(before).await;
                settle().await;
                assert!(!hears("HTTP"), "it is asked too soon");
                sleep(millis(1)).await;
            }
            until(|| hears("HTTP/1.1 100 Continue\r\n\r\n")).await;
            assert_eq!(start.elapsed(), expected, "{says:?}");
            case.client.write_all(b"ab").unwrap();
            let mut body = [0; 2];
            until(|| stream.read(&mut body).is_ok()).await;
            assert_eq!(&body, b"ab");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            until(|| hears("HTTP/1.1 200 OK\r\n")).await;
            serving.abort();
        }
    };
    LocalSet::new().run_until(run).await;
}
