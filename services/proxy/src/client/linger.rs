//! The end of a connection whose client may still be sending.
//!
//! Closing it at once would have the kernel answer what comes with a reset, which makes the client's
//! kernel throw away what it has not read yet of our answer (RFC 9112 §9.6).

use std::{io::ErrorKind, time::Duration};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::Socket;

/// For how long: a client that reads its answer has done so by then, and one that goes on sending
/// without reading does not cost us more than that.
const LINGER: Duration = Duration::from_secs(1);

/// What is read at once, to be thrown away.
const READ_BYTES: usize = 16 * 1024;

/// Says that no more will come, and waits for the client to say so.
pub(super) async fn linger(mut socket: Socket) {
    // What fails here fails because the client is gone.
    let _ = socket.stream.shutdown().await;
    let _ = timeout(LINGER, read_away(&socket.stream)).await;
}

async fn read_away(stream: &TcpStream) {
    while stream.readable().await.is_ok() {
        // One that sends as fast as this reads would be all that happens here.
        tokio::task::coop::consume_budget().await;
        match stream.try_read(&mut [0; READ_BYTES]) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}
