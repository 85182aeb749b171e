//! A connection that changes to another protocol (RFC 9110 §7.8), over real sockets: what comes before
//! the other side can know of it arrives, and each direction ends by itself.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use common::{PATIENCE, Proxy};

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

fn accepted(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn write(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// Reads up to the empty line that ends a head.
fn head(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

fn text(mut stream: &TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What comes up to the end of a direction.
fn rest(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// A client and a backend that have changed to another protocol, each with the first bytes of it, which
/// come with the request and with the answer.
fn switched() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::over(&[listener.local_addr().unwrap()], &[]);
    let client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    write(&client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly");
    let backend = accepted(&listener);
    let request = head(&backend).to_ascii_lowercase();
    assert!(request.contains("\r\nupgrade: x\r\n"), "{request}");
    assert!(request.contains("\r\nconnection: upgrade\r\n"), "{request}");
    write(&backend, &format!("{SWITCHED}hello"));
    let answer = head(&client).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("\r\nupgrade: x\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: upgrade\r\n"), "{answer}");
    assert_eq!((text(&client, 5), text(&backend, 5)), ("hello".into(), "early".into()));
    (proxy, client, backend)
}

#[test]
fn a_direction_that_its_client_ends_leaves_the_other_one_open() {
    let (_proxy, client, backend) = switched();
    write(&client, "last words");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&backend), "last words");
    write(&backend, "an answer to ");
    write(&backend, "them");
    drop(backend);
    assert_eq!(rest(&client), "an answer to them");
}

#[test]
fn a_direction_that_its_backend_ends_leaves_the_other_one_open() {
    let (_proxy, client, backend) = switched();
    write(&backend, "last words");
    backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&client), "last words");
    let large = "x".repeat(1_000_000);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            write(&client, &large);
            client.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(rest(&backend), large);
        writing.join().unwrap();
    });
}
