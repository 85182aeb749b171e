//! Clients that take their time on purpose, many at once, in the ways that slowhttptest knows: the limits of
//! time and of rates end them all when their time is over, and nothing is left of them. That others are
//! served meanwhile, `stack/tests/slow_clients.rs` shows of a whole proxy.

use std::cell::Cell;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const CLIENTS: usize = 20;

/// What a client takes at once that takes its time.
const SOME: u64 = 4_000;
const ALL: u64 = u64::MAX;

/// So many clients, and the proxy that serves them.
struct Crowd {
    bench: Bench,
    clients: Vec<std::net::TcpStream>,
    activities: Vec<Rc<Activity>>,
    start: Instant,
}

impl Crowd {
    /// Each of them has sent `beginning`.
    fn new(variables: &[(&str, &str)], backend: SocketAddr, beginning: &str) -> Self {
        let bench = Bench::new(variables, backend);
        let (mut clients, mut activities) = (Vec::new(), Vec::new());
        for _ in 0..CLIENTS {
            let (session, socket, client) = connect(&bench, beginning.as_bytes());
            client.set_nonblocking(true).unwrap();
            clients.push(client);
            activities.push(Rc::clone(&session.activity));
            start(session, socket, true);
        }
        Self { bench, clients, activities, start: Instant::now() }
    }

    /// Each sends so much more, if it still may.
    async fn send(&self, bytes: &[u8]) {
        for mut client in &self.clients {
            let _ = client.write(bytes);
        }
        settle().await;
    }

    /// Each takes so much of what there is for it.
    async fn take(&self, taken: &mut [Vec<u8>], most: u64) {
        for (client, taken) in self.clients.iter().zip(taken) {
            // Its end is not there yet, or is a reset.
            let _ = client.take(most).read_to_end(taken);
        }
        settle().await;
    }

    /// Waits until all have ended of which nobody has to be told any more. What each was told.
    async fn over(self) -> Vec<String> {
        sleep(2 * LINGER).await;
        let gauges = &self.bench.worker.gauges;
        let left = [&gauges.client_open, &gauges.client_active, &gauges.backend_open];
        until(|| left.iter().all(|left| left.load(Ordering::Relaxed) == 0)).await;
        assert_eq!((self.bench.worker.open.get(), gauges.buffered.bytes()), (0, 0));
        let mut told = vec![Vec::new(); CLIENTS];
        self.take(&mut told, ALL).await;
        told.iter().map(|told| String::from_utf8_lossy(told).into_owned()).collect()
    }

    fn hits(&self, limit: Limit) -> usize {
        self.bench.worker.gauges.limits.of(limit) as usize
    }
}

/// A backend that answers each request at its head, and then takes the rest for as long as it comes. The
/// requests that it has had.
async fn backend(answer: Vec<u8>) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, requests) = (listener.local_addr().unwrap(), Rc::<Cell<usize>>::default());
    let counted = Rc::clone(&requests);
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, counted) = (answer.clone(), Rc::clone(&counted));
            tokio::task::spawn_local(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    stream.read_buf(&mut head).await.unwrap();
                }
                counted.update(|count| count + 1);
                // The proxy may not want all of it.
                let _ = stream.write_all(&answer).await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            });
        }
    });
    (address, requests)
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn heads_that_trickle_in_are_answered_408_when_their_time_is_over() {
    let run = async {
        let crowd = Crowd::new(&LIMITS, closed_port(), "GET / HTTP/1.1\r\nHost: a\r\n");
        let late = || crowd.bench.worker.gauges.header_timeouts.load(Ordering::Relaxed);
        until(|| crowd.activities.iter().all(|activity| activity.is(Phase::Head))).await;
        for second in 0..11 {
            assert_eq!(late(), 0, "{second}");
            crowd.send(b"X-a: b\r\n").await;
            sleep(seconds(1)).await;
        }
        until(|| late() == CLIENTS as u64).await;
        assert_eq!(crowd.start.elapsed(), seconds(11));
        for told in crowd.over().await {
            assert!(told.starts_with("HTTP/1.1 408"), "{told}");
            assert!(told.contains("details=\"request_timeout\""), "{told}");
        }
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn clients_that_rest_are_left_when_their_idle_time_is_over() {
    let run = async {
        let crowd = Crowd::new(&LIMITS, closed_port(), ASK);
        let gauges = Arc::clone(&crowd.bench.worker.gauges);
        let resting = || gauges.client_resting.load(Ordering::Relaxed);
        let is_answered = |activity: &Rc<Activity>| !activity.awaits_first_request();
        until(|| crowd.activities.iter().all(is_answered)).await;
        settle().await;
        sleep(seconds(7)).await;
        until(|| resting() == CLIENTS as i64).await;
        sleep(seconds(70 - 7) - Duration::from_millis(1)).await;
        settle().await;
        assert_eq!(resting(), CLIENTS as i64);
        sleep(Duration::from_millis(1)).await;
        until(|| gauges.client_open.load(Ordering::Relaxed) == 0).await;
        assert_eq!(crowd.start.elapsed(), seconds(70));
        assert_eq!(gauges.idle_timeouts.load(Ordering::Relaxed), CLIENTS as u64);
        for told in crowd.over().await {
            assert!(told.starts_with("HTTP/1.1 204") && told.ends_with("\r\n\r\n"), "{told}");
        }
    };
    LocalSet::new().run_until(run).await;
}

/// A byte a second, where a hundred are the least. An answer that came meanwhile does not help.
#[tokio::test(start_paused = true)]
async fn bodies_that_trickle_in_are_broken_off_when_their_rate_is_looked_at() {
    let run = async {
        for (answer, expected) in [(&b""[..], "HTTP/1.1 408"), (OK, "HTTP/1.1 200")] {
            let (address, requests) = backend(answer.into()).await;
            let beginning = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8192\r\n\r\n";
            let crowd = Crowd::new(&LIMITS, address, beginning);
            until(|| requests.get() == CLIENTS).await;
            settle().await;
            for second in 0..10 {
                crowd.send(b"x").await;
                assert_eq!(crowd.hits(Limit::UploadRate), 0, "{expected} after {second} s");
                sleep(seconds(1)).await;
            }
            crowd.send(b"x").await;
            until(|| crowd.hits(Limit::UploadRate) == CLIENTS).await;
            assert_eq!(crowd.start.elapsed(), seconds(10), "{expected}");
            let stats = Arc::clone(&crowd.bench.stats);
            for told in crowd.over().await {
                assert!(told.starts_with(expected), "{told}");
                assert_eq!(told.contains("request_timeout"), answer.is_empty(), "{told}");
            }
            let numbers = &stats.numbers()["backend"];
            assert_eq!((numbers.requests_total(), numbers.errors), (CLIENTS as u64, 0));
        }
    };
    LocalSet::new().run_until(run).await;
}

/// An answer that a client's system has no room for, with a length and without.
fn large_answers() -> [Vec<u8>; 2] {
    let body = vec![b'x'; LARGE];
    let head = "HTTP/1.1 200 OK\r\n";
    let whole = format!("{head}content-length: {LARGE}\r\n\r\n");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{LARGE:x}\r\n");
    [[whole.as_bytes(), &body].concat(), [chunked.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()]
}

/// So much that it goes through a pipe at first, where its length is known.
const LARGE: usize = 512 * 1024;

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn answers_of_which_nothing_is_taken_are_cut_when_the_time_for_that_is_over() {
    let run = async {
        for answer in large_answers() {
            let (address, _) = backend(answer).await;
            let crowd = Crowd::new(&LIMITS, address, GET);
            let late = || crowd.bench.worker.gauges.write_timeouts.load(Ordering::Relaxed);
            until(|| crowd.activities.iter().all(|activity| activity.is_blocked())).await;
            while late() < CLIENTS as u64 && crowd.start.elapsed() < NEVER {
                sleep(seconds(1)).await;
                settle().await;
            }
            // The system may have found room for more while time passed here.
            let blocked_at = crowd.activities.iter().map(|activity| activity.blocked_at()).max();
            let expected = blocked_at.unwrap() - crowd.start + seconds(50);
            let after = crowd.start.elapsed();
            assert!((expected..=expected + seconds(1)).contains(&after), "{after:?}");
            is_cut(crowd).await;
        }
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_taken_too_slowly_are_cut_and_no_backend_is_blamed() {
    let run = async {
        for answer in large_answers() {
            let (address, _) = backend(answer).await;
            let variables = [&LIMITS[..], &[("PROXY_DOWNLOAD_RATE_MIN", "100000")]].concat();
            let crowd = Crowd::new(&variables, address, GET);
            until(|| crowd.activities.iter().all(|activity| activity.is_blocked())).await;
            let mut taken = vec![Vec::new(); CLIENTS];
            while crowd.hits(Limit::DownloadRate) < CLIENTS && crowd.start.elapsed() < NEVER {
                sleep(seconds(4)).await;
                crowd.take(&mut taken, SOME).await;
            }
            // It is looked at when there is room for more, and ten seconds have passed.
            let after = crowd.start.elapsed();
            assert!((seconds(10)..seconds(40)).contains(&after), "{after:?}");
            assert!(taken.iter().all(|taken| !taken.is_empty()));
            is_cut(crowd).await;
        }
    };
    LocalSet::new().run_until(run).await;
}

/// All clients got less than a whole answer, which counts as their doing.
async fn is_cut(crowd: Crowd) {
    let stats = Arc::clone(&crowd.bench.stats);
    assert!(crowd.over().await.iter().all(|told| told.len() < LARGE));
    let numbers = &stats.numbers()["backend"];
    let gone = numbers.requests.iter().map(|(&(_, code), count)| (code, *count));
    assert_eq!(gone.collect::<Vec<_>>(), [(499, CLIENTS as u64)]);
    assert_eq!(numbers.errors, 0);
}

/// Shorter than what one may take nothing, and together much longer than one may be idle.
#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_gets_all_of_its_answer() {
    let run = async {
        let [answer, _] = large_answers();
        let (address, _) = backend(answer).await;
        let variables = [&LIMITS[..], &[("PROXY_DOWNLOAD_RATE_MIN", "0")]].concat();
        let crowd = Crowd::new(&variables, address, GET);
        until(|| crowd.activities.iter().all(|activity| activity.is_blocked())).await;
        let mut taken = vec![Vec::new(); CLIENTS];
        while crowd.bench.worker.open.get() > 0 && crowd.start.elapsed() < NEVER {
            sleep(seconds(10)).await;
            crowd.take(&mut taken, SOME).await;
        }
        assert!(crowd.start.elapsed() > seconds(3 * 70), "{:?}", crowd.start.elapsed());
        for _ in 0..10 {
            // What its system has no room for waits in ours, though the connection is closed.
            crowd.take(&mut taken, ALL).await;
        }
        for taken in taken {
            let taken = String::from_utf8(taken).unwrap();
            let (head, body) = taken.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 ") && body.len() == LARGE, "{head}");
        }
        assert_eq!(crowd.bench.worker.gauges.write_timeouts.load(Ordering::Relaxed), 0);
    };
    LocalSet::new().run_until(run).await;
}

/// What waits is in a pipe, and has waited for so long that the rest would not go through it any more.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_its_answer_waits_ends_its_connection_and_nothing_else() {
    let run = async {
        let [answer, _] = large_answers();
        let (address, _) = backend(answer).await;
        let mut case = Case::over(Some(address), &LIMITS, GET.as_bytes());
        case.client.set_nonblocking(true).unwrap();
        let (socket, activity) = (case.socket.take().unwrap(), case.activity());
        let Session { worker, client, .. } = &case.session;
        let gauges = Arc::clone(&worker.gauges);
        let (worker, client, its) = (Rc::clone(worker), Rc::clone(client), case.activity());
        let serving = tokio::task::spawn_local(async move {
            http1::serve(&worker, socket, true, &client, &its).await
        });
        until(|| {
            let _ = (&case.client).take(SOME).read_to_end(&mut Vec::new());
            gauges.pipes.load(Ordering::Relaxed) == 1
        })
        .await;
        until(|| activity.is_blocked()).await;
        sleep(seconds(1)).await;
        // With something unread, which resets the connection.
        drop(case.client);
        let then = tokio::time::timeout(NEVER, serving).await.expect("it stays");
        assert!(matches!(then, Ok(Then::Close)));
        let gone = case.bench.stats.numbers()["backend"].requests[&("GET", 499)];
        assert_eq!((gone, gauges.pipes.load(Ordering::Relaxed)), (1, 0));
    };
    LocalSet::new().run_until(run).await;
}
