//! A response's body as the library gets it: part by part, each of which counts until it has gone out.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::{
    PART_BYTES, Progress, cost,
    gather::{self, Gathered},
};
use crate::{
    body::{Cut, ResponseBody},
    buffered::MOST_BYTES,
};

/// A response's body on an HTTP/2 stream.
#[derive(Debug)]
pub(in crate::client) struct StreamBody {
    /// What has the body, which goes with this.
    pub(super) progress: Rc<Progress>,
    /// What remains of a long part.
    rest: Bytes,
    /// The end, if it was seen before it may go out, with its trailers. In a box, as hardly any is.
    end: Option<Box<HeaderMap>>,
}

impl StreamBody {
    pub(in crate::client) fn new(body: ResponseBody, progress: Rc<Progress>) -> Self {
        progress.body.replace(body);
        Self { progress, rest: Bytes::new(), end: None }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Part>, Cut>>> {
        if self.rest.is_empty() && self.progress.body.borrow_mut().ends(context) {
            return Poll::Ready(None);
        }
        ready!(self.progress.poll_room(context));
        let frame = self.next(context);
        let has_waited = self.progress.waits_for_client.replace(frame.is_ready());
        if frame.is_ready() {
            let now = Instant::now();
            let since = self.progress.taken.replace(now);
            if has_waited {
                self.progress.waited(since, now);
            }
        }
        frame
    }

    /// Whether the end has to wait until what the library has had has gone out.
    fn holds_end(&self) -> bool {
        self.progress.given.get() > 0 && self.progress.may_lack_room()
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Part>, Cut>>> {
        if self.rest.is_empty() {
            // What is more than a part would wait here.
            let is_full = self.progress.held.is_full();
            let mut body = self.progress.body.borrow_mut();
            body.read_at_most(if is_full { PART_BYTES } else { MOST_BYTES });
            let gathered = match ready!(gather::poll_next(&mut body, context)) {
                Some(Ok(gathered)) => gathered,
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                None => return Poll::Ready(None),
            };
            let Gathered { small, large, trailers } = gathered;
            if small.is_empty() && large.is_empty() && trailers.is_none() {
                // The end, which a backend of HTTP/2 may say with nothing in it. Given on as a part, it
                // would go out before the end that is held back.
                return Poll::Ready(None);
            }
            self.progress.held.add(cost(small.len()) + cost(large.len()));
            self.rest = large;
            match trailers {
                Some(trailers) if small.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                trailers => self.end = trailers.map(Box::new),
            }
            if !small.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Part::new(small, &self.progress)))));
            }
        }
        let data = self.rest.split_to(self.rest.len().min(PART_BYTES));
        Poll::Ready(Some(Ok(Frame::data(Part::new(data, &self.progress)))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.progress.set_behind(0);
        self.progress.body.replace(ResponseBody::Own(None));
        self.progress.held.subtract(cost(self.rest.len()));
    }
}

/// What the library has of a body until it has gone out or its stream has ended.
#[derive(Debug, Default)]
pub(in crate::client) struct Part {
    data: Bytes,
    bytes: usize,
    /// None of one with nothing in it.
    progress: Option<Rc<Progress>>,
}

impl Part {
    pub(super) fn new(data: Bytes, progress: &Rc<Progress>) -> Self {
        let (bytes, given, held) = (data.len(), progress.given.get(), &progress.held);
        if given == 0 && bytes > 0 {
            // To what waits already it adds, and that moves nothing.
            held.has_moved.set(held.has_moved.get() || held.giving.get() == 0);
            held.giving.set(held.giving.get() + 1);
        }
        progress.given.set(given + bytes);
        progress.sent.set(progress.sent.get() + bytes);
        progress.note_turn();
        Self { data, bytes, progress: Some(Rc::clone(progress)) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(progress) = &self.progress {
            progress.gone_out(self.bytes);
        }
    }
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.data.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.data
    }

    fn advance(&mut self, count: usize) {
        if let Some(progress) = &self.progress {
            progress.gone.set(progress.gone.get() + count);
            let held = &progress.held;
            held.has_moved.set(true);
            held.all.gone.set(held.all.gone.get() + count);
        }
        self.data.advance(count);
    }
}

impl Body for StreamBody {
    type Data = Part;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, Cut>>> {
        let this = self.get_mut();
        if this.end.is_none() {
            let frame = ready!(this.poll_next(context));
            if !this.holds_end() {
                return Poll::Ready(frame);
            }
            match frame.map(|frame| frame.map(Frame::into_trailers)) {
                None => this.end = Some(Box::default()),
                Some(Ok(Ok(trailers))) => this.end = Some(Box::new(trailers)),
                Some(Ok(Err(part))) => return Poll::Ready(Some(Ok(part))),
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
            }
        }
        if this.holds_end() {
            ready!(this.progress.poll_gone_out(context));
        }
        let trailers = this.end.take().filter(|trailers| !trailers.is_empty());
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(*trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let has_trailers = self.end.as_ref().is_some_and(|trailers| !trailers.is_empty());
        let has_rest = has_trailers || !self.rest.is_empty();
        !has_rest && self.progress.body.borrow().is_end_stream() && !self.holds_end()
    }

    /// What is left of it: bytes of a long part are no longer the body's own.
    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.progress.body.borrow().size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
