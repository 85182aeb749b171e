//! Heads and trailers of HTTP/2 that come in more than one frame (RFC 9113 §4.3), cut anywhere: they say
//! the same as whole ones, from clients and from backends.
#![allow(clippy::unwrap_used)] // A failing helper panics at its line.

mod common;

use std::net::SocketAddr;

use common::{
    World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
    raw::{exchange, read_head, status},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Fields that may be in no message, before one that may.
const MALFORMED: [(&str, &str); 8] = [
    ("connection", "x-one"),
    ("keep-alive", "1"),
    ("proxy-connection", "close"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
    ("te", "gzip"),
    ("Upper", "1"),
    (":made-up", "1"),
];
const LAST: (&str, &str) = ("x-one", "1");

/// A backend of HTTP/1 that tells the head of each request, and then its body as it came, which it
/// answers if it comes to its end.
async fn telling() -> (SocketAddr, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, telling) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                told.send(read_head(&mut stream).await).ok()?;
                let (mut body, mut piece) = (String::new(), [0; 4096]);
                while !(body.contains("\r\n0\r\n") && body.ends_with("\r\n\r\n")) {
                    let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0);
                    let Some(count) = count else { break };
                    body.push_str(std::str::from_utf8(&piece[..count]).ok()?);
                }
                told.send(body).ok()?;
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.ok()
            });
        }
    });
    (address, telling)
}

async fn next(told: &mut UnboundedReceiver<String>) -> String {
    let next = tokio::time::timeout(common::PATIENCE, told.recv()).await;
    next.expect("the backend is sent nothing").unwrap()
}

async fn over(backend: SocketAddr, variables: &[(&str, &str)]) -> World {
    let variables = [&[("PROXY_PROBE", "off"), ("PROXY_EJECT", "false")], variables].concat();
    let world = World::over(&format!("http://{backend}"), &variables, vec![]);
    world.until_eligible(1).await;
    world
}

fn head_with(fields: Fields<'_>) -> Vec<u8> {
    frames::get("/", fields)
}

/// RFC 9113 §8.1.1: a field that may not be there is not just taken out.
#[tokio::test]
async fn a_malformed_head_of_many_frames_reaches_no_backend() {
    let (backend, mut told) = telling().await;
    let world = over(backend, &[("PROXY_HEADERS_MAX", "2000")]).await;
    let mut fields = vec![("x-many", "a value of some length"); 1_000];
    for malformed in MALFORMED {
        fields[0] = malformed;
        let mut client = RawClient::connect(world.proxy.address, &[]).await;
        let head = frames::cut(END_STREAM, 1, &head_with(&fields), 10_000);
        client.0.write_all(&head).await.unwrap();
        client.until_refused(1).await;
        assert!(told.try_recv().is_err(), "{malformed:?}");
    }
}

#[tokio::test]
async fn malformed_trailers_end_no_body_wherever_they_are_cut() {
    let (backend, mut told) = telling().await;
    let world = over(backend, &[]).await;
    for malformed in MALFORMED {
        for trailers in frames::each_cut(END_STREAM, 1, &frames::block(&[malformed, LAST])) {
            let mut client = RawClient::connect(world.proxy.address, &[]).await;
            client.send(frames::HEADERS, END_HEADERS, 1, &head_with(&[])).await;
            client.send(frames::DATA, 0, 1, b"hello").await;
            next(&mut told).await;
            client.0.write_all(&trailers).await.unwrap();
            client.until_refused(1).await;
            let body = next(&mut told).await;
            assert!(!body.contains("\r\n0\r\n"), "{malformed:?}: {body}");
        }
    }
}

#[tokio::test]
async fn a_good_head_and_trailers_arrive_whole_wherever_they_are_cut() {
    let (backend, mut told) = telling().await;
    let world = over(backend, &[("PROXY_HEADERS_MAX", "300")]).await;
    let head = head_with(&[("x-first", "a"), ("trailer", "x-sum, x-one"), ("x-last", "the last")]);
    let trailers = frames::block(&[("x-sum", "12"), LAST]);
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let mut stream = 1;
    let mut is_served = async |head: &[u8], trailers: &[u8]| {
        let data = frames::frame(frames::DATA, 0, stream, b"hello");
        let mut bytes = [head, &data, trailers].concat();
        // Frames were made for the first stream.
        let mut at = 0;
        while at < bytes.len() {
            bytes[at + 5..at + 9].copy_from_slice(&stream.to_be_bytes());
            at += 9 + u32::from_be_bytes([0, bytes[at], bytes[at + 1], bytes[at + 2]]) as usize;
        }
        client.0.write_all(&bytes).await.unwrap();
        let head = next(&mut told).await;
        for line in ["GET / HTTP/1.1\r\n", "host: a\r\n", "x-first: a\r\n", "x-last: the last\r\n"]
        {
            assert!(head.contains(line), "{line:?} is missing in:\n{head}");
        }
        let body = next(&mut told).await;
        assert!(body.ends_with("hello\r\n0\r\nx-sum: 12\r\nx-one: 1\r\n\r\n"), "{body}");
        let answer = client.until(frames::HEADERS).await.unwrap();
        assert_eq!((answer.stream, answer.payload[0]), (stream, 0x88));
        stream += 2;
    };
    let whole_head = frames::frame(frames::HEADERS, END_HEADERS, 1, &head);
    let whole_trailers = frames::frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &trailers);
    for head in frames::each_cut(0, 1, &head) {
        is_served(&head, &whole_trailers).await;
    }
    for trailers in frames::each_cut(END_STREAM, 1, &trailers) {
        is_served(&whole_head, &trailers).await;
    }
    is_served(&frames::cut(0, 1, &head, 1), &whole_trailers).await;
    // More than what goes into a frame.
    let many = frames::block(&vec![("x-many", &*"y".repeat(120)); 250]);
    let large = [&head[..], &many].concat();
    is_served(&frames::cut(0, 1, &large, 16_384), &whole_trailers).await;
}

/// A backend of HTTP/2 that answers with these frames, made for the first stream, each on a new
/// connection.
async fn answering(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; frames::PREFACE.len()]).await.unwrap();
            let mut peer = RawClient(stream);
            let settings = peer.until(frames::SETTINGS).await.unwrap();
            let mut frame_sizes = settings.payload.chunks(6).filter(|one| one[..2] == [0, 5]);
            assert!(frame_sizes.all(|size| size[2..] == 16_384_u32.to_be_bytes()));
            peer.send(frames::SETTINGS, 0, 0, &[]).await;
            peer.until(frames::HEADERS).await.unwrap();
            peer.0.write_all(&answer).await.unwrap();
            // Said goodbye, it gets no other request.
            peer.send(frames::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
            tokio::spawn(async move { peer.rest().await });
        }
    });
    address
}

const H2C: &[(&str, &str)] = &[("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_RETRIES", "0")];
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close, te\r\n\r\n";

#[tokio::test]
async fn a_malformed_response_never_passes_wherever_it_is_cut() {
    let block = |malformed| [&b"\x88"[..], &frames::block(&[malformed, LAST])].concat();
    let answers: Vec<_> =
        MALFORMED.iter().flat_map(|one| frames::each_cut(END_STREAM, 1, &block(*one))).collect();
    let world = over(answering(answers.clone()).await, H2C).await;
    for answer in &answers {
        let got = exchange(world.proxy.address, GET).await;
        assert_eq!(status(&got), 502, "{answer:?}: {got}");
    }
}

#[tokio::test]
async fn a_response_with_malformed_trailers_never_comes_to_its_end_wherever_they_are_cut() {
    let start = [
        frames::frame(frames::HEADERS, END_HEADERS, 1, b"\x88"),
        frames::frame(frames::DATA, 0, 1, b"hello"),
    ];
    let with = |trailers: Vec<u8>| [&start.concat()[..], &trailers].concat();
    let block = |malformed| frames::block(&[malformed, LAST]);
    let answers: Vec<_> = MALFORMED
        .iter()
        .flat_map(|one| frames::each_cut(END_STREAM, 1, &block(*one)))
        .map(with)
        .collect();
    let world = over(answering(answers.clone()).await, H2C).await;
    for answer in &answers {
        let got = exchange(world.proxy.address, GET).await;
        assert!(!got.contains("\r\n0\r\n"), "{answer:?}: {got}");
    }
}

#[tokio::test]
async fn a_good_response_and_its_trailers_pass_whole_wherever_they_are_cut() {
    let head =
        [&b"\x88"[..], &frames::block(&[("x-first", "a"), ("trailer", "x-sum, x-one"), LAST])];
    let head = head.concat();
    let trailers = frames::block(&[("x-sum", "12"), LAST]);
    let data = frames::frame(frames::DATA, 0, 1, b"hello");
    let whole_head = frames::frame(frames::HEADERS, END_HEADERS, 1, &head);
    let whole_trailers = frames::frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &trailers);
    let cut_heads = frames::each_cut(0, 1, &head)
        .into_iter()
        .map(|head| [head, data.clone(), whole_trailers.clone()]);
    let cut_trailers = frames::each_cut(END_STREAM, 1, &trailers)
        .into_iter()
        .map(|trailers| [whole_head.clone(), data.clone(), trailers]);
    let answers: Vec<_> = cut_heads.chain(cut_trailers).map(|frames| frames.concat()).collect();
    let world = over(answering(answers.clone()).await, H2C).await;
    for answer in &answers {
        let got = exchange(world.proxy.address, GET).await;
        assert_eq!(status(&got), 200, "{answer:?}: {got}");
        assert!(got.contains("x-first: a\r\n") && got.contains("x-one: 1\r\n"), "{got}");
        assert!(got.ends_with("hello\r\n0\r\nx-sum: 12\r\nx-one: 1\r\n\r\n"), "{got}");
    }
}
