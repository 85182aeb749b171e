//! What a hostile client of HTTP/2 can make the proxy do: attacks with raw frames (RFC 9113 §10.5).

use tokio::io::AsyncWriteExt;

use crate::common::{
    PATIENCE, World,
    frames::{self, END_HEADERS, END_STREAM, RawClient},
};

/// Sends the frames that `attack` makes until the proxy closes.
async fn until_calmed(world: &World, attack: impl Fn(u32) -> Vec<u8>) {
    let RawClient(stream) = RawClient::connect(world.proxy.address, &[]).await;
    let (mut reader, mut writer) = stream.into_split();
    // Answers that nobody takes would stop the proxy, which is another limit.
    tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    let sends = async move {
        let mut round = 0;
        while writer.write_all(&attack(round)).await.is_ok() {
            round += 1;
            assert!(round < 1_000_000, "never refused");
        }
    };
    let sending = tokio::time::timeout(PATIENCE, sends);
    sending.await.expect("the proxy stops reading, but does not close");
}

async fn hits(world: &World, limit: &str) -> f64 {
    world.metric(&format!("evenkeel_limits_hit_total{{limit=\"{limit}\"}}")).await
}

/// Others are served, and nothing is left of the attack.
async fn is_unharmed(world: &World) {
    assert_eq!(world.get("/").await.0, 200);
    let in_flight = async || world.backend(&world.id(0)).await["in_flight"] == 0;
    world.until("all tickets to be given back", in_flight).await;
}

fn head(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frames::frame(frames::HEADERS, flags, stream, block)
}

/// CVE-2023-44487.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let world = World::start(1, &[("PROXY_HTTP2_RESETS_MAX", "50")]).await;
    let block = frames::get("/delay/10s", &[]);
    until_calmed(&world, |round| {
        let stream = 2 * round + 1;
        let reset = frames::frame(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        [head(stream, END_HEADERS | END_STREAM, &block), reset].concat()
    })
    .await;
    // The library's own bound is lower when it sees both frames in one read.
    let count = hits(&world, "http2_resets").await + hits(&world, "http2_excess").await;
    assert_eq!(count, 1.0);
    is_unharmed(&world).await;
}

/// CVE-2025-8671.
#[tokio::test]
async fn requests_that_a_client_has_reset_by_a_mistake_count_as_its_own_resets() {
    let world = World::start(1, &[("PROXY_HTTP2_RESETS_MAX", "10")]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let block = frames::get("/delay/10s", &[]);
    let mut reset = 0;
    for stream in (1..400).step_by(2) {
        let request = [head(stream, END_HEADERS | END_STREAM, &block), ping()].concat();
        if client.0.write_all(&request).await.is_err() || client.until(frames::PING).await.is_none()
        {
            break;
        }
        // Its request is on its way by now. More room than there can be (RFC 9113 §6.9.1).
        let room = frames::frame(frames::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        if client.0.write_all(&room).await.is_err()
            || client.until(frames::RST_STREAM).await.is_none()
        {
            break;
        }
        reset += 1;
    }
    assert!((10..=12).contains(&reset), "{reset}");
    assert_eq!(hits(&world, "http2_resets").await, 1.0);
    is_unharmed(&world).await;
}

fn ping() -> Vec<u8> {
    frames::frame(frames::PING, 0, 0, &[0; 8])
}

#[tokio::test]
async fn requests_that_are_refused_do_not_make_up_for_resets() {
    let variables = [("PROXY_HTTP2_RESETS_MAX", "50"), ("PROXY_HEADER_BYTES_MAX", "8KiB")];
    let world = World::start(1, &variables).await;
    let last_hop = |method| {
        frames::block(&[
            (":method", method),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
            ("max-forwards", "0"),
        ])
    };
    let value = "y".repeat(120);
    let refused = [
        frames::get("/", &[("host", "b")]),
        last_hop("OPTIONS"),
        last_hop("TRACE"),
        // The library answers this by itself, and resets that.
        frames::get("/", &[("x", &value[..]); 120]),
        frames::block(&[(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
    ];
    let mut resets = Vec::new();
    for block in &refused {
        resets.push(resets_beside(&world, block).await);
    }
    assert!(resets.iter().all(|resets| (50..=60).contains(resets)), "{resets:?}");
    assert_eq!(hits(&world, "http2_resets").await, refused.len() as f64);
    is_unharmed(&world).await;
}

/// How many requests a client can reset, each beside two that are refused.
async fn resets_beside(world: &World, refused: &[u8]) -> u32 {
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let good = frames::get("/delay/10s", &[]);
    let end = END_HEADERS | END_STREAM;
    for round in 0..200 {
        let [reset, first, second] = [1, 3, 5].map(|stream| 6 * round + stream);
        let heads =
            [head(reset, end, &good), head(first, end, refused), head(second, end, refused)];
        if client.0.write_all(&heads.concat()).await.is_err() {
            return round;
        }
        // The one is under way when the others have been refused.
        loop {
            let Some(frame) = client.read().await else { return round };
            if frame.stream == second {
                break;
            }
        }
        let cancel = frames::frame(frames::RST_STREAM, 0, reset, &8_u32.to_be_bytes());
        if client.0.write_all(&cancel).await.is_err() {
            return round;
        }
    }
    200
}

#[tokio::test]
async fn resets_have_a_bound_whatever_else_is_asked_for() {
    let world = World::start(1, &[("PROXY_HTTP2_RESETS_MAX", "5")]).await;
    let served = frames::get("/status/204", &[]);
    let resets = resets_beside(&world, &served).await;
    assert!((100..=110).contains(&resets), "{resets}");
    assert_eq!(hits(&world, "http2_resets").await, 1.0);
    is_unharmed(&world).await;
}

#[tokio::test]
async fn a_reset_here_and_there_is_no_attack() {
    let world = World::start(1, &[("PROXY_HTTP2_RESETS_MAX", "3")]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let block = frames::get("/status/204", &[]);
    for round in 0..20 {
        let (served, reset) = (4 * round + 1, 4 * round + 3);
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, served, &block).await;
        while client.until(frames::HEADERS).await.unwrap().stream != served {}
        client.send(frames::HEADERS, END_HEADERS, reset, &block).await;
        client.send(frames::RST_STREAM, 0, reset, &8_u32.to_be_bytes()).await;
    }
    assert_eq!(hits(&world, "http2_resets").await, 0.0);
}

/// CVE-2019-9512, CVE-2019-9515, CVE-2019-9513.
#[tokio::test]
async fn floods_of_frames_that_belong_to_no_request_end_the_connection() {
    let world = World::start(1, &[("PROXY_HTTP2_CONTROL_FRAMES_MAX", "100")]).await;
    let ping = frames::frame(frames::PING, 0, 0, &[0; 8]);
    let settings = frames::frame(frames::SETTINGS, 0, 0, &[]);
    let priority = frames::frame(2, 0, 1, &[0, 0, 0, 3, 1]);
    let unknown = frames::frame(0xee, 0, 0, b"x");
    for (index, flood) in [ping, settings, priority, unknown].into_iter().enumerate() {
        until_calmed(&world, |_| flood.clone()).await;
        assert_eq!(hits(&world, "http2_control_frames").await, index as f64 + 1.0);
    }
    is_unharmed(&world).await;
}

/// CVE-2019-9518.
#[tokio::test]
async fn data_with_nothing_in_it_ends_the_connection() {
    let world = World::start(1, &[("PROXY_HTTP2_CONTROL_FRAMES_MAX", "100")]).await;
    let post = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/echo")];
    let block = frames::block(&post);
    until_calmed(&world, |round| match round {
        0 => head(1, END_HEADERS, &block),
        _ => frames::frame(frames::DATA, 0, 1, &[]),
    })
    .await;
    assert_eq!(hits(&world, "http2_control_frames").await, 1.0);
    is_unharmed(&world).await;
}

/// CVE-2024-27316.
#[tokio::test]
async fn a_head_without_an_end_ends_the_connection() {
    let world = World::start(1, &[]).await;
    let field = frames::block(&[("x", &"y".repeat(100))]);
    until_calmed(&world, |round| match round {
        0 => head(1, END_STREAM, &frames::get("/", &[])),
        _ => frames::frame(frames::CONTINUATION, 0, 1, &field.repeat(20)),
    })
    .await;
    assert_eq!(hits(&world, "http2_excess").await, 1.0);
    is_unharmed(&world).await;
}

#[tokio::test]
async fn a_head_that_trickles_in_ends_the_connection_in_time_even_beside_other_requests() {
    let variables = [("PROXY_HEADER_TIMEOUT", "300ms"), ("PROXY_IDLE_TIMEOUT", "60s")];
    let world = World::start(1, &variables).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let block = frames::get("/delay/60s", &[]);
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
    client.send(frames::HEADERS, END_STREAM, 3, &block).await;
    client.rest().await;
    let timeouts = "evenkeel_client_timeouts_total{phase=\"header\"}";
    assert_eq!(world.metric(timeouts).await, 1.0);
    is_unharmed(&world).await;
}

/// RFC 9113 §5.1.2.
#[tokio::test]
async fn more_streams_than_agreed_are_refused_one_by_one() {
    let world = World::start(1, &[("PROXY_HTTP2_STREAMS_MAX", "2")]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let settings = client.until(frames::SETTINGS).await.unwrap();
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 2]));
    let block = frames::get("/delay/5s", &[]);
    for stream in [1, 3, 5] {
        client.send(frames::HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
    }
    const REFUSED_STREAM: u32 = 7;
    let refused = client.until(frames::RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, &refused.payload[..]), (5, &REFUSED_STREAM.to_be_bytes()[..]));
    for _ in 0..2 {
        assert_ne!(client.until(frames::HEADERS).await.unwrap().stream, 5);
    }
    assert_eq!(hits(&world, "http2_streams").await, 1.0);
}

#[tokio::test]
async fn who_is_refused_many_times_in_the_life_of_a_connection_is_to_make_another_one() {
    let world = World::start(1, &[("PROXY_HTTP2_STREAMS_MAX", "1")]).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::get("/delay/3s", &[])).await;
    let block = frames::get("/", &[]);
    let (mut refused, mut next) = (0, 3);
    let goodbye = 'told: loop {
        // A few at a time, so that all of them come while the first is served.
        let streams = [0, 2, 4, 6, 8, 10, 12, 14].map(|place| next + place);
        next += 16;
        let heads = streams.map(|stream| head(stream, END_HEADERS | END_STREAM, &block)).concat();
        client.0.write_all(&heads).await.unwrap();
        for _ in streams {
            let frame = loop {
                let frame = client.read().await.expect("the request goes on");
                if matches!(frame.kind, frames::RST_STREAM | frames::GOAWAY) {
                    break frame;
                }
            };
            if frame.kind == frames::GOAWAY {
                break 'told frame;
            }
            refused += 1;
        }
    };
    assert_eq!(goodbye.payload[4..8], [0; 4], "no mistake of the client's");
    assert!((500..600).contains(&refused), "{refused}");
    assert_eq!(client.until(frames::HEADERS).await.expect("it is answered").stream, 1);
}

/// RFC 9113 §4.2.
#[tokio::test]
async fn a_frame_that_is_larger_than_announced_ends_the_connection() {
    const FRAME_SIZE_ERROR: [u8; 4] = [0, 0, 0, 6];
    let world = World::start(1, &[]).await;
    for (kind, flags) in [(frames::DATA, 0), (frames::HEADERS, END_HEADERS), (frames::HEADERS, 0)] {
        let mut client = RawClient::connect(world.proxy.address, &[]).await;
        client.send(frames::HEADERS, END_HEADERS, 1, &frames::get("/echo", &[])).await;
        client.send(kind, flags, 1, &[0; 16_385]).await;
        let goodbye = client.until(frames::GOAWAY).await.unwrap();
        assert_eq!(goodbye.payload[4..8], FRAME_SIZE_ERROR, "{kind}");
    }
}

/// RFC 9113 §10.5.1.
#[tokio::test]
async fn a_head_that_is_too_large_is_counted_whoever_refuses_it() {
    let variables = [("PROXY_HEADER_BYTES_MAX", "8KiB"), ("PROXY_HEADERS_MAX", "1000")];
    let world = World::start(1, &variables).await;
    let mut client = RawClient::connect(world.proxy.address, &[]).await;
    let settings = client.until(frames::SETTINGS).await.unwrap();
    let announced: Vec<&[u8]> =
        settings.payload.chunks(6).filter(|setting| setting.starts_with(&[0, 6])).collect();
    assert_eq!(announced, [[0, 6, 0, 0, 0x20, 0]], "where we refuse it");
    let mut frame_sizes = settings.payload.chunks(6).filter(|setting| setting.starts_with(&[0, 5]));
    assert!(
        frame_sizes.all(|size| size[2..] == 16_384_u32.to_be_bytes()),
        "as if nothing were said"
    );
    let value = "y".repeat(120);
    let with = |count| frames::get("/", &vec![("x", &value[..]); count]);
    // A field of 3,900 bytes for the table (RFC 7541 §6.2.1), and 60 times the same of it.
    let of_table = [&[0x40, 1, b'x', 0x7f, 0xbd, 0x1d][..], &[b'y'; 3_900], &[0xbe; 60]].concat();
    // Read and answered, and what its library keeps nothing of.
    let blocks = [with(70), with(400), [frames::get("/", &[]), of_table].concat()];
    for (index, block) in blocks.into_iter().enumerate() {
        let stream = 2 * index as u32 + 1;
        client.0.write_all(&frames::cut(END_STREAM, stream, &block, 5_000)).await.unwrap();
        assert_eq!(client.until(frames::HEADERS).await.unwrap().stream, stream);
        let is_counted = async || hits(&world, "header_bytes").await == index as f64 + 1.0;
        world.until("it to be counted", is_counted).await;
    }
    client.send(frames::HEADERS, END_HEADERS | END_STREAM, 7, &frames::get("/", &[])).await;
    assert_eq!(client.until(frames::HEADERS).await.unwrap().stream, 7);
    assert_eq!(hits(&world, "header_bytes").await, 3.0);
}
