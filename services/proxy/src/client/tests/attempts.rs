//! The limits of time of a request's attempts, as its client meets them.

use std::cell::Cell;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const TRY: (&str, &str) = ("PROXY_TRY_TIMEOUT", "2s");
const ALL: (&str, &str) = ("PROXY_RESPONSE_TIMEOUT", "20s");

/// The same as times, which go by the millisecond.
const TRY_TIME: Duration = seconds(2);
const ALL_TIME: Duration = seconds(20);
const MOMENT: Duration = Duration::from_millis(1);

/// What a backend does with each request, from the first one on. The last of them it does again.
#[derive(Clone, Copy)]
enum Does {
    Answer,
    AnswerAfter(Duration),
    /// It closes the connection.
    Close,
    /// Nothing.
    Hang,
}

/// A request over backends that do these things, and its client.
struct Request {
    bench: Bench,
    client: std::net::TcpStream,
    heard: Vec<u8>,
    arrived: Rc<Cell<usize>>,
    start: Instant,
}

impl Request {
    async fn send(method: &str, variables: &[(&str, &str)], backends: &[&'static [Does]]) -> Self {
        let (mut addresses, arrived) = (Vec::new(), Rc::default());
        for does in backends {
            addresses.push(backend(does, &arrived).await);
        }
        let bench = Bench::over(&[&[TRY, ALL], variables].concat(), &addresses);
        let (session, socket, client) = connect(&bench, head(method).as_bytes());
        client.set_nonblocking(true).unwrap();
        start(session, socket, true);
        Self { bench, client, heard: Vec::new(), arrived, start: Instant::now() }
    }

    /// Waits until so many have come to backends, while no time passes.
    async fn arrives(&self, times: usize) {
        until(|| self.arrived.get() == times).await;
    }

    /// Nothing happens for so long: no more come than these, and there is no answer.
    async fn waits(&mut self, time: Duration, arrived: usize) {
        sleep(time - MOMENT).await;
        settle().await;
        assert!(!self.hears("HTTP"), "it is answered too soon");
        assert_eq!(self.arrived.get(), arrived, "after {:?}", self.start.elapsed());
        sleep(MOMENT).await;
    }

    fn hears(&mut self, what: &str) -> bool {
        let _ = self.client.read_to_end(&mut self.heard);
        String::from_utf8_lossy(&self.heard).contains(what)
    }

    /// Waits until it has this answer, while no time passes.
    async fn is_answered(&mut self, what: &str) {
        until(|| self.hears(what)).await;
    }
}

fn head(method: &str) -> String {
    format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
}

async fn backend(does: &'static [Does], arrived: &Rc<Cell<usize>>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (arrived, mine) = (Rc::clone(arrived), Rc::<Cell<usize>>::default());
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (arrived, mine) = (Rc::clone(&arrived), Rc::clone(&mine));
            tokio::task::spawn_local(serve(stream, does, arrived, mine));
        }
    });
    address
}

async fn serve(
    mut stream: TcpStream,
    does: &'static [Does],
    arrived: Rc<Cell<usize>>,
    mine: Rc<Cell<usize>>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut head).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
        arrived.set(arrived.get() + 1);
        match does[mine.replace(mine.get() + 1).min(does.len() - 1)] {
            Does::Answer => {}
            Does::AnswerAfter(time) => sleep(time).await,
            Does::Close => return,
            Does::Hang => std::future::pending().await,
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }
}

const HANG: &[Does] = &[Does::Hang];
const LATE: &[Does] = &[Does::AnswerAfter(seconds(15))];

#[tokio::test(start_paused = true)]
async fn a_request_that_a_backend_is_slow_with_is_tried_elsewhere_when_the_time_for_a_try_is_over()
{
    let run = async {
        let mut request = Request::send("GET", &[], &[LATE, LATE]).await;
        request.arrives(1).await;
        request.waits(TRY_TIME, 1).await;
        request.arrives(2).await;
        assert_eq!(request.start.elapsed(), TRY_TIME);
        request.waits(seconds(15), 2).await;
        request.is_answered("HTTP/1.1 200").await;
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_that_may_not_be_made_elsewhere_is_not_cut_off() {
    let run = async {
        let cases: [(&str, &[&'static [Does]], &str, &str); 4] = [
            // It may have been done.
            ("POST", &[LATE, LATE], "PROXY_RETRIES", "1"),
            ("GET", &[LATE, LATE], "PROXY_RETRIES", "0"),
            ("GET", &[LATE, LATE], "PROXY_RETRY_BUDGET", "0%"),
            // There is nobody else.
            ("GET", &[LATE], "PROXY_RETRIES", "1"),
        ];
        for (method, backends, name, value) in cases {
            let mut request = Request::send(method, &[(name, value)], backends).await;
            request.arrives(1).await;
            request.waits(seconds(15), 1).await;
            request.is_answered("HTTP/1.1 200").await;
            assert_eq!(request.start.elapsed(), seconds(15), "{method} with {name}");
        }
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn the_response_timeout_is_for_all_attempts_if_there_is_a_limit_for_each() {
    let run = async {
        let mut request = Request::send("GET", &[], &[HANG, HANG]).await;
        request.arrives(1).await;
        request.waits(TRY_TIME, 1).await;
        request.arrives(2).await;
        request.waits(ALL_TIME - TRY_TIME, 2).await;
        request.is_answered("response_timeout").await;
        assert!(request.hears("HTTP/1.1 504"));
        assert_eq!(request.start.elapsed(), ALL_TIME);
    };
    LocalSet::new().run_until(run).await;
}

/// A bound on waits that no random one of them comes near the end of a request's time.
const VERY_LONG: (&str, &str) = ("PROXY_RETRY_BACKOFF", "24h");

#[tokio::test(start_paused = true)]
async fn a_later_retry_waits_no_longer_than_the_request_may_take() {
    let run = async {
        fastrand::seed(7);
        let variables = [("PROXY_RETRIES", "2"), VERY_LONG];
        let mut request = Request::send("GET", &variables, &[HANG, HANG, HANG]).await;
        request.arrives(1).await;
        request.waits(TRY_TIME, 1).await;
        request.arrives(2).await;
        request.waits(TRY_TIME, 2).await;
        settle().await;
        assert_eq!(request.arrived.get(), 2, "the third has to wait");
        sleep(ALL_TIME - 2 * TRY_TIME).await;
        request.arrives(3).await;
        request.is_answered("HTTP/1.1 504").await;
        assert_eq!(request.start.elapsed(), ALL_TIME);
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_on_the_same_backend_waits_for_some_of_its_time() {
    let run = async {
        fastrand::seed(7);
        let does = &[Does::Answer, Does::Close, Does::Answer];
        let variables = [("PROXY_RETRY_BACKOFF", "10s")];
        let mut request = Request::send("GET", &variables, &[does]).await;
        request.is_answered("HTTP/1.1 200").await;
        request.heard.clear();
        // Its connection is kept, and breaks.
        request.client.write_all(head("GET").as_bytes()).unwrap();
        request.arrives(2).await;
        settle().await;
        assert_eq!(request.arrived.get(), 2, "it is tried again at once");
        let open = &request.bench.worker.gauges.client_active;
        assert_eq!(open.load(Ordering::Relaxed), 1, "it goes on");
        sleep(seconds(10)).await;
        request.arrives(3).await;
        request.is_answered("HTTP/1.1 200").await;
    };
    LocalSet::new().run_until(run).await;
}
