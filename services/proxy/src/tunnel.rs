//! Connections that were upgraded, such as WebSockets: bytes both ways until both sides are done.

use balance::Ticket;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::worker::{Open, Worker};

/// Connects the two sides once both have switched. The ticket is given back when the tunnel ends,
/// so that a draining backend counts as busy until then.
pub(crate) fn start(
    worker: &Worker,
    client: OnUpgrade,
    backend: OnUpgrade,
    ticket: Option<Ticket>,
) {
    let open = Open::new(&worker.open);
    tokio::task::spawn_local(async move {
        let _held = (open, ticket);
        let (client, backend) = match tokio::try_join!(client, backend) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "an upgrade came to nothing"),
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        // Half-closes are passed on, so that each side can finish what it is saying. A tunnel that
        // breaks is told to the other side by its closing.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
    });
}
