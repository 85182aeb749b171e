//! The record of one request: announced before it is sent, found when it has ended.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{admin::Verdict, decision::Told, replica::Proxy, settings::TokenSource};

/// A proxy keeps a record some milliseconds after the request's end; a busy one a little later.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Tells all proxies of a request to come, since any of them may get it. Gives why none of them
/// will record it for certain, if that is so.
pub(crate) async fn announce(
    proxies: &[Proxy],
    token: &TokenSource,
    request_id: &str,
) -> Option<String> {
    let token = token.read().ok().flatten();
    let told = proxies.iter().map(|proxy| proxy.api.announce(request_id, token.as_ref()));
    let mut why = "no proxy answers.".to_owned();
    for (proxy, told) in proxies.iter().zip(join_all(told).await) {
        match told {
            Ok(Verdict::Done(_)) => return None,
            // It has no time that another could be newer than.
            Ok(Verdict::Superseded(..) | Verdict::Changed(_)) => {}
            Ok(Verdict::Refused(status, sentence)) => {
                why = format!("{} refused to record it ({status}): {sentence}.", proxy.name);
            }
            Err(fault) => why = proxy.api.explain(&fault),
        }
    }
    Some(why)
}

/// The record of a request that has ended. One that was announced is waited for; any other is
/// there by chance or not at all.
pub(crate) async fn find(
    proxies: &[Proxy],
    token: &TokenSource,
    request_id: &str,
    was_announced: bool,
) -> Option<Told> {
    let end = Instant::now() + PATIENCE;
    loop {
        let asked = proxies.iter().map(async |proxy| {
            let token = proxy.token_for_reading(token);
            let decision = proxy.api.decision(request_id, token.as_ref()).await.ok()??;
            Some(Told { proxy: proxy.name.clone(), decision })
        });
        let found = join_all(asked).await.into_iter().flatten().next();
        if found.is_some() || !was_announced || Instant::now() >= end {
            return found;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
