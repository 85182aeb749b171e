//! Telling proxies that were away what operators want by now.

use std::{sync::Arc, time::Duration};

use chassis::wall;
use tokio::sync::Notify;

use crate::{
    admin::{AdminApi, Change, Verdict},
    metrics::Metrics,
    replica::Proxy,
    settings::TokenSource,
    tell::is_of_change,
    word::{Order, Telling},
};

/// Sends each order to its proxy. What is refused is tried again by the book, and logged.
pub(crate) fn out(
    orders: Vec<Order>,
    proxies: &[Proxy],
    token: &TokenSource,
    metrics: &Metrics,
    wake: &Arc<Notify>,
) {
    for order in orders {
        let Some(proxy) = proxies.iter().find(|proxy| proxy.name == order.replica) else {
            continue;
        };
        let (api, token, metrics) = (proxy.api.clone(), token.clone(), metrics.clone());
        let wake = Arc::clone(wake);
        tokio::spawn(async move {
            let mut is_any_done = false;
            for telling in &order.changes {
                match tell(&order, telling, &api, &token, &metrics).await {
                    Came::Done => is_any_done = true,
                    // The next one stands beneath it, whether or not it is there.
                    Came::Refused if telling.lies_on_top() => {}
                    // The next would be an override of something else than was meant.
                    Came::Refused | Came::Nothing => break,
                }
            }
            if is_any_done {
                wake.notify_one();
            }
        });
    }
}

/// What came of one change.
enum Came {
    Done,
    /// The proxy says no to this change.
    Refused,
    /// It takes none now.
    Nothing,
}

/// Makes one change.
async fn tell(
    order: &Order,
    telling: &Telling,
    api: &AdminApi,
    token: &TokenSource,
    metrics: &Metrics,
) -> Came {
    // Of what is over, a moment.
    let length = |time: Duration| format!("{}ms", time.as_millis().max(1));
    let change = Change {
        reason: telling.reason.clone(),
        said_at: telling.said_at.map(wall::text),
        ttl: telling.ttl.map(length),
        deadline: telling.deadline.map(length),
        force: telling.force,
        ..telling.wish.change()
    };
    let token = token.read().ok().flatten();
    let key = (order.pool.as_str(), order.id.as_str());
    let result = api.change(key, &change, token.as_ref(), &telling.actor).await;
    let (label, why, came) = match result {
        Ok(Verdict::Done(_)) => ("carried_over", None, Came::Done),
        // It has heard something newer meanwhile, which the others are told.
        Ok(Verdict::Superseded(..) | Verdict::Changed(_)) => return Came::Nothing,
        Ok(Verdict::Refused(status, sentence)) => {
            let came = if is_of_change(status) { Came::Refused } else { Came::Nothing };
            ("refused", Some(sentence), came)
        }
        Err(fault) => (fault.label(), Some(api.explain(&fault)), Came::Nothing),
    };
    metrics.changes.with_label_values(&[label]).inc();
    let (proxy, backend, to) = (&order.replica, &order.id, telling.wish.words());
    match &why {
        None => {
            tracing::info!(proxy, backend, to, "a proxy that had missed a change was told of it")
        }
        Some(why) => {
            let text = "a proxy that missed a change could not be told";
            tracing::warn!(proxy, backend, to, why, "{text}");
        }
    }
    came
}
