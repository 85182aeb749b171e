//! A request's body that goes on being sent though its answer has come: by a task of its own, which
//! belongs to what the answer comes on and ends with it. One that belonged to nobody would hold the client's
//! and the backend's streams open, and neither would learn that the other has left.

use std::time::Duration;

use tokio::{task::JoinHandle, time::timeout_at};

use crate::body::Upload;

/// The task. Dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Sending<T>(JoinHandle<T>);

impl<T: 'static> Sending<T> {
    pub(crate) fn start(sending: impl Future<Output = T> + 'static) -> Self {
        Self(tokio::task::spawn_local(sending))
    }

    /// Waits until the body has gone out, for as long as it moves: no longer than `timeout` for any
    /// part of it. What came of it, unless it took too long.
    pub(crate) async fn finish(&mut self, upload: &Upload, timeout: Duration) -> Option<T> {
        loop {
            let deadline = upload.moved() + timeout;
            match timeout_at(deadline, &mut self.0).await {
                Ok(sent) => return sent.ok(),
                Err(_) if upload.moved() + timeout > deadline => {}
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Drop for Sending<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{task::LocalSet, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_body_that_outlives_its_response_begins_with_the_end_of_that() {
        let run = async {
            let limit = Duration::from_secs(30);
            let upload = Upload::begun();
            upload.answered();
            tokio::time::sleep(2 * limit).await;
            upload.outlived_answer();
            let start = Instant::now();
            let mut sending = Sending::start(std::future::pending::<()>());
            assert_eq!(sending.finish(&upload, limit).await, None);
            assert!(start.elapsed() >= limit, "{:?}", start.elapsed());
        };
        LocalSet::new().run_until(run).await;
    }
}
