//! A backend that records every byte and answers as it is told.

mod serving;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use self::serving::serve;
use crate::{message::Message, steps::Step};

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
    /// Answers a whole request with this, which changes the protocol, and does these steps then.
    Switch(Vec<u8>, Vec<Step>),
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
    /// Whether it has done all that it does over another protocol, once it is done with that.
    pub switched: Option<Result<(), String>>,
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
    /// Whether a connection that has changed its protocol is done.
    switches: Condvar,
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
            switches: Condvar::new(),
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

    /// Waits until it is done with what it does over another protocol, if it was asked for anything.
    ///
    /// # Errors
    /// What it could not do.
    pub fn switched(&self, patience: Duration) -> Result<(), String> {
        let is_busy = |seen: &mut Vec<Arc<Mutex<Seen>>>| {
            seen.iter().any(|seen| {
                let seen = lock(seen);
                !seen.messages.is_empty() && seen.switched.is_none()
            })
        };
        drop(self.shared.switches.wait_timeout_while(lock(&self.shared.seen), patience, is_busy));
        let mut asked = self.seen().into_iter().filter(|seen| !seen.messages.is_empty());
        asked.try_for_each(|seen| seen.switched.unwrap_or_else(|| Err("is not done".to_owned())))
    }

    /// The whole messages that arrived since [`Self::forget`].
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.seen().into_iter().flat_map(|seen| seen.messages).collect()
    }
}
