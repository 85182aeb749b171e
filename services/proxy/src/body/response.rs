//! The body of a response: from a backend to the client, and what hangs on its end.

use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::Upload;
use crate::{
    error::Reason,
    exchange::Exchange,
    headers::prepare_response_trailers,
    http1,
    http2::{self, Incoming},
    multiplexed::{STREAM_WINDOW_BYTES, Stream},
    pipe::Pipe,
    tunnel::Tunnel,
};

/// The body of a response to a client.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// Our own, or none.
    Own(Option<Bytes>),
    /// A backend's, as it arrives.
    Backend(Box<BackendBody>),
    /// None: both sides speak another protocol from now on.
    Switched(Box<Tunnel>),
}

/// A response's body and what it arrives on.
#[derive(Debug)]
pub(crate) enum Arriving {
    /// Of HTTP/1.
    Alone(http1::Incoming),
    /// Of HTTP/2, with its place on the connection.
    Shared(Incoming, Stream),
    /// It has.
    Ended,
    /// It never will.
    Cut(Reason),
}

impl Arriving {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Alone(incoming) => incoming.is_end_stream(),
            Self::Shared(incoming, _) => incoming.is_end_stream(),
            Self::Ended => true,
            Self::Cut(_) => false,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Alone(incoming) => incoming.size_hint(),
            Self::Shared(incoming, _) => incoming.size_hint(),
            Self::Ended => SizeHint::with_exact(0),
            Self::Cut(_) => SizeHint::new(),
        }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        match self {
            Self::Alone(incoming) => incoming.poll_frame(context),
            // A whole one ends, even if its backend then resets the stream as it needs no more of the
            // request (RFC 9113 §8.1); one that is reset before is none, whatever the reason says.
            Self::Shared(incoming, stream) => {
                let frame = ready!(incoming.poll_frame(context));
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(mut frame) => {
                        if let Some(trailers) = frame.trailers_mut() {
                            stream.check(trailers)?;
                            prepare_response_trailers(trailers)?;
                        }
                        Ok(frame)
                    }
                    Err(error) => Err(http2::blame(&error, Reason::ResetMidBody)),
                }))
            }
            Self::Ended => Poll::Ready(None),
            Self::Cut(reason) => Poll::Ready(Some(Err(*reason))),
        }
    }

    /// How much of it may go through a pipe.
    fn pipeable(&self) -> u64 {
        match self {
            Self::Alone(incoming) => incoming.pipeable(),
            Self::Shared(..) | Self::Ended | Self::Cut(_) => 0,
        }
    }

    fn poll_pipe(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Option<Result<usize, Reason>>> {
        match self {
            Self::Alone(incoming) => incoming.poll_pipe(context, pipe),
            Self::Shared(..) | Self::Ended => Poll::Ready(None),
            Self::Cut(reason) => Poll::Ready(Some(Err(*reason))),
        }
    }

    /// The socket and what has come on it, once both sides have switched to another protocol.
    pub(crate) fn into_switched(self) -> Option<(TcpStream, Bytes)> {
        match self {
            Self::Alone(incoming) => incoming.into_connection().into_switched(),
            Self::Shared(..) | Self::Ended | Self::Cut(_) => None,
        }
    }
}

/// A backend's body with what hangs on its end.
#[derive(Debug)]
pub(crate) struct BackendBody {
    arriving: Arriving,
    read_timeout: Duration,
    /// Armed while we wait; most bodies arrive with the head and never need it.
    waiting: Option<Pin<Box<Sleep>>>,
    /// A body that is still going up shows that the client and the backend are alive.
    upload: Option<Rc<Upload>>,
    /// What ends it, if it never ends by itself.
    ending: Option<Ending>,
    /// Gone once the end was recorded. Dropped earlier, it records that the client left.
    exchange: Option<Box<Exchange>>,
}

/// Is through when a response must end that goes on.
pub(crate) struct Ending(pub(crate) Pin<Box<dyn Future<Output = ()>>>);

impl fmt::Debug for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ending")
    }
}

/// Why a response was cut.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut: {}", .0.token())]
pub(crate) struct Cut(Reason);

impl ResponseBody {
    /// A backend's body. What hangs on its end happens now if it has none.
    pub(crate) fn backend(
        arriving: Arriving,
        (exchange, ending): (Box<Exchange>, Option<Ending>),
        upload: Option<Rc<Upload>>,
        read_timeout: Duration,
    ) -> Self {
        if arriving.is_end_stream() {
            exchange.complete(arriving, upload);
            return Self::Own(None);
        }
        let exchange = Some(exchange);
        let waiting = None;
        let body = BackendBody { arriving, read_timeout, waiting, upload, ending, exchange };
        Self::Backend(Box::new(body))
    }

    /// Whether it ends here because it has to, though its client does not take what there is.
    pub(crate) fn ends(&mut self, context: &mut Context<'_>) -> bool {
        match self {
            Self::Backend(body) => body.ends(context),
            Self::Own(_) | Self::Switched(_) => false,
        }
    }

    /// How much of it may go through a pipe: all the rest, if nothing of that has been read.
    pub(crate) fn pipeable(&self) -> u64 {
        match self {
            Self::Backend(body) => body.arriving.pipeable(),
            Self::Own(_) | Self::Switched(_) => 0,
        }
    }

    /// Takes its next part into an empty pipe, and tells how much that is: nothing if it has to be read
    /// after all. Otherwise as [`Body::poll_frame`].
    pub(crate) fn poll_pipe(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Option<Result<usize, Cut>>> {
        match self {
            Self::Backend(body) => {
                body.poll_next(context, |arriving, context| arriving.poll_pipe(context, pipe))
            }
            Self::Own(_) | Self::Switched(_) => Poll::Ready(None),
        }
    }

    /// Takes in what has come of it while its client takes nothing. One of HTTP/1 is not read meanwhile.
    pub(crate) fn take_in(&mut self, context: &mut Context<'_>) {
        if let Self::Backend(body) = self
            && let Arriving::Shared(incoming, _) = &mut body.arriving
        {
            incoming.take_in(context);
        }
    }

    /// What may have come of it that nobody has taken. A backend of HTTP/2 sends without being asked,
    /// and how much of it waits, the library tells nobody: at most a window, or what is left.
    pub(crate) fn may_have_come(&self) -> usize {
        match self {
            Self::Backend(body) => match &body.arriving {
                Arriving::Shared(incoming, _) if !incoming.is_end_stream() => {
                    let left = incoming.size_hint().upper().unwrap_or(u64::MAX);
                    usize::try_from(left).unwrap_or(usize::MAX).min(STREAM_WINDOW_BYTES as usize)
                }
                _ => 0,
            },
            Self::Own(_) | Self::Switched(_) => 0,
        }
    }

    /// Has no more than this read at once from a backend of HTTP/1. One of HTTP/2 sends what its window
    /// allows.
    pub(crate) fn read_at_most(&mut self, bytes: usize) {
        if let Self::Backend(body) = self
            && let Arriving::Alone(incoming) = &mut body.arriving
        {
            incoming.read_at_most(bytes);
        }
    }
}

impl BackendBody {
    /// What is `next` of it.
    fn poll_next<T>(
        &mut self,
        context: &mut Context<'_>,
        next: impl FnOnce(&mut Arriving, &mut Context<'_>) -> Poll<Option<Result<T, Reason>>>,
    ) -> Poll<Option<Result<T, Cut>>> {
        // First, as a backend may have something each time.
        if self.ends(context) {
            return Poll::Ready(None);
        }
        match next(&mut self.arriving, context) {
            Poll::Ready(part) => {
                self.waiting = None;
                match &part {
                    Some(Ok(_)) if !self.arriving.is_end_stream() => {
                        if let Some(upload) = &self.upload {
                            upload.answered();
                        }
                    }
                    Some(Ok(_)) | None => self.complete(),
                    Some(Err(reason)) => return self.fail(*reason, context),
                }
                Poll::Ready(part.map(|part| part.map_err(Cut)))
            }
            Poll::Pending => {
                let timeout = self.read_timeout;
                let waiting =
                    self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                while waiting.as_mut().poll(context).is_ready() {
                    let moved = self.upload.as_ref().map(|upload| upload.moved() + timeout);
                    match moved.filter(|deadline| *deadline > Instant::now()) {
                        Some(deadline) => waiting.as_mut().reset(deadline),
                        None => break,
                    }
                }
                if !waiting.is_elapsed() {
                    return Poll::Pending;
                }
                let is_client_slow = self.upload.as_deref().is_some_and(Upload::was_slow);
                let reason =
                    if is_client_slow { Reason::RequestTimeout } else { Reason::ReadTimeout };
                self.fail(reason, context)
            }
        }
    }

    /// Whether it ends here, because it has to.
    fn ends(&mut self, context: &mut Context<'_>) -> bool {
        let Some(Ending(ending)) = &mut self.ending else { return false };
        if matches!(self.arriving, Arriving::Cut(_)) {
            return false;
        }
        let must_end = ending.as_mut().poll(context).is_ready();
        if must_end {
            (self.ending, self.arriving) = (None, Arriving::Ended);
            if let Some(exchange) = self.exchange.take() {
                exchange.end();
            }
        }
        must_end
    }

    fn complete(&mut self) {
        let arrived = std::mem::replace(&mut self.arriving, Arriving::Ended);
        if let Some(exchange) = self.exchange.take() {
            exchange.complete(arrived, self.upload.take());
        }
    }

    /// Records that no more will come. The client is told at the next look: an error throws away
    /// what has not gone out yet, and a response that is cut must be seen to have begun.
    fn fail<T>(&mut self, reason: Reason, context: &Context<'_>) -> Poll<Option<Result<T, Cut>>> {
        let Some(exchange) = self.exchange.take() else {
            return Poll::Ready(Some(Err(Cut(reason))));
        };
        // A backend that was sent half a request is not to blame for what comes of it.
        let of_client = self.upload.as_deref().and_then(Upload::failure);
        exchange.fail(of_client.unwrap_or(reason));
        self.arriving = Arriving::Cut(reason);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Backend(body) => body.poll_next(context, Arriving::poll_frame),
            Self::Switched(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Backend(body) => body.arriving.is_end_stream(),
            Self::Switched(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Backend(body) => body.arriving.size_hint(),
            Self::Switched(_) => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::Write as _,
        net::{SocketAddr, TcpListener},
        sync::Arc,
    };

    use http::Method;
    use tokio::task::LocalSet;

    use super::*;
    use crate::{
        connection::{self, Connection},
        http1::Framing,
        limits::{FieldLimits, Limit},
        stats::Gauges,
        upstream::tests::member,
        worker::tests::Bench,
    };

    const LIMIT: Duration = Duration::from_secs(60);

    /// Longer than the limit: what has not come by then never does.
    const NEVER: Duration = Duration::from_secs(3_600);

    async fn open(address: SocketAddr, gauges: &Arc<Gauges>) -> Box<Connection> {
        connection::open(&member(address), LIMIT, gauges, FieldLimits::USUAL).await.unwrap()
    }

    #[tokio::test]
    async fn a_backend_that_sends_no_more_is_left_when_its_time_is_over() {
        let run = async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let bench = Bench::new(&[], address);
            let gauges = &bench.worker.gauges;
            let connection = open(address, gauges).await;
            let mut backend = listener.accept().unwrap().0;
            let incoming = http1::Incoming::new(connection, Framing::Length(6));
            let exchange = Exchange::begin(&bench.worker, &Method::GET, None);
            let arriving = Arriving::Alone(incoming);
            let mut body = ResponseBody::backend(arriving, (exchange, None), None, LIMIT);
            let mut next =
                async || poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            tokio::time::pause();
            for part in [b"ab", b"cd"] {
                // The time begins anew with each part.
                let waiting = tokio::time::timeout(LIMIT - Duration::from_secs(1), next());
                assert!(waiting.await.is_err());
                backend.write_all(part).unwrap();
                let data = next().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!(&data[..], part);
            }
            let last = Instant::now();
            let end = tokio::time::timeout(NEVER, next()).await.expect("it waits on");
            assert!(matches!(end, Some(Err(Cut(Reason::ReadTimeout)))), "{end:?}");
            // Timers go by the millisecond.
            assert!((LIMIT..LIMIT + Duration::from_millis(2)).contains(&last.elapsed()));
        };
        LocalSet::new().run_until(run).await;
    }

    /// After how long a response ends that goes on no more, and for what reason, while its request's
    /// body brings so many bytes every ten seconds.
    async fn ends_beside_an_upload(bytes: usize) -> Option<(Duration, Reason, u64)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bench = Bench::new(&[], address);
        let gauges = &bench.worker.gauges;
        let connection = open(address, gauges).await;
        let _backend = listener.accept().unwrap().0;
        let incoming = http1::Incoming::new(connection, Framing::Length(6));
        let exchange = Exchange::begin(&bench.worker, &Method::POST, None);
        let upload = Upload::of_rate(100, FieldLimits::USUAL, Arc::clone(gauges), None);
        let upload = Rc::new(upload);
        upload.wait();
        upload.answered();
        let sent = Some(Rc::clone(&upload));
        let mut body =
            ResponseBody::backend(Arriving::Alone(incoming), (exchange, None), sent, LIMIT);
        tokio::time::pause();
        let start = Instant::now();
        let sending = async {
            while start.elapsed() < NEVER {
                tokio::time::sleep(Duration::from_secs(10)).await;
                assert!(upload.took(bytes), "it is not broken off");
                upload.wait();
            }
        };
        let end = tokio::select! {
            biased;
            () = sending => None,
            end = poll_fn(|context| Pin::new(&mut body).poll_frame(context)) => end,
        };
        let Some(Err(Cut(reason))) = end else { return None };
        Some((start.elapsed(), reason, gauges.limits.of(Limit::UploadRate)))
    }

    #[tokio::test]
    async fn a_slow_upload_does_not_prolong_the_time_of_a_response_that_has_begun() {
        let run = async {
            for bytes in [1, 999] {
                let end = ends_beside_an_upload(bytes).await.expect("it goes on");
                let (after, reason, hits) = end;
                assert!((LIMIT..LIMIT + Duration::from_millis(2)).contains(&after), "{after:?}");
                assert_eq!((reason, hits), (Reason::RequestTimeout, 1), "not the backend's fault");
                tokio::time::resume();
            }
            assert_eq!(ends_beside_an_upload(1_010).await, None);
        };
        LocalSet::new().run_until(run).await;
    }
}
