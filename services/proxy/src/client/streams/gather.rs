//! What a response's body has, taken so that it costs the library little.
//!
//! Each part that the library is given has a place of its own there until it has gone out, whatever is in
//! it; and what a backend writes a few bytes at a time comes so, however much of it has come. So small
//! parts are put together, as far as they are there: nobody waits for more of them.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body as _;

use super::PART_BYTES;
use crate::body::{Cut, ResponseBody};

/// Less than this is small: a place costs a third of it, and a copy hardly anything.
const SMALL_BYTES: usize = 1024;

/// What has come of a body.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// All that is small, which is a part at most.
    pub(super) small: Bytes,
    /// What comes after that and is not.
    pub(super) large: Bytes,
    /// What comes after both.
    pub(super) trailers: Option<HeaderMap>,
}

/// What comes next of a body: all the small parts that have come, or a large one.
pub(super) fn poll_next(
    body: &mut ResponseBody,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Gathered, Cut>>> {
    let mut small = BytesMut::new();
    // What came last, which is not copied if it comes alone.
    let mut last = Bytes::new();
    let mut gathered = Gathered::default();
    while small.len() + last.len() <= PART_BYTES - SMALL_BYTES && last.len() < SMALL_BYTES {
        match Pin::new(&mut *body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                // Nothing in it, and not the end: padding alone, of a backend of HTTP/2.
                Ok(data) if data.is_empty() && !body.is_end_stream() => {}
                Ok(data) => small.extend_from_slice(&std::mem::replace(&mut last, data)),
                Err(frame) => {
                    gathered.trailers = frame.into_trailers().ok();
                    break;
                }
            },
            Poll::Pending if last.is_empty() => return Poll::Pending,
            Poll::Ready(Some(Err(cut))) if last.is_empty() => return Poll::Ready(Some(Err(cut))),
            Poll::Ready(None) if last.is_empty() => return Poll::Ready(None),
            // An end is told again, whatever it is.
            _ => break,
        }
        if body.is_end_stream() {
            break;
        }
    }
    if last.len() >= SMALL_BYTES {
        gathered.large = std::mem::take(&mut last);
    }
    gathered.small = if small.is_empty() {
        last
    } else {
        small.extend_from_slice(&last);
        small.freeze()
    };
    Poll::Ready(Some(Ok(gathered)))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, task::Waker, time::Duration};

    use http::Method;
    use tokio::task::LocalSet;

    use super::*;
    use crate::{
        body::Arriving, connection, exchange::Exchange, http1, limits::FieldLimits,
        upstream::tests::member, worker::tests::Bench,
    };

    const LIMIT: Duration = Duration::from_secs(60);

    /// Chunks of these sizes.
    fn chunks(sizes: &[usize]) -> String {
        sizes.iter().map(|size| format!("{size:x}\r\n{}\r\n", "x".repeat(*size))).collect()
    }

    /// How long what is gathered is, one after the other, of a body of which so much has come; how many
    /// trailers there were, and whether it has ended.
    async fn gathered(text: String) -> (Vec<(usize, usize)>, usize, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gather = async {
            let bench = Bench::new(&[], address);
            let (gauges, limits) = (&bench.worker.gauges, FieldLimits::USUAL);
            let opened = connection::open(&member(address), LIMIT, gauges, limits).await;
            let mut connection = opened.unwrap();
            connection.buffer.extend_from_slice(text.as_bytes());
            let incoming = http1::Incoming::new(connection, http1::Framing::chunked(limits));
            let exchange = Exchange::begin(&bench.worker, &Method::GET, None);
            let arriving = Arriving::Alone(incoming);
            let mut body = ResponseBody::backend(arriving, (exchange, None), None, LIMIT);
            let context = &mut Context::from_waker(Waker::noop());
            let (mut lengths, mut trailers) = (Vec::new(), 0);
            while let Poll::Ready(next) = poll_next(&mut body, context) {
                let Some(next) = next.transpose().unwrap() else { break };
                lengths.push((next.small.len(), next.large.len()));
                trailers += next.trailers.map_or(0, |trailers| trailers.len());
            }
            (lengths, trailers, body.is_end_stream())
        };
        LocalSet::new().run_until(gather).await
    }

    #[tokio::test]
    async fn small_parts_that_have_come_go_together_and_large_ones_as_they_are() {
        const END: &str = "0\r\n\r\n";
        let cases = [
            (&[1; 500][..], END, &[(500, 0)][..]),
            (&[10, 5_000, 10, 10], END, &[(10, 5_000), (20, 0)]),
            (&[5_000, 5_000], END, &[(0, 5_000), (0, 5_000)]),
            // No more than a part.
            (&[1_000; 20], END, &[(16_000, 0), (4_000, 0)]),
            // Nobody waits for what has not come.
            (&[10, 10], "", &[(20, 0)]),
        ];
        for (sizes, end, expected) in cases {
            let (lengths, _, has_ended) = gathered(chunks(sizes) + end).await;
            assert_eq!(lengths, expected);
            assert_eq!(has_ended, !end.is_empty());
        }
    }

    #[tokio::test]
    async fn trailers_come_after_what_was_gathered_before_them() {
        const END: &str = "0\r\nx-sum: 7\r\n\r\n";
        for (sizes, expected) in [(&[10, 10][..], (20, 0)), (&[], (0, 0))] {
            let (lengths, trailers, has_ended) = gathered(chunks(sizes) + END).await;
            assert_eq!((&lengths[..], trailers, has_ended), (&[expected][..], 1, true));
        }
    }
}
