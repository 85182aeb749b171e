//! Backends: any number of ports, one thread, the same answers on each.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use crate::message;

const SMALL: usize = 128;

/// One client of a backend, which is a proxy.
struct Connection {
    stream: TcpStream,
    /// What has arrived of the next head.
    head: Vec<u8>,
    /// What is still to come of the current request's body.
    body_left: u64,
    answer: std::rc::Rc<[u8]>,
    /// How much of `answer` is written.
    written: usize,
    closes: bool,
    /// For how long the request that has just arrived waits for its answer.
    delay: Option<Duration>,
}

pub(crate) fn run(port: u16, count: u16) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listeners = Vec::new();
    for port in port..port + count {
        let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let token = Token(listeners.len());
        poll.registry().register(&mut listener, token, Interest::READABLE)?;
        listeners.push(listener);
    }
    let mut connections: HashMap<usize, Connection> = HashMap::new();
    let mut next_token = listeners.len();
    let mut answers = Answers::default();
    // Who is answered later, and when.
    let mut later: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let mut scratch = vec![0; 64 * 1024];
    loop {
        let until = |&Reverse((due, _)): &_| Instant::saturating_duration_since(&due, Instant::now());
        poll.poll(&mut events, later.peek().map(until))?;
        let now = Instant::now();
        while let Some(&Reverse((due, token))) = later.peek()
            && due <= now
        {
            later.pop();
            if let Some(connection) = connections.get_mut(&token) {
                connection.written = 0;
                if !matches!(connection.serve(&mut scratch, &mut answers), Ok(true)) {
                    connections.remove(&token);
                }
            }
        }
        for event in &events {
            let token = event.token().0;
            if let Some(listener) = listeners.get(token) {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(next_token), interest)?;
                    connections.insert(next_token, Connection::new(stream, answers.of("/")));
                    next_token += 1;
                }
            } else if let Some(connection) = connections.get_mut(&token) {
                let result = connection.serve(&mut scratch, &mut answers);
                if let Some(delay) = connection.delay.take() {
                    later.push(Reverse((Instant::now() + delay, token)));
                }
                if !matches!(result, Ok(true)) {
                    connections.remove(&token);
                }
            }
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, answer: std::rc::Rc<[u8]>) -> Self {
        let written = answer.len();
        Self { stream, head: Vec::new(), body_left: 0, answer, written, closes: false, delay: None }
    }

    /// Reads and writes as much as goes; whether the connection goes on.
    fn serve(&mut self, scratch: &mut [u8], answers: &mut Answers) -> io::Result<bool> {
        loop {
            if self.written < self.answer.len() && !self.write()? {
                return Ok(true);
            }
            if self.closes && self.written == self.answer.len() {
                return Ok(false);
            }
            let count = match self.stream.read(scratch) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            self.take(&scratch[..count], answers)?;
            let is_drained = count < scratch.len();
            if self.written < self.answer.len() && !self.write()? {
                return Ok(true);
            }
            if is_drained {
                return Ok(!self.closes);
            }
        }
    }

    /// Takes in what was read; a request that is complete sets the answer to write.
    fn take(&mut self, bytes: &[u8], answers: &mut Answers) -> io::Result<()> {
        if self.body_left > 0 {
            self.body_left = self.body_left.saturating_sub(bytes.len() as u64);
            if self.body_left == 0 {
                self.written = 0;
            }
            return Ok(());
        }
        let joined;
        let bytes = if self.head.is_empty() {
            bytes
        } else {
            self.head.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.head);
            &joined
        };
        let Some(request) = message::request(bytes)? else {
            self.head = bytes.to_vec();
            return Ok(());
        };
        self.answer = answers.of(request.path);
        self.closes = request.asks_to_close;
        let body_here = (bytes.len() - request.head_length) as u64;
        self.body_left = request.body_length.saturating_sub(body_here);
        let millis = request.path.strip_prefix("/after/").and_then(|millis| millis.parse().ok());
        self.delay = millis.map(Duration::from_millis);
        let answers_now = self.body_left == 0 && self.delay.is_none();
        self.written = if answers_now { 0 } else { self.answer.len() };
        Ok(())
    }

    /// Writes as much as goes; whether that is all.
    fn write(&mut self) -> io::Result<bool> {
        while self.written < self.answer.len() {
            match self.stream.write(&self.answer[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Responses by path, each made once.
#[derive(Default)]
struct Answers(HashMap<String, std::rc::Rc<[u8]>>);

impl Answers {
    fn of(&mut self, path: &str) -> std::rc::Rc<[u8]> {
        if let Some(answer) = self.0.get(path) {
            return answer.clone();
        }
        let length = path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()).unwrap_or(SMALL);
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: text/plain\r\n\
             cache-control: no-store\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
        answer.resize(answer.len() + length, b'x');
        let answer: std::rc::Rc<[u8]> = answer.into();
        self.0.insert(path.to_owned(), answer.clone());
        answer
    }
}
