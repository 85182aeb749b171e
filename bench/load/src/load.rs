//! Clients that keep a proxy busy, in a closed loop or at a fixed rate.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, net::TcpStream, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::{LoadOptions, message};

/// A request that takes longer has failed, and so has the run.
const PATIENCE: Duration = Duration::from_secs(10);

/// Before requests are due at a fixed rate, for each connection: a proxy that is busy accepting
/// them would be measured at that. Ample for all of the peers.
const ACCEPTED_WITHIN: Duration = Duration::from_micros(300);

/// Sends the load and prints what came of it, as a line of JSON.
pub(crate) fn run(options: &LoadOptions) -> io::Result<()> {
    let mut load = Load::new(options)?;
    if options.rate.is_some() {
        std::thread::sleep(ACCEPTED_WITHIN * options.connections as u32);
    }
    let start = Instant::now();
    let end = start + options.seconds;
    let due = options.rate.map(Due::every).transpose()?;
    if let Some(due) = &due {
        let source = &mut SourceFd(&due.timer.as_raw_fd());
        load.poll.registry().register(source, Token(options.connections), Interest::READABLE)?;
    } else {
        (0..options.connections).for_each(|at| load.start(at, Instant::now()));
    }
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 128 * 1024];
    loop {
        load.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            match &due {
                Some(due) if event.token().0 == options.connections => {
                    for at in due.take() {
                        load.fall_due(at);
                    }
                }
                _ => load.advance(event.token().0, &mut scratch),
            }
        }
        let now = Instant::now();
        if now >= end || load.requests >= options.requests {
            break;
        }
        if load.connections.iter().any(|one| one.is_busy && now - one.since > PATIENCE) {
            load.errors += 1;
            break;
        }
    }
    load.print(start.elapsed());
    Ok(())
}

/// When requests are due, for a fixed rate.
struct Due {
    timer: rustix::fd::OwnedFd,
    interval: Duration,
    start: Instant,
    count: std::cell::Cell<u32>,
}

impl Due {
    fn every(rate: u32) -> io::Result<Self> {
        let interval = Duration::from_secs(1) / rate;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let period = Timespec { tv_sec: 0, tv_nsec: interval.as_nanos() as _ };
        let setting = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
        Ok(Self { timer, interval, start: Instant::now(), count: 0.into() })
    }

    /// The moments that have passed since the last call.
    fn take(&self) -> impl Iterator<Item = Instant> {
        let mut expired = [0; 8];
        // Fails only if none has.
        let read = rustix::io::read(&self.timer, &mut expired).unwrap_or(0);
        let new = if read == 8 { u64::from_ne_bytes(expired) as u32 } else { 0 };
        let before = self.count.replace(self.count.get() + new);
        (before + 1..=before + new).map(|nth| self.start + self.interval * nth)
    }
}

struct Load {
    poll: Poll,
    target: SocketAddr,
    request: Vec<u8>,
    reconnects: bool,
    is_open: bool,
    may_be_refused: bool,
    connections: Vec<Connection>,
    /// Connections without a request, at a fixed rate.
    free: Vec<usize>,
    /// Requests that are due but find no free connection.
    waiting: VecDeque<Instant>,
    requests: u64,
    errors: u64,
    bytes: u64,
    nanos: Histogram<u64>,
    /// The times of answers of 503, where they are no errors.
    refused: Histogram<u64>,
}

/// Three significant digits, up to whatever comes.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three significant digits are within 0 to 5")
}

struct Connection {
    stream: TcpStream,
    is_busy: bool,
    /// When the request was due.
    since: Instant,
    written: usize,
    head: Vec<u8>,
    /// What is still to come of the response; `None` before its head is complete.
    body_left: Option<u64>,
    is_refused: bool,
}

impl Load {
    fn new(options: &LoadOptions) -> io::Result<Self> {
        let method = if options.upload > 0 { "POST" } else { "GET" };
        let mut request = format!(
            "{method} {} HTTP/1.1\r\nhost: {}\r\nuser-agent: bench\r\naccept: */*\r\n",
            options.path, options.target
        );
        if options.upload > 0 {
            request += &format!("content-length: {}\r\n", options.upload);
        }
        request += if options.reconnect { "connection: close\r\n\r\n" } else { "\r\n" };
        let mut request = request.into_bytes();
        request.resize(request.len() + options.upload, b'x');
        let mut load = Self {
            poll: Poll::new()?,
            target: options.target,
            request,
            reconnects: options.reconnect,
            is_open: options.rate.is_some(),
            may_be_refused: options.may_be_refused,
            connections: Vec::new(),
            free: (0..options.connections).collect(),
            waiting: VecDeque::new(),
            requests: 0,
            errors: 0,
            bytes: 0,
            nanos: histogram(),
            refused: histogram(),
        };
        for at in 0..options.connections {
            let connection = load.connect(at)?;
            load.connections.push(connection);
        }
        Ok(load)
    }

    fn connect(&self, at: usize) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(self.target)?;
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(at), interest)?;
        let since = Instant::now();
        Ok(Connection {
            stream,
            is_busy: false,
            since,
            written: 0,
            head: Vec::new(),
            body_left: None,
            is_refused: false,
        })
    }

    fn fall_due(&mut self, due: Instant) {
        match self.free.pop() {
            Some(at) => self.start(at, due),
            None => self.waiting.push_back(due),
        }
    }

    fn start(&mut self, at: usize, due: Instant) {
        let connection = &mut self.connections[at];
        (connection.is_busy, connection.since) = (true, due);
        (connection.written, connection.body_left) = (0, None);
        if connection.write(&self.request).is_err() {
            self.fail(at);
        }
    }

    /// Goes on with a connection after an event.
    fn advance(&mut self, at: usize, scratch: &mut [u8]) {
        let connection = &mut self.connections[at];
        if connection.is_busy && connection.write(&self.request).is_err() {
            return self.fail(at);
        }
        loop {
            let connection = &mut self.connections[at];
            match connection.stream.read(scratch) {
                Ok(0) if self.reconnects && connection.body_left == Some(0) => {
                    return self.done(at);
                }
                // Closed after its answer. At a fixed rate it is free, and is to stay so.
                Ok(0) if !connection.is_busy => return self.replace(at),
                Ok(0) => return self.fail(at),
                Ok(count) => {
                    self.bytes += count as u64;
                    match connection.take(&scratch[..count], self.may_be_refused) {
                        // With a new connection for each, the proxy closes first.
                        Ok(true) if !self.reconnects => self.done(at),
                        Ok(_) => {}
                        Err(_) => return self.fail(at),
                    }
                    if count < scratch.len() && !self.reconnects {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Not connected yet.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
                Err(_) => return self.fail(at),
            }
        }
    }

    fn done(&mut self, at: usize) {
        let now = Instant::now();
        let connection = &mut self.connections[at];
        connection.is_busy = false;
        let nanos = (now - connection.since).as_nanos() as u64;
        if connection.is_refused {
            self.refused.record(nanos).expect("the histogram grows");
        } else {
            self.nanos.record(nanos).expect("the histogram grows");
            self.requests += 1;
        }
        self.next(at, now);
    }

    fn fail(&mut self, at: usize) {
        self.errors += 1;
        if !self.reconnects {
            self.replace(at);
        }
        self.next(at, Instant::now());
    }

    fn replace(&mut self, at: usize) {
        if let Ok(connection) = self.connect(at) {
            self.connections[at] = connection;
        }
    }

    fn next(&mut self, at: usize, now: Instant) {
        if self.reconnects {
            match self.connect(at) {
                Ok(connection) => self.connections[at] = connection,
                Err(_) => return self.errors += 1,
            }
        }
        match (self.is_open, self.waiting.pop_front()) {
            (false, _) => self.start(at, now),
            (true, Some(due)) => self.start(at, due),
            (true, None) => self.free.push(at),
        }
    }

    fn print(&self, elapsed: Duration) {
        let micros = |quantile| self.nanos.value_at_quantile(quantile) as f64 / 1e3;
        let result = serde_json::json!({
            "requests": self.requests,
            "refused": self.refused.len(),
            "refused_p99_us": self.refused.value_at_quantile(0.99) as f64 / 1e3,
            "errors": self.errors,
            "unsent": self.waiting.len(),
            "bytes": self.bytes,
            "seconds": elapsed.as_secs_f64(),
            "p50_us": micros(0.5),
            "p99_us": micros(0.99),
            "p999_us": micros(0.999),
        });
        println!("{result}");
    }
}

impl Connection {
    /// Writes as much of the request as goes.
    fn write(&mut self, request: &[u8]) -> io::Result<()> {
        while self.written < request.len() {
            match self.stream.write(&request[self.written..]) {
                Ok(count) => self.written += count,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                    ) =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes in what was read; whether the response is complete.
    fn take(&mut self, bytes: &[u8], may_be_refused: bool) -> io::Result<bool> {
        let body = match self.body_left {
            Some(left) => {
                self.body_left = Some(left.saturating_sub(bytes.len() as u64));
                return Ok(self.body_left == Some(0));
            }
            None if self.head.is_empty() => bytes,
            None => {
                self.head.extend_from_slice(bytes);
                &self.head
            }
        };
        let Some(head) = message::response(body)? else {
            if self.head.is_empty() {
                self.head = bytes.to_vec();
            }
            return Ok(false);
        };
        self.is_refused = head.status == 503 && may_be_refused;
        if head.status != 200 && !self.is_refused {
            return Err(io::Error::other("a status other than 200"));
        }
        let here = (body.len() - head.head_length) as u64;
        let left = head.body_length.saturating_sub(here);
        self.body_left = Some(left);
        self.head.clear();
        Ok(left == 0)
    }
}
