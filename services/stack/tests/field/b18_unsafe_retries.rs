//! Requests that were done twice: traefik/traefik#8990, #1104, #6942 and #9872.

use http::Method;

use crate::common::{World, raw::RawBackend};

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_again() {
    let cases = [
        (Method::POST, None, 1),
        (Method::POST, Some("body"), 1),
        (Method::PATCH, None, 1),
        // It could be sent again, but its body is gone.
        (Method::PUT, Some("body"), 1),
        (Method::GET, None, 2),
        (Method::DELETE, None, 2),
    ];
    for (method, body, expected) in cases {
        // Both take the request and close without a word: nobody knows whether it was done.
        let backends = [RawBackend::start(b"").await, RawBackend::start(b"").await];
        let list = backends.iter().map(|backend| format!("http://{}", backend.address));
        let list = list.collect::<Vec<_>>().join(",");
        let world = World::over(&list, &[("PROXY_PROBE", "off")], vec![]);
        world.until_eligible(2).await;
        let mut request = world.client.request(method.clone(), world.url("/"));
        if let Some(body) = body {
            request = request.body(body);
        }
        assert_eq!(request.send().await.unwrap().status(), 502);
        let mut attempts = 0;
        for backend in &backends {
            attempts += backend.heads.lock().await.len();
        }
        assert_eq!(attempts, expected, "{method} with {body:?}");
    }
}
