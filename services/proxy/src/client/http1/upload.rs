//! The body of a request, as a client of HTTP/1 sends it: read from its socket when a backend wants
//! more, and not before.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::wire::{SharedWire, Uploading};
use crate::{error::Reason, http1::Framing};

/// A body, all of which has not come yet. The connection waits for its end.
#[derive(Debug)]
pub(crate) struct WireBody {
    wire: SharedWire,
    framing: Framing,
}

impl WireBody {
    /// None if there is nothing to come.
    pub(super) fn new(wire: &SharedWire, framing: Framing, expects_continue: bool) -> Option<Self> {
        if framing.is_done() {
            return None;
        }
        let mut shared = wire.borrow_mut();
        shared.upload = Uploading::Announced;
        shared.wants_continue = expects_continue;
        Some(Self { wire: Rc::clone(wire), framing })
    }

    /// Nobody reads it for now: what tells that the client has left is for the connection to see.
    pub(crate) fn put_down(&self) {
        let mut wire = self.wire.borrow_mut();
        if wire.upload == Uploading::Coming {
            wire.upload = Uploading::Announced;
            wire.wake_connection();
        }
    }

    /// Whether its client keeps it back until it is asked for.
    pub(crate) fn waits_to_be_asked_for(&self) -> bool {
        self.wire.borrow().wants_continue
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.framing.is_done()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.framing.left().map_or_else(SizeHint::new, SizeHint::with_exact)
    }

    /// The next part of it.
    ///
    /// # Errors
    /// [`Reason::BadRequest`] if it is not as it was announced, [`Reason::ClientGone`] if it ended too
    /// soon.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        let Self { wire, framing } = self;
        if framing.is_done() {
            return Poll::Ready(None);
        }
        let mut wire = wire.borrow_mut();
        if !wire.is_wanted() {
            return Poll::Ready(Some(Err(Reason::ClientGone)));
        }
        wire.upload = Uploading::Coming;
        wire.is_awaited = false;
        wire.ask_for_body();
        loop {
            match framing.next(&mut wire.read) {
                Ok(None) if !framing.is_done() => {}
                Ok(frame) => {
                    if framing.is_done() {
                        wire.end_upload(Uploading::Done);
                    }
                    return Poll::Ready(frame.map(Ok));
                }
                Err(_) => {
                    wire.end_upload(Uploading::Broken);
                    return Poll::Ready(Some(Err(Reason::BadRequest)));
                }
            }
            match wire.poll_fill(context) {
                Poll::Ready(Ok(count @ 1..)) => wire.uploaded += count as u64,
                Poll::Ready(_) => {
                    wire.end_upload(Uploading::Gone);
                    return Poll::Ready(Some(Err(Reason::ClientGone)));
                }
                Poll::Pending => {
                    wire.wait_for_body(context);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Drop for WireBody {
    fn drop(&mut self) {
        if self.framing.is_done() {
            // What is coming now, if anything, is another request's.
            return;
        }
        let mut wire = self.wire.borrow_mut();
        if wire.is_wanted() {
            let framing = std::mem::replace(&mut self.framing, Framing::Length(0));
            wire.end_upload(Uploading::Dropped(framing));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;
    use crate::client::http1::wire::tests::connected;

    #[tokio::test]
    async fn a_client_that_leaves_is_seen_while_nobody_reads_its_body_any_more() {
        let (client, wire, _) = connected().await;
        let mut body = WireBody::new(&wire, Framing::Length(10), false).unwrap();
        let look = poll_fn(|context| Poll::Ready(body.poll_frame(context)));
        assert!(look.await.is_pending());
        body.put_down();
        drop(client);
        let gone = poll_fn(|context| wire.borrow_mut().poll_gone(context));
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("nobody sees it");
    }
}
