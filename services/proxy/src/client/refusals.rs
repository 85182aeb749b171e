//! Watches what frames go out to an HTTP/2 client, for what the HTTP/2 library refuses by itself and
//! tells nobody.

use std::{cell::Cell, rc::Rc, sync::Arc};

use super::frames::{Ended, RST_STREAM};
use crate::{
    http2::frame_reader::{FrameReader, HEADERS, Read},
    limits::Limit,
    stats::Gauges,
};

// Why the library resets a stream (RFC 9113 §7); nothing else here says so. A mistake of the client's on a
// stream that goes on, what comes for one that has ended, and one too many (§5.1.2).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
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
    ended: Rc<Ended>,
    gauges: Arc<Gauges>,
}

impl Refusals {
    /// `newest` is to be the newest stream that we were given to serve; `ended` counts those that did not go
    /// on.
    pub(super) fn new(gauges: &Arc<Gauges>, newest: &Rc<Cell<u32>>, ended: &Rc<Ended>) -> Self {
        let (newest, ended) = (Rc::clone(newest), Rc::clone(ended));
        let (reader, gauges) = (FrameReader::default(), Arc::clone(gauges));
        Self { reader, code: 0, newest, answered: 0, ended, gauges }
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
            self.ended.refused.update(|count| count + 1);
            self.gauges.limits.hit(Limit::HeaderBytes);
        }
    }

    fn see_reason(&mut self, part: &[u8]) {
        self.code = part.iter().fold(self.code, |code, byte| code << 8 | u32::from(*byte));
        if !self.reader.is_at_end() {
            return;
        }
        if self.code == REFUSED_STREAM {
            self.gauges.limits.hit(Limit::Streams);
        }
        let ended = match self.code {
            REFUSED_STREAM => Some(&self.ended.refused),
            _ if self.is_unseen() && self.reader.stream() == self.answered => return,
            // Others that we were not given were not valid.
            _ if self.is_unseen() => Some(&self.ended.refused),
            PROTOCOL_ERROR | FLOW_CONTROL_ERROR | FRAME_SIZE_ERROR => Some(&self.ended.provoked),
            STREAM_CLOSED => None,
            _ => return,
        };
        let counts = ended.into_iter().chain([&self.ended.of_life]);
        counts.for_each(|count| count.update(|count| count + 1));
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
        // Of one that we were given, whose end is the client's doing; or that had ended; or that we end.
        for (reason, expected) in [(1, [1, 1]), (3, [1, 1]), (6, [1, 1]), (5, [0, 1]), (8, [0, 0])]
        {
            let ended = Rc::<Ended>::default();
            Refusals::new(&Arc::default(), &Rc::new(Cell::new(5)), &ended).see(&reset(reason));
            assert_eq!([ended.provoked.get(), ended.of_life.get()], expected, "{reason}");
        }
        for (newest, frames, expected) in cases {
            let ended = Rc::default();
            let newest = Rc::new(Cell::new(newest));
            Refusals::new(&Arc::default(), &newest, &ended).see(&frames);
            assert_eq!(ended.refused.get(), expected, "{frames:?}");
        }
    }
}
