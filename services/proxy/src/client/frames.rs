//! Watches what frames an HTTP/2 client sends (RFC 9113 §10.5), without taking part.
//!
//! The HTTP/2 library keeps its memory bounded by itself. What it does not bound is work: requests
//! that are reset as soon as they have cost a backend something (CVE-2023-44487), pings and
//! settings that each want an answer, frames that say nothing. Here such frames are counted as they
//! come in, over a window of time and against the requests that they may belong to.
//!
//! WINDOW_UPDATE is not counted: it gets no answer, and an honest client may send one for each of
//! our DATA frames.

use std::{cell::Cell, rc::Rc, sync::Arc};

use super::untaken::{self, Came};
use crate::{
    http2::frame_reader::{CONTINUATION, END_HEADERS, FrameReader, HEADERS, Read},
    limits::Limit,
    settings::Http2,
    stats::Gauges,
};

/// Long enough for a burst of an honest client to be a small part of what it may send.
const WINDOW_MS: u64 = 10_000;

/// So many times as many resets as are allowed end a connection whatever else it asks for: what makes up
/// for them may cost next to nothing. At the default it is 400 a second.
pub(crate) const RESETS_TIMES_MAX: u32 = 20;

const DATA: u8 = 0;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;

/// The length of a setting (RFC 9113 §6.5.1), and the one that is of interest.
const SETTING_BYTES: usize = 6;
const INITIAL_WINDOW_SIZE: u8 = 4;

/// What a client has room for of each response that says nothing else (RFC 9113 §6.9.2).
pub(super) const FIRST_WINDOW: u32 = 65_535;

/// One connection's frames so far.
#[derive(Debug)]
pub(crate) struct FrameWatch {
    limits: Http2,
    gauges: Arc<Gauges>,
    reader: FrameReader,
    /// A setting that is coming in, as far as it has come.
    setting: [u8; SETTING_BYTES],
    setting_bytes: usize,
    /// What has come of bodies and nobody has asked for yet, and what its frames cost beside it.
    data: Came,
    /// Whether a request's head has begun and not ended.
    is_head_open: bool,
    /// The stream of the newest request.
    newest: u32,
    window: Window,
    ended: Rc<Ended>,
    /// What the client has room for of a response before it makes more.
    stream_window: Rc<Cell<u32>>,
}

/// What the HTTP/2 library allows a connection's client in all of its life, counted as [`Ended::of_life`].
pub(super) const MISTAKES_MAX: u32 = 1_024;

/// Requests that did not go on, as it is seen while that goes out: of the window, where nothing else is said.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Those that were refused for what they are, which cost nobody else anything.
    pub(super) refused: Cell<u32>,
    /// Those that we were given, and that the client's own mistake ended (CVE-2025-8671): it costs a backend
    /// what a reset of the client's does.
    pub(super) provoked: Cell<u32>,
    /// All resets of the library's, whatever the window: of these requests, and for what came for others that had
    /// ended too long ago to be known. Over a long life an honest client comes to any number of them.
    pub(super) of_life: Cell<u32>,
}

impl Ended {
    /// Whether the client is to make another connection, before this one would end with all that is on it.
    pub(super) fn are_many(&self) -> bool {
        self.of_life.get() > MISTAKES_MAX / 2
    }

    fn clear(&self) {
        [&self.refused, &self.provoked].iter().for_each(|count| count.set(0));
    }
}

/// What came since a moment.
#[derive(Debug, Default)]
struct Window {
    since_ms: u64,
    streams: u32,
    resets: u32,
    /// Frames of no request.
    control: u32,
    /// Such frames that other traffic explains, as many transports ping while data flows.
    explained: u32,
}

impl FrameWatch {
    /// `ended` is to count requests that do not go on; `stream_window` is told what the client has room for of
    /// a response before it makes more.
    pub(crate) fn new(
        limits: Http2,
        gauges: &Arc<Gauges>,
        ended: &Rc<Ended>,
        stream_window: &Rc<Cell<u32>>,
    ) -> Self {
        Self {
            limits,
            gauges: Arc::clone(gauges),
            reader: FrameReader::default(),
            setting: [0; SETTING_BYTES],
            setting_bytes: 0,
            data: Came::default(),
            is_head_open: false,
            newest: 0,
            window: Window::default(),
            ended: Rc::clone(ended),
            stream_window: Rc::clone(stream_window),
        }
    }

    /// Whether a request's head has begun and not ended, or it cannot be told yet.
    pub(crate) fn is_in_head(&self) -> bool {
        self.is_head_open || self.reader.is_in_header()
    }

    /// Whether a request's head has begun and not ended.
    pub(super) fn is_head_open(&self) -> bool {
        self.is_head_open
    }

    /// What has come of bodies since this was asked last.
    pub(super) fn take_data(&mut self) -> Came {
        std::mem::take(&mut self.data)
    }

    /// Takes note of what has come in, after the preface.
    ///
    /// # Errors
    /// The limit that it exceeds. It has been counted.
    pub(crate) fn see(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), Limit> {
        if now_ms.saturating_sub(self.window.since_ms) >= WINDOW_MS {
            self.window = Window { since_ms: now_ms, ..Window::default() };
            self.ended.clear();
        }
        loop {
            match self.reader.read(&mut bytes) {
                Read::Nothing => break,
                Read::Header => self.begin_frame(),
                Read::Payload(part) if self.reader.kind() == SETTINGS => self.see_settings(part),
                Read::Payload(part) if self.reader.kind() == DATA => self.data.bytes += part.len(),
                Read::Payload(_) => {}
            }
            if self.reader.is_at_end() {
                self.end_frame();
            }
        }
        let checked = self.window.check(&self.limits, &self.ended);
        checked.inspect_err(|limit| self.gauges.limits.hit(*limit))
    }

    /// What has come: requests, resets, frames of no request, and what explains such frames.
    pub(crate) fn counts(&self) -> [u32; 4] {
        let Window { streams, resets, control, explained, .. } = self.window;
        [streams, resets, control, explained]
    }

    /// Takes note of what has gone out. An answer to a ping is not worth a ping.
    pub(super) fn wrote(&mut self, bytes: usize) {
        let explained = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        self.window.explained = self.window.explained.saturating_add(explained);
    }

    fn begin_frame(&mut self) {
        let (kind, flags) = (self.reader.kind(), self.reader.flags());
        self.setting_bytes = 0;
        let window = &mut self.window;
        match kind {
            HEADERS => {
                self.is_head_open = true;
                // Each request has a higher stream than those before (RFC 9113 §5.1.1). What comes after a
                // body is none, and must not stand for one that was let through.
                let stream = self.reader.stream();
                let is_request = stream > self.newest;
                self.newest = self.newest.max(stream);
                *(if is_request { &mut window.streams } else { &mut window.control }) += 1;
            }
            RST_STREAM => window.resets += 1,
            WINDOW_UPDATE => {}
            DATA if !self.reader.is_at_end() => {
                window.explained += 1;
                self.data.frames += untaken::frame_cost(self.reader.left());
            }
            DATA if flags & END_STREAM != 0 => {}
            // Trailers (above), SETTINGS, PING, PRIORITY, CONTINUATION, DATA with nothing in it, unknown ones.
            _ => window.control += 1,
        }
    }

    fn see_settings(&mut self, payload: &[u8]) {
        for byte in payload {
            self.setting[self.setting_bytes] = *byte;
            self.setting_bytes = (self.setting_bytes + 1) % SETTING_BYTES;
            if self.setting_bytes == 0
                && let [0, INITIAL_WINDOW_SIZE, size @ ..] = self.setting
            {
                self.stream_window.set(u32::from_be_bytes(size));
            }
        }
    }

    fn end_frame(&mut self) {
        let is_of_head = matches!(self.reader.kind(), HEADERS | CONTINUATION);
        if is_of_head && self.reader.flags() & END_HEADERS != 0 {
            self.is_head_open = false;
        }
    }
}

impl Window {
    fn check(&self, limits: &Http2, ended: &Ended) -> Result<(), Limit> {
        // Somebody who cancels much but asks for more, such as a proxy in front, is welcome.
        let asked_for = self.streams.saturating_sub(ended.refused.get());
        let resets = self.resets.saturating_add(ended.provoked.get());
        let resets_max = limits.resets.saturating_mul(RESETS_TIMES_MAX);
        let is_made_up_for = resets <= asked_for / 2 && resets <= resets_max;
        if resets > limits.resets && !is_made_up_for {
            return Err(Limit::Resets);
        }
        let allowed = limits.control_frames.saturating_add(self.explained);
        if self.control > allowed.saturating_add(self.streams) {
            return Err(Limit::ControlFrames);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn watch() -> FrameWatch {
        let limits = Http2 { streams: 100, resets: 10, control_frames: 10 };
        FrameWatch::new(limits, &Arc::default(), &Rc::default(), &Rc::default())
    }

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        frame_of(1, kind, flags, length)
    }

    fn frame_of(stream: u16, kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let [high, low] = stream.to_be_bytes();
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, high, low];
        // A payload that would be another frame to whoever loses the count.
        bytes.extend(std::iter::repeat_n(RST_STREAM, length.into()));
        bytes
    }

    /// How many of what is made for each stream are let through.
    fn until_refused(
        watch: &mut FrameWatch,
        frames: impl Fn(u16) -> Vec<u8>,
    ) -> Option<(u16, Limit)> {
        (0..1_000).find_map(|count| Some((count, watch.see(&frames(2 * count + 1), 0).err()?)))
    }

    #[test]
    fn frames_are_counted_the_same_however_they_are_cut() {
        let of = |kind, flags, length| move |stream| frame_of(stream, kind, flags, length);
        let frames = [of(HEADERS, END_HEADERS, 20), of(DATA, 0, 5), of(RST_STREAM, 0, 4)];
        for size in [1, 2, 7, 9, 64] {
            let mut watch = watch();
            for stream in 1..=8 {
                let bytes = frames.map(|frame| frame(stream)).concat();
                bytes.chunks(size).for_each(|part| watch.see(part, 0).unwrap());
            }
            assert_eq!(watch.counts(), [8, 8, 0, 8], "{size}");
            assert_eq!(watch.take_data(), Came { bytes: 8 * 5, frames: 8 * 251 });
            assert_eq!(watch.take_data(), Came::default());
            assert!(!watch.is_in_head());
        }
    }

    #[test]
    fn what_a_client_has_room_for_is_what_it_said_last_however_it_is_cut() {
        // Of the others one has its number as a value, and one a number that begins alike.
        let settings = [[0, 3, 0, 0, 0, 4], [0, 4, 0, 1, 0, 2], [1, 4, 0, 0, 0, 7]].concat();
        let mut bytes = vec![0, 0, 18, SETTINGS, 0, 0, 0, 0, 0];
        bytes.extend(settings);
        bytes.extend(frame(HEADERS, END_HEADERS, 20));
        for size in [1, 5, 6, 9, 64] {
            let mut watch = watch();
            bytes.chunks(size).for_each(|part| watch.see(part, 0).unwrap());
            assert_eq!(watch.stream_window.get(), 65_538, "{size}");
        }
    }

    #[test]
    fn resets_are_bounded_and_less_so_if_most_requests_are_let_through() {
        let head = |stream| frame_of(stream, HEADERS, END_HEADERS, 3);
        let reset = |stream| [head(stream), frame_of(stream, RST_STREAM, 0, 4)].concat();
        let two = |stream| [head(stream), reset(stream + 1)].concat();
        let with_trailers = |stream| [head(stream), reset(stream)].concat();
        let bound = Some((10, Limit::Resets));
        assert_eq!(until_refused(&mut watch(), reset), bound);
        assert_eq!(until_refused(&mut watch(), with_trailers), bound);
        let most = Some((10 * 20, Limit::Resets));
        assert_eq!(until_refused(&mut watch(), two), most);
        let mut made_up = watch();
        let ended = Rc::clone(&made_up.ended);
        let refusing = |stream| {
            ended.refused.update(|count| count + 1);
            two(stream)
        };
        assert_eq!(
            until_refused(&mut made_up, refusing),
            bound,
            "refused ones let nothing through"
        );
    }

    #[test]
    fn requests_that_the_clients_mistakes_end_are_resets() {
        let mut watch = watch();
        let ended = Rc::clone(&watch.ended);
        let found = until_refused(&mut watch, |stream| {
            ended.provoked.update(|count| count + 1);
            frame_of(stream, HEADERS, END_HEADERS, 3)
        });
        assert_eq!(found, Some((10, Limit::Resets)));
    }

    #[test]
    fn frames_that_say_nothing_are_bounded_and_the_bound_is_counted() {
        for (kind, flags, length) in [(PING, 0, 8), (DATA, 0, 0), (CONTINUATION, 0, 0), (99, 0, 1)]
        {
            let mut watch = watch();
            let found = until_refused(&mut watch, |_| frame(kind, flags, length));
            assert_eq!(found, Some((10, Limit::ControlFrames)), "{kind}");
            assert_eq!(watch.gauges.limits.of(Limit::ControlFrames), 1);
        }
    }

    #[test]
    fn what_time_and_other_traffic_explain_is_no_flood() {
        let ping = frame(PING, 0, 8);
        let mut slow = watch();
        (0..100).for_each(|second| slow.see(&ping, second * 1_000).unwrap());
        let mut busy = watch();
        for _ in 0..500 {
            busy.see(&[ping.clone(), frame(DATA, 0, 100)].concat(), 0).unwrap();
            busy.see(&ping, 0).unwrap();
            busy.wrote(1_500);
        }
    }

    #[test]
    fn a_head_is_open_from_its_first_byte_to_the_last_of_its_continuations() {
        let mut watch = watch();
        let mut after = |bytes: &[u8]| {
            watch.see(bytes, 0).unwrap();
            watch.is_in_head()
        };
        assert!(!after(&[]));
        assert!(after(&frame(HEADERS, END_STREAM, 3)[..1]));
        assert!(after(&frame(HEADERS, END_STREAM, 3)[1..]));
        assert!(after(&frame(CONTINUATION, 0, 3)));
        assert!(after(&frame(CONTINUATION, END_HEADERS, 3)[..11]));
        assert!(!after(&frame(CONTINUATION, END_HEADERS, 3)[11..]));
    }
}
