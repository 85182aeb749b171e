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

/// Until a refused token is shown again: the proxy may have been given it meanwhile.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);
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
}

impl Hold {
    /// Why this token is not to be shown now. Another one may be.
    pub(crate) fn check(&self, token: Option<&Secret>) -> Result<(), Fault> {
        let held = self.lock();
        let is_meant = |held: &&Held| token.is_some_and(|token| held.token.matches(token.expose()));
        match held.as_ref().filter(is_meant) {
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
        let (fault, wait) = match status {
            StatusCode::UNAUTHORIZED if token.is_none() => return Err(Fault::ReadRefused),
            StatusCode::UNAUTHORIZED => (Fault::TokenRefused, REFUSED_AGAIN),
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = wait(headers);
                (Fault::Limited(wait), wait)
            }
            _ => return Ok(()),
        };
        if let Some(token) = token.cloned() {
            let until = Instant::now() + wait;
            *self.lock() = Some(Held { token, fault: fault.clone(), until });
        }
        Err(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_not_taken_is_shown_again_later_and_another_one_at_once() {
        let (old, new) = (Secret::new("first-token").unwrap(), Secret::new("other-token").unwrap());
        let (hold, mut headers) = (Hold::default(), HeaderMap::new());
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("9"));
        let limited = Fault::Limited(Duration::from_secs(9));
        for (status, fault, seconds) in
            [(401, Fault::TokenRefused, 30), (429, limited, 9), (401, Fault::TokenRefused, 30)]
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
}
