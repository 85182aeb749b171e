//! The body of a request, as a client of HTTP/1 sends it: read from its socket when a backend wants
//! more, and not before.
//!
//! What was read last waits here until the backend has taken it, with all that it was read into. That is
//! as much as a fast upload has read at once, however slow its backend is now; so it counts among what
//! waits in memory, and less is read of all where there is much of it (buffered.rs).

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::wire::{SharedWire, Uploading};
use crate::{
    buffered::recount,
    error::Reason,
    http1::{Framing, Unfit},
    limits::Refusal,
};

/// A body, all of which has not come yet. The connection waits for its end.
#[derive(Debug)]
pub(crate) struct WireBody {
    wire: SharedWire,
    framing: Framing,
    /// What counts as waiting: what was given last, which has been taken when more is asked for.
    waiting: usize,
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
        Some(Self { wire: Rc::clone(wire), framing, waiting: 0 })
    }

    /// Nobody reads it for now: what tells that the client has left is for the connection to see.
    pub(crate) fn put_down(&self) {
        let mut wire = self.wire.borrow_mut();
        if wire.upload == Uploading::Coming {
            wire.upload = Uploading::Announced;
            wire.wake_connection();
        }
    }

    /// Whoever reads it has something else to do first.
    pub(crate) fn look_away(&self) {
        self.wire.borrow_mut().is_awaited = false;
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
    /// [`Reason::BadRequest`] if it is not as it was announced, [`Reason::HeadTooLarge`] if there are more
    /// fields after it than may be, [`Reason::ClientGone`] if it ended too soon.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let Self { wire, framing, waiting } = self;
        if framing.is_done() {
            return Poll::Ready(None);
        }
        let mut wire = wire.borrow_mut();
        recount(&wire.gauges, std::mem::take(waiting), 0);
        if !wire.is_wanted() {
            return Poll::Ready(Some(Err(Reason::ClientGone.into())));
        }
        wire.upload = Uploading::Coming;
        wire.is_awaited = false;
        wire.ask_for_body();
        loop {
            match framing.next(&mut wire.read) {
                Ok(None) if !framing.is_done() => {}
                Ok(frame) => {
                    if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
                        *waiting = data.len() + wire.read.capacity();
                        recount(&wire.gauges, 0, *waiting);
                    }
                    if framing.is_done() {
                        wire.end_upload(Uploading::Done);
                    }
                    return Poll::Ready(frame.map(Ok));
                }
                Err(unfit) => {
                    wire.end_upload(Uploading::Broken);
                    return Poll::Ready(Some(Err(match unfit {
                        Unfit::Invalid => Reason::BadRequest.into(),
                        Unfit::Beyond(limit) => Refusal::beyond(limit),
                    })));
                }
            }
            match wire.poll_fill(context) {
                Poll::Ready(Ok(count @ 1..)) => wire.uploaded += count as u64,
                Poll::Ready(_) => {
                    wire.end_upload(Uploading::Gone);
                    return Poll::Ready(Some(Err(Reason::ClientGone.into())));
                }
                Poll::Pending => {
                    // Fields, which are given on when all of them are there.
                    *waiting = framing.kept();
                    recount(&wire.gauges, 0, *waiting);
                    wire.wait_for_body(context);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Drop for WireBody {
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        recount(&wire.gauges, std::mem::take(&mut self.waiting), 0);
        // If it is done, what is coming now, if anything, is another request's.
        if !self.framing.is_done() && wire.is_wanted() {
            let framing = std::mem::replace(&mut self.framing, Framing::Length(0));
            wire.end_upload(Uploading::Dropped(framing));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{future::poll_fn, sync::Arc, time::Duration};

    use tokio::{io::AsyncWriteExt, net::TcpStream};

    use super::*;
    use crate::{
        client::http1::wire::tests::{connected, connected_beside},
        limits::{FieldLimits, Sender},
        stats::Gauges,
    };

    /// A client that has begun with a body.
    pub(crate) async fn uploading() -> (TcpStream, WireBody) {
        let (client, wire, _) = connected().await;
        let body = WireBody::new(&wire, Framing::Length(10), false).unwrap();
        (client, body)
    }

    #[tokio::test]
    async fn fields_that_wait_for_their_end_count_until_it_comes_or_nobody_wants_them() {
        const MOST: usize = 64 * 1024;
        let gauges = Arc::new(Gauges::default());
        let limits = FieldLimits { sender: Sender::Client, ..FieldLimits::USUAL };
        let (mut client, wire, _) = connected_beside(&gauges, MOST).await;
        for end in [Some(b"\r\n\r\n"), None] {
            let mut body = WireBody::new(&wire, Framing::chunked(limits), false).unwrap();
            client.write_all(b"0\r\na-field: ").await.unwrap();
            client.write_all(&[b'x'; 5_000]).await.unwrap();
            let before = wire.borrow().uploaded;
            while wire.borrow().uploaded < before + 5_000 {
                let look = poll_fn(|context| Poll::Ready(body.poll_frame(context)));
                assert!(look.await.is_pending());
                tokio::task::yield_now().await;
            }
            assert!(gauges.buffered.bytes() >= 5_000);
            if let Some(end) = end {
                client.write_all(end).await.unwrap();
                let fields = poll_fn(|context| body.poll_frame(context)).await.unwrap().unwrap();
                assert_eq!(fields.trailers_ref().map(|fields| fields.len()), Some(1));
                assert_eq!(gauges.buffered.bytes(), 0);
            }
        }
        assert_eq!(gauges.buffered.bytes(), 0, "nobody wants them");
    }

    /// It may be kept waiting for as long as the backend likes.
    #[tokio::test]
    async fn what_was_read_counts_until_more_is_asked_for_or_nobody_wants_it() {
        const MOST: usize = 64 * 1024;
        let gauges = Arc::new(Gauges::default());
        let (mut client, wire, _) = connected_beside(&gauges, MOST).await;
        let waits = || (5..=MOST).contains(&gauges.buffered.bytes());
        for length in [15, 10] {
            let mut body = WireBody::new(&wire, Framing::Length(length), false).unwrap();
            for _ in 0..2 {
                client.write_all(b"a bit").await.unwrap();
                let part = poll_fn(|context| body.poll_frame(context)).await.unwrap().unwrap();
                assert_eq!(&part.into_data().unwrap()[..], b"a bit");
                assert!(waits());
                if !body.is_end_stream() {
                    let next = poll_fn(|context| Poll::Ready(body.poll_frame(context)));
                    assert!(next.await.is_pending() && gauges.buffered.bytes() == 0);
                }
            }
            assert_eq!(waits(), length == 10, "the last part is on its way");
            drop(body);
            assert_eq!(gauges.buffered.bytes(), 0);
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_seen_while_nobody_reads_its_body_any_more() {
        for stop_reading in [WireBody::put_down, WireBody::look_away] {
            let (client, wire, _) = connected().await;
            let mut body = WireBody::new(&wire, Framing::Length(10), false).unwrap();
            let look = poll_fn(|context| Poll::Ready(body.poll_frame(context)));
            assert!(look.await.is_pending());
            stop_reading(&body);
            drop(client);
            let gone = poll_fn(|context| wire.borrow_mut().poll_gone(context));
            tokio::time::timeout(Duration::from_secs(20), gone).await.expect("nobody sees it");
        }
    }
}
