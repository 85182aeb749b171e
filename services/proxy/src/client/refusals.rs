//! Watches what frames go out to an HTTP/2 client, for what the HTTP/2 library refuses by itself and
//! tells nobody.

use std::{cell::Cell, rc::Rc, sync::Arc};

use super::{
    frame_reader::{FrameReader, Read},
    frames::{HEADERS, RST_STREAM},
};
use crate::{limits::Limit, stats::Gauges};

/// Why a stream is reset that is one too many (RFC 9113 §5.1.2). Nobody else says so here.
const REFUSED_STREAM: u32 = 7;

/// What has gone out on one connection.
#[derive(Debug)]
pub(super) struct Refusals {
    reader: FrameReader,
    /// Of a reset, its reason as far as it has gone out.
    code: u32,
    /// The newest stream that we were given.
    newest: Rc<Cell<u32>>,
    gauges: Arc<Gauges>,
}

impl Refusals {
    /// `newest` is to be the newest stream that we were given to serve.
    pub(super) fn new(gauges: &Arc<Gauges>, newest: &Rc<Cell<u32>>) -> Self {
        let (newest, gauges) = (Rc::clone(newest), Arc::clone(gauges));
        Self { reader: FrameReader::default(), code: 0, newest, gauges }
    }

    /// Takes note of what has gone out.
    pub(super) fn see(&mut self, mut bytes: &[u8]) {
        loop {
            match self.reader.read(&mut bytes) {
                Read::Nothing => return,
                Read::Header => self.see_header(),
                Read::Payload(part) if self.reader.kind() == RST_STREAM => self.see_reason(part),
                Read::Payload(_) => {}
            }
        }
    }

    fn see_header(&mut self) {
        self.code = 0;
        // The library answers one head by itself: one with so much in it that it has not kept it.
        if self.reader.kind() == HEADERS && self.reader.stream() > self.newest.get() {
            self.gauges.limits.hit(Limit::HeaderBytes);
        }
    }

    fn see_reason(&mut self, part: &[u8]) {
        self.code = part.iter().fold(self.code, |code, byte| code << 8 | u32::from(*byte));
        if self.reader.is_at_end() && self.code == REFUSED_STREAM {
            self.gauges.limits.hit(Limit::Streams);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(reason: u8) -> [u8; 13] {
        [0, 0, 4, RST_STREAM, 0, 0, 0, 0, 5, 0, 0, 0, reason]
    }

    #[test]
    fn refused_streams_are_counted_however_they_are_cut() {
        // A frame of another kind with what would be a reset to whoever loses the count.
        let data = [&[0, 0, 13, 0, 0, 0, 0, 0, 1][..], &reset(7)].concat();
        let frames = [&data[..], &reset(7), &reset(8), &data, &reset(7)].concat();
        for size in [1, 2, 4, 9, 13, 64] {
            let gauges = Arc::new(Gauges::default());
            let mut refusals = Refusals::new(&gauges, &Rc::default());
            frames.chunks(size).for_each(|part| refusals.see(part));
            assert_eq!(gauges.limits.of(Limit::Streams), 2, "{size}");
        }
    }
}
