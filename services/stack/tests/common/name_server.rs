//! A name server that knows what a test tells it, and misbehaves when told to. It writes its
//! messages itself (RFC 1035 §4), so that it shares no mistake with the proxy's library.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

const A: u16 = 1;
const SRV: u16 = 33;

#[derive(Clone, Debug)]
pub enum Data {
    A(Ipv4Addr),
    Srv { priority: u16, weight: u16, port: u16, target: String },
}

impl Data {
    pub fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Self {
        Self::Srv { priority, weight, port, target: target.to_owned() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Mood {
    /// Answers what it knows.
    #[default]
    Fine,
    /// Answers with the records of the targets too.
    Talkative,
    /// Has answers sent for by TCP.
    Curt,
    /// Answers with this code and nothing else.
    Code(u8),
    /// Answers with what is no message.
    Garbage,
    /// Says nothing.
    Silent,
}

#[derive(Debug, Default)]
struct State {
    mood: Mood,
    records: Vec<(String, Data)>,
    asked: Vec<(String, u16)>,
    by_tcp: usize,
}

#[derive(Debug)]
pub struct NameServer {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl NameServer {
    /// Starts one on the test's own runtime, with which it ends.
    pub async fn start(records: &[(&str, Data)]) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // Another test may have the same number for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let server = Self { address, state: Arc::clone(&state) };
        server.set(records);
        tokio::spawn(serve_udp(udp, Arc::clone(&state)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                tokio::spawn(serve_tcp(stream, Arc::clone(&state)));
            }
        });
        server
    }

    pub fn set(&self, records: &[(&str, Data)]) {
        let own = |(name, data): &(&str, Data)| ((*name).to_owned(), data.clone());
        self.state.lock().unwrap().records = records.iter().map(own).collect();
    }

    pub fn set_mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// How often it was asked for addresses.
    pub fn asked_for_addresses(&self) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|(_, kind)| *kind != SRV).count()
    }

    pub fn asked_by_tcp(&self) -> usize {
        self.state.lock().unwrap().by_tcp
    }
}

async fn serve_udp(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let answer = state.lock().unwrap().answer(&buffer[..length], true);
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

/// Messages by TCP come after their length (RFC 1035 §4.2.2).
async fn serve_tcp(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let answer = {
            let mut state = state.lock().unwrap();
            state.by_tcp += 1;
            state.answer(&question, false)
        };
        if let Some(answer) = answer {
            let _ = stream.write_u16(answer.len() as u16).await;
            let _ = stream.write_all(&answer).await;
        }
    }
}

impl State {
    fn answer(&mut self, question: &[u8], by_udp: bool) -> Option<Vec<u8>> {
        let (name, end) = read_name(question, 12);
        let kind = u16::from_be_bytes([question[end], question[end + 1]]);
        self.asked.push((name.clone(), kind));
        let mut code = match self.mood {
            Mood::Silent => return None,
            Mood::Garbage => return Some(question[..2].iter().copied().chain([0xFF; 9]).collect()),
            Mood::Code(code) => code,
            Mood::Fine | Mood::Talkative | Mood::Curt => 0,
        };
        let is_truncated = self.mood == Mood::Curt && by_udp;
        let of = |wanted: &str, kind: u16| {
            let fits = |(name, data): &&(String, Data)| {
                let its_kind = if matches!(data, Data::A(_)) { A } else { SRV };
                name == wanted && kind == its_kind
            };
            self.records.iter().filter(fits).cloned().collect::<Vec<_>>()
        };
        let is_mute = is_truncated || matches!(self.mood, Mood::Code(_));
        let answers = if is_mute { vec![] } else { of(&name, kind) };
        if !is_mute && self.records.iter().all(|(known, _)| *known != name) {
            code = 3;
        }
        let is_talkative = self.mood == Mood::Talkative;
        let targets = answers.iter().filter_map(|(_, data)| match data {
            Data::Srv { target, .. } if is_talkative => Some(of(target, A)),
            _ => None,
        });
        let more: Vec<_> = targets.flatten().collect();
        let mut message = question[..2].to_vec();
        // An authoritative answer with recursion, perhaps a truncated one.
        message.extend([0x85 | if is_truncated { 2 } else { 0 }, 0x80 | code]);
        for count in [1, answers.len(), 0, more.len()] {
            message.extend((count as u16).to_be_bytes());
        }
        message.extend(&question[12..end + 4]);
        for (name, data) in answers.iter().chain(&more) {
            write_record(&mut message, name, data);
        }
        Some(message)
    }
}

fn read_name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), at + 1)
}

fn write_record(message: &mut Vec<u8>, name: &str, data: &Data) {
    write_name(message, name);
    let mut bytes = Vec::new();
    let kind = match data {
        Data::A(address) => {
            bytes.extend(address.octets());
            A
        }
        Data::Srv { priority, weight, port, target } => {
            [priority, weight, port].iter().for_each(|number| bytes.extend(number.to_be_bytes()));
            write_name(&mut bytes, target);
            SRV
        }
    };
    message.extend(kind.to_be_bytes());
    // Class IN, and a time to live of an hour, which nobody is to wait for.
    message.extend([0, 1, 0, 0, 14, 16]);
    message.extend((bytes.len() as u16).to_be_bytes());
    message.extend(bytes);
}

fn write_name(message: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
}
