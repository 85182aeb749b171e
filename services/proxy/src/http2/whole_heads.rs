//! Has each head of HTTP/2 come in one frame, however many its sender has cut it into.
//!
//! A head, and so trailers, may be cut anywhere into HEADERS and CONTINUATION (RFC 9113 §4.3). The
//! library reads each by itself, and where the cut is within a field it forgets that a field before it
//! was malformed (§8.1.1), takes that one out and passes on what is left. So a head that is cut is held
//! between the socket and the library until it is whole; and the library takes larger frames than are
//! announced, for the head to come in one. Larger ones than announced are still refused.
//!
//! Nearly all heads come in one frame. What comes is looked at where it is, and only what is held and
//! what comes with it is copied.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    FRAME_BYTES,
    frame_reader::{FrameReader, HEADER_BYTES},
    heads::{ENDLESS, Heads},
};

/// What goes out first to a server (RFC 9113 §3.4), and comes first from a client.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most that a head may be held for: one byte less than the library can take in one frame, which
/// leaves a length that it never takes.
const HELD_BYTES_MOST: u32 = 0xff_fffe;

/// The settings that are announced otherwise than the library has them (RFC 9113 §6.5.2), and how long
/// one is.
const MAX_FRAME_SIZE: [u8; 2] = [0, 5];
const MAX_HEADER_LIST_SIZE: [u8; 2] = [0, 6];
const SETTING_BYTES: usize = 6;

/// What a peer's heads may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// What it is told that a head may have.
    pub(crate) announced: u32,
    /// How far the library reads one.
    pub(crate) read: u32,
}

impl HeadLimits {
    /// What is held of a head, with the headers of its frames: enough for one of which the library
    /// keeps nothing, to be read to its end and refused by itself. One without an end ends the
    /// connection.
    pub(crate) fn held(self) -> u32 {
        self.read.saturating_add(64 * 1024).min(HELD_BYTES_MOST)
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
}

impl<S: AsyncRead + AsyncWrite + Unpin> WholeHeads<S> {
    /// Of a client, whose preface is yet to be read.
    pub(crate) fn of_client(stream: S, limits: HeadLimits) -> Self {
        let heads = Heads::new(FrameReader::after(PREFACE.len()), limits.held() as usize);
        Self { stream, heads, preface_left: 0, announced: Some(limits.announced) }
    }

    /// Of a backend, which is yet to be sent ours.
    pub(crate) fn of_backend(stream: S, limits: HeadLimits) -> Self {
        let heads = Heads::new(FrameReader::default(), limits.held() as usize);
        Self { stream, heads, preface_left: PREFACE.len(), announced: Some(limits.announced) }
    }

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
        let Self { stream, heads, .. } = self.get_mut();
        loop {
            if heads.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut *stream).poll_read(context, buffer))?;
            let came = &buffer.filled()[before..];
            let is_end = came.is_empty();
            let passed = heads.take(came)?;
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
