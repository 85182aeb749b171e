//! A backend that records every byte and answers as it is told.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::message::{self, Message, Reading};

/// How long a backend's connection waits for anything before it is given up. Longer than any row.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the request after a row's begins.
pub(crate) const NEXT_LINE: &str = "GET /next HTTP/1.1";

/// What the backend does with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Answers a whole request and waits for the next one.
    Keep(Vec<u8>),
    /// Answers a whole request with its target, and waits for the next one.
    Echo,
    /// Answers a whole request and closes.
    Close(Vec<u8>),
    /// Answers a whole request and resets the connection, as a process that is killed may do.
    Reset(Vec<u8>),
    /// Answers as soon as the head is there and reads on.
    Early(Vec<u8>),
    /// Answers as soon as the head is there and closes.
    EarlyClose(Vec<u8>),
    /// Asks for the rest of a request as soon as its head is there, and answers when it has come.
    Continue(Vec<u8>),
    /// Answers, and says something more once it [may](Backend::say_more).
    Late(Vec<u8>, Vec<u8>),
    /// Answers as soon as the head is there, and takes all else that comes for other requests: to those
    /// it says something when `NEXT_LINE` is among them.
    Held(Vec<u8>, Vec<u8>),
    /// Says nothing.
    Silent,
}

/// Everything that one connection brought.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The messages among them.
    pub messages: Vec<Message>,
    /// Why reading ended, if not for want of bytes.
    pub invalid: Option<String>,
    /// Whether the connection has ended.
    pub has_ended: bool,
}

/// What is with that which a late answer is followed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Late {
    #[default]
    Held,
    Allowed,
    Said,
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<Answer>,
    late: Mutex<Late>,
    late_changes: Condvar,
    seen: Mutex<Vec<Arc<Mutex<Seen>>>>,
}

/// A backend that listens until the process ends.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn tell(&self, late: Late) {
        *lock(&self.late) = late;
        self.late_changes.notify_all();
    }
}

fn wait_while(shared: &Shared, late: Late) {
    let current = lock(&shared.late);
    drop(shared.late_changes.wait_timeout_while(current, PATIENCE, |current| *current == late));
}

impl Backend {
    /// Starts one on a port that the system chooses.
    ///
    /// # Errors
    /// The system refuses a port.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let answer = Mutex::new(Answer::Silent);
        let shared = Arc::new(Shared {
            answer,
            late: Mutex::default(),
            late_changes: Condvar::new(),
            seen: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || {
                    let seen = Arc::new(Mutex::new(Seen::default()));
                    lock(&shared.seen).push(Arc::clone(&seen));
                    // Whoever waits for an answer learns of an error by getting none.
                    let _ = serve(&stream, &seen, &shared);
                    lock(&seen).has_ended = true;
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// Sets what it does with requests from now on.
    pub fn answer_with(&self, answer: Answer) {
        self.shared.tell(Late::Held);
        *lock(&self.shared.answer) = answer;
    }

    /// Lets it say what comes late, and waits until it has: over loopback that has arrived by then.
    pub fn say_more(&self) {
        self.shared.tell(Late::Allowed);
        wait_while(&self.shared, Late::Allowed);
    }

    /// Forgets what it has seen. Connections that are open go on being recorded.
    pub fn forget(&self) {
        lock(&self.shared.seen).retain(|seen| {
            let mut seen = lock(seen);
            let has_ended = seen.has_ended;
            *seen = Seen::default();
            !has_ended
        });
    }

    /// What arrived since [`Self::forget`], by connection, those left out that said nothing.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let seen = lock(&self.shared.seen);
        let seen = seen.iter().map(|seen| lock(seen).clone());
        seen.filter(|seen| !seen.bytes.is_empty()).collect()
    }

    /// The whole messages that arrived since [`Self::forget`].
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.seen().into_iter().flat_map(|seen| seen.messages).collect()
    }
}

fn serve(mut stream: &TcpStream, seen: &Mutex<Seen>, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut unread = Vec::new();
    loop {
        let has_head = wait_for_request(stream, seen, &mut unread, shared)?;
        if !has_head {
            return Ok(());
        }
        let answer = lock(&shared.answer).clone();
        match answer {
            Answer::Keep(bytes) | Answer::Early(bytes) | Answer::Continue(bytes) => {
                stream.write_all(&bytes)?;
            }
            Answer::Echo => {
                let target = lock(seen).messages.last().map(Message::target).unwrap_or_default();
                let length = target.len();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}")?;
            }
            Answer::Late(bytes, more) => {
                stream.write_all(&bytes)?;
                wait_while(shared, Late::Held);
                let written = stream.write_all(&more);
                shared.tell(Late::Said);
                written?;
            }
            Answer::Held(bytes, held) => {
                stream.write_all(&bytes)?;
                return hold(stream, seen, &held);
            }
            Answer::Silent => {}
            Answer::Reset(bytes) => {
                stream.write_all(&bytes)?;
                return reset(stream);
            }
            Answer::Close(bytes) | Answer::EarlyClose(bytes) => {
                stream.write_all(&bytes)?;
                stream.shutdown(Shutdown::Write)?;
                // Closing with something unread would reset the connection, answer and all.
                return drain(stream, seen);
            }
        }
    }
}

/// Reads until a request is there as far as its answer needs it; whether there is one.
fn wait_for_request(
    mut stream: &TcpStream,
    seen: &Mutex<Seen>,
    unread: &mut Vec<u8>,
    shared: &Shared,
) -> io::Result<bool> {
    let mut buffer = [0; 65_536];
    let (mut is_answered, mut is_asked) = (false, false);
    loop {
        match message::request(unread) {
            Reading::Whole(message, length) => {
                unread.drain(..length);
                lock(seen).messages.push(message);
                if !is_answered {
                    return Ok(true);
                }
                is_answered = false;
                continue;
            }
            Reading::Invalid(why) => {
                lock(seen).invalid = Some(why);
                return Ok(false);
            }
            Reading::Partial => {}
        }
        let has_head = unread.windows(4).any(|end| end == b"\r\n\r\n");
        if has_head && !is_answered {
            match lock(&shared.answer).clone() {
                Answer::Early(bytes) => {
                    is_answered = true;
                    stream.write_all(&bytes)?;
                }
                Answer::EarlyClose(_) | Answer::Held(..) => return Ok(true),
                Answer::Continue(_) if !is_asked => {
                    is_asked = true;
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                _ => {}
            }
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        lock(seen).bytes.extend_from_slice(&buffer[..count]);
        unread.extend_from_slice(&buffer[..count]);
    }
}

/// Says what it has held back as the answer to what comes next, whoever that is from.
fn hold(mut stream: &TcpStream, seen: &Mutex<Seen>, held: &[u8]) -> io::Result<()> {
    let (mut came, mut buffer) = (Vec::new(), [0; 65_536]);
    let next = NEXT_LINE.as_bytes();
    while !came.windows(next.len()).any(|part| part == next) {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        lock(seen).bytes.extend_from_slice(&buffer[..count]);
        came.extend_from_slice(&buffer[..count]);
    }
    stream.write_all(held)?;
    // The next row is another one.
    stream.shutdown(Shutdown::Write)?;
    drain(stream, seen)
}

/// Reads what still comes, and records it.
fn drain(mut stream: &TcpStream, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut buffer = [0; 65_536];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        lock(seen).bytes.extend_from_slice(&buffer[..count]);
    }
}

/// Makes the closing of a connection a reset.
fn reset(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
