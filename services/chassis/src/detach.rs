//! Work that goes on when whoever waits for it has left.
//!
//! A server drops a handler whose client closes its connection. What only reads may end there; what
//! changes something may have changed half of it.

use std::{future::pending, panic::resume_unwind};

use axum::{extract::Request, middleware::Next, response::Response};

/// Has a request that changes something served to its end. Goes into a router's layers.
pub async fn changes(request: Request, next: Next) -> Response {
    match request.method().is_safe() {
        true => next.run(request).await,
        false => to_its_end(next.run(request)).await,
    }
}

/// Runs to its end, also if nobody waits for it any more.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is ending, and this with it.
            Err(_) => pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_goes_on() {
        let (begun, has_begun) = oneshot::channel();
        let (go, goes_on) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let work = to_its_end(async move {
            _ = begun.send(());
            _ = goes_on.await;
            _ = done.send(());
        });
        tokio::select! {
            biased;
            () = work => panic!("it waits for its go"),
            _ = has_begun => {}
        }
        _ = go.send(());
        assert!(is_done.await.is_ok());
    }
}
