//! Telling proxies that were away what operators want by now.

use std::{sync::Arc, time::Duration};

use chassis::wall;
use tokio::sync::Notify;

use crate::{
    admin::{AdminApi, Change, Verdict},
    metrics::Metrics,
    replica::Proxy,
    settings::TokenSource,
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
            for telling in &order.changes {
                if !tell(&order, telling, &api, &token, &metrics).await {
                    // The next would be an override of something else than was meant.
                    return;
                }
            }
            wake.notify_one();
        });
    }
}

/// Makes one change; whether it was done.
async fn tell(
    order: &Order,
    telling: &Telling,
    api: &AdminApi,
    token: &TokenSource,
    metrics: &Metrics,
) -> bool {
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
    let (label, why) = match result {
        Ok(Verdict::Done(_)) => ("carried_over", None),
        // It has heard something newer meanwhile, which the others are told.
        Ok(Verdict::Superseded(..) | Verdict::Changed(_)) => return false,
        Ok(Verdict::Refused(_, sentence)) => ("refused", Some(sentence)),
        Err(fault) => (fault.label(), Some(api.explain(&fault))),
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
    why.is_none()
}
