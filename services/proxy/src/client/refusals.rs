//! Watches what frames go out to an HTTP/2 client, for what the HTTP/2 library refuses by itself and
//! tells nobody.

use std::{cell::Cell, rc::Rc, sync::Arc};

use super::frames::RST_STREAM;
use crate::{
    http2::frame_reader::{FrameReader, HEADERS, Read},
    limits::Limit,
    stats::Gauges,
};

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
    /// The last one that the library answered by itself. It may reset that as well.
    answered: u32,
    /// Requests of the window that were refused (frames.rs).
    refused: Rc<Cell<u32>>,
    gauges: Arc<Gauges>,
}

impl Refusals {
    /// `newest` is to be the newest stream that we were given to serve; `refused` counts those that we
    /// were not.
    pub(super) fn new(
        gauges: &Arc<Gauges>,
        newest: &Rc<Cell<u32>>,
        refused: &Rc<Cell<u32>>,
    ) -> Self {
        let (newest, refused) = (Rc::clone(newest), Rc::clone(refused));
        let (reader, gauges) = (FrameReader::default(), Arc::clone(gauges));
        Self { reader, code: 0, newest, answered: 0, refused, gauges }
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
        if self.reader.kind() == HEADERS && self.is_unseen() {
            self.answered = self.reader.stream();
            self.refused.update(|count| count + 1);
            self.gauges.limits.hit(Limit::HeaderBytes);
        }
    }

    fn see_reason(&mut self, part: &[u8]) {
        self.code = part.iter().fold(self.code, |code, byte| code << 8 | u32::from(*byte));
        if !self.reader.is_at_end() {
            return;
        }
        let is_one_too_many = self.code == REFUSED_STREAM;
        if is_one_too_many {
            self.gauges.limits.hit(Limit::Streams);
        }
        // Others that we were not given were not valid.
        let is_invalid = self.is_unseen() && self.reader.stream() != self.answered;
        if is_one_too_many || is_invalid {
            self.refused.update(|count| count + 1);
        }
    }

    /// Whether the frame is of a stream that we were not given.
    fn is_unseen(&self) -> bool {
        self.reader.stream() > self.newest.get()
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
            let mut refusals = Refusals::new(&gauges, &Rc::default(), &Rc::default());
            frames.chunks(size).for_each(|part| refusals.see(part));
            assert_eq!(gauges.limits.of(Limit::Streams), 2, "{size}");
        }
    }

    #[test]
    fn requests_that_we_are_not_given_are_refused_ones_and_each_of_them_is_one() {
        let head = [0, 0, 1, HEADERS, 5, 0, 0, 0, 5, 0x88];
        let cases = [
            (4, reset(1).to_vec(), 1),
            (4, reset(7).to_vec(), 1),
            (4, head.to_vec(), 1),
            (4, [&head[..], &reset(1)].concat(), 1),
            // Of one that we were given: what it was answered, and that it was ended.
            (5, [&head[..], &reset(1)].concat(), 0),
        ];
        for (newest, frames, expected) in cases {
            let refused = Rc::default();
            let newest = Rc::new(Cell::new(newest));
            Refusals::new(&Arc::default(), &newest, &refused).see(&frames);
            assert_eq!(refused.get(), expected, "{frames:?}");
        }
    }
}
