//! Has each head of HTTP/2 come in one frame, however many its sender has cut it into.
//!
//! A head, and so trailers, may be cut anywhere into HEADERS and CONTINUATION (RFC 9113 §4.3). The
//! library reads each by itself, and where the cut is within a field it forgets that a field before it
//! was malformed (§8.1.1), takes that one out and passes on what is left. So a head that is cut is held
//! between the socket and the library until it is whole; and the library takes larger frames than are
//! announced, for the head to come in one. Larger ones than announced are still refused.
//!
//! Nearly all heads come in one frame. What comes is looked at where it is, and only what is held and
//! what comes with it is copied. It counts among what waits in memory (buffered.rs) until it is given on.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    FRAME_BYTES,
    frame_reader::{FrameReader, HEADER_BYTES},
    heads::{ENDLESS, Heads},
};
use crate::{
    buffered::Waiting,
    limits::{FieldLimits, HTTP2_FIELD},
    stats::Gauges,
};

/// What goes out first to a server (RFC 9113 §3.4), and comes first from a client.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most that a head may be held for: one byte less than the library can take in one frame, which
/// leaves a length that it never takes.
const HELD_BYTES_MOST: u32 = 0xff_fffe;

/// The most that a field can have which is in the table of those that came before (RFC 7541 §4.2), or
/// whose name is.
const TABLE_BYTES: u32 = 4096;

/// The settings that are announced otherwise than the library has them (RFC 9113 §6.5.2), and how long
/// one is.
const MAX_FRAME_SIZE: [u8; 2] = [0, 5];
const MAX_HEADER_LIST_SIZE: [u8; 2] = [0, 6];
const SETTING_BYTES: usize = 6;

/// What a peer's heads may be, and the fields after a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// What it is told that a head may have, and what we take.
    pub(crate) announced: u32,
    /// What is held of one, with the headers of its frames: enough for one that is too large to be read to
    /// its end and refused by itself. One without an end ends the connection.
    pub(crate) held: u32,
}

impl HeadLimits {
    /// So many times what we take is held, and a little more.
    pub(crate) fn new(limits: FieldLimits, times: u32) -> Self {
        let held = limits.bytes.saturating_mul(times).saturating_add(64 * 1024);
        Self { announced: limits.bytes, held: held.min(HELD_BYTES_MOST) }
    }

    /// How far the library reads one. Of fields after a body it drops the one that goes beyond, with all
    /// that come later, and tells nobody. So it must never come to that while those before it are no more
    /// than we take, however long the one is: one that has nearly all of what is held, of bytes that the
    /// code has in five bits (RFC 7541, Appendix B).
    pub(crate) fn read(self) -> u32 {
        let longest = self.held / 5 * 8 + 8 + TABLE_BYTES + HTTP2_FIELD as u32;
        self.announced.saturating_add(longest)
    }
}

/// A connection, in which heads come whole.
#[derive(Debug)]
pub(crate) struct WholeHeads<S> {
    stream: S,
    heads: Heads,
    /// What is to go out before our settings.
    preface_left: usize,
    /// What is yet to be announced as the most that a head may have.
    announced: Option<u32>,
    /// What counts of it as waiting.
    waiting: Waiting<Arc<Gauges>>,
}

impl<S> WholeHeads<S> {
    /// Of a client, whose preface is yet to be read.
    pub(crate) fn of_client(stream: S, limits: HeadLimits, gauges: &Arc<Gauges>) -> Self {
        Self::new(stream, FrameReader::after(PREFACE.len()), limits, gauges)
    }

    /// Of a backend, which is yet to be sent ours.
    pub(crate) fn of_backend(stream: S, limits: HeadLimits, gauges: &Arc<Gauges>) -> Self {
        let mut backend = Self::new(stream, FrameReader::default(), limits, gauges);
        backend.preface_left = PREFACE.len();
        backend
    }

    fn new(stream: S, reader: FrameReader, limits: HeadLimits, gauges: &Arc<Gauges>) -> Self {
        Self {
            stream,
            heads: Heads::new(reader, limits.held as usize),
            preface_left: 0,
            announced: Some(limits.announced),
            waiting: Waiting::new(Arc::clone(gauges)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WholeHeads<S> {
    /// Writes the first that goes out of the library's frames, its settings: with the size that a frame
    /// may have, and the limit for a head at which we refuse it, where the library says how far it
    /// reads, for us to be able to.
    fn poll_announce(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        head_bytes: u32,
    ) -> Poll<io::Result<usize>> {
        if self.preface_left > 0 {
            let preface = &bytes[..self.preface_left.min(bytes.len())];
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, preface))?;
            self.preface_left -= count;
            return Poll::Ready(Ok(count));
        }
        let mut settings = bytes.to_vec();
        let begin = HEADER_BYTES.min(settings.len());
        let (header, values) = settings.split_at_mut(begin);
        let length = header.get(2).map_or(0, |length| usize::from(*length)).min(values.len());
        for setting in values[..length].chunks_exact_mut(SETTING_BYTES) {
            let (name, value) = setting.split_at_mut(2);
            if name == MAX_FRAME_SIZE {
                value.copy_from_slice(&(FRAME_BYTES as u32).to_be_bytes());
            } else if name == MAX_HEADER_LIST_SIZE {
                value.copy_from_slice(&head_bytes.to_be_bytes());
            }
        }
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, &settings))?;
        if count > 0 {
            self.announced = None;
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WholeHeads<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.heads.give(buffer) {
                this.waiting.set(this.heads.held());
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let came = &buffer.filled()[before..];
            let is_end = came.is_empty();
            let passed = this.heads.take(came)?;
            this.waiting.set(this.heads.held());
            buffer.set_filled(before + passed);
            if passed > 0 || is_end {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WholeHeads<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.announced {
            Some(head_bytes) => this.poll_announce(context, bytes, head_bytes),
            None => Pin::new(&mut this.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(head_bytes) = this.announced {
            let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
            return this.poll_announce(context, first, head_bytes);
        }
        Pin::new(&mut this.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Whether a connection has ended because a head on it has no end. Nobody has been told.
pub(crate) fn is_endless(error: &h2::Error) -> bool {
    error.get_io().is_some_and(|error| error.kind() == ENDLESS)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        http2::frame_reader::{CONTINUATION, END_HEADERS, HEADERS},
        limits::Sender,
    };

    /// A frame of a head that has so many bytes.
    fn part(kind: u8, flags: u8, bytes: u16) -> Vec<u8> {
        let [high, low] = bytes.to_be_bytes();
        let header = [0, high, low, kind, flags, 0, 0, 0, 1];
        [&header[..], &vec![0; bytes.into()]].concat()
    }

    #[tokio::test]
    async fn what_is_held_counts_until_it_is_given_on_or_the_connection_ends() {
        let gauges = Arc::new(Gauges::default());
        let limits = HeadLimits::new(FieldLimits::USUAL, 1);
        let (mut peer, socket) = tokio::io::duplex(1 << 20);
        let mut heads = WholeHeads::of_backend(socket, limits, &gauges);
        let mut read = vec![0; 1 << 16];
        for is_last in [false, true] {
            for part in [part(HEADERS, 0, 10_000), part(CONTINUATION, 0, 10_000)] {
                peer.write_all(&part).await.unwrap();
            }
            let is_waiting = poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut read);
                Poll::Ready(Pin::new(&mut heads).poll_read(context, &mut buffer).is_pending())
            });
            assert!(is_waiting.await, "it has not ended");
            assert!((20_000..=40_000).contains(&gauges.buffered.bytes()));
            if is_last {
                break;
            }
            peer.write_all(&part(CONTINUATION, END_HEADERS, 10_000)).await.unwrap();
            assert_eq!(heads.read(&mut read).await.unwrap(), HEADER_BYTES + 30_000);
            assert_eq!(gauges.buffered.bytes(), 0);
        }
        drop(heads);
        assert_eq!(gauges.buffered.bytes(), 0);
    }

    #[test]
    fn what_one_field_can_hide_of_others_is_never_more_than_we_refuse() {
        for bytes in [8 * 1024, 60 * 1024, 64 * 1024, 15 * 1024 * 1024] {
            for times in [4, 16] {
                let fields = FieldLimits { sender: Sender::Client, bytes, count: 100 };
                let limits = HeadLimits::new(fields, times);
                assert!(limits.held > bytes, "one that is too large has an end");
                // With a name from the table.
                let longest = u64::from(limits.held) * 8 / 5 + 4096 + 32;
                assert!(u64::from(limits.read()) > u64::from(bytes) + longest);
            }
        }
    }
}
