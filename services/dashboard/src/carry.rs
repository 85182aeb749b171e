//! Telling proxies that were away what operators want by now.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::{
    admin::{Change, Verdict},
    intent::Order,
    metrics::Metrics,
    poll::Proxy,
    settings::TokenSource,
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
            let change = Change {
                state: order.state.key(),
                reason: order.reason.clone(),
                ttl: order.ttl.map(|ttl| format!("{}ms", ttl.as_millis().max(1))),
                force: false,
            };
            let token = token.read().ok().flatten();
            let key = (order.pool.as_str(), order.id.as_str());
            let result = api.change(key, &change, token.as_ref(), &order.actor).await;
            let (label, why) = match result {
                Ok(Verdict::Done) => ("carried_over", String::new()),
                Ok(Verdict::Refused(_, sentence)) => ("refused", sentence),
                Err(fault) => (fault.label(), fault.explain(api.url())),
            };
            metrics.changes.with_label_values(&[label]).inc();
            let (proxy, backend, state) = (&order.replica, &order.id, change.state);
            if why.is_empty() {
                tracing::info!(
                    proxy,
                    backend,
                    state,
                    "a proxy that had missed a change was told of it"
                );
                wake.notify_one();
            } else {
                tracing::warn!(
                    proxy,
                    backend,
                    state,
                    why,
                    "a proxy that missed a change could not be told"
                );
            }
        });
    }
}
