//! How long an attempt may take until the head of its response is there.
//!
//! Two limits. `PROXY_RESPONSE_TIMEOUT` ends a request. `PROXY_TRY_TIMEOUT`, if it is set, ends one
//! attempt of a request, but only for another one: nginx, HAProxy and Envoy (unless it hedges) cut
//! every request off after the time for a try, the last one too, and so make errors of answers
//! that were on their way. Here a request that may not be sent twice, or that nobody else can take,
//! goes on waiting. Where a try has a limit, the limit of the request is that of all its attempts
//! together; otherwise it is that of each, as only attempts that broke are made anew.

use std::{pin::Pin, sync::Arc, time::Duration};

use balance::Member;
use tokio::time::Instant;

use crate::{body::Upload, error::Reason, retry::Tried, worker::Worker};

/// The limits of one attempt.
pub(crate) struct Patience<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) member: &'a Arc<Member>,
    pub(crate) tried: &'a mut Tried,
    /// Whether the request may be sent twice.
    pub(crate) may_be_sent_twice: bool,
}

impl Patience<'_> {
    /// Waits for a response's head. The request is being sent since `start`. That future is large, and stays where
    /// it is.
    ///
    /// # Errors
    /// Why the wait ended without one.
    pub(crate) async fn wait<T>(
        &mut self,
        start: Instant,
        upload: Option<&Upload>,
        response: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Reason> {
        let Self { worker, member, tried, may_be_sent_twice } = self;
        let timeouts = &worker.settings.timeouts;
        match timeouts.attempt {
            Some(attempt) if *may_be_sent_twice => {
                let all = tried.deadline(start, timeouts.response);
                let limits = Limits { attempt: start + attempt, all };
                within_both(limits, || tried.give_up(worker, member), response).await
            }
            _ => within(timeouts.response, start, upload, response).await,
        }
    }
}

/// When an attempt may be given up, and when the request is.
struct Limits {
    attempt: Instant,
    all: Instant,
}

/// Waits for a response's head until there is somebody else to ask when its attempt's time is up,
/// at most until the request's is.
async fn within_both<T>(
    limits: Limits,
    give_up: impl FnOnce() -> bool,
    mut response: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Reason> {
    if limits.attempt < limits.all {
        if let Ok(response) = tokio::time::timeout_at(limits.attempt, &mut response).await {
            return Ok(response);
        }
        if give_up() {
            return Err(Reason::ResponseTimeout);
        }
    }
    let response = tokio::time::timeout_at(limits.all, response).await;
    response.map_err(|_| Reason::ResponseTimeout)
}

/// Waits for a response's head for as long as `timeout` after the last part of the request went
/// out: a long upload that makes progress is no slow backend.
async fn within<T>(
    timeout: Duration,
    mut since: Instant,
    upload: Option<&Upload>,
    mut response: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Reason> {
    loop {
        if let Ok(response) = tokio::time::timeout_at(since + timeout, &mut response).await {
            return Ok(response);
        }
        match upload {
            Some(upload) if upload.moved() > since => since = upload.moved(),
            Some(upload) if upload.waits_for_client() => return Err(Reason::RequestTimeout),
            _ => return Err(Reason::ResponseTimeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const TRY: Duration = Duration::from_secs(1);
    const ALL: Duration = Duration::from_secs(30);

    /// How a wait ends, and after how long, for a response that takes so long.
    async fn wait(takes: Duration, all: Duration, may_give_up: bool) -> (bool, Duration) {
        let start = Instant::now();
        let limits = Limits { attempt: start + TRY, all: start + all };
        let result = within_both(limits, || may_give_up, pin!(tokio::time::sleep(takes))).await;
        (result.is_ok(), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_cut_off_early_only_for_another_one() {
        let (soon, late, never) =
            (Duration::from_millis(500), Duration::from_secs(20), Duration::from_secs(60));
        for (takes, may_give_up, expected) in [
            (soon, true, (true, soon)),
            (late, true, (false, TRY)),
            (late, false, (true, late)),
            (never, false, (false, ALL)),
        ] {
            assert_eq!(wait(takes, ALL, may_give_up).await, expected, "{takes:?} {may_give_up}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_not_given_up_when_no_time_is_left_for_another() {
        let (all, slow) = (Duration::from_millis(700), Duration::from_secs(5));
        assert_eq!(wait(slow, all, true).await, (false, all));
    }

    /// How a wait with one limit ends, and after how long, for a response that takes so long. Of the
    /// request's body a part goes on at each of these times, and then `ends` happens to it.
    async fn wait_after(
        takes: Duration,
        parts: &[Duration],
        ends: fn(&Upload),
    ) -> (Result<(), Reason>, Duration) {
        let (start, upload) = (Instant::now(), Upload::begun());
        let moving = async {
            for part in parts {
                tokio::time::sleep_until(start + *part).await;
                upload.took(1);
                ends(&upload);
            }
            std::future::pending().await
        };
        let response = pin!(tokio::time::sleep(takes));
        let waiting = within(ALL, start, (!parts.is_empty()).then_some(&upload), response);
        tokio::select! {
            result = waiting => (result, start.elapsed()),
            () = moving => unreachable!("it never ends"),
        }
    }

    const NEVER: Duration = Duration::from_secs(600);

    #[tokio::test(start_paused = true)]
    async fn a_response_may_take_its_time_and_no_longer() {
        let just = ALL - Duration::from_millis(1);
        assert_eq!(wait_after(just, &[], |_| {}).await, (Ok(()), just));
        assert_eq!(wait_after(NEVER, &[], |_| {}).await, (Err(Reason::ResponseTimeout), ALL));
    }

    #[tokio::test(start_paused = true)]
    async fn that_time_begins_anew_with_each_part_of_the_request_that_goes_on() {
        let at = Duration::from_secs;
        let parts = [at(20), at(45), at(70)];
        let late = at(70) + ALL;
        assert_eq!(wait_after(at(95), &parts, |_| {}).await, (Ok(()), at(95)));
        let result = wait_after(NEVER, &parts, |_| {}).await;
        assert_eq!(result, (Err(Reason::ResponseTimeout), late));
        // One that came too late does not count.
        let result = wait_after(NEVER, &[at(20), at(51)], |_| {}).await;
        assert_eq!(result, (Err(Reason::ResponseTimeout), at(20) + ALL));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_more_is_to_blame_and_not_the_backend() {
        let part = Duration::from_secs(20);
        let result = wait_after(NEVER, &[part], Upload::wait).await;
        assert_eq!(result, (Err(Reason::RequestTimeout), part + ALL));
    }
}
