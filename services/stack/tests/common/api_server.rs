//! As much of a Kubernetes API server as a watch of EndpointSlices needs: lists, watches in chunks,
//! versions that are no longer kept, and whatever else such a server does on a bad day.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// What a watch is sent.
enum Send {
    Line(String),
    /// The end of the body, in good order.
    End,
    /// The connection is closed in the middle.
    Break,
}

#[derive(Default)]
struct State {
    slices: BTreeMap<String, Value>,
    version: u64,
    /// All changes, each with its version, since the last compaction.
    log: Vec<(u64, Value)>,
    compacted: u64,
    watchers: Vec<mpsc::UnboundedSender<Send>>,
    /// What each question is answered with, while it is set.
    refusal: Option<(u16, String)>,
    lists: usize,
    /// The versions from which watches were asked for.
    watched_from: Vec<String>,
    last_head: String,
}

#[derive(Clone)]
pub struct ApiServer {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl ApiServer {
    /// Starts one on the test's own runtime, with which it ends.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&server.state);
        state.lock().unwrap().version = 100;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        server
    }

    /// Makes or changes a slice.
    pub fn set(&self, name: &str, endpoints: &[Value]) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let kind = if state.slices.contains_key(name) { "MODIFIED" } else { "ADDED" };
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"},
                "resourceVersion": state.version.to_string(),
            },
            "addressType": "IPv4",
            "ports": endpoints.first().map(|first| json!([{
                "name": "http", "protocol": "TCP", "port": first["port"],
            }])),
            "endpoints": endpoints,
        });
        state.slices.insert(name.to_owned(), slice.clone());
        state.tell(kind, slice);
    }

    pub fn delete(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let mut slice = state.slices.remove(name).unwrap();
        slice["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.tell("DELETED", slice);
    }

    /// Tells watches that other things have changed meanwhile.
    pub fn bookmark(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.version += 10;
        let version = state.version;
        let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        let object = json!({"kind": "EndpointSlice", "metadata": metadata, "endpoints": null, "ports": null});
        state.send(&json!({"type": "BOOKMARK", "object": object}).to_string());
        version
    }

    /// Forgets the changes so far, so that who has seen less has to begin anew.
    pub fn compact(&self) {
        let mut state = self.state.lock().unwrap();
        state.log.clear();
        state.version += 1;
        state.compacted = state.version;
    }

    /// Ends all watches in good order, or in the middle of a line.
    pub fn end_watches(&self, in_order: bool) {
        let mut state = self.state.lock().unwrap();
        if !in_order {
            state.send_part("{\"type\":\"MODIFIED\",\"obj");
        }
        for watcher in state.watchers.drain(..) {
            let _ = watcher.send(if in_order { Send::End } else { Send::Break });
        }
    }

    /// Sends a line to all watches.
    pub fn say(&self, line: &str) {
        self.state.lock().unwrap().send(line);
    }

    /// Refuses all questions from now on, or none.
    pub fn refuse(&self, refusal: Option<(u16, &str)>) {
        let refusal = refusal.map(|(code, message)| (code, message.to_owned()));
        self.state.lock().unwrap().refusal = refusal;
    }

    pub fn lists(&self) -> usize {
        self.state.lock().unwrap().lists
    }

    pub fn watches(&self) -> usize {
        self.state.lock().unwrap().watchers.iter().filter(|watcher| !watcher.is_closed()).count()
    }

    pub fn watched_from(&self) -> Vec<String> {
        self.state.lock().unwrap().watched_from.clone()
    }

    /// The head of the last request.
    pub fn last_head(&self) -> String {
        self.state.lock().unwrap().last_head.clone()
    }
}

impl State {
    fn tell(&mut self, kind: &str, object: Value) {
        let event = json!({"type": kind, "object": object});
        self.log.push((self.version, event.clone()));
        self.send(&event.to_string());
    }

    fn send(&mut self, line: &str) {
        self.send_part(&format!("{line}\n"));
    }

    fn send_part(&mut self, text: &str) {
        self.watchers.retain(|watcher| watcher.send(Send::Line(text.to_owned())).is_ok());
    }
}

/// Answers one request, and closes.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let refusal = {
        let mut state = state.lock().unwrap();
        state.last_head.clone_from(&head);
        state.refusal.clone()
    };
    let expected = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices\
                    ?labelSelector=kubernetes.io%2Fservice-name%3Dweb";
    if let Some((code, message)) = refusal {
        answer(&mut stream, code, &status(code, &message)).await;
    } else if !path.starts_with(expected) {
        answer(&mut stream, 404, &status(404, "the server could not find the resource")).await;
    } else if path.contains("watch=true") {
        watch(&mut stream, &path, &state).await;
    } else {
        let list = {
            let mut state = state.lock().unwrap();
            state.lists += 1;
            let items: Vec<&Value> = state.slices.values().collect();
            json!({
                "kind": "EndpointSliceList",
                "metadata": {"resourceVersion": state.version.to_string()},
                "items": if items.is_empty() { Value::Null } else { json!(items) },
            })
        };
        answer(&mut stream, 200, &list.to_string()).await;
    }
}

fn status(code: u16, message: &str) -> String {
    json!({"kind": "Status", "status": "Failure", "message": message, "code": code}).to_string()
}

async fn answer(stream: &mut TcpStream, code: u16, body: &str) {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {code} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

async fn watch(stream: &mut TcpStream, path: &str, state: &Mutex<State>) {
    let value = |name: &str| {
        let parts = path.split(['?', '&']).find_map(|part| part.strip_prefix(name));
        parts.unwrap_or_default().to_owned()
    };
    assert_eq!(value("allowWatchBookmarks="), "true");
    assert!((240..300).contains(&value("timeoutSeconds=").parse::<u64>().unwrap()));
    let from = value("resourceVersion=");
    let (watcher, mut events) = mpsc::unbounded_channel();
    {
        let mut state = state.lock().unwrap();
        state.watched_from.push(from.clone());
        let from: u64 = from.parse().unwrap();
        if from < state.compacted {
            let gone = "too old resource version";
            let status: Value = serde_json::from_str(&status(410, gone)).unwrap();
            let line = json!({"type": "ERROR", "object": status}).to_string() + "\n";
            watcher.send(Send::Line(line)).ok();
            watcher.send(Send::End).ok();
        } else {
            let missed = state.log.iter().filter(|(version, _)| *version > from);
            missed.for_each(|(_, event)| drop(watcher.send(Send::Line(format!("{event}\n")))));
            state.watchers.push(watcher);
        }
    }
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut nothing = [0];
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            // The client has gone; it has nothing more to say.
            _ = stream.read(&mut nothing) => return,
        };
        match event.unwrap() {
            Send::Line(line) => {
                // In two pieces, as the network may cut them.
                let (first, second) = line.split_at(line.len() / 2);
                for piece in [first, second].iter().filter(|piece| !piece.is_empty()) {
                    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                    if stream.write_all(chunk.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
            Send::End => {
                let _ = stream.write_all(b"0\r\n\r\n").await;
                return;
            }
            Send::Break => return,
        }
    }
}
