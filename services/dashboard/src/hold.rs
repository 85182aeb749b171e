//! A token that a proxy does not take, for as long as there is no use in showing it again.
//!
//! The dashboard asks twice a second, and a proxy bounds what wrong tokens may come from an
//! address. With a token of yesterday, such as after a rotation, it would use that up for everybody
//! there, the operator with the right one among them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chassis::secret::Secret;
use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;

use crate::admin::Fault;

/// Until a refused token is shown again: the proxy may have been given it meanwhile, such as a moment
/// later where both are being rotated. Twice as long each time it is refused.
const REFUSED_AGAIN: Duration = Duration::from_secs(2);
/// And no longer than this.
const REFUSED_AGAIN_MOST: Duration = Duration::from_secs(30);
/// How long a proxy wants to be left alone that does not say it.
const LIMITED_AGAIN: Duration = Duration::from_secs(6);
/// Whatever it says: nobody is to be away for hours by one answer.
const LIMITED_MOST: Duration = Duration::from_secs(60);

/// What one proxy said of the token that it was shown last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hold(
    // A std mutex: held for a look, never across an await.
    Arc<Mutex<Option<Held>>>,
);

#[derive(Debug)]
struct Held {
    token: Secret,
    fault: Fault,
    until: Instant,
    /// How long it waits when it is refused once more.
    refused_again: Duration,
}

impl Hold {
    /// Why this token is not to be shown now. Another one may be.
    pub(crate) fn check(&self, token: Option<&Secret>) -> Result<(), Fault> {
        let held = self.lock();
        match held.as_ref().filter(|held| held.is_of(token)) {
            Some(held) if Instant::now() < held.until => Err(held.fault.clone()),
            _ => Ok(()),
        }
    }

    /// What an answer says of the token that was shown, if it says no.
    pub(crate) fn note(
        &self,
        token: Option<&Secret>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<(), Fault> {
        let now = Instant::now();
        let mut held = self.lock();
        let same = held.as_ref().filter(|held| held.is_of(token));
        let refused_again = same.map_or(REFUSED_AGAIN, |held| held.refused_again);
        let (fault, wait, refused_again) = match status {
            StatusCode::UNAUTHORIZED if token.is_none() => return Err(Fault::ReadRefused),
            StatusCode::UNAUTHORIZED => {
                let longer = (2 * refused_again).min(REFUSED_AGAIN_MOST);
                (Fault::TokenRefused, refused_again, longer)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = wait(headers);
                (Fault::Limited(wait), wait, refused_again)
            }
            status => {
                if same.is_some() && status.is_success() {
                    *held = None;
                }
                return Ok(());
            }
        };
        // What was asked at the same time is not refused once more.
        let is_late = same.is_some_and(|held| now < held.until);
        if let Some(token) = token.cloned().filter(|_| !is_late) {
            let until = now + wait;
            *held = Some(Held { token, fault: fault.clone(), until, refused_again });
        }
        Err(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn is_of(&self, token: Option<&Secret>) -> bool {
        token.is_some_and(|token| self.token.matches(token.expose()))
    }
}

fn wait(headers: &HeaderMap) -> Duration {
    let told = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    told.map_or(LIMITED_AGAIN, Duration::from_secs).min(LIMITED_MOST)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn token(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    /// After how many seconds a token is shown again that was refused just now.
    async fn shown_again(hold: &Hold, token: &Secret) -> u64 {
        let refused = hold.note(Some(token), StatusCode::UNAUTHORIZED, &HeaderMap::new());
        assert_eq!(refused, Err(Fault::TokenRefused));
        for seconds in 0.. {
            match hold.check(Some(token)) {
                Ok(()) => return seconds,
                Err(fault) => assert_eq!(fault, Fault::TokenRefused),
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        unreachable!("it is never shown again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_not_taken_is_shown_again_later_and_another_one_at_once() {
        let (old, new) = (token("first-token"), token("other-token"));
        let (hold, mut headers) = (Hold::default(), HeaderMap::new());
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("9"));
        let limited = Fault::Limited(Duration::from_secs(9));
        for (status, fault, seconds) in
            [(401, Fault::TokenRefused, 2), (429, limited, 9), (401, Fault::TokenRefused, 4)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(hold.note(Some(&old), status, &headers), Err(fault.clone()));
            assert_eq!(hold.check(Some(&new)), Ok(()));
            assert_eq!(hold.check(None), Ok(()));
            tokio::time::advance(Duration::from_secs(seconds - 1)).await;
            assert_eq!(hold.check(Some(&old)), Err(fault));
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(hold.check(Some(&old)), Ok(()));
        }
        let unauthorized = StatusCode::UNAUTHORIZED;
        assert_eq!(hold.note(None, unauthorized, &headers), Err(Fault::ReadRefused));
        assert_eq!(hold.note(Some(&old), StatusCode::OK, &headers), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_goes_on_being_refused_is_shown_less_and_less() {
        let (hold, one, other) = (Hold::default(), token("first-token"), token("other-token"));
        for seconds in [2, 4, 8, 16, 30, 30] {
            assert_eq!(shown_again(&hold, &one).await, seconds);
        }
        assert_eq!(shown_again(&hold, &other).await, 2, "another one begins anew");
        assert_eq!(shown_again(&hold, &other).await, 4);
        hold.note(Some(&other), StatusCode::OK, &HeaderMap::new()).unwrap();
        assert_eq!(shown_again(&hold, &other).await, 2, "it was taken meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_refused_together_are_refused_once() {
        let (hold, token) = (Hold::default(), token("first-token"));
        for _ in 0..3 {
            let refused = hold.note(Some(&token), StatusCode::UNAUTHORIZED, &HeaderMap::new());
            assert_eq!(refused, Err(Fault::TokenRefused));
        }
        tokio::time::advance(REFUSED_AGAIN).await;
        assert_eq!(hold.check(Some(&token)), Ok(()));
        assert_eq!(shown_again(&hold, &token).await, 4);
    }
}
