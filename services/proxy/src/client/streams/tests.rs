use std::{future::poll_fn, pin::Pin};

use bytes::{Buf, Bytes};
use http_body::Body;

use super::*;
use crate::{buffered::Buffered, client::frames::FIRST_WINDOW};

const LIMIT: Duration = Duration::from_secs(60);

fn streams() -> Streams {
    streams_of(FIRST_WINDOW)
}

/// Those of a client that has room for so much of each response at first.
fn streams_of(window: u32) -> Streams {
    Streams::new(&Arc::default(), &Rc::new(Cell::new(window)))
}

fn body(text: &'static [u8], streams: &Streams) -> StreamBody {
    StreamBody::new(ResponseBody::Own(Some(Bytes::from_static(text))), streams.begin())
}

#[tokio::test]
async fn a_long_part_goes_on_in_pieces_and_ends_with_the_last() {
    let mut body = body(&[7; 2 * PART_BYTES + 1], &streams());
    assert_eq!(body.size_hint().exact(), Some(2 * PART_BYTES as u64 + 1));
    let mut lengths = Vec::new();
    while !body.is_end_stream() {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        lengths.push(frame.unwrap().unwrap().into_data().unwrap().remaining());
    }
    assert_eq!(lengths, [PART_BYTES, PART_BYTES, 1]);
}

#[tokio::test]
async fn beyond_the_share_of_a_connection_each_stream_gives_a_part_at_a_time() {
    // Of no room at all each share is the least.
    let buffered = Buffered::up_to(0);
    let gauges = Arc::new(Gauges { buffered, ..Gauges::default() });
    let streams = Streams::new(&gauges, &Rc::new(Cell::new(FIRST_WINDOW)));
    let (mut one, mut other) = (body(&[7; 40_000], &streams), body(&[7; 40_000], &streams));
    let context = &mut Context::from_waker(Waker::noop());
    let mut next = |body: &mut StreamBody| Pin::new(body).poll_frame(context);
    let first = next(&mut one);
    assert!(first.is_ready());
    assert!(next(&mut one).is_pending() && one.progress.waits_for_client.get());
    assert!(next(&mut other).is_ready(), "has given none, or has none left");
    assert!(next(&mut other).is_ready(), "has given none, or has none left");
    assert_eq!(gauges.buffered.bytes(), 2 * cost(40_000) - 2 * cost(PART_BYTES));
    drop(first);
    assert!(next(&mut one).is_ready());
    drop((one, other));
    assert_eq!(gauges.buffered.bytes(), 0);
}

#[tokio::test]
async fn what_is_small_counts_with_its_place_in_the_library_until_it_has_gone_out() {
    let gauges = Arc::new(Gauges::default());
    let streams = Streams::new(&gauges, &Rc::new(Cell::new(FIRST_WINDOW)));
    let context = &mut Context::from_waker(Waker::noop());
    let mut bodies: Vec<_> = (0..10).map(|_| body(b"x", &streams)).collect();
    let parts: Vec<_> = bodies.iter_mut().map(|body| Pin::new(body).poll_frame(context)).collect();
    assert!(parts.iter().all(Poll::is_ready));
    drop(bodies);
    assert_eq!(gauges.buffered.bytes(), 10 * (1 + PLACE_BYTES));
    drop(parts);
    assert_eq!(gauges.buffered.bytes(), 0);
}

/// Once the library has the end, the stream can be reset no more.
#[tokio::test]
async fn the_end_waits_for_what_is_before_it_where_that_may_lack_room() {
    for (window, waits) in [(PART_BYTES as u32, false), (PART_BYTES as u32 - 1, true)] {
        let streams = streams_of(window);
        let mut body = body(&[7; PART_BYTES], &streams);
        let context = &mut Context::from_waker(Waker::noop());
        let mut next = |body: &mut StreamBody| Pin::new(body).poll_frame(context);
        let part = next(&mut body);
        assert!(matches!(part, Poll::Ready(Some(Ok(_)))));
        assert_eq!(body.is_end_stream(), !waits);
        assert_eq!(next(&mut body).is_pending(), waits);
        drop(part);
        assert!(body.is_end_stream());
        assert!(matches!(next(&mut body), Poll::Ready(None)));
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_stream_whose_client_makes_no_room_for_its_part_is_reset() {
    let streams = streams();
    tokio::task::LocalSet::new()
        .run_until(async {
            let mut stalled = body(b"x", &streams);
            poll_fn(|context| Pin::new(&mut stalled).poll_frame(context)).await;
            // Holds its part and waits, as what sends it does.
            streams.execute(Rc::clone(&stalled.progress), async move {
                std::future::pending::<()>().await;
                drop(stalled);
            });
            // Has taken nothing yet: the backend is slow, not the client.
            let waiting = body(b"x", &streams);
            streams.execute(Rc::clone(&waiting.progress), async move {
                std::future::pending::<()>().await;
                drop(waiting);
            });
            assert_eq!(streams.reset_stalled(LIMIT), 0);
            tokio::time::advance(LIMIT).await;
            assert_eq!((streams.reset_stalled(LIMIT), streams.reset_stalled(LIMIT)), (1, 0));
            assert_eq!(streams.0.running.borrow().len(), 1);
        })
        .await;
}

/// The last part of an answer that nobody serves any more.
async fn last_part(streams: &Streams) -> Part {
    let mut body = body(b"an answer", streams);
    let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    streams.execute(Rc::clone(&body.progress), async {});
    tokio::task::yield_now().await;
    frame.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test(start_paused = true)]
async fn ends_of_answers_that_do_not_move_end_their_connection_whatever_else_is_asked_for() {
    let streams = streams();
    let run = async {
        let mut parts = vec![last_part(&streams).await];
        assert!(!streams.are_stuck(LIMIT));
        for _ in 0..5 {
            tokio::time::advance(LIMIT / 6).await;
            assert!(!streams.are_stuck(LIMIT));
            parts.push(last_part(&streams).await);
        }
        tokio::time::advance(LIMIT / 6).await;
        assert!(streams.are_stuck(LIMIT));
        // As long as they are taken, if slowly, another limit says.
        parts[0].advance(1);
        assert!(!streams.are_stuck(LIMIT));
        tokio::time::advance(LIMIT).await;
        assert!(streams.are_stuck(LIMIT));
        drop(parts);
        assert!(!streams.are_stuck(LIMIT), "nothing waits");
        // Nor after a while in which nothing did.
        let _part = last_part(&streams).await;
        assert!(!streams.are_stuck(LIMIT));
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_can_be_reset_does_not_end_its_connection() {
    let streams = streams();
    let run = async {
        let _stalled = Slow::new(b"an answer", &streams);
        assert!(!streams.are_stuck(LIMIT));
        tokio::time::advance(LIMIT).await;
        assert_eq!((streams.reset_stalled(LIMIT), streams.are_stuck(LIMIT)), (1, false));
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

/// The body of a stream whose client makes room for so many bytes at a time.
struct Slow {
    body: StreamBody,
    part: Option<Part>,
}

impl Slow {
    fn new(text: &'static [u8], streams: &Streams) -> Self {
        let mut slow = Self { body: body(text, streams), part: None };
        slow.fill();
        // What runs it is not looked at; that it has not ended is.
        streams.execute(Rc::clone(&slow.body.progress), std::future::pending());
        slow
    }

    /// What is done when there is room for a byte.
    fn fill(&mut self) {
        let context = &mut Context::from_waker(Waker::noop());
        if self.part.is_none()
            && let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut self.body).poll_frame(context)
        {
            self.part = frame.into_data().ok();
        }
    }

    fn take(&mut self, bytes: usize) {
        if let Some(part) = &mut self.part {
            part.advance(bytes.min(part.remaining()));
        }
        self.part.take_if(|part| !part.has_remaining());
        self.fill();
    }
}

/// Whether a stream is reset within so many seconds whose client takes so much every second, of one
/// in which several wait.
async fn is_too_slow(bytes: usize, seconds: u64, streams_at_once: usize) -> bool {
    let streams = streams_of(0);
    let run = async {
        let slow = |_| Slow::new(&[7; 400_000], &streams);
        let mut all: Vec<Slow> = (0..streams_at_once).map(slow).collect();
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            all.iter_mut().for_each(|stream| stream.take(bytes));
            let reset = streams.reset_slow(100);
            if reset > 0 {
                return reset == streams_at_once as u64;
            }
        }
        false
    };
    tokio::task::LocalSet::new().run_until(run).await
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_trickles_is_reset_and_one_that_shares_its_line_is_not() {
    assert!(is_too_slow(99, 10, 1).await);
    assert!(is_too_slow(1, 10, 1).await);
    assert!(!is_too_slow(100, 60, 1).await);
    assert!(is_too_slow(9, 10, 10).await);
    assert!(is_too_slow(1, 10, 99).await);
    assert!(!is_too_slow(10, 220, 10).await);
    // Parts that are given out whole, of which several go each second.
    assert!(!is_too_slow(4 * PART_BYTES, 5, 1).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_for_a_while_and_then_all_is_not_too_slow() {
    let streams = streams();
    let run = async {
        let mut paused = Slow::new(b"an event", &streams);
        for _ in 0..50 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(streams.reset_slow(100), 0, "that is for another limit");
        }
        paused.take(8);
        // As a body leaves it of which the backend has not sent more.
        paused.body.progress.waits_for_client.set(false);
        assert_eq!(streams.reset_slow(100), 0);
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_moves_within_a_part_is_not_stalled() {
    let streams = streams_of(0);
    let look = || (streams.reset_slow(100), streams.reset_stalled(LIMIT));
    let run = async {
        let mut slow = Slow::new(&[7; PART_BYTES], &streams);
        for _ in 0..2 * LIMIT.as_secs() {
            tokio::time::advance(Duration::from_secs(1)).await;
            slow.take(110);
            assert!(slow.part.is_some(), "it is the same part");
            assert_eq!(look(), (0, 0));
        }
        tokio::time::advance(LIMIT).await;
        assert_eq!(look(), (0, 1));
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_trickle_in_turn_are_reset_and_one_that_pauses_beside_them_is_not() {
    // Of all together, a second.
    for (bytes, is_reset) in [(10, true), (99, true), (100, false)] {
        let streams = streams_of(0);
        let run = async {
            let paused = Slow::new(&[7; 400], &streams);
            let mut all: Vec<_> = (0..20).map(|_| Slow::new(&[7; 400_000], &streams)).collect();
            let mut reset = 0;
            for second in 0..50 {
                tokio::time::advance(Duration::from_secs(1)).await;
                all[second % 20].take(bytes);
                reset += streams.reset_slow(100);
            }
            assert_eq!(reset > 0, is_reset, "{bytes}");
            let running = streams.0.running.borrow();
            let pauses = |progress| Rc::ptr_eq(progress, &paused.body.progress);
            assert!(running.iter().any(|(progress, _)| pauses(progress)), "{bytes}");
        };
        tokio::task::LocalSet::new().run_until(run).await;
    }
}

/// Whether a connection must end within so many seconds whose client takes so much every second, of one
/// short answer after the other.
async fn are_too_slow(bytes: usize, seconds: u64) -> bool {
    let streams = streams();
    let run = async {
        let mut all: Vec<Slow> = (0..10).map(|_| Slow::new(&[7; 5_000], &streams)).collect();
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            let next = all.iter_mut().find(|stream| stream.part.is_some());
            next.into_iter().for_each(|stream| stream.take(bytes));
            assert_eq!(streams.reset_slow(100), 0, "each waits for the connection");
            if streams.are_slow(100) {
                return true;
            }
        }
        false
    };
    tokio::task::LocalSet::new().run_until(run).await
}

/// Such as a video that pauses, within the limit for it, and a page that asks for news meanwhile.
#[tokio::test(start_paused = true)]
async fn a_stream_that_pauses_is_not_held_against_its_connection() {
    let streams = streams_of(100);
    let run = async {
        let _paused = Slow::new(&[7; 400], &streams);
        for _ in 0..LIMIT.as_secs() {
            tokio::time::advance(Duration::from_secs(1)).await;
            Slow::new(b"no news", &streams).take(7);
            assert!(streams.reset_slow(100) == 0 && !streams.are_slow(100));
        }
    };
    tokio::task::LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn short_answers_that_wait_for_their_turn_end_only_with_a_connection_that_is_too_slow() {
    // From the first look on.
    assert!(are_too_slow(99, 11).await);
    assert!(are_too_slow(1, 11).await);
    assert!(!are_too_slow(100, 600).await);
}

/// Not by itself, and not with all that its connection's client takes.
#[tokio::test(start_paused = true)]
async fn a_tunnel_whose_client_pauses_is_not_held_against_it() {
    for is_tunnel in [true, false] {
        let streams = streams();
        let mut body = body(&[7; 400], &streams);
        let progress = Rc::clone(&body.progress);
        progress.is_tunnel.set(is_tunnel);
        let context = &mut Context::from_waker(Waker::noop());
        let part = Pin::new(&mut body).poll_frame(context);
        progress.waits_for_client.set(false);
        assert!(progress.poll_gone_out(context).is_pending());
        assert_eq!(progress.held.all.waiting.get() == 0, is_tunnel);
        tokio::time::advance(LIMIT).await;
        assert_eq!(progress.is_stalled(LIMIT), !is_tunnel);
        drop(part);
        assert!(progress.poll_gone_out(context).is_ready());
    }
}
