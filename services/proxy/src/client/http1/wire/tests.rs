use std::future::poll_fn;

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{buffered::Buffered, client::activity::Phase, settings::Settings};

/// A client, and its connection here.
pub(in super::super) async fn connected() -> (TcpStream, SharedWire, Rc<Activity>) {
    connected_beside(&Arc::default(), READ_BYTES).await
}

/// The same, where so much waits in all and so much is read at once at most.
pub(in super::super) async fn connected_beside(
    gauges: &Arc<Gauges>,
    read_bytes_max: usize,
) -> (TcpStream, SharedWire, Rc<Activity>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let activity = Activity::new();
    let socket = Socket { stream, _guest: None };
    (client, Wire::new(socket, true, &activity, (gauges, read_bytes_max)), activity)
}

/// RFC 9112 §2.2.
#[tokio::test]
async fn empty_lines_between_requests_begin_none_however_they_come() {
    let (_client, wire, activity) = connected().await;
    let limits = Settings::from_variables(&[]).limits;
    for (text, is_begun) in
        [("\r\n", false), ("\r", false), ("\n", false), ("\r\n\r", false), ("\nG", true)]
    {
        wire.borrow_mut().read.extend_from_slice(text.as_bytes());
        let next = poll_fn(|context| Poll::Ready(wire.borrow_mut().poll_next(context, &limits)));
        assert!(next.await.is_pending());
        assert_eq!(activity.is(Phase::Head), is_begun, "{text:?}");
    }
}

#[tokio::test]
async fn a_head_that_has_not_ended_counts_as_waiting_until_it_has_or_its_connection_ends() {
    let gauges = Arc::new(Gauges::default());
    let (_client, wire, _) = connected_beside(&gauges, READ_BYTES).await;
    let limits = Settings::from_variables(&[]).limits;
    for (text, is_whole, waits) in [
        ("", false, false),
        ("GET / HTTP/1.1\r\nHost:", false, true),
        (" a\r\n\r\n", true, false),
        ("GET", false, true),
    ] {
        wire.borrow_mut().read.extend_from_slice(text.as_bytes());
        let next = poll_fn(|context| Poll::Ready(wire.borrow_mut().poll_next(context, &limits)));
        assert_eq!(next.await.is_ready(), is_whole, "{text:?}");
        assert_eq!(gauges.buffered.bytes() > 0, waits, "{text:?}");
    }
    drop(wire.borrow_mut().take());
    assert_eq!(gauges.buffered.bytes(), 0);
}

/// RFC 9110 §10.1.1.
#[tokio::test]
async fn nothing_follows_a_body_that_was_not_asked_for_before_its_answer() {
    let (_client, wire, _) = connected().await;
    for (waits, may_end) in [(true, false), (false, true)] {
        let mut wire = wire.borrow_mut();
        (wire.upload, wire.wants_continue) = (Uploading::Announced, waits);
        let ends = wire.may_end(&mut Context::from_waker(Waker::noop()));
        assert_eq!((ends, wire.wants_continue), (may_end, false));
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_takes_no_room() {
    let (mut client, wire, _) = connected().await;
    let most = READ_BYTES - 1000;
    client.write_all(&vec![b'x'; most]).await.unwrap();
    while wire.borrow().read.len() < most {
        let filled = poll_fn(|context| wire.borrow_mut().poll_fill(context)).await;
        assert!(filled.unwrap() > 0);
    }
    drop(wire.borrow_mut().read.split());
    let before = wire.borrow().read.capacity();
    assert!(before < ROOM_BYTES_MIN);
    let is_gone = poll_fn(|context| Poll::Ready(wire.borrow_mut().poll_gone(context)));
    assert!(is_gone.await.is_pending());
    assert_eq!(wire.borrow().read.capacity(), before);
}

#[tokio::test]
async fn where_memory_is_tight_no_more_is_read_at_once_than_a_share() {
    const MOST: usize = 8 * READ_BYTES;
    let bound = 4 * MOST;
    let gauges = Arc::new(Gauges { buffered: Buffered::up_to(bound), ..Gauges::default() });
    let (mut client, wire, _) = connected_beside(&gauges, MOST).await;
    let mut room_for_more = async || {
        client.write_all(b"more").await.unwrap();
        let filled = poll_fn(|context| wire.borrow_mut().poll_fill(context)).await;
        assert_eq!(filled.unwrap(), 4);
        let mut wire = wire.borrow_mut();
        drop(wire.read.split());
        // As if much had come.
        wire.read_size.bytes = MOST;
        wire.read.capacity()
    };
    assert!(room_for_more().await <= READ_BYTES, "it is not known to be fast");
    assert!(room_for_more().await > MOST / 2);
    gauges.buffered.add(bound, &gauges.limits);
    assert!(room_for_more().await <= READ_BYTES);
    gauges.buffered.subtract(bound);
    assert!(room_for_more().await > MOST / 2);
}

#[test]
fn what_is_read_at_once_grows_with_what_comes_and_shrinks_again() {
    let mut size = ReadSize::up_to(4 * READ_BYTES);
    let mut after = |read, room| {
        size.note(read, room);
        size.bytes
    };
    assert_eq!(after(READ_BYTES, READ_BYTES), 2 * READ_BYTES);
    assert_eq!(after(2 * READ_BYTES, 2 * READ_BYTES), 4 * READ_BYTES);
    assert_eq!(after(4 * READ_BYTES, 4 * READ_BYTES), 4 * READ_BYTES);
    assert_eq!(after(1, 4 * READ_BYTES), 4 * READ_BYTES);
    assert_eq!(after(1, 4 * READ_BYTES), 2 * READ_BYTES);
    assert_eq!((0..9).map(|_| after(1, READ_BYTES)).last(), Some(READ_BYTES));
}
