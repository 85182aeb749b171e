//! The end of a connection whose client may still be sending.
//!
//! Closing it at once would have the kernel answer what comes with a reset, which makes the client's
//! kernel throw away what it has not read yet of our answer (RFC 9112 §9.6).

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use super::Socket;
use crate::worker::{Stage, Worker};

/// For how long: a client that reads its answer has done so by then, and one that goes on sending
/// without reading does not cost us more than that.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How long a client of HTTP/2 may say nothing: one on a slow line says what it has taken with each
/// half of its window (RFC 9113 §6.9). What is closed after that stays whole all the same, as long as
/// the client goes on to say nothing.
const SILENCE: Duration = Duration::from_secs(5);

/// What is read at once, to be thrown away.
const READ_BYTES: usize = 16 * 1024;

/// Says that no more will come, and waits for the client to say so.
pub(crate) async fn linger(socket: Socket) {
    linger_for(socket, LINGER, LINGER).await;
}

/// The same of HTTP/2, for as long as the client goes on to say what it has taken: but not for longer
/// than one may take nothing, nor than a stop waits for clients.
pub(super) async fn linger_while_taken(socket: Socket, worker: &Worker) {
    let at_least = Instant::now() + LINGER;
    let mut stage = worker.stage.clone();
    let stopped = async {
        let _ = stage.wait_for(|stage| *stage >= Stage::Draining).await;
        // It may be told of after we are.
        let ends = || Instant::now() + worker.settings.stop.max;
        sleep_until(worker.stop_ends.get().unwrap_or_else(ends).max(at_least)).await;
    };
    tokio::select! {
        () = linger_for(socket, SILENCE, worker.settings.timeouts.write) => {}
        () = stopped => {}
    }
}

async fn linger_for(mut socket: Socket, silence: Duration, most: Duration) {
    // What fails here fails because the client is gone.
    let _ = socket.stream.shutdown().await;
    let _ = timeout(most, read_away(&socket.stream, silence)).await;
}

async fn read_away(stream: &TcpStream, silence: Duration) {
    while let Ok(Ok(())) = timeout(silence, stream.readable()).await {
        // One that sends as fast as this reads would be all that happens here.
        tokio::task::coop::consume_budget().await;
        match stream.try_read(&mut [0; READ_BYTES]) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, time::Instant};

    use super::*;

    /// Longer than any limit here.
    const MOST: Duration = Duration::from_secs(60);

    /// A socket, and its client's end.
    async fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = listener.accept().await.unwrap().0;
        (Socket { stream, _guest: None }, client)
    }

    /// After how long it ends, while the client says something every so often.
    async fn after(
        lingering: impl Future<Output = ()>,
        client: TcpStream,
        every: Duration,
    ) -> Duration {
        tokio::time::pause();
        let start = Instant::now();
        let saying = async {
            while start.elapsed() < 4 * MOST {
                tokio::time::sleep(every).await;
                // It may be closed by now.
                let _ = client.try_write(b"x");
            }
        };
        tokio::select! {
            () = lingering => {}
            () = saying => {}
        }
        tokio::time::resume();
        start.elapsed()
    }

    fn is_about(after: Duration, expected: Duration) {
        // Timers go by the millisecond.
        let late = expected + Duration::from_millis(4);
        assert!((expected..late).contains(&after), "{after:?} rather than {expected:?}");
    }

    #[tokio::test]
    async fn a_client_of_http_1_that_does_not_close_costs_a_second() {
        for every in [Duration::from_millis(300), MOST] {
            let (socket, client) = connected().await;
            is_about(after(linger(socket), client, every).await, LINGER);
        }
    }

    #[tokio::test]
    async fn a_client_of_http_2_is_waited_for_while_it_says_something_and_no_longer_than_that() {
        let just = SILENCE - Duration::from_secs(1);
        for (every, expected) in [(just, MOST), (SILENCE * 2, SILENCE)] {
            let (socket, client) = connected().await;
            let lingering = linger_for(socket, SILENCE, MOST);
            is_about(after(lingering, client, every).await, expected);
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_client_that_has_closed() {
        let (socket, client) = connected().await;
        drop(client);
        tokio::time::pause();
        let start = Instant::now();
        linger_for(socket, SILENCE, MOST).await;
        is_about(start.elapsed(), Duration::ZERO);
    }
}
