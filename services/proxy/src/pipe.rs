//! Long bodies on their way from a backend's socket to a client's through a pipe (splice(2)).
//!
//! What is read and written is copied from the system and back into it, which is most of what a long
//! response costs. In a pipe it stays with the system: its pages only change their owner. That takes
//! one socket on each side and a body that goes out as it came, with its length; other bodies, and short
//! ones, for which a pipe would cost more than the copies, are read. So are those for which there is no
//! pipe, and those whose clients are slow: they would keep one from others for long.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use tokio::net::TcpStream;

use crate::stats::{Counted, Gauges};

/// From this on a pipe is worth it: it takes five calls to make one and to let go of it.
pub(crate) const WORTH_BYTES: u64 = 256 * 1024;

/// Pipes of one worker. Each takes two file descriptors, and of what Linux lets one user's pipes have
/// (`pipe-user-pages-soft`, for all containers of a machine with the same user) a 128th.
pub(crate) const PIPES_MAX: i64 = 32;

/// What waits of one body, between the sockets.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: ends::Ends,
    /// Bytes that are in it.
    bytes: usize,
    _counted: Counted,
}

impl Pipe {
    /// An empty one.
    ///
    /// # Errors
    /// There is none to be had: others have them all, or this system has none.
    pub(crate) fn new(gauges: &Arc<Gauges>) -> io::Result<Self> {
        if gauges.pipes.load(Ordering::Relaxed) >= PIPES_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let ends = ends::Ends::new()?;
        Ok(Self { ends, bytes: 0, _counted: Counted::new(gauges, |gauges| &gauges.pipes) })
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes what there is on a socket, at most so many bytes, into an empty pipe. Nothing if the other
    /// side has closed. Whether bodies may pass so at all, [`is_refused`] tells.
    ///
    /// # Errors
    /// As reading from the socket; nothing has been taken.
    pub(crate) fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        // With something in it, what would block could be the pipe.
        debug_assert!(self.is_empty());
        let count = self.ends.fill(from, most)?;
        self.bytes = count;
        Ok(count)
    }

    /// Gives what is in it to a socket, as far as that has room.
    ///
    /// # Errors
    /// As writing to the socket.
    pub(crate) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let count = self.ends.drain(to, self.bytes)?;
        self.bytes -= count;
        Ok(count)
    }
}

/// Whether the system lets nobody move bytes so: a sandbox may have pipes and no splice.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

#[cfg(target_os = "linux")]
mod ends {
    use std::{io, os::fd::OwnedFd};

    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
    use tokio::{io::Interest, net::TcpStream};

    use crate::buffered::MOST_BYTES;

    #[derive(Debug)]
    pub(super) struct Ends {
        reader: OwnedFd,
        writer: OwnedFd,
    }

    impl Ends {
        pub(super) fn new() -> io::Result<Self> {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            // With as much room as is read at once otherwise. To a user who has too many already Linux
            // gives one of two pages, which would be slower than to read.
            fcntl_setpipe_size(&writer, MOST_BYTES)?;
            Ok(Self { reader, writer })
        }

        pub(super) fn fill(&self, from: &TcpStream, most: usize) -> io::Result<usize> {
            from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, &self.writer, None, most, SpliceFlags::NONBLOCK)?)
            })
        }

        pub(super) fn drain(&self, to: &TcpStream, bytes: usize) -> io::Result<usize> {
            to.try_io(Interest::WRITABLE, || {
                Ok(splice(&self.reader, None, to, None, bytes, SpliceFlags::NONBLOCK)?)
            })
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod ends {
    use std::io;

    use tokio::net::TcpStream;

    /// Nobody has any.
    #[derive(Debug)]
    pub(super) enum Ends {}

    impl Ends {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn fill(&self, _: &TcpStream, _: usize) -> io::Result<usize> {
            match *self {}
        }

        pub(super) fn drain(&self, _: &TcpStream, _: usize) -> io::Result<usize> {
            match *self {}
        }
    }
}
