//! Retries that double the load of a pool in trouble: envoyproxy/envoy#10869, #24937 and #30205,
//! kubernetes-sigs/gateway-api#3488.

use std::time::Instant;

use futures_util::StreamExt;

use crate::common::{World, raw::RawBackend};

#[tokio::test]
async fn when_every_request_fails_the_backends_see_at_most_a_fifth_more() {
    const REQUESTS: usize = 600;
    // They take the request and close, so that each attempt may be followed by another one.
    let backends = [RawBackend::start(b"").await, RawBackend::start(b"").await];
    let list = backends.iter().map(|backend| format!("http://{}", backend.address));
    let list = list.collect::<Vec<_>>().join(",");
    let variables = [("PROXY_PROBE", "off"), ("PROXY_EJECT", "false")];
    let world = World::over(&list, &variables, vec![]);
    world.until_eligible(2).await;
    let start = Instant::now();
    let requests = (0..REQUESTS).map(|_| world.client.get(world.url("/")).send());
    let mut answers = futures_util::stream::iter(requests).buffer_unordered(8);
    while let Some(answer) = answers.next().await {
        assert_eq!(answer.unwrap().status(), 502);
    }
    let mut attempts = 0;
    for backend in &backends {
        attempts += backend.heads.lock().await.len();
    }
    assert!(attempts > REQUESTS, "there were retries");
    // On a machine so slow that they are few a second, two a second may be retried all the same.
    let slow = 20 * (start.elapsed().as_secs() / 5) as usize;
    let most = REQUESTS * 6 / 5 + slow;
    assert!(attempts <= most, "{attempts} attempts of {REQUESTS} requests");
    assert!(world.metric("evenkeel_retry_budget_exhausted_total").await > 0.0);
}
