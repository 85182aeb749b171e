//! What happens around each request that counts as traffic: it is recorded, a fault may strike
//! it, and its answer carries the server's name.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chassis::problem::Problem;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body::{Frame, SizeHint};

use crate::{
    faults::{Fault, Strike},
    metrics::Record,
    state::Server,
};

/// Tells which replica answered, on every answer.
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// Marks an answer that a fault made, for whoever wonders about it.
const FAULT: HeaderName = HeaderName::from_static("x-fault");

pub(crate) async fn serve(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    let mut record = server.metrics().begin(request.method());
    server.count_request();
    let mut response = match server.faults().strike() {
        Some(strike) => disturb(&server, strike, &mut record, request, next).await,
        None => next.run(request).await,
    };
    response.headers_mut().insert(SERVED_BY, server.name_header());
    record.answered(response.status());
    response.map(|body| Body::new(Recorded { body, _record: record }))
}

async fn disturb(
    server: &Server,
    strike: Strike,
    record: &mut Record,
    request: Request,
    next: Next,
) -> Response {
    if !strike.latency.is_zero() {
        server.metrics().count_fault("latency");
        tokio::time::sleep(strike.latency).await;
    }
    let Some(fault) = strike.fault else { return next.run(request).await };
    server.metrics().count_fault(fault.kind());
    match fault {
        Fault::Error(status) => {
            let mut response = Problem::new(status, "this error was injected").into_response();
            response.headers_mut().insert(FAULT, HeaderValue::from_static("error"));
            response
        }
        Fault::Hang => {
            // Nothing will come of it, so it must not delay a stop.
            server.stop_requested().await;
            cut(record)
        }
        Fault::Reset => cut(record),
    }
}

/// Cuts the connection without an answer.
///
/// A handler has no hold of its connection, and a body that fails would come too late for HEAD.
/// Unwinding ends the connection's task and closes its socket; unlike `panic!` it prints nothing.
fn cut(record: &mut Record) -> ! {
    record.cut();
    std::panic::resume_unwind(Box::new("cut by an injected fault"))
}

pub(crate) async fn not_found(uri: Uri) -> Problem {
    let detail = format!(
        "nothing is served at {}; try /, /echo, /delay/250ms, /status/503, /bytes/64KiB, \
         /stream/10 or /ws",
        uri.path()
    );
    Problem::new(StatusCode::NOT_FOUND, detail)
}

pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

/// A body that ends its request's record when it ends.
struct Recorded {
    body: Body,
    _record: Record,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
