//! Backends that refuse requests, or say goodbye: what is sent again, and what it costs them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::Method;
use http_body_util::BodyExt;
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::{
    INTERNAL_ERROR, PROTOCOL_ERROR, REFUSED_STREAM,
    common::{
        World,
        frames::{self, END_HEADERS, END_STREAM, RawClient},
        http2::connect,
    },
    echo::call,
    over,
};

/// What a backend of raw frames does instead of answering 204.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// With the first request, it resets the stream as refused (RFC 9113 §8.7).
    Stream,
    /// It says goodbye and that it has looked at no stream (§6.8).
    Goodbye,
    /// It says goodbye and that it may have looked at this one, and closes.
    GoodbyeAfterwards,
    /// It resets each, with this error (§7).
    EachStream(u32),
    /// It answers the first on each connection, and resets the others with this error.
    LaterStreams(u32),
    /// It says goodbye whenever there is a request.
    EachGoodbye,
    /// It begins with an answer, which may be all of it, and resets the stream without an error (§8.1).
    Answered { is_whole: bool },
    /// It says goodbye when it has answered so many on a connection, and looks at no more.
    GoodbyeAfter(usize),
}

/// A backend that refuses requests, and how many it was sent.
async fn refusing(refusal: Refusal) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).await.ok()?;
                let mut peer = RawClient(stream);
                peer.send(frames::SETTINGS, 0, 0, &[]).await;
                for served in 1.. {
                    let head = peer.until(frames::HEADERS).await?;
                    let goodbye = |last: u32| [last.to_be_bytes(), [0; 4]].concat();
                    match (count.fetch_add(1, Ordering::Relaxed), refusal) {
                        (0, Refusal::Stream) => {
                            let refused = REFUSED_STREAM.to_be_bytes();
                            peer.send(frames::RST_STREAM, 0, head.stream, &refused).await;
                        }
                        (_, Refusal::LaterStreams(_)) if served == 1 => {
                            let flags = END_HEADERS | END_STREAM;
                            peer.send(frames::HEADERS, flags, head.stream, &[0x89]).await;
                        }
                        (_, Refusal::EachStream(error) | Refusal::LaterStreams(error)) => {
                            let error = error.to_be_bytes();
                            peer.send(frames::RST_STREAM, 0, head.stream, &error).await;
                        }
                        (0, Refusal::Goodbye) | (_, Refusal::EachGoodbye) => {
                            peer.send(frames::GOAWAY, 0, 0, &goodbye(0)).await;
                        }
                        (_, Refusal::Answered { is_whole }) => {
                            peer.send(frames::HEADERS, END_HEADERS, head.stream, &[0x88]).await;
                            let flags = if is_whole { END_STREAM } else { 0 };
                            peer.send(frames::DATA, flags, head.stream, b"hel").await;
                            peer.send(frames::RST_STREAM, 0, head.stream, &[0; 4]).await;
                        }
                        (0, Refusal::GoodbyeAfterwards) => {
                            peer.send(frames::GOAWAY, 0, 0, &goodbye(head.stream)).await;
                            return Some(());
                        }
                        // The 204 of the static table (RFC 7541, Appendix A).
                        _ => {
                            let flags = END_HEADERS | END_STREAM;
                            peer.send(frames::HEADERS, flags, head.stream, &[0x89]).await;
                            if refusal == Refusal::GoodbyeAfter(served) {
                                peer.send(frames::GOAWAY, 0, 0, &goodbye(head.stream)).await;
                                peer.rest().await;
                                return Some(());
                            }
                        }
                    }
                }
                Some(())
            });
        }
    });
    (address, requests)
}

/// The same, which has refused before, and now answers. How many it is sent counts from one.
pub(crate) async fn answering(refusal: Refusal) -> (SocketAddr, Arc<AtomicUsize>) {
    let (address, requests) = refusing(refusal).await;
    requests.store(1, Ordering::Relaxed);
    (address, requests)
}

#[tokio::test]
async fn what_a_backend_certainly_has_not_begun_with_is_sent_again_whatever_it_is() {
    for (refusal, expected, sent) in [
        (Refusal::Stream, 204, 2),
        (Refusal::Goodbye, 204, 2),
        (Refusal::GoodbyeAfterwards, 502, 1),
    ] {
        let (address, requests) = refusing(refusal).await;
        let second = answering(refusal).await;
        let variables =
            [("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_PROBE", "off"), ("PROXY_POLICY", "first")];
        let backends = format!("http://{address},http://{}", second.0);
        let world = World::over(&backends, &variables, vec![]);
        world.until_eligible(2).await;
        let answer = world.client.post(world.url("/")).send().await.unwrap();
        let total = requests.load(Ordering::Relaxed) + second.1.load(Ordering::Relaxed) - 1;
        assert_eq!((answer.status().as_u16(), total), (expected, sent));
    }
}

#[tokio::test]
async fn an_answer_that_is_reset_without_an_error_is_whole_only_if_it_has_ended() {
    for is_whole in [true, false] {
        let (address, _) = refusing(Refusal::Answered { is_whole }).await;
        let world = over(&[address], &[("PROXY_PROBE", "off")]).await;
        let answer = world.client.get(world.url("/")).send().await.unwrap();
        let text = answer.text().await.ok();
        assert_eq!(text.as_deref(), is_whole.then_some("hel"));
        let mut client = connect(world.proxy.address).await;
        let answer = client.send_request(call("/", b"")).await.unwrap();
        let body = answer.into_body().collect().await.map(|body| body.to_bytes());
        assert_eq!(body.ok().as_deref(), is_whole.then_some(&b"hel"[..]));
    }
}

/// Sends requests, eight at a time, and counts the answers by their status.
async fn spread(world: &World, count: usize) -> BTreeMap<u16, usize> {
    let requests = (0..count).map(|_| world.client.post(world.url("/")).send());
    let answers = futures_util::stream::iter(requests);
    let answers = futures_util::StreamExt::buffer_unordered(answers, 8);
    let statuses = BTreeMap::new();
    futures_util::StreamExt::fold(answers, statuses, async |mut statuses, answer| {
        *statuses.entry(answer.unwrap().status().as_u16()).or_default() += 1;
        statuses
    })
    .await
}

#[tokio::test]
async fn backends_that_refuse_everything_are_sent_at_most_a_fifth_more() {
    const REQUESTS: usize = 600;
    let refused = Refusal::EachStream(REFUSED_STREAM);
    for refusal in [refused, Refusal::EachGoodbye] {
        let backends = [refusing(refusal).await, refusing(refusal).await];
        let list = backends.each_ref().map(|(address, _)| format!("http://{address}")).join(",");
        let variables =
            [("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_PROBE", "off"), ("PROXY_EJECT", "false")];
        // Each goodbye means a new connection, and a busy machine may take its time for those.
        let more = [("PROXY_RETRIES", "3"), ("PROXY_CONNECT_TIMEOUT", "20s")];
        let world = World::over(&list, &[&variables[..], &more].concat(), vec![]);
        world.until_eligible(2).await;
        assert_eq!(spread(&world, REQUESTS).await, [(502, REQUESTS)].into());
        let sent: usize = backends.iter().map(|(_, sent)| sent.load(Ordering::Relaxed)).sum();
        assert!(sent > REQUESTS, "{refusal:?}: there were retries");
        let most = REQUESTS * 6 / 5 * 101 / 100;
        assert!(sent <= most, "{refusal:?}: {sent} of {REQUESTS} requests");
        assert!(world.metric("evenkeel_retry_budget_exhausted_total").await > 0.0);
    }
}

#[tokio::test]
async fn a_goodbye_on_a_connection_that_has_served_costs_no_request_and_no_retry() {
    const REQUESTS: usize = 400;
    let (address, _) = refusing(Refusal::GoodbyeAfter(20)).await;
    let variables = [("PROXY_PROBE", "off"), ("PROXY_RETRIES", "0"), ("PROXY_RETRY_BUDGET", "0%")];
    let world = over(&[address], &variables).await;
    assert_eq!(spread(&world, REQUESTS).await, [(204, REQUESTS)].into());
    let retries = format!(
        "evenkeel_retries_total{{pool=\"default\",backend=\"{address}\",reason=\"reset_before_headers\"}}"
    );
    assert!(world.metric(&retries).await > 0.0, "some were sent beyond it");
}

#[tokio::test]
async fn a_backend_that_ends_or_refuses_streams_is_ejected_while_others_serve() {
    for (refusal, method) in [
        (Refusal::EachStream(REFUSED_STREAM), Method::POST),
        (Refusal::EachStream(INTERNAL_ERROR), Method::GET),
        // It finds nothing but malformed requests, which is its own fault.
        (Refusal::EachStream(PROTOCOL_ERROR), Method::GET),
    ] {
        let bad = refusing(refusal).await.0;
        let (good, _) = answering(Refusal::Stream).await;
        let variables = [("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_PROBE", "off")];
        let world = World::over(&format!("http://{bad},http://{good}"), &variables, vec![]);
        world.until_eligible(2).await;
        for _ in 0..30 {
            let answer = world.client.request(method.clone(), world.url("/")).send().await.unwrap();
            assert_eq!(answer.status(), 204, "{refusal:?}");
        }
        let health = async || world.backend(&bad.to_string()).await["health"].clone();
        world.until("it to be ejected", async || health().await == "ejected").await;
    }
}

/// RFC 9113 §8.1.1: what 400 is in HTTP/1. A long request, on a connection of its own, is the first there.
#[tokio::test]
async fn a_request_that_its_backend_finds_malformed_is_not_sent_again_or_held_against_it() {
    let [later, each] = [Refusal::LaterStreams, Refusal::EachStream].map(|of| of(PROTOCOL_ERROR));
    for (refusal, failed, length) in [(later, 14, 1), (each, 15, 9_000)] {
        let (bad, sent) = refusing(refusal).await;
        let (good, _) = answering(Refusal::Stream).await;
        let variables =
            [("PROXY_BACKEND_PROTOCOL", "h2c"), ("PROXY_PROBE", "off"), ("PROXY_WORKERS", "1")];
        let world = World::over(&format!("http://{bad},http://{good}"), &variables, vec![]);
        world.until_eligible(2).await;
        let mut statuses = BTreeMap::<u16, usize>::new();
        for _ in 0..30 {
            let request = world.client.get(world.url("/")).header("cookie", "x".repeat(length));
            *statuses.entry(request.send().await.unwrap().status().as_u16()).or_default() += 1;
        }
        assert_eq!(statuses, [(204, 30 - failed), (502, failed)].into(), "{refusal:?}");
        assert_eq!(sent.load(Ordering::Relaxed), 15);
        // The pool counts by the second: what it would eject for, it has seen when it has seen this.
        let id = bad.to_string();
        let failures = async || world.backend(&id).await["traffic"]["failures_total"].clone();
        world.until("it to be counted", async || failures().await == failed).await;
        assert_eq!(world.backend(&id).await["health"], "up", "{refusal:?}");
    }
}
