use std::task::{Context, Poll};

use balance::{Admin, BackendId, Change, Time};
use tokio::{
    io::{Interest, ReadBuf, duplex},
    net::TcpListener,
};

use super::*;
use crate::{upstream, worker::tests::Bench};

const LIMITS: Limits =
    Limits { open: Duration::from_secs(3_600), half_closed: Duration::from_secs(60) };

/// A client of which nobody tells that it is gone.
fn alone<T>(client: T) -> (T, std::future::Pending<()>) {
    (client, std::future::pending())
}

fn never() -> watch::Receiver<bool> {
    watch::channel(false).1
}

/// Reads so many bytes, and makes sure that no more are there.
async fn hear(from: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<u8> {
    let mut heard = vec![0; count];
    from.read_exact(&mut heard).await.unwrap();
    heard
}

#[tokio::test(start_paused = true)]
async fn a_websocket_that_must_end_says_good_bye_both_ways_after_the_frame_it_is_in() {
    let (mut client, client_side) = duplex(64);
    let (mut backend, backend_side) = duplex(64);
    let (end, ending) = watch::channel(false);
    let tunnel = tokio::task::LocalSet::new();
    let joined = tunnel.spawn_local(join(alone(client_side), backend_side, LIMITS, true, ending));
    tunnel
        .run_until(async {
            backend.write_all(&[0x81, 3, b'a']).await.unwrap();
            assert_eq!(hear(&mut client, 3).await, [0x81, 3, b'a']);
            end.send_replace(true);
            let to_backend = hear(&mut backend, 8).await;
            assert_eq!(to_backend[..2], [0x88, 0x82], "between two frames");
            tokio::time::sleep(Duration::from_secs(5)).await;
            backend.write_all(b"bc").await.unwrap();
            assert_eq!(hear(&mut client, 6).await, [b'b', b'c', 0x88, 2, 0x03, 0xE9]);
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "and nothing more");
            drop((client, backend));
            joined.await.unwrap().unwrap();
        })
        .await;
}

/// A socket of ours, and its peer's end.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, peer)
}

/// A backend that closes with something unread resets its connection. The client has sent much more
/// than is read at once: closing with that unread would reset its connection, too.
#[tokio::test]
async fn a_client_hears_a_good_bye_in_the_middle_of_its_message() {
    const TOO_BIG: [u8; 4] = [0x88, 2, 0x03, 0xF1];
    let ((mut backend, mut its_end), (stream, mut client)) = tokio::join!(connected(), connected());
    let bench = Bench::new(&[], backend.peer_addr().unwrap());
    backend.write_all(b"the beginning").await.unwrap();
    its_end.readable().await.unwrap();
    its_end.write_all(&TOO_BIG).await.unwrap();
    drop(its_end);
    backend.ready(Interest::ERROR).await.unwrap();
    client.write_all(&[0; 4 * BUFFER_BYTES]).await.unwrap();
    let tunnel = Tunnel::new(&bench.worker, (backend, Bytes::new()), None, (true, None));
    let hear = async {
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        drop(client);
        heard
    };
    let ((), heard) = tokio::join!(tunnel.run(Socket { stream, _guest: None }, Bytes::new()), hear);
    assert_eq!(heard, TOO_BIG);
}

/// The client is in the middle of a frame, and goes on with nothing.
#[tokio::test]
async fn a_websocket_has_a_second_for_its_good_byes_and_another_tunnel_none() {
    let moment = Duration::from_millis(3);
    for is_websocket in [true, false] {
        let ((backend, mut its_end), (stream, mut client)) = tokio::join!(connected(), connected());
        let address = backend.peer_addr().unwrap();
        let (bench, mut pool) = (Bench::new(&[], address), upstream::tests::pool(address));
        let ticket = pool.picker().pick(None).ok();
        let (id, socket) = (BackendId::new("backend"), Socket { stream, _guest: None });
        let tunnel =
            Tunnel::new(&bench.worker, (backend, Bytes::new()), ticket, (is_websocket, None));
        let is_cut = || bench.worker.gauges.tunnels_cut.load(Ordering::Relaxed) == 1;
        let driving = async {
            client.write_all(&[0x82, 0x85, 1, 2, 3, 4, b'a']).await.unwrap();
            hear(&mut its_end, 7).await;
            tokio::time::pause();
            let (state, deadline) = (Some(Admin::Drain), Some(Duration::ZERO));
            let drain = Change { state, deadline, force: true, ..Change::default() };
            pool.change(&id, &drain, Time::START).unwrap();
            pool.advance(Time::START);
            bench.end_tunnels();
            if is_websocket {
                tokio::time::sleep(Duration::from_secs(1) - moment).await;
                assert!(!is_cut());
            }
            tokio::time::sleep(2 * moment).await;
            assert!(is_cut(), "{is_websocket}");
            drop((client, its_end));
        };
        tokio::join!(tunnel.run(socket, Bytes::new()), driving);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn at_the_end_of_a_stop_both_sides_of_a_websocket_hear_that_it_is_over() {
    let ((backend, mut its_end), (stream, mut client)) = tokio::join!(connected(), connected());
    let bench = Bench::new(&[], backend.peer_addr().unwrap());
    let tunnel = Tunnel::new(&bench.worker, (backend, Bytes::new()), None, (true, None));
    let hearing = async {
        bench.come_to(Stage::Leaving);
        for (side, is_masked) in [(&mut its_end, true), (&mut client, false)] {
            let head = hear(side, 2).await;
            assert_eq!(head[0], 0x88, "a whole Close frame");
            let mask = if is_masked { hear(side, 4).await } else { vec![0; 4] };
            let said = hear(side, usize::from(head[1] & 0x7F)).await;
            let code: Vec<u8> = said.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(code[..2], 1001_u16.to_be_bytes());
        }
        drop((client, its_end));
    };
    let socket = Socket { stream, _guest: None };
    tokio::join!(tunnel.run(socket, Bytes::new()), hearing);
}

/// The client takes what the backend said more slowly than it sends what the backend does not take.
#[tokio::test(start_paused = true)]
async fn what_a_side_said_before_it_closed_arrives_though_it_takes_no_more() {
    let said = "a reason of some length ".repeat(100);
    for is_backend in [true, false] {
        let (mut closing, closing_side) = duplex(said.len());
        let (mut sending, sending_side) = duplex(64);
        closing.write_all(said.as_bytes()).await.unwrap();
        drop(closing);
        sending.write_all(b"a message that nobody takes").await.unwrap();
        let (client, backend) =
            if is_backend { (sending_side, closing_side) } else { (closing_side, sending_side) };
        let mut heard = String::new();
        let hear = async {
            let read = sending.read_to_string(&mut heard).await;
            sending.shutdown().await.unwrap();
            read
        };
        let (joined, read) =
            tokio::join!(join(alone(client), backend, LIMITS, false, never()), hear);
        assert_eq!((joined.ok(), read.ok()), (Some(()), Some(said.len())));
        assert!(heard == said, "{heard}");
    }
}

/// Nothing is read of it meanwhile, so that this would not tell.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_ends_its_tunnel_though_the_backend_takes_nothing() {
    let (mut client, client_side) = duplex(64);
    let (_backend, backend_side) = duplex(4);
    client.write_all(b"more than that").await.unwrap();
    let (start, gone) = (Instant::now(), std::future::ready(()));
    let result = join((client_side, gone), backend_side, LIMITS, true, never()).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// What breaks off when it is read.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

/// As a browser does whose user goes to another page.
#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_off_after_its_good_bye_has_said_all_that_it_wanted_to() {
    const CLOSE: &[u8] = &[0x88, 0x82, 1, 2, 3, 4, 2, 0xEB];
    for (said, is_good_bye) in
        [(CLOSE, true), (&CLOSE[..7], false), (&[0x81, 0x80, 1, 2, 3, 4], false)]
    {
        let (mut backend, backend_side) = duplex(64);
        let reader = io::Cursor::new(said).chain(Broken);
        let client = tokio::io::join(reader, tokio::io::sink());
        let hear = async {
            let mut heard = Vec::new();
            backend.read_to_end(&mut heard).await.unwrap();
            backend.shutdown().await.unwrap();
            heard
        };
        let talk = join((client, std::future::ready(())), backend_side, LIMITS, true, never());
        let (joined, heard) = tokio::join!(talk, hear);
        assert_eq!((joined.is_ok(), &heard[..]), (is_good_bye, said));
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_that_is_closed_leaves_the_other_half_open_while_it_moves() {
    let (mut client, client_side) = duplex(64);
    let (mut backend, backend_side) = duplex(64);
    let tunnel = tokio::task::LocalSet::new();
    let joined = tunnel.spawn_local(join(alone(client_side), backend_side, LIMITS, false, never()));
    tunnel
        .run_until(async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            backend.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "question");
            for part in ["an", "sw", "er"] {
                tokio::time::sleep(LIMITS.half_closed / 2).await;
                backend.write_all(part.as_bytes()).await.unwrap();
            }
            drop(backend);
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "answer");
            joined.await.unwrap().unwrap();
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_its_half_is_cut_off() {
    let (_client, client_side) = duplex(64);
    let (backend, backend_side) = duplex(64);
    drop(backend);
    let start = Instant::now();
    let result = join(alone(client_side), backend_side, LIMITS, false, never()).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), LIMITS.half_closed);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_on_which_nothing_moves_is_closed() {
    let (_client, client_side) = duplex(64);
    let (_backend, backend_side) = duplex(64);
    let start = Instant::now();
    let result = join(alone(client_side), backend_side, LIMITS, false, never()).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed(), LIMITS.open);
}
