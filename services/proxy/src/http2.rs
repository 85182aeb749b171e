//! Bodies of HTTP/2 on their way in and out, whichever side we are on (RFC 9113 §8.1).
//!
//! Frames, the compression of heads and the room that each side gives the other are the work of the h2
//! library. What hyper adds to it, it adds for servers and clients that know of one head for each
//! message; a proxy has to pass on the interim ones too, and so this is ours.

pub(crate) mod frame_reader;
mod heads;
pub(crate) mod whole_heads;

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};

use self::whole_heads::is_endless;
use crate::{error::Reason, numbers};

/// The most that a frame may have, as nothing else is announced, and so what comes at once of most bodies
/// (RFC 9113 §4.2).
pub(crate) const FRAME_BYTES: usize = 16 * 1024;

/// What the library keeps a part in until it has gone out, whatever is in it.
pub(crate) const PLACE_BYTES: usize = 320;

/// A body as it arrives on its stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: RecvStream,
    /// What was taken from the library before anybody asked for it.
    gathered: BytesMut,
    /// What is to come of it, if it says how long it is. That it comes, the library sees to.
    left: Option<u64>,
    /// Whether only the fields after it may be to come.
    has_data_ended: bool,
    /// Whether there is none, whatever its stream brings.
    has_ended: bool,
}

impl Incoming {
    /// The body behind this head.
    pub(crate) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| numbers::length(length.as_bytes()));
        let left = length.or_else(|| stream.is_end_stream().then_some(0));
        let (gathered, has_data_ended, has_ended) = (BytesMut::new(), false, false);
        Self { stream, gathered, left, has_data_ended, has_ended }
    }

    /// Has it end with its head, as that of an answer that has no body. Where its length is told and its
    /// stream ends later than the head, the library would find it missing.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    /// The next part of it. Whoever asks has to look how many fields there are after it.
    ///
    /// # Errors
    /// It was broken off, or is not as it was announced.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.gathered.is_empty() {
            let part = self.gathered.split_to(self.gathered.len().min(FRAME_BYTES));
            return Poll::Ready(Some(Ok(self.give(part.freeze()))));
        }
        if !self.has_data_ended {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(self.give(data)))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.has_data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(context));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    /// Whoever asks for a part takes it, and then the other side may send another one.
    fn give(&mut self, data: Bytes) -> Frame<Bytes> {
        // It fails only on a stream that has ended.
        let _ = self.stream.flow_control().release_capacity(data.len());
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        Frame::data(data)
    }

    /// Takes from the library what has come, though nobody can take it now; the other side gets no room
    /// for it. In the library each frame has a place of its own, of which there are only so many for a
    /// connection: with a backend of many small messages, a few slow clients would end those of all.
    pub(crate) fn take_in(&mut self, context: &mut Context<'_>) {
        while !self.has_data_ended
            && let Poll::Ready(Some(Ok(data))) = self.stream.poll_data(context)
        {
            self.gathered.extend_from_slice(&data);
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.has_ended || (self.gathered.is_empty() && self.stream.is_end_stream())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// Why a backend's answer ended before its end: as it was not valid, if it is the library that ended it,
/// or as its backend `broke` it off.
pub(crate) fn blame(error: &h2::Error, broke: Reason) -> Reason {
    if error.is_library() || is_endless(error) { Reason::ProtocolError } else { broke }
}

/// Whether a backend finds a request malformed, and has reset its stream for that (RFC 9113 §8.1.1).
pub(crate) fn finds_malformed(error: &h2::Error) -> bool {
    error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR)
}

/// Whether we ended a connection for what its backend said on it, perhaps to another request.
pub(crate) fn have_ended(error: &h2::Error) -> bool {
    (error.is_library() && error.is_go_away()) || is_endless(error)
}

/// Why a body did not go out whole.
#[derive(Debug)]
pub(crate) enum Stopped<D: Buf> {
    /// It broke off. The other side knows of it when its stream is reset, which is this.
    Body(SendStream<D>),
    /// Its stream ended before it, and the other side knows, if it is there.
    Stream,
}

/// Sends a body to its end, as far as the other side has room for it.
///
/// # Errors
/// It did not go out whole.
pub(crate) async fn send<B>(
    mut body: B,
    mut stream: SendStream<B::Data>,
) -> Result<(), Stopped<B::Data>>
where
    B: Body + Unpin,
    B::Data: Default,
{
    loop {
        match next(&mut body, &mut stream).await? {
            None => return send_data(&mut stream, B::Data::default(), true),
            Some(Err(_)) => return Err(Stopped::Body(stream)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let is_last = body.is_end_stream();
                    if data.has_remaining() {
                        poll_fn(|context| poll_room(&mut stream, context)).await?;
                    }
                    send_data(&mut stream, data, is_last)?;
                    if is_last {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return stream.send_trailers(trailers).map_err(|_| Stopped::Stream);
                }
            },
        }
    }
}

/// The next part of a body, unless the other side resets the stream before.
async fn next<B: Body + Unpin>(
    body: &mut B,
    stream: &mut SendStream<B::Data>,
) -> Result<Option<Result<Frame<B::Data>, B::Error>>, Stopped<B::Data>> {
    poll_fn(|context| {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
            return Poll::Ready(Ok(frame));
        }
        stream.poll_reset(context).map(|_| Err(Stopped::Stream))
    })
    .await
}

/// Waits until the other side has room, or tells that it never will. No more is asked for than a byte of
/// it, as long as there is something to send: what one stream has been promised of the room of all,
/// others wait for.
pub(crate) fn poll_room<D: Buf>(
    stream: &mut SendStream<D>,
    context: &mut Context<'_>,
) -> Poll<Result<(), Stopped<D>>> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        let Some(Ok(_)) = ready!(stream.poll_capacity(context)) else {
            return Poll::Ready(Err(Stopped::Stream));
        };
    }
    Poll::Ready(Ok(()))
}

fn send_data<D: Buf>(stream: &mut SendStream<D>, data: D, is_last: bool) -> Result<(), Stopped<D>> {
    stream.send_data(data, is_last).map_err(|_| Stopped::Stream)
}
